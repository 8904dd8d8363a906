"""Dagster's SQLite event log, made fast enough for runs that load a whole history.

A run over a year of daily partitions writes thousands of events: one planned and one materialized a
partition and asset. Dagster's own SQLite storage opens a new engine and commits to disk for each of
them, about 10 milliseconds an event; this one writes a batch in one transaction. What belongs here:
how events get to disk. What does not: what an event says.
"""

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from dagster import DagsterEventType, EventLogEntry
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData

_SHARDS_KEPT = 4
_CHECKPOINT_PAGES = 16_384  # 64 MB: a batch of a year is larger than SQLite's usual 4 MB
_PARTITION = "<<partition>>"
BATCH_SIZE_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"
_OF_ASSETS = frozenset(
    {DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED}
)
_OF_CHECKS = frozenset(
    {DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}
)
_BATCHED = _OF_ASSETS | _OF_CHECKS


def enable_batches() -> None:
    """Let Dagster hand events of one asset over in batches, in this process and its children."""
    os.environ.setdefault(BATCH_SIZE_VARIABLE, "1000")


def _relax_sync(connection: Any, _record: Any) -> None:
    # In WAL mode NORMAL is safe against a killed process; only a power cut can lose the last events.
    connection.execute("pragma synchronous = normal")
    connection.execute(f"pragma wal_autocheckpoint = {_CHECKPOINT_PAGES}")


def _in_partition(event: EventLogEntry, partition: str | None, timestamp: Any) -> EventLogEntry:
    """The same event of another partition, at another time."""
    dagster_event = event.get_dagster_event()
    data: Any = dagster_event.event_specific_data
    if isinstance(data, StepMaterializationData):
        data = data._replace(materialization=data.materialization._replace(partition=partition))
    elif isinstance(data, AssetMaterializationPlannedData):
        data = data._replace(partition=partition)
    return event._replace(timestamp=timestamp, dagster_event=dagster_event._replace(event_specific_data=data))


@dataclass(frozen=True)
class _Template:
    """The row of an event, from which those of its other partitions are made without serializing them."""

    event: EventLogEntry
    row: dict[str, Any]
    parts: tuple[str, str, str]

    def row_of(self, event: EventLogEntry, timestamp: Any) -> dict[str, Any] | None:
        """The row of an event that differs only in its partition and its time; None for another."""
        partition = event.get_dagster_event().partition
        if partition is None or _in_partition(self.event, partition, event.timestamp) != event:
            return None
        before, between, after = self.parts
        text = f"{before}{json.dumps(partition)}{between}{event.timestamp!r}{after}"
        return {**self.row, "event": text, "partition": partition, "timestamp": timestamp}


class BatchingSqliteEventLog(SqliteEventLogStorage):
    """A connection kept for each shard in use instead of one an event, and one transaction a batch."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, sa.Engine] = OrderedDict()
        self._tables: set[str] = set()
        self._lock = threading.RLock()
        self._open: dict[str, sa.Connection] = {}
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
        with self._lock:
            if shard in self._open:
                yield self._open[shard]  # part of the transaction that is under way in this thread
                return
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                self._open[shard] = connection
                try:
                    yield connection
                finally:
                    del self._open[shard]

    def store_event(self, event: EventLogEntry) -> None:
        """Store one event; what it means to the index is one transaction there."""
        if event.dagster_event_type in _BATCHED:
            self.store_event_batch([event])
        else:
            super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store the events of one run, as ``store_event`` one by one would have."""
        batch: list[EventLogEntry] = []
        for event in events:
            if event.dagster_event_type in _BATCHED:
                batch.append(event)
            else:
                self.store_event(event)
        if not batch:
            return
        rows = list(self._rows(batch))
        with self.run_connection(batch[0].run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
        with self.index_transaction() as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
            # The write lock is held since the first row: the ids of a batch follow each other.
            last = int(connection.execute(sa.text("select last_insert_rowid()")).scalar_one())
            ids = range(last - len(rows) + 1, last + 1)
            newest: dict[Any, tuple[EventLogEntry, int]] = {}
            for event, event_id in zip(batch, ids, strict=True):
                if event.dagster_event_type in _OF_CHECKS:
                    self.store_asset_check_event(event, event_id)
                else:
                    newest[event.get_dagster_event().asset_key] = (event, event_id)
            self._store_asset_event_tags(connection, batch, ids)
            for event, event_id in newest.values():
                self._store_asset_event(connection, event, event_id)

    def _rows(self, batch: Sequence[EventLogEntry]) -> Iterator[dict[str, Any]]:
        """Rows of events; serializing costs most, and is done once for the partitions of an asset."""
        template: _Template | None = None
        for event in batch:
            timestamp = self._event_insert_timestamp(event)  # type: ignore[no-untyped-call]
            row = None if template is None else template.row_of(event, timestamp)
            if row is None:
                row = self._event_to_row(event)
                template = self._template(event, row) if len(batch) > 1 else None
            yield row

    def _template(self, event: EventLogEntry, row: dict[str, Any]) -> _Template | None:
        if row["partition"] is None or event.dagster_event_type not in _OF_ASSETS:
            return None
        text = self._event_to_row(_in_partition(event, _PARTITION, event.timestamp))["event"]
        before, mark, rest = text.partition(json.dumps(_PARTITION))
        between, time_mark, after = rest.rpartition(f'"timestamp": {event.timestamp!r}')
        if not (mark and time_mark) or _PARTITION in rest:
            return None
        return _Template(event, row, (before, f'{between}"timestamp": ', after))

    def has_table(self, table_name: str) -> bool:
        """Whether a table is there; one that is there stays, so it is looked for once."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def dispose(self) -> None:
        """Close what is open."""
        while self._engines:
            self._engines.popitem()[1].dispose()
        super().dispose()
