"""The shape of a model's declaration: ``exposures[].config.meta.model``.

What belongs here: what may be written, and what cannot be meant together. What does not: whether the
columns and features that it names are there (``orchestration.learning.spec``).
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from orchestration.declarations.durations import Duration
from orchestration.declarations.monitoring import Monitoring
from orchestration.declarations.strict import Declared

Metric = Literal["auc", "log_loss", "brier", "ece", "precision", "recall"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Infinite = Annotated[
    Literal["reject", "null"],
    # YAML reads the bare word null as no value.
    BeforeValidator(lambda value: "null" if value is None else value),
]


class Algorithm(Declared):
    """What is trained, by its name in the registry of algorithms, with parameters under its own names."""

    name: str = Field(min_length=1)
    parameters: Mapping[str, str | int | float | bool] = Field(default_factory=dict)
    rounds: Count = 500
    """Most rounds of an algorithm that learns in rounds."""
    patience: Count = 50
    """After so many rounds without a gain on the validation rows it stops."""


class Encoding(Declared):
    """How texts become categories: the most frequent ones of the training rows, all others as one."""

    max_categories: Count = 255
    min_rows: Count = 20
    """A text on fewer training rows is no category of its own."""


class ModelSplit(Declared):
    """Which rows train, validate and evaluate, counted back from the instant of training.

    ``evaluation`` rows are the newest; before them, each a gap of ``embargo`` apart, come ``validation``
    and, at most ``train`` long, the rows that are trained on.
    """

    train: Duration | None = None
    validation: Duration
    evaluation: Duration
    embargo: Duration = timedelta(0)
    min_rows: Count = 1000
    """Fewer rows in any part are too few."""


class OperatingPoint(Declared):
    """When a score becomes a decision: at a threshold, or where so many rows are decided for."""

    threshold: Share | None = None
    share: Share | None = None
    """Share of the validation rows whose score lies at or above the threshold that follows."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.threshold is None) == (self.share is None):
            raise ValueError("expected either threshold or share")
        return self


class Floors(Declared):
    """What a challenger must reach on the evaluation rows, whatever the champion does."""

    metrics: Mapping[Metric, float] = Field(default_factory=dict)
    """The least that a metric may be, or the most, for those of which less is better."""
    slice_loss: Positive = 0.02
    """By how much the primary metric may be worse than the champion's in a slice, by its confidence bound."""
    smallest_slice: Count = 1000
    """A slice with fewer rows is shown and decides nothing."""
    score_gap: Share = 0.05
    """How far the mean score may be from the share of positive labels."""
    megabytes: Positive = 50
    milliseconds: Positive = 20
    """How long the prediction of a single row may take; the median of many counts."""


class Gate(Declared):
    """When a challenger takes over."""

    minimum_gain: Annotated[float, Field(ge=0)]
    """By how much the primary metric must be better, as its confidence bound says."""
    error_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """How often a challenger that is better by no more than the minimum gain may take over."""
    non_inferiority_margin: Positive
    """By how much the primary metric may be worse after a retrain that something else forces."""
    shadow: Duration | None = None
    """How long a challenger scores beside the champion before it may take over."""


class PerformanceTrigger(Declared):
    """Retrains when the primary metric's confidence bound is worse than expected by ``loss``."""

    loss: Positive
    min_rows: Count = 1000
    """With a label, in the window that is watched."""


class DriftTrigger(Declared):
    """Retrains when features have drifted in ``alarms`` of the last ``of`` evaluations."""

    alarms: Count = 3
    of: Count = 5
    min_rows: Count = 1000
    importance: Share = 0.1
    """Share of the model's importance that the drifted features must hold together."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.alarms > self.of:
            raise ValueError(f"expected alarms of at most {self.of} (of), found {self.alarms}")
        return self


class NewLabelsTrigger(Declared):
    """Retrains when so many rows are new, as a share of those that the champion was trained on."""

    share: Positive


class Budget(Declared):
    """Not more than ``trainings`` in any ``per``."""

    trainings: Count
    per: Duration


class Retrain(Declared):
    """What makes a model be trained again; what is left out never does."""

    performance: PerformanceTrigger | None = None
    drift: DriftTrigger | None = None
    new_labels: NewLabelsTrigger | None = None
    age: Duration | None = None
    definition: bool = True
    """Whether a change of feature SQL, contract or training code does."""
    restated: bool = True
    """Whether a change of rows that the champion was trained on does."""
    cooldown: Duration = timedelta(days=1)
    budget: Budget | None = None


class Predict(Declared):
    """What is predicted, day by day, and what becomes of its labels."""

    spine: str
    """A model of the dbt project that declares a spine, with entity keys, request columns and the training
    set's prediction time."""
    late_after: Duration | None = None
    """A label that becomes known so long after the prediction is late; left out: none is."""
    never_after: Duration
    """A label that is not known so long after the prediction is not waited for any longer."""
    least_complete: Share = 0.95
    """A smaller share of labels that came at all is told as a fault."""
    most_late: Share = 0.05
    """A greater share of labels that were late is."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.late_after is not None and self.late_after > self.never_after:
            raise ValueError(f"expected late_after of at most never_after ({self.never_after})")
        return self


class LearnedModel(Declared):
    """A model: ``exposures[].config.meta.model``."""

    training_set: str
    label: str
    features: tuple[str, ...] | None = None
    """References as in a feature service; left out: every feature of the training set's service."""
    leave_out: tuple[str, ...] = ()
    """References of features that the model does not take."""
    on_demand: tuple[str, ...] | None = None
    """On-demand features; left out: every one of the service."""
    request: tuple[str, ...] = ()
    """Entity keys and other columns of the training set that whoever asks for a prediction gives."""
    algorithm: Algorithm
    baseline: Algorithm
    encoding: Encoding = Encoding()
    infinite: Infinite = "reject"
    """How to treat an infinite number in an input: as an error that names it, or as missing."""
    calibration: Literal["isotonic", "platt", "none"] = "isotonic"
    seed: int = 1
    split: ModelSplit
    metric: Literal["auc", "log_loss"]
    operating_point: OperatingPoint
    slices: tuple[str, ...] = ()
    """Columns of the training set by whose values metrics are told apart."""
    floors: Floors = Floors()
    gate: Gate
    retrain: Retrain = Retrain()
    predict: Predict | None = None
    """Left out: nothing is predicted in batches."""
    monitoring: Monitoring = Monitoring()
