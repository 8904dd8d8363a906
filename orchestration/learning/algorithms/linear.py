"""Logistic regression by scikit-learn, kept as JSON: what a model must beat to be worth its trees.

Numbers are told in standard deviations from the mean of the rows trained on, a missing one as that mean and
a column of its own; each category is a column. No pickle: prediction is a product of what the text says.
"""

import json
from dataclasses import asdict, dataclass

import numpy as np

from orchestration.learning.algorithms.base import (
    Algorithm,
    Column,
    Fitted,
    Fitting,
    Floats,
    LearningCurve,
    Rows,
)

_FARTHEST = 8.0
"""Standard deviations after which a value is no farther away."""


@dataclass(frozen=True)
class _Number:
    """A number's column of the matrix, and how it is told."""

    place: int
    mean: float
    deviation: float


@dataclass(frozen=True)
class _Design:
    """From the matrix of features to that of the regression: numbers, missing marks, categories."""

    numbers: tuple[_Number, ...]
    categories: tuple[tuple[int, int], ...]
    """Place in the matrix and number of codes."""
    columns: int

    def width(self) -> int:
        return 2 * len(self.numbers) + sum(codes for _, codes in self.categories)

    def apply(self, matrix: Floats) -> Floats:
        made = np.zeros((len(matrix), self.width()))
        for at, number in enumerate(self.numbers):
            values = matrix[:, number.place]
            missing = np.isnan(values)
            told = np.clip((values - number.mean) / number.deviation, -_FARTHEST, _FARTHEST)
            made[:, at] = np.where(missing, 0.0, told)
            made[:, len(self.numbers) + at] = missing
        at = 2 * len(self.numbers)
        for place, codes in self.categories:
            values = matrix[:, place]
            known = np.flatnonzero(~np.isnan(values))
            made[known, at + values[known].astype(np.int64)] = 1
            at += codes
        return made

    def owners(self) -> list[int]:
        """The matrix's column behind each of the regression's."""
        numbers = [number.place for number in self.numbers]
        return [*numbers, *numbers, *(place for place, codes in self.categories for _ in range(codes))]


def _design(matrix: Floats, columns: list[Column]) -> _Design:
    numbers = []
    for place, column in enumerate(columns):
        if column.categories:
            continue
        values = matrix[:, place]
        values = values[np.isfinite(values)]
        mean = float(values.mean()) if len(values) else 0.0
        deviation = float(values.std()) if len(values) else 0.0
        numbers.append(_Number(place, mean, deviation or 1.0))
    categories = tuple(
        (place, column.categories) for place, column in enumerate(columns) if column.categories
    )
    return _Design(tuple(numbers), categories, len(columns))


class _Regression:
    def __init__(self, text: str) -> None:
        self._text = text
        told = json.loads(text)
        design = told["design"]
        self._design = _Design(
            tuple(_Number(**number) for number in design["numbers"]),
            tuple((place, codes) for place, codes in design["categories"]),
            design["columns"],
        )
        self._coefficients = np.array(told["coefficients"])
        self._intercept = float(told["intercept"])

    def predict(self, matrix: Floats) -> Floats:
        made = self._design.apply(matrix)
        # A product of matrices sums in another order for other sizes; a row's score must not depend on that.
        scores = np.einsum("ij,j->i", made, self._coefficients, optimize=False) + self._intercept
        return np.asarray(1 / (1 + np.exp(-np.clip(scores, -500, 500))))

    def importance(self) -> Floats:
        shares = np.zeros(self._design.columns)
        np.add.at(shares, self._design.owners(), np.abs(self._coefficients))
        return shares / shares.sum() if shares.sum() else shares

    def to_text(self) -> str:
        return self._text


def _fit(train: Rows, validation: Rows, fitting: Fitting) -> tuple[Fitted, LearningCurve]:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    design = _design(train.matrix, list(fitting.columns))
    regression = LogisticRegression(
        C=float(fitting.parameters.get("C", 1.0)), max_iter=fitting.rounds, random_state=fitting.seed
    )
    with threadpool_limits(1):  # More threads sum in another order.
        regression.fit(design.apply(train.matrix), train.labels)
    fitting.log(f"fitted in {int(regression.n_iter_[0])} steps of at most {fitting.rounds}")
    text = json.dumps(
        {
            "design": asdict(design),
            "coefficients": regression.coef_[0].tolist(),
            "intercept": float(regression.intercept_[0]),
        }
    )
    return _Regression(text), LearningCurve()


LOGISTIC_REGRESSION = Algorithm("logistic_regression", "model.json", _fit, _Regression)
