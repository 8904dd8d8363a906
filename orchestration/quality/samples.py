"""A few of the rows that fail a check, without any classified value.

What belongs here: getting the sample and masking it. What does not: which columns may be shown
(decided when the contract is read).
"""

import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Sample:
    """A few rows as they are: names and types of their columns, and their values. Not for anyone's eyes."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]

    def shown(self, names: Collection[str]) -> dg.TableMetadataValue | None:
        """The rows as a table; None when there is none.

        Args:
            names: Columns whose values may be shown; all others are masked. That a value is missing
                is not masked.
        """
        if not self.rows:
            return None
        told = [name for name, _ in self.columns]
        records = [
            dg.TableRecord(
                {
                    name: _shown(value) if value is None or name in names else mask(value)
                    for name, value in zip(told, row, strict=True)
                }
            )
            for row in self.rows
        ]
        columns = [
            dg.TableColumn(name, kind.lower(), description=None if name in names else "masked: classified")
            for name, kind in self.columns
        ]
        return dg.MetadataValue.table(records, schema=dg.TableSchema(columns=columns))


def fetch_sample(con: duckdb.DuckDBPyConnection, sql: str) -> Sample:
    """The first failing rows that the database comes upon, in a total order among themselves.

    Not the first of all: to find those would sort what may be the whole table.

    Args:
        con: An open connection to the lakehouse.
        sql: A ``select`` of the failing rows.

    Raises:
        duckdb.Error: The rows cannot be read.
    """
    cursor = con.execute(f"select * from (select * from (\n{sql}\n) limit {SAMPLE_ROWS}) order by all")
    columns = tuple((str(column[0]), str(column[1])) for column in cursor.description or ())
    return Sample(columns, tuple(cursor.fetchall()))


class SamplingConnection:
    """A connection that keeps a sample of each query whose rows Soda counts.

    A contract's own query may take most of the contract's time: it runs once, for the count and the
    sample. Everything else goes to the connection as it is.
    """

    _COUNTED = re.compile(
        r'(with\s+"?failed_rows"? as \((.*)\)\s*select\s+)count\(\*\)(\s+from\s+"?failed_rows"?\s*;?\s*)',
        re.DOTALL | re.IGNORECASE,
    )

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self.plain = con
        self._query: str | None = None
        self.samples: dict[str, Sample] = {}
        """The sample of each query, by its text."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def execute(self, sql: str, *arguments: Any) -> Any:
        """Run a statement; one that counts failing rows brings some of them too."""
        counted = self._COUNTED.fullmatch(sql)
        self._query = None
        if counted is None:
            return self.plain.execute(sql, *arguments)
        before, query, after = counted.groups()
        try:
            self.plain.execute(f"{before}count(*), min(failed_rows, {SAMPLE_ROWS}){after}")
        except duckdb.BinderException:  # rows that cannot be compared, or a query that is wrong by itself
            return self.plain.execute(sql, *arguments)
        self._query = query.strip()
        return self

    def fetchall(self) -> Sequence[tuple[Any, ...]]:
        """The statement's rows, as if it had been run as it was."""
        rows: list[tuple[Any, ...]] = self.plain.fetchall()
        if self._query is None:
            return rows
        (_, first, *_), described = rows[0], self.plain.description[1][1]
        columns = tuple((name, str(kind)) for name, kind in described.children[0][1].children)
        self.samples[self._query] = Sample(columns, tuple(tuple(row.values()) for row in first or ()))
        return [row[:1] for row in rows]

    @property
    def description(self) -> Any:
        """The columns of what ``fetchall`` gives."""
        return self.plain.description[:1] if self._query is not None else self.plain.description
