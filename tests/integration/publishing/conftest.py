import logging
import shutil
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

from orchestration.learning.algorithms.openmp import import_lightgbm
from orchestration.settings import Settings
from orchestration.transformation import load_manifest
from tests.integration.publishing.driver import Driver
from tests.integration.publishing.scenario import CONTRACT
from tests.water_works import lay_out, make_water_works


@pytest.fixture(scope="session")
def publishing_driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The second domain with eight days built, checked and published, where every scenario begins."""
    import_lightgbm()
    folder = tmp_path_factory.mktemp("publishing")
    project = folder / "project"
    lay_out(project)
    contract = project / "soda_checks" / "training" / "low_pressure_training_set.yml"
    contract.write_text(contract.read_text() + CONTRACT)
    load_manifest(Settings(data_dir=project / "data", dbt_project_dir=project / "dbt_project"))
    works = make_water_works(folder / "works", days=8, parsed=project, duckdb_threads=1)
    # A forked process would wait for OpenMP threads that are not forked with it; with one thread there are none.
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
        patch.setenv("PUMPS_DATA", str(works.deliveries))
        logging.getLogger("dagster").setLevel(logging.CRITICAL)
        driver = Driver(works, folder / "template")
        driver.begin()
        with driver.opened():
            assert driver.run([], ("2024-01-01", "2024-01-08"))
            driver.automation_tick()
        shutil.copytree(works.settings.data_dir, folder / "template" / "data")
        shutil.copytree(works.deliveries, folder / "template" / "deliveries")
        yield driver
