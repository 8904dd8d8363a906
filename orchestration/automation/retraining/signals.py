"""What each retraining trigger says of its evidence: pure functions, one a trigger.

What belongs here: from evidence to a signal. What does not: whether a signal starts a training (``policy``),
or where evidence comes from (``evidence``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from orchestration.declarations import DriftTrigger, NewLabelsTrigger, PerformanceTrigger

Trigger = Literal["manual", "definition", "restated", "performance", "drift", "new_labels", "age"]
TRIGGERS: tuple[Trigger, ...] = get_args(Trigger)
FORCING: frozenset[Trigger] = frozenset({"definition", "restated", "age"})
"""They want the champion replaced by one that is no worse; the others want a better one."""

State = Literal["alarm", "calm", "between", "unknown"]
"""``calm`` ends an episode and arms the trigger again; ``between`` and ``unknown`` change nothing."""

_RECOVERED = 0.5
"""Share of the allowed loss below which performance has recovered."""


@dataclass(frozen=True)
class Signal:
    """What one trigger says.

    ``episode`` names what the alarm is about: a trigger starts one training for each episode, unless it was
    calm in between. ``measured`` is compared with ``limit``; ``evidence`` are ids of what it rests on.
    """

    trigger: Trigger
    state: State
    episode: str
    words: str
    measured: float | None = None
    limit: float | None = None
    evidence: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "trigger": self.trigger,
            "state": self.state,
            "episode": self.episode,
            "words": self.words,
            "measured": self.measured,
            "limit": self.limit,
            "evidence": list(self.evidence),
        }


@dataclass(frozen=True)
class Performance:
    """By how much the primary metric is worse than expected in a window, and at least so by its bound."""

    id: str
    rows: int
    loss: float
    least_loss: float


@dataclass(frozen=True)
class DriftWindow:
    """The drifted features of one evaluation by name, with the share of importance that each holds."""

    id: str
    rows: int
    drifted: tuple[tuple[str, float], ...]

    @property
    def importance(self) -> float:
        """What they hold together."""
        return sum(share for _, share in self.drifted)


def performance(declared: PerformanceTrigger, champion: str, latest: Performance | None) -> Signal:
    """Alarm where the metric is worse than expected by more than declared, even at its confidence bound.

    It has recovered once the loss as measured is less than half of what is declared.
    """
    if latest is None:
        return Signal("performance", "unknown", champion, "nothing was measured yet", None, declared.loss)
    about: dict[str, Any] = {
        "measured": latest.least_loss,
        "limit": declared.loss,
        "evidence": (latest.id,),
    }
    if latest.rows < declared.min_rows:
        words = f"found {latest.rows} rows with a label, expected at least {declared.min_rows}"
        return Signal("performance", "unknown", champion, words, **about)
    words = (
        f"worse than expected by {latest.loss:.4f}, by at least {latest.least_loss:.4f}; "
        f"allowed are {declared.loss:g}"
    )
    if latest.least_loss > declared.loss:
        return Signal("performance", "alarm", champion, words, **about)
    recovered = latest.loss < _RECOVERED * declared.loss
    return Signal("performance", "calm" if recovered else "between", champion, words, **about)


def drift(declared: DriftTrigger, champion: str, windows: Sequence[DriftWindow]) -> Signal:
    """Alarm where enough of the last evaluations found important features drifted.

    Args:
        declared: How many of how many, and what is important.
        champion: Whose reference they were compared with.
        windows: The evaluations, oldest first.
    """
    told = [w for w in windows if w.rows >= declared.min_rows][-declared.of :]
    alarms = [w for w in told if w.drifted and w.importance >= declared.importance]
    latest = max(alarms[-1].drifted, key=lambda pair: (pair[1], pair[0]))[0] if alarms else None
    words = f"{len(alarms)} of the last {len(told)} evaluations found drift" + (
        f", lately of {latest} most" if latest else ""
    )
    about: dict[str, Any] = {
        "measured": float(len(alarms)),
        "limit": float(declared.alarms),
        "evidence": tuple(w.id for w in told),
    }
    if len(alarms) >= declared.alarms:
        return Signal("drift", "alarm", champion, words, **about)
    if len(told) < declared.alarms:
        return Signal("drift", "unknown", champion, words, **about)
    recovered = 2 * len(alarms) < declared.alarms
    return Signal("drift", "calm" if recovered else "between", champion, words, **about)


def new_labels(declared: NewLabelsTrigger, learnt: str, known_rows: int, new_rows: int) -> Signal:
    """Alarm where the rows that were labelled since are many beside those that there were.

    Args:
        declared: The share.
        learnt: What was trained last.
        known_rows: Rows that the champion was made from.
        new_rows: Rows whose label became known since the last training.
    """
    share = new_rows / known_rows
    words = f"{new_rows:,} rows are new, {share:.0%} of {known_rows:,}; {declared.share:.0%} are enough"
    state: State = "alarm" if share >= declared.share else "calm"
    return Signal("new_labels", state, learnt, words, share, declared.share, (learnt,))


def age(limit: timedelta, learnt: str, learnt_at: datetime, now: datetime) -> Signal:
    """Alarm where the last training is as long ago as declared."""
    days, most = (now - learnt_at) / timedelta(days=1), limit / timedelta(days=1)
    words = f"trained last {days:.1f} days ago; {most:g} days are allowed"
    return Signal("age", "alarm" if days >= most else "calm", learnt, words, days, most, (learnt,))


def definition(learnt: Mapping[str, str] | None, current: Mapping[str, str]) -> Signal:
    """Alarm where anything that defines the model is not what the champion was trained with.

    Args:
        learnt: A hash of each part, such as feature SQL; None where the champion does not tell.
        current: The same as it is now.
    """
    episode = " ".join(f"{part}={current[part]}" for part in sorted(current))
    if learnt is None:
        return Signal("definition", "unknown", episode, "the champion does not tell what it was made with")
    changed = sorted(part for part in learnt.keys() | current.keys() if learnt.get(part) != current.get(part))
    evidence = tuple(f"{part}={current.get(part, 'gone')}" for part in changed)
    words = f"changed since the champion was trained: {', '.join(changed)}" if changed else "as it was"
    state: State = "alarm" if changed else "calm"
    return Signal("definition", state, episode, words, float(len(changed)), 0.0, evidence)


def restated(version: str, changed: Sequence[tuple[str, int]] | None) -> Signal:
    """Alarm where rows that the champion was trained on are no longer what they were.

    Args:
        version: The dataset version that it was trained on.
        changed: The partitions that differ, with their rows now; None where nobody could look.
    """
    if changed is None:
        return Signal("restated", "unknown", version, f"{version} could not be compared")
    if not changed:
        return Signal("restated", "calm", version, "what was learnt from is as it was", 0.0, 0.0, (version,))
    shown = ", ".join(partition for partition, _ in changed[:5])
    more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
    episode = f"{version} " + " ".join(f"{partition}:{rows}" for partition, rows in changed)
    return Signal(
        "restated",
        "alarm",
        episode,
        f"changed since {version}: {shown}{more}",
        float(len(changed)),
        0.0,
        (version, *(partition for partition, _ in changed)),
    )


def manual(requests: Sequence[tuple[str, str]]) -> Signal:
    """Alarm where somebody asked for a training.

    Args:
        requests: Id and reason of each request that no training has followed yet, oldest first.
    """
    if not requests:
        return Signal("manual", "calm", "", "nobody asks")
    ids = tuple(request for request, _ in requests)
    return Signal("manual", "alarm", ids[-1], requests[-1][1], float(len(ids)), 0.0, ids)
