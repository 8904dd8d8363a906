"""The second domain as a running platform: runs from every origin, with a fault at any event.

A run can be killed just before or just after Dagster records an event, a step can raise as it starts, and
another run can be executed while a step starts. A run to be killed executes in a forked process, which gets
SIGKILL; its status is STARTED until something marks it as failed.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster import DagsterEventType, EventLogEntry
from dagster._core.definitions.automation_tick_evaluation_context import build_run_requests
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    RUN_KEY_TAG,
)

from orchestration.automation.jobs import ALL_ASSETS, Span
from orchestration.definitions import assemble
from orchestration.instance import open_instance
from orchestration.lakehouse import LakehouseResource
from orchestration.project import read_project
from orchestration.settings import MovingClock
from tests.killing import die
from tests.water_works import WaterWorks

SECONDS = 600
"""How long a forked run may take."""
START = datetime(2024, 1, 9, tzinfo=UTC)
_UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED]


@dataclass(frozen=True)
class Fault:
    """What happens at the first event of a type in a step.

    ``what`` is ``kill_before`` or ``kill_after`` the record of the event, ``raise`` in the step, or ``run``:
    execute ``action`` while the step starts.
    """

    what: str
    event: DagsterEventType
    step: str
    action: Callable[[], object] | None = None


@dataclass(frozen=True)
class RecordedEvent:
    """An event with the partitions of its run; ``days`` is None for a run without partitions."""

    entry: EventLogEntry
    days: tuple[str, str] | None
    tags: dict[str, str]
    config: dict[str, Any]


class Driver:
    """One platform: its clock, its instance, its definitions, and what starts runs."""

    def __init__(self, works: WaterWorks, template: Path) -> None:
        self.works, self._template = works, template
        self.clock = MovingClock(START)
        self.project = replace(read_project(works.settings), clock=self.clock)
        self.definitions = assemble(self.project)
        self.repository = self.definitions.get_repository_def()
        self.graph = self.repository.asset_graph
        self.lakehouse = LakehouseResource.from_settings(works.settings)
        self.listen: Callable[[RecordedEvent], None] = lambda _: None
        self.ended: Callable[[RecordedEvent], None] = lambda _: None
        """Called with a run once it has ended."""

    def reset(self) -> None:
        """Restore the data folder, the deliveries and the clock of the template."""
        for name, folder in (("data", self.works.settings.data_dir), ("deliveries", self.works.deliveries)):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self._template / name, folder)
        self.begin()

    def begin(self) -> None:
        """Forget every run, tick and fault."""
        self.clock.move(START)
        self._cursor: Any = None
        self._faults: list[Fault] = []
        self._dead: set[str] = set()
        self._runs: dict[str, RecordedEvent] = {}
        self.errors: list[str] = []
        """Of steps that failed."""

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the instance open."""
        with open_instance(self.works.settings) as instance:
            self._watch(instance)
            yield

    def _watch(self, instance: dg.DagsterInstance) -> None:
        record = instance.handle_new_event
        instance.handle_new_event = lambda *a, **k: self._handle(record, *a, **k)  # type: ignore[method-assign]
        self.instance = instance

    def _handle(self, record: Callable[..., None], event: EventLogEntry, **named: Any) -> None:
        kind, step = event.dagster_event_type, event.step_key or ""
        fault = next((f for f in self._faults if f.event == kind and f.step == step), None)
        if fault is not None:
            self._faults.remove(fault)
            if fault.what == "kill_before":
                die()
        record(event, **named)
        self._report(event)
        if fault is None:
            return
        if fault.what == "kill_after":
            die()
        if fault.what == "raise":
            raise RuntimeError(f"planned: {step}")
        if fault.action is not None:
            fault.action()

    def _report(self, event: EventLogEntry) -> None:
        if event.is_dagster_event and event.get_dagster_event().is_step_failure:
            error = event.get_dagster_event().step_failure_data.error
            self.errors.append(f"{event.step_key}: {error.to_string() if error else event.message}")
        if event.run_id in self._runs:
            self.listen(replace(self._runs[event.run_id], entry=event))

    def run(
        self,
        assets: Sequence[str],
        days: tuple[str, str] | None,
        *,
        checks: bool = True,
        fault: Fault | None = None,
        config: dict[str, Any] | None = None,
        job: str = ALL_ASSETS,
        tags: dict[str, str] | None = None,
    ) -> bool | None:
        """Execute a run, of the whole job without ``assets``; return whether it succeeded, None if it was killed."""
        definition = self.repository.get_job(job)
        keys = [dg.AssetKey(name.split("/")) for name in assets]
        if keys and not checks:
            definition = definition.get_subset(asset_selection=set(keys), asset_check_selection=set())
        partitioned = any(self.graph.get(key).is_partitioned for key in keys) if keys else True
        selected = keys if checks and keys else None
        return self._execute(
            definition, days if partitioned else None, tags or {}, config or {}, selected, fault
        )

    def _execute(
        self,
        definition: dg.JobDefinition,
        days: tuple[str, str] | None,
        tags: dict[str, str],
        config: dict[str, Any],
        selected: Sequence[dg.AssetKey] | None,
        fault: Fault | None,
    ) -> bool | None:
        run_id = str(uuid4())
        run_tags = {**tags, **({} if days is None else Span(*days).tags)}
        placeholder: Any = None
        self._runs[run_id] = RecordedEvent(placeholder, days, run_tags, config)

        def execute() -> bool:
            return definition.execute_in_process(
                instance=self.instance,
                run_id=run_id,
                tags=run_tags,
                asset_selection=selected,
                raise_on_error=False,
                run_config={**config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            ).success

        outer, self._faults = self._faults, [fault] if fault else []
        try:
            if fault is None or not fault.what.startswith("kill"):
                return execute()
            return self._execute_and_kill(execute, run_id)
        finally:
            self._faults = outer
            self.ended(self._runs[run_id])

    def run_checks(self, assets: Sequence[str], days: tuple[str, str]) -> bool | None:
        """Execute the checks of some assets and nothing else."""
        names = set(assets)
        keys = {key for key in self.graph.asset_check_keys if key.asset_key.to_user_string() in names}
        keys = {key for key in keys if self.repository.get_job(ALL_ASSETS).asset_layer.has(key)}
        definition = self.repository.get_job(ALL_ASSETS).get_subset(asset_check_selection=keys)
        return self._execute(definition, days, {}, {}, None, None)

    def _execute_and_kill(self, execute: Callable[[], bool], run_id: str) -> bool | None:
        pid = os.fork()
        if pid == 0:
            code = 2
            # A child that waits for a thread of its parent never ends.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            try:
                self.listen = lambda _: None
                with open_instance(self.works.settings) as instance:
                    self._watch(instance)
                    code = 0 if execute() else 1
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in {0, 1, -signal.SIGKILL}, f"the forked run ended with {code}"
        for event in self.instance.all_logs(run_id):
            self._report(event)
        if code >= 0:
            return code == 0
        # Otherwise the next step would wait for the slot until the run is marked as failed.
        self.instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        self._dead.add(run_id)
        return None

    def request(self, job: str, request: dg.RunRequest, fault: Fault | None = None) -> None:
        """Launch a requested run as the daemon does: a run key is launched only once."""
        tags = dict(request.tags)
        if request.run_key is not None:
            tags[RUN_KEY_TAG] = request.run_key
            if self.instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: request.run_key}), limit=1):
                return
        day = tags.pop(PARTITION_NAME_TAG, None) or request.partition_key
        days = (day, day) if day else None
        if ASSET_PARTITION_RANGE_START_TAG in tags:
            days = tags.pop(ASSET_PARTITION_RANGE_START_TAG), tags.pop(ASSET_PARTITION_RANGE_END_TAG)
        names = [key.to_user_string() for key in request.asset_selection or ()]
        self.run(names, days, job=job, tags=tags, config=dict(request.run_config or {}), fault=fault)

    def sensor_tick(self, name: str, fault: Fault | None = None) -> int:
        """Evaluate a sensor and launch the runs that it requests; return their number."""
        sensor = self.repository.get_sensor_def(name)
        with dg.build_sensor_context(
            instance=self.instance,
            resources={"lakehouse": self.lakehouse},
            repository_def=self.repository,
        ) as context:
            found = sensor.evaluate_tick(context).run_requests or []
        for request in found:
            self.request(
                request.job_name or (name if name.startswith("retrain") else ALL_ASSETS), request, fault
            )
        return len(found)

    def schedule_tick(self, fault: Fault | None = None) -> None:
        """Evaluate the daily schedule and launch the runs that it requests."""
        context = dg.build_schedule_context(
            instance=self.instance, scheduled_execution_time=self.clock.now(), repository_def=self.repository
        )
        for request in self.repository.get_schedule_def("daily").evaluate_tick(context).run_requests or []:
            self.request("daily", request, fault)

    def automation_tick(self, fault: Fault | None = None, only: Sequence[str] = ()) -> list[str]:
        """Evaluate the automation conditions, launch the requested assets and return their names."""
        selection = dg.AssetSelection.assets(*(dg.AssetKey(n.split("/")) for n in only)) if only else None
        found = dg.evaluate_automation_conditions(
            self.definitions,
            self.instance,
            asset_selection=selection,
            cursor=self._cursor,
            evaluation_time=self.clock.now(),
        )
        self._cursor = found.cursor
        subsets = [result.true_subset for result in found.results if not result.true_subset.is_empty]
        for request in build_run_requests(subsets, self.graph, {}, emit_backfills=False):
            self.request(ALL_ASSETS, request, fault)
        return sorted(subset.key.to_user_string() for subset in subsets)

    def mark_dead_runs(self) -> None:
        """Mark killed runs as failed, as run monitoring or the next command does."""
        for run in self.instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
            if run.run_id in self._dead:
                self._dead.discard(run.run_id)
                self.instance.report_run_failed(run)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query of the lakehouse."""
        with self.lakehouse.reader() as con:
            return con.execute(query).fetchall()


def days_between(first: str, last: str) -> list[str]:
    """Every day from ``first`` to ``last``."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(n)).isoformat() for n in range((end - start).days + 1)]
