"""The project's models over rows that a test makes up, in memory."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb

from tests.integration.point_in_time.project import BUILT, Table, create_statement

Row = dict[str, Any]


class Lake:
    """An empty lake with every table of the project, typed as declared."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables
        self._con = duckdb.connect(config={"threads": 1})
        self._con.execute("set TimeZone = 'UTC'")
        self._con.execute("attach ':memory:' as lake")
        for schema in sorted({table.schema for table in tables.values()}):
            self._con.execute(f"create schema lake.{schema}")
        for table in tables.values():
            self._con.execute(create_statement(table))

    def close(self) -> None:
        self._con.close()

    def fill(self, name: str, rows: Iterable[Row]) -> None:
        """Give a table these rows and no others; a column that a row lacks is null."""
        table = self._tables[name]
        self._con.execute(f"delete from {table.address}")
        values = [[row.get(column) for column in table.columns] for row in rows]
        if values:
            marks = ", ".join("?" * len(table.columns))
            self._con.executemany(f"insert into {table.address} values ({marks})", values)

    def build(self, name: str) -> list[Row]:
        """What a model gives for the whole of history."""
        return self._fetch(self._tables[name].select)

    def run_window(self, name: str, start: datetime, end: datetime) -> None:
        """Run a model for a window: its table takes the rows in by the model's incremental strategy."""
        select, merge = self._tables[name].window(start, end)
        self._con.execute(f"create or replace temp table {BUILT} as ({select})")
        self._con.execute("begin")
        self._con.execute(merge)
        self._con.execute("commit")

    def stage(self, name: str) -> None:
        """Replace a table's rows by what its model gives for the whole of history."""
        table = self._tables[name]
        self._con.execute(f"delete from {table.address}")
        self._con.execute(f"insert into {table.address} {table.select}")

    def rows(self, name: str) -> list[Row]:
        return self._fetch(f"from {self._tables[name].address}")

    def _fetch(self, query: str) -> list[Row]:
        result = self._con.execute(query)
        names = [column[0] for column in result.description]
        return [dict(zip(names, map(_in_utc, values), strict=True)) for values in result.fetchall()]


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
