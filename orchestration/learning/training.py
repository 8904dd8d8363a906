"""From a dataset version to a model artifact: split, encode, fit, calibrate, measure, describe, write.

What belongs here: what is done to train a declared model and what its manifest says. Nothing in an artifact
tells when or how fast it was made: the same dataset version, code and seed give the same artifact. What
does not: whether it may serve (``gate``), or when it is trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestration.declarations import Algorithm as DeclaredAlgorithm
from orchestration.declarations import OperatingPoint
from orchestration.learning.algorithms import ALGORITHMS, Fitting, LearningCurve, Rows
from orchestration.learning.artifact import Artifact, write_artifact
from orchestration.learning.calibration import fit_calibration
from orchestration.learning.encoding import fit_encoding
from orchestration.learning.infinite import InfiniteFeatureError, has_infinite, infinite_words
from orchestration.learning.model import Scorer
from orchestration.learning.profile import persistence_of_inputs, profile_inputs, profile_number
from orchestration.learning.spec import ModelSpec
from orchestration.learning.splitting import (
    Window,
    Windows,
    check_part,
    days_of,
    labels_of,
    newest_label,
    select,
    windows,
)
from orchestration.learning.statistics.gaps import calibration_gaps
from orchestration.learning.statistics.metrics import calibration_curve, measure
from orchestration.learning.statistics.persistence import persistence

Floats = NDArray[np.float64]
FORMAT = 1
VERSION = 1
"""Increment it when the same rows give a different model: it is part of a model's definition."""


class Dataset(Protocol):
    """A dataset version as training reads it."""

    @property
    def version(self) -> str:
        """Its id."""
        ...

    def columns(self) -> list[str]:
        """Its columns."""
        ...

    def read(self, *, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows."""
        ...


@dataclass(frozen=True)
class Code:
    """What trained a model: the commit, whether files differed from it, and the lock file's hash.

    ``definition`` has a hash of each thing that defines the model, such as its feature SQL.
    """

    commit: str | None
    dirty: bool
    lock_sha256: str | None
    definition: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Rows of one part, with labels and days."""

    window: Window
    rows: pa.Table
    labels: Floats
    days: NDArray[np.int64]

    def facts(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            **self.window.as_json(),
            "rows": len(self.labels),
            "positives": int(self.labels.sum()),
            "days": len(np.unique(self.days)),
        }


@dataclass(frozen=True)
class Parts:
    """A dataset version's rows, parted as declared."""

    cutoff: str
    windows: Windows
    train: Part
    validation: Part
    evaluation: Part


def part_rows(spec: ModelSpec, rows: pa.Table) -> Parts:
    """The rows of a dataset version, parted by time counted back from their newest label.

    They are put in an order that is theirs: the same rows make the same trees, in whatever order they come.

    Raises:
        SplitError: A part has too few rows, or of one class only.
    """
    first = spec.training_set.prediction_time
    order = [first, *(name for name in rows.column_names if name != first)]
    rows = rows.sort_by([(name, "ascending") for name in order])
    cutoff = newest_label(rows, spec.training_set)
    found = windows(spec.declared.split, cutoff)

    def part(name: str, window: Window) -> Part:
        chosen = select(rows, spec.training_set, window, found.embargo)
        labels = labels_of(chosen, spec.training_set)
        check_part(f"{spec.name}: {name} rows", window, labels, spec.declared.split.min_rows)
        return Part(window, chosen, labels, days_of(chosen, spec.training_set, spec.timezone))

    return Parts(
        cutoff.isoformat(),
        found,
        part("train", found.train),
        part("validation", found.validation),
        part("evaluation", found.evaluation),
    )


@dataclass(frozen=True)
class Trained:
    """A scorer, the threshold of its decisions, and how it learned."""

    algorithm: DeclaredAlgorithm
    scorer: Scorer
    threshold: float
    curve: LearningCurve


def fit(spec: ModelSpec, algorithm: DeclaredAlgorithm, parts: Parts, log: Callable[[str], None]) -> Trained:
    """Train on the train rows; stop, calibrate and set the threshold by the validation rows."""
    encoding = fit_encoding(
        [(i.name, i.kind) for i in spec.inputs],
        parts.train.rows,
        max_categories=spec.declared.encoding.max_categories,
        min_rows=spec.declared.encoding.min_rows,
        infinite=spec.declared.infinite,
    )
    train = Rows(encoding.matrix(parts.train.rows), parts.train.labels)
    validation = Rows(encoding.matrix(parts.validation.rows), parts.validation.labels)
    log(
        f"{algorithm.name}: {train.matrix.shape[0]:,} rows by {train.matrix.shape[1]} columns to train, "
        f"{validation.matrix.shape[0]:,} to validate"
    )
    fitted, curve = ALGORITHMS[algorithm.name].fit(
        train,
        validation,
        Fitting(
            encoding.matrix_columns,
            algorithm.parameters,
            algorithm.rounds,
            algorithm.patience,
            spec.declared.seed,
            log,
        ),
    )
    raw = fitted.predict(validation.matrix)
    calibration = fit_calibration(spec.declared.calibration, validation.labels, raw)
    scorer = Scorer(encoding, fitted, calibration)
    threshold = threshold_of(spec.declared.operating_point, calibration.apply(raw))
    return Trained(algorithm, scorer, threshold, curve)


def threshold_of(declared: OperatingPoint, scores: Floats) -> float:
    """The score from which on a row is decided for."""
    if declared.threshold is not None:
        return declared.threshold
    return float(np.quantile(scores, 1 - (declared.share or 0.0), method="higher"))


def metrics_json(part: Part, scores: Floats, threshold: float, seed: int) -> dict[str, Any]:
    """Every metric with its interval."""
    found = measure(part.labels, scores, part.days, threshold, seed=seed)
    return {name: asdict(estimate) for name, estimate in found.items()}


def slice_metrics(spec: ModelSpec, part: Part, scores: Floats, threshold: float) -> dict[str, Any]:
    """Metrics of each value of each declared slice, the largest first: ``{column: {value: metrics}}``."""
    found: dict[str, Any] = {}
    for column in spec.declared.slices:
        found[column] = {}
        for value, chosen in slices_of(part.rows, column):
            metrics = measure(
                part.labels[chosen],
                scores[chosen],
                part.days[chosen],
                threshold,
                draws=200,
                seed=spec.declared.seed,
            )
            found[column][value] = {
                "rows": int(chosen.sum()),
                "positives": int(part.labels[chosen].sum()),
                "mean_score": float(scores[chosen].mean()),
                "metrics": {name: asdict(estimate) for name, estimate in metrics.items()},
            }
    return found


def slices_of(rows: pa.Table, column: str) -> list[tuple[str, NDArray[np.bool_]]]:
    """Each value of a column as text, the most frequent first, and which rows have it."""
    encoded = rows.column(column).cast(pa.string()).combine_chunks().dictionary_encode(null_encoding="encode")
    codes = np.asarray(encoded.indices)
    names = ["null" if name is None else str(name) for name in encoded.dictionary.to_pylist()]
    counts = np.bincount(codes, minlength=len(names))
    return [
        (names[code], codes == code)
        for code in sorted(range(len(names)), key=lambda c: (-counts[c], names[c]))
    ]


def train(
    spec: ModelSpec,
    dataset: Dataset,
    root: Path,
    code: Code,
    log: Callable[[str], None],
    *,
    algorithm: DeclaredAlgorithm | None = None,
) -> tuple[Artifact, Parts]:
    """Train a declared model on a dataset version and write its artifact.

    Args:
        spec: The model.
        dataset: What it learns from.
        root: Folder of all artifacts.
        code: What trains it.
        log: Takes lines that tell how far it is.
        algorithm: Instead of the declared one, such as the baseline.

    Raises:
        SplitError: A part of the rows has too few, or of one class only; nothing is written.
        InfiniteFeatureError: A feature is infinite in some rows and the model rejects that.
    """
    parts = part_rows(spec, dataset.read(columns=spec.columns))
    require_finite(spec, parts, dataset)
    return train_on(spec, dataset.version, parts, root, code, log, algorithm=algorithm), parts


def require_finite(spec: ModelSpec, parts: Parts, dataset: Dataset) -> None:
    """Refuse infinite inputs by view, column and rows before anything is fitted.

    Raises:
        InfiniteFeatureError: The model rejects infinite values, and a part has some.
    """
    used = (parts.train, parts.validation, parts.evaluation)
    if spec.declared.infinite == "reject" and any(
        has_infinite(part.rows.column(i.name)) for i in spec.inputs for part in used
    ):
        known = dataset.columns()
        keys = [name for name in spec.row_keys if name in known]
        again = part_rows(spec, dataset.read(columns=list(dict.fromkeys([*spec.columns, *keys]))))
        rows = pa.concat_tables([p.rows for p in (again.train, again.validation, again.evaluation)])
        raise InfiniteFeatureError(infinite_words(spec, rows, f"dataset version {dataset.version}"))


def train_on(
    spec: ModelSpec,
    dataset_version: str,
    parts: Parts,
    root: Path,
    code: Code,
    log: Callable[[str], None],
    *,
    algorithm: DeclaredAlgorithm | None = None,
) -> Artifact:
    """``train`` on rows that are parted already."""
    chosen = algorithm or spec.declared.algorithm
    trained = fit(spec, chosen, parts, log)
    manifest = describe(spec, dataset_version, parts, trained, code)
    artifact = write_artifact(root, spec.name, manifest, trained.scorer.files(chosen.name))
    told = manifest["metrics"]["evaluation"]
    log(
        f"{artifact.version}: on {len(parts.evaluation.labels):,} evaluation rows "
        + ", ".join(
            f"{name} {told[name]['value']:.4f}" for name in ("auc", "log_loss", "ece") if name in told
        )
    )
    return artifact


def describe(
    spec: ModelSpec, dataset_version: str, parts: Parts, trained: Trained, code: Code
) -> dict[str, Any]:
    """What a model's manifest says."""
    declared, scorer = spec.declared, trained.scorer
    scores = {
        name: scorer.score(part.rows)
        for name, part in (("validation", parts.validation), ("evaluation", parts.evaluation))
    }
    evaluation = parts.evaluation
    matrix = scorer.encoding.matrix(parts.train.rows)
    importance = scorer.fitted.importance()
    curve = calibration_curve(evaluation.labels, scores["evaluation"])
    profiles = profile_inputs(scorer.encoding, parts.train.rows, matrix)
    score = profile_number("score", scores["evaluation"])
    run = declared.monitoring.drift.window // timedelta(days=1)
    return {
        "format": FORMAT,
        "model": spec.name,
        "description": spec.exposure.description,
        "owner": spec.owner,
        "declared_in": spec.exposure.file,
        "declaration": declared.model_dump(mode="json"),
        "dataset": {
            "training_set": spec.table.name,
            "version": dataset_version,
            "labels_until": parts.cutoff,
        },
        "label": declared.label,
        "features": [asdict(i) for i in spec.inputs],
        "schema_hash": spec.schema_hash,
        "views": {view.name: view.schema_hash for view in spec.views},
        "split": {
            "embargo_seconds": int(parts.windows.embargo.total_seconds()),
            "train": parts.train.facts(),
            "validation": parts.validation.facts(),
            "evaluation": evaluation.facts(),
        },
        "code": asdict(code),
        "packages": _packages(),
        "algorithm": {**trained.algorithm.model_dump(mode="json"), "seed": declared.seed},
        "calibration": declared.calibration,
        "operating_point": {
            **declared.operating_point.model_dump(mode="json"),
            "threshold": trained.threshold,
        },
        "metrics": {
            "validation": metrics_json(
                parts.validation, scores["validation"], trained.threshold, declared.seed
            ),
            "evaluation": metrics_json(evaluation, scores["evaluation"], trained.threshold, declared.seed),
        },
        "slices": slice_metrics(spec, evaluation, scores["evaluation"], trained.threshold),
        "importance": sorted(
            ([name, float(share)] for name, share in zip(scorer.columns, importance, strict=True)),
            key=lambda pair: (-pair[1], pair[0]),
        ),
        "learning_curve": asdict(trained.curve),
        "calibration_curve": asdict(curve),
        "calibration_gaps": calibration_gaps(
            evaluation.labels, scores["evaluation"], evaluation.days
        ).as_json(),
        "profile": {
            "rows": len(matrix),
            "features": {name: found.as_json() for name, found in profiles.items()},
            "score": score.as_json(),
            "label": float(parts.train.labels.mean()),
            "persistence": {
                **persistence_of_inputs(scorer.encoding, profiles, matrix, parts.train.days, run),
                "score": persistence(
                    np.searchsorted(score.edges, scores["evaluation"]), evaluation.days, run
                ),
                "label": persistence(parts.train.labels.astype(np.int64), parts.train.days, run),
            },
        },
    }


def _packages() -> Mapping[str, str]:
    from importlib.metadata import version  # noqa: PLC0415

    return {name: version(name) for name in ("lightgbm", "scikit-learn", "numpy", "pyarrow")}
