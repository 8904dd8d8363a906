"""A trained model in memory: from a table's rows to probabilities and decisions.

What belongs here: scoring, and the way between a model and its artifact's files. What does not: training.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestration.learning.algorithms import ALGORITHMS, Fitted
from orchestration.learning.artifact import Artifact, CorruptArtifactError, read_artifact
from orchestration.learning.calibration import Calibration
from orchestration.learning.encoding import MatrixEncoding

ENCODING, CALIBRATION = "encoding.json", "calibration.json"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scorer:
    """What turns rows into probabilities. The same rows give the same bits, few or many together."""

    encoding: MatrixEncoding
    fitted: Fitted
    calibration: Calibration

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        return tuple(column.name for column in self.encoding.columns)

    def score(self, rows: pa.Table) -> Floats:
        """The probability of each row's label.

        Raises:
            KeyError: The rows lack a column.
            InfiniteValueError: A number is infinite and the model rejects it.
        """
        return self.score_matrix(self.encoding.matrix(rows))

    def score_matrix(self, matrix: Floats) -> Floats:
        """The same for rows that are encoded already."""
        return self.calibration.apply(self.fitted.predict(matrix))

    def without_infinite(self) -> "Scorer":
        """The same scorer, but an infinite number counts as a missing value."""
        return replace(self, encoding=replace(self.encoding, infinite="null"))

    def files(self, algorithm: str) -> dict[str, str]:
        """The text of each file of its artifact."""
        return {
            ALGORITHMS[algorithm].file: self.fitted.to_text(),
            ENCODING: self.encoding.to_text(),
            CALIBRATION: self.calibration.to_text(),
        }


@dataclass(frozen=True)
class ServedModel:
    """A version as it is loaded: its scorer, its threshold, and what its manifest says."""

    version: str
    scorer: Scorer
    threshold: float
    manifest: Mapping[str, Any]


def load_model(root: Path, model: str, version: str, *, sha256: str | None = None) -> ServedModel:
    """Read a version, every checksum being right.

    Raises:
        CorruptArtifactError: Something is not as it was written.
    """
    return opened(read_artifact(root, model, version, sha256=sha256))


def opened(artifact: Artifact) -> ServedModel:
    """The model of an artifact.

    Raises:
        CorruptArtifactError: It is of an algorithm that the registry of algorithms does not have.
    """
    name = artifact.manifest["algorithm"]["name"]
    if name not in ALGORITHMS:
        raise CorruptArtifactError(
            f"{artifact.version}: found algorithm {name!r}, expected one of {', '.join(ALGORITHMS)}"
        )
    scorer = Scorer(
        MatrixEncoding.from_text(artifact.files[ENCODING]),
        ALGORITHMS[name].load(artifact.files[ALGORITHMS[name].file]),
        Calibration.from_text(artifact.files[CALIBRATION]),
    )
    return ServedModel(
        artifact.version, scorer, float(artifact.manifest["operating_point"]["threshold"]), artifact.manifest
    )
