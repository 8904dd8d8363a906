"""Dagster's own storage: SQLite with batches or PostgreSQL, and runs that were killed."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._serdes import deserialize_value, serialize_value

from orchestration.automation.jobs import Span
from orchestration.automation.liveness import bury_dead_runs
from orchestration.automation.local_run import run_here
from orchestration.instance import open_instance
from orchestration.settings import Settings
from tests.forks import CONTEXT

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-03-01")
SPAN = Span("2024-01-01", "2024-02-29")


@dg.multi_asset(
    specs=[dg.AssetSpec("a", partitions_def=DAYS), dg.AssetSpec("b", partitions_def=DAYS), dg.AssetSpec("c")],
    check_specs=[dg.AssetCheckSpec("good", asset="a"), dg.AssetCheckSpec("bad", asset="c")],
    backfill_policy=dg.BackfillPolicy.single_run(),
    can_subset=True,
    pool="lakehouse_write",
)
def land(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    for key in sorted(context.selected_asset_keys):
        yield dg.MaterializeResult(key, metadata={"dagster/row_count": 7})
    yield dg.AssetCheckResult(asset_key="a", check_name="good", passed=True, metadata={"rows": 7})
    yield dg.AssetCheckResult(asset_key="c", check_name="bad", passed=False)


JOB = dg.Definitions(
    assets=[land],
    jobs=[dg.define_asset_job("all", selection=dg.AssetSelection.all())],
    executor=dg.in_process_executor,
).resolve_job_def("all")


@dg.op
def break_down() -> None:
    raise RuntimeError("bad data")


BROKEN_JOB = dg.GraphDefinition(name="broken", node_defs=[break_down]).to_job()


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    return Settings(data_dir=tmp_path / "data", dagster_postgres_url=url)


def _history(instance: dg.DagsterInstance, run_id: str) -> dict[str, object]:
    """What the UI and automation read of a run, without ids and times."""
    records = instance.get_records_for_run(run_id).records
    events = [r.event_log_entry.get_dagster_event() for r in records if r.event_log_entry.is_dagster_event]
    keys = [dg.AssetKey("a"), dg.AssetKey("b"), dg.AssetKey("c")]
    latest = {key: instance.get_latest_materialization_event(key) for key in keys}
    return {
        "events": sorted(
            (e.event_type_value, e.step_key or "", str(e.asset_key), e.partition or "") for e in events
        ),
        "partitions": {str(k): sorted(instance.get_materialized_partitions(k)) for k in keys[:2]},
        "latest": {
            str(k): (e.asset_materialization.partition, dict(e.asset_materialization.metadata))
            for k, e in latest.items()
            if e is not None and e.asset_materialization is not None
        },
        "checks": {
            name: [
                (r.status, r.event is not None and r.event.timestamp > 0)
                for r in instance.event_log_storage.get_asset_check_execution_history(
                    dg.AssetCheckKey(dg.AssetKey(key), name), limit=9
                )
            ]
            for key, name in (("a", "good"), ("c", "bad"))
        },
        "tags": sorted(
            (str(key), sorted(tags)) for key in keys for tags in instance.get_event_tags_for_asset(key)
        ),
        "records": {
            str(r.asset_entry.asset_key): r.asset_entry.last_run_id == run_id
            for r in instance.get_asset_records(keys)
        },
    }


def test_a_range_of_partitions_is_stored_whole(settings: Settings) -> None:
    with open_instance(settings) as instance:
        result = run_here(JOB, instance, settings, lambda _: None, span=SPAN)
        assert result.success
        history = _history(instance, result.run_id)
    days = DAYS.get_partition_keys()
    assert history["partitions"] == {str(dg.AssetKey(k)): days for k in "ab"}
    assert history["records"] == {str(dg.AssetKey(k)): True for k in "abc"}
    assert len(history["latest"]) == 3  # type: ignore[arg-type]


def test_batches_store_what_dagsters_own_storage_stores(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    stock = tmp_path / "stock"
    stock.mkdir()
    found = []
    for instance in (open_instance(settings), dg.DagsterInstance.local_temp(str(stock))):
        with instance:
            span = Span("2024-01-01", "2024-01-20")
            result = run_here(JOB, instance, settings, lambda _: None, span=span)
            found.append(_history(instance, result.run_id))
    assert found[0] == found[1]
    assert [len(h["checks"]) for h in found] == [2, 2]  # type: ignore[arg-type]


def test_a_stored_event_reads_as_dagster_writes_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with open_instance(settings) as instance:
        run_id = run_here(JOB, instance, settings, lambda _: None, span=SPAN).run_id
    stored = []
    for shard in (run_id, "index"):
        with sqlite3.connect(settings.dagster_dir / "history" / "runs" / f"{shard}.db") as con:
            stored.append(
                con.execute(
                    "select event, partition, timestamp from event_logs where partition not null"
                ).fetchall()
            )
    assert len(stored[0]) == 4 * len(DAYS.get_partition_keys())
    assert stored[0] == stored[1]
    for text, partition, _ in stored[0]:
        event = deserialize_value(text, dg.EventLogEntry)
        assert serialize_value(event) == text
        assert event.get_dagster_event().partition == partition
    assert len({partition for _, partition, _ in stored[0]}) == len(DAYS.get_partition_keys())


def die_in_a_step(settings: Settings) -> None:
    def listener(entry: dg.EventLogEntry) -> None:
        if entry.dagster_event_type == dg.DagsterEventType.STEP_START:
            os.kill(os.getpid(), signal.SIGKILL)

    with open_instance(settings) as instance:
        run_here(JOB, instance, settings, listener, span=SPAN)


def test_a_killed_run_is_marked_as_failed_and_gives_its_slot_back(settings: Settings) -> None:
    killed = CONTEXT.Process(target=die_in_a_step, args=[settings])
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    with open_instance(settings) as instance:
        (dead,) = instance.get_runs()
        assert dead.status == dg.DagsterRunStatus.STARTED
        result = run_here(JOB, instance, settings, lambda _: None, span=SPAN)
        assert result.success
        buried = instance.get_run_by_id(dead.run_id)
        assert buried is not None
        assert buried.status == dg.DagsterRunStatus.FAILURE
        assert buried.tags["dagster/will_retry"] == "false"


def test_the_daemon_tries_a_killed_run_again_but_not_one_whose_asset_failed(tmp_path: Path) -> None:
    with open_instance(Settings(data_dir=tmp_path)) as instance:
        # As the code server reports it: two retries after the first.
        root = instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.STARTED)
        instance.report_run_failed(root)
        for number, expected in ((1, "true"), (2, "false")):
            retry = instance.create_run_for_job(
                JOB,
                status=dg.DagsterRunStatus.STARTED,
                parent_run_id=root.run_id,
                root_run_id=root.run_id,
                tags={"dagster/retry_number": str(number), "dagster/root_run_id": root.run_id},
            )
            instance.report_run_failed(retry)
            assert instance.get_runs(limit=1)[0].tags["dagster/will_retry"] == expected
        first = instance.get_run_by_id(root.run_id)
        assert first is not None
        assert first.tags["dagster/will_retry"] == "true"
        failed = BROKEN_JOB.execute_in_process(instance=instance, raise_on_error=False)
        after = instance.get_run_by_id(failed.run_id)
        assert after is not None
        assert after.tags["dagster/will_retry"] == "false"


def test_a_run_that_lives_is_left_alone(settings: Settings) -> None:
    with open_instance(settings) as instance:
        buried: list[list[str]] = []
        result = run_here(
            JOB, instance, settings, lambda _: buried.append(bury_dead_runs(instance, settings))
        )
        assert result.success
        assert not any(buried)
