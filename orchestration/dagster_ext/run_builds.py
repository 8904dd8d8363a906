"""What a run built: its materializations, and what it was building when its process died."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import dagster as dg
from dagster import DagsterEventType
from dagster._core.execution.plan.objects import ErrorSource
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from orchestration.dagster_ext.check_state import WHOLE_TABLE
from orchestration.declarations import Partition
from orchestration.partitions import Window, day_window

_STEP_ENDS = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE}
_ENDED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_RUNNING = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def asset_window(partition: Partition | None, first: str | None, last: str | None = None) -> Window:
    """The window of a partition or of a range of partitions; the whole table if there is none."""
    if partition is None or first is None:
        return WHOLE_TABLE
    start, end = (day_window(partition, date.fromisoformat(day)) for day in (first, last or first))
    return Window(start.start, end.end)


def _is_interrupted(event: dg.DagsterEvent) -> bool:
    return (
        event.event_type == DagsterEventType.STEP_FAILURE
        and event.step_failure_data.error_source == ErrorSource.INTERRUPT
    )


@dataclass
class RunBuilds:
    """What the runs of an instance built; each run is read once."""

    instance: dg.DagsterInstance
    partitions: Mapping[dg.AssetKey, Partition]
    _in_progress: dict[str, bool] = field(default_factory=dict)
    _built: dict[str, Sequence[tuple[dg.AssetKey, Window, datetime]]] = field(default_factory=dict)
    _cut_short: dict[str, Sequence[tuple[dg.AssetKey, Window, datetime]]] = field(default_factory=dict)
    _unsuccessful: tuple[datetime, Sequence[dg.RunRecord]] | None = None

    def is_in_progress(self, run_id: str) -> bool:
        """Whether a run may still build something or evaluate a check."""
        if run_id not in self._in_progress:
            run = self.instance.get_run_by_id(run_id)
            self._in_progress[run_id] = run is not None and not run.is_finished
        return self._in_progress[run_id]

    def is_building(self, run_id: str, asset: dg.AssetKey) -> bool:
        """Whether a step of a run that builds an asset has begun and not ended: it may have committed."""
        begun: set[str] = set()
        for entry in self.instance.all_logs(run_id, of_type={DagsterEventType.STEP_START, *_STEP_ENDS}):
            event = entry.get_dagster_event()
            key = event.step_key or ""
            if event.event_type == DagsterEventType.STEP_START:
                begun.add(key)
            else:
                begun.discard(key)
        return any(built == asset for _, built in self._assets(run_id, begun))

    def windows(self, run_id: str, asset: dg.AssetKey) -> list[tuple[Window, datetime]]:
        """The windows of an asset that a finished run built, and when.

        A window that a step was building when its process died may have been committed, so it counts.
        """
        if run_id not in self._built:
            self._built[run_id] = list(self._recorded(run_id))
        found = [(window, at) for built, window, at in self._built[run_id] if built == asset]
        return [*found, *self.cut_short(run_id, asset)]

    def cut_short(self, run_id: str, asset: dg.AssetKey) -> list[tuple[Window, datetime]]:
        """The windows of an asset whose step was killed or interrupted, and when that step began.

        They may have been committed before their materialization was recorded.
        """
        if run_id not in self._cut_short:
            self._cut_short[run_id] = list(self._unrecorded(run_id))
        return [(window, at) for built, window, at in self._cut_short[run_id] if built == asset]

    def unsuccessful(self, since: datetime) -> list[str]:
        """Ids of runs that are in progress, or that failed or were canceled after an instant."""
        if self._unsuccessful is None or since < self._unsuccessful[0]:
            records = [
                *self.instance.get_run_records(dg.RunsFilter(statuses=_RUNNING)),
                *self.instance.get_run_records(dg.RunsFilter(statuses=_ENDED, updated_after=since)),
            ]
            self._unsuccessful = since, records
        # A run may have ended between the two queries.
        return list(
            dict.fromkeys(
                record.dagster_run.run_id
                for record in self._unsuccessful[1]
                if not record.dagster_run.is_finished or record.update_timestamp > since
            )
        )

    def _recorded(self, run_id: str) -> Iterator[tuple[dg.AssetKey, Window, datetime]]:
        days: dict[dg.AssetKey, set[str | None]] = {}
        at: dict[dg.AssetKey, float] = {}
        for entry in self.instance.all_logs(run_id, of_type={DagsterEventType.ASSET_MATERIALIZATION}):
            event = entry.get_dagster_event()
            if event.asset_key is not None:
                days.setdefault(event.asset_key, set()).add(event.partition)
                at[event.asset_key] = max(entry.timestamp, at.get(event.asset_key, 0.0))
        for asset, found in days.items():
            keys = sorted(day for day in found if day is not None)
            whole = None in found or not keys
            window = WHOLE_TABLE if whole else asset_window(self.partitions.get(asset), keys[0], keys[-1])
            yield asset, window, datetime.fromtimestamp(at[asset], UTC)

    def _unrecorded(self, run_id: str) -> Iterator[tuple[dg.AssetKey, Window, datetime]]:
        begun: dict[str, float] = {}
        for entry in self.instance.all_logs(run_id, of_type={DagsterEventType.STEP_START, *_STEP_ENDS}):
            event = entry.get_dagster_event()
            key = event.step_key or ""
            if event.event_type == DagsterEventType.STEP_START:
                begun[key] = entry.timestamp
            elif not _is_interrupted(event):
                begun.pop(key, None)
        for step, asset in self._assets(run_id, begun):
            yield asset, self._planned_window(run_id, asset), datetime.fromtimestamp(begun[step], UTC)

    def _assets(self, run_id: str, steps: Collection[str]) -> Iterator[tuple[str, dg.AssetKey]]:
        """The assets that steps were meant to build, each with its step."""
        run = self.instance.get_run_by_id(run_id) if steps else None
        if run is None or run.execution_plan_snapshot_id is None:
            return
        for step in self.instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).steps:
            for output in step.outputs if step.key in steps else ():
                if output.properties is not None and output.properties.asset_key is not None:
                    yield step.key, output.properties.asset_key

    def _planned_window(self, run_id: str, asset: dg.AssetKey) -> Window:
        run = self.instance.get_run_by_id(run_id)
        tags = {} if run is None else run.tags
        first = tags.get(ASSET_PARTITION_RANGE_START_TAG) or tags.get(PARTITION_NAME_TAG)
        last = tags.get(ASSET_PARTITION_RANGE_END_TAG)
        return asset_window(self.partitions.get(asset), first, last)
