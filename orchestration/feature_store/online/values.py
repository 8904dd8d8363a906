"""Python values as SQL text of a declared type, without bound parameters.

What belongs here: values on their way into a DuckDB statement. What does not: statements.
"""

from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from orchestration.sql import literal


def _text(value: Any) -> str:
    """A value as SQL that any type's cast reads; quoted, as a bare 0.1 would be a decimal first."""
    match value:
        case None:
            return "null"
        case list() | tuple():
            return f"[{', '.join(map(_text, value))}]"
        case bytes():
            return f"unhex('{value.hex()}')"
        case datetime() | date() | time():
            return literal(value.isoformat())
        case Decimal():
            return literal(f"{value:f}")
        case str() if "\0" in value:  # where DuckDB would end the statement
            return " || chr(0) || ".join(map(literal, value.split("\0")))
        case _:
            return literal(str(value))


def typed_list(values: Iterable[Any], data_type: str) -> str:
    """Values as an expression of a list of a DuckDB type; DuckDB raises if one is none of that type's."""
    return f"cast([{', '.join(map(_text, values))}] as {data_type}[])"
