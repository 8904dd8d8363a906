"""What Dagster sees: assets with their metadata and failures, and the sensors of landing folders."""

import os
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.ingestion import build_landing_sensors, build_raw_assets
from orchestration.ingestion.landing_sensors import Watch
from tests.integration.ingestion.landing_ground import Ground, source_table

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
HEADER = "id,at,name\n"


def row(number: int, day: int, name: str = "a") -> str:
    return f"{number},2024-01-{day:02}T10:00:00Z,{name}\n"


def definitions(ground: Ground, *tables: Any) -> dg.Definitions:
    declarations = ground.declarations(*tables)
    return dg.Definitions(
        assets=build_raw_assets(declarations, ground.settings, ground.clock),
        sensors=build_landing_sensors(declarations, ground.settings, ground.clock),
        resources={"lakehouse": ground.lakehouse},
    )


def run(defs: dg.Definitions, instance: dg.DagsterInstance, **how: Any) -> dg.ExecuteInProcessResult:
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, raise_on_error=False, **how)


def metadata(result: dg.ExecuteInProcessResult, *key: str) -> dict[str, Any]:
    """Metadata of the first materialization: a run over many partitions records one for each."""
    event, *_ = [
        e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(list(key))
    ]
    return {k: v.value for k, v in event.materialization.metadata.items()}


def test_an_asset_is_described_by_its_declaration(ground: Ground) -> None:
    (assets,) = build_raw_assets(ground.declarations(ground.daily()), ground.settings, ground.clock)
    raw, quarantine = (assets.specs_by_key[dg.AssetKey([p, "readings"])] for p in ("raw", "quarantine"))
    assert (raw.group_name, quarantine.group_name) == ("raw", "quarantine")
    assert raw.owners == quarantine.owners == ["team:operators"]
    assert raw.kinds >= {"csv", "duckdb"}
    assert [c.name for c in raw.metadata["dagster/column_schema"].columns] == ["id", "at", "name"]
    assert "raw_text" in [c.name for c in quarantine.metadata["dagster/column_schema"].columns]
    assert isinstance(assets.partitions_def, dg.DailyPartitionsDefinition)
    assert assets.backfill_policy == dg.BackfillPolicy.single_run()
    assert assets.op.pool == "lakehouse_write"
    assert assets.op.retry_policy is not None


def test_the_code_version_changes_with_the_declaration_only(ground: Ground) -> None:
    def version(**ingest: Any) -> str | None:
        (assets,) = build_raw_assets(
            ground.declarations(ground.daily(**ingest)), ground.settings, ground.clock
        )
        return assets.specs_by_key[dg.AssetKey(["raw", "readings"])].code_version

    assert version() == version()
    assert version() != version(delimiter=";")


DAYS = ("2024-01-02", "2024-01-03", "2024-01-04")


@pytest.mark.parametrize(("how", "partitions"), [
    ({"partition_key": DAYS[0]}, {DAYS[0]}),
    ({"tags": {RANGE[0]: DAYS[0], RANGE[1]: DAYS[-1]}}, {*DAYS}),
    ({}, {None}),
], ids=["a day", "days", "no partitions"])  # fmt: skip
def test_a_source_can_be_landed_by_its_raw_asset_alone(
    ground: Ground, how: dict[str, Any], partitions: set[str | None]
) -> None:
    ground.put("in.csv", HEADER + row(1, 1) + row(2, 2) + "x,2024-01-02T10:00:00Z,b\n")
    if how:
        table = ground.daily(max_quarantined_share=0.5)
    else:
        table = ground.csv(uri="in.csv", event_time="at", max_quarantined_share=0.5)
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(
            definitions(ground, table), instance, asset_selection=[dg.AssetKey(["raw", "readings"])], **how
        )
        assert done.success
        events = done.get_asset_materialization_events()
        for layer in ("raw", "quarantine"):
            key = dg.AssetKey([layer, "readings"])
            made = [e.materialization for e in events if e.asset_key == key]
            assert {m.partition for m in made} == partitions
            assert all(m.metadata["rows_quarantined"].value == 1 for m in made)


def test_quarantine_alone_is_refused_before_anything_lands(ground: Ground) -> None:
    ground.put("in.csv", HEADER + row(1, 1))
    key = dg.AssetKey(["quarantine", "readings"])
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(
            definitions(ground, ground.daily()), instance, asset_selection=[key], partition_key="2024-01-01"
        )
    (failure,) = [e.step_failure_data.error for e in done.all_events if e.is_step_failure]
    assert "found it selected alone, expected raw/readings with it" in str(failure)
    assert done.get_asset_materialization_events() == []


def test_a_materialization_tells_what_landed_and_a_second_one_that_nothing_did(ground: Ground) -> None:
    ground.put("in.csv", HEADER + row(1, 1) + row(2, 2) + "x,2024-01-02T10:00:00Z,b\n")
    defs = definitions(ground, ground.daily(max_quarantined_share=0.5))
    with dg.DagsterInstance.ephemeral() as instance:
        first = run(defs, instance, tags={RANGE[0]: "2024-01-01", RANGE[1]: "2024-01-10"})
        second = run(defs, instance, partition_key="2024-01-02")
    found = metadata(first, "raw", "readings")
    counts = {
        "dagster/row_count": 2, "rows_of_the_run": 2, "rows_landed": 2, "rows_removed": 0, "rows_unchanged": 0,
        "rows_quarantined": 1,
    }  # fmt: skip
    assert {k: found[k] for k in counts} == counts
    assert found["files"][0]["file"] == "in.csv"
    assert found["snapshot"] >= 1
    assert metadata(first, "quarantine", "readings")["dagster/row_count"] == 1
    again = metadata(second, "raw", "readings")
    assert (again["rows_landed"], again["dagster/row_count"], again["dagster/partition_row_count"]) == (
        0,
        2,
        1,
    )
    assert "nothing new" in again["result"]


def test_a_bad_delivery_fails_the_asset_with_the_plain_message(ground: Ground) -> None:
    ground.put("in.csv", HEADER + "x,2024-01-02T10:00:00Z,b\n")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(definitions(ground, ground.daily()), instance, partition_key="2024-01-02")
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    failed = failure.step_failure_data.user_failure_data
    assert failed is not None
    assert "id: found 'x', expected integer" in str(failed.description)
    assert failed.metadata["first_unreadable_rows"].value[0]["line"] == 2
    assert result.get_asset_materialization_events() == []
    assert not any(e.is_step_up_for_retry for e in result.all_events)


def tick(
    defs: dg.Definitions, cursor: str | None, instance: dg.DagsterInstance
) -> tuple[list[dg.RunRequest], str]:
    sensor = defs.resolve_sensor_def("landing_readings")
    with dg.build_sensor_context(instance, cursor, definitions=defs, resources=defs.resources) as context:
        result = sensor.evaluate_tick(context)
    return list(result.run_requests or []), result.cursor or ""


def asked(requests: list[dg.RunRequest]) -> list[tuple[str, str]]:
    return [
        (r.partition_key, r.partition_key) if r.partition_key else (r.tags[RANGE[0]], r.tags[RANGE[1]])
        for r in requests
    ]


def settle(path: Path) -> None:
    """Let a file look as if it was written an hour ago."""
    stat = path.stat()
    os.utime(path, (stat.st_atime, stat.st_mtime - 3600))


def test_a_folder_is_watched_from_arrival_to_landed_rows(ground: Ground) -> None:
    defs = definitions(ground, ground.daily(uri="drop"))
    with dg.DagsterInstance.ephemeral() as instance:
        requests, cursor = tick(defs, None, instance)
        assert requests == []
        settle(ground.put("drop/a.csv", HEADER + row(1, 1) + row(2, 2) + row(3, 5)))
        requests, cursor = tick(defs, cursor, instance)
        assert asked(requests) == [("2024-01-01", "2024-01-02"), ("2024-01-05", "2024-01-05")]
        for request in requests:
            how = {"partition_key": request.partition_key} if request.partition_key else {}
            assert run(
                defs, instance, tags=request.tags, asset_selection=request.asset_selection, **how
            ).success
        assert ground.rows("id") == [(1,), (2,), (3,)]
        # A changed file touches the days of both of its versions.
        settle(ground.put("drop/a.csv", HEADER + row(1, 1) + row(2, 2) + row(4, 7)))
        requests, cursor = tick(defs, cursor, instance)
        assert asked(requests) == [
            ("2024-01-01", "2024-01-02"), ("2024-01-05", "2024-01-05"), ("2024-01-07", "2024-01-07"),
        ]  # fmt: skip
        assert tick(defs, cursor, instance)[0] == []


def test_a_file_still_being_written_waits_and_a_renamed_one_does_not(ground: Ground) -> None:
    defs = definitions(ground, ground.daily(uri="drop"))
    with dg.DagsterInstance.ephemeral() as instance:
        path = ground.put("drop/slow.csv", HEADER + row(1, 1))
        requests, cursor = tick(defs, None, instance)
        assert requests == []
        path.write_text(HEADER + row(1, 1) + row(2, 2))
        for _ in range(2):  # that ticks see no change says nothing: they may come every second
            requests, cursor = tick(defs, cursor, instance)
            assert requests == []
        settle(path)
        requests, cursor = tick(defs, cursor, instance)
        assert asked(requests) == [("2024-01-01", "2024-01-02")]
        written = ground.put("drop/.part", HEADER + row(3, 3))
        os.utime(written, ns=(written.stat().st_atime_ns, written.stat().st_mtime_ns - 1_000_000))
        written.rename(ground.root / "drop/whole.csv")
        requests, _ = tick(defs, cursor, instance)
        assert asked(requests) == [("2024-01-03", "2024-01-03")]


def test_run_keys_follow_the_content_and_a_touched_file_asks_for_nothing(ground: Ground) -> None:
    defs = definitions(ground, ground.daily(uri="drop"))
    with dg.DagsterInstance.ephemeral() as instance:
        path = ground.put("drop/a.csv", HEADER + row(1, 1))
        settle(path)
        first, cursor = tick(defs, None, instance)
        again, _ = tick(defs, None, instance)
        assert [r.run_key for r in first] == [r.run_key for r in again]
        settle(path)
        assert tick(defs, cursor, instance)[0] == []
        settle(ground.put("drop/a.csv", HEADER + row(1, 1, "b")))
        changed, cursor = tick(defs, cursor, instance)
        assert {r.run_key for r in changed}.isdisjoint(r.run_key for r in first)
        path.unlink()
        requests, cursor = tick(defs, cursor, instance)
        assert (requests, cursor) == ([], "{}")


def test_a_restored_file_is_requested_again_even_if_the_earlier_run_failed(ground: Ground) -> None:
    defs = definitions(ground, ground.daily(uri="drop"))
    keys, cursor, versions = [], None, {"A": row(1, 1, "a"), "B": row(1, 1, "b")}
    with dg.DagsterInstance.ephemeral() as instance:
        for version in "ABAB":
            path = ground.put("drop/a.csv", HEADER + versions[version])
            os.utime(path, (1_600_000_000 + ord(version),) * 2)
            (request,), after = tick(defs, cursor, instance)
            assert [r.run_key for r in tick(defs, cursor, instance)[0]] == [request.run_key]
            tags = {"dagster/run_key": str(request.run_key), "dagster/sensor_name": "landing_readings"}
            done = run(defs, instance, partition_key="2024-01-01", tags=tags)
            assert done.success
            assert ground.rows("name") == [(version.lower(),)]
            keys.append(request.run_key)
            cursor = after
    assert len(set(keys)) == 4


def test_a_file_from_the_future_is_requested_once_it_is_complete(ground: Ground) -> None:
    watch = Watch(ground.daily(uri="drop"), ground.settings, ground.clock)
    path = ground.put("drop/a.csv", HEADER + row(1, 1))
    os.utime(path, (time.time() + 9_000_000,) * 2)
    assert watch.look({}, time.time()).unsettled == ["drop/a.csv"]
    assert list(watch.look({}, time.time() + 60).arrived) == ["drop/a.csv"]


def test_what_landed_before_anybody_watched_is_not_asked_for_again(ground: Ground) -> None:
    defs = definitions(ground, ground.daily(uri="drop"))
    path = ground.put("drop/a.csv", HEADER + row(1, 1) + row(2, 2))
    settle(path)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(defs, instance, partition_key="2024-01-01").success
        requests, _ = tick(defs, None, instance)
        assert asked(requests) == [("2024-01-01", "2024-01-02")]
        assert run(defs, instance, partition_key="2024-01-02").success
        requests, cursor = tick(defs, None, instance)
        assert requests == []
        settle(ground.put("drop/b.csv", HEADER + row(3, 2)))
        settle(ground.put("drop/c.csv", HEADER + row(4, 3)))
        assert asked(tick(defs, cursor, instance)[0]) == [("2024-01-02", "2024-01-03")]
        settle(ground.put("drop/a.csv", HEADER + row(1, 1, "b")))
        assert asked(tick(defs, None, instance)[0]) == [("2024-01-01", "2024-01-03")]


def test_a_file_that_cannot_be_read_asks_for_a_run_that_fails_visibly(ground: Ground) -> None:
    defs = definitions(ground, ground.daily(uri="drop"))
    settle(ground.put("drop/a.csv", "no,such,columns\n1,2,3\n"))
    with dg.DagsterInstance.ephemeral() as instance:
        (request,), _ = tick(defs, None, instance)
        result = run(
            defs, instance, partition_key=request.partition_key, asset_selection=request.asset_selection
        )
    assert not result.success


def test_a_source_without_partitions_is_asked_for_whole(ground: Ground) -> None:
    defs = definitions(ground, ground.csv(uri="drop/*.csv"))
    settle(ground.put("drop/a.csv", HEADER + row(1, 1)))
    with dg.DagsterInstance.ephemeral() as instance:
        (request,), _ = tick(defs, None, instance)
        assert (request.partition_key, request.tags.get(RANGE[0])) == (None, None)
        assert run(defs, instance).success
        assert tick(defs, None, instance)[0] == []


@pytest.mark.parametrize("status", list(dg.DefaultSensorStatus))
def test_sensors_start_as_told_and_only_folders_have_one(
    ground: Ground, status: dg.DefaultSensorStatus
) -> None:
    tables = ground.declarations(
        source_table({"id": "integer"}, name="one", uri="x.csv", format="csv"),
        source_table({"id": "integer"}, name="many", uri="drop/", format="csv"),
    )
    (sensor,) = build_landing_sensors(tables, ground.settings, ground.clock, default_status=status)
    assert (sensor.name, sensor.default_status) == ("landing_many", status)
