"""One scan of the predictions: how often which values stand in every column, by version and day.

What belongs here: the histograms of a window, counted by the bins of the model's own profile. What does
not: how far they are from it (``shift``, ``drift``).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from orchestration.learning.profile import ColumnProfile
from orchestration.sql import identifier, listing, literal

Floats = NDArray[np.float64]
SCORE = "score"
_ULPS = 4
"""Decimals become doubles that may be so many last digits apart, by the way that they are read."""


@dataclass(frozen=True)
class Counted:
    """The rows of a window in one column, days by bins.

    The bins are those of the profile, and last one for null; ``outside`` are numbers beyond the least and the
    greatest of the profile, or texts that are none of its values.
    """

    by_day: Floats
    outside: int

    @property
    def rows(self) -> int:
        """Rows, null or not."""
        return int(self.by_day.sum())

    @property
    def nulls(self) -> int:
        """Rows without a value."""
        return int(self.by_day[:, -1].sum())


@dataclass(frozen=True)
class CountedDays(Counted):
    """The same with the day of each line, so that a part of the days can be looked at."""

    days: tuple[date, ...]
    outside_by_day: tuple[int, ...]

    def between(self, first: date, last: date) -> Counted:
        """The days from ``first`` to ``last``, both included."""
        inside = slice(bisect_left(self.days, first), bisect_right(self.days, last))
        return Counted(self.by_day[inside], sum(self.outside_by_day[inside]))


def reference_counts(profile: ColumnProfile) -> Floats:
    """The profile's counts, and last that of null."""
    return np.array([*profile.counts, profile.nulls], dtype=np.float64)


def day_sql(instant: str, timezone: str) -> str:
    """The day of an instant on the clock of a place."""
    return f"timezone({literal(timezone)}, {identifier(instant)})::date"


def count_columns(
    con: duckdb.DuckDBPyConnection, rows: str, day: str, profiles: Mapping[str, ColumnProfile]
) -> dict[str, CountedDays]:
    """Every column counted by its profile's bins, in one scan.

    Args:
        con: A connection.
        rows: A relation, as it may stand after ``from``.
        day: SQL of the day of a row.
        profiles: The profile of each column, by the column's name in ``rows``.

    Returns:
        What was counted, by column; without rows there are no days.

    Raises:
        duckdb.Error: There is no such column.
    """
    parts = [_Part(name, profile) for name, profile in profiles.items()]
    values = ", ".join(f"{part.value} as v{n}" for n, part in enumerate(parts))
    counts = ", ".join(sql for n, part in enumerate(parts) for sql in part.aggregates(f"v{n}"))
    found = con.execute(
        f"select day, count(*), {counts} from (select {day} as day, {values} from {rows}) group by day "
        "order by day"
    ).fetchall()
    days = tuple(row[0] for row in found)
    counted, place = {}, 2
    for part in parts:
        width = len(part.aggregates("v"))
        told = [part.read(int(row[1]), row[place : place + width]) for row in found]
        bins = len(part.profile.counts) + 1
        outside = tuple(count for _, count in told)
        lines = np.array([line for line, _ in told], dtype=np.float64).reshape(len(told), bins)
        counted[part.name] = CountedDays(lines, sum(outside), days, outside)
        place += width
    return counted


class _Part:
    """One column: what is selected of it, and how what comes back is read."""

    def __init__(self, name: str, profile: ColumnProfile) -> None:
        self.name = name
        self.profile = profile
        column = identifier(name)
        self.value, self.aggregates, self._read = {
            # As in the encoding, a value is a finite number or missing.
            "number": (
                f"case when isfinite({column}::double) then {column}::double end",
                self._of_number,
                self._read_number,
            ),
            "flag": (column, self._of_flag, self._read_values),
            "category": (column, self._of_category, self._read_values),
        }[profile.kind]

    def read(self, rows: int, cells: Sequence[Any]) -> tuple[list[int], int]:
        """The counts of a day's bins, null last, and how many values lie outside."""
        bins, outside = self._read(cells)
        known = int(cells[0])
        return [*bins, rows - known], outside

    def _edges(self) -> list[float]:
        return [edge + _ULPS * float(np.spacing(abs(edge))) for edge in self.profile.edges]

    def _of_number(self, value: str) -> list[str]:
        made = [f"count({value})"]
        if self.profile.edges:
            edges = listing(repr(edge) for edge in self._edges())
            made.append(f"histogram({value}, {edges}::double[])")
        if self.profile.low is not None and self.profile.high is not None:
            low = self.profile.low - _ULPS * float(np.spacing(abs(self.profile.low)))
            high = self.profile.high + _ULPS * float(np.spacing(abs(self.profile.high)))
            made.append(f"count_if({value} < '{low!r}'::double or {value} > '{high!r}'::double)")
        return made

    def _read_number(self, cells: Sequence[Any]) -> tuple[list[int], int]:
        if self.profile.low is None:  # Nothing but nulls was there: every value is new.
            return [int(cells[0])], int(cells[0])
        outside = int(cells[-1] or 0)  # Of nulls alone DuckDB counts null.
        if not self.profile.edges:
            return [int(cells[0])], outside
        found = {} if cells[1] is None else dict(cells[1])
        bins = [int(found.get(edge, 0)) for edge in self._edges()]
        return [*bins, int(cells[0]) - sum(bins)], outside

    def _of_flag(self, value: str) -> list[str]:
        return [f"count({value})", f"count_if(not {value})", f"count_if({value})"]

    def _of_category(self, value: str) -> list[str]:
        # Whatever is none of the values is counted under the empty text, which may be one of them.
        return [
            f"count({value})",
            *([f"count_if({value} = '')"] if "" in self.profile.values else []),
            f"histogram_exact({value}, {listing(v for v in self.profile.values if v)}::varchar[])",
        ]

    def _read_values(self, cells: Sequence[Any]) -> tuple[list[int], int]:
        known = int(cells[0])
        if self.profile.kind == "flag":
            bins = [int(cells[1] or 0), int(cells[2] or 0)]
        else:
            found = {} if cells[-1] is None else dict(cells[-1])
            found[""] = int(cells[1] or 0) if "" in self.profile.values else 0
            bins = [int(found.get(value, 0)) for value in self.profile.values]
        others = known - sum(bins)
        return [*bins, others], others
