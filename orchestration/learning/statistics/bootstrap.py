"""Drawing whole days with replacement, seeded, without a loop over draws.

Every statistic here is one of sums over rows. A day is summed up once; a draw is how often each day was
taken, and all draws together are one product of matrices.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestration.learning.statistics.delong import Floats, day_sums


def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t; a few dozen days are too few for the normal distribution."""
    from scipy.special import stdtrit  # noqa: PLC0415

    return float(stdtrit(freedom, probability))


def draw_days(count: int, draws: int, seed: int) -> Floats:
    """How often each of ``count`` days is taken in each of ``draws`` draws: draws by days."""
    dice = np.random.default_rng(seed)
    return dice.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)


def resampled(
    by_day: Floats, statistic: Callable[[Floats], Floats], draws: int, seed: int
) -> tuple[float, Floats]:
    """A statistic of sums over rows, as it is and as it comes out of each draw.

    Args:
        by_day: The sums of each day, sums by days.
        statistic: From sums by draws to a value for each draw.
        draws: How many.
        seed: The same seed gives the same draws.
    """
    taken = draw_days(by_day.shape[1], draws, seed)
    whole = statistic(by_day.sum(axis=1, keepdims=True))
    return float(whole[0]), statistic(by_day @ taken.T)


def studentised_bounds(
    values: Floats, days: NDArray[Any], tail: float, draws: int, seed: int
) -> tuple[float, float, float, float]:
    """Mean of a value over rows, its standard error, and the bounds that cut off ``tail`` on either side.

    The bootstrap-t of whole days (Davison and Hinkley 1997, section 5.2): each draw is told in standard
    errors of its own, so that the bounds hold with a few dozen days too.

    Returns:
        Mean, standard error, lower and upper bound.
    """
    sums, rows = day_sums(values, days), day_sums(np.ones(len(values)), days)
    count = len(sums)
    mean = float(sums.sum() / rows.sum())
    error = float(_ratio_error(sums[None, :], rows[None, :], np.ones((1, count)))[0])
    if count < 2 or error == 0:
        return mean, error, mean, mean
    taken = draw_days(count, draws, seed)
    means = (taken @ sums) / (taken @ rows)
    errors = _ratio_error(sums[None, :], rows[None, :], taken)
    usable = errors > 0
    told = (means[usable] - mean) / errors[usable]
    low, high = np.quantile(told, [tail, 1 - tail])
    return mean, error, mean - float(high) * error, mean - float(low) * error


def _ratio_error(sums: Floats, rows: Floats, taken: Floats) -> Floats:
    """Standard error of the ratio of two sums over days, by linearisation, of each draw."""
    count = sums.shape[1]
    ratio = (taken @ sums[0]) / (taken @ rows[0])
    left = sums - ratio[:, None] * rows
    return np.asarray(np.sqrt((taken * left**2).sum(axis=1) * count / max(count - 1, 1)) / (taken @ rows[0]))
