"""The rows of one delivery, as SQL: what every reader gives and every landing takes.

What belongs here: turning delivered cells into values, numbers and reasons. What does not: formats.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from orchestration.ingestion.casts import Cast
from orchestration.ingestion.delivery import TextFacts
from orchestration.ingestion.sql import identifier, literal


@dataclass(frozen=True)
class Part:
    """A share of a file's rows: those after the first ``before``."""

    cells: str
    rejects: str
    before: int


@dataclass(frozen=True)
class Reading:
    """SQL that reads the rows of one delivery.

    ``cells`` gives one column a delivered column that is wanted (text, or typed for Parquet and
    databases), ``_skip`` (no row at all), ``_broken`` (the row cannot be taken apart) and, when careful,
    ``_raw_text``. ``ordinal`` numbers the rows from 1. Rows that the reader itself refuses are in the
    temporary table ``rejects``.
    """

    label: str
    cells: str
    careful_cells: str
    casts: Mapping[str, Cast]
    new_columns: tuple[str, ...]
    parts: tuple["Part", ...] = ()
    """The same rows as ``cells`` in several scans that run side by side; empty where one has to do."""
    ordinal: str = "row_number() over ()"
    rejects: str | None = None
    reject_columns: tuple[str, ...] = ()
    path: Path | None = None
    facts: TextFacts | None = None
    header_lines: int = 0
    masked: frozenset[str] = frozenset()
    """Classified columns: their values are in no reason."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that land, declared ones first."""
        return tuple(self.casts)

    def rows(self, *, careful: bool = False) -> str:
        """A select of values by column name, ``_n`` (ordinal), ``_bad``, and when careful ``_raw_text``.

        Casts come before the numbering: nothing can move a filter below it, and so each runs once.
        """
        extra = f", _raw_text, {self.reasons()} as _reasons" if careful else ""
        inner = f"{self._values()}{extra}"
        source = self.careful_cells if careful else self.cells
        if self.ordinal.startswith("row_number"):
            return f"select *, {self.ordinal} as _n from ({inner} from ({source}))"
        return f"{inner}, {self.ordinal} as _n from ({source})"

    def _values(self) -> str:
        nul = self.facts is not None and self.facts.has_nul
        values = [f"{cast.value} as {identifier(name)}" for name, cast in self.casts.items()]
        bad = ["_broken", *(c.is_bad for c in self.casts.values() if c.is_bad != "false")]
        if nul:
            bad += [f"coalesce(contains({identifier(n)}, chr(0)), false)" for n in self.casts]
        return f"select {', '.join(values)}, {' or '.join(bad)} as _bad, _skip"

    @property
    def expected_rows(self) -> int | None:
        """Rows of the delivery if each is on a line of its own; None where nothing tells."""
        return None if self.facts is None else self.facts.lines - self.header_lines

    def refused(self, con: duckdb.DuckDBPyConnection) -> int:
        """How many faults the reader has met since they were last forgotten."""
        return sum(
            int(con.execute(f"select count(*) from {name}").fetchall()[0][0])
            for name in _existing(con, self._reject_tables)
        )

    def forget_rejects(self, con: duckdb.DuckDBPyConnection) -> None:
        """Drop what the last scans refused, so that the next one's rejects are its own."""
        for name in self._reject_tables:
            con.execute(f"drop table if exists {name}")
            con.execute(f"drop table if exists {name.replace('_rejects', '_scans')}")

    @property
    def _reject_tables(self) -> list[str]:
        return [*([self.rejects] if self.rejects else []), *(p.rejects for p in self.parts)]

    def rows_side_by_side(self) -> str:
        """The rows of ``rows()``, read by as many threads as there are parts; in no order.

        Numbering rows makes a scan single-threaded. Where every row is a line, several scans that each
        begin at a known line can number their own share.
        """
        if not self.parts:
            return self.rows()
        return " union all ".join(
            f"(select *, row_number() over () + {part.before} as _n from ({self._values()} "
            f"from ({part.cells})))"
            for part in self.parts
        )

    def reasons(self) -> str:
        """A list of ``{column, reason}`` of every fault of a row."""
        nul = self.facts is not None and self.facts.has_nul
        parts = ["case when _broken then {'c': null::varchar, 'r': 'not one whole JSON object'} end"]
        for name, cast in self.casts.items():
            c, key = identifier(name), literal(name)
            if cast.is_bad != "false":
                text = literal("***") if name in self.masked else f"{c}::varchar"
                found = f"{literal(f'{name}: found ')} || chr(39) || {text} || chr(39)"
                why = f"{found} || {literal(f', expected {cast.declared}')}"
                parts.append(f"case when {cast.is_bad} then {{'c': {key}, 'r': {why}}} end")
            if nul:
                parts.append(f"case when contains({c}, chr(0)) then {{'c': {key}, 'r': 'a NUL byte'}} end")
        return f"list_filter([{', '.join(parts)}], lambda x: x is not null)"


def _existing(con: duckdb.DuckDBPyConnection, names: list[str]) -> list[str]:
    """Those of the temporary tables that a scan has made."""
    found = con.execute("select table_name from duckdb_tables() where temporary").fetchall()
    return [name for name in names if (name,) in found]
