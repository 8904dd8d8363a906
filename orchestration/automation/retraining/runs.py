"""What Dagster's history tells of the trainings that decisions started.

What belongs here: tags, and runs found by them. What does not: starting a run (``sensors``).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from orchestration.automation.retraining.evaluating import Trainings
from orchestration.automation.retraining.policy import Decision

MODEL_TAG, DECISION_TAG, TRIGGERS_TAG = "groundwork/retrains", "groundwork/decision", "groundwork/triggers"
_GOING = frozenset({*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED})
_FAILED = frozenset({dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})
_NEWEST = 200
"""Runs of a model's job that are looked through; what is older has long been decided on."""


def trainings_of(model: str, decisions: Sequence[Decision], runs: Sequence[dg.DagsterRun]) -> Trainings:
    """What became of the trainings that decisions started, by a model's runs, the newest first."""
    going = [run.run_id for run in runs if run.status in _GOING]
    by_decision: dict[str, list[dg.DagsterRun]] = defaultdict(list)
    for run in runs:
        if DECISION_TAG in run.tags:
            by_decision[run.tags[DECISION_TAG]].append(run)
    fired = [d for d in decisions if d.outcome == "fired"]
    failed = {
        d.id for d in fired if by_decision[d.id] and all(r.status in _FAILED for r in by_decision[d.id])
    }
    waiting = fired[-1] if fired and not by_decision[fired[-1].id] else None
    return Trainings(going[0] if going else None, frozenset(failed), waiting)


class InstanceRuns:
    """Trainings as a Dagster instance knows them."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        checks: Callable[[dg.DagsterInstance, str], Mapping[str, bool | None]],
    ) -> None:
        """``checks`` tells of each blocking check on a model's inputs whether it holds."""
        self._instance = instance
        self._checks = checks

    def trainings(self, model: str, decisions: Sequence[Decision]) -> Trainings:
        """Of those that the decisions on a model started, or that somebody started by hand."""
        runs = self._instance.get_runs(dg.RunsFilter(tags={MODEL_TAG: model}), limit=_NEWEST)
        return trainings_of(model, decisions, runs)

    def open_failures(self, model: str) -> list[str]:
        """Blocking checks on what a model would learn from that failed or were never evaluated."""
        return sorted(name for name, holds in self._checks(self._instance, model).items() if not holds)
