"""A lane to compare with: trained never again, or every so many weeks, on the same history by the same gate.

A lane trains, judges and promotes by the functions that assets call, with a registry of its own. What
belongs here: one lane's week. What does not: what the triggers do (``live``), the order of weeks and lanes
(``walk``), or what it amounts to (``report``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import Artifact
from orchestration.learning.assets import decide
from orchestration.learning.events import Who
from orchestration.learning.judging import judge_challenger
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.learning.splitting import SplitError
from orchestration.learning.training import Code
from orchestration.replay.history import History
from orchestration.replay.weeks import Week, write_week
from orchestration.settings import Clock, Settings


@dataclass(frozen=True)
class Plan:
    """A lane's name, when it trains in words, and every how many weeks; None: never again."""

    name: str
    words: str
    every: int | None


PLANS = (
    Plan("never", "never again", None),
    Plan("monthly", "every four weeks", 4),
    Plan("weekly", "every week", 1),
)


@dataclass(frozen=True)
class Ground:
    """What all lanes share: history, artifacts, and how a challenger of an instant is trained, once.

    ``checks`` are the blocking checks of the model's inputs, and whether they hold.
    """

    spec: ModelSpec
    history: History
    settings: Settings
    code: Code
    checks: Mapping[str, bool | None]
    train: Callable[[datetime], Artifact]
    log: Callable[[str], None]


class Lane:
    """A plan walking through history."""

    def __init__(self, plan: Plan, ground: Ground) -> None:
        self.plan = plan
        self._ground = ground
        own = ground.settings.under(ground.settings.data_dir / plan.name)
        self.lakehouse = LakehouseResource.from_settings(own)

    def walk(self, done: Sequence[Week], start: datetime, end: datetime) -> Week | None:
        """One week.

        Args:
            done: The weeks before.
            start: Now, on the platform's clock.
            end: When the next week begins.

        Returns:
            The week; None as long as no version is good enough to serve.
        """
        ground, name = self._ground, self._ground.spec.name
        registry = Registry(self.lakehouse, ground.settings.models_dir, Clock(start))
        reason = self._reason(done)
        trained = None if reason is None else self._train(registry, start, reason)
        champion = registry.champion(name)
        if champion is None:
            return None
        promoted = champion.happened_at == start
        week = Week(start, end, champion.version, trained, promoted, reason or "")
        write_week(self.lakehouse, week)
        return week

    def _reason(self, done: Sequence[Week]) -> str | None:
        """Why a model is trained now; None when none is."""
        if not done:
            return "the first"
        since = next(n for n, week in enumerate(reversed(done), start=1) if week.trained is not None)
        every = self.plan.every
        return self.plan.words if every is not None and since >= every else None

    def _train(self, registry: Registry, now: datetime, reason: str) -> str | None:
        ground, name, who = self._ground, self._ground.spec.name, Who("replay", reason)
        # Of a week that was cut off, what is judged already is decided on.
        judged = [e.version for e in registry.events(name) if e.kind == "judged" and e.happened_at == now]
        if not judged:
            try:
                artifact = ground.train(now)
            except SplitError as fault:
                ground.log(f"{now:%Y-%m-%d} {self.plan.name}: {reason}: {fault}")
                return None
            registry.register(artifact, who)
            judged = [artifact.version]
            judge_challenger(
                ground.spec, registry, artifact.version, lambda _, version: ground.history.open(version),
                ground.checks, now, ground.code, who, _unsaid,
                forced="age" if registry.champion(name) is not None else None,
            )  # fmt: skip
        words, *_ = decide(name, registry, who)
        ground.log(f"{now:%Y-%m-%d} {self.plan.name}: {reason}: {words}")
        return judged[0]


def _unsaid(line: str) -> None:
    """Takes what is told of a single training."""
