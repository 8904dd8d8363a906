"""The content of an ordered relation as one hash, whatever holds it: tables, files, a query.

What belongs here: how values become bytes. What does not: which rows, and in which order.

Each column is written as bytes, row after row in the relation's order: a byte that tells whether there is
a value; the value itself in its fixed width, or zeros for none; for text and blobs the length in 8 bytes
and, apart, the bytes. Each of these streams goes through SHA-256, and the hash of the content is SHA-256
over names, types, the number of rows and these digests. The encoding can be read back, so two contents with
one hash would be two inputs of SHA-256 with one hash: nobody has found any, and the odds of meeting two by
chance among 10**18 contents are 10**36 to 2**257. How rows are spread over files, row groups and batches
does not enter. A NaN counts as one value; 0.0 and -0.0 count as two.

Importing this module imports Arrow.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from orchestration.lakehouse.tables import Column
from orchestration.sql import identifier

BATCH_ROWS = 65_536
"""Rows that are in memory at a time."""

_PLAIN = frozenset(
    {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
     "FLOAT", "DOUBLE", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS",
     "TIMESTAMP WITH TIME ZONE", "VARCHAR", "BLOB"}
)  # fmt: skip
_NESTED = ("[]", "]", ")")


def _canonical(column: Column) -> str:
    """A column as a type whose bytes are hashed: its own, or text that tells each of its values apart."""
    kind, name = column.data_type.upper(), identifier(column.name)
    if kind in _PLAIN or kind.startswith("DECIMAL("):
        return name
    text = f"to_json({name})" if kind.endswith(_NESTED) else name
    return f"{text}::varchar as {name}"


class _ColumnDigest:
    """The streams of one column."""

    def __init__(self) -> None:
        self._present, self._values, self._lengths = (hashlib.sha256() for _ in range(3))

    def add(self, column: Any) -> None:
        """Take in the next rows, an Arrow array."""
        present = np.ones(len(column), np.uint8)
        if column.null_count:
            present = np.asarray(column.is_valid().cast(pa.uint8()))
        self._present.update(present.data)
        kind = column.type
        if pa.types.is_boolean(kind):
            column, kind = column.cast(pa.uint8()), pa.uint8()
        if kind in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary()):
            self._add_texts(column)
        else:
            self._add_fixed(column, present)

    def _add_texts(self, column: Any) -> None:
        column = column.fill_null(b"" if column.type in (pa.binary(), pa.large_binary()) else "")
        width = np.int64 if column.type in (pa.large_string(), pa.large_binary()) else np.int32
        _, offsets, data = column.buffers()
        ends = np.frombuffer(offsets, width)[column.offset : column.offset + len(column) + 1]
        self._lengths.update(np.diff(ends).astype("<i8").data)
        if data is not None:
            self._values.update(memoryview(data)[ends[0] : ends[-1]])

    def _add_fixed(self, column: Any, present: "np.ndarray[Any, Any]") -> None:
        width = column.type.bit_width // 8
        raw = np.frombuffer(column.buffers()[1], np.uint8)
        raw = raw[column.offset * width : (column.offset + len(column)) * width]
        if pa.types.is_floating(column.type):
            numbers = raw.view(f"<f{width}")
            if np.isnan(numbers).any():
                raw = np.where(np.isnan(numbers), numbers.dtype.type(np.nan), numbers).view(np.uint8)
        if column.null_count:
            raw = (raw.reshape(-1, width) * present[:, None]).reshape(-1)
        self._values.update(raw.data)

    def digest(self) -> bytes:
        """The digests of the streams."""
        return self._present.digest() + self._values.digest() + self._lengths.digest()


def content_of(con: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[Column]) -> tuple[str, int]:
    """The content hash of what follows ``from``, in the order in which it gives its rows, and their number.

    Args:
        con: An open connection.
        relation: A table, a function or a query in brackets, with ``order by`` where it has no order.
        columns: Its columns, by name and type.
    """
    selected = ", ".join(_canonical(column) for column in columns)
    reader = con.execute(f"select {selected} from {relation}").to_arrow_reader(BATCH_ROWS)
    return content_of_batches(reader, columns)


def content_of_batches(batches: Iterator[Any], columns: Sequence[Column]) -> tuple[str, int]:
    """The content hash of Arrow record batches of these columns, and the number of their rows."""
    digests = [_ColumnDigest() for _ in columns]
    rows = 0
    with ThreadPoolExecutor(4) as pool:  # hashing lets other threads run
        for batch in batches:
            if not batch.num_rows:
                continue  # may have no buffers
            rows += batch.num_rows
            for _ in pool.map(_ColumnDigest.add, digests, batch.columns):
                pass
    head = {"columns": [[c.name, c.data_type] for c in columns], "encoding": 1, "rows": rows}
    whole = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for digest in digests:
        whole.update(digest.digest())
    return whole.hexdigest(), rows
