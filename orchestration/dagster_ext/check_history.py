"""Whether a check holds for the current data: the only place that reads Dagster's check records.

Dagster uses the newest record of a check, whichever partition it is about and whatever was built since.
Here a check holds once every window of its asset has passed after it was last built: a good day does not
hide a bad day before it, a result does not count for data that was built after it, and a
check that a run planned but never evaluated counts only for data that this run built.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import dagster as dg
from dagster import AssetRecordsFilter
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from orchestration.dagster_ext.check_state import (
    MATERIALIZED_UNTIL,
    WHOLE_TABLE,
    CheckState,
    CheckStatus,
    Materialization,
    OpenFailure,
    OpenFailures,
    Result,
    covers,
)
from orchestration.dagster_ext.materializations import Materializations
from orchestration.dagster_ext.run_builds import RunBuilds
from orchestration.declarations import Partition
from orchestration.partitions import Window

_PLANNED = AssetCheckExecutionRecordStatus.PLANNED
_SUCCEEDED = AssetCheckExecutionRecordStatus.SUCCEEDED
_PAGE = 4

Latest = Mapping[dg.AssetCheckKey, AssetCheckExecutionRecord]


class CheckHistory:
    """The state of an instance's checks at one moment; create a new object to read it again.

    Args:
        instance: Where runs, materializations and results are recorded.
        partitions: The partitions of assets whose checks test the window of a run.
        run_id: The calling run; checks that it has planned itself are not waited for.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        partitions: Mapping[dg.AssetKey, Partition] | None = None,
        run_id: str = "",
    ) -> None:
        self._instance, self._run_id = instance, run_id
        self._runs = RunBuilds(instance, partitions or {})
        self._made = Materializations(instance, partitions or {})

    def states(self, keys: Iterable[dg.AssetCheckKey]) -> dict[dg.AssetCheckKey, CheckState]:
        """The state of each check, in the order given."""
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        newest = self._instance.event_log_storage.get_latest_asset_check_execution_by_key(wanted)
        made = self._made.newest(dict.fromkeys(key.asset_key for key in wanted))
        return {key: self._state(key, newest.get(key), made.get(key.asset_key)) for key in wanted}

    def verdicts(self, keys: Iterable[dg.AssetCheckKey]) -> dict[str, bool | None]:
        """Whether each check holds, by ``asset:check``; None for one that was not evaluated.

        For a check that a run in progress has yet to evaluate, its last result counts.
        """
        found: dict[str, bool | None] = {}
        for state in self.states(keys).values():
            if state.status is CheckStatus.PENDING:
                found[state.name] = None if state.settled is None else state.settled.passed_its_window
            else:
                found[state.name] = None if state.status is CheckStatus.NOT_EVALUATED else state.holds
        return found

    def last_results(
        self, keys: Iterable[dg.AssetCheckKey], count: int = 1
    ) -> dict[dg.AssetCheckKey, list[Result]]:
        """The newest results of each check, newest first, without evaluations that are only planned."""
        wanted = list(dict.fromkeys(keys))
        storage = self._instance.event_log_storage
        newest: Latest = storage.get_latest_asset_check_execution_by_key(wanted) if wanted else {}
        found = {}
        for key in wanted:
            record = newest.get(key)
            first = None if record is None else Result.of(record)
            if record is None or (count == 1 and first is not None):
                found[key] = [] if first is None else [first]
                continue
            page = storage.get_asset_check_execution_history(
                key, limit=count, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
            )
            found[key] = [result for r in page if (result := Result.of(r)) is not None]
        return found

    def results_since(self, key: dg.AssetCheckKey, since: datetime | None) -> Iterator[Result]:
        """The results of a check after an instant (all if None), newest first."""
        for number, record in enumerate(self._records(key)):
            result = Result.of(record)
            is_known = result is not None and since is not None and result.at <= since
            if is_known and number >= _PAGE:
                return
            if result is not None and not is_known:
                yield result

    def newest_materialization(self, asset: dg.AssetKey) -> int:
        """Id of the newest materialization of an asset; 0 if there is none."""
        made = self._made.newest([asset]).get(asset)
        return 0 if made is None else made.id

    def open_failures(
        self, key: dg.AssetCheckKey, until: int | None = None, tested: Window | None = None
    ) -> OpenFailures:
        """The windows that failed, or were built and not evaluated, and that no later result covers.

        Args:
            key: The check.
            until: Id of the newest materialization that counts; if None, all count.
            tested: The window that the caller is testing itself: materializations in it are left out.
        """
        failed: dict[Window, OpenFailure] = {}
        results: list[Result] = []
        planned: set[str] = set()
        waiting: list[AssetCheckExecutionRecord] = []
        base: Result | None = None
        for record in self._reached(key):
            result = Result.of(record)
            is_reached = base is None or record.id >= base.reach
            if result is None:
                planned.add(record.run_id)
                if record.run_id == self._run_id or not is_reached:
                    continue
                if self._runs.is_in_progress(record.run_id):
                    waiting.append(record)
                else:
                    for window, at in self._runs.windows(record.run_id, key.asset_key):
                        _keep_newest(failed, OpenFailure(window, at, False, record.run_id))
                continue
            if base is None:
                base = result
                for failure in result.open_windows.values():
                    _keep_newest(failed, failure)
            if result.window is None:
                continue
            results.append(result)
            if not result.passed_its_window and (is_reached or result.is_later_than(base)):
                _keep_newest(failed, OpenFailure(result.window, result.at, result.evaluated, result.run_id))
        passed = [r for r in results if r.passed_its_window]
        still = {
            window: failure
            for window, failure in failed.items()
            if not any(r.covers(window) and r.at > failure.since for r in passed)
        }
        is_pending = any(self._runs.is_building(record.run_id, key.asset_key) for record in waiting)
        for failure in self._cut_short(key, base):
            if self._runs.is_in_progress(failure.run_id):
                is_pending = True
            else:
                _keep_newest(still, failure)
        for made in self._untested(key.asset_key, base, results, waiting, tested):
            if until is not None and made.id > until:
                continue
            if (
                made.run_id in planned
                and made.run_id != self._run_id
                and self._runs.is_in_progress(made.run_id)
            ):
                is_pending = True
            else:
                still[made.window] = OpenFailure(made.window, made.at, False, made.run_id)
        unsettled = waiting[-1].id if waiting else None
        return OpenFailures(still, unsettled, is_pending, results[0] if results else None)

    def republish(self, keys: Sequence[dg.AssetCheckKey]) -> None:
        """Report the open failures again if the newest record of a check, from another run, passed.

        The newest record, which Dagster and its UI use, is that of the run planned last; that run may have
        ended before a run planned earlier failed.
        """
        newest = self._instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        for key, record in newest.items():
            if record.run_id == self._run_id or record.status != _SUCCEEDED:
                continue
            until = self.newest_materialization(key.asset_key)
            found = self.open_failures(key, until)
            if found.by_window:
                self._instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(
                        asset_key=key.asset_key,
                        check_name=key.name,
                        passed=False,
                        description=found.description,
                        metadata={**found.metadata, MATERIALIZED_UNTIL: until},
                        blocking=True,
                    )
                )

    def _state(
        self, key: dg.AssetCheckKey, newest: AssetCheckExecutionRecord | None, made: Materialization | None
    ) -> CheckState:
        result = None if newest is None else Result.of(newest)
        if result is not None and _is_all(result, made) and not any(self._cut_short(key, result)):
            return CheckState(key, result.status, result, was_built=made is not None)
        found = self.open_failures(key)
        failures = tuple(found.by_window.values())
        if any(f.evaluated for f in failures):
            status = CheckStatus.FAILED
        elif failures:
            status = CheckStatus.NOT_EVALUATED
        elif found.is_pending:
            status = CheckStatus.PENDING
        elif found.settled is None:
            status = CheckStatus.NOT_EVALUATED
        else:
            status = CheckStatus.WARNED if found.settled.status is CheckStatus.WARNED else CheckStatus.PASSED
        return CheckState(key, status, found.settled, failures, made is not None)

    def _cut_short(self, key: dg.AssetCheckKey, base: Result | None) -> Iterator[OpenFailure]:
        """Windows that a killed or interrupted run may have written without a materialization.

        Such a run need not have planned the check.
        """
        if base is None:
            return
        for run_id in self._runs.unsuccessful(base.planned_at):
            for window, at in self._runs.cut_short(run_id, key.asset_key) if run_id != self._run_id else ():
                results = self.results_since(key, at)
                if not any(r.passed_its_window and r.covers(window) and r.at > at for r in results):
                    yield OpenFailure(window, at, False, run_id)

    def _untested(
        self,
        asset: dg.AssetKey,
        base: Result | None,
        results: Sequence[Result],
        waiting: Sequence[AssetCheckExecutionRecord],
        left_out: Window | None,
    ) -> Iterator[Materialization]:
        """The newest materialization of each window that no result has tested.

        The newest result accounts for everything built before it began, except by runs in progress.
        """
        known = 0 if base is None or base.horizon is None else base.horizon
        newest = {made.window: made for made in self._made.after(asset, known, left_out)}
        if waiting:
            since = AssetRecordsFilter(asset, after_timestamp=min(r.create_timestamp for r in waiting) - 1)
            runs = {record.run_id for record in waiting}
            for made in self._made.matching(since):
                if made.run_id in runs and made.id <= known:
                    newest.setdefault(made.window, made)
        for made in newest.values():
            if left_out is not None and covers(left_out, made.window):
                continue
            accounted = (
                base is not None and (base.window is None or base.horizon is None) and base.tested(made)
            )
            if not accounted and not any(r.covers(made.window) and r.tested(made) for r in results):
                yield made

    def _records(self, key: dg.AssetCheckKey) -> Iterator[AssetCheckExecutionRecord]:
        """All records of a check, newest first."""
        storage = self._instance.event_log_storage
        cursor, limit = None, _PAGE
        while True:
            page = storage.get_asset_check_execution_history(key, limit=limit, cursor=cursor)
            yield from page
            if len(page) < limit:
                return
            cursor, limit = page[-1].id, min(4 * limit, 256)

    def _reached(self, key: dg.AssetCheckKey) -> Iterator[AssetCheckExecutionRecord]:
        """Records, newest first, back to the oldest that the newest result does not account for.

        The rest of the first page follows: results of runs that were planned earlier and tested later.
        """
        reach = None
        for number, found in enumerate(self._records(key)):
            if reach is not None and found.id < reach and number >= _PAGE:
                return
            record = self._as_ended(key, found)
            yield record
            result = Result.of(record)
            if reach is None and result is not None:
                reach = result.reach

    def _as_ended(
        self, key: dg.AssetCheckKey, record: AssetCheckExecutionRecord
    ) -> AssetCheckExecutionRecord:
        """The record, read again if its run has ended: the result may have been recorded just before."""
        if (
            record.status != _PLANNED
            or record.run_id == self._run_id
            or self._runs.is_in_progress(record.run_id)
        ):
            return record
        storage = self._instance.event_log_storage
        return storage.get_asset_check_execution_history(key, limit=1, cursor=record.id + 1)[0]


def _keep_newest(found: dict[Window, OpenFailure], failure: OpenFailure) -> None:
    known = found.get(failure.window)
    if known is None or failure.since > known.since:
        found[failure.window] = failure


def _is_all(result: Result, made: Materialization | None) -> bool:
    """Whether a result settles the check: it has no open failure, and nothing was built since."""
    if result.window is None or result.open_windows or result.unsettled is not None:
        return False
    if result.window != WHOLE_TABLE and not result.passed_its_window:
        return False
    if made is None:
        return True
    if result.window == WHOLE_TABLE:
        return result.tested(made)
    return result.horizon is not None and made.id <= result.horizon
