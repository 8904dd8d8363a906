"""How an entity becomes a key: typed, injective, the same from Python values and from SQL.

A key is ``=`` and the entity's columns as text, one after the other; a longer one than a store takes is
``#`` and its BLAKE2b digest. Text of a column is canonical for its type, and a NUL in it is escaped where
another column follows, so two entities never share a key. What belongs here: keys. What does not: values.
"""

import hashlib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from numbers import Integral, Real
from typing import Any, SupportsIndex
from uuid import UUID

from orchestration.declarations import DeclaredColumn, canonical, decimal_shape
from orchestration.feature_store.online.encoding import UnsupportedTypeError, micros
from orchestration.feature_store.views import View
from orchestration.sql import identifier

MAX_KEY_BYTES = 511
"""LMDB takes no longer keys."""
NO_ENTITY = b"\0"
"""The key of an entity that has a null in a key column, unless its view matches nulls: never stored."""
_SEPARATOR, _ESCAPED = "\0\1", "\0\2"
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_INTEGERS: Mapping[str, tuple[int, int]] = {
    "tinyint": (-(2**7), 2**7 - 1),
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
    "hugeint": (-(2**127), 2**127 - 1),
    "utinyint": (0, 2**8 - 1),
    "usmallint": (0, 2**16 - 1),
    "uinteger": (0, 2**32 - 1),
    "ubigint": (0, 2**64 - 1),
    "uhugeint": (0, 2**128 - 1),
}
_SUPPORTED = ("boolean", *_INTEGERS, "decimal", "varchar", "date", "timestamp", "timestamptz", "uuid")


class EntityTypeError(ValueError):
    """An entity row lacks a key, or has one of another type than declared; values are not shown."""


def _boolean(value: object) -> str:
    if not isinstance(value, bool):
        raise TypeError
    return "1" if value else "0"


def whole_number(value: Any) -> Any:
    """A whole float as an integer, any other value unchanged.

    Pandas stores integers as floats in a column with nulls. Above 2**53 a float may not be the number that
    was meant, and stays a float.
    """
    if type(value) is int or isinstance(value, Integral) or not isinstance(value, Real):
        return value
    number = float(value)
    if abs(number) <= 2**53 and number.is_integer():
        return int(number)
    return value


def _integer(low: int, high: int) -> Callable[[Any], str]:
    def text(value: SupportsIndex) -> str:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(whole_number(value))
        if not low <= number <= high:
            raise ValueError
        return str(number)

    return text


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # half a surrogate pair is no text
    return value


def _date(value: object) -> str:
    if isinstance(value, str):
        value = date.fromisoformat(value)
    if not isinstance(value, date) or isinstance(value, datetime):
        raise TypeError
    return str(value.toordinal() - _EPOCH_DAY)


def _instant(value: object, *, with_zone: bool) -> str:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or (value.tzinfo is not None) != with_zone:
        raise TypeError
    return str(micros(value if with_zone else value.replace(tzinfo=UTC)))


def _decimal(width: int, scale: int) -> Callable[[object], str]:
    def text(value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
            raise TypeError
        number = Decimal(value)
        if not number.is_finite():
            raise ValueError
        whole = f"{number:f}"
        sign, digits, fraction = re.fullmatch(r"(-?)(\d+)(?:\.(\d*))?", whole).groups("")  # type: ignore[union-attr]
        digits, fraction = digits.lstrip("0"), fraction.rstrip("0")
        if len(fraction) > scale or len(digits) > width - scale:
            raise ValueError
        is_zero = not digits and not fraction
        text = ("" if is_zero else sign) + (digits or "0")
        return text + ("." + fraction.ljust(scale, "0") if scale else "")

    return text


def _uuid(value: object) -> str:
    return str(value if isinstance(value, UUID) else UUID(_text(value)))


def _encoder(data_type: str) -> Callable[[Any], str] | None:
    shape = decimal_shape(data_type)
    if shape is not None:
        return _decimal(*shape)
    if data_type in _INTEGERS:
        return _integer(*_INTEGERS[data_type])
    encoders: dict[str, Callable[[Any], str]] = {
        "boolean": _boolean,
        "varchar": _text,
        "date": _date,
        "timestamp": lambda value: _instant(value, with_zone=False),
        "timestamptz": lambda value: _instant(value, with_zone=True),
        "uuid": _uuid,
    }
    return encoders.get(data_type)


def encodes(data_type: str) -> Callable[[Any], bool] | None:
    """Tells whether a value other than null is one of a type; None for a type that no key may have."""
    encoder = _encoder(canonical(data_type))
    if encoder is None:
        return None

    def told(value: Any) -> bool:
        try:
            encoder(value)
        except (TypeError, ValueError, OverflowError, InvalidOperation):
            return False
        return True

    return told


def _column_sql(column: DeclaredColumn) -> str:
    data_type, name = canonical(column.data_type), identifier(column.name)
    match data_type:
        case "boolean":
            return f"cast(cast({name} as tinyint) as varchar)"
        case "date":
            return f"cast({name} - date '1970-01-01' as varchar)"
        case "timestamp" | "timestamptz":
            return f"cast(epoch_us({name}) as varchar)"
        case "varchar":
            return name
        case _:
            return f"cast({name} as varchar)"


def shortened(key: bytes) -> bytes:
    """The key itself, or a digest of one that is longer than a store takes."""
    return key if len(key) <= MAX_KEY_BYTES else b"#" + hashlib.blake2b(key, digest_size=32).digest()


class EntityKeys:
    """The keys of a view's entities.

    Raises:
        UnsupportedTypeError: An entity column's type cannot be part of a key.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self._encoders = []
        for column in view.entity:
            encoder = _encoder(canonical(column.data_type))
            if encoder is None:
                raise UnsupportedTypeError(
                    f"columns.{column.name}.data_type: found {column.data_type!r}, "
                    f"expected one that can be an entity's key: {', '.join(_SUPPORTED)}"
                )
            self._encoders.append(encoder)
        self._is_one_text = [canonical(c.data_type) for c in view.entity] == ["varchar"]

    def sql(self) -> str:
        """The key, before it is shortened, as a ``varchar`` expression over the view's columns."""
        parts, nulls = [], [f"{identifier(column.name)} is null" for column in self.view.entity]
        for column, is_last in zip(
            self.view.entity, [*[False] * (len(self.view.entity) - 1), True], strict=True
        ):
            text = _column_sql(column)
            if canonical(column.data_type) == "varchar" and not is_last:
                text = f"replace({text}, chr(0), chr(0) || chr(2))"
            parts.append(text)
        whole = "'=' || " + " || chr(0) || chr(1) || ".join(parts)
        if self.view.null_keys == "reject":
            return whole
        flags = " || ".join(f"case when {null} then '1' else '0' end" for null in nulls)
        texts = " || chr(0) || chr(1) || ".join(f"coalesce({part}, '')" for part in parts)
        return f"case when {' or '.join(nulls)} then '!' || {flags} || '=' || {texts} else {whole} end"

    def encode(self, columns: Sequence[Sequence[Any]]) -> list[bytes]:
        """The keys of entities, given one sequence of values for each entity column.

        An entity with a null in a key column has the key ``NO_ENTITY``, because SQL joins it to no row,
        unless its view matches nulls.

        Raises:
            EntityTypeError: A value is of another type than declared.
        """
        if self._is_one_text:
            try:
                keys = [("=" + value).encode() for value in columns[0]]
            except (TypeError, ValueError):
                pass  # a null, or a value that the general way names
            else:
                return keys if max(map(len, keys), default=0) <= MAX_KEY_BYTES else list(map(shortened, keys))
        return [self._key(values) for values in zip(*columns, strict=True)]

    def _key(self, values: Sequence[Any]) -> bytes:
        texts = []
        for value, encoder, column in zip(values, self._encoders, self.view.entity, strict=True):
            if value is None:
                if self.view.null_keys == "reject":
                    return NO_ENTITY
                texts.append("")
                continue
            try:
                texts.append(encoder(value))
            except (TypeError, ValueError, OverflowError, InvalidOperation):
                raise EntityTypeError(
                    f"entity key {column.name} of {self.view.name}: found a value of type "
                    f"{type(value).__name__} that is no {column.data_type}, expected a {column.data_type}"
                ) from None
        *first, last = texts
        escaped = (text.replace("\0", _ESCAPED) for text in first)
        nulls = "".join("01"[value is None] for value in values) if None in values else ""
        flags = f"!{nulls}" if nulls else ""
        return shortened((flags + "=" + _SEPARATOR.join([*escaped, last])).encode())
