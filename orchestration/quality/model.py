"""The keys a contract file may have, as strict models, one a check type.

What belongs here: shape and types of the file. What does not: anything that needs the declared
tables or SQL (``loading``), or Soda itself. The format is described in ``contract``.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StrictInt, StrictStr, StringConstraints, model_validator

from orchestration.quality.thresholds import AgeThreshold, CountThreshold, Number, Strict, Threshold

Dimension = Literal[
    "completeness", "validity", "uniqueness", "consistency", "timeliness", "accuracy", "representation"
]


def _no_variables(value: str) -> str:
    if "${" in value:
        raise ValueError("expected text without ${...}: Soda would read the environment")
    return value


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
