"""Another team's two folders make a working platform for another problem, with no Python change."""

import re
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from orchestration.definitions import build_definitions
from orchestration.lakehouse import LakehouseResource
from orchestration.project import read_project
from orchestration.settings import PROJECT_DIR, Settings
from tests.second_domain.deliveries import FIRST_DAY, deliver_readings
from tests.water_works import make_water_works


@pytest.fixture
def works(tmp_path, monkeypatch):
    works = make_water_works(tmp_path, days=8, duckdb_threads=1)
    monkeypatch.setenv("PUMPS_DATA", str(works.deliveries))
    return works


def materialize(works, instance, *, first="2024-01-01", last="2024-01-08"):
    repository = build_definitions(works.settings).get_repository_def()
    span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return repository.get_job("all_assets").execute_in_process(
        instance=instance, tags=span, raise_on_error=False
    )


def rows(works, sql):
    with LakehouseResource.from_settings(works.settings).reader() as con:
        return con.execute(sql).fetchall()


def test_the_whole_graph_of_another_domain_runs(works):
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(works, instance)
        assert result.success
        evaluations = result.get_asset_check_evaluations()
    failed = {e.check_name for e in evaluations if not e.passed}
    assert failed == set(), failed
    assert {e.asset_key.path[0] for e in evaluations} >= {"raw", "staged", "features"}
    assert rows(works, "select count(*), count(distinct pump) from staged.stg_readings") == [(768, 4)]
    assert rows(works, "select count(*) > 0 from features.pump_pressure") == [(True,)]


def test_a_late_reading_makes_new_feature_rows_and_changes_no_old_one(works):
    features = "select pump, known_at, readings_6h, mean_pressure_6h from features.pump_pressure"
    late = (
        "9001,alder,2024-01-08T22:00:00Z,5.00,open\n",  # still counts when it becomes known
        "9002,alder,2024-01-08T12:00:00Z,9.00,open\n",  # no longer does
    )
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(works, instance).success
        old = set(rows(works, features))
        deliver_readings(works.deliveries, FIRST_DAY + timedelta(days=7), extra=late)
        assert materialize(works, instance, last="2024-01-09").success
    known = "select reading_id, known_at from staged.stg_readings where reading_id > 9000 order by all"
    delivered_at = datetime(2024, 1, 9, tzinfo=UTC)
    assert rows(works, known) == [(9001, delivered_at), (9002, delivered_at)]
    new = set(rows(works, features))
    assert old <= new
    added = {known_at for pump, known_at, *_ in new - old if pump == "alder"}
    assert min(added) == delivered_at


def test_a_failed_blocking_check_stops_everything_downstream(works):
    stray = "1900,no such pump,2024-01-02T12:00:00Z,5.00,open\n"
    deliver_readings(works.deliveries, FIRST_DAY + timedelta(days=1), extra=(stray,))
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(works, instance)
    assert not result.success
    made = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}
    assert "raw/readings" in made
    assert "staged/stg_readings" not in made
    assert "features/pump_pressure" not in made


def test_every_asset_has_owner_group_kinds_description_columns_and_lineage(works):
    graph = build_definitions(works.settings).get_repository_def().asset_graph
    for key in graph.executable_asset_keys:
        node = graph.get(key)
        assert node.owners, key
        assert node.group_name != "default", key
        assert node.kinds, key
        assert node.description, key
        if key.path[0] in ("raw", "quarantine", "staged", "features"):
            assert node.metadata["dagster/column_schema"].columns, key
    assert graph.get(dg.AssetKey(["features", "pump_pressure"])).parent_keys == {
        dg.AssetKey(["staged", "stg_readings"])
    }
    assert graph.unexecutable_asset_keys == set()


def test_no_python_of_the_platform_names_anything_of_the_shipped_domain():
    project = read_project(Settings())
    words = {"flight", "airport", "carrier", "airline", "tailnum", "departure", "weather", "aircraft", "nyc"}
    words |= {t.name.lower() for t in project.declarations.tables.values()}
    pattern = re.compile(rf"\b({'|'.join(sorted(words))})s?\b", re.IGNORECASE)
    named = [
        f"{path.relative_to(PROJECT_DIR)}: {match[0]}"
        for path in sorted((PROJECT_DIR / "orchestration").rglob("*.py"))
        for match in pattern.finditer(path.read_text())
    ]
    assert named == []
