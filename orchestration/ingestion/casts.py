"""How one cell becomes a value of its declared type, or a fault: SQL that changes no value silently.

DuckDB's own casts round ``1.5`` to 2 for an integer, cut digits, fractions and offsets, read a number too
large as infinity, and apply a zone name in one cell to the cells after it. Here each of these is a fault;
only a declared ``double`` takes the nearest value. What belongs here: one scalar cell. What does not:
nested types, rows, files, what becomes of a fault.
"""

from dataclasses import dataclass

from orchestration.declarations import decimal_shape
from orchestration.sql import identifier, literal

CELL_NAME = "_gw_cell"
CELL = identifier(CELL_NAME)
"""The cell in the casts of a reading, whatever its column is called."""
INTEGERS = frozenset(
    f"{sign}{size}" for sign in ("", "u") for size in ("tinyint", "smallint", "integer", "bigint")
)
NAIVE = frozenset({"timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"})

# A year of two digits has no century, and may be no year at all: 01/02/24.
_DATE = r"[0-9]{4,7}[-/][0-9]{1,2}[-/][0-9]{1,2}( \(BC\))?"
_OFFSET = "(Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9](:?[0-5][0-9])?)?)"
_NO_OFFSET = "(Z|[+-]00(:?00){0,2})"
_ENDLESS = "[+-]?(?i:infinity)"
_DIGITS = {"timestamp_s": 0, "timestamp_ms": 3, "timestamp_ns": 9}


@dataclass(frozen=True)
class Cast:
    """The SQL of one column.

    Attributes:
        value: The cell in its declared type.
        is_bad: Whether the declared type cannot hold the cell exactly; never null.
        declared: What was expected, as text for messages.
    """

    value: str
    is_bad: str
    declared: str

    @property
    def is_sure(self) -> bool:
        """Whether no cell can be bad."""
        return self.is_bad == "false"


@dataclass(frozen=True)
class Zone:
    """How to read the zone-less timestamps of a column.

    Attributes:
        name: The IANA zone that they are local to; None if none is known, which makes each a fault.
        is_event_time: Whether the column's values, even when stored without a zone, stand for instants.
    """

    name: str | None = "UTC"
    is_event_time: bool = False


UTC_ZONE = Zone()


def _unread(cell: str, value: str) -> str:
    return f"({cell} is not null and {value} is null)"


def _digits(cell: str) -> str:
    """SQL of the significant digits of a number's text.

    A cast rounds by at most half a unit: the value is exact if and only if its digits are those of the text.
    """
    mantissa = f"split_part(lower({cell}), 'e', 1)"
    return f"trim(translate({mantissa}, '._', ''), e'+-0 \\t\\n\\r\\v\\f')"


def _exact_number(cell: str, declared: str) -> Cast:
    value, shape = f"try_cast({cell} as {declared})", decimal_shape(declared)
    if shape is not None and shape[0] < 38:
        # DuckDB needs room for all digits of the mantissa, even if the exponent makes the number smaller.
        wide = f"try_cast({cell} as decimal(38,{shape[1]}))"
        value = f"coalesce({value}, try_cast({wide} as {declared}))"
    inexact = f"{_digits(cell)} is distinct from {_digits(f'{value}::varchar')}"
    inexact += f" or not regexp_matches({cell}, '[0-9]')"
    if shape is not None:
        # DuckDB reads 1.0e18 as a decimal(18,0) of 19 digits.
        largest = f"{'9' * (shape[0] - shape[1]) or '0'}.{'9' * shape[1] or '0'}"
        inexact += f" or abs({value}) > '{largest}'::{declared}"
    bad = (
        f"case when {cell} is null or {value}::varchar = {cell} then false "
        f"else {value} is null or {inexact} end"
    )
    return Cast(value, bad, declared)


def _two_signs(cell: str) -> str:
    return f"starts_with(ltrim({cell}), '+-')"


def _double(cell: str) -> Cast:
    value = f"try_cast({cell} as double)"
    overflow = f"(isinf({value}) and not contains(lower({cell}), 'inf'))"
    underflow = f"({value} = 0 and regexp_matches({cell}, '^[^eE]*[1-9]'))"
    bad = f"({_unread(cell, value)} or coalesce({overflow} or {underflow} or {_two_signs(cell)}, false))"
    return Cast(value, bad, "double")


def _float(cell: str) -> Cast:
    value, wide = f"try_cast({cell} as float)", f"try_cast({cell} as double)"
    # If the nearest float and double agree, a short text equals the float; a long one is compared by digits.
    is_short = f"regexp_full_match({cell}, '[+-]?[0-9]{{0,7}}[.]?[0-9]{{0,8}}')"
    all_digits = _digits(f"format('{{:.149f}}', {wide})")
    bad = (
        f"case when {cell} is null then false when {value} is null or {_two_signs(cell)} then true "
        f"when isnan({value}) then false "
        f"when isinf({value}) then not contains(lower({cell}), 'inf') "
        f"when {wide} <> {value}::double then true when {is_short} then false "
        f"else {_digits(cell)} <> {all_digits} end"
    )
    return Cast(value, bad, "a number that float holds exactly")


def _matches(cell: str, pattern: str) -> str:
    return f"regexp_full_match({cell}, {literal(pattern)})"


def _clock(digits: int) -> str:
    fraction = f"[0-9]{{1,{digits}}}0*" if digits else "0*"
    return rf"[0-9]{{1,2}}:[0-9]{{1,2}}(:[0-9]{{1,2}}(\.{fraction})?)?"


def _with_seconds(cell: str) -> str:
    """DuckDB reads no offset after a clock without seconds."""
    return f"regexp_replace({cell}, '([ T][0-9]+:[0-9]+)([Z+-])', '\\1:00\\2')"


def _starts_with_digit(cell: str) -> str:
    """A condition: DuckDB skips spaces, and would read ``  24-01-31`` as a day of the year 24."""
    return f"{cell} >= '0' and {cell} < ':'"


def _guarded(cell: str, declared: str, pattern: str, quick: str, words: str | None = None) -> Cast:
    """A cast of text that matches ``pattern``, or ``quick``, a LIKE pattern that is cheaper to test."""
    value = (
        f"case when {cell} like {literal(quick)} and {_starts_with_digit(cell)} "
        f"then try_cast({cell} as {declared}) when {_matches(cell, pattern)} "
        f"then try_cast({_with_seconds(cell)} as {declared}) end"
    )
    return Cast(value, _unread(cell, f"({value})"), words or declared)


def local_instant(local: str, zone: str) -> str:
    """The instant of a zone-less timestamp in a zone; null if it does not exist there or is ambiguous."""
    zone = literal(zone)
    at = f"timezone({zone}, {local})"
    twice = []
    for day in ("- interval 1 day", "+ interval 1 day"):
        # The instant of the same local time at the offset of the day before (or after).
        near = f"({at} {day})"
        other = f"timezone('UTC', {local} - (timezone({zone}, {near}) - timezone('UTC', {near})))"
        twice.append(f"({other} <> {at} and timezone({zone}, {other}) = {local})")
    return (
        f"try(case when not isfinite({local}) then timezone('UTC', {local}) "
        f"when timezone({zone}, {at}) = {local} and not {twice[0]} and not {twice[1]} then {at} end)"
    )


def _local_words(zone: str) -> str:
    return f"a local time that occurs once in {zone}"


def _timestamp(cell: str, declared: str, zone: Zone) -> Cast:
    offset = f"{_NO_OFFSET}?" if zone.name == "UTC" else ""
    clock = _clock(_DIGITS.get(declared, 6))
    cast = _guarded(
        cell, declared, f"{_DATE}([ T]{clock}{offset})?|{_ENDLESS}", "____-__-__ __:__:__", declared
    )
    if not zone.is_event_time or zone.name in {None, "UTC"}:
        return cast
    instant = local_instant(f"({cast.value})::timestamp", str(zone.name))
    return Cast(cast.value, _unread(cell, instant), f"{declared}, {_local_words(str(zone.name))}")


def _timestamptz(cell: str, zone: Zone) -> Cast:
    clock = _clock(6)
    zoned = f"{_DATE}[ T]{clock}{_OFFSET}|{_ENDLESS}"
    plain = f"{_DATE}([ T]{clock})?"
    words = "timestamptz"
    quick = f"{cell} like '____-__-_____:__:__Z'"
    if zone.name == "UTC":
        quick = f"{quick} or {cell} like '____-__-__ __:__:__'"
        zoned, otherwise = f"{zoned}|{plain}", ""
    elif zone.name is None:
        otherwise, words = "", "a valid timestamptz with an offset (or a declared timezone)"
    else:
        instant = local_instant(f"try_cast({cell} as timestamp)", zone.name)
        otherwise, words = (
            f" when {_matches(cell, plain)} then {instant}",
            f"{words}, {_local_words(zone.name)}",
        )
    # DuckDB's own cast of text to an instant reads zone names, and applies one to the cells that follow.
    value = (
        f"case when ({quick}) and {_starts_with_digit(cell)} "
        f"then make_timestamptz(epoch_us(try_cast({cell} as timestamp))) "
        f"when {_matches(cell, zoned)} then try_cast({_with_seconds(cell)} as timestamptz){otherwise} end"
    )
    return Cast(value, _unread(cell, f"({value})"), words)


def text_cast(cell: str, declared: str, zone: Zone = UTC_ZONE) -> Cast:
    """The cast of a scalar cell that was delivered as text, null markers already null.

    Args:
        cell: SQL of the cell.
        declared: The canonical declared type.
        zone: How zone-less timestamps are read.
    """
    if declared == "varchar":
        return Cast(cell, "false", declared)
    if declared in INTEGERS or decimal_shape(declared) is not None:
        return _exact_number(cell, declared)
    if declared == "double":
        return _double(cell)
    if declared == "float":
        return _float(cell)
    if declared == "date":
        offset = f"{_NO_OFFSET}?" if zone.name == "UTC" else ""
        midnight = rf"([ T]0?0:0?0(:0?0(\.0*)?)?{offset})?"
        return _guarded(cell, declared, f"{_DATE}{midnight}|{_ENDLESS}", "____-__-__")
    if declared in NAIVE:
        return _timestamp(cell, declared, zone)
    if declared == "timestamptz":
        return _timestamptz(cell, zone)
    if declared == "time":
        return _guarded(
            cell, declared, f"(2[0-3]|[01]?[0-9]){_clock(6).removeprefix('[0-9]{1,2}')}", "__:__:__"
        )
    if declared == "timetz":
        # The lakehouse stores such times in UTC.
        return _guarded(cell, declared, f"{_clock(6)}[+-]00(:?00)?", "__:__:__+00", "timetz with offset +00")
    if declared == "interval":
        value = f"try_cast({cell} as interval)"
        cut = r"\.[0-9]*[1-9][0-9]*\s*(mi|ms|us|h|d|w|mo|y|q|c)|\.[0-9]{6}[0-9]*[1-9]"
        return Cast(
            value,
            f"({_unread(cell, value)} or coalesce(regexp_matches(lower({cell}), {literal(cut)}), false))",
            declared,
        )
    value = f"try_cast({cell} as {declared})"
    return Cast(value, _unread(cell, value), declared)
