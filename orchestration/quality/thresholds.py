"""Thresholds: what a measured value must be.

What belongs here: their keys, their comparison, their words. What does not: what is measured.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictFloat, StrictInt, model_validator


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


Number = Annotated[StrictInt | StrictFloat, AfterValidator(_finite)]


class Strict(BaseModel):
    """Base of all: frozen, and an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Strict):
    """Both bounds of ``must_be_between`` and ``must_be_not_between``."""

    greater_than: Number | None = None
    greater_than_or_equal: Number | None = None
    less_than: Number | None = None
    less_than_or_equal: Number | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.greater_than is None) == (self.greater_than_or_equal is None):
            raise ValueError("expected exactly one of greater_than and greater_than_or_equal")
        if (self.less_than is None) == (self.less_than_or_equal is None):
            raise ValueError("expected exactly one of less_than and less_than_or_equal")
        return self

    @property
    def low(self) -> float:
        """The bound that values are greater than."""
        return next(v for v in (self.greater_than, self.greater_than_or_equal) if v is not None)

    @property
    def high(self) -> float:
        """The bound that values are less than."""
        return next(v for v in (self.less_than, self.less_than_or_equal) if v is not None)

    def above(self, value: float) -> bool:
        """Whether a value is on the right side of the ``greater_than`` bound."""
        return value > self.low if self.greater_than is not None else value >= self.low

    def below(self, value: float) -> bool:
        """Whether a value is on the right side of the ``less_than`` bound."""
        return value < self.high if self.less_than is not None else value <= self.high


class Threshold(Strict):
    """What a measured value must be; with ``level`` it says how bad it is if not.

    Without a ``must_...`` key the check's type tells: more than no rows, or nothing that fails.
    """

    must_be: Number | None = None
    must_not_be: Number | None = None
    must_be_greater_than: Number | None = None
    must_be_greater_than_or_equal: Number | None = None
    must_be_less_than: Number | None = None
    must_be_less_than_or_equal: Number | None = None
    must_be_between: Range | None = None
    must_be_not_between: Range | None = None
    level: Literal["fail", "warn"] = "fail"

    @model_validator(mode="after")
    def _one_comparison(self) -> Self:
        found = [name for name, _ in self.comparisons()]
        if len(found) > 1:
            raise ValueError(f"expected exactly one must_... key, not {' and '.join(found)}")
        if self.must_be_between is not None and self.must_be_between.low >= self.must_be_between.high:
            raise ValueError("expected must_be_between with a lower bound below the upper one")
        outside = self.must_be_not_between
        if outside is not None and outside.low <= outside.high:
            raise ValueError("expected must_be_not_between with greater_than above less_than")
        return self

    def comparisons(self) -> Iterator[tuple[str, Any]]:
        """The ``must_...`` keys that are given: one, or none for the type's default."""
        for name in Threshold.model_fields:
            if name.startswith("must_") and getattr(self, name) is not None:
                yield name, getattr(self, name)

    def admits(self, value: float) -> bool:
        """Whether a measured value is as it must be."""
        for name, bound in self.comparisons():
            match name:
                case "must_be":
                    return bool(value == bound)
                case "must_not_be":
                    return bool(value != bound)
                case "must_be_greater_than":
                    return bool(value > bound)
                case "must_be_greater_than_or_equal":
                    return bool(value >= bound)
                case "must_be_less_than":
                    return bool(value < bound)
                case "must_be_less_than_or_equal":
                    return bool(value <= bound)
                case "must_be_between":
                    return bool(bound.above(value) and bound.below(value))
                case "must_be_not_between":
                    return bool(bound.above(value) or bound.below(value))
        return False

    def words(self) -> str:
        """The comparison in plain words: ``at most 5``."""
        signs = {
            "must_be": "exactly {}",
            "must_not_be": "anything but {}",
            "must_be_greater_than": "more than {}",
            "must_be_greater_than_or_equal": "at least {}",
            "must_be_less_than": "less than {}",
            "must_be_less_than_or_equal": "at most {}",
        }
        for name, bound in self.comparisons():
            if isinstance(bound, Range):
                low = f"{'more than' if bound.greater_than is not None else 'at least'} {bound.low:,}"
                high = f"{'less than' if bound.less_than is not None else 'at most'} {bound.high:,}"
                return f"{low} and {high}" if name == "must_be_between" else f"{high} or {low}"
            return signs[name].format(f"{bound:,}")
        return "nothing"


class CountThreshold(Threshold):
    """A threshold on a count of rows or on their share in percent."""

    metric: Literal["count", "percent"] = "count"


class AgeThreshold(Threshold):
    """A threshold on an age."""

    unit: Literal["minute", "hour", "day"] = "hour"
