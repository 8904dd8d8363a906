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
        "late": "bigint",
        "example": "varchar",
        "online": "varchar",
        "offline": "varchar",
        "alarm": "boolean",
        "run_id": "varchar",
    },
}
"""The type of each column of each table."""

Row = Mapping[str, Any]


def replace_window(
    con: duckdb.DuckDBPyConnection, table: str, model: str, end: datetime, rows: Iterable[Row]
) -> int:
    """Put a model's rows for the window that ends at an instant in the place of those that are there.

    It belongs in a transaction of the caller's.

    Returns:
        How many rows it has now.
    """
    columns = TABLES[table]
    name = relation(SCHEMA, table)
    con.execute(f"create schema if not exists {name.rpartition('.')[0]}")
    declared = ", ".join(f"{identifier(c)} {kind}" for c, kind in columns.items())
    con.execute(f"create table if not exists {name} ({declared})")
    con.execute(f"delete from {name} where model = {literal(model)} and window_end = {literal(end)}")
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
    until: datetime | None = None,
    where: str = "true",
) -> list[tuple[Any, ...]]:
    """Columns of a model's rows, the oldest window first; none where nothing was watched yet.

    Args:
        con: A connection.
        table: Which table.
        model: Whose rows.
        columns: Which columns.
        until: Windows that end after it are left out.
        where: A condition besides.
    """
    if not table_exists(con, SCHEMA, table):
        return []
    newest = "" if until is None else f" and window_end <= {literal(until)}"
    order = [c for c in TABLES[table] if c not in {"model", "run_id"}]
    found: list[tuple[Any, ...]] = con.execute(
        f"select {', '.join(identifier(c) for c in columns)} from {relation(SCHEMA, table)} "
        f"where model = {literal(model)}{newest} and ({where}) "
        f"order by window_end, {', '.join(identifier(c) for c in order)}"
    ).fetchall()
    return found
