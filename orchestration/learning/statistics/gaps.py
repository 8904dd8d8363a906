"""How far scores are from what comes true, and how sure that is: from the days of the evaluation rows.

What belongs here: what a model's calibration leaves unknown of a metric that is told from scores alone. What
does not: fitting a calibration (``orchestration.learning.calibration``), or the metrics (``metrics``).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestration.learning.statistics.delong import Floats
from orchestration.learning.statistics.metrics import score_bins

LAGS = 4
"""Days that are so far apart are taken as independent; nearer ones hang together (Bartlett's weights)."""


@dataclass(frozen=True)
class CalibrationGaps:
    """Labels less scores, on average, by height of the score: mean, and covariance of that mean by days.

    ``bounds`` are the highest scores of the bins but for the last. ``noise`` is the part of the covariance's
    diagonal that is there if days do not matter and labels fall as the scores say.
    """

    bounds: tuple[float, ...]
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    noise: tuple[float, ...]
    days: int

    def as_json(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "CalibrationGaps":
        """From ``as_json``."""
        rows = tuple(tuple(row) for row in told["covariance"])
        return cls(tuple(told["bounds"]), tuple(told["mean"]), rows, tuple(told["noise"]), int(told["days"]))

    def mean_square(self, scores: Floats, moves: Floats, days: int) -> float:
        """The mean square by which scores are to misjudge a metric of so many other days.

        It is that of the gaps, which are as they were found give or take their error, and of the days'
        leaning to one side or the other, as those of the evaluation rows did. How labels fall at random is
        not in it.

        Args:
            scores: Of some rows or cells.
            moves: How much higher the metric is with label 1 than with label 0, of each row or cell.
            days: How many days they are of.
        """
        place = np.searchsorted(self.bounds, scores, side="left")
        moved = np.bincount(place, weights=moves, minlength=len(self.mean))
        error = max(0.0, float(moved @ np.array(self.covariance) @ moved))
        leaning = max(0.0, error - float(moved**2 @ np.array(self.noise))) * self.days / days
        return float(moved @ np.array(self.mean)) ** 2 + error + leaning


def calibration_gaps(labels: Floats, scores: Floats, days: NDArray[Any]) -> CalibrationGaps:
    """The gaps of rows that the calibration was not fitted on; of a single day the covariance is 0."""
    place = score_bins(scores)
    _, day = np.unique(days, return_inverse=True)
    bins, count = int(place.max()) + 1, int(day.max()) + 1

    def sums(values: Floats) -> Floats:
        flat = np.bincount(day * bins + place, weights=values, minlength=count * bins)
        return np.asarray(flat.reshape(count, bins))

    rows = sums(np.ones(len(scores)))
    total = rows.sum(axis=0)
    gaps = sums(labels - scores)
    mean = gaps.sum(axis=0) / total
    left = (gaps - mean * rows) / total
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    weights = np.maximum(0.0, 1 - apart / LAGS)
    # What is left adds up to 0 over the days: a covariance from it is too small by so much.
    kept = float(np.trace(weights) - weights.mean() * count) / count
    found = np.einsum("db,de,ec->bc", left, weights, left) / (kept if count > 1 else 1.0)
    return CalibrationGaps(
        bounds=tuple(float(scores[place == b].max()) for b in range(bins - 1)),
        mean=tuple(mean.tolist()),
        covariance=tuple(tuple(row) for row in found.tolist()),
        noise=tuple((sums(scores * (1 - scores)).sum(axis=0) / total**2).tolist()),
        days=count,
    )
