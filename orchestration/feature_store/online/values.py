"""Python values as SQL text of a declared type, without bound parameters.

What belongs here: single values on their way into a DuckDB statement. What does not: statements.
"""

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from orchestration.sql import literal


def _quoted(text: str) -> str:
    # DuckDB ends a statement at a NUL.
    return "(" + " || chr(0) || ".join(literal(part) for part in text.split("\0")) + ")"


def typed_literal(value: Any, data_type: str) -> str:
    """A value as an expression of a DuckDB type; DuckDB raises if it is none of that type's."""
    match value:
        case None:
            text = "null"
        case bool():
            text = str(value).lower()
        case bytes():
            text = f"unhex('{value.hex()}')"
        case datetime() | date() | time():
            text = literal(value.isoformat())
        case Decimal():
            text = literal(f"{value:f}")
        case str():
            text = _quoted(value)
        case _:
            # Quoted: bare, 0.1 is a decimal, and a decimal becomes a double less exactly than a text does.
            text = literal(str(value))
    return f"cast({text} as {data_type})"
