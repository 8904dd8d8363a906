"""A model's triggers evaluated: evidence gathered, the policy asked, the decision written down.

What belongs here: putting these together. What does not: any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestration.automation.retraining import signals
from orchestration.automation.retraining.decisions import DecisionLog, pending
from orchestration.automation.retraining.evidence import Watched, gather, standing
from orchestration.automation.retraining.policy import Decision, Situation, decide
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.registry import Registry
from orchestration.settings import Clock


@dataclass(frozen=True)
class Trainings:
    """What became of the trainings that decisions started.

    ``under_way`` is the run that is training; ``failed`` are decisions whose training came to nothing,
    ``waiting`` the newest one if no run of it has been asked for yet.
    """

    under_way: str | None = None
    failed: frozenset[str] = frozenset()
    waiting: Decision | None = None


class Runs(Protocol):
    """Tells what became of trainings."""

    def trainings(self, model: str, decisions: Sequence[Decision]) -> Trainings:
        """Of those that the decisions on a model started."""
        ...

    def open_failures(self, model: str) -> Sequence[str]:
        """Blocking checks on what a model would learn from that do not hold now."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """The newest decision, whether it was made now, and the one whose run is to be asked for, if any.

    ``labels_until`` is the instant up to which the last training knew labels.
    """

    decision: Decision
    is_new: bool
    to_run: Decision | None
    labels_until: datetime


def evaluate(
    watched: Watched, lakehouse: LakehouseResource, registry: Registry, runs: Runs, clock: Clock
) -> Evaluation | None:
    """Decide whether a model is trained; None where it has no champion yet.

    A decision whose run nobody has asked for yet, as the process was killed in between, comes first.
    """
    log, model, now = DecisionLog(lakehouse, clock), watched.model, clock.now()
    held = standing(registry.events(model), registry.champion(model))
    if held is None:
        return None
    waiting = runs.trainings(model, log.decisions(model)).waiting
    if waiting is not None:
        return Evaluation(waiting, False, waiting, held.latest.labels_until)
    failures, requests = tuple(runs.open_failures(model)), log.requests(model)
    with lakehouse.get_connection() as con:
        evidence = gather(con, watched, held, now)

    def made(past: Sequence[Decision]) -> Decision:
        started = runs.trainings(model, past)
        asked = signals.manual([(r.id, f"{r.actor}: {r.reason}") for r in pending(requests, past)])
        under_way = started.under_way
        if under_way is None and started.waiting is not None:
            under_way = f"of decision {started.waiting.id}"
        situation = Situation(under_way, failures, evidence.nothing_new)
        told = (asked, *evidence.signals)
        return decide(watched.policy, model, evidence.champion, told, situation, past, started.failed, now)

    decision, is_new = log.evaluate(model, made)
    fired = decision if is_new and decision.outcome == "fired" else None
    return Evaluation(decision, is_new, fired, held.latest.labels_until)
