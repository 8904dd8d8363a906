"""Whether a training starts: the signals of all triggers, held against what was decided before.

What belongs here: the policy as a pure function. It reads no clock, no table and no run. What does not:
signals (``signals``), or how decisions are kept (``decisions``).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from orchestration.automation.retraining.signals import FORCING, Signal, Trigger
from orchestration.declarations import Retrain

Outcome = Literal["fired", "suppressed", "quiet"]
Hold = Literal["answered", "one_at_a_time", "quality", "nothing_new", "cooldown", "budget"]
"""Why nothing starts though a trigger is in alarm.

``answered``: a training followed this episode already; ``one_at_a_time``: one is under way; ``quality``: a
blocking check on what would be learnt from does not hold; ``nothing_new``: the same rows and definition would
give the same model; ``cooldown``: the last training is too recent; ``budget``: there were too many lately.
"""


@dataclass(frozen=True)
class Situation:
    """What holds a training back, beside earlier decisions."""

    under_way: str | None = None
    """The run that is training."""
    open_failures: tuple[str, ...] = ()
    """Blocking checks that failed, or were not evaluated."""
    nothing_new: bool = False


@dataclass(frozen=True)
class Decision:
    """One evaluation of a model's triggers.

    ``triggers`` are those that were in alarm and not answered yet; those of a ``fired`` one are why the model
    is trained. ``evaluation`` is a hash of all that the decision follows from, whatever it measured exactly:
    an evaluation that would come out the same is not written down again.
    """

    id: str
    sequence: int
    model: str
    champion: str
    decided_at: datetime
    outcome: Outcome
    holds: tuple[Hold, ...]
    triggers: tuple[Trigger, ...]
    reason: str
    signals: tuple[Signal, ...]
    evidence: tuple[str, ...]
    evaluation: str = field(repr=False)

    @property
    def forced(self) -> Trigger | None:
        """The trigger, if any, that wants a new champion which need not be better."""
        return next((trigger for trigger in self.triggers if trigger in FORCING), None)


def decide(
    policy: Retrain,
    model: str,
    champion: str,
    signals: Sequence[Signal],
    situation: Situation,
    past: Sequence[Decision],
    failed: frozenset[str],
    now: datetime,
) -> Decision:
    """The decision on a model's signals.

    Args:
        policy: What is declared.
        model: Its name.
        champion: The version that serves.
        signals: One of each declared trigger.
        situation: What else holds a training back.
        past: The model's earlier decisions, oldest first.
        failed: Ids of fired decisions whose training came to nothing.
        now: The platform's present instant.
    """
    alarms = [s for s in signals if s.state == "alarm"]
    armed = [s for s in alarms if not answered(s, past, failed)]
    holds: tuple[Hold, ...] = ()
    if armed:
        holds = tuple(_holds(policy, armed, situation, past, now))
    elif alarms:
        holds = ("answered",)
    outcome: Outcome = "quiet" if not alarms else "suppressed" if holds else "fired"
    told = armed or alarms
    sequence = past[-1].sequence + 1 if past else 1
    states = [[s.trigger, s.state, s.episode] for s in signals]
    evaluation = _digest([model, champion, outcome, holds, situation.open_failures, states])
    decision = Decision(
        id="",
        sequence=sequence,
        model=model,
        champion=champion,
        decided_at=now,
        outcome=outcome,
        holds=holds,
        triggers=tuple(s.trigger for s in told),
        reason=_words(told, holds, policy, situation, past, now),
        signals=tuple(signals),
        evidence=tuple(dict.fromkeys(e for s in told for e in s.evidence)),
        evaluation=evaluation,
    )
    return replace(decision, id=_digest([model, sequence, evaluation]))


def is_news(decision: Decision, past: Sequence[Decision]) -> bool:
    """Whether it says anything that the decision before it did not; a training that starts always does."""
    return decision.outcome == "fired" or not past or past[-1].evaluation != decision.evaluation


def answered(signal: Signal, past: Sequence[Decision], failed: frozenset[str]) -> bool:
    """Whether a training has followed the signal's episode, and it was not calm since.

    One that failed is no answer: it is tried again once the cooldown is over. Whoever asked by hand sees that
    it failed, and asks again.
    """
    asked = signal.trigger == "manual"
    for decision in reversed(past):
        before = next((s for s in decision.signals if s.trigger == signal.trigger), None)
        if before is None:
            continue
        if before.state == "calm":
            return False
        if (
            decision.outcome == "fired"
            and (asked or decision.id not in failed)
            and before.state == "alarm"
            and before.episode == signal.episode
        ):
            return True
    return False


def trainings_since(past: Sequence[Decision], instant: datetime) -> int:
    """How many trainings were started after an instant."""
    return sum(d.outcome == "fired" and d.decided_at > instant for d in past)


def _holds(
    policy: Retrain,
    armed: Sequence[Signal],
    situation: Situation,
    past: Sequence[Decision],
    now: datetime,
) -> Iterator[Hold]:
    if situation.under_way is not None:
        yield "one_at_a_time"
    if situation.open_failures:
        yield "quality"
    if situation.nothing_new:
        yield "nothing_new"
    # Who asks by hand need not wait.
    asked = any(s.trigger == "manual" for s in armed)
    if not asked and trainings_since(past, now - policy.cooldown):
        yield "cooldown"
    budget = policy.budget
    if budget is not None and trainings_since(past, now - budget.per) >= budget.trainings:
        yield "budget"


def _words(
    told: Sequence[Signal],
    holds: Sequence[Hold],
    policy: Retrain,
    situation: Situation,
    past: Sequence[Decision],
    now: datetime,
) -> str:
    if not told:
        return "no trigger is in alarm"
    alarm = "; ".join(f"{s.trigger}: {s.words}" for s in told)
    return "; ".join([*(_hold_words(hold, policy, situation, past, now) for hold in holds), alarm])


def _hold_words(
    hold: Hold, policy: Retrain, situation: Situation, past: Sequence[Decision], now: datetime
) -> str:
    if hold == "answered":
        return "held back: a training has followed this alarm already"
    if hold == "one_at_a_time":
        return f"held back: run {situation.under_way} is training"
    if hold == "quality":
        return f"held back: {', '.join(situation.open_failures[:5])} do not hold"
    if hold == "nothing_new":
        return "held back: there is nothing new to learn from"
    if hold == "cooldown":
        last = max(d.decided_at for d in past if d.outcome == "fired")
        return f"held back: trained last on {last:%Y-%m-%d %H:%M}, {_span(policy.cooldown)} must pass"
    assert policy.budget is not None
    count = trainings_since(past, now - policy.budget.per)
    return f"held back: {count} trainings in {_span(policy.budget.per)}, no more are allowed"


def _span(length: timedelta) -> str:
    days = length / timedelta(days=1)
    count, unit = (days, "day") if days >= 1 else (length / timedelta(hours=1), "hour")
    return f"{count:g} {unit}" if count == 1 else f"{count:g} {unit}s"


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
