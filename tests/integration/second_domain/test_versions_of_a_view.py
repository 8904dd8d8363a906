"""Two versions of a feature view, as dbt has versions of a model, in one training set."""

import re

import pytest
import yaml

from orchestration.lakehouse import LakehouseResource
from tests.forks import Forked, groundwork
from tests.water_works import WaterWorks, make_water_works

LAYERS = "group:raw or group:staged or group:features or key:training/low_pressure_training_set"


def edit(path, *changes):
    text = path.read_text()
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    path.write_text(text)


@pytest.fixture
def works(tmp_path) -> WaterWorks:
    works = make_water_works(tmp_path, days=4, duckdb_threads=1)
    features = works.settings.dbt_project_dir / "models" / "features"
    declared = yaml.safe_load((features / "pump_pressure.yml").read_text())
    declared["models"][0] |= {"versions": [{"v": 1}, {"v": 2}], "latest_version": 1}
    (features / "pump_pressure.yml").write_text(yaml.safe_dump(declared, sort_keys=False))
    first = (features / "pump_pressure.sql").rename(features / "pump_pressure_v1.sql")
    second = first.read_text().replace("    readings_6h,\n", "    10 * readings_6h as readings_6h,\n")
    (features / "pump_pressure_v2.sql").write_text(second)

    checks = works.settings.soda_checks_dir
    contract = (checks / "features" / "pump_pressure.yml").read_text()
    (checks / "features" / "pump_pressure.yml").unlink()
    for version in ("v1", "v2"):
        text = contract.replace("pump_pressure", f"pump_pressure_{version}")
        (checks / "features" / f"pump_pressure_{version}.yml").write_text(text)
    edit(checks / "training" / "low_pressure_training_set.yml", ("pump_pressure", "pump_pressure_v1"))

    training = works.settings.dbt_project_dir / "models" / "training"
    views = '[["pump_pressure", 1], ["pump_pressure", 2]]'
    edit(training / "low_pressure_training_set.sql", ('views=["pump_pressure"]', f"views={views}"))
    column = "      - {{name: pump_pressure_v2__{}, data_type: {}, description: Of the second version.}}\n"
    edit(
        training / "low_pressure_training_set.yml",
        ('"pump_pressure:*"', '"pump_pressure_v1:*", "pump_pressure_v2:readings_6h"'),
        ("ref('pump_pressure')", "\"ref('pump_pressure', v=1)\", \"ref('pump_pressure', v=2)\""),
        ("pump_pressure__", "pump_pressure_v1__"),
        (
            "      - {name: pump_pressure_v1__known_at",
            column.format("known_at", "timestamptz")
            + column.format("readings_6h", "bigint")
            + "      - {name: pump_pressure_v1__known_at",
        ),
    )
    return works


def test_a_training_set_joins_two_versions_of_a_view(works, tmp_path):
    run = Forked(
        groundwork, "run", "--select", LAYERS, environment=works.environment, output=tmp_path / "said"
    )
    assert run.end() == 0, run.said
    assert re.search(r"features +pump_pressure_v2 +\d+ rows", run.said)
    with LakehouseResource.from_settings(works.settings).reader() as con:
        ((rows, found, wrong),) = con.execute(
            "select count(*), count(pump_pressure_v2__readings_6h), count(*) filter ("
            "10 * pump_pressure_v1__readings_6h is distinct from pump_pressure_v2__readings_6h) "
            "from training.low_pressure_training_set"
        ).fetchall()
    assert rows > 200
    assert (found > 200, wrong) == (True, 0)
