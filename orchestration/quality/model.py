"""The keys a contract file may have, as strict models, one a check type.

What belongs here: shape and types of the file. What does not: anything that needs the declared
tables or SQL (``loading``), or Soda itself. The format is described in ``contract``.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    model_validator,
)

Dimension = Literal[
    "completeness", "validity", "uniqueness", "consistency", "timeliness", "accuracy", "representation"
]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


def _no_variables(value: str) -> str:
    if "${" in value:
        raise ValueError("expected text without ${...}: Soda would read the environment")
    return value


Number = Annotated[StrictInt | StrictFloat, AfterValidator(_finite)]
Text = Annotated[StrictStr, StringConstraints(min_length=1), AfterValidator(_no_variables)]
Sql = Annotated[
    StrictStr,
    AfterValidator(lambda text: text.strip().rstrip(";").rstrip()),
    AfterValidator(_no_variables),
    StringConstraints(min_length=1),
]
Name = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Qualifier = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z0-9_]+$")]
Value = Annotated[StrictStr, AfterValidator(_no_variables)]
Values = Annotated[tuple[Number | Value, ...], Field(min_length=1)]


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


class Attributes(Strict):
    """What Groundwork adds to a check."""

    dimension: Dimension | None = None
    description: Text | None = None
    blocking: bool | None = None
    scope: Literal["partition", "table"] | None = None


class Format(Strict):
    """A named regular expression (RE2, found anywhere in the text unless anchored)."""

    regex: Text
    name: Text


class Reference(Strict):
    """A column of another table that holds every valid value."""

    dataset: Text
    column: Text


class Body(Strict):
    """Keys of every check."""

    name: Name | None = None
    qualifier: Qualifier | None = None
    attributes: Attributes = Attributes()


class Schema(Body):
    """``schema``: the table's columns are the declared ones."""

    allow_extra_columns: bool = False
    allow_other_column_order: bool = False


class Tested(Body):
    """Keys of the checks that Soda measures over the rows of the table."""

    filter: Sql | None = None
    threshold: Threshold = Threshold()


class Missing(Tested):
    """``missing``: rows without a value."""

    threshold: CountThreshold = CountThreshold()
    missing_values: Values | None = None
    missing_format: Format | None = None


class Invalid(Tested):
    """``invalid``: rows with a value that breaks at least one of the rules given."""

    threshold: CountThreshold = CountThreshold()
    valid_values: Values | None = None
    invalid_values: Values | None = None
    valid_format: Format | None = None
    invalid_format: Format | None = None
    valid_min: Number | None = None
    valid_max: Number | None = None
    valid_length: Annotated[StrictInt, Field(ge=0)] | None = None
    valid_min_length: Annotated[StrictInt, Field(ge=0)] | None = None
    valid_max_length: Annotated[StrictInt, Field(ge=0)] | None = None
    valid_reference_data: Reference | None = None

    @model_validator(mode="after")
    def _has_rules(self) -> Self:
        rules = [n for n in Invalid.model_fields if "valid_" in n and getattr(self, n) is not None]
        if not rules:
            raise ValueError("expected at least one rule, such as valid_values or valid_max")
        if self.valid_reference_data is not None and (len(rules) > 1 or self.filter is not None):
            raise ValueError("expected valid_reference_data without other rules and without a filter")
        return self


class Duplicate(Tested):
    """``duplicate`` of one column."""

    threshold: CountThreshold = CountThreshold()


class DuplicateRows(Tested):
    """``duplicate`` of several columns together."""

    columns: Annotated[tuple[Text, ...], Field(min_length=1)]


class Aggregate(Tested):
    """``aggregate``: one function of one column."""

    threshold: Threshold
    function: Literal["avg", "sum", "min", "max", "avg_length", "min_length", "max_length"]


class RowCount(Tested):
    """``row_count``: how many rows there are."""

    threshold: Threshold = Threshold()


class Freshness(Tested):
    """``freshness``: age of the newest row on the platform's clock."""

    column: Text
    threshold: AgeThreshold


class FailedRows(Tested):
    """``failed_rows``: rows for which an expression is true, or that a query returns."""

    threshold: CountThreshold = CountThreshold()
    expression: Sql | None = None
    query: Sql | None = None
    rows_tested_query: Sql | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.expression is None) == (self.query is None):
            raise ValueError("expected exactly one of expression and query")
        if self.query is not None and self.filter is not None:
            raise ValueError("expected the filter inside the query: Soda ignores it beside one")
        if self.rows_tested_query is not None and self.query is None:
            raise ValueError("expected rows_tested_query beside query only")
        if self.query is not None and self.threshold.metric == "percent" and self.rows_tested_query is None:
            raise ValueError("expected rows_tested_query for a percentage of a query's rows")
        return self


class Metric(Body):
    """``metric``: one number, from an expression over the table or from a query."""

    threshold: Threshold
    expression: Sql | None = None
    query: Sql | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.expression is None) == (self.query is None):
            raise ValueError("expected exactly one of expression and query")
        return self


COLUMN_CHECKS: dict[str, type[Body]] = {
    "missing": Missing,
    "invalid": Invalid,
    "duplicate": Duplicate,
    "aggregate": Aggregate,
}
TABLE_CHECKS: dict[str, type[Body]] = {
    "row_count": RowCount,
    "schema": Schema,
    "freshness": Freshness,
    "duplicate": DuplicateRows,
    "failed_rows": FailedRows,
    "metric": Metric,
}


class Column(Strict):
    """A column and its checks; each check is a mapping of one type to its keys."""

    name: Text
    checks: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]


class Defaults(Strict):
    """``check_attributes``: what holds for all checks of the file."""

    window_column: Text | None = None


class ContractFile(Strict):
    """A whole contract file."""

    dataset: Text
    description: Text | None = None
    check_attributes: Defaults = Defaults()
    columns: tuple[Column, ...]
    checks: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
