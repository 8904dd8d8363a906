"""Is one model better than another on the same rows? Paired tests on the primary metric.

What belongs here: differences with one-sided bounds. What does not: which difference is enough (``gate``).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestration.learning.statistics.bootstrap import studentised_bounds, t_quantile
from orchestration.learning.statistics.delong import Floats, placements, variance
from orchestration.learning.statistics.metrics import losses

PrimaryMetric = Literal["auc", "log_loss"]


@dataclass(frozen=True)
class Comparison:
    """By how much the challenger is better, whichever way the metric counts: more is better here.

    ``low`` and ``high`` are one-sided bounds, each of which the true gain passes with a probability of at
    most the error rate.
    """

    metric: PrimaryMetric
    method: str
    gain: float
    error: float
    low: float
    high: float
    rows: int
    days: int

    def superior(self, minimum_gain: float) -> bool:
        """Whether the gain is surely more than ``minimum_gain``."""
        return self.low > minimum_gain

    def not_inferior(self, margin: float) -> bool:
        """Whether a loss is surely less than ``margin``."""
        return self.low > -margin


def compare(
    metric: PrimaryMetric,
    labels: NDArray[Any],
    champion: Floats,
    challenger: Floats,
    days: NDArray[Any],
    error_rate: float,
    *,
    draws: int = 2000,
    seed: int = 1,
) -> Comparison:
    """The paired difference of two models' scores of the same rows.

    For the area: DeLong's test with variances by day and Student's t. For log loss: the studentised
    bootstrap of whole days.

    Raises:
        SingleClassError: The area of rows of one class.
        ValueError: There are fewer than two days.
    """
    count = len(np.unique(days))
    if count < 2:
        raise ValueError(f"found rows of {count} days, expected at least 2")
    if metric == "auc":
        return _compare_areas(labels, champion, challenger, days, count, error_rate)
    gains = losses(labels, champion) - losses(labels, challenger)
    gain, error, low, high = studentised_bounds(gains, days, error_rate, draws, seed)
    method = f"bootstrap-t of whole days, {draws} draws"
    return Comparison(metric, method, gain, error, low, high, len(gains), count)


def _compare_areas(
    labels: NDArray[Any],
    champion: Floats,
    challenger: Floats,
    days: NDArray[Any],
    count: int,
    error_rate: float,
) -> Comparison:
    old, new = placements(labels, champion), placements(labels, challenger)
    gain = new.area - old.area
    error = variance(new.influence - old.influence, labels, days) ** 0.5
    reach = t_quantile(1 - error_rate, count - 1) * error
    method = "DeLong's test, variance by day"
    return Comparison("auc", method, gain, error, gain - reach, gain + reach, len(new.influence), count)
