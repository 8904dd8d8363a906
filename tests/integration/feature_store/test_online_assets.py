"""The online store is part of the graph: it follows its view, is checked, and can be rebuilt as of any instant."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import yaml

from orchestration.declarations import DeclarationError
from orchestration.definitions import build_definitions
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.reading import Status
from orchestration.feature_store.online.redis_store import RedisStore
from orchestration.feature_store.online.store import Changes
from orchestration.feature_store.store import FeatureStore
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Settings
from tests.second_domain.deliveries import FIRST_DAY, deliver_readings
from tests.water_works import make_water_works

KEY = dg.AssetKey(["online_store", "pump_pressure"])
VIEW = dg.AssetKey(["features", "pump_pressure"])


@pytest.fixture
def works(tmp_path, monkeypatch, water_project):
    works = make_water_works(tmp_path, days=8, parsed=water_project, duckdb_threads=1)
    monkeypatch.setenv("PUMPS_DATA", str(works.deliveries))
    return works


def run(works, instance, last="2024-01-08"):
    repository = build_definitions(works.settings).get_repository_def()
    span = {"dagster/asset_partition_range_start": "2024-01-01", "dagster/asset_partition_range_end": last}
    return repository.get_job("all_assets").execute_in_process(
        instance=instance, tags=span, raise_on_error=False
    )


def materialize_alone(works, instance, **config):
    definitions = build_definitions(works.settings)
    job = definitions.get_repository_def().get_job("all_assets")
    return job.execute_in_process(
        instance=instance,
        asset_selection=[KEY],
        raise_on_error=False,
        run_config={"ops": {"online_store__pump_pressure": {"config": config}}},
    )


def check_alone(works, instance):
    definitions = build_definitions(works.settings)
    (check,) = [c for c in definitions.asset_checks if KEY in {k.asset_key for k in c.check_keys}]
    return dg.materialize([check], instance=instance, resources=definitions.resources,
                          selection=dg.AssetSelection.checks(*check.check_keys), raise_on_error=False)  # fmt: skip


def metadata(result):
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key == KEY]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def evaluation(result):
    (found,) = [e for e in result.get_asset_check_evaluations() if e.asset_key == KEY]
    return found


def latest(works, until="2024-01-09"):
    with LakehouseResource.from_settings(works.settings).reader() as con:
        return con.execute(
            "select pump, known_at, readings_6h, mean_pressure_6h from features.pump_pressure "
            f"where known_at <= timestamptz '{until} 00:00:00+00' "
            "qualify row_number() over (partition by pump order by known_at desc) = 1 order by pump"
        ).fetchall()


def test_the_online_values_are_those_of_the_view_and_follow_it(works):
    with dg.DagsterInstance.ephemeral() as instance:
        first = run(works, instance)
        assert first.success
        assert evaluation(first).passed
        expected = latest(works)
        assert metadata(first).items() >= {"mode": "rebuild", "rows_written": len(expected), "from_snapshot": "none",
                                           "dagster/row_count": len(expected)}.items()  # fmt: skip
        told = metadata(first)
        assert re.search(r"\| `readings_6h` \| [ ▁-█]+ \| 0% \| \d", told["values_of_newest_rows"])
        assert told["freshness"].startswith("newest row ")
        served = FeatureStore.open(works.settings)
        asked = ["pump_pressure:readings_6h", "pump_pressure:mean_pressure_6h"]
        pumps = [{"pump": row[0]} for row in expected]
        answer = served.get_online_features(asked, [*pumps, {"pump": "none"}])
        assert answer.feature_names == ["pump", "readings_6h", "mean_pressure_6h"]
        assert list(zip(*(column[:-1] for column in answer.values), strict=True)) == [
            (r[0], *r[2:]) for r in expected
        ]
        assert [status[-1] for status in answer.statuses] == [
            Status.PRESENT,
            Status.NOT_FOUND,
            Status.NOT_FOUND,
        ]
        assert answer.event_timestamps[1][:-1] == [row[1] for row in expected]
        late = "9001,alder,2024-01-08T22:00:00Z,5.00,open\n"
        deliver_readings(works.deliveries, FIRST_DAY.replace(day=8), extra=(late,))
        second = run(works, instance, last="2024-01-09")
        assert second.success
        assert metadata(second)["mode"] == "changes"
        assert metadata(second)["rows_written"] == 1
        assert metadata(second)["from_snapshot"] == metadata(first)["to_snapshot"]
        after = asyncio.run(served.get_online_features_async(asked, pumps))
        assert after.values[1:] == [[row[2] for row in latest(works)], [row[3] for row in latest(works)]]
        assert after.values != [column[:-1] for column in answer.values]
        # Launched alone, as in the UI, it publishes nothing that a check refuses.
        name = next(e.check_name for e in second.get_asset_check_evaluations() if e.asset_key == VIEW)

        def report(*, passed):
            found = dg.AssetCheckEvaluation(VIEW, name, passed, {}, blocking=True)
            instance.report_runless_asset_event(found)

        report(passed=False)
        refused = materialize_alone(works, instance)
        assert not refused.success
        said = refused.get_step_failure_events()[0].step_failure_data.user_failure_data.description
        assert "found blocking checks that do not hold (1 failed)" in said
        assert f"features/pump_pressure: {name}: failed" in said
        report(passed=True)
        assert materialize_alone(works, instance).success


def test_it_can_be_rebuilt_as_of_an_instant_and_the_check_finds_what_differs(works):
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(works, instance).success
        past = materialize_alone(works, instance, as_of="2024-01-05T00:00:00+00:00")
        assert past.success
        assert metadata(past).items() >= {"mode": "rebuild", "reason": "asked for"}.items()
        store = LmdbStore(works.settings.online_dir)
        view = FeatureStore.open(works.settings).catalog.view("pump_pressure")
        expected = latest(works, "2024-01-05")
        keys = [f"={row[0]}".encode() for row in expected]
        assert store.size("pump_pressure") == len(expected)
        wrong = materialize_alone(works, instance, as_of="yesterday")
        assert not wrong.success
        assert metadata(materialize_alone(works, instance))["mode"] == "changes"
        position = store.position("pump_pressure")
        ((values, _),) = store.read([(view, keys)])
        store.apply(
            "pump_pressure", position, position, Changes(exact=[(keys[0], values[1])], gone=[keys[2]])
        )
        differing = evaluation(check_alone(works, instance))
        assert not differing.passed
        assert differing.blocking
        assert "2 of 4 entities differ" in (differing.description or "")


def test_another_store_is_a_matter_of_settings(works, redis_url, tmp_path):
    settings = works.settings.model_copy(
        update={"online_store_redis_url": Settings(online_store_redis_url=redis_url).online_store_redis_url,
                "online_store_redis_prefix": tmp_path.name}
    )  # fmt: skip
    graph = build_definitions(settings).get_repository_def().asset_graph
    assert graph.get(KEY).kinds == {"redis", "duckdb"}
    assert isinstance(FeatureStore.open(settings).online.store, RedisStore)
    assert redis_url not in settings.model_dump_json()


def test_every_online_view_of_the_shipped_project_has_its_asset():
    graph = build_definitions(Settings()).get_repository_def().asset_graph
    store = FeatureStore.open()
    online = {name for name, view in store.catalog.views.items() if view.online}
    assert online
    assert {key.path[1] for key in graph.executable_asset_keys if key.path[0] == "online_store"} == online
    for name in online:
        node = graph.get(dg.AssetKey(["online_store", name]))
        assert node.parent_keys == {dg.AssetKey(["features", name])}
        assert (node.group_name, node.owners, node.pools) == (
            "serving",
            [store.catalog.view(name).owner],
            {"online_store"},
        )
        assert node.kinds == {"lmdb", "duckdb"}
        assert node.automation_condition.get_label() == "serve_when_inputs_pass"
        check = graph.get(dg.AssetCheckKey(node.key, "matches_offline"))
        assert check.blocking


def test_what_has_become_known_since_is_materialized(works):
    now = datetime(2024, 1, 9, tzinfo=UTC)
    repository = build_definitions(works.settings).get_repository_def()
    sensor = repository.get_sensor_def("online_rows_due")

    def requests(instance):
        context = dg.build_sensor_context(instance=instance, repository_def=repository)
        return sensor.evaluate_tick(context).run_requests

    graph = repository.asset_graph
    blocking = [key for key in graph.asset_check_keys if key.asset_key == VIEW and graph.get(key).blocking]
    assert blocking

    def checked(instance, *, passed):
        for key in blocking:
            found = dg.AssetCheckEvaluation(VIEW, key.name, passed, {}, blocking=True)
            instance.report_runless_asset_event(found)

    def reason(instance):
        context = dg.build_sensor_context(instance=instance, repository_def=repository)
        return sensor.evaluate_tick(context).skip_message

    def materialized(instance, **metadata):
        instance.report_runless_asset_event(dg.AssetMaterialization(KEY, metadata=metadata))

    with dg.DagsterInstance.ephemeral() as instance:
        assert requests(instance) == []
        materialized(instance, next_due=dg.MetadataValue.timestamp(now + timedelta(microseconds=1000)))
        assert requests(instance) == []
        materialized(instance, next_due=dg.MetadataValue.timestamp(now))
        # The sensor does not publish an asset whose checks failed or were not evaluated either.
        assert requests(instance) == []
        assert reason(instance).endswith(f"online_store/pump_pressure: {len(blocking)} not evaluated")
        checked(instance, passed=False)
        assert requests(instance) == []
        assert reason(instance).endswith(f"online_store/pump_pressure: {len(blocking)} failed")
        checked(instance, passed=True)
        (first,), (again,) = requests(instance), requests(instance)
        assert first.asset_selection == [KEY]
        assert first.run_key == again.run_key
        materialized(instance)
        assert requests(instance) == []


def test_the_assets_tell_what_the_catalog_tells(works):
    graph = build_definitions(works.settings).get_repository_def().asset_graph
    view = FeatureStore.open(works.settings).catalog.view("pump_pressure")
    for key in (dg.AssetKey(["features", "pump_pressure"]), KEY):
        told = {
            name: value.value for name, value in graph.get(key).metadata.items() if hasattr(value, "value")
        }
        assert told["entity"] == "pump (varchar)"
        assert told["version"] == view.schema_hash
        assert told["used_by"] == "low_pressure"
        assert told["feature_catalog"] == "http://127.0.0.1:6567/catalog#pump_pressure"
        for feature in view.features:
            assert f"| `{feature.name}` | {feature.data_type} | {feature.description} | " in told["features"]
        assert told["ttl"]


def test_a_type_that_cannot_be_served_stops_the_load_with_its_place(tmp_path):
    works = make_water_works(tmp_path, days=1)
    for file, name in (
        ("features/pump_pressure.yml", "mean_pressure_6h"),
        ("training/low_pressure_training_set.yml", "pump_pressure__mean_pressure_6h"),
    ):
        path = works.settings.dbt_project_dir / "models" / file
        declared = yaml.safe_load(path.read_text())
        columns = {column["name"]: column for column in declared["models"][0]["columns"]}
        columns[name]["data_type"] = "struct(x integer)"
        path.write_text(yaml.safe_dump(declared))
    with pytest.raises(DeclarationError) as refused:
        build_definitions(works.settings)
    assert (
        "models/features/pump_pressure.yml: models.pump_pressure.columns.mean_pressure_6h.data_type: "
        "found 'struct(x integer)', expected one that the online store can hold"
    ) in str(refused.value)
