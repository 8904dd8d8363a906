"""What an algorithm is asked for and what it gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Parameters = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Column:
    """A column of the matrix; ``categories`` is 0 for a number, else how many codes from 0 on there are."""

    name: str
    categories: int


@dataclass(frozen=True)
class Rows:
    """A matrix, rows by columns, NaN where a value is missing, and the labels, 0 or 1."""

    matrix: Floats
    labels: Floats


@dataclass(frozen=True)
class LearningCurve:
    """Log loss after each round, on the rows trained on and on the validation rows."""

    train: tuple[float, ...] = ()
    validation: tuple[float, ...] = ()
    best: int = 0


class Fitted(Protocol):
    """A trained model. The same text gives the same bits again."""

    def predict(self, matrix: Floats) -> Floats:
        """A score from 0 to 1 for each row."""
        ...

    def importance(self) -> Floats:
        """How much each column matters; the shares sum to 1, or to 0 where none does."""
        ...

    def to_text(self) -> str:
        """The whole model."""
        ...


@dataclass(frozen=True)
class Fitting:
    """How to fit: what the declaration says, and where progress goes."""

    columns: Sequence[Column]
    parameters: Parameters
    rounds: int
    patience: int
    seed: int
    log: Callable[[str], None]


@dataclass(frozen=True)
class Algorithm:
    """An algorithm by name; ``file`` is what its text is called in an artifact.

    ``version`` is raised when the same rows and parameters give a different model; it is part of the
    definition of every model that the algorithm trains.
    """

    name: str
    file: str
    fit: Callable[[Rows, Rows, Fitting], tuple[Fitted, LearningCurve]]
    load: Callable[[str], Fitted]
    version: int = 1
