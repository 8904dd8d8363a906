"""Whether what was served is what history says: the values of online answers against a point-in-time join.

What belongs here: the comparison, bit for bit. What does not: asking either side.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestration.feature_store.online.reading import OnlineResponse
from orchestration.feature_store.online.verification import same

_SAME_SIZE = {pa.float64(): pa.int64(), pa.float32(): pa.int32()}


@dataclass(frozen=True)
class Parity:
    """How many values were compared, and how many differ, by column; ``examples`` are rows that do."""

    compared: int
    differing: dict[str, int]
    examples: dict[str, list[int]]


def _bits(column: pa.Array) -> pa.Array:
    """The column, floats as integers of the same bits: NaN equals itself, and zeros differ by their sign."""
    kind = _SAME_SIZE.get(column.type)
    return column if kind is None else column.view(kind)


def _differing(one: pa.Array, other: pa.Array) -> list[int]:
    """The rows in which two columns of one type differ; null equals null."""
    if pa.types.is_nested(one.type):
        pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
        return [row for row, (a, b) in enumerate(pairs) if not same(a, b)]
    equal = pc.fill_null(pc.equal(_bits(one), _bits(other)), False)
    both_null = pc.and_(pc.is_null(one), pc.is_null(other))
    unlike = pc.invert(pc.or_(equal, both_null))
    found: list[int] = pc.indices_nonzero(unlike).to_pylist()
    return found


def compare_answers(offline: pa.Table, online: Sequence[OnlineResponse], examples: int = 3) -> Parity:
    """Compare historical features with answers to the same questions, one after the other.

    Args:
        offline: Features under the names that they have in the answers; as many rows as all answers.
        online: Answers whose rows, in order, are those of ``offline``.
        examples: How many differing rows of a column to name.

    Raises:
        KeyError: An answer has no column of that name.
        pyarrow.ArrowInvalid: An answer has a value that the offline type does not hold, or rows are missing.
    """
    differing: dict[str, int] = {}
    shown: dict[str, list[int]] = {}
    places = [{name: n for n, name in enumerate(answer.feature_names)} for answer in online]
    for name in offline.column_names:
        column: Any = offline.column(name).combine_chunks()
        served: Iterable[Any] = (
            value for answer, at in zip(online, places, strict=True) for value in answer.values[at[name]]
        )
        rows = _differing(column, pa.array(served, column.type))
        if rows:
            differing[name], shown[name] = len(rows), rows[:examples]
    return Parity(offline.num_rows * offline.num_columns, differing, shown)
