"""Batch scoring: from columns to calibrated probabilities, against LightGBM alone on the finished matrix.

Made-up rows as wide as the shipped model's: 45 numbers of which a tenth is missing, 5 flags, 5 texts.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pyarrow as pa

from benchmarks.report import Row
from orchestration.learning.algorithms import ALGORITHMS, Fitting, Rows
from orchestration.learning.calibration import fit_calibration
from orchestration.learning.encoding import fit_encoding
from orchestration.learning.kinds import Kind
from orchestration.learning.model import Scorer

ROWS, TRAINED_ON = 200_000, 60_000
ROUNDS = 130
LEAST = 0.8

_KINDS: dict[str, Kind] = {
    **{f"number_{n}": "number" for n in range(45)},
    **{f"flag_{n}": "flag" for n in range(5)},
    **{f"text_{n}": "category" for n in range(5)},
}


def make_rows(count: int, seed: int) -> tuple[pa.Table, "np.ndarray[tuple[int], np.dtype[np.float64]]"]:
    """Rows and labels, 0 or 1."""
    dice = np.random.default_rng(seed)
    texts = np.array([f"text {n}" for n in range(100)])
    columns: dict[str, pa.Array] = {}
    odds = np.full(count, -1.0)
    for place, (name, kind) in enumerate(_KINDS.items()):
        if kind == "category":
            codes = dice.integers(0, 100, count)
            odds += 0.3 * np.sin(codes + place)
            columns[name] = pa.array(texts[codes])
            continue
        values = dice.normal(0, 1, count)
        odds += 0.3 * np.sin(values * (place % 3 + 1))
        missing = dice.random(count) < 0.1
        columns[name] = pa.array(values > 0 if kind == "flag" else values, mask=missing)
    labels = (dice.random(count) < 1 / (1 + np.exp(-odds))).astype(np.float64)
    return pa.table(columns), labels


def make_scorer() -> Scorer:
    """A model of as many trees and leaves as the shipped one."""
    rows, labels = make_rows(TRAINED_ON, 1)
    encoding = fit_encoding(list(_KINDS.items()), rows, max_categories=120, min_rows=100)
    matrix, half = encoding.matrix(rows), TRAINED_ON // 2
    algorithm = ALGORITHMS["lightgbm"]
    parameters = {"learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 50}
    fitting = Fitting(encoding.matrix_columns, parameters, ROUNDS, ROUNDS, 1, lambda _: None)
    learnt, known = Rows(matrix[:half], labels[:half]), Rows(matrix[half:], labels[half:])
    fitted, _ = algorithm.fit(learnt, known, fitting)
    fitted = algorithm.load(fitted.to_text())
    return Scorer(encoding, fitted, fit_calibration("isotonic", known.labels, fitted.predict(known.matrix)))


def run(folder: Path, *, repeats: int) -> list[Row]:
    """Needs no folder; each side scores the same rows three times as often as ``repeats``, turn by turn."""
    import lightgbm  # noqa: PLC0415 - once the scorer has loaded what it needs

    del folder
    scorer = make_scorer()
    rows, _ = make_rows(ROWS, 2)
    matrix = scorer.encoding.matrix(rows)
    booster = lightgbm.Booster(model_str=scorer.fitted.to_text())
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: scorer.score(rows),
        "bare": lambda: booster.predict(matrix),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(3 * repeats + 1):
        for name, score in sides.items():
            started = perf_counter()
            score()
            seconds[name].append(perf_counter() - started)
    ours, bare = (ROWS / median(taken[1:]) for taken in seconds.values())
    what = f"batch scoring by {booster.num_trees()} trees, rows a second"
    return [Row(what, f"{ours:,.0f}", f"LightGBM alone {bare:,.0f}", ours / bare, LEAST, at_least=True)]
