"""How far two histograms of one column lie apart, and whether chance alone could have done it.

What belongs here: numbers from counts. What does not: counting (``counting``) and what is called drift
(``drift``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RARE = 5.0
"""A bin of which fewer rows are expected is put together with others of its kind before it is tested."""


def shares(counts: Floats) -> Floats:
    """The share of each bin, half a row being added to each, so that none is 0 (Jeffreys' prior)."""
    return np.asarray((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))


def population_stability_index(reference: Floats, window: Floats) -> float:
    """The sum of ``(w - r) ln(w / r)`` over the shares of the bins, in nats."""
    r, w = shares(reference), shares(window)
    return float(((w - r) * np.log(w / r)).sum())


def jensen_shannon(reference: Floats, window: Floats) -> float:
    """The Jensen-Shannon distance, from 0 for equal shares to 1 for shares that have nothing in common.

    It is the square root of the divergence in bits.
    """
    r, w = reference / reference.sum(), window / window.sum()
    middle = (r + w) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(p > 0, p * np.log2(p / middle), 0.0).sum() for p in (r, w)]
    return float(np.sqrt(max(sum(terms) / 2, 0.0)))


def without_rare_bins(reference: Floats, by_day: Floats) -> tuple[Floats, Floats]:
    """Both histograms with bins of which too few rows are expected put together as one.

    Args:
        reference: A count a bin.
        by_day: The window's counts, days by bins.
    """
    window = by_day.sum(axis=0)
    together = reference + window
    scale = min(reference.sum(), window.sum()) / max(together.sum(), 1.0)
    rare = together * scale < RARE
    if rare.sum() > 1:
        reference = np.append(reference[~rare], reference[rare].sum())
        by_day = np.column_stack([by_day[:, ~rare], by_day[:, rare].sum(axis=1)])
    some = reference + by_day.sum(axis=0) > 0
    return reference[some], by_day[:, some]


@dataclass(frozen=True)
class DayVariance:
    """How much shares of bins vary as other days are drawn.

    ``total`` is the variance of the shares, each in units of its expectation, summed up; ``dimensions`` is
    how many independent things are seen to vary so: one if a day moves all bins together, at most as many as
    there are days less one.
    """

    total: float
    dimensions: float


def day_variance(expected: Floats, by_day: Floats, persistence: float = 1.0) -> DayVariance:
    """The variance of a window's shares, from its days; never less than that of independent rows.

    Args:
        expected: The share of each bin, none of them 0.
        by_day: The window's counts, days by bins; at least two days.
        persistence: By how much the variance of days in a row exceeds that of unrelated ones; the window's
            days count as so many times fewer, at least two. A few days cannot tell that themselves.
    """
    rows, total = by_day.sum(axis=1), by_day.sum()
    freedom, bins = max(1.0, len(by_day) / persistence - 1), len(expected)
    moved = (by_day - rows[:, None] * by_day.sum(axis=0) / total) / total / np.sqrt(expected)
    # Days by days: as many numbers as there are days, however many bins.
    between = moved @ moved.T * (len(by_day) / freedom)
    trace, squares = float(np.trace(between)), float((between**2).sum())
    dimensions = trace**2 / squares if squares > 0 else float(freedom)
    return DayVariance(max(trace, (bins - 1) / total), min(dimensions, float(bins - 1)))


def chi_square(reference: Floats, by_day: Floats, persistence: float = 1.0) -> tuple[float, float]:
    """Are both histograms of one distribution? The statistic, and its probability if they are.

    Pearson's statistic of two samples. Rows of a day share what the day was like, so what it is compared with
    is how much it varies from day to day: its mean under the null is the variance of the shares by day, and
    the ratio of both is F with as many degrees of freedom as independent things vary (Dempster 1958). For
    independent rows that is Pearson's test; with a single day, which tells nothing of days, it is so by
    assumption. The statistic is that of independent rows that would be as sure.
    """
    from scipy.special import chdtrc, fdtrc  # noqa: PLC0415 - slow, and needed only here

    reference, by_day = without_rare_bins(reference, by_day[by_day.sum(axis=1) > 0])
    window = by_day.sum(axis=0)
    n, m, bins = window.sum(), reference.sum(), len(reference)
    if bins < 2 or n == 0 or m == 0:
        return 0.0, 1.0
    expected = (window + reference) / (n + m)
    distance = float(((window / n - reference / m) ** 2 / expected).sum())
    if len(by_day) < 2:
        statistic = distance / (1 / n + 1 / m)
        return statistic, float(chdtrc(bins - 1, statistic))
    varies = day_variance(expected, by_day, persistence)
    ratio = distance / (varies.total * (1 + n / m))
    freedom = varies.dimensions * (len(by_day) - 1)
    return ratio * (bins - 1), float(fdtrc(varies.dimensions, freedom, ratio))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values after Holm: the chance of any false one among them is what a single one says."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * float(p_values[number])))
        adjusted[number] = highest
    return [float(p) for p in adjusted]
