"""Drift: the columns of a window beside those that the model was made with, each called drifted or not.

A column has drifted if the population stability index is at least as declared *and* a test that takes days,
not rows, for what was drawn says that chance alone hardly does that, corrected after Holm for all columns of
the window. Either alone is wrong: the index of a small sample is large without any drift, and the test of a
large one finds differences that matter to nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb

from orchestration.declarations import DriftWatch
from orchestration.learning.profile import ColumnProfile
from orchestration.monitoring.counting import SCORE, Counted, CountedDays, count_columns, reference_counts
from orchestration.monitoring.reference import Reference
from orchestration.monitoring.shift import chi_square, holm, jensen_shannon, population_stability_index

Role = Literal["feature", "score", "label"]
LABEL = "label"


@dataclass(frozen=True)
class ColumnDrift:
    """How far a column of the window is from what the model was made with.

    ``new_category_share`` are rows with a text that is no category of the model's, ``out_of_range_share``
    those with a number outside of what was there; None where it does not apply. ``p_value`` is that of one
    test, ``adjusted_p_value`` after Holm.
    """

    column_name: str
    role: Role
    rows: int
    psi: float
    jensen_shannon: float
    null_rate_change: float
    new_category_share: float | None
    out_of_range_share: float | None
    statistic: float
    p_value: float
    adjusted_p_value: float
    importance: float | None
    alarm: bool


@dataclass(frozen=True)
class Drifted:
    """What was found of all columns, and what it amounts to."""

    columns: tuple[ColumnDrift, ...]
    importance: float
    """Share of the model's importance that the drifted features hold."""
    watch: DriftWatch

    @property
    def names(self) -> list[str]:
        """The drifted columns, those that matter most first."""
        alarms = [c for c in self.columns if c.alarm]
        return [c.column_name for c in sorted(alarms, key=lambda c: (-(c.importance or 1.0), -c.psi))]

    @property
    def has_drifted(self) -> bool:
        """Whether the score or the label has, or features that matter enough have together."""
        others = any(c.alarm for c in self.columns if c.role != "feature")
        return others or self.importance >= self.watch.importance


def count_drift(
    con: duckdb.DuckDBPyConnection,
    reference: Reference,
    rows: str,
    day: str,
    labelled_rows: str | None = None,
) -> dict[str, CountedDays]:
    """Count every input, the score and the label by the bins of a version's own.

    Args:
        con: A connection.
        reference: The version.
        rows: A relation with the inputs and ``score``.
        day: SQL of the day of a row.
        labelled_rows: A relation of those rows whose label is known, with ``label``; None for no label.
    """
    counted = count_columns(con, rows, day, {**reference.features, SCORE: reference.score})
    if labelled_rows is not None:
        counted |= count_columns(con, labelled_rows, day, {LABEL: reference.label})
    return counted


def compare_drift(reference: Reference, counted: Mapping[str, Counted], watch: DriftWatch) -> Drifted:
    """What ``count_drift`` has counted of a window, beside a version's own."""
    profiles = {**reference.features, SCORE: reference.score, LABEL: reference.label}
    return compare_columns(profiles, counted, reference.importance, watch, reference.persistence)


def compare_columns(
    profiles: Mapping[str, ColumnProfile],
    counted: Mapping[str, Counted],
    importance: Mapping[str, float],
    watch: DriftWatch,
    persistence: Mapping[str, float] | None = None,
) -> Drifted:
    """The columns of a window beside their profiles; one of which nothing was counted is left out."""
    names = [name for name, found in counted.items() if found.rows]
    hanging = persistence or {}
    tests = {
        name: chi_square(reference_counts(profiles[name]), counted[name].by_day, hanging.get(name, 1.0))
        for name in names
    }
    adjusted = dict(zip(names, holm([tests[name][1] for name in names]), strict=True))
    columns = [
        _column(name, profiles[name], counted[name], tests[name], adjusted[name], importance, watch)
        for name in names
    ]
    return Drifted(tuple(columns), _importance_of_alarms(columns), watch)


def _importance_of_alarms(columns: Sequence[ColumnDrift]) -> float:
    return sum(c.importance or 0.0 for c in columns if c.alarm)


def _column(
    name: str,
    profile: ColumnProfile,
    counted: Counted,
    test: tuple[float, float],
    adjusted: float,
    importance: Mapping[str, float],
    watch: DriftWatch,
) -> ColumnDrift:
    reference, window, rows = reference_counts(profile), counted.by_day.sum(axis=0), counted.rows
    seen = reference + window > 0
    psi = population_stability_index(reference[seen], window[seen])
    outside = counted.outside / rows
    return ColumnDrift(
        column_name=name,
        role="score" if name == SCORE else "label" if name == LABEL else "feature",
        rows=rows,
        psi=psi,
        jensen_shannon=jensen_shannon(reference, window),
        null_rate_change=counted.nulls / rows - profile.nulls / max(profile.rows, 1),
        new_category_share=outside if profile.kind == "category" else None,
        out_of_range_share=outside if profile.kind == "number" else None,
        statistic=test[0],
        p_value=test[1],
        adjusted_p_value=adjusted,
        importance=importance.get(name, 0.0) if name not in {SCORE, LABEL} else None,
        alarm=rows >= watch.min_rows and psi >= watch.psi and adjusted < watch.significance,
    )
