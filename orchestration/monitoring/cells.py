"""Predictions put together by day, score, decision and label: all that metrics need to know of them.

A calibrated score has few values, so that millions of rows become thousands of cells, overall and for each
slice in the same scan. Where a score has many, its range is parted finely and each cell has the mean score of
its rows. What belongs here: making cells. What does not: metrics (``metrics``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestration.monitoring.window import IDENTITY
from orchestration.sql import identifier

Floats = NDArray[np.float64]

MANY = 4096
"""From so many different scores on, cells are parts of the score's range, so many over its whole."""
_UNIT = 2**40
"""Scores are added up as whole numbers of this part: sums of doubles depend on their order."""
ALL = ""
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Cells:
    """Rows of equal day, score and decision, an item a cell; days are counted from 1970 on.

    ``positives`` and ``negatives`` are rows with a label, or, where labels are estimated, the expected number
    of rows: they need not be whole.
    """

    days: NDArray[np.int64]
    scores: Floats
    decided: NDArray[np.bool_]
    positives: Floats
    negatives: Floats

    @property
    def rows(self) -> Floats:
        """Rows of each cell."""
        return self.positives + self.negatives

    @property
    def count(self) -> int:
        """Rows of all cells."""
        return round(float(self.rows.sum()))

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """The day of each cell as a number from 0 on without gaps."""
        return np.unique(self.days, return_inverse=True)[1].astype(np.int64)

    @property
    def day_count(self) -> int:
        """Days."""
        return int(self.places.max()) + 1 if len(self.days) else 0

    def between(self, first: date, last: date) -> "Cells":
        """The cells of the days from ``first`` to ``last``, both included."""
        inside = (self.days >= (first - _EPOCH).days) & (self.days <= (last - _EPOCH).days)
        return Cells(
            self.days[inside], self.scores[inside], self.decided[inside], self.positives[inside],
            self.negatives[inside],
        )  # fmt: skip


@dataclass(frozen=True)
class Tally:
    """The cells of a slice: of the rows with a label, and of all with labels as the scores foretell."""

    labelled: Cells
    estimated: Cells

    @property
    def rows(self) -> int:
        """All rows."""
        return self.estimated.count

    def between(self, first: date, last: date) -> "Tally":
        """The cells of the days from ``first`` to ``last``, both included."""
        return Tally(self.labelled.between(first, last), self.estimated.between(first, last))


@dataclass(frozen=True)
class Slice:
    """A value of a column, as text; without a column all rows."""

    column: str
    value: str | None

    @property
    def name(self) -> str:
        """``column=value``, or the empty text for all rows."""
        return ALL if not self.column else f"{self.column}={'null' if self.value is None else self.value}"


def has_many_scores(con: duckdb.DuckDBPyConnection, rows: str) -> bool:
    """Whether the cells of a relation of predictions are parts of the score's range."""
    return bool(con.execute(f"select approx_count_distinct(score) from {rows}").fetchall()[0][0] >= MANY)


def tally(
    con: duckdb.DuckDBPyConnection, rows: str, day: str, labels: str, columns: Sequence[str]
) -> dict[Slice, Tally]:
    """The cells of all rows, and of each value of each column, in one scan.

    Args:
        con: A connection.
        rows: A relation of predictions.
        day: SQL of the day of a row.
        labels: A relation of what tells a prediction, and ``label``.
        columns: By whose values rows are told apart.

    Returns:
        The slices, all rows first, then by column and value; none without rows.
    """
    many = has_many_scores(con, rows)
    key = f"least(floor(score * {MANY}), {MANY - 1})" if many else "score"
    told = (
        f"sum(round(score * {_UNIT})::hugeint)::double / {_UNIT} / count(*)" if many else "any_value(score)"
    )
    slices = [f"{identifier(c)}::varchar as s{n}" for n, c in enumerate(columns)]
    chosen = ", ".join([f"{day} as day", f"{key} as cell", "score", "decision", "label", *slices])
    base = ["day", "cell", "decision", "label"]
    sets = ", ".join(
        f"({', '.join([*base, *more])})" for more in ([], *([f"s{n}"] for n in range(len(columns))))
    )
    which = [f"grouping(s{n}) = 0" for n in range(len(columns))]
    number = (
        "case " + "".join(f"when {w} then {n} " for n, w in enumerate(which)) + "end" if which else "null"
    )
    value = f"coalesce({', '.join(f's{n}' for n in range(len(columns)))})" if which else "null"
    found = con.execute(
        f"select {number} as number, {value} as value, day, {told} as score, decision, label, count(*) as n "
        f"from (select {chosen} from {rows} left join {labels} using ({', '.join(IDENTITY)})) "
        f"group by grouping sets ({sets}) order by number nulls first, value nulls first, day, score, "
        "decision, label"
    ).to_arrow_table()
    return {s: _tally(part) for s, part in _parts(found, columns)}


def _parts(found: pa.Table, columns: Sequence[str]) -> list[tuple[Slice, pa.Table]]:
    """The rows of each slice, which stand together."""
    keys = list(zip(found.column("number").to_pylist(), found.column("value").to_pylist(), strict=True))
    starts = [n for n, key in enumerate(keys) if n == 0 or key != keys[n - 1]]
    return [
        (
            Slice("", None) if keys[start][0] is None else Slice(columns[keys[start][0]], keys[start][1]),
            found.slice(start, end - start),
        )
        for start, end in zip(starts, [*starts[1:], len(keys)], strict=True)
    ]


def _tally(part: pa.Table) -> Tally:
    def numbers(name: str) -> Floats:
        return np.asarray(part.column(name).cast(pa.float64()))

    days = np.asarray(part.column("day").cast(pa.int32())).astype(np.int64)
    scores, rows = numbers("score"), numbers("n")
    decided = np.asarray(
        part.column("decision").combine_chunks().to_numpy(zero_copy_only=False), dtype=np.bool_
    )
    label = part.column("label").combine_chunks()
    known = ~np.asarray(label.is_null())
    positive = np.asarray(label.fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)
    return Tally(
        Cells(
            days[known], scores[known], decided[known], (rows * positive)[known], (rows * ~positive)[known]
        ),
        Cells(days, scores, decided, rows * scores, rows * (1 - scores)),
    )
