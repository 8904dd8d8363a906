"""Feature rows to keys and values, a column at a time.

What belongs here: the columns to ask DuckDB for, and from its Arrow batches to bytes. What does not: which
rows (``materialization``) and how a value is laid out (``encoding``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestration.declarations import canonical
from orchestration.feature_store.online.encoding import Kind, Layout, Pair
from orchestration.feature_store.online.keys import MAX_KEY_BYTES, EntityKeys, shortened
from orchestration.feature_store.online.lists import COUNT
from orchestration.feature_store.views import View
from orchestration.sql import identifier

BATCH_ROWS = 50_000

_NUMPY = {"?": "u1", "b": "i1", "h": "<i2", "i": "<i4", "q": "<i8", "B": "u1", "H": "<u2", "I": "<u4",
          "Q": "<u8", "f": "<f4", "d": "<f8", "16s": "V16"}  # fmt: skip
_NO_BYTES = pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(bytes(8)), pa.py_buffer(b"")])[0]
"""No bytes, as Arrow says it: given a bare b"", or asked for a scalar of it, pyarrow imports pandas."""
_NULLS_BYTES = {"B": 1, "H": 2, "I": 4, "Q": 8}


def _is_null(array: Any) -> NDArray[np.bool_] | None:
    """Which of an Arrow array's values are null; None for none."""
    if not array.null_count:
        return None
    bits = np.frombuffer(array.buffers()[0], "u1")
    is_valid = np.unpackbits(bits, bitorder="little")[array.offset : array.offset + len(array)]
    return np.equal(is_valid, 0)


def _fixed(array: Any, kind: Kind) -> NDArray[Any]:
    """The values of an Arrow array as its slots hold them."""
    buffer = array.buffers()[1]
    dtype = np.dtype(_NUMPY[kind.code])
    if str(array.type).startswith("decimal128") and kind.code == "q":
        # Of the 16 bytes of a number that fits into 8, the low ones are that number.
        return np.frombuffer(buffer, "<i8", 2 * len(array), 16 * array.offset)[::2]
    return np.frombuffer(buffer, dtype, len(array), dtype.itemsize * array.offset)


def _bounds(array: Any) -> NDArray[np.int32]:
    """Where each text, blob or list of an Arrow array begins, and where the last one ends."""
    return np.frombuffer(array.buffers()[1], "<i4", len(array) + 1, 4 * array.offset)


@dataclass(frozen=True)
class _Joined:
    """Keys or values one after the other: item ``i`` is ``content[bounds[i]:bounds[i + 1]]``."""

    content: bytes
    bounds: NDArray[Any]

    @property
    def size(self) -> int:
        """How many bytes all of them are."""
        return int(self.bounds[-1] - self.bounds[0])

    def item(self, place: int) -> bytes:
        """One of them."""
        return self.content[self.bounds[:-1][place] : self.bounds[1:][place]]

    def items(self) -> list[bytes]:
        """Each by itself."""
        content = self.content
        return [content[a:b] for a, b in pairwise(self.bounds.tolist())]


def _joined(array: Any) -> _Joined:
    """The bytes of the texts or blobs of an Arrow array; none for a null."""
    data = array.buffers()[2]
    return _Joined(b"" if data is None else data.to_pybytes(), _bounds(array))


@dataclass(frozen=True)
class _Elements:
    """The elements of all lists of a column, one after the other.

    Attributes:
        content: Their bytes.
        bounds: Where each begins, and where the last one ends.
        is_null: Which of them are null; None for none.
        is_variable: Whether they differ in size.
    """

    content: bytes
    bounds: NDArray[Any]
    is_null: NDArray[np.bool_] | None
    is_variable: bool

    def list_bytes(self, first: int, end: int) -> bytes:
        """The list of the elements from ``first`` to before ``end``."""
        count = end - first
        if self.is_null is None:
            nulls = bytes((count + 7) // 8)
        else:
            nulls = np.packbits(self.is_null[first:end], bitorder="little").tobytes()
        begin = self.bounds[first]
        ends = (self.bounds[first + 1 : end + 1] - begin).astype("<u4").tobytes() if self.is_variable else b""
        return b"".join((COUNT.pack(count), nulls, ends, self.content[begin : self.bounds[end]]))


def _elements(array: Any, kind: Kind) -> _Elements:
    """The elements of the lists of an Arrow array."""
    elements, element = array.values, kind.element
    assert element is not None
    is_null = _is_null(elements)
    if element.is_variable:
        joined = _joined(_variable(elements, element))
        return _Elements(joined.content, joined.bounds, is_null, is_variable=True)
    fixed = _fixed(elements, element)
    if is_null is not None:
        fixed = fixed.copy()
        fixed[is_null] = np.zeros(1, fixed.dtype)[0]
    bounds = np.arange(len(fixed) + 1, dtype=np.int64) * fixed.itemsize
    return _Elements(fixed.tobytes(), bounds, is_null, is_variable=False)


def _variable(array: Any, kind: Kind) -> Any:
    """Texts, blobs or lists as an Arrow array of bytes; no bytes for a null."""
    if kind.element is None:
        return array.view(pa.binary())
    elements, bounds, is_null = _elements(array, kind), _bounds(array).tolist(), _is_null(array)
    items = [elements.list_bytes(first, end) for first, end in pairwise(bounds)]
    if is_null is not None:
        items = [b"" if null else item for item, null in zip(items, is_null.tolist(), strict=True)]
    ends = np.cumsum([0, *map(len, items)]).astype("<i4")
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(items))]
    return pa.Array.from_buffers(pa.binary(), len(items), buffers)


def _rejoined(items: Sequence[bytes]) -> _Joined:
    return _Joined(b"".join(items), np.cumsum([0, *map(len, items)]))


@dataclass(frozen=True)
class Packed:
    """Some keys with their values, and whether two neighbours have one key.

    Who iterates parts them into Python's objects, which takes longest, perhaps in another thread.
    """

    keys: _Joined
    values: _Joined
    has_twins: bool

    @property
    def size(self) -> int:
        """How many bytes keys and values are."""
        return self.keys.size + self.values.size

    def __len__(self) -> int:
        return len(self.keys.bounds) - 1

    def __iter__(self) -> Iterator[Pair]:
        return zip(self.keys.items(), self.values.items(), strict=True)


class Packer:
    """Keys and values of a view's rows."""

    def __init__(self, view: View) -> None:
        self.view, self.layout, self.keys = view, Layout(view), EntityKeys(view)
        code = self.layout.nulls_code
        self._nulls_bytes = _NULLS_BYTES.get(code) or int(code[:-1])
        fields: list[Any] = [("schema", "<u8"), ("timestamp", "<i8"), ("nulls", "u1", (self._nulls_bytes,))]
        fields += [(f"f{n}", _NUMPY[kind.code]) for n, kind in enumerate(self.layout.kinds)]
        self._head = np.dtype(fields)

    def select_sql(self) -> str:
        """The select list that ``pairs`` takes: key, timestamp, then the features, each as it is stored."""
        features = [
            identifier(column.name)
            if kind.held_as is None or kind.held_as == canonical(column.data_type)
            else f"cast({identifier(column.name)} as {kind.held_as})"
            for column, kind in zip(self.view.features, self.layout.kinds, strict=True)
        ]
        timestamp = f"cast({identifier(self.view.timestamp)} as timestamptz)"
        columns = [f"{self.keys.sql()} as entity_key", f"{timestamp} as row_timestamp"]
        return ", ".join(columns + [f"{text} as f{n}" for n, text in enumerate(features)])

    def batches(self, con: duckdb.DuckDBPyConnection, relation: str) -> Iterator[Packed]:
        """The keys and values of a relation (SQL text) of the view's rows, a batch at a time."""
        result = con.execute(f"select {self.select_sql()} from {relation}")
        for batch in result.to_arrow_reader(BATCH_ROWS):
            yield self.pack(batch)

    def pack(self, batch: Any) -> Packed:
        """The keys and values of an Arrow record batch that has the columns of ``select_sql``."""
        texts = batch.column(0)
        keys = _joined(texts)
        if batch.num_rows and np.diff(keys.bounds).max() > MAX_KEY_BYTES:
            keys = _rejoined(list(map(shortened, keys.items())))
        has_twins = bool(pc.any(pc.equal(texts[1:], texts[:-1])).as_py())
        return Packed(keys, self._values(batch.column(1), batch.columns[2:]), has_twins)

    def _values(self, timestamps: Any, columns: Sequence[Any]) -> _Joined:
        count = len(timestamps)
        head = np.zeros(count, self._head)
        head["schema"] = self.layout.schema
        head["timestamp"] = np.frombuffer(timestamps.buffers()[1], "<i8", count, 8 * timestamps.offset)
        nulls = np.zeros((count, len(columns)), bool)
        parts: list[Any] = []
        ends = np.zeros(count, "<u4")
        for n, (column, kind) in enumerate(zip(columns, self.layout.kinds, strict=True)):
            is_null = _is_null(column)
            if kind.is_variable:
                part = _variable(column, kind)
                parts.append(part)
                ends = ends + np.diff(_bounds(part)).astype("<u4")
                head[f"f{n}"] = ends
            else:
                head[f"f{n}"] = _fixed(column, kind)
            if is_null is not None:
                nulls[:, n] = is_null
                if not kind.is_variable:
                    head[f"f{n}"][is_null] = np.zeros(1, head.dtype[f"f{n}"])[0]
        packed = np.packbits(nulls, axis=1, bitorder="little")
        head["nulls"][:, : packed.shape[1]] = packed
        bounds = np.arange(count + 1, dtype=np.int32) * np.int32(head.itemsize)
        if not parts:
            return _Joined(head.tobytes(), bounds)
        heads = pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(bounds), pa.py_buffer(head)])
        return _joined(
            pc.binary_join_element_wise(
                heads, *parts, _NO_BYTES, null_handling="replace", null_replacement=b""
            )
        )
