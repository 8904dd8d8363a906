"""Byte ranges of a local file as files of their own, for scans that begin in its middle.

What belongs here: the file system that DuckDB reads them through. What does not: where to cut.
"""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
from fsspec import AbstractFileSystem

_numbers = count(1)


@dataclass(frozen=True)
class Range:
    """The bytes of a file from ``start`` up to, not including, ``end``."""

    path: Path
    start: int
    end: int


class _RangeFile(io.RawIOBase):
    """A range, open for reading; DuckDB reads 32 MB at a time, so Python costs nothing here."""

    def __init__(self, part: Range) -> None:
        self._range = part
        self._position = 0
        self._file = os.open(part.path, os.O_RDONLY)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = self._range.end - self._range.start
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}[whence]
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._range.end - self._range.start - self._position, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        found = os.pread(self._file, wanted, self._range.start + self._position)
        self._position += len(found)
        return found

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


class _Ranges(AbstractFileSystem):  # type: ignore[misc]
    """Ranges by name."""

    cachable = False

    def __init__(self, protocol: str, ranges: Mapping[str, Range]) -> None:
        super().__init__()
        self.protocol = protocol
        self._ranges = ranges

    def _range(self, path: str) -> Range:
        return self._ranges[path.rpartition("://")[2]]

    def open(self, path: str, *_: Any, **__: Any) -> _RangeFile:
        return _RangeFile(self._range(path))

    def exists(self, path: str, **_: Any) -> bool:
        return path.rpartition("://")[2] in self._ranges

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        part = self._range(path)
        return {"name": path, "size": part.end - part.start, "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

    def modified(self, path: str) -> datetime:
        return datetime.fromtimestamp(self._range(path).path.stat().st_mtime, UTC)


def register_ranges(con: duckdb.DuckDBPyConnection, ranges: list[Range]) -> list[str]:
    """Make ranges readable on a connection; gives an address for each."""
    protocol = f"range{next(_numbers)}"
    con.register_filesystem(_Ranges(protocol, {str(i): part for i, part in enumerate(ranges)}))
    return [f"{protocol}://{i}" for i in range(len(ranges))]
