"""Performance: how good the model is in a window, foretold before labels come and told when they have.

What belongs here: both beside what the version reached when it was chosen, and whether that is worse. What
does not: the metrics themselves (``metrics``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestration.declarations import PerformanceWatch
from orchestration.learning.statistics.metrics import GREATER_IS_BETTER, Estimate
from orchestration.monitoring.cells import ALL, Slice, Tally
from orchestration.monitoring.metrics import estimated, realised
from orchestration.monitoring.reference import Expected, Reference

Kind = Literal["estimated", "realised"]
_SLICE_DRAWS = 200


@dataclass(frozen=True)
class Performance:
    """A metric of a slice: as scores foretell it, as labels tell it, and as it was when the model was chosen.

    ``slice`` is ``column=value``, or the empty text for all rows.
    """

    slice: str
    metric: str
    estimated: Estimate | None
    realised: Estimate | None
    expected: Expected | None
    rows: int
    labelled: int


def measure_performance(
    tallies: Mapping[Slice, Tally], reference: Reference, watch: PerformanceWatch, seed: int
) -> list[Performance]:
    """Every metric of every slice."""
    found = []
    for part, told in tallies.items():
        foretold = estimated(told.estimated, reference.gaps, confidence=watch.confidence)
        draws = 1000 if part.name == ALL else _SLICE_DRAWS
        known = realised(told.labelled, confidence=watch.confidence, draws=draws, seed=seed)
        expected = reference.expected.get(part.name, {})
        found += [
            Performance(
                part.name,
                metric,
                foretold.get(metric),
                known.get(metric),
                expected.get(metric),
                told.rows,
                told.labelled.count,
            )
            for metric in GREATER_IS_BETTER
            if metric in foretold or metric in known
        ]
    return found


@dataclass(frozen=True)
class Verdict:
    """Whether the primary metric is worse than it may be; None where there is too little to tell."""

    kind: Kind
    holds: bool | None
    words: str


def judge_performance(
    performances: Sequence[Performance], metric: str, watch: PerformanceWatch
) -> Iterator[Verdict]:
    """What the estimate and the labels say of the primary metric on all rows.

    It is worse when even the better end of its confidence interval is worse than what was expected by more
    than declared.
    """
    whole = next((p for p in performances if p.slice == ALL and p.metric == metric), None)
    kinds: tuple[Kind, ...] = ("estimated", "realised")
    for kind in kinds:
        yield Verdict(kind, *_judged(whole, kind, metric, watch))


def _judged(
    whole: Performance | None, kind: Kind, metric: str, watch: PerformanceWatch
) -> tuple[bool | None, str]:
    if whole is None:
        return None, f"found no predictions of which {metric} can be told"
    found = whole.estimated if kind == "estimated" else whole.realised
    rows = whole.rows if kind == "estimated" else whole.labelled
    if rows < watch.min_rows:
        return None, f"{rows:,} rows, of which at least {watch.min_rows:,} are needed to tell"
    if kind == "realised" and whole.labelled < watch.labelled * whole.rows:
        return None, (
            f"labels of {whole.labelled / whole.rows:.0%} of {whole.rows:,} predictions are known, "
            f"of which {watch.labelled:.0%} are needed to tell"
        )
    if found is None or found.low is None or found.high is None or whole.expected is None:
        return None, f"{metric} has no interval, or none was expected"
    greater, expected = GREATER_IS_BETTER[metric], whole.expected.value
    limit = expected - watch.loss if greater else expected + watch.loss
    holds = found.high >= limit if greater else found.low <= limit
    return holds, (
        f"{metric} {kind} as {found.value:.4f} ({found.low:.4f} to {found.high:.4f}) on {rows:,} rows, "
        f"{expected:.4f} when it was chosen; expected {'at least' if greater else 'at most'} {limit:.4f}"
    )
