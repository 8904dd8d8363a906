"""How far two histograms of one column lie apart, and whether chance alone could have done it.

What belongs here: numbers from counts. What does not: counting (``counting``) and what is called drift
(``drift``).
"""

from collections.abc import Sequence

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


def design_effect(by_day: Floats) -> float:
    """How many times the variance of shares is that of independent rows, as rows of one day hang together.

    The mean of the bins' design effects, after Rao and Scott (1981), with days as what was drawn; never
    below 1, and 1 for a single day, which tells nothing of days.
    """
    days, bins = by_day.shape
    rows, total = by_day.sum(axis=1), by_day.sum()
    if days < 2 or bins < 2 or total == 0:
        return 1.0
    share = by_day.sum(axis=0) / total
    between = ((by_day - rows[:, None] * share) ** 2).sum(axis=0) * days / (days - 1) / total**2
    known = share > 0
    effects = between[known] / (share[known] * (1 - share[known]) / total) if known.sum() > 1 else np.ones(1)
    weights = 1 - share[known]
    return max(1.0, float((weights * effects).sum() / weights.sum()))


def chi_square(reference: Floats, by_day: Floats) -> tuple[float, float]:
    """Are both histograms of one distribution? The statistic, and its probability if they are.

    Pearson's test of two samples. Rows of a day share what the day was like, so the statistic is divided by
    the design effect and compared with F (Rao and Scott 1981, Thomas and Rao 1987); with a single day it is
    the plain test, compared with chi-square.
    """
    from scipy.special import chdtrc, fdtrc  # noqa: PLC0415 - slow, and needed only here

    reference, by_day = without_rare_bins(reference, by_day)
    window = by_day.sum(axis=0)
    n, m, bins = window.sum(), reference.sum(), len(reference)
    if bins < 2 or n == 0 or m == 0:
        return 0.0, 1.0
    both = (window + reference) / (n + m)
    plain = float(
        ((window - n * both) ** 2 / (n * both)).sum() + ((reference - m * both) ** 2 / (m * both)).sum()
    )
    days = int((by_day.sum(axis=1) > 0).sum())
    statistic = plain / design_effect(by_day)
    if days < 2:
        return statistic, float(chdtrc(bins - 1, statistic))
    return statistic, float(fdtrc(bins - 1, (bins - 1) * (days - 1), statistic / (bins - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted so that the chance of any false one among them is what a single one says (Holm)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * float(p_values[number])))
        adjusted[number] = highest
    return [float(p) for p in adjusted]
