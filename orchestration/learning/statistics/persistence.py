"""How much days hang together: rain falls for days, and a fortnight is not fourteen days drawn at random.

What belongs here: that number, from days in order. What does not: what it widens
(``orchestration.monitoring.shift``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def persistence(places: NDArray[np.int64], days: NDArray[Any], length: int) -> float:
    """How much more the shares of bins vary from run to run of days than from draw to draw of as many days.

    The variance of a run's mean is the sum of the autocovariances with Bartlett's weights; those of all bins
    are added up, each in units of its share.

    Args:
        places: The bin of each row, from 0 on.
        days: The day of each row, as a whole number.
        length: Days in a run.

    Returns:
        1 for days that are unrelated, at most ``length`` for days that are all alike; 1 of too few days.
    """
    day = days - days.min()
    bins, count = int(places.max()) + 1, int(day.max()) + 1
    lags = np.arange(min(length, count // 2))
    if len(lags) < 2:
        return 1.0
    by_day = np.bincount(day * bins + places, minlength=count * bins).reshape(count, bins)
    total = by_day.sum(axis=0)
    shares = (total / total.sum())[total > 0]
    moved = (by_day[:, total > 0] - np.outer(by_day.sum(axis=1), shares)) / np.sqrt(shares)
    found = np.array([(moved[lag:] * moved[: count - lag]).sum() for lag in lags])
    if found[0] <= 0:
        return 1.0
    weights = np.where(lags == 0, 1.0, 2 * (1 - lags / length))
    # Of unrelated days, which add up to 0 here, so much is found.
    unrelated = (count - float(weights @ (count - lags)) / count) / (count - 1)
    return float(np.clip(weights @ found / found[0] / unrelated, 1.0, length))
