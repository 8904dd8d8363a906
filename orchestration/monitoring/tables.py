"""The tables of the schema ``monitoring``: a window's rows are replaced whole, in one transaction.

What belongs here: their columns, writing and reading them. What does not: what is in them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.lakehouse.tables import relation, table_exists
from orchestration.sql import identifier, literal

SCHEMA = "monitoring"
_TYPES: Mapping[str, pa.DataType] = {
    "varchar": pa.string(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamptz": pa.timestamp("us", tz="UTC"),
}
_WINDOW = {
    "model": "varchar",
    "model_version": "varchar",
    "window_start": "timestamptz",
    "window_end": "timestamptz",
}
TABLES: Mapping[str, Mapping[str, str]] = {
    "drift": {
        **_WINDOW,
        "column_name": "varchar",
        "role": "varchar",
        "rows": "bigint",
        "psi": "double",
        "jensen_shannon": "double",
        "null_rate_change": "double",
        "new_category_share": "double",
        "out_of_range_share": "double",
        "statistic": "double",
        "p_value": "double",
        "adjusted_p_value": "double",
        "low": "double",
        "importance": "double",
        "alarm": "boolean",
        "run_id": "varchar",
    },
    "performance": {
        **_WINDOW,
        "slice": "varchar",
        "metric": "varchar",
        "estimated": "double",
        "estimated_low": "double",
        "estimated_high": "double",
        "realised": "double",
        "realised_low": "double",
        "realised_high": "double",
        "expected": "double",
        "expected_low": "double",
        "expected_high": "double",
        "rows": "bigint",
        "labelled": "bigint",
        "run_id": "varchar",
    },
    "bias": {
        **_WINDOW,
        "group_column": "varchar",
        "group_value": "varchar",
        "metric": "varchar",
        "value": "double",
        "others": "double",
        "gap": "double",
        "gap_low": "double",
        "gap_high": "double",
        "limit": "double",
        "p_value": "double",
        "adjusted_p_value": "double",
        "rows": "bigint",
        "alarm": "boolean",
        "run_id": "varchar",
    },
    "skew": {
        **_WINDOW,
        "column_name": "varchar",
        "source": "varchar",
        "rows": "bigint",
        "differences": "bigint",
        "behind": "double",
        "example": "varchar",
        "online": "varchar",
        "offline": "varchar",
        "alarm": "boolean",
        "run_id": "varchar",
    },
}
"""The type of each column of each table."""

Row = Mapping[str, Any]


def replace_windows(
    con: duckdb.DuckDBPyConnection, table: str, model: str, ends: Sequence[datetime], rows: Iterable[Row]
) -> int:
    """Put a model's rows for the windows that end at some instants in the place of those that are there.

    It belongs in a transaction of the caller's.

    Returns:
        How many rows were written.
    """
    columns = TABLES[table]
    name = relation(SCHEMA, table)
    if table_exists(con, SCHEMA, table):
        listed = ", ".join(literal(end) for end in ends)
        con.execute(f"delete from {name} where model = {literal(model)} and window_end in ({listed})")
    else:
        con.execute(f"create schema if not exists {name.rpartition('.')[0]}")
        declared = ", ".join(f"{identifier(c)} {kind}" for c, kind in columns.items())
        con.execute(f"create table {name} ({declared})")
    schema = pa.schema([(c, _TYPES[kind]) for c, kind in columns.items()])
    given = pa.Table.from_pylist([dict(row) for row in rows], schema)
    if given.num_rows:
        con.register("_monitored", given)
        try:
            con.execute(f"insert into {name} select * from _monitored")
        finally:
            con.unregister("_monitored")
    return int(given.num_rows)


def read_windows(
    con: duckdb.DuckDBPyConnection,
    table: str,
    model: str,
    columns: Sequence[str],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    where: str = "true",
) -> list[tuple[Any, ...]]:
    """Columns of a model's rows, the oldest window first; none where nothing was watched yet.

    Args:
        con: A connection.
        table: Which table.
        model: Whose rows.
        columns: Which columns.
        since: Windows that end before it are left out.
        until: Windows that end after it are.
        where: A condition besides.
    """
    if not table_exists(con, SCHEMA, table):
        return []
    inside = [f"model = {literal(model)}", f"({where})"]
    inside += [] if since is None else [f"window_end >= {literal(since)}"]
    inside += [] if until is None else [f"window_end <= {literal(until)}"]
    order = [c for c in TABLES[table] if c not in {"model", "run_id"}]
    found: list[tuple[Any, ...]] = con.execute(
        f"select {', '.join(identifier(c) for c in columns)} from {relation(SCHEMA, table)} "
        f"where {' and '.join(inside)} "
        f"order by window_end, {', '.join(identifier(c) for c in order)}"
    ).fetchall()
    return found
