"""The history of checks, taken from Dagster's event log into the lakehouse.

What belongs here: one row an evaluation in ``lake.ops.quality_history``, appended once, and reading
scores out of it. What does not: how scores look (``report``).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import duckdb

from orchestration.asset_specs import asset_key
from orchestration.dagster_ext import CheckHistory, CheckState, CheckStatus
from orchestration.dagster_ext.check_state import Result
from orchestration.lakehouse import LAKE, in_transaction, table_exists
from orchestration.quality.contract import Contract

SCHEMA, TABLE = "ops", "quality_history"
HISTORY = f"{LAKE}.{SCHEMA}.{TABLE}"

_COLUMNS = {
    "layer": "varchar",
    "table_name": "varchar",
    "check_name": "varchar",
    "dimension": "varchar",
    "level": "varchar",
    "evaluated_at": "timestamptz",
    "run_id": "varchar",
    "passed": "boolean",
    "evaluated": "boolean",
    "measured": "double",
    "rows_tested": "bigint",
    "failed_rows": "bigint",
    "tested": "varchar",
    "seconds": "double",
    "contract_sha256": "varchar",
}
_IDENTITY = ("layer", "table_name", "check_name", "evaluated_at", "run_id")


def check_keys(contracts: Sequence[Contract]) -> list[dg.AssetCheckKey]:
    """The key of every check of the contracts."""
    return [dg.AssetCheckKey(asset_key(c.target.table), check.name) for c in contracts for check in c.checks]


def check_levels(contracts: Sequence[Contract]) -> dict[dg.AssetCheckKey, str]:
    """``fail`` or ``warn`` by check."""
    levels = (check.threshold.level for contract in contracts for check in contract.checks)
    return dict(zip(check_keys(contracts), levels, strict=True))


def check_states(
    instance: dg.DagsterInstance, contracts: Sequence[Contract], run_id: str = ""
) -> dict[dg.AssetCheckKey, CheckState]:
    """The state of every check of the contracts for the current data."""
    columns = {asset_key(c.target.table): c.target.window_column for c in contracts}
    partitions = {key: column.partition for key, column in columns.items() if column is not None}
    return CheckHistory(instance, partitions, run_id).states(check_keys(contracts))


def _number(value: Any) -> float | int | None:
    return value if isinstance(value, int | float) else None


def _row(result: Result) -> dict[str, Any] | None:
    """The history row of a result; None if it is not of a contract."""
    found = result.evaluation
    metadata = {name: value.value for name, value in found.metadata.items()}
    if "contract_sha256" not in metadata:
        return None
    layer, table = found.asset_key.path
    return {
        "layer": layer,
        "table_name": table,
        "check_name": found.check_name,
        "dimension": metadata["dimension"],
        "level": metadata["level"],
        "evaluated_at": result.at.isoformat(),
        "run_id": result.run_id,
        "passed": found.passed,
        "evaluated": metadata["evaluated"],
        "measured": _number(metadata.get("measured")),
        "rows_tested": metadata.get("rows_tested"),
        "failed_rows": metadata.get("failed_rows"),
        "tested": metadata["window"],
        "seconds": metadata["seconds"],
        "contract_sha256": metadata["contract_sha256"],
    }


def new_evaluations(
    instance: dg.DagsterInstance,
    keys: Sequence[dg.AssetCheckKey],
    known: Mapping[tuple[str, str, str], datetime],
) -> Iterator[dict[str, Any]]:
    """Every evaluation after the newest known one of its check; a check without news costs nothing.

    Args:
        instance: The Dagster instance.
        keys: The checks.
        known: Instant of the newest known evaluation by layer, table and check.
    """
    history = CheckHistory(instance)
    for key in keys:
        layer, table = key.asset_key.path
        since = known.get((layer, table, key.name))
        yield from (row for r in history.results_since(key, since) if (row := _row(r)) is not None)


def known_evaluations(con: duckdb.DuckDBPyConnection) -> dict[tuple[str, str, str], datetime]:
    """Instant of the newest evaluation in the lakehouse, by layer, table and check."""
    if not table_exists(con, SCHEMA, TABLE):
        return {}
    rows = con.execute(
        f"select layer, table_name, check_name, epoch_us(max(evaluated_at)) from {HISTORY} group by all"
    ).fetchall()
    return {
        (layer, table, name): datetime.fromtimestamp(micros / 1e6, UTC) for layer, table, name, micros in rows
    }


def append(con: duckdb.DuckDBPyConnection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add evaluations that are not there yet, in one transaction.

    Returns:
        How many were added.
    """
    with in_transaction(con):
        return _insert(con, rows)


def _insert(con: duckdb.DuckDBPyConnection, rows: Sequence[Mapping[str, Any]]) -> int:
    if not table_exists(con, SCHEMA, TABLE):
        con.execute(f"create schema if not exists {LAKE}.{SCHEMA}")
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        con.execute(f"create table {HISTORY} ({columns})")
    if not rows:
        return 0
    structure = json.dumps([_COLUMNS])
    text = json.dumps(list(rows)).replace("'", "''")
    same = " and ".join(f"old.{name} = new.{name}" for name in _IDENTITY)
    added = con.execute(
        f"insert into {HISTORY} select new.* from "
        f"(select unnest(from_json('{text}', '{structure}'), recursive := true)) as new "
        f"where not exists (select 1 from {HISTORY} as old where {same})"
    ).fetchall()
    return int(added[0][0])


@dataclass(frozen=True)
class Score:
    """Share of passed checks in percent, a check that warns counting half, at one instant."""

    at: datetime
    layer: str
    table: str
    dimension: str
    weight: int
    passed: int

    @property
    def percent(self) -> float:
        """The share."""
        return 100 * self.passed / self.weight


def scores(con: duckdb.DuckDBPyConnection, contracts: Sequence[Contract], points: int) -> list[Score]:
    """Scores of the present checks as they stood at the end of each of the last runs.

    A check that a run did not evaluate counts as it last came out; one that was never evaluated by
    then does not count.

    Args:
        con: An open connection to the lakehouse.
        contracts: The contracts whose checks count.
        points: Of how many runs.
    """
    values = ", ".join(
        f"('{c.target.table.layer}', '{c.target.table.name}', '{check.name}', '{check.dimension}', "
        f"{1 if check.warns else 2})"
        for c in contracts
        for check in c.checks
    )
    rows = con.execute(f"""
        with checks(layer, table_name, check_name, dimension, weight) as (values {values}),
        points as (
            select max(evaluated_at) as ended_at from {HISTORY}
            group by run_id order by ended_at desc limit {points}
        ),
        standing as (
            select points.ended_at, checks.*, history.passed
            from points cross join checks
            asof join {HISTORY} as history
                on history.layer = checks.layer
                and history.table_name = checks.table_name
                and history.check_name = checks.check_name
                and points.ended_at >= history.evaluated_at
        )
        select epoch_us(ended_at), layer, table_name, dimension,
            sum(weight), sum(weight) filter (where passed)
        from standing group by all order by all
    """).fetchall()
    return [
        Score(
            datetime.fromtimestamp(micros / 1e6, UTC), layer, table, dimension, int(weight), int(passed or 0)
        )
        for micros, layer, table, dimension, weight, passed in rows
    ]


@dataclass(frozen=True)
class Failing:
    """A check whose newest evaluation has not passed."""

    layer: str
    table: str
    check: str
    level: str
    since: datetime
    evaluated: bool
    measured: float | None
    rows_tested: int | None


def failing(
    con: duckdb.DuckDBPyConnection,
    states: Mapping[dg.AssetCheckKey, CheckState],
    levels: Mapping[dg.AssetCheckKey, str],
) -> list[Failing]:
    """The checks that do not hold for the current data, and since when.

    Args:
        con: An open connection to the lakehouse.
        states: The states of the present checks.
        levels: ``fail`` or ``warn`` by check.
    """
    known = {(one.layer, one.table, one.check): one for one in _failing_results(con)}
    found = []
    for key, state in states.items():
        if state.status is CheckStatus.PASSED or state.is_unknown:
            continue
        layer, table = key.asset_key.path
        one = known.get((layer, table, key.name))
        if one is None:
            opened = min((failure.since for failure in state.open), default=None)
            at = state.settled.at if state.settled is not None else None
            since = opened or at
            if since is None:
                continue
            one = Failing(layer, table, key.name, levels[key], since, False, None, None)
        found.append(replace(one, evaluated=state.status in (CheckStatus.FAILED, CheckStatus.WARNED)))
    return sorted(found, key=lambda one: (one.level, one.layer, one.table, one.check))


def _failing_results(con: duckdb.DuckDBPyConnection) -> list[Failing]:
    """The checks whose newest result did not pass, and since when."""
    rows = con.execute(f"""
        with latest as (
            select layer, table_name, check_name,
                arg_max(passed, evaluated_at) as passed,
                arg_max(level, evaluated_at) as level,
                arg_max(evaluated, evaluated_at) as evaluated,
                arg_max_null(measured, evaluated_at) as measured,
                arg_max_null(rows_tested, evaluated_at) as rows_tested,
                max(evaluated_at) filter (where passed) as last_passed
            from {HISTORY} group by all
        )
        select latest.layer, latest.table_name, latest.check_name, latest.level,
            epoch_us(min(history.evaluated_at)), latest.evaluated, latest.measured, latest.rows_tested
        from latest join {HISTORY} as history
            on history.layer = latest.layer and history.table_name = latest.table_name
            and history.check_name = latest.check_name
            and (last_passed is null or history.evaluated_at > last_passed)
        where not latest.passed
        group by all order by latest.level, latest.layer, latest.table_name, latest.check_name
    """).fetchall()
    return [
        Failing(
            layer, table, name, level, datetime.fromtimestamp(micros / 1e6, UTC), evaluated, measured, tested
        )
        for layer, table, name, level, micros, evaluated, measured, tested in rows
    ]
