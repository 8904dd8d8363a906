"""What a model's inputs and scores looked like when it was made, for telling later whether they still do.

What belongs here: the reference profile of columns. What does not: comparing with it
(``orchestration.monitoring``).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestration.learning.encoding import MatrixEncoding
from orchestration.learning.statistics.persistence import persistence

Floats = NDArray[np.float64]

BINS = 20
VERSION = 1
"""Increment it when the same rows give a different profile: it is part of a model's definition."""


@dataclass(frozen=True)
class ColumnProfile:
    """How often which values stand in a column.

    Of a number: ``counts[i]`` values lie above ``edges[i - 1]`` and at or below ``edges[i]``; the first has
    no lower and the last no upper edge, so there is one count more than edges. Of a flag or category: a
    count for each of ``values`` and, last, one for all others.
    """

    name: str
    kind: str
    rows: int
    nulls: int
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values; what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "ColumnProfile":
        """From ``as_json``."""
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
        return cls(**given)


def profile_number(name: str, values: Floats, *, bins: int = BINS) -> ColumnProfile:
    """The profile of numbers, NaN counting as null; edges part the values into equally many."""
    known = values[~np.isnan(values)]
    if not len(known):
        return ColumnProfile(name, "number", len(values), len(values), (0,))
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return ColumnProfile(
        name,
        "number",
        len(values),
        len(values) - len(known),
        tuple(int(n) for n in counts),
        edges=tuple(float(e) for e in edges),
        low=float(known.min()),
        high=float(known.max()),
    )


def profile_texts(name: str, kind: str, column: pa.ChunkedArray, values: tuple[str, ...]) -> ColumnProfile:
    """The profile of texts: a count for each of ``values``, and one for all others."""
    found = {c["values"]: c["counts"] for c in pc.value_counts(column).to_pylist()}
    nulls = found.pop(None, 0)
    named = [int(found.pop(value, 0)) for value in values]
    return ColumnProfile(
        name, kind, len(column), int(nulls), (*named, int(sum(found.values()))), values=values
    )


def persistence_of_inputs(
    encoding: MatrixEncoding,
    profiles: Mapping[str, ColumnProfile],
    matrix: Floats,
    days: NDArray[Any],
    length: int,
) -> dict[str, float]:
    """How much the days of every column hang together, by name, over runs of ``length`` days."""
    found = {}
    for place, column in enumerate(encoding.columns):
        values = matrix[:, place]
        if column.kind == "number":
            values = np.where(
                np.isnan(values), np.nan, np.searchsorted(profiles[column.name].edges, values, side="left")
            )
        # Missing values are in a bin of their own, the first.
        found[column.name] = persistence(np.nan_to_num(values + 1).astype(np.int64), days, length)
    return found


def profile_inputs(encoding: MatrixEncoding, rows: pa.Table, matrix: Floats) -> dict[str, ColumnProfile]:
    """The profile of every column that a model takes, by name."""
    made = {}
    for place, column in enumerate(encoding.columns):
        if column.kind == "number":
            made[column.name] = profile_number(column.name, matrix[:, place])
        else:
            texts, values = rows.column(column.name), column.categories
            if column.kind == "flag":
                texts, values = pc.cast(texts, pa.string()), ("false", "true")
            made[column.name] = profile_texts(column.name, column.kind, texts, values)
    return made
