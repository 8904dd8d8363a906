"""Metrics of cells: as labels say, and as calibrated scores foretell.

The realised ones are those of ``orchestration.learning.statistics.measure``, computed from cells instead of
rows, with the same intervals. The estimated ones are what is to be expected if each score is the probability
that it says (confidence-based performance estimation): they see a change of the inputs that makes rows harder
to tell, and nothing of a change in what inputs mean for the label. What belongs here: those numbers. What
does not: what they are compared with (``performance``).
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from orchestration.learning.statistics.bootstrap import t_quantile
from orchestration.learning.statistics.gaps import CalibrationGaps
from orchestration.learning.statistics.metrics import BINS, Estimate, drawn_estimate, losses, mean_gap, ratio
from orchestration.monitoring.cells import Cells

Floats = NDArray[np.float64]


def realised(
    cells: Cells, *, confidence: float = 0.95, draws: int = 1000, seed: int = 1
) -> dict[str, Estimate]:
    """Every metric of rows with labels, with its two-sided confidence interval by drawing whole days.

    A metric is left out where it has no meaning: the area of rows of one class, the precision of no
    decision, anything of no rows.
    """
    if not cells.count:
        return {}
    count = cells.day_count
    y1, y0 = cells.positives, cells.negatives
    loss1, loss0 = _losses(cells)

    def sums(*columns: Floats) -> Floats:
        return np.stack([np.bincount(cells.places, weights=c, minlength=count) for c in columns])

    drawn = partial(drawn_estimate, confidence=confidence, draws=draws, seed=seed)

    rows = sums(cells.rows)
    found: dict[str, Estimate] = {}
    if y1.sum() and y0.sum():
        area, above, below = _area(cells)
        by_day = sums(y1 * above + y0 * below)[0]
        variance = float((by_day**2).sum()) * count / max(count - 1, 1)
        found["auc"] = _interval(area, variance, count, confidence, most=1.0)
    s = cells.scores
    found["log_loss"] = drawn(np.vstack([sums(y1 * loss1 + y0 * loss0), rows]), ratio)
    found["brier"] = drawn(np.vstack([sums(y1 * (1 - s) ** 2 + y0 * s**2), rows]), ratio)
    found["ece"] = drawn(np.vstack([_gaps(cells), rows]), mean_gap)
    decided = cells.decided.astype(np.float64)
    if decided @ cells.rows:
        found["precision"] = drawn(sums(decided * y1, decided * cells.rows), ratio)
    if y1.sum():
        found["recall"] = drawn(sums(decided * y1, y1), ratio)
    return found


def estimated(
    cells: Cells, gaps: CalibrationGaps | None = None, *, confidence: float = 0.95
) -> dict[str, Estimate]:
    """Every metric as the scores foretell it, with the interval in which the realised one then lies.

    By linearisation: each metric moves by so much with a row whose label is 1, and by so much if it is 0.
    The variance is that of days, in them that of labels which fall as the scores say, and that of scores
    which are not quite right. The expected calibration error is 0 by assumption and left out.

    Args:
        cells: Rows with labels as the scores foretell them.
        gaps: How far scores were from what came true; those of all rows are taken for every slice. None takes
            scores as right, and the interval is too short.
        confidence: Of the intervals.
    """
    if not cells.count:
        return {}
    y1, y0, s = cells.positives, cells.negatives, cells.scores
    decided = cells.decided.astype(np.float64)
    total, positives, decisions = float(cells.rows.sum()), float(y1.sum()), float(decided @ cells.rows)
    found: dict[str, Estimate] = {}
    zero = np.zeros(len(s))

    def add(name: str, value: float, by1: Floats, by0: Floats, most: float | None = None) -> None:
        count = cells.day_count
        of_days = np.bincount(cells.places, weights=y1 * by1 + y0 * by0, minlength=count)
        of_labels = cells.rows * s * (1 - s) * (by1 - by0) ** 2
        variance = float((of_days**2).sum()) * count / max(count - 1, 1) + float(of_labels.sum())
        if gaps is not None:
            variance += gaps.mean_square(s, cells.rows * (by1 - by0), count)
            count = min(count, gaps.days)
        found[name] = _interval(value, variance, count, confidence, most=most)

    if positives > 0 and positives < total:
        add("auc", *_area(cells), most=1.0)
    loss1, loss0 = _losses(cells)
    for name, of1, of0 in (("log_loss", loss1, loss0), ("brier", (1 - s) ** 2, s**2)):
        value = float(y1 @ of1 + y0 @ of0) / total
        add(name, value, (of1 - value) / total, (of0 - value) / total)
    if decisions:
        value = float(decided @ y1) / decisions
        add("precision", value, decided * (1 - value) / decisions, -decided * value / decisions, 1.0)
    if positives > 0:
        value = float(decided @ y1) / positives
        add("recall", value, (decided - value) / positives, zero, 1.0)
    return found


def _interval(value: float, variance: float, days: int, confidence: float, *, most: float | None) -> Estimate:
    if days < 2:
        return Estimate(value, None, None)
    reach = t_quantile((1 + confidence) / 2, days - 1) * variance**0.5
    high = value + reach if most is None else min(most, value + reach)
    return Estimate(value, max(0.0, value - reach), high)


def _losses(cells: Cells) -> tuple[Floats, Floats]:
    """The log loss of a row of each cell if its label is 1, and if it is 0."""
    ones = np.ones(len(cells.scores))
    return losses(ones, cells.scores), losses(0 * ones, cells.scores)


def _area(cells: Cells) -> tuple[float, Floats, Floats]:
    """The area under the ROC curve, and how much a row of each cell moves it if positive, if negative."""
    values, place = np.unique(cells.scores, return_inverse=True)
    positive = np.bincount(place, weights=cells.positives, minlength=len(values))
    negative = np.bincount(place, weights=cells.negatives, minlength=len(values))
    m, n = positive.sum(), negative.sum()
    above = (np.cumsum(negative) - negative / 2) / n
    below = 1 - (np.cumsum(positive) - positive / 2) / m
    area = float(above @ positive / m)
    return area, (above[place] - area) / m, (below[place] - area) / n


def _gaps(cells: Cells) -> Floats:
    """Score less label, summed up by bin of the calibration curve and day: bins by days."""
    order = np.argsort(cells.scores, kind="stable")
    ends = np.cumsum(cells.rows[order])
    places = np.linspace(0, 1, BINS + 1)[1:-1] * (ends[-1] - 1)
    below, above = (
        cells.scores[order][np.minimum(np.searchsorted(ends, at, side="right"), len(ends) - 1)]
        for at in (np.floor(places), np.ceil(places))
    )
    edges = np.unique(below + (above - below) * (places - np.floor(places)))
    bins = np.unique(np.searchsorted(edges, cells.scores, side="left"), return_inverse=True)[1]
    count = cells.day_count
    gaps = cells.rows * cells.scores - cells.positives
    by_bin = np.bincount(bins * count + cells.places, weights=gaps, minlength=(int(bins.max()) + 1) * count)
    return np.asarray(by_bin.reshape(-1, count), dtype=np.float64)
