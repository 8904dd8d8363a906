"""Dagster's SQLite event log, made fast enough for runs that load a whole history.

A run over a year of daily partitions writes thousands of events: one planned and one materialized a
partition and asset. Dagster's own SQLite storage opens a new engine and commits to disk for each of
them, about 10 milliseconds an event; this one writes a batch in one transaction. What belongs here:
how events get to disk. What does not: what an event says.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from dagster import DagsterEventType, EventLogEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData

_SHARDS_KEPT = 4
BATCH_SIZE_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"
_BATCHED = frozenset({DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED})


def enable_batches() -> None:
    """Let Dagster hand events of one asset over in batches, in this process and its children."""
    os.environ.setdefault(BATCH_SIZE_VARIABLE, "1000")


def _relax_sync(connection: Any, _record: Any) -> None:
    # In WAL mode NORMAL is safe against a killed process; only a power cut can lose the last events.
    connection.execute("pragma synchronous = normal")


class BatchingSqliteEventLog(SqliteEventLogStorage):
    """A connection kept for each shard in use instead of one an event, and one transaction a batch."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, sa.Engine] = OrderedDict()
        super().__init__(base_dir, inst_data)

    def _engine(self, shard: str) -> sa.Engine:
        """The shard's engine; those of the shards used last are kept, as the UI may read many."""
        engine = self._engines.get(shard)
        if engine is None:
            engine = sa.create_engine(
                self.conn_string_for_shard(shard),
                poolclass=sa.QueuePool,
                pool_size=1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
            sa.event.listen(engine, "connect", _relax_sync)
            self._engines[shard] = engine
        self._engines.move_to_end(shard)
        while len(self._engines) > _SHARDS_KEPT:
            self._engines.popitem(last=False)[1].dispose()
        return engine

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sa.Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store the events of one run, as ``store_event`` one by one would have."""
        batch: list[EventLogEntry] = []
        for event in events:
            if event.is_dagster_event and event.get_dagster_event().event_type in _BATCHED:
                batch.append(event)
            else:
                self.store_event(event)
        if not batch:
            return
        rows = [self._event_to_row(event) for event in batch]
        with self.run_connection(batch[0].run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
        insert = SqlEventLogStorageTable.insert().returning(
            SqlEventLogStorageTable.c.id, sort_by_parameter_order=True
        )
        with self.index_transaction() as connection:
            ids = [int(row[0]) for row in connection.execute(insert, rows)]
            self._store_asset_event_tags(connection, batch, ids)
            newest = {e.get_dagster_event().asset_key: (e, i) for e, i in zip(batch, ids, strict=True)}
            for event, event_id in newest.values():
                self._store_asset_event(connection, event, event_id)

    def dispose(self) -> None:
        """Close what is open."""
        while self._engines:
            self._engines.popitem()[1].dispose()
        super().dispose()
