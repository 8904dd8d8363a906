"""The DuckDB that dbt works in: who reads it meanwhile, and how long it stays open."""

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager

from orchestration.transformation.engine import Engine, NodeResult
from orchestration.transformation.environment import dbt_environment
from orchestration.transformation.manifest import executable_manifest, project_args
from tests.integration.transformation.tiny_platform import DAY, Platform, window_tags

RUN_ID = "3f0c52b4-7c1e-4c55-8a8e-0d8a2a0c0b11"


def test_a_table_is_measured_by_the_thread_that_has_built_it_before_that_goes_on(
    platform: Platform, tmp_path: Path
) -> None:
    """DuckLake's transactions do not bear a question from another thread of the same DuckDB."""
    measured: dict[str, tuple[str, datetime]] = {}

    def measure(unique_id: str, con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
        (count,) = (
            con.execute(f"select count(*) from lake.staged.{unique_id.split('.')[-1]}").fetchone() or ()
        )
        time.sleep(0.1)  # the next node could begin
        measured[unique_id] = (threading.current_thread().name, datetime.now(UTC))
        return {"rows": count}

    settings = platform.settings
    flags = ["--log-level", "none", "--log-level-file", "debug", "--log-format-file", "json"]
    args = [*flags, "run", "--select", "stg_readings", "stg_sensors", "loud_readings"]
    platform.execute(
        "create schema if not exists staged",
        "create table staged.kinds as select 't' as kind, 'heat' as label",
    )
    with Engine(
        [*args, *project_args(settings, tmp_path / "target", tmp_path / "logs")],
        dbt_environment(settings),
        executable_manifest(settings),
        measure,
    ) as engine:
        facts = {e.unique_id: e.facts for e in engine.events() if isinstance(e, NodeResult)}
    assert facts == {"model.tiny.stg_readings": {"rows": 96}, "model.tiny.stg_sensors": {"rows": 2}}
    told = [json.loads(line) for line in (tmp_path / "logs" / "dbt.log").read_text().splitlines()]
    by_node: dict[str, dict[str, dict[str, str]]] = {node: {} for node in measured}
    for event in told:
        if (node := event["data"].get("node_info", {}).get("unique_id")) in measured:
            by_node[node][event["info"]["name"]] = event["info"]
    for node, (thread, _) in measured.items():
        assert {by_node[node][name]["thread"] for name in ("SQLQuery", "LogModelResult")} == {thread}
    first, second = measured
    assert measured[first][1] <= datetime.fromisoformat(by_node[second]["LogStartLine"]["ts"])


def opened() -> duckdb.DuckDBPyConnection | None:
    """The connection of the DuckDB that dbt has open."""
    environment = DuckDBConnectionManager._ENV
    return environment and environment.conn


@pytest.mark.parametrize("fails", [False, True])
def test_it_stays_open_through_a_run_and_not_after_it(platform: Platform, *, fails: bool) -> None:
    if fails:
        platform.execute("alter table raw.readings drop column value")
    seen: dict[str, duckdb.DuckDBPyConnection | None] = {}

    def look(event: dg.EventLogEntry) -> None:
        if event.dagster_event_type in (dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE):
            seen[event.step_key or ""] = opened()

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_event_listener(RUN_ID, look)
        job = dg.Definitions(
            assets=platform.layers, resources={"dbt": platform.dbt}, jobs=[dg.define_asset_job("all")]
        ).resolve_job_def("all")
        result = job.execute_in_process(
            instance=instance, run_id=RUN_ID, tags=window_tags(DAY, DAY), raise_on_error=False
        )
    assert result.success is not fails
    assert set(seen) == ({"dbt_staged"} if fails else {"dbt_staged", "dbt_features"})
    assert None not in seen.values()
    assert len(set(map(id, seen.values()))) == 1
    assert opened() is None
