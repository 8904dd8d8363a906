"""Which values a model may be asked with: those that its predictions can be written down with, and landed.

What belongs here: telling them, for each type, and what is written down of a value. What does not: how a
request says them (``feature_store.server``), and landing (``landing``).
"""

import json
import math
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from orchestration.declarations import canonical
from orchestration.feature_store.online.keys import encodes
from orchestration.feature_store.online.on_demand import is_json_of_type

_INTEGERS = frozenset(f"{sign}{size}int" for sign in ("", "u") for size in ("tiny", "small", "big", "huge"))
_INTEGERS |= {"integer", "uinteger"}


def is_integer(data_type: str) -> bool:
    """Whether a type is one of whole numbers."""
    return canonical(data_type) in _INTEGERS


def accepts(data_type: str) -> Callable[[Any], bool]:
    """Tells whether a value other than null is one of a type, and reads as one of it once written down."""
    kind, encoded = canonical(data_type), encodes(data_type)
    if kind in {"float", "double"}:
        return lambda value: _is_number(value, "<f" if kind == "float" else "<d")

    def reads(value: Any) -> bool:
        try:
            text = dumped(value).decode()
        except (TypeError, ValueError):
            return False
        return is_json_of_type(text, data_type)

    if encoded is None:
        return reads
    if kind == "varchar":
        return encoded
    if kind == "uuid":
        return lambda value: encoded(value) and str(UUID(str(value))) == str(value).lower()
    # Python reads more spellings of a day, say, than DuckDB does.
    return lambda value: encoded(value) and (not isinstance(value, str) or reads(value))


def _is_number(value: Any, code: str) -> bool:
    if not isinstance(value, (int, float, Decimal)) or isinstance(value, bool):
        return False
    try:
        struct.pack(code, float(value))
    except (OverflowError, ValueError):  # a number that is too large, a Decimal's signalling NaN
        return False
    return True


def dumped(value: Any) -> bytes:
    """A value, or an object of values, as JSON in one line.

    Raises:
        TypeError: It has no form there.
    """
    try:
        return orjson.dumps(value, default=_text)
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(value, default=_text).encode()


def plain(value: Any) -> Any:
    """A value as JSON has it: there are no NaN and no infinities, but DuckDB reads them from texts."""
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> str:
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"{type(value).__name__} cannot be written down")
