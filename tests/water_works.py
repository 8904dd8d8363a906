"""The second domain, ready to run: another team's two folders under the same platform."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestration.settings import PROJECT_DIR, Settings
from tests.second_domain.deliveries import deliver

HERE = Path(__file__).parent / "second_domain"


@dataclass(frozen=True)
class WaterWorks:
    """Where a copy of the second domain lives, and the settings that point the platform at it."""

    root: Path
    deliveries: Path
    settings: Settings

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which another process works on the same copy."""
        threads = self.settings.duckdb_threads
        return {
            **os.environ,
            **({} if threads is None else {"GROUNDWORK_DUCKDB_THREADS": str(threads)}),
            "PUMPS_DATA": str(self.deliveries),
            "GROUNDWORK_DATA_DIR": str(self.settings.data_dir),
            "GROUNDWORK_DBT_PROJECT_DIR": str(self.settings.dbt_project_dir),
            "GROUNDWORK_SODA_CHECKS_DIR": str(self.settings.soda_checks_dir),
            "DAGSTER_HOME": str(self.settings.data_dir / "dagster"),
        }


def make_water_works(root: Path, *, days: int = 4, **settings: object) -> WaterWorks:
    """Lay out the second domain under ``root``, with the files of its first ``days`` days delivered.

    The variable ``PUMPS_DATA`` that its sources name must be set to ``deliveries`` by the caller.
    """
    shipped = PROJECT_DIR / "dbt_project"
    project = root / "dbt_project"
    shutil.copytree(HERE / "dbt_project", project)
    shutil.copytree(shipped / "macros" / "groundwork", project / "macros" / "groundwork")
    shutil.copy(shipped / "profiles.yml", project)
    shutil.copytree(HERE / "soda_checks", root / "soda_checks")
    deliveries = root / "deliveries"
    deliver(deliveries, days)
    return WaterWorks(
        root,
        deliveries,
        Settings(
            data_dir=root / "data",
            dbt_project_dir=project,
            soda_checks_dir=root / "soda_checks",
            **settings,
        ),
    )
