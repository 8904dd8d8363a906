"""The platform itself on recorded history: its own jobs, assets and sensor on a clock that is moved.

A week at a time what follows a landing is materialized, and the model's sensor is asked; the run that it asks
for trains, judges and promotes. All of that goes into a data folder like any other, with a Dagster instance
that the UI can show. What belongs here: moving the clock and starting what is due. What does not: what the
runs do, and what they are compared with (``lanes``).
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG

from orchestration.asset_specs import asset_key
from orchestration.automation.jobs import ALL_ASSETS, Span, reached_partitions
from orchestration.automation.liveness import bury_dead_runs
from orchestration.automation.local_run import run_here
from orchestration.automation.retraining.decisions import DecisionLog
from orchestration.automation.retraining.runs import MODEL_TAG
from orchestration.automation.retraining.sensors import job_name
from orchestration.declarations import LearnedModel
from orchestration.feature_store.views import build_catalog
from orchestration.instance import open_instance
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.predictions import outcomes_key, predictions_key
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec, build_models
from orchestration.monitoring.assets import monitoring_key
from orchestration.project import Project, read_project
from orchestration.replay.fork import copy_tables, recorded_tables, report_checks
from orchestration.replay.history import ReplayError
from orchestration.replay.weeks import Week, read_weeks, write_week
from orchestration.settings import MovingClock, Settings

NAME, WORDS = "triggers", "as its triggers decide"
CLOCK_TAG = "groundwork/clock"
"""Where the platform's clock stood when a run of the replay began."""
_WATCHED = ("drift", "performance")
"""What the triggers look at."""
_TOO_FEW_ROWS = "SplitError"

Spans = Sequence[tuple[datetime, datetime]]


@dataclass(frozen=True)
class Walker:
    """What the walk of a model needs, in a shape that another process can be given.

    ``assemble`` makes the definitions of a project; ``spans`` are the weeks; ``checks`` is how the checks of
    what is not made anew came out.
    """

    settings: Settings
    own: Settings
    model: str
    assemble: Callable[[Project], dg.Definitions]
    spans: Spans
    checks: Sequence[dg.AssetCheckEvaluation]

    def walk(self, log: Callable[[str], None]) -> None:
        """Walk through the weeks that were not walked through yet.

        Raises:
            ReplayError: A run failed; the message says which and why.
        """
        # As in any process that does nothing but run.
        gc.set_threshold(200_000, 50, 100)
        read = read_project(self.settings)
        clock = MovingClock(read.clock.now())
        project = replace(_unhurried(read, self.model), settings=self.own, clock=clock)
        spec = build_models(project.declarations, build_catalog(project.declarations))[self.model]
        source = LakehouseResource.from_settings(self.settings)
        lakehouse = LakehouseResource.from_settings(self.own)
        copy_tables(source, lakehouse, recorded_tables(spec, project.declarations))
        repository = self.assemble(project).get_repository_def()
        with ExitStack() as stack:
            stack.enter_context(lakehouse.kept_open())
            instance = stack.enter_context(open_instance(self.own))
            report_checks(instance, self.checks)
            bury_dead_runs(instance, self.own)
            live = _Live(project, spec, clock, lakehouse, repository, instance, log)
            live.walk(self.spans)


def unhurried(declared: LearnedModel) -> LearnedModel:
    """The declaration without a limit of milliseconds: how busy this machine is now is no part of history."""
    return declared.model_copy(update={"floors": declared.floors.model_copy(update={"milliseconds": 1e9})})


def _unhurried(project: Project, model: str) -> Project:
    declarations = project.declarations
    exposure = declarations.exposures[model]
    assert exposure.meta.model is not None, "a declared model"
    meta = exposure.meta.model_copy(update={"model": unhurried(exposure.meta.model)})
    exposures = {**declarations.exposures, model: replace(exposure, meta=meta)}
    return replace(project, declarations=replace(declarations, exposures=exposures))


class _Live:
    """The platform on a clock that is moved, with a lakehouse and an instance of its own."""

    def __init__(
        self,
        project: Project,
        spec: ModelSpec,
        clock: MovingClock,
        lakehouse: LakehouseResource,
        repository: dg.RepositoryDefinition,
        instance: dg.DagsterInstance,
        log: Callable[[str], None],
    ) -> None:
        self._project, self._spec, self._clock = project, spec, clock
        self._lakehouse, self._repository, self._instance = lakehouse, repository, instance
        self._log = log
        self._registry = Registry(lakehouse, project.settings.models_dir, clock)
        self._follows = [asset_key(spec.table), *(monitoring_key(spec, part) for part in _WATCHED)]
        if spec.spine is not None:
            self._follows += [predictions_key(spec), outcomes_key(spec)]

    def walk(self, spans: Spans) -> None:
        done = read_weeks(self._lakehouse)
        before = done[-1] if done else None
        for start, end in spans:
            if before is None or start > before.start:
                before = self._week(before, start, end) or before
        if before is not None:
            self._clock.move(before.end)
            self._follow(before)

    def _week(self, before: Week | None, start: datetime, end: datetime) -> Week | None:
        """What follows the landing of the week before; then, a training if there is to be one."""
        self._clock.move(start)
        if before is not None:
            self._follow(before)
            reason = self._ask()
        else:
            reason = self._begin()
        champion = self._registry.champion(self._spec.name)
        if champion is None:
            return None
        judged = [
            event.version
            for event in self._registry.events(self._spec.name)
            if event.kind == "judged" and event.happened_at == start
        ]
        trained, promoted = judged[-1] if judged else None, champion.happened_at == start
        if trained is not None:
            said = f"{trained} serves" if promoted else f"{champion.version} serves on"
            self._log(f"{start:%Y-%m-%d} {NAME}: {reason}: {said}")
        week = Week(start, end, champion.version, trained, promoted, reason)
        write_week(self._lakehouse, week)
        return week

    def _follow(self, week: Week) -> None:
        """Materialize what follows the landing of a week that is over."""
        # No trigger looks at the classifier.
        drift = {"__".join(monitoring_key(self._spec, "drift").path): {"config": {"together": False}}}
        self._run(ALL_ASSETS, self._span(week.start), assets=self._follows, config={"ops": drift})
        if not gc.get_freeze_count():
            gc.freeze()  # what is there after the first stays

    def _begin(self) -> str:
        """Train by hand, as long as no version serves."""
        reason = "the first"
        try:
            self._run(job_name(self._spec.name), self._span(None))
        except _TooFewRowsError as fault:
            self._log(f"{self._clock.now():%Y-%m-%d} {NAME}: {reason}: {fault}")
        return reason

    def _ask(self) -> str:
        """Ask the sensor, and start the run that it asks for; the reason is that of the decision."""
        name, now = self._spec.name, self._clock.now()
        tags = {MODEL_TAG: name, CLOCK_TAG: now.isoformat()}
        started = self._instance.get_runs(dg.RunsFilter(tags=tags), limit=1)
        if started and not started[0].is_success:
            # It was cut off: the daemon would start it again.
            self._run(started[0].job_name, None, config=started[0].run_config, tags=started[0].tags)
        elif not started:
            sensor = self._repository.get_sensor_def(job_name(name))
            with dg.build_sensor_context(
                instance=self._instance,
                resources={"lakehouse": self._lakehouse},
                repository_def=self._repository,
            ) as context:
                told = sensor.evaluate_tick(context)
            for request in told.run_requests or ():
                tags = {**request.tags, RUN_KEY_TAG: str(request.run_key)}
                self._run(sensor.name, None, config=request.run_config, tags=tags)
        decisions = DecisionLog(self._lakehouse, self._clock).decisions(name)
        return decisions[-1].reason if decisions else ""

    def _span(self, since: datetime | None) -> Span | None:
        """The partitions that are over, since an instant; None where the training set has none."""
        if self._project.declarations.partition(self._spec.table.unique_id) is None:
            return None
        reached = reached_partitions(self._project.declarations, self._clock)
        first = "" if since is None else since.astimezone(self._spec.timezone).date().isoformat()
        wanted = [day for day in reached if day >= first]
        return Span(wanted[0], wanted[-1])

    def _run(
        self,
        job: str,
        span: Span | None,
        *,
        assets: Sequence[dg.AssetKey] = (),
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        result = run_here(
            self._repository.get_job(job),
            self._instance,
            self._project.settings,
            lambda _: None,
            span=span,
            assets=assets,
            config=config,
            tags={**(tags or {}), CLOCK_TAG: self._clock.now().isoformat()},
        )
        if result.success:
            return
        for failure in result.filter_events(lambda event: event.is_step_failure):
            error = failure.step_failure_data.error
            cause = error.cause if error is not None and error.cause is not None else error
            if cause is None:
                continue
            name, _, text = cause.message.strip().partition(": ")  # the class with its module comes first
            if name.endswith(_TOO_FEW_ROWS):
                raise _TooFewRowsError(text)
            raise ReplayError(f"{self._clock.now():%Y-%m-%d}: {job} failed at {failure.step_key}: {text}")
        raise ReplayError(f"{self._clock.now():%Y-%m-%d}: {job} failed, run {result.run_id}")


class _TooFewRowsError(ReplayError):
    """A training that history is too short for yet."""
