"""The materializations of assets with their windows, each read once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
from dagster import AssetRecordsFilter, DagsterEventType, EventLogRecord

from orchestration.dagster_ext.check_state import WHOLE_TABLE, Materialization, covers
from orchestration.dagster_ext.run_builds import asset_window
from orchestration.declarations import Partition
from orchestration.partitions import Window

_EVENTS = 1000


@dataclass
class Materializations:
    """The recorded materializations of assets, as of the first call."""

    instance: dg.DagsterInstance
    partitions: Mapping[dg.AssetKey, Partition]
    _newest: dict[dg.AssetKey, Materialization | None] = field(default_factory=dict)
    _found: dict[AssetRecordsFilter, list[Materialization]] = field(default_factory=dict)

    def newest(self, assets: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, Materialization]:
        """The newest materialization of each asset that has one."""
        wanted = list(assets)
        missing = [asset for asset in wanted if asset not in self._newest]
        if missing:
            self._newest |= dict.fromkeys(missing)
            for record in self.instance.get_asset_records(missing):
                key, newest = record.asset_entry.asset_key, record.asset_entry.last_materialization_record
                if newest is not None:
                    self._newest[key] = self._materialization(key, newest)
        return {asset: made for asset in wanted if (made := self._newest[asset]) is not None}

    def after(self, asset: dg.AssetKey, known: int, left_out: Window | None) -> Sequence[Materialization]:
        """The materializations after the one with id ``known``.

        All events are read only if a window was built that ``left_out`` does not cover.
        """
        newest = self.newest([asset]).get(asset)
        if newest is None or newest.id <= known or left_out == WHOLE_TABLE:
            return []
        partition = self.partitions.get(asset)
        if partition is None:
            return [newest]
        if left_out is not None and newest.window != WHOLE_TABLE:
            days = self.instance.event_log_storage.get_latest_storage_id_by_partition(
                asset, DagsterEventType.ASSET_MATERIALIZATION, after_cursor=known
            )
            if all(covers(left_out, asset_window(partition, day)) for day in days):
                return []
        return self.matching(AssetRecordsFilter(asset, after_storage_id=known))

    def matching(self, wanted: AssetRecordsFilter) -> list[Materialization]:
        """The materializations that match a filter, oldest first."""
        if wanted not in self._found:
            self._found[wanted] = list(self._fetched(wanted))
        return self._found[wanted]

    def _fetched(self, wanted: AssetRecordsFilter) -> Iterator[Materialization]:
        """The materializations that match a filter, oldest first, page by page."""
        cursor = None
        while True:
            page = self.instance.fetch_materializations(wanted, limit=_EVENTS, cursor=cursor, ascending=True)
            yield from (self._materialization(wanted.asset_key, record) for record in page.records)
            if not page.has_more:
                return
            cursor = page.cursor

    def _materialization(self, asset: dg.AssetKey, record: EventLogRecord) -> Materialization:
        event = record.event_log_entry
        return Materialization(
            record.storage_id,
            event.run_id,
            datetime.fromtimestamp(record.timestamp, UTC),
            asset_window(self.partitions.get(asset), event.get_dagster_event().partition),
        )
