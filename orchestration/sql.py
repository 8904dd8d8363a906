"""Quoting: the only place where Python text becomes SQL text.

What belongs here: identifiers and literals. What does not: any statement.
"""

from collections.abc import Iterable
from datetime import datetime
from string import ascii_lowercase, ascii_uppercase

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def identifier(name: str) -> str:
    """A quoted column or table name."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | int | datetime | None) -> str:
    """A quoted value; an instant becomes a ``timestamptz``."""
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        return f"timestamptz '{value.isoformat()}'"
    return "'" + value.replace("'", "''") + "'"


def listing(values: Iterable[str]) -> str:
    """A list of quoted texts."""
    return "[" + ", ".join(literal(v) for v in values) + "]"


def folded(name: str) -> str:
    """A name as DuckDB compares it: ASCII letters in lower case."""
    return name.translate(_LOWER)
