"""What a replay begins with: a data folder of its own with the features, and the checks on them, as recorded.

Each row of a feature view tells since when it was known, so the features of the whole of history are those
that were there at any instant of it. What belongs here: copying. What does not: the walk (``live``).
"""

from collections.abc import Iterable, Sequence
from contextlib import closing

import dagster as dg
import duckdb

from orchestration.dagster_ext import CheckHistory, CheckStatus
from orchestration.dagster_ext.check_state import EVALUATED
from orchestration.declarations import Declarations, Table
from orchestration.lakehouse import LAKE, LakehouseResource, last_change, table_exists
from orchestration.lakehouse.tables import relation
from orchestration.learning.spec import ModelSpec
from orchestration.replay.history import ReplayError
from orchestration.sql import identifier

_BATCH_ROWS = 122_880


def recorded_tables(spec: ModelSpec, declarations: Declarations) -> list[Table]:
    """What a model's training set and its predictions are made from, without what was landed."""
    found = {t.unique_id: t for t in declarations.ancestors(spec.table.unique_id)}
    if spec.spine is not None:
        found[spec.spine.table.unique_id] = spec.spine.table
    beside = spec.table.upstream
    return [t for name, t in found.items() if t.layer != "raw" or name in beside]


def tables_state(lakehouse: LakehouseResource, tables: Iterable[Table]) -> dict[str, int]:
    """The snapshot that changed each table last.

    Raises:
        ReplayError: One is not there.
    """
    with lakehouse.reader() as con:
        missing = [t.name for t in tables if not table_exists(con, t.schema, t.name)]
        if missing:
            raise ReplayError(f"found no {', '.join(missing)}, expected a finished run")
        return {t.unique_id: last_change(con, t.schema, t.name) for t in tables}


def copy_tables(source: LakehouseResource, target: LakehouseResource, tables: Iterable[Table]) -> None:
    """Copy tables from a lakehouse to another, each in a transaction; one that is there stays."""
    with source.reader() as read, closing(target.open()) as write:
        for table in tables:
            if not table_exists(write, table.schema, table.name):
                rows = read.execute(f"select * from {relation(table.schema, table.name)}")
                _create(write, table, rows.to_arrow_reader(_BATCH_ROWS))


def _create(con: duckdb.DuckDBPyConnection, table: Table, rows: object) -> None:
    con.execute(f"create schema if not exists {LAKE}.{identifier(table.schema)}")
    con.register("_recorded", rows)
    try:
        con.execute(f"create table {relation(table.schema, table.name)} as select * from _recorded")
    finally:
        con.unregister("_recorded")


def recorded_checks(
    history: CheckHistory, checks: Iterable[dg.AssetCheckKey]
) -> list[dg.AssetCheckEvaluation]:
    """The state for the copied data of each check that was ever evaluated."""
    evaluations = []
    for key, state in history.states(sorted(checks, key=str)).items():
        if state.settled is None:
            continue
        found = state.settled.evaluation
        evaluations.append(
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=state.status is CheckStatus.PASSED,
                metadata={EVALUATED: state.status is not CheckStatus.NOT_EVALUATED},
                severity=dg.AssetCheckSeverity.WARN
                if state.status is CheckStatus.WARNED
                else dg.AssetCheckSeverity.ERROR,
                description=state.reason or found.description,
            )
        )
    return evaluations


def report_checks(instance: dg.DagsterInstance, evaluations: Sequence[dg.AssetCheckEvaluation]) -> None:
    """Let an instance know how checks came out elsewhere; one that it knows of already stays."""
    known = CheckHistory(instance).last_results(e.asset_check_key for e in evaluations)
    for evaluation in evaluations:
        if not known[evaluation.asset_check_key]:
            instance.report_runless_asset_event(evaluation)
