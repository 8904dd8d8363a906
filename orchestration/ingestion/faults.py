"""Errors of ingestion, and the conversion of DuckDB and system errors to them."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import duckdb

from orchestration.lakehouse import is_lock_conflict


class IngestFault(Exception):
    """A delivery, a source or a declaration that cannot be landed as declared.

    Args:
        place: The file or table, credentials redacted, and the key, line or column.
        found: What is there.
        expected: What the declaration asks for.
        metadata: Plain values that help to mend it.
    """

    def __init__(
        self, place: str, found: str, expected: str, metadata: Mapping[str, Any] | None = None
    ) -> None:
        self.metadata = dict(metadata or {})
        super().__init__(f"{place}: found {found}, expected {expected}")


class StorageError(Exception):
    """The machine or the lakehouse is full or cannot be written to; the delivery is not at fault."""

    def __init__(self, place: str, found: str, expected: str) -> None:
        super().__init__(f"{place}: found {found}, expected {expected} (no file is at fault)")


_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_TEXTS = ("no space left on device", "disk quota exceeded", "max_temp_directory_size")


def to_ingestion_error(error: Exception, label: str, path: Path | None = None) -> Exception:
    """Convert an error of DuckDB or of the system to an error of ingestion.

    Args:
        error: What was raised while a file was read and written to the lakehouse.
        label: The name of the file in messages.
        path: The file that is read: an I/O error that does not name it comes from the lakehouse.
    """
    if isinstance(error, OSError):
        if isinstance(error, ConnectionError | TimeoutError):
            return error
        if error.errno in _FULL:
            return StorageError(label, f"{error.strerror} while landing it", "free disk space")
        return IngestFault(label, error.strerror or type(error).__name__, "a file that can be read")
    text = str(error).lower()
    if any(full in text for full in _FULL_TEXTS):
        return StorageError(label, f"{_first_line(error)} while landing it", "free disk space")
    if isinstance(error, duckdb.OutOfMemoryException):
        found = f"{_first_line(error)} while landing it"
        return StorageError(label, found, "a larger memory limit (GROUNDWORK_DUCKDB_MEMORY_LIMIT)")
    if isinstance(error, duckdb.IOException) and path is not None and str(path) not in str(error):
        return StorageError(
            label, f"{_first_line(error)} while landing it", "a lakehouse that can be written"
        )
    expected = "a file that can be read as declared"
    return IngestFault(label, f"content that DuckDB cannot read: {_first_line(error)}", expected)


def _first_line(error: Exception) -> str:
    return shown(str(error).split("\n\n")[0].split("\nPossible")[0], 300)


@contextmanager
def faults_of(label: str, path: Path | None = None) -> Iterator[None]:
    """Raise errors of DuckDB and of the system as errors of ingestion; a lock conflict stays what it is."""
    try:
        yield
    except duckdb.Error as error:
        if is_lock_conflict(error):
            raise
        raise to_ingestion_error(error, label, path) from error
    except OSError as error:
        raise to_ingestion_error(error, label, path) from error


@contextmanager
def faults_of_lakehouse(name: str) -> Iterator[None]:
    """Raise DuckDB errors of a transaction as errors of the named table of the lakehouse."""
    try:
        yield
    except duckdb.Error as error:
        raise StorageError(name, _first_line(error), "a lakehouse that can be written") from error


def shown(text: object, limit: int = 80) -> str:
    """A value as it is shown in a message: quoted, printable, cut."""
    quoted = repr(text)
    return quoted if len(quoted) <= limit else quoted[: limit - 3] + "..."


def hint(name: str, candidates: list[str]) -> str:
    """``' (did you mean ...?)'`` for the closest candidate, or nothing."""
    lowered = {c.lower(): c for c in candidates}
    close = get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return f" (did you mean {lowered[close[0]]!r}?)" if close else ""
