"""The rows of one delivery, as SQL: what every reader gives and every landing takes.

What belongs here: turning delivered cells into values, numbers and reasons. What does not: formats.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from orchestration.ingestion.casts import Cast
from orchestration.ingestion.delivery import TextFacts
from orchestration.sql import identifier, literal


@dataclass(frozen=True)
class Reading:
    """SQL that reads the rows of one delivery.

    ``cells`` gives one column a delivered column that is wanted, ``_skip`` (no row at all) and ``_broken``
    (the row cannot be taken apart); ``casts`` make values of them. ``careful_cells`` and
    ``careful_casts`` do the same from the delivered text, with ``_raw_text``: they cost more, and can tell
    what is wrong with a row. ``ordinal`` numbers the rows from 1. Rows that the reader itself refuses
    are in the temporary table ``rejects``.
    """

    label: str
    cells: str
    careful_cells: str
    casts: Mapping[str, Cast]
    careful_casts: Mapping[str, Cast]
    new_columns: tuple[str, ...]
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
        inner, source = self._values(self.casts), self.cells
        if careful:
            inner = f"{self._values(self.careful_casts)}, _raw_text, {self.reasons()} as _reasons"
            source = self.careful_cells
        if self.is_numbered_by_scan:
            return f"select *, {self.ordinal} as _n from ({inner} from ({source}))"
        return f"{inner}, {self.ordinal} as _n from ({source})"

    @property
    def is_numbered_by_scan(self) -> bool:
        """Whether rows are counted while they are read, which one thread has to do."""
        return self.ordinal.startswith("row_number")

    def _values(self, casts: Mapping[str, Cast]) -> str:
        values = [f"{cast.value} as {identifier(name)}" for name, cast in casts.items()]
        bad = ["_broken", *(c.is_bad for c in casts.values() if c.is_bad != "false")]
        if self.facts is not None and self.facts.has_nul:
            bad += [f"coalesce(contains({identifier(n)}::varchar, chr(0)), false)" for n in casts]
        return f"select {', '.join(values)}, {' or '.join(bad)} as _bad, _skip"

    @property
    def expected_rows(self) -> int | None:
        """Rows of the delivery if each is on a line of its own; None where nothing tells."""
        return None if self.facts is None else self.facts.lines - self.header_lines

    def refused(self, con: duckdb.DuckDBPyConnection) -> int:
        """How many faults the reader has met since they were last forgotten."""
        if self.rejects is None:
            return 0
        return int(con.execute(f"select count(*) from {self.rejects}").fetchall()[0][0])

    def forget_rejects(self, con: duckdb.DuckDBPyConnection) -> None:
        """Drop what the last scans refused, so that the next one's rejects are its own."""
        if self.rejects is not None:
            con.execute(f"drop table if exists {self.rejects}")
            con.execute(f"drop table if exists {self.rejects.replace('_rejects', '_scans')}")

    def reasons(self) -> str:
        """A list of ``{column, reason}`` of every fault of a row."""
        nul = self.facts is not None and self.facts.has_nul
        parts = ["case when _broken then {'c': null::varchar, 'r': 'not one whole JSON object'} end"]
        for name, cast in self.careful_casts.items():
            c, key = identifier(name), literal(name)
            if cast.is_bad != "false":
                text = f"{c}::varchar" if cast.found is None else f"coalesce({cast.found}, {c}::varchar)"
                text = literal("***") if name in self.masked else text
                found = f"{literal(f'{name}: found ')} || chr(39) || {text} || chr(39)"
                why = f"{found} || {literal(f', expected {cast.declared}')}"
                parts.append(f"case when {cast.is_bad} then {{'c': {key}, 'r': {why}}} end")
            if nul:
                parts.append(f"case when contains({c}, chr(0)) then {{'c': {key}, 'r': 'a NUL byte'}} end")
        return f"list_filter([{', '.join(parts)}], lambda x: x is not null)"
