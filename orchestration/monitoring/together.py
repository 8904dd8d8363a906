"""Drift of all features together: can a classifier tell the window's rows from those trained on?

Each feature may look as it did while what goes with what has changed. Trees learn on some days which side a
row is of, and are asked about days that they have not seen, so that what a single day was like does not
help them. The area under their curve is 0.5 where nothing has changed. What belongs here: that area and its
bound. What does not: which columns have drifted by themselves (``drift``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestration.learning.algorithms import ALGORITHMS, Column, Fitting, Rows
from orchestration.learning.profile import ColumnProfile
from orchestration.learning.statistics.bootstrap import t_quantile
from orchestration.learning.statistics.delong import placements, variance
from orchestration.sql import identifier, listing

Floats = NDArray[np.float64]

FOLDS = 5
FEWEST_DAYS = 3
"""Of fewer days nothing can be told about others."""
_PARAMETERS: Mapping[str, str | int | float | bool] = {
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 20,
    "cat_smooth": 50.0,
    "min_data_per_group": 50,
    # So few rows take longer to share out.
    "num_threads": 1,
}
_ROUNDS, _PATIENCE = 60, 10


@dataclass(frozen=True)
class Sample:
    """Encoded rows of one side: a matrix, rows by features, and the day of each row."""

    matrix: Floats
    days: NDArray[np.int64]


@dataclass(frozen=True)
class Together:
    """The area of the classifier, the lower bound of its one-sided interval, and of what it was told."""

    area: float
    low: float
    p_value: float
    rows: int
    importance: Mapping[str, float]
    """How much each feature helped it."""


def sample_sql(
    rows: str, day: str, profiles: Mapping[str, ColumnProfile], key: str, limit: int, total: int
) -> str:
    """SQL of at most about ``limit`` of ``total`` rows, encoded as numbers, the same ones each time.

    Args:
        rows: A relation with the features.
        day: SQL of the day of a row.
        profiles: The profile of each feature.
        key: SQL that tells a row from others; which rows are taken follows from it.
        limit: How many to take.
        total: How many there are.
    """
    columns = ", ".join(
        f"{_number(name, profile)} as v{n}" for n, (name, profile) in enumerate(profiles.items())
    )
    every = max(total, 1)
    return (
        f"select {day} as day, {columns} from {rows} "
        f"where hash({key}) % {every} < {limit} order by hash({key})"
    )


def _number(name: str, profile: ColumnProfile) -> str:
    column = identifier(name)
    if profile.kind == "category":
        known = f"coalesce(list_position({listing(profile.values)}::varchar[], {column}), 0)"
        return f"case when {column} is not null then {known} end::double"
    if profile.kind == "number":
        return f"case when isfinite({column}::double) then {column}::double end"
    return f"{column}::integer::double"


def read_sample(con: duckdb.DuckDBPyConnection, query: str) -> Sample:
    """The rows of ``sample_sql``."""
    found: pa.Table = con.execute(query).to_arrow_table()
    days = np.asarray(found.column(0).cast(pa.int32())).astype(np.int64)
    columns = [
        np.asarray(found.column(n).fill_null(float("nan")).combine_chunks().to_numpy(zero_copy_only=False))
        for n in range(1, found.num_columns)
    ]
    return Sample(np.column_stack(columns) if columns else np.empty((len(days), 0)), days)


def tell_apart(
    reference: Sample,
    window: Sample,
    profiles: Mapping[str, ColumnProfile],
    *,
    significance: float,
    seed: int,
) -> Together | None:
    """How well both sides are told apart on days that were not learnt from.

    The area of each fold is DeLong's, its variance that of days, after Obuchowski; the bound is Student's
    with the days of the side that has fewer.

    Returns:
        None where a side has days too few, or no rows.
    """
    sides = (reference, window)
    counts = [len(np.unique(side.days)) for side in sides]
    if min(counts) < FEWEST_DAYS:
        return None
    folds = min(FOLDS, *counts)
    matrix = np.vstack([side.matrix for side in sides])
    labels = np.repeat([0.0, 1.0], [len(side.days) for side in sides])
    # Days next to one another are alike: a fold takes days that follow one another.
    fold = np.concatenate([_folds(side.days, folds) for side in sides])
    days = np.unique(
        np.column_stack([labels, np.concatenate([s.days for s in sides])]), axis=0, return_inverse=True
    )[1]
    areas: list[float] = []
    influence, importance = np.zeros(len(labels)), np.zeros(matrix.shape[1])
    for number in range(folds):
        test, stop = fold == number, fold == (number + 1) % folds
        learn = ~test & ~stop if folds > 2 else ~test
        fitted, _ = ALGORITHMS["lightgbm"].fit(
            Rows(matrix[learn], labels[learn]),
            Rows(matrix[stop], labels[stop]),
            Fitting(_columns(profiles), _PARAMETERS, _ROUNDS, _PATIENCE, seed, _say_nothing),
        )
        found = placements(labels[test], fitted.predict(matrix[test]))
        areas.append(found.area)
        influence[test] = found.influence / folds
        importance += fitted.importance() / folds
    area = float(np.mean(areas))
    error = variance(influence, labels, days.ravel()) ** 0.5
    low = area - t_quantile(1 - significance, min(counts) - 1) * error
    return Together(
        area,
        max(0.0, low),
        _probability(area, error, min(counts) - 1),
        len(labels),
        dict(zip(profiles, (float(i) for i in importance), strict=True)),
    )


def _folds(days: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    place = np.unique(days, return_inverse=True)[1]
    return place * folds // (int(place.max()) + 1)


def _columns(profiles: Mapping[str, ColumnProfile]) -> Sequence[Column]:
    return [
        Column(name, len(profile.values) + 1 if profile.kind == "category" else 0)
        for name, profile in profiles.items()
    ]


def _probability(area: float, error: float, freedom: int) -> float:
    """Of an area at least as large when both sides are alike."""
    from scipy.special import stdtr  # noqa: PLC0415

    return float(stdtr(freedom, (0.5 - area) / error)) if error > 0 else float(area <= 0.5)


def _say_nothing(line: str) -> None:
    """Takes progress."""
