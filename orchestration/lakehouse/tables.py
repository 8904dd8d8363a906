"""Questions about one table of the lakehouse. Names are ``(schema, table)``."""

from collections.abc import Collection
from dataclasses import dataclass

import duckdb

from orchestration.lakehouse.attachment import LAKE


@dataclass(frozen=True)
class Column:
    """A column as the lakehouse stores it."""

    name: str
    data_type: str


def relation(schema: str, table: str) -> str:
    """The quoted, fully qualified name of a lakehouse table."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in (LAKE, schema, table))


def describe_table(con: duckdb.DuckDBPyConnection, schema: str, table: str) -> list[Column]:
    """The columns of a table in order; an empty list when there is no such table."""
    # Literals: for a parameter DuckDB imports pandas, which takes a second.
    names = [name.replace("'", "''") for name in (LAKE, schema, table)]
    rows = con.execute(
        "select column_name, data_type from duckdb_columns() where database_name = '{}' "
        "and schema_name = '{}' and table_name = '{}' order by column_index".format(*names)
    ).fetchall()
    return [Column(name, data_type) for name, data_type in rows]


def table_exists(con: duckdb.DuckDBPyConnection, schema: str, table: str) -> bool:
    """Whether the table is in the lakehouse."""
    return bool(describe_table(con, schema, table))


def row_count(con: duckdb.DuckDBPyConnection, schema: str, table: str) -> int:
    """Number of rows."""
    return int(con.execute(f"select count(*) from {relation(schema, table)}").fetchall()[0][0])


def current_snapshot(con: duckdb.DuckDBPyConnection) -> int:
    """Id of the newest committed snapshot."""
    return int(con.execute(f"select max(snapshot_id) from ducklake_snapshots('{LAKE}')").fetchall()[0][0])


def last_change(con: duckdb.DuckDBPyConnection, schema: str, table: str) -> int:
    """The newest snapshot that changed a table; 0 when no snapshot that is kept did.

    Raises:
        LookupError: There is no such table.
    """
    names = [name.replace("'", "''") for name in (schema, table)]
    catalog = f"__ducklake_metadata_{LAKE}"
    found = con.execute(
        f"select t.table_id from {catalog}.ducklake_table t "
        f"join {catalog}.ducklake_schema s using (schema_id) "
        "where s.schema_name = '{}' and t.table_name = '{}' and t.end_snapshot is null".format(*names)
    ).fetchall()
    if not found:
        raise LookupError(f"no table {schema}.{table} in the lakehouse")
    # What a snapshot changed is told by the table's id, or by its name where it made the table.
    told = f"list_has_any(flatten(map_values(changes)), ['{found[0][0]}', '{names[0]}.{names[1]}'])"
    newest = con.execute(
        f"select coalesce(max(snapshot_id), 0) from ducklake_snapshots('{LAKE}') where {told}"
    ).fetchall()
    return int(newest[0][0])


def content_hash(
    con: duckdb.DuckDBPyConnection, schema: str, table: str, *, exclude: Collection[str] = ()
) -> str:
    """A hash of a table's rows that does not depend on their order or on how they are stored.

    Rows are written as text, hashed with MD5 and summed modulo 2**64 beside their count, so that
    duplicate rows count too. Columns in ``exclude`` and those whose name starts with ``_`` (how a
    row came to be here, not what it says) are left out.

    Raises:
        LookupError: There is no such table.
    """
    columns = [
        c for c in describe_table(con, schema, table) if c.name not in exclude and not c.name.startswith("_")
    ]
    if not columns:
        raise LookupError(f"no table {schema}.{table} in the lakehouse")
    quoted = ", ".join(
        f"coalesce('=' || \"{c.name}\"::varchar, '-')" for c in sorted(columns, key=lambda c: c.name)
    )
    count, digest = con.execute(
        f"select count(*), coalesce(sum(md5_number_lower(concat_ws(chr(31), {quoted}))::hugeint), 0) "
        f"% 18446744073709551616 from {relation(schema, table)}"
    ).fetchall()[0]
    return f"{count}-{int(digest):016x}"
