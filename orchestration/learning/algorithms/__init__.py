"""What can be trained: a small registry of algorithms, each kept as text.

What belongs here: fitting on a matrix, and text that gives the same predictions again. What does not: where
the matrix comes from (``encoding``), or that scores are probabilities (``calibration``). To add one, write
a module with an ``Algorithm``, name it in ``ALGORITHMS`` and its parameters in ``parameters.PARAMETERS``.
"""

from collections.abc import Mapping

from orchestration.learning.algorithms.base import (
    Algorithm,
    Column,
    Fitted,
    Fitting,
    LearningCurve,
    Parameters,
    Rows,
)
from orchestration.learning.algorithms.linear import LOGISTIC_REGRESSION
from orchestration.learning.algorithms.trees import LIGHTGBM

ALGORITHMS: Mapping[str, Algorithm] = {found.name: found for found in (LIGHTGBM, LOGISTIC_REGRESSION)}

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Column",
    "Fitted",
    "Fitting",
    "LearningCurve",
    "Parameters",
    "Rows",
]
