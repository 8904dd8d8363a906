"""A few of the rows that fail a check, without any classified value.

What belongs here: fetching the sample and masking it. What does not: which columns may be shown
(decided when the contract is read).
"""

import hashlib
import secrets
from collections.abc import Collection
from typing import Any

import dagster as dg
import duckdb

SAMPLE_ROWS = 10

_SALT = secrets.token_bytes(16)
"""New in each process: equal values look equal within a run, and a mask cannot be looked up in a list."""


def mask(value: object) -> str:
    """A stand-in for a value: the same for equal values, telling nothing else."""
    digest = hashlib.blake2b(str(value).encode(), key=_SALT, digest_size=2).hexdigest()
    return f"***{digest}"


def _shown(value: Any) -> str | int | float | bool | None:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def fetch_sample(
    con: duckdb.DuckDBPyConnection, sql: str, shown: Collection[str]
) -> dg.TableMetadataValue | None:
    """The first failing rows in a total order, as a table; None when there is none.

    Args:
        con: An open connection to the lakehouse.
        sql: A ``select`` of the failing rows.
        shown: Names of the columns whose values may be shown; all others are masked. That a value
            is missing is not masked.

    Raises:
        duckdb.Error: The rows cannot be read.
    """
    cursor = con.execute(f"select * from (\n{sql}\n) order by all limit {SAMPLE_ROWS}")
    names = [column[0] for column in cursor.description or ()]
    types = [str(column[1]) for column in cursor.description or ()]
    records = [
        dg.TableRecord(
            {
                name: _shown(value) if value is None or name in shown else mask(value)
                for name, value in zip(names, row, strict=True)
            }
        )
        for row in cursor.fetchall()
    ]
    if not records:
        return None
    columns = [
        dg.TableColumn(name, kind.lower(), description=None if name in shown else "masked: classified")
        for name, kind in zip(names, types, strict=True)
    ]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns=columns))
