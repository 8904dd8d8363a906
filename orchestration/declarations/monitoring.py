"""The shape of what is watched of a model: ``exposures[].config.meta.model.monitoring``.

Everything has a default, so that a model that declares nothing is watched. A window ends at the midnight
after the day that it is told for, and reaches back as long as it is declared.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from orchestration.declarations.durations import Duration
from orchestration.declarations.strict import Declared

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Significance = Annotated[float, Field(gt=0, lt=0.5)]


def _whole_days(length: timedelta) -> timedelta:
    if not length or length % timedelta(days=1):
        raise ValueError("expected whole days, such as '7 days'")
    return length


Days = Annotated[Duration, AfterValidator(_whole_days)]
GroupMetric = Literal[
    "selection_rate", "true_positive_rate", "false_positive_rate", "precision", "calibration"
]


class DriftWatch(Declared):
    """When a column counts as drifted: by a large effect that is surely no chance."""

    window: Days = timedelta(days=14)
    psi: Positive = 0.25
    """The least population stability index that is an alarm."""
    significance: Significance = 0.01
    """How often any column at all may be called drifted in a window when none is."""
    min_rows: Count = 1000
    """Fewer predictions in a window are too few to tell."""
    importance: Share = 0.1
    """Share of the model's importance that drifted features must hold together for the model to be so."""
    together: Annotated[float, Field(gt=0.5, le=1)] = 0.7
    """The least area by which a classifier tells the window from the rows trained on, taking all features
    together."""
    together_rows: Count = 10_000
    """Rows of either side, at most, that the classifier learns from."""


class PerformanceWatch(Declared):
    """When a model counts as worse than when it was chosen."""

    window: Days = timedelta(days=14)
    loss: Positive = 0.02
    """By how much the primary metric may be worse than on the evaluation rows, by its confidence bound."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    min_rows: Count = 1000
    """Fewer predictions, or fewer with a label, are too few to tell."""
    labelled: Share = 0.9
    """Share of the predictions whose label must be known: of those known first, some outcomes are more
    frequent."""


class BiasWatch(Declared):
    """By how much groups may be treated differently from all others."""

    window: Days = timedelta(days=28)
    groups: tuple[str, ...] | None = None
    """Columns by whose values groups are told apart; left out: the slices."""
    gaps: Mapping[GroupMetric, Positive] = Field(default_factory=dict)
    """The most by which a group may differ from all others; what is left out is measured and never warns."""
    significance: Significance = 0.05
    """How often any group at all may be called treated differently when none is."""
    min_rows: Count = 500
    """A group with fewer rows with a label is shown and never warns."""


class SkewWatch(Declared):
    """How features at serving are compared with the same features computed afterwards."""

    window: Days = timedelta(days=1)
    """How many days before the present one are looked at beside it."""
    lag: Duration = timedelta(hours=1)
    """How far the online store may be behind: what was known longer ago must have been served."""
    max_rows: Count = 100_000
    """The newest predictions of the window that are compared, at most."""


class Monitoring(Declared):
    """What is watched: ``monitoring`` of a model's declaration."""

    drift: DriftWatch = DriftWatch()
    performance: PerformanceWatch = PerformanceWatch()
    bias: BiasWatch = BiasWatch()
    skew: SkewWatch = SkewWatch()
