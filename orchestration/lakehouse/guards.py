"""Triggers in the catalog that prevent wrong results of DuckLake 1.5, for every reader and writer.

They run inside the transaction of each commit, so that they also cover dbt, Soda and plain DuckDB:

- The bounds of a float or double column ignore NaN, so ``x <> 1`` skips a file that holds 1 and NaN
  (duckdb/ducklake#1263); and they are compared as text in another type, so ``x = 1e20`` skips a file of
  floats. Such a column gets no bounds. Only float and double columns have a value in ``contains_nan``.
- A table's bounds shrink when maintenance rewrites a file without its deleted rows, and a query of an older
  snapshot uses the new bounds (duckdb/ducklake#1378). Bounds that change are dropped permanently.
- Parquet alters the values of some types. A column of such a type is refused.
"""

import subprocess
import sys

import duckdb

from orchestration.declarations import ALTERED_TYPES
from orchestration.lakehouse.attachment import LAKE, Attachment

_CATALOG = f"__ducklake_metadata_{LAKE}"
_LOCK_SECONDS = 30

_STORED_AS = {
    "hugeint": "int128",
    "uhugeint": "uint128",
    "timetz": "timetz",
    "interval": "interval",
}


class CatalogGuardError(Exception):
    """The triggers could not be installed."""


def _refusal(data_type: str) -> str:
    return (
        f"column type: found {data_type}, expected a type that keeps its values: {ALTERED_TYPES[data_type]}"
    )


def _sqlite_triggers() -> dict[str, str]:
    """Triggers by name; they correct rows after the insert, because SQLite cannot change them before."""
    triggers = {
        "groundwork_file_bounds": """after insert on ducklake_file_column_stats
            when new.contains_nan is not null and coalesce(new.min_value, new.max_value) is not null begin
            update ducklake_file_column_stats set min_value = null, max_value = null where rowid = new.rowid;
            end""",
        "groundwork_table_bounds": """after update on ducklake_table_column_stats
            when new.min_value is not old.min_value or new.max_value is not old.max_value
            or new.contains_null is not old.contains_null begin
            update ducklake_table_column_stats set min_value = null, max_value = null, contains_null = 1
            where rowid = new.rowid;
            end""",
    }
    for data_type, stored in _STORED_AS.items():
        triggers[f"groundwork_refuse_{stored}"] = f"""before insert on ducklake_column
            when new.column_type = '{stored}' begin
            select raise(abort, '{_refusal(data_type)}');
            end"""
    return triggers


_POSTGRES_TRIGGERS = {
    "groundwork_file_bounds": (
        "before insert on ducklake_file_column_stats for each row when (new.contains_nan is not null)",
        "new.min_value := null; new.max_value := null; return new;",
    ),
    "groundwork_table_bounds": (
        "before update on ducklake_table_column_stats for each row when (new.min_value is distinct from "
        "old.min_value or new.max_value is distinct from old.max_value "
        "or new.contains_null is distinct from old.contains_null)",
        "new.min_value := null; new.max_value := null; new.contains_null := true; return new;",
    ),
    **{
        f"groundwork_refuse_{stored}": (
            f"before insert on ducklake_column for each row when (new.column_type = '{stored}')",
            f"raise exception '{_refusal(data_type)}';",
        )
        for data_type, stored in _STORED_AS.items()
    },
}
_TABLES = ("ducklake_file_column_stats", "ducklake_table_column_stats", "ducklake_column")
_CORRECTIONS = (
    # Earlier rows: nothing records which of their bounds a rewrite has made too narrow.
    "update ducklake_file_column_stats set min_value = null, max_value = null where contains_nan is not null",
    "update ducklake_table_column_stats set min_value = null, max_value = null, contains_null = {true}",
    "update ducklake_metadata set value = '0' where key = 'data_inlining_row_limit'",
)


def are_installed(con: duckdb.DuckDBPyConnection, attachment: Attachment) -> bool:
    """Whether the attached catalog has every trigger and does not inline rows."""
    if attachment.is_embedded:
        found = "sqlite_query('{}', 'select name from sqlite_master where type = ''trigger''')"
    else:
        tables = ", ".join(f"to_regclass(''{table}'')" for table in _TABLES)
        found = f"postgres_query('{{}}', 'select tgname as name from pg_trigger where tgrelid in ({tables})')"
    names, inlining = con.execute(
        f"select (select list(name::varchar) from {found.format(_CATALOG)}), (select list(value::varchar) "
        f"from {_CATALOG}.ducklake_metadata where key = 'data_inlining_row_limit')"
    ).fetchall()[0]
    return set(_POSTGRES_TRIGGERS) <= set(names or ()) and set(inlining or ()) == {"0"}


def install(con: duckdb.DuckDBPyConnection, attachment: Attachment) -> None:
    """Install the triggers in the attached catalog, and correct statistics that were written without them.

    Raises:
        duckdb.Error: The catalog is locked, or belongs to another role.
    """
    con.execute(f"call {LAKE}.set_option('data_inlining_row_limit', 0)")
    if attachment.is_embedded:
        _install_in_sqlite(attachment)
    else:
        _install_in_postgres(con)


def _install_in_sqlite(attachment: Attachment) -> None:
    # In a separate process: two copies of SQLite in one process break each other's file locks.
    script = (
        "import sqlite3, sys\n"
        f"con = sqlite3.connect(sys.argv[1], timeout={_LOCK_SECONDS}, isolation_level=None)\n"
        "con.execute('begin immediate')\n"
        "for statement in sys.stdin.read().split('\\0'):\n"
        "    con.execute(statement)\n"
        "con.execute('commit')\n"
        "con.close()\n"
    )
    statements = [statement.format(true=1) for statement in _CORRECTIONS]
    statements += [f"create trigger if not exists {n} {body}" for n, body in _sqlite_triggers().items()]
    file = attachment.settings.lake_dir / "catalog.sqlite"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(file)],
        input="\0".join(statements),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise duckdb.TransactionException(f"{file}: {' '.join(done.stderr.strip().splitlines()[-1:])}")


def _install_in_postgres(con: duckdb.DuckDBPyConnection) -> None:
    statements = ["select pg_advisory_xact_lock(hashtext('groundwork_triggers'))"]
    statements += [statement.format(true="true") for statement in _CORRECTIONS]
    for name, (when, body) in _POSTGRES_TRIGGERS.items():
        table = when.split(" on ")[1].split()[0]
        statements += [
            f"create or replace function {name}() returns trigger language plpgsql as $$begin {body} end$$",
            f"drop trigger if exists {name} on {table}",
            f"create trigger {name} {when} execute function {name}()",
        ]
    text = "; ".join(statements).replace("'", "''")
    con.execute(f"call postgres_execute('{_CATALOG}', '{text}')")


def avoid_statistics(con: duckdb.DuckDBPyConnection) -> None:
    """Stop a reader of a catalog without triggers from skipping files, which is slower but correct."""
    con.execute("set disabled_optimizers = 'filter_pushdown,statistics_propagation'")
