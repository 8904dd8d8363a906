"""How a feature row becomes one value, and how a value becomes features again.

A value is ``schema`` (8 bytes, from ``View.schema_hash``), the row's timestamp (microseconds since 1970 in
UTC), one bit a feature that says it is null, a slot of fixed size for each feature, and the bytes of texts,
blobs and lists one after the other; the slot of one of these holds where its bytes end. All numbers are
little-endian. What belongs here: layouts and decoding, which servers do all day. What does not: encoding,
which works on columns (``packing``), and keys (``keys``).
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from orchestration.declarations import DeclaredColumn, canonical, decimal_shape, list_element
from orchestration.feature_store.online.lists import list_decoder
from orchestration.feature_store.views import View

Pair = tuple[bytes, bytes]
"""A key and its value."""
NOT_STORED = -(2**63)
"""Stands for the timestamp of an entity that is not in the store."""
_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


class SchemaMismatchError(RuntimeError):
    """The stored values were written for another declaration of the view than the reader has."""

    def __init__(self, view: str, found: str, expected: str) -> None:
        super().__init__(
            f"online store of {view}: found values of schema {found}, expected {expected}: materialize "
            f"online_store/{view}, and restart servers that hold an older declaration"
        )


class UnsupportedTypeError(ValueError):
    """A column of a type that the online store cannot hold; the message has found and expected."""


def micros(instant: datetime) -> int:
    """Microseconds from 1970 in UTC to an aware instant."""
    since = instant - _EPOCH
    return since.days * _DAY + since.seconds * 1_000_000 + since.microseconds


def from_micros(value: int) -> datetime:
    """The instant so many microseconds after 1970; beyond Python's years, the first or the last one."""
    try:
        return _EPOCH + timedelta(microseconds=value)
    except OverflowError:
        return (datetime.max if value > 0 else datetime.min).replace(tzinfo=UTC)


def _timestamp(value: int) -> datetime:
    return from_micros(value).replace(tzinfo=None)


def _date(value: int) -> date:
    try:
        return date.fromordinal(value + _EPOCH_DAY)
    except (OverflowError, ValueError):
        return date.max if value > 0 else date.min


def _time(value: int) -> time:
    return (_NAIVE_EPOCH + timedelta(microseconds=min(value, _DAY - 1))).time()


def _decimal(scale: int) -> Callable[[int], Decimal]:
    # From a text: ``Decimal.scaleb`` would round to the precision of the caller's context.
    return lambda value: Decimal(f"{value}e-{scale}")


def _wide_decimal(scale: int) -> Callable[[bytes], Decimal]:
    narrow = _decimal(scale)
    return lambda value: narrow(int.from_bytes(value, "little", signed=True))


@dataclass(frozen=True)
class Kind:
    """How values of one type are stored.

    ``code`` is the slot's ``struct`` code; ``held_as`` the type that DuckDB casts to before a column is
    packed, None for its own; ``convert`` makes a Python value of what ``struct`` gives, None where that is
    one already; ``is_variable`` values have their bytes after the slots; ``element`` is how the elements of
    a list are stored.
    """

    code: str
    held_as: str | None = None
    convert: Callable[[Any], Any] | None = None
    is_variable: bool = False
    element: "Kind | None" = None


_KINDS = {
    "boolean": Kind("?", "utinyint"),
    "tinyint": Kind("b"),
    "smallint": Kind("h"),
    "integer": Kind("i"),
    "bigint": Kind("q"),
    "utinyint": Kind("B"),
    "usmallint": Kind("H"),
    "uinteger": Kind("I"),
    "ubigint": Kind("Q"),
    "hugeint": Kind("I", "varchar", int, is_variable=True),
    "uhugeint": Kind("I", "varchar", int, is_variable=True),
    "float": Kind("f"),
    "double": Kind("d"),
    "date": Kind("i", None, _date),
    "time": Kind("q", None, _time),
    "timestamp": Kind("q", "timestamp", _timestamp),
    "timestamp_s": Kind("q", "timestamp", _timestamp),
    "timestamp_ms": Kind("q", "timestamp", _timestamp),
    "timestamptz": Kind("q", None, from_micros),
    "varchar": Kind("I", None, bytes.decode, is_variable=True),
    "blob": Kind("I", None, None, is_variable=True),
    "uuid": Kind("I", "varchar", lambda text: UUID(text.decode()), is_variable=True),
}
SUPPORTED = (*_KINDS, "decimal")


def kind_of(column: DeclaredColumn) -> Kind:
    """How a feature is stored.

    Raises:
        UnsupportedTypeError: Its type is none that the online store can hold.
    """
    kind = _kind(canonical(column.data_type))
    if kind is None:
        raise UnsupportedTypeError(
            f"columns.{column.name}.data_type: found {column.data_type!r}, "
            f"expected one that the online store can hold: {', '.join(SUPPORTED)}, or a list of these"
        )
    return kind


def _kind(data_type: str) -> Kind | None:
    element_type = list_element(data_type)
    if element_type is not None:
        element = _kind(element_type)
        if element is None:
            return None
        held_as = f"{element.held_as or element_type}[]"
        return Kind("I", held_as, list_decoder(element), is_variable=True, element=element)
    shape = decimal_shape(data_type)
    if shape is not None:
        width, scale = shape
        return Kind("q", None, _decimal(scale)) if width <= 18 else Kind("16s", None, _wide_decimal(scale))
    return _KINDS.get(data_type)


@dataclass(frozen=True)
class Decoded:
    """Some features of some values, column by column; a null is None."""

    timestamps: Sequence[int]
    columns: list[list[Any]]
    has_nulls: bool


class Layout:
    """Where the features of a view lie in a value.

    Raises:
        UnsupportedTypeError: A feature's type is none that the online store can hold.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.kinds = tuple(kind_of(column) for column in view.features)
        self.schema = int(view.schema_hash, 16)
        count = len(self.kinds)
        self.nulls_code = next((c for c, bits in zip("BHIQ", (8, 16, 32, 64), strict=True) if count <= bits),
                               f"{(count + 7) // 8}s")  # fmt: skip
        self.head = struct.Struct("<Qq" + self.nulls_code + "".join(kind.code for kind in self.kinds))
        variable = [n for n, kind in enumerate(self.kinds) if kind.is_variable]
        self._starts = dict(zip(variable, [-1, *variable], strict=False))
        """For each variable feature the one whose bytes end where its own begin; -1 for none."""
        self._as_they_are = frozenset(
            n for n, kind in enumerate(self.kinds) if not kind.is_variable and kind.convert is None
        )
        nothing = [b"" if kind.code.endswith("s") else 0 for kind in self.kinds]
        nulls: bytes | int = b"" if self.nulls_code.endswith("s") else 0
        self.blank = self.head.pack(self.schema, NOT_STORED, nulls, *nothing)
        """A value without a row: decoded, its timestamp is ``NOT_STORED``."""

    def position(self, feature: str) -> int:
        """The place of a feature among those of the view."""
        return self.view.features.index(self.view.feature(feature))

    def decode(self, values: Sequence[bytes], wanted: Sequence[int]) -> Decoded:
        """Features, by their positions, of values.

        Raises:
            SchemaMismatchError: A value was written for another declaration of the view.
        """
        if len(values) == 1:
            return self._decode_one(values[0], wanted)
        try:
            fields = list(zip(*map(self.head.unpack_from, values), strict=True))
        except struct.error:
            raise self._mismatch() from None
        if fields[0].count(self.schema) != len(values):
            raise self._mismatch()
        as_they_are = self._as_they_are
        columns = [
            list(fields[n + 3]) if n in as_they_are else self._column(fields, values, n) for n in wanted
        ]
        nulls = fields[2]
        has_nulls = any(nulls)
        if has_nulls:
            self._clear_nulls(nulls, columns, wanted)
        return Decoded(fields[1], columns, has_nulls)

    def _decode_one(self, value: bytes, wanted: Sequence[int]) -> Decoded:
        """``decode`` of a single value: most requests are about one entity."""
        try:
            schema, timestamp, nulls, *slots = self.head.unpack_from(value)
        except struct.error:
            raise self._mismatch() from None
        if schema != self.schema:
            raise self._mismatch()
        as_they_are = self._as_they_are
        columns = [[slots[n] if n in as_they_are else self._one(slots, value, n)] for n in wanted]
        if nulls:
            self._clear_nulls((nulls,), columns, wanted)
        return Decoded((timestamp,), columns, bool(nulls))

    def _one(self, slots: Sequence[Any], value: bytes, place: int) -> Any:
        convert = self.kinds[place].convert
        before = self._starts.get(place)
        if before is None:
            assert convert is not None
            return convert(slots[place])
        start = self.head.size + (0 if before < 0 else slots[before])
        part = value[start : self.head.size + slots[place]]
        if convert is None or convert is bytes.decode:
            return part if convert is None else part.decode()
        return convert(part) if part else None

    def _column(self, fields: Sequence[Sequence[Any]], values: Sequence[bytes], place: int) -> list[Any]:
        kind, slots = self.kinds[place], fields[place + 3]
        if not kind.is_variable:
            assert kind.convert is not None
            return list(map(kind.convert, slots))
        size, before = self.head.size, self._starts[place]
        starts = fields[before + 3] if before >= 0 else (0,) * len(values)
        parts = [v[size + a : size + b] for v, a, b in zip(values, starts, slots, strict=True)]
        if kind.convert is bytes.decode:
            return list(map(bytes.decode, parts))
        # An empty part is a null: no number, UUID or list is empty.
        convert = kind.convert
        return list(parts) if convert is None else [convert(part) if part else None for part in parts]

    def _clear_nulls(
        self, nulls: Sequence[int | bytes], columns: list[list[Any]], wanted: Sequence[int]
    ) -> None:
        masks = [(column, 1 << n) for column, n in zip(columns, wanted, strict=True)]
        for row, found in enumerate(nulls):
            bits = found if isinstance(found, int) else int.from_bytes(found, "little")
            if bits:
                for column, mask in masks:
                    if bits & mask:
                        column[row] = None

    def _mismatch(self) -> SchemaMismatchError:
        return SchemaMismatchError(self.view.name, "unknown", self.view.schema_hash)
