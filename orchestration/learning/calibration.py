"""Making scores probabilities, by what came true on the validation rows; kept as JSON.

What belongs here: fitting a calibration and applying it. What does not: how well scores are calibrated
(``statistics.metrics``).
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Method = Literal["isotonic", "platt", "none"]
VERSION = 1
"""Increment it when the same scores are calibrated differently: it is part of a model's definition."""


@dataclass(frozen=True)
class Calibration:
    """From a score to a probability.

    ``isotonic`` joins the ``points`` by straight lines; ``platt`` is a logistic curve of the score's
    log-odds, ``points`` being its slope and intercept; ``none`` leaves scores as they are.
    """

    method: Method
    points: tuple[tuple[float, float], ...] = ()

    def apply(self, scores: Floats) -> Floats:
        """Probabilities, in the order of the scores."""
        if self.method == "none":
            return scores
        if self.method == "platt":
            slope, intercept = self.points[0]
            return np.asarray(1 / (1 + np.exp(-(slope * _log_odds(scores) + intercept))))
        return np.asarray(np.interp(scores, *self._curve))

    @cached_property
    def _curve(self) -> tuple[Floats, Floats]:
        found, given = np.array(self.points).T
        return np.ascontiguousarray(found), np.ascontiguousarray(given)

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Calibration":
        """From its JSON."""
        told = json.loads(text)
        return cls(told["method"], tuple((a, b) for a, b in told["points"]))


def _log_odds(scores: Floats) -> Floats:
    clipped = np.clip(scores, 1e-12, 1 - 1e-12)
    return np.log(clipped) - np.log1p(-clipped)


def fit_calibration(method: Method, labels: Floats, scores: Floats) -> Calibration:
    """The calibration that fits rows which the model has not been trained on."""
    if method == "isotonic":
        return _isotonic(labels, scores)
    if method == "platt":
        return Calibration("platt", (_platt(labels, _log_odds(scores)),))
    return Calibration("none")


def _isotonic(labels: Floats, scores: Floats) -> Calibration:
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415

    # Never 0 or 1: of so many rows one more could have come out the other way.
    doubt = 1 / (len(labels) + 2)
    found = IsotonicRegression(y_min=doubt, y_max=1 - doubt, out_of_bounds="clip").fit(scores, labels)
    pairs = zip(found.X_thresholds_.tolist(), found.y_thresholds_.tolist(), strict=True)
    return Calibration("isotonic", tuple(pairs))


def _platt(labels: Floats, odds: Floats) -> tuple[float, float]:
    """Platt's targets (1999), so that neither class is sure, by Newton's method."""
    positives, negatives = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, intercept = 1.0, 0.0
    for _ in range(50):
        given = 1 / (1 + np.exp(-(slope * odds + intercept)))
        left, weight = target - given, given * (1 - given)
        hessian = np.array(
            [[(weight * odds**2).sum(), (weight * odds).sum()], [(weight * odds).sum(), weight.sum()]]
        )
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), [(left * odds).sum(), left.sum()])
        slope, intercept = slope + float(step[0]), intercept + float(step[1])
        if np.abs(step).max() < 1e-10:
            break
    return slope, intercept
