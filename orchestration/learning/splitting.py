"""Which rows of a training set train, validate and evaluate a model, counted back from its newest label.

What belongs here: instants and the rows between them. What does not: the training set's own column
``split``, which stands still while a model is trained again and again.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestration.declarations import ModelSplit, TrainingSet

Whole = NDArray[np.int64]
_INSTANT = pa.timestamp("us", tz="UTC")
VERSION = 1
"""Increment it when different rows train, validate or evaluate: it is part of a model's definition."""


class SplitError(ValueError):
    """A part has too few rows, or of one class only."""


@dataclass(frozen=True)
class Window:
    """From ``start`` up to, not including, ``end``; no start is the beginning of time."""

    start: datetime | None
    end: datetime

    def words(self) -> str:
        """For people."""
        return (
            f"{'the beginning' if self.start is None else self.start.isoformat()} to {self.end.isoformat()}"
        )

    def as_json(self) -> dict[str, str | None]:
        """Instants in ISO 8601."""
        return {"start": self.start.isoformat() if self.start else None, "end": self.end.isoformat()}


@dataclass(frozen=True)
class Windows:
    """The parts by the time of prediction, in order, each an embargo apart."""

    train: Window
    validation: Window
    evaluation: Window
    embargo: timedelta


def windows(declared: ModelSplit, cutoff: datetime) -> Windows:
    """The parts for an instant up to which labels are known.

    The newest rows count only after an embargo too: of those, some outcomes are known sooner than others.
    """
    evaluation_end = cutoff - declared.embargo
    evaluation_start = evaluation_end - declared.evaluation
    validation_end = evaluation_start - declared.embargo
    validation_start = validation_end - declared.validation
    train_end = validation_start - declared.embargo
    train_start = None if declared.train is None else train_end - declared.train
    return Windows(
        Window(train_start, train_end),
        Window(validation_start, validation_end),
        Window(evaluation_start, evaluation_end),
        declared.embargo,
    )


def newest_label(rows: pa.Table, training_set: TrainingSet) -> datetime:
    """The instant up to which the labels of the rows are known.

    Raises:
        SplitError: There are no rows.
    """
    newest = pc.max(pc.cast(rows.column(training_set.label_known_at), _INSTANT)).as_py()
    if newest is None:
        raise SplitError(f"found no rows, expected some with {training_set.label_known_at}")
    found: datetime = newest.astimezone(UTC)
    return found


def select(rows: pa.Table, training_set: TrainingSet, window: Window, embargo: timedelta) -> pa.Table:
    """The rows predicted in a window whose label was known an embargo after it at the latest."""
    asked = pc.cast(rows.column(training_set.prediction_time), _INSTANT)
    known = pc.cast(rows.column(training_set.label_known_at), _INSTANT)
    inside = pc.and_(
        pc.less(asked, pa.scalar(window.end, _INSTANT)),
        pc.less_equal(known, pa.scalar(window.end + embargo, _INSTANT)),
    )
    if window.start is not None:
        inside = pc.and_(inside, pc.greater_equal(asked, pa.scalar(window.start, _INSTANT)))
    inside = pc.and_(inside, pc.is_valid(rows.column(training_set.label)))
    return rows.filter(inside)


def labels_of(rows: pa.Table, training_set: TrainingSet) -> NDArray[np.float64]:
    """The labels, 0 or 1."""
    return np.asarray(pc.cast(pc.cast(rows.column(training_set.label), pa.int8()), pa.float64()))


def days_of(rows: pa.Table, training_set: TrainingSet, timezone: ZoneInfo) -> Whole:
    """The day of each row's prediction on the clock of a place, as a number."""
    asked = pc.cast(rows.column(training_set.prediction_time), pa.timestamp("us", tz=str(timezone)))
    return np.asarray(
        pc.cast(pc.cast(pc.local_timestamp(asked), pa.date32(), safe=False), pa.int32())
    ).astype(np.int64)


def check_part(name: str, window: Window, labels: NDArray[Any], min_rows: int) -> None:
    """Refuse a part from which nothing can be learnt or told.

    Raises:
        SplitError: It has fewer than ``min_rows`` rows, or one class only.
    """
    if len(labels) < min_rows:
        raise SplitError(
            f"{name}, {window.words()}: found {len(labels)} rows with a label, expected at least {min_rows}"
        )
    positive = int(labels.sum())
    if positive in (0, len(labels)):
        raise SplitError(
            f"{name}, {window.words()}: found {positive} positive labels in {len(labels)} rows, "
            "expected both classes"
        )
