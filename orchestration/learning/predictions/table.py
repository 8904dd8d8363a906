"""The table ``predictions.<model>``: its columns, and how a day's batch replaces what was there.

What belongs here: DDL and the one transaction of a rewrite. What does not: what is written (``scoring``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from orchestration.lakehouse import LAKE, LakehouseResource, describe_table
from orchestration.lakehouse.tables import relation
from orchestration.learning.spec import ModelSpec
from orchestration.sql import identifier, literal

PREDICTIONS = "predictions"
"""Schema of the tables, and first part of the assets' keys."""
_HOW = frozenset({"predicted_at", "run_id", "snapshot_id"})
"""Columns that say how a prediction came to be, not what it is."""


@dataclass(frozen=True)
class Written:
    """What a rewrite changed."""

    added: int
    removed: int


def ensure_table(con: duckdb.DuckDBPyConnection, schema: str, name: str, columns: Mapping[str, str]) -> None:
    """Make a table, or add the columns that it lacks; one that is not wanted any more stays.

    Raises:
        ValueError: A column is there with another type.
    """
    held = {c.name: c.data_type for c in describe_table(con, schema, name)}
    listed = {column: f"{identifier(column)} {kind}" for column, kind in columns.items()}
    if not held:
        con.execute(f"create schema if not exists {LAKE}.{identifier(schema)}")
        con.execute(f"create table {relation(schema, name)} ({', '.join(listed.values())})")
        return
    wanted = _as_stored(con, columns)
    for column, kind in columns.items():
        if column not in held:
            con.execute(f"alter table {relation(schema, name)} add column {identifier(column)} {kind}")
        elif held[column] != wanted[column]:
            raise ValueError(
                f"{schema}.{name}.{column}: found type {held[column].lower()}, expected {kind}: rename the "
                "column, or drop the table's"
            )


def _as_stored(con: duckdb.DuckDBPyConnection, columns: Mapping[str, str]) -> dict[str, str]:
    nulls = ", ".join(f"null::{kind} as {identifier(name)}" for name, kind in columns.items())
    return {str(row[0]): str(row[1]) for row in con.execute(f"describe select {nulls}").fetchall()}


def replace_batch(
    lakehouse: LakehouseResource, spec: ModelSpec, rows: Any, start: datetime, end: datetime, mode: str
) -> Written:
    """Make the predictions of a span of time and a mode what ``rows`` are, in one transaction.

    A prediction that is there already as it should be stays, with when and by whom it was made.

    Args:
        lakehouse: Where.
        spec: The model.
        rows: Arrow table with the columns of predictions, all of the span.
        start: Instant from which on the rows' instant is in the span.
        end: Instant before which it is.
        mode: ``batch`` or ``shadow``.
    """
    table, columns = relation(PREDICTIONS, spec.name), spec.prediction_columns
    by = identifier(spec.predicted.partition_by)
    span = f"held.mode = {literal(mode)} and held.{by} >= {literal(start)} and held.{by} < {literal(end)}"
    same = " and ".join(
        f"held.{identifier(name)} is not distinct from made.{identifier(name)}"
        for name in columns
        if name not in _HOW
    )
    names = ", ".join(map(identifier, columns))
    casts = ", ".join(f"{identifier(n)}::{kind} as {identifier(n)}" for n, kind in columns.items())

    def work(con: duckdb.DuckDBPyConnection) -> Written:
        ensure_table(con, PREDICTIONS, spec.name, columns)
        con.register("_rows", rows)
        try:
            con.execute(f"create or replace temp table _made as select {casts} from _rows")
        finally:
            con.unregister("_rows")
        ((removed,),) = con.execute(
            f"delete from {table} as held where {span} "
            f"and not exists (select 1 from _made as made where {same})"
        ).fetchall()
        ((added,),) = con.execute(
            f"insert into {table} ({names}) select {names} from _made as made where not exists (select 1 "
            f"from {table} as held where {span} and held.prediction_id = made.prediction_id) "
            f"order by {by}, prediction_id"
        ).fetchall()
        con.execute("drop table _made")
        return Written(int(added), int(removed))

    return lakehouse.write(work)


def shadow_of(lakehouse: LakehouseResource, spec: ModelSpec, version: str) -> tuple[datetime, int] | None:
    """Since when a version has predicted beside the champion, and how often; None when it has not."""
    with lakehouse.reader() as con:
        if not describe_table(con, PREDICTIONS, spec.name):
            return None
        ((since, count),) = con.execute(
            f"select epoch_us(min(prediction_at)), count(*) from {relation(PREDICTIONS, spec.name)} "
            f"where mode = 'shadow' and model_version = {literal(version)}"
        ).fetchall()
    if since is None:
        return None
    return datetime.fromtimestamp(int(since) / 1e6, UTC), int(count)
