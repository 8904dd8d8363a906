"""Bias: does the model decide for, err on, or misjudge a group otherwise than all others?

What belongs here: rates by declared group beside those of all other rows, and which gaps are surely more than
declared. What does not: whether a gap is just; that is for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestration.declarations import BiasWatch
from orchestration.learning.statistics.bootstrap import t_quantile
from orchestration.monitoring.cells import Cells, Slice, Tally
from orchestration.monitoring.shift import holm

Floats = NDArray[np.float64]

RATES: Mapping[str, str] = {
    "selection_rate": "share of the rows that are decided for",
    "true_positive_rate": "share of the positive rows that are decided for",
    "false_positive_rate": "share of the negative rows that are decided for",
    "precision": "share of the rows decided for that are positive",
    "calibration": "mean score less the share of positive rows",
}
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Bias:
    """A rate of a group, that of all other rows, and the gap between them with its 95% interval.

    ``limit`` is the declared gap, None where none is; ``adjusted_p_value`` is the probability of such a gap
    if the true one is at most the limit, after Holm over everything with a limit.
    """

    group_column: str
    group_value: str | None
    metric: str
    value: float
    others: float
    gap: float
    gap_low: float | None
    gap_high: float | None
    limit: float | None
    p_value: float | None
    adjusted_p_value: float | None
    rows: int
    alarm: bool


def measure_bias(tallies: Mapping[Slice, Tally], watch: BiasWatch) -> list[Bias]:
    """Every rate of every group of rows whose label is known; a rate without rows is left out."""
    whole = next((t.labelled for s, t in tallies.items() if not s.column), None)
    if whole is None or not whole.count:
        return []
    found = [
        bias
        for part, told in tallies.items()
        if part.column and 0 < told.labelled.count < whole.count
        for bias in _of_group(part, told, tallies, watch)
    ]
    tested = [n for n, bias in enumerate(found) if bias.p_value is not None]
    adjusted = holm([float(found[n].p_value or 0.0) for n in tested])
    for n, p in zip(tested, adjusted, strict=True):
        found[n] = replace(found[n], adjusted_p_value=p, alarm=p < watch.significance)
    return found


def _of_group(part: Slice, told: Tally, tallies: Mapping[Slice, Tally], watch: BiasWatch) -> list[Bias]:
    column = [t.labelled for s, t in tallies.items() if s.column == part.column]
    days = np.unique(np.concatenate([c.days for c in column]))
    group = _sums(told.labelled, days)
    rest = sum((_sums(c, days) for c in column), np.zeros_like(group)) - group
    made = []
    for number, metric in enumerate(RATES):
        (over, under), (other_over, other_under) = group[number], rest[number]
        if under.sum() <= 0 or other_under.sum() <= 0:
            continue
        value, of_days = _rate(over, under)
        others, of_other_days = _rate(other_over, other_under)
        limit = watch.gaps.get(metric)  # type: ignore[call-overload]
        made.append(
            _bias(part, metric, value, others, of_days - of_other_days, limit, told.labelled.count, watch)
        )
    return made


def _sums(cells: Cells, days: NDArray[np.int64]) -> Floats:
    """Of each rate what is above and below the line, by day: rates by 2 by days."""
    decided, place = cells.decided.astype(np.float64), np.searchsorted(days, cells.days)
    y1, y0, rows = cells.positives, cells.negatives, cells.rows
    pairs = (
        (decided * rows, rows),
        (decided * y1, y1),
        (decided * y0, y0),
        (decided * y1, decided * rows),
        (cells.scores * rows - y1, rows),
    )
    return np.array([[np.bincount(place, weights=w, minlength=len(days)) for w in pair] for pair in pairs])


def _rate(over: Floats, under: Floats) -> tuple[float, Floats]:
    """A ratio of sums, and how much each day moved it."""
    rate = float(over.sum() / under.sum())
    return rate, (over - rate * under) / under.sum()


def _bias(
    part: Slice,
    metric: str,
    value: float,
    others: float,
    of_days: Floats,
    limit: float | None,
    rows: int,
    watch: BiasWatch,
) -> Bias:
    from scipy.special import stdtr  # noqa: PLC0415

    gap = value - others
    days = int((of_days != 0).sum())
    error = float(((of_days**2).sum() * days / max(days - 1, 1)) ** 0.5)
    low = high = p_value = None
    if days > 1:
        reach = t_quantile((1 + _CONFIDENCE) / 2, days - 1) * error
        low, high = gap - reach, gap + reach
        if limit is not None and rows >= watch.min_rows:
            beyond = abs(gap) - limit
            p_value = float(stdtr(days - 1, -beyond / error)) if error else float(beyond <= 0)
    return Bias(
        part.column, part.value, metric, value, others, gap, low, high, limit, p_value, None, rows, False
    )
