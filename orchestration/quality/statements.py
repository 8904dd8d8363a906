"""The SQL of a check: what measures it, and which rows fail.

What belongs here: from a check and a window to SQL text that anyone can run on the lakehouse. What
does not: running it, or what Soda makes of the same check (``soda``).
"""

from collections.abc import Callable

from orchestration.lakehouse import LAKE
from orchestration.partitions import Window
from orchestration.quality.contract import Check, SqlPart
from orchestration.quality.declared_lake import DeclaredTable, identifier
from orchestration.quality.model import (
    Aggregate,
    Duplicate,
    DuplicateRows,
    FailedRows,
    Format,
    Freshness,
    Invalid,
    Metric,
    Missing,
    Schema,
)
from orchestration.quality.sql_text import replace_tables

_FUNCTIONS = {
    "avg_length": "avg(length({}))",
    "min_length": "min(length({}))",
    "max_length": "max(length({}))",
}


def literal(value: float | str) -> str:
    """A value as SQL text."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def in_window(part: SqlPart, window: Window | None) -> str:
    """A check's SQL text with the tables that a run sees in part replaced by that part."""
    inside = {
        ref: table.rows(window).replace("\n", " ")
        for ref, table in part.windowed.items()
        if window is not None and table.window_column is not None
    }
    return replace_tables(part.query, inside).removeprefix(part.prefix)


def wrapped(text: str) -> str:
    """An expression in parentheses; the line break keeps a trailing comment from eating the last one."""
    return f"(\n{text}\n)" if "--" in text or "\n" in text else f"({text})"


def _matches(column: str, form: Format) -> str:
    return f"regexp_matches({column}, {literal(form.regex)})"


def _in(column: str, values: tuple[float | str, ...]) -> str:
    return f"{column} in ({', '.join(map(literal, values))})"


def missing_condition(column: str, body: Missing) -> str:
    """True for a row whose value is missing."""
    parts = [f"{column} is null"]
    if body.missing_values is not None:
        parts.append(_in(column, body.missing_values))
    if body.missing_format is not None:
        parts.append(_matches(column, body.missing_format))
    return parts[0] if len(parts) == 1 else f"({' or '.join(parts)})"


def _breaches(column: str, body: Invalid) -> list[str]:
    rules: list[tuple[object, Callable[[], str]]] = [
        (body.valid_values, lambda: f"not ({_in(column, body.valid_values or ())})"),
        (body.invalid_values, lambda: _in(column, body.invalid_values or ())),
        (
            body.valid_format,
            lambda: f"not {_matches(column, body.valid_format)}" if body.valid_format else "",
        ),
        (body.invalid_format, lambda: _matches(column, body.invalid_format) if body.invalid_format else ""),
        (body.valid_min, lambda: f"{column} < {body.valid_min!r}"),
        (body.valid_max, lambda: f"{column} > {body.valid_max!r}"),
        (body.valid_length, lambda: f"length({column}) <> {body.valid_length}"),
        (body.valid_min_length, lambda: f"length({column}) < {body.valid_min_length}"),
        (body.valid_max_length, lambda: f"length({column}) > {body.valid_max_length}"),
    ]
    return [build() for rule, build in rules if rule is not None]


def reference_relation(dataset: str) -> str:
    """The table that ``valid_reference_data.dataset`` names."""
    return ".".join(identifier(part) for part in (LAKE, *dataset.split("/")[1:]))


def filters(check: Check, window: Window | None) -> list[str]:
    """The check's own filter, as conditions."""
    part = check.sql.get("filter")
    return [] if part is None else [wrapped(in_window(part, window))]


def failed_rows_sql(target: DeclaredTable, check: Check, window: Window | None) -> str | None:
    """A ``select`` of the rows that fail; None for checks whose value is not a count of rows."""
    body = check.body
    column = identifier(check.column) if check.column is not None else ""
    where = filters(check, window)
    match body:
        case Missing():
            return target.rows(window, [*where, missing_condition(column, body)])
        case Invalid(valid_reference_data=reference) if reference is not None:
            known = f"select 1 from {reference_relation(reference.dataset)} as known"
            same = f"known.{identifier(reference.column)} = {target.relation}.{column}"
            return target.rows(
                window, [*where, f"{column} is not null", f"not exists ({known} where {same})"]
            )
        case Invalid():
            breaches = " or ".join(_breaches(column, body))
            return target.rows(window, [*where, f"{column} is not null", f"({breaches})"])
        case Duplicate():
            return duplicates_sql(target, [check.column or ""], [*where, f"{column} is not null"], window)
        case DuplicateRows():
            return duplicates_sql(target, list(body.columns), where, window)
        case FailedRows(expression=expression) if expression is not None:
            return target.rows(window, [*where, wrapped(in_window(check.sql["expression"], window))])
        case FailedRows():
            return in_window(check.sql["query"], window)
    return None


def duplicates_sql(target: DeclaredTable, columns: list[str], where: list[str], window: Window | None) -> str:
    """Every combination of values that stands on more than one row, and on how many."""
    names = ", ".join(map(identifier, columns))
    rows = target.rows(window, where, select=f"{names}, count(*) as copies")
    return f"{rows}\ngroup by {names}\nhaving count(*) > 1"


def measuring_sql(target: DeclaredTable, check: Check, window: Window | None) -> str:
    """A ``select`` of the measured value itself, for checks without failing rows."""
    body = check.body
    where = filters(check, window)
    match body:
        case Schema():
            return f"describe {target.relation}"
        case Metric(expression=expression) if expression is not None:
            return target.rows(window, where, select=in_window(check.sql["expression"], window))
        case Metric():
            return in_window(check.sql["query"], window)
        case Aggregate():
            column = identifier(check.column or "")
            call = _FUNCTIONS.get(body.function, f"{body.function}({{}})").format(column)
            return target.rows(window, where, select=call)
        case Freshness():
            return target.rows(window, where, select=f"max({identifier(body.column)})")
    return target.rows(window, where, select="count(*)")


def referenced_tables(check: Check) -> frozenset[tuple[str, str]]:
    """Schema and name of every table that the check's SQL names, its own included if named."""
    named = {ref for part in check.sql.values() for ref in part.tables}
    if isinstance(check.body, Invalid) and check.body.valid_reference_data is not None:
        schema, name = check.body.valid_reference_data.dataset.split("/")[1:]
        named.add((schema, name))
    return frozenset(named)
