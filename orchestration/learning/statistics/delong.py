"""The area under the ROC curve and its uncertainty, after DeLong, in O(n log n).

DeLong, DeLong and Clarke-Pearson (1988); computed from midranks as Sun and Xu (2014) do; for rows that hang
together by day as Obuchowski (1997) does for clustered data.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


class SingleClassError(ValueError):
    """All labels are the same: nothing can be told apart."""


def midranks(values: Floats) -> Floats:
    """The rank of each value from 1 on; equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    sorted_values = values[order]
    starts = np.flatnonzero(np.r_[True, sorted_values[1:] != sorted_values[:-1]])
    ends = np.r_[starts[1:], len(values)]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


@dataclass(frozen=True)
class Placements:
    """An area, and how much each row moved it: ``influence`` sums to 0 over the rows."""

    area: float
    influence: Floats


def placements(labels: NDArray[Any], scores: Floats) -> Placements:
    """The area under the curve with DeLong's structural components.

    Raises:
        SingleClassError: There are no positive or no negative rows.
    """
    positive = np.asarray(labels) == 1
    m = int(positive.sum())
    n = len(positive) - m
    if m == 0 or n == 0:
        raise SingleClassError(f"found {m} positive and {n} negative labels, expected some of both")
    together = midranks(scores)
    above = (together[positive] - midranks(scores[positive])) / n
    below = 1 - (together[~positive] - midranks(scores[~positive])) / m
    area = float(above.mean())
    influence = np.empty(len(positive))
    influence[positive] = (above - area) / m
    influence[~positive] = (below - area) / n
    return Placements(area, influence)


def variance(influence: Floats, labels: NDArray[Any], days: NDArray[Any] | None = None) -> float:
    """Variance of an area, or of a difference of two, from the influence of its rows.

    Without ``days`` it is DeLong's own, for rows that are independent; with them it holds however rows of
    one day hang together.
    """
    if days is None:
        positive = np.asarray(labels) == 1
        m, n = int(positive.sum()), int((~positive).sum())
        parts = [
            float(np.sum(influence[rows] ** 2)) * (count / max(count - 1, 1))
            for rows, count in ((positive, m), (~positive, n))
        ]
        return parts[0] + parts[1]
    by_day = day_sums(influence, days)
    return float(np.sum(by_day**2)) * len(by_day) / max(len(by_day) - 1, 1)


def day_sums(values: Floats, days: NDArray[Any]) -> Floats:
    """The sum of each day's values, in the order of days."""
    _, place = np.unique(days, return_inverse=True)
    return np.bincount(place, weights=values).astype(np.float64)
