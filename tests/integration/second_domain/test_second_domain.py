"""Another team's two folders make a working platform for another problem, with no Python change."""

import re
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from orchestration.automation.retraining.decisions import DecisionLog
from orchestration.dataset_command import users
from orchestration.definitions import build_definitions
from orchestration.feature_store.store import FeatureStore
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.datasets import DatasetStore
from orchestration.learning.datasets.comparing import compare
from orchestration.learning.datasets.rebuilding import rebuild
from orchestration.learning.datasets.version import DatasetVersion
from orchestration.learning.registry import Registry
from orchestration.project import read_project
from orchestration.settings import PROJECT_DIR, Settings
from tests.second_domain.deliveries import FIRST_DAY, deliver_readings
from tests.water_works import make_water_works


@pytest.fixture
def works(tmp_path, monkeypatch, water_project):
    works = make_water_works(tmp_path, days=8, parsed=water_project, duckdb_threads=1)
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
        check_that_a_version_was_kept(works, result, evaluations)
        check_that_a_champion_predicts(works, result)
        check_that_it_is_watched(works, evaluations)
    failed = {e.check_name for e in evaluations if not e.passed}
    assert failed == set(), failed
    assert {e.asset_key.path[0] for e in evaluations} >= {"raw", "staged", "features", "training"}
    assert rows(works, "select count(*), count(distinct pump) from staged.stg_readings") == [(768, 4)]
    assert rows(works, "select count(*) > 0 from features.pump_pressure") == [(True,)]
    open_readings = "select count(*) from staged.stg_readings where is_open"
    assert rows(works, f"select count(*) = ({open_readings}) from training.low_pressure_training_set") == [
        (True,)
    ]
    splits = "select distinct split from training.low_pressure_training_set order by split"
    assert rows(works, splits) == [("embargo",), ("test",), ("train",), ("validation",)]
    check_that_python_gives_what_dbt_built(works)
    check_that_the_clock_of_the_settings_reaches_dbt(works)


def check_that_the_clock_of_the_settings_reaches_dbt(works):
    """dbt_project.yml declares a replay clock at the 9th; what the settings say comes before it."""
    newest = "select max(label_known_at), count(*) from training.low_pressure_training_set"
    ((whole, count),) = rows(works, newest)
    for clock in ({"replay_at": datetime(2024, 1, 5, tzinfo=UTC)}, {"clock": "wall"}):
        settings = works.settings.model_copy(update=clock)
        job = build_definitions(settings).get_repository_def().get_job("all_assets")
        with dg.DagsterInstance.ephemeral() as instance:
            key = dg.AssetKey(["training", "low_pressure_training_set"])
            span = {
                f"dagster/asset_partition_range_{end}": f"2024-01-0{day}"
                for end, day in (("start", 1), ("end", 8))
            }
            assert job.execute_in_process(instance=instance, asset_selection=[key], tags=span).success
        ((known_at, left),) = rows(works, newest)
        if "replay_at" in clock:
            assert known_at <= clock["replay_at"] < whole
            assert 0 < left < count
        else:
            assert (known_at, left) == (whole, count)


def check_that_python_gives_what_dbt_built(works):
    made = "from training.low_pressure_training_set order by reading_id"
    spine = f"select reading_id, pump, prediction_at, reading_at {made}"
    with LakehouseResource.from_settings(works.settings).reader() as con:
        columns = "reading_id, pump, prediction_at, reading_at, pump_pressure__readings_6h,"
        columns += "pump_pressure__mean_pressure_6h, readings_per_hour"
        built = con.execute(f"select {columns} {made}").to_arrow_table()
    found = FeatureStore.open(works.settings).get_historical_features(
        spine, "low_pressure", event_timestamp="prediction_at", full_feature_names=True
    )
    assert found.to_arrow().to_pylist() == built.to_pylist()


def check_that_a_version_was_kept(works, result, evaluations):
    (made,) = result.asset_materializations_for_node("datasets__low_pressure_training_set")
    version = DatasetVersion.open("low_pressure_training_set", settings=works.settings)
    built = version.manifest.built
    assert made.metadata["version"].value == version.version
    assert {check.name for check in built.checks} >= {
        e.check_name for e in evaluations if e.asset_key.path == ("training", "low_pressure_training_set")
    }
    assert {check.run_id for check in built.checks} == {result.run_id}
    assert built.cutoff == datetime(2024, 1, 9, tzinfo=UTC)
    assert built.window.spans == ((datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 9, tzinfo=UTC)),)
    assert {name for name, source in built.lake.inputs.items() if source.is_read} == {
        "staged.stg_readings",
        "features.pump_pressure",
    }
    assert dict(version.manifest.splits).keys() == {"train", "validation", "test", "embargo"}
    check_that_it_is_rebuilt_the_same(works, version)
    check_that_its_features_come_as_numbers(version)


def check_that_its_features_come_as_numbers(version):
    """The features that the only declared model takes, and the label."""
    features, label = version.xy("train")
    declared = version.manifest.built.declarations["models"]["low_pressure"]
    assert set(declared["request"]) <= set(features.columns)
    assert set(features.dtypes.astype(str)) == {"float64"}
    assert label.name == "is_low"
    assert len(features) == len(label) == version.manifest.splits["train"]
    assert list(version.xy("test", model="low_pressure")[0].columns) == list(features.columns)


def check_that_it_is_watched(works, evaluations):
    told = {e.check_name: e.description for e in evaluations if e.asset_key.path[0] == "monitoring"}
    assert told.keys() >= {"no_drift", "realised_as_expected", "groups_alike", "no_skew"}
    assert told["no_drift"].startswith("96 predictions, of which at least 1,000 are needed")
    window = "select model, window_start, window_end, rows from monitoring.drift where role = 'score'"
    assert rows(works, window) == [
        ("low_pressure", datetime(2023, 12, 26, tzinfo=UTC), datetime(2024, 1, 9, tzinfo=UTC), 96)
    ]


def check_that_a_champion_predicts(works, result):
    """The last day is predicted, at the end of which it was promoted; whose label is known is known."""
    registry = Registry(
        LakehouseResource.from_settings(works.settings),
        works.settings.models_dir,
        read_project(works.settings).clock,
    )
    champion = registry.champion("low_pressure")
    assert champion.run_id == result.run_id
    version = DatasetVersion.open("low_pressure_training_set", settings=works.settings).version
    assert set(users(works.settings)[0]("low_pressure_training_set")) == {version}
    predictions = "from predictions.low_pressure"
    told = f"select min(reading_at), count(*), min(model_version), max(model_version) {predictions}"
    first = datetime(2024, 1, 8, tzinfo=UTC)
    ((at, *told),) = rows(works, told)
    assert (at.date(), *told) == (first.date(), 96, champion.version, champion.version)
    inputs = "pump_pressure__readings_6h, pump_pressure__mean_pressure_6h, readings_per_hour"
    assert rows(
        works, f"select reading_id, {inputs} {predictions} semi join training.low_pressure_training_set "
        "using (reading_id) order by all"
    ) == rows(
        works, f"select reading_id, {inputs} from training.low_pressure_training_set "
        f"where reading_at >= '{first}' order by all"
    )  # fmt: skip
    states = "select state, label is null, is_open, count(*) > 0 from outcomes.low_pressure "
    states += f"join (select prediction_id, reading_id {predictions}) using (prediction_id) "
    states += "join staged.stg_readings using (reading_id) group by all order by all"
    assert rows(works, states) == [
        ("known", False, True, True),
        ("never", True, False, True),
        ("pending", True, False, True),
    ]


def check_that_it_is_rebuilt_the_same(works, version):
    lakehouse = LakehouseResource.from_settings(works.settings)
    assert rebuild(DatasetStore(works.settings.datasets_dir), lakehouse, version.manifest).equal


def test_a_late_reading_makes_new_feature_rows_and_changes_no_old_one(works):
    features = "select pump, known_at, readings_6h, mean_pressure_6h from features.pump_pressure"
    late = (
        "9991,alder,2024-01-08T22:00:00Z,5.00,open\n",  # still counts when it becomes known
        "9992,alder,2024-01-08T12:00:00Z,9.00,open\n",  # no longer does
    )
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(works, instance).success
        old = set(rows(works, features))
        first = DatasetVersion.open("low_pressure_training_set", settings=works.settings)
        deliver_readings(works.deliveries, FIRST_DAY + timedelta(days=7), extra=late)
        assert materialize(works, instance, last="2024-01-09").success
        known = "select reading_id, known_at from staged.stg_readings where reading_id > 9990 order by all"
        delivered_at = datetime(2024, 1, 9, tzinfo=UTC)
        assert rows(works, known) == [(9991, delivered_at), (9992, delivered_at)]
        new = set(rows(works, features))
        assert old <= new
        added = {known_at for pump, known_at, *_ in new - old if pump == "alder"}
        assert min(added) == delivered_at
        second = DatasetVersion.open("low_pressure_training_set", settings=works.settings)
        store = DatasetStore(works.settings.datasets_dir)
        changes = compare(store, first.manifest, second.manifest, works.settings)
        assert (changes.rows.added > 0, changes.rows.removed, changes.rows.changed) == (True, 0, 0)
        assert {change.what for change in changes.made_from} >= {"input staged.stg_readings", "built spans"}
        for version in (first, second):
            check_that_it_is_rebuilt_the_same(works, version)
        check_that_who_asks_gets_a_training(works, instance)


def check_that_who_asks_gets_a_training(works, instance):
    """The sensor of the whole project sees the request, and its run pulls rows, trains, judges and tells."""
    settings = works.settings.model_copy(update={"replay_at": datetime(2024, 1, 11, tzinfo=UTC)})
    repository = build_definitions(settings).get_repository_def()
    lakehouse = LakehouseResource.from_settings(settings)
    log = DecisionLog(lakehouse, read_project(settings).clock)

    def tick():
        with dg.build_sensor_context(instance, resources={"lakehouse": lakehouse}) as context:
            return repository.get_sensor_def("retrain_low_pressure").evaluate_tick(context)

    assert tick().skip_message == "no trigger is in alarm"
    states = {s.trigger: s.state for s in log.decisions("low_pressure")[-1].signals}
    assert states == {"manual": "calm", "definition": "calm", "restated": "calm", "age": "calm"}
    log.ask("low_pressure", "ada", "Yesterday was odd.")
    assert "nothing new to learn from" in tick().skip_message
    deliver_readings(works.deliveries, FIRST_DAY + timedelta(days=9))
    made = dg.AssetSelection.assets(dg.AssetKey(["training", "low_pressure_training_set"])).upstream()
    assert (
        repository.get_job("all_assets")
        .execute_in_process(
            instance=instance,
            asset_selection=sorted(made.required_multi_asset_neighbors().resolve(repository.asset_graph)),
            partition_key="2024-01-10",
        )
        .success
    )
    asked = tick()
    assert asked.run_requests, asked.skip_message
    (request,) = asked.run_requests
    result = repository.get_job("retrain_low_pressure").execute_in_process(
        run_config=request.run_config, tags=dict(request.tags), instance=instance
    )
    assert result.success
    (told,) = result.asset_materializations_for_node("retraining__low_pressure")
    assert "manual: ada: Yesterday was odd." in told.metadata["message"].value

    # A day that was trained on is restated: it is named, and held back as the training was just now.
    with lakehouse.get_connection() as con:
        con.execute(
            "update lake.training.low_pressure_training_set set pump_pressure__readings_6h = 0 "
            "where prediction_at >= '2024-01-03 00:00:00+00' and prediction_at < '2024-01-04 00:00:00+00'"
        )
    assert re.search("1 day must pass; restated: changed since .*: 2024-01-03$", tick().skip_message)


def test_a_failed_blocking_check_stops_everything_downstream(works):
    stray = "1900,no such pump,2024-01-02T12:00:00Z,5.00,open\n"
    deliver_readings(works.deliveries, FIRST_DAY + timedelta(days=1), extra=(stray,))
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(works, instance)
        job = build_definitions(works.settings).get_repository_def().get_job("all_assets")
        alone = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(["staged", "stg_readings"])],
            partition_key="2024-01-01",
            raise_on_error=False,
        )
    (refused,) = [e for e in alone.get_step_failure_events() if e.step_key == "dbt_staged"]
    told = refused.step_failure_data.user_failure_data.description
    assert re.search("found inputs whose blocking checks do not hold.*\n  raw/readings: ", told), told
    assert not result.success
    made = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}
    assert "raw/readings" in made
    assert "staged/stg_readings" not in made
    assert "features/pump_pressure" not in made
    assert DatasetStore(works.settings.datasets_dir).names() == []


def test_every_asset_has_owner_group_kinds_description_columns_and_lineage(works):
    graph = build_definitions(works.settings).get_repository_def().asset_graph
    for key in graph.executable_asset_keys:
        node = graph.get(key)
        assert node.owners, key
        assert node.group_name != "default", key
        assert node.kinds, key
        assert node.description, key
        # Dagster measures policies on the wall clock; the domain's is a replay clock.
        assert (node.freshness_policy is None) == (key.path[0] != "operations"), key
        if key.path[0] in ("raw", "quarantine", "staged", "features", "training", "predictions", "outcomes"):
            assert node.metadata["dagster/column_schema"].columns, key
    assert graph.get(dg.AssetKey(["features", "pump_pressure"])).parent_keys == {
        dg.AssetKey(["staged", "stg_readings"])
    }
    assert graph.get(dg.AssetKey(["training", "low_pressure_training_set"])).parent_keys == {
        dg.AssetKey(["staged", "stg_readings"]),
        dg.AssetKey(["features", "pump_pressure"]),
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
