"""One open lakehouse a run, shared by the run's checks.

What belongs here: how the check ops of a run come to a connection. What does not: opening one
(``orchestration.lakehouse``). To load the lakehouse's extensions takes 0.2 seconds of a processor, as
DuckDB checks their signatures: more than to verify most contracts.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from orchestration.lakehouse import LAKE, LakehouseResource


class RunReaders:
    """Keeps the read-only connection of the newest run; that of the run before is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[str, str] | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None

    def _shared(self, lakehouse: LakehouseResource, run_id: str) -> duckdb.DuckDBPyConnection:
        key = (run_id, lakehouse.attachment.path)
        with self._lock:
            if self._connection is None or self._key != key:
                self._close()
                self._connection = lakehouse.open(read_only=True)
                self._key = key
            return self._connection.cursor()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._key = None, None

    @contextmanager
    def reader(self, lakehouse: LakehouseResource, run_id: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A session of its own on the run's connection; it sees what is committed at each statement.

        Raises:
            duckdb.Error: The lakehouse does not exist yet.
        """
        session = self._shared(lakehouse, run_id)
        try:
            session.execute("set timezone = 'UTC'")
            session.execute(f"use {LAKE}")
            yield session
        finally:
            session.close()

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._close()
