"""Metrics of scores, each with a confidence interval.

What belongs here: metrics of one model. What does not: differences of two (``comparison``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestration.learning.statistics.bootstrap import resampled, t_quantile
from orchestration.learning.statistics.delong import Floats, placements, variance

GREATER_IS_BETTER: Mapping[str, bool] = {
    "auc": True,
    "precision": True,
    "recall": True,
    "log_loss": False,
    "brier": False,
    "ece": False,
}
BINS = 20
"""Bins of the calibration curve, each with as many rows as the others."""
_SMALLEST = 1e-15


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval; ``low`` and ``high`` are None where the rows do not tell."""

    value: float
    low: float | None
    high: float | None


def losses(labels: NDArray[Any], scores: Floats) -> Floats:
    """The log loss of each row, in nats."""
    clipped = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    return -np.where(np.asarray(labels) == 1, np.log(clipped), np.log1p(-clipped))


@dataclass(frozen=True)
class CalibrationCurve:
    """Mean score and share of positives of each bin, in rising order, and how many rows it holds."""

    scores: tuple[float, ...]
    positives: tuple[float, ...]
    rows: tuple[int, ...]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of the two, weighted by rows."""
        rows = np.array(self.rows)
        return float(np.sum(rows * np.abs(np.array(self.scores) - np.array(self.positives))) / rows.sum())


def score_bins(scores: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """The bin of each row; equal scores share a bin, so there may be fewer than ``bins``."""
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, scores, side="left"), return_inverse=True)[1].astype(np.int64)


def calibration_curve(labels: NDArray[Any], scores: Floats, bins: int = BINS) -> CalibrationCurve:
    """How often scores of about the same height come true."""
    place = score_bins(scores, bins)
    rows = np.bincount(place)
    return CalibrationCurve(
        tuple(np.bincount(place, weights=scores) / rows),
        tuple(np.bincount(place, weights=labels) / rows),
        tuple(int(n) for n in rows),
    )


def drawn_estimate(
    by_day: Floats, statistic: Callable[[Floats], Floats], *, confidence: float, draws: int, seed: int
) -> Estimate:
    """A statistic of sums by day, with its interval by drawing whole days; of one day it has none.

    Args:
        by_day: The sums, in rows, of each day, in columns.
        statistic: From such sums over all days to the value.
        confidence: Of the interval.
        draws: Of days.
        seed: Of the draws.
    """
    value, values = resampled(by_day, statistic, draws, seed)
    values = values[np.isfinite(values)]
    if by_day.shape[-1] < 2 or not len(values):
        return Estimate(value, None, None)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(low), float(high))


def measure(
    labels: NDArray[Any],
    scores: Floats,
    days: NDArray[Any],
    threshold: float,
    *,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 1,
) -> dict[str, Estimate]:
    """Every metric with its two-sided confidence interval.

    The area's interval is DeLong's by day; the others come from drawing whole days. A metric is left out
    where it has no meaning: the area of rows of one class, the precision of no decision.

    Args:
        labels: 0 or 1.
        scores: Probabilities.
        days: Which rows belong together.
        threshold: Scores from here on are decided as 1.
        confidence: Of the intervals.
        draws: Of whole days.
        seed: Of the draws.
    """
    y = np.asarray(labels, dtype=np.float64)
    decided = (scores >= threshold).astype(np.float64)
    _, day = np.unique(days, return_inverse=True)
    count = int(day.max()) + 1

    def sums(*columns: Floats) -> Floats:
        return np.stack([np.bincount(day, weights=column, minlength=count) for column in columns])

    drawn = partial(drawn_estimate, confidence=confidence, draws=draws, seed=seed)

    place = score_bins(scores)
    bins = int(place.max()) + 1
    gaps = np.bincount(place * count + day, weights=scores - y, minlength=bins * count).reshape(bins, count)
    rows = sums(np.ones(len(y)))
    found: dict[str, Estimate] = {}
    if 0 < y.sum() < len(y):
        found["auc"] = _area(y, scores, days, confidence)
    found["log_loss"] = drawn(np.vstack([sums(losses(y, scores)), rows]), ratio)
    found["brier"] = drawn(np.vstack([sums((scores - y) ** 2), rows]), ratio)
    found["ece"] = drawn(np.vstack([gaps, rows]), mean_gap)
    if decided.sum():
        found["precision"] = drawn(sums(decided * y, decided), ratio)
    if y.sum():
        found["recall"] = drawn(sums(decided * y, y), ratio)
    return found


def ratio(sums: Floats) -> Floats:
    """Of two sums the first by the second."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[0] / sums[1])


def mean_gap(sums: Floats) -> Floats:
    """Of sums of gaps by bin, and last of rows: the mean absolute gap."""
    return np.asarray(np.abs(sums[:-1]).sum(axis=0) / sums[-1])


def _area(y: Floats, scores: Floats, days: NDArray[Any], confidence: float) -> Estimate:
    found = placements(y, scores)
    count = len(np.unique(days))
    if count < 2:
        return Estimate(found.area, None, None)
    reach = t_quantile((1 + confidence) / 2, count - 1) * variance(found.influence, y, days) ** 0.5
    return Estimate(found.area, max(0.0, found.area - reach), min(1.0, found.area + reach))
