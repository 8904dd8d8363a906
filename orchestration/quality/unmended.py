"""Windows whose blocking check failed, or never ended, and that no later run has mended.

Dagster goes by the newest result of a check, whichever partition it was about: a day that passes would
hide the bad day before it, and what is built next would stand on a layer with a hole. So each result of a
blocking check carries the windows that still fail, until a run that covers them passes. They are worked
out of the check's records each time: no two runs can lose each other's, and a check that a crash cut off
counts as failed. What belongs here: that list. What does not: whether a check holds on its own window
(``verification``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
from dagster import DagsterEventType
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from orchestration.declarations import Partition
from orchestration.partitions import Window, day_window

UNMENDED = "unmended_windows"
"""Metadata of a result: start, end and instant of failure of every window that is not mended."""
UNSETTLED = "unsettled_from"
"""Metadata of a result: id of the oldest record whose run still went on."""
_PLANNED = AssetCheckExecutionRecordStatus.PLANNED
_SUCCEEDED = AssetCheckExecutionRecordStatus.SUCCEEDED
_FIRST_PAGE = 4

WHOLE_TABLE = Window(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_WHOLE_TABLE = "the whole table"


@dataclass(frozen=True)
class Unmended:
    """When each window that is not mended failed last, and the oldest record whose run still goes on."""

    failed_at: Mapping[Window, datetime]
    unsettled: int | None

    def outside(self, window: Window | None) -> "Unmended":
        """The same without the windows that a run over ``window`` tests anew; None tests them all."""
        return Unmended({w: at for w, at in self.failed_at.items() if not _covers(window, w)}, self.unsettled)

    @property
    def description(self) -> str:
        """Which windows they are, for a person."""
        places = ", ".join(map(_words, sorted(self.failed_at, key=lambda w: w.start)))
        return f"Not mended elsewhere: {places}; run the check there again."

    @property
    def metadata(self) -> dict[str, Any]:
        """What the next result needs to know."""
        spans = [
            (w.start.isoformat(), w.end.isoformat(), at.isoformat())
            for w, at in sorted(self.failed_at.items(), key=lambda item: item[0].start)
        ]
        unsettled = {} if self.unsettled is None else {UNSETTLED: self.unsettled}
        return ({UNMENDED: dg.MetadataValue.json(spans)} if spans else {}) | unsettled


def _covers(window: Window | None, other: Window) -> bool:
    return window is None or (window.start <= other.start and other.end <= window.end)


def _words(window: Window) -> str:
    if window == WHOLE_TABLE:
        return _WHOLE_TABLE
    return f"{window.start.isoformat()} to {window.end.isoformat()}"


def _carried(evaluation: dg.AssetCheckEvaluation) -> dict[Window, datetime]:
    """The windows that a result says are not mended, its own included."""
    value = evaluation.metadata.get(UNMENDED)
    spans: Any = value.value if isinstance(value, dg.JsonMetadataValue) else []
    return {
        Window(datetime.fromisoformat(start), datetime.fromisoformat(end)): datetime.fromisoformat(at)
        for start, end, at in spans
    }


def _own_window(evaluation: dg.AssetCheckEvaluation) -> Window | None:
    """The window that a result is about; None for one that only repeats what others found."""
    value = evaluation.metadata.get("window")
    if value is None:
        return None
    start, _, end = str(value.value).partition(" to ")
    return Window(datetime.fromisoformat(start), datetime.fromisoformat(end)) if end else WHOLE_TABLE


@dataclass(frozen=True)
class CheckRecords:
    """What Dagster has recorded of the blocking checks of one table, as a run of them sees it."""

    instance: dg.DagsterInstance
    partition: Partition
    run_id: str
    _going: dict[str, bool] = field(default_factory=dict)

    def unmended(self, check: dg.AssetCheckKey) -> Unmended:
        """The windows that failed, or were built and then not tested, and that nothing has mended since.

        Args:
            check: A blocking check that tests the run's window.
        """
        failed: dict[Window, datetime] = {}
        passed: list[tuple[Window, datetime]] = []
        unsettled = None
        is_first = True
        for record in self._since_last_result(check):
            evaluation = record.evaluation if record.status != _PLANNED else None
            if record.event is None or evaluation is None:
                if record.run_id == self.run_id:
                    continue
                if self._goes_on(record.run_id):
                    unsettled = record.id
                elif (built := self._built(check.asset_key, record.run_id)) is not None:
                    window, at = built
                    failed[window] = max(at, failed.get(window, at))
                continue
            carried, own = _carried(evaluation), _own_window(evaluation)
            at = datetime.fromtimestamp(record.event.timestamp, UTC)
            if is_first:
                failed |= {w: max(since, failed.get(w, since)) for w, since in carried.items()}
                is_first = False
            if own is None:
                continue
            if evaluation.passed or (carried and own not in carried):
                passed.append((own, at))
            else:
                failed[own] = max(at, failed.get(own, at))
        held = {
            window: since
            for window, since in failed.items()
            if not any(_covers(mended, window) and at > since for mended, at in passed)
        }
        return Unmended(held, unsettled)

    def tell_again(self, checks: Sequence[dg.AssetCheckKey]) -> None:
        """Make the newest record of each check say what is not mended.

        The newest is that of the run planned last, which may have ended before a run that was planned
        earlier has failed.
        """
        newest = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
        for check, record in newest.items():
            if record.run_id == self.run_id or record.status != _SUCCEEDED:
                continue
            found = self.unmended(check)
            if found.failed_at:
                self.instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(
                        asset_key=check.asset_key,
                        check_name=check.name,
                        passed=False,
                        description=found.description,
                        metadata=found.metadata,
                        blocking=True,
                    )
                )

    def _since_last_result(self, check: dg.AssetCheckKey) -> Iterator[AssetCheckExecutionRecord]:
        """Records, newest first, back to the oldest that the newest result has not taken in."""
        storage = self.instance.event_log_storage
        reach, cursor, limit = None, None, _FIRST_PAGE
        while True:
            page = storage.get_asset_check_execution_history(check, limit=limit, cursor=cursor)
            for found in page:
                if reach is not None and found.id < reach:
                    return
                record = self._as_ended(check, found)
                yield record
                if reach is None and record.status != _PLANNED and record.evaluation is not None:
                    unsettled = record.evaluation.metadata.get(UNSETTLED)
                    reach = record.id if unsettled is None else min(record.id, int(str(unsettled.value)))
            if len(page) < limit:
                return
            cursor, limit = page[-1].id, 4 * limit

    def _as_ended(
        self, check: dg.AssetCheckKey, record: AssetCheckExecutionRecord
    ) -> AssetCheckExecutionRecord:
        """The record, read once more if its run has ended: it may have had its result just before."""
        if record.status != _PLANNED or record.run_id == self.run_id or self._goes_on(record.run_id):
            return record
        storage = self.instance.event_log_storage
        return storage.get_asset_check_execution_history(check, limit=1, cursor=record.id + 1)[0]

    def _goes_on(self, run_id: str) -> bool:
        """Whether a run that planned a check may still give its result."""
        if run_id not in self._going:
            run = self.instance.get_run_by_id(run_id)
            self._going[run_id] = run is not None and not run.is_finished
        return self._going[run_id]

    def _built(self, asset: dg.AssetKey, run_id: str) -> tuple[Window, datetime] | None:
        """The window that a run has built of an asset, and when; None when it has not built it."""
        events = [
            entry
            for entry in self.instance.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
            if entry.get_dagster_event().asset_key == asset
        ]
        if not events:
            return None
        at = datetime.fromtimestamp(max(entry.timestamp for entry in events), UTC)
        days = [entry.get_dagster_event().partition for entry in events]
        keys = sorted(day for day in days if day is not None)
        if len(keys) < len(days):
            return WHOLE_TABLE, at
        first, last = (day_window(self.partition, date.fromisoformat(key)) for key in (keys[0], keys[-1]))
        return Window(first.start, last.end), at


def carry(result: dg.AssetCheckResult, window: Window | None, unmended: Unmended) -> dg.AssetCheckResult:
    """The result with the windows that are not mended: failed as long as there is one.

    Args:
        result: What came out for ``window``.
        window: The window it is about; None for the whole table.
        unmended: What was not mended before the run.
    """
    elsewhere = unmended.outside(window)
    own = {} if result.passed else {window or WHOLE_TABLE: datetime.now(UTC)}
    metadata = Unmended({**elsewhere.failed_at, **own}, elsewhere.unsettled).metadata
    if not metadata:
        return result
    description = result.description
    if elsewhere.failed_at:
        description = f"{description} {elsewhere.description}"
    return result._replace(
        passed=result.passed and not elsewhere.failed_at,
        severity=dg.AssetCheckSeverity.ERROR,
        description=description,
        metadata={**(result.metadata or {}), **metadata},
    )
