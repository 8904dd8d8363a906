"""The rows of one delivery, as SQL: what every reader gives and every landing takes.

What belongs here: turning delivered cells into values, numbers and faults. What does not: formats.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import duckdb

from orchestration.ingestion.casts import CELL, Cast
from orchestration.ingestion.delivery import TextFacts
from orchestration.ingestion.newlines import count_lines_without_record
from orchestration.sql import identifier, literal

How = Literal["strict", "rejecting"]
ROW_NUMBER = "_gw_row"
"""The number of a row of a Parquet file, from 0."""


@dataclass(frozen=True)
class CellGroup:
    """Columns whose cells get the same check: a condition on ``_cell``, and what was expected."""

    is_bad: str
    declared: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """SQL that reads the rows of one delivery.

    ``cells`` has a column for each wanted delivered column, ``_gw_skip`` (not a row) and ``_gw_broken`` (the
    row cannot be split into cells); ``casts`` turn cells into values. A row of another shape ends the scan of
    ``cells``; ``rejecting_cells`` puts it into the temporary table ``rejects``. ``careful_cells`` does so
    too, and has the delivered columns as ``_gw_d0`` and so on, from which ``raw_text`` builds the row's text.
    ``ordinal`` numbers the rows from 1. ``types`` are the types of the cells; text if absent.
    """

    label: str
    cells: str
    careful_cells: str
    casts: Mapping[str, Cast]
    raw_text: str
    delivered: int
    """How many of ``_gw_d0`` and so on there are."""
    rejecting_cells: str = ""
    types: Mapping[str, str] = field(default_factory=dict)
    new_columns: tuple[str, ...] = ()
    ordinal: str = "row_number() over ()"
    rejects: str | None = None
    reject_columns: tuple[str, ...] = ()
    path: Path | None = None
    facts: TextFacts | None = None
    delimiter: str | None = None
    header_lines: int = 0
    rows_in_file: int | None = None
    """The number of rows, if the file itself has it."""
    masked: frozenset[str] = frozenset()
    """Classified columns: their values are in no reason."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that land, declared ones first."""
        return tuple(self.casts)

    def rows(self, how: How = "strict") -> str:
        """A select of values by column name, ``_gw_n`` (ordinal), ``_gw_bad`` and ``_gw_skip``.

        Casts come before the numbering: nothing can move a filter below it, and so each runs once.
        """
        source = self.cells if how == "strict" else self.rejecting_cells or self.cells
        more = [] if self.is_numbered_by_scan else [ROW_NUMBER]
        columns = ", ".join([*map(identifier, self.casts), f"{self._is_bad()} as _gw_bad", "_gw_skip", *more])
        values = self._values(source, more)
        return f"select *, {self.ordinal} as _gw_n from (select {columns} from ({values}))"

    def careful_rows(self) -> str:
        """``rows`` with ``_gw_broken`` and the columns that ``raw_text`` and ``fault_columns`` read."""
        source = f"select *, {self.ordinal} as _gw_n from ({self.careful_cells})"
        more = ["_gw_broken", *self._delivered(), "_gw_n"]
        columns = ", ".join(
            [*map(identifier, self.casts), f"{self._is_bad()} as _gw_bad", "_gw_skip", *self._cells(), *more]
        )
        return f"select {columns} from ({self._values(source, more)})"

    def other_rows(self, good: str, names: Collection[str]) -> str:
        """``careful_rows`` without those of some numbers, and with the values of a few columns only.

        Args:
            good: A select of the numbers of rows to leave out.
            names: The columns.
        """
        source = f"select *, {self.ordinal} as _gw_n from ({self.careful_cells})"
        return self._values(
            f"from ({source}) where _gw_n not in ({good})", ["_gw_broken", *self._delivered(), "_gw_n"], names
        )

    @property
    def is_numbered_by_scan(self) -> bool:
        """Whether rows are counted while they are read, which one thread has to do."""
        return self.ordinal.startswith("row_number")

    @property
    def has_nul(self) -> bool:
        """Whether a text file has a NUL byte."""
        return self.facts is not None and self.facts.has_nul

    def _values(self, source: str, more: Sequence[str], names: Collection[str] | None = None) -> str:
        """Values by column name, and the cells that they come from as ``_gw_c0`` and so on.

        Values are checked one level above: in one level the planning time would grow with the square of the
        number of columns.
        """
        values = [
            f"{cast.value.replace(CELL, identifier(name))} as {identifier(name)}"
            for name, cast in self.casts.items()
            if names is None or name in names
        ]
        cells = [
            f"{identifier(name)} as {cell}" for name, cell in zip(self.casts, self._cells(), strict=True)
        ]
        flags = ["_gw_skip"] if "_gw_broken" in more else ["_gw_skip", "_gw_broken"]
        return f"select {', '.join([*values, *cells, *flags, *more])} from ({source})"

    def _is_bad(self) -> str:
        bad = ["_gw_broken"]
        for i, (name, cast) in enumerate(self.casts.items()):
            if cast.is_bad != "false":
                by_value = cast.is_bad.replace(cast.value, "\0")
                bad.append(by_value.replace(CELL, f"_gw_c{i}").replace("\0", identifier(name)))
        if self.has_nul:
            bad += [f"coalesce(contains(_gw_c{i}::varchar, chr(0)), false)" for i, _ in enumerate(self.casts)]
        return " or ".join(bad)

    def _cells(self) -> list[str]:
        return [f"_gw_c{i}" for i in range(len(self.casts))]

    def _delivered(self) -> list[str]:
        return [f"_gw_d{i}" for i in range(self.delivered)]

    def fault_columns(self) -> list[str]:
        """Of careful rows: the cells of each group as a list, ``_g0`` and so on."""
        cells = dict(zip(self.casts, self._cells(), strict=True))
        return [
            f"[{', '.join(cells[name] for name in group.columns)}] as _g{i}"
            for i, group in enumerate(self.groups())
        ]

    def groups(self) -> list[CellGroup]:
        """The columns that can have faults, grouped so that SQL is per kind of column, not per column."""
        found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for name, cast in self.casts.items():
            if cast.is_bad != "false" or self.has_nul:
                found[cast.is_bad, cast.declared, self.types.get(name, "")].append(name)
        return [CellGroup(is_bad, declared, tuple(names)) for (is_bad, declared, _), names in found.items()]

    def expected_rows(self, *, exactly: bool = False) -> int | None:
        """The number of rows of the delivery; None if it is unknown.

        Args:
            exactly: Subtract the lines of a text that are not rows, which reads the file once more.

        Raises:
            IngestFault: A quoted field is never closed.
        """
        if self.facts is None or self.path is None:
            return self.rows_in_file
        lines = self.facts.lines - self.header_lines
        if not exactly:
            return lines
        none = count_lines_without_record(self.path, self.facts.newline, self.delimiter, self.label)
        # Line breaks in the header are not rows in either case.
        return lines - none.blank - none.quoted + self.header_lines - min(self.header_lines, 1)

    def rejected(self, con: duckdb.DuckDBPyConnection) -> int:
        """How many faults the reader has met since they were last forgotten."""
        if self.rejects is None:
            return 0
        return int(con.execute(f"select count(*) from {self.rejects}").fetchall()[0][0])

    def forget_rejects(self, con: duckdb.DuckDBPyConnection) -> None:
        """Drop what the last scans rejected, so that the next one's rejects are its own."""
        if self.rejects is not None:
            con.execute(f"drop table if exists {self.rejects}")
            con.execute(f"drop table if exists {self.rejects.replace('_rejects', '_scans')}")

    def faults_of_cells(self) -> str:
        """A select of ``_gw_n``, ``_at`` (position), ``c`` (column) and ``r`` (reason) from ``_suspects``."""
        position = {name: at for at, name in enumerate(self.casts)}
        broken = "null::varchar as c, 'not one complete JSON object with each key once' as r"
        parts = [f"select _gw_n, -1 as _at, {broken} from _suspects where _gw_broken"]
        for i, group in enumerate(self.groups()):
            positions = ", ".join(str(position[name]) for name in group.columns)
            names = ", ".join(map(literal, group.columns))
            masked = [literal(name) for name in group.columns if name in self.masked]
            text = f"if(c in ({', '.join(masked)}), '***', {CELL}::varchar)" if masked else f"{CELL}::varchar"
            cells = (
                f"(select _gw_n, unnest([{positions}]) as _at, unnest([{names}]) as c, "
                f"unnest(_g{i}) as {CELL} from _suspects where not _gw_broken)"
            )
            expected = literal(f"', expected {group.declared}")
            why = f"c || ': found ''' || {text} || {expected}"
            parts.append(f"select _gw_n, _at, c, {why} as r from {cells} where {group.is_bad}")
            if self.has_nul:
                nul = f"contains({CELL}::varchar, chr(0))"
                parts.append(f"select _gw_n, _at, c, 'a NUL byte' as r from {cells} where {nul}")
        return " union all ".join(parts)
