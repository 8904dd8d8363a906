"""LightGBM: boosted trees, in LightGBM's own text format.

The same rows, parameters and seed give the same text, however many threads there are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from orchestration.learning.algorithms.base import (
    Algorithm,
    Fitted,
    Fitting,
    Floats,
    LearningCurve,
    Rows,
)
from orchestration.learning.algorithms.openmp import import_lightgbm
from orchestration.learning.statistics.metrics import losses

_FIXED: Mapping[str, Any] = {
    "objective": "binary",
    # Measured by `_log_loss`, as LightGBM sums in as many parts as there are threads.
    "metric": "None",
    "deterministic": True,
    # The other way depends on which is faster at the moment.
    "force_row_wise": True,
    "verbosity": -1,
}
_TOLD = 50
"""Progress is told each so many rounds."""
_METRIC = "log_loss"


def _log_loss(scores: Floats, data: Any) -> tuple[str, float, bool]:
    return _METRIC, float(losses(data.get_label(), scores).mean()), False


class _Booster:
    def __init__(self, text: str) -> None:
        lightgbm = import_lightgbm()
        self._text = text
        self._booster = lightgbm.Booster(model_str=text)

    def predict(self, matrix: Floats) -> Floats:
        # A thread more takes longer to start than a few rows to score.
        threads = {"num_threads": 1} if len(matrix) < 1000 else {}
        return np.asarray(self._booster.predict(matrix, **threads), dtype=np.float64)

    def importance(self) -> Floats:
        gains = np.asarray(self._booster.feature_importance("gain"), dtype=np.float64)
        return gains / gains.sum() if gains.sum() else gains

    def to_text(self) -> str:
        return self._text


def _fit(train: Rows, validation: Rows, fitting: Fitting) -> tuple[Fitted, LearningCurve]:
    lightgbm = import_lightgbm()
    names = [f"c{number}" for number in range(len(fitting.columns))]
    categorical = [name for name, c in zip(names, fitting.columns, strict=True) if c.categories]
    data = lightgbm.Dataset(
        train.matrix, train.labels, feature_name=names, categorical_feature=categorical, free_raw_data=False
    )
    known = lightgbm.Dataset(validation.matrix, validation.labels, reference=data)
    measured: dict[str, dict[str, list[float]]] = {}

    def tell(state: Any) -> None:
        if (state.iteration + 1) % _TOLD == 0:
            told = {name: value for name, _, value, _ in state.evaluation_result_list}
            fitting.log(
                f"round {state.iteration + 1} of at most {fitting.rounds}: log loss "
                f"{told['training']:.5f} on the rows trained on, {told['validation']:.5f} on validation"
            )

    booster = lightgbm.train(
        {**fitting.parameters, **_FIXED, "seed": fitting.seed},
        data,
        num_boost_round=fitting.rounds,
        valid_sets=[data, known],
        valid_names=["training", "validation"],
        feval=_log_loss,
        callbacks=[
            lightgbm.early_stopping(fitting.patience, verbose=False),
            lightgbm.record_evaluation(measured),
            tell,
        ],
    )
    best = booster.best_iteration or booster.current_iteration()
    fitting.log(f"round {best} of {booster.current_iteration()} is the best on validation")
    # What follows the trees tells how many threads there were, and nothing that a prediction needs.
    text = booster.model_to_string(num_iteration=best).split("\nparameters:\n")[0] + "\n"
    curve = LearningCurve(tuple(measured["training"][_METRIC]), tuple(measured["validation"][_METRIC]), best)
    return _Booster(text), curve


LIGHTGBM = Algorithm("lightgbm", "model.txt", _fit, _Booster)
