"""From columns of a table to the matrix that algorithms take: numbers as they are, texts as codes.

What belongs here: the encoding, which is learnt from the rows trained on and kept with the model, so that
training and serving encode alike. What does not: which columns a model takes (``spec``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestration.learning.algorithms.base import Column
from orchestration.learning.kinds import Kind

Floats = NDArray[np.float64]

_NAN = float("nan")
VERSION = 1
"""Increment it when the same rows are encoded differently: it is part of a model's definition."""
OTHER = 0
"""The code of every text that is no category of its own."""
Infinite = Literal["reject", "null"]


class InfiniteValueError(ValueError):
    """Numbers of an input are infinite; ``rows`` has the number of such rows by column."""

    def __init__(self, rows: Mapping[str, int]) -> None:
        self.rows = dict(rows)
        counted = ", ".join(f"{name} in {count:,} rows" for name, count in rows.items())
        super().__init__(f"found infinite values: {counted}, expected finite numbers (infinite: reject)")


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
    infinite: Infinite = "reject"
    """How an infinite number is treated: an error (``reject``) or a missing value (``null``)."""

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
            InfiniteValueError: A number is infinite and the encoding rejects it.
        """
        made = np.empty((table.num_rows, len(self.columns)), order="C")
        for place, column in enumerate(self.columns):
            made[:, place] = _encoded(table.column(column.name), column)
        return self._finite(made)

    def matrix_of_values(self, columns: Mapping[str, Sequence[Any]], count: int) -> Floats:
        """The same of Python's values, column by column: for a few rows, twenty times as quick.

        Raises:
            KeyError: A column is missing.
            InfiniteValueError: A number is infinite and the encoding rejects it.
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
        return self._finite(made)

    def _finite(self, matrix: Floats) -> Floats:
        infinite = np.isinf(matrix)
        if not infinite.any():
            return matrix
        if self.infinite == "reject":
            counts = infinite.sum(axis=0).tolist()
            raise InfiniteValueError(
                {column.name: n for column, n in zip(self.columns, counts, strict=True) if n}
            )
        matrix[infinite] = _NAN
        return matrix

    @cached_property
    def _codes(self) -> tuple[dict[str, int], ...]:
        return tuple({text: n for n, text in enumerate(c.categories, start=1)} for c in self.columns)

    def to_text(self) -> str:
        """As JSON."""
        columns: list[dict[str, Any]] = []
        for column in self.columns:
            said: dict[str, Any] = {"name": column.name, "kind": column.kind}
            if column.categories:
                said["categories"] = column.categories
            if column.kind == "number" and self.infinite != "reject":
                said["infinite"] = self.infinite
            columns.append(said)
        return json.dumps(columns, indent=1, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> "MatrixEncoding":
        """From its JSON."""
        said = json.loads(text)
        columns = tuple(EncodedColumn(c["name"], c["kind"], tuple(c.get("categories", ()))) for c in said)
        return cls(columns, "null" if any(c.get("infinite") == "null" for c in said) else "reject")


def fit_encoding(
    columns: Sequence[tuple[str, Kind]],
    train: pa.Table,
    *,
    max_categories: int,
    min_rows: int,
    infinite: Infinite = "reject",
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
    return MatrixEncoding(tuple(made), infinite)


def _encoded(values: pa.ChunkedArray, column: EncodedColumn) -> Floats:
    if column.kind == "category":
        codes = pc.index_in(values, value_set=pa.array(column.categories, pa.string()), skip_nulls=True)
        codes = pc.add(pc.fill_null(codes, OTHER - 1), 1)
        numbers = pc.if_else(pc.is_null(values), None, codes)
    else:
        numbers = pc.cast(values, pa.int8()) if column.kind == "flag" else values
    floats = pc.cast(numbers, pa.float64(), safe=False)  # An integer above 2**53 becomes the nearest double.
    return np.asarray(pc.fill_null(floats, float("nan")).combine_chunks().to_numpy(zero_copy_only=False))
