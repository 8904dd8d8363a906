"""From columns of a table to the matrix that algorithms take: numbers as they are, texts as codes.

What belongs here: the encoding, which is learnt from the rows trained on and kept with the model, so that
training and serving encode alike. What does not: which columns a model takes (``spec``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestration.learning.algorithms.base import Column
from orchestration.learning.kinds import Kind

Floats = NDArray[np.float64]

_NAN = float("nan")
OTHER = 0
"""The code of every text that is no category of its own."""


@dataclass(frozen=True)
class EncodedColumn:
    """One column: ``categories`` are the texts whose codes are 1, 2 and so on; empty for a number."""

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class MatrixEncoding:
    """The columns in the order of the matrix."""

    columns: tuple[EncodedColumn, ...]

    @property
    def matrix_columns(self) -> tuple[Column, ...]:
        """As an algorithm is told."""
        return tuple(
            Column(c.name, len(c.categories) + 1 if c.kind == "category" else 0) for c in self.columns
        )

    def matrix(self, table: pa.Table) -> Floats:
        """The matrix of a table's rows; a missing value is NaN.

        Raises:
            KeyError: The table lacks a column.
        """
        made = np.empty((table.num_rows, len(self.columns)), order="C")
        for place, column in enumerate(self.columns):
            made[:, place] = _encoded(table.column(column.name), column)
        return made

    def matrix_of_values(self, columns: Mapping[str, Sequence[Any]], count: int) -> Floats:
        """The same of Python's values, column by column: for a few rows, twenty times as quick.

        Raises:
            KeyError: A column is missing.
        """
        made = np.empty((count, len(self.columns)), order="C")
        for place, (column, codes) in enumerate(zip(self.columns, self._codes, strict=True)):
            values = columns[column.name]
            if column.kind == "category":
                made[:, place] = [_NAN if v is None else codes.get(v, OTHER) for v in values]
            elif any(type(v) is Decimal for v in values):
                made[:, place] = _encoded(pa.chunked_array([pa.array(values)]), column)
            else:
                made[:, place] = [_NAN if v is None else v for v in values]
        return made

    @cached_property
    def _codes(self) -> tuple[dict[str, int], ...]:
        return tuple({text: n for n, text in enumerate(c.categories, start=1)} for c in self.columns)

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps(
            [
                {"name": c.name, "kind": c.kind} | ({"categories": c.categories} if c.categories else {})
                for c in self.columns
            ],
            indent=1,
            ensure_ascii=False,
        )

    @classmethod
    def from_text(cls, text: str) -> "MatrixEncoding":
        """From its JSON."""
        return cls(
            tuple(
                EncodedColumn(c["name"], c["kind"], tuple(c.get("categories", ()))) for c in json.loads(text)
            )
        )


def fit_encoding(
    columns: Sequence[tuple[str, Kind]], train: pa.Table, *, max_categories: int, min_rows: int
) -> MatrixEncoding:
    """The encoding of columns, by the rows trained on.

    A text is a category if it stands on at least ``min_rows`` rows and is among the ``max_categories`` most
    frequent; of equally frequent ones the first in order is.
    """
    made = []
    for name, kind in columns:
        categories: tuple[str, ...] = ()
        if kind == "category":
            counted = [
                (-int(found["counts"]), str(found["values"]))
                for found in pc.value_counts(train.column(name)).to_pylist()
                if found["values"] is not None and found["counts"] >= min_rows
            ]
            categories = tuple(sorted(text for _, text in sorted(counted)[:max_categories]))
        made.append(EncodedColumn(name, kind, categories))
    return MatrixEncoding(tuple(made))


def _encoded(values: pa.ChunkedArray, column: EncodedColumn) -> Floats:
    if column.kind == "category":
        codes = pc.index_in(values, value_set=pa.array(column.categories, pa.string()), skip_nulls=True)
        codes = pc.add(pc.fill_null(codes, OTHER - 1), 1)
        numbers = pc.if_else(pc.is_null(values), None, codes)
    else:
        numbers = pc.cast(values, pa.int8()) if column.kind == "flag" else values
    floats = pc.cast(numbers, pa.float64())
    return np.asarray(pc.fill_null(floats, float("nan")).combine_chunks().to_numpy(zero_copy_only=False))
