"""An oracle without DuckDB: the value of a delivered text in a declared type, or that it has none."""

import json
import math
import re
import struct
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any
from zoneinfo import ZoneInfo

BAD = object()
"""The result if no value of the type is exactly the text."""

INTEGERS = {
    f"{sign}{name}": (0 if sign else -(2 ** (bits - 1)), 2 ** (bits if sign else bits - 1) - 1)
    for name, bits in {"tinyint": 8, "smallint": 16, "integer": 32, "bigint": 64}.items()
    for sign in ("", "u")
}
_NUMBER = re.compile(
    r"\s*[+-]?([0-9]+(_[0-9]+)*\.?([0-9]+(_[0-9]+)*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII
)
_ENDLESS = re.compile(r"\s*([+-]?)(inf|infinity|nan)\s*", re.IGNORECASE)
_DIGITS = {"timestamp_s": 0, "timestamp_ms": 3, "timestamp": 6, "timestamptz": 6, "timestamp_ns": 9}
_DATE = r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
_TIME = r"(?P<h>[0-9]{2}):(?P<m>[0-9]{2})(:(?P<s>[0-9]{2})(\.(?P<f>[0-9]+))?)?"
_OFFSET = r"(?P<o>Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)?"


def _decimal(text: str) -> Decimal | None:
    if not _NUMBER.fullmatch(text):
        return None
    with localcontext(prec=2000, Emax=10**9, Emin=-(10**9)):
        try:
            return Decimal(text.strip().replace("_", ""))
        except InvalidOperation:
            return None


def _double(text: str) -> Any:
    if _ENDLESS.fullmatch(text):
        return float(text)
    number = _decimal(text)
    if number is None:
        return BAD
    value = float(number)
    return BAD if math.isinf(value) or (value == 0) != (number == 0) else value


def _float(text: str) -> Any:
    value = _double(text)
    if value is BAD or _ENDLESS.fullmatch(text):
        return value
    try:
        (short,) = struct.unpack("f", struct.pack("f", value))
    except OverflowError:
        return BAD
    return short if Decimal(short) == _decimal(text) else BAD


def _clock(found: re.Match[str], digits: int) -> tuple[timedelta, int] | None:
    """The time since midnight in whole seconds, and the remaining nanoseconds."""
    fraction = (found["f"] or "").rstrip("0")
    hours, minutes, seconds = (int(found[k] or 0) for k in "hms")
    if (hours, minutes, seconds, fraction) == (24, 0, 0, ""):
        return timedelta(days=1), 0
    if len(fraction) > digits or hours > 23 or minutes > 59 or seconds > 59:
        return None
    return timedelta(hours=hours, minutes=minutes, seconds=seconds), int(fraction.ljust(9, "0"))


def local(moment: datetime, zone: str) -> Any:
    """The instant of a local time that a zone has exactly once."""
    first, second = (moment.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1))
    there = first.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return first if first == second and there == moment else BAD


def _moment(text: str, declared: str, zone: str | None) -> Any:
    found = re.fullmatch(f"{_DATE}([ T]{_TIME}{_OFFSET})?", text, re.ASCII)
    if not found:
        return BAD
    try:
        midnight = datetime.fromisoformat(found["date"])
    except ValueError:
        return BAD
    clock = _clock(found, _DIGITS[declared])
    if clock is None:
        return BAD
    moment, nanoseconds, offset = midnight + clock[0], clock[1], found["o"]
    if offset is None and declared == "timestamptz":
        if zone is None:
            return BAD
        instant = local(moment, zone)
        return BAD if instant is BAD else instant + timedelta(microseconds=nanoseconds // 1000)
    ahead = timedelta(0)
    if offset not in {None, "Z"}:
        hours, minutes = int(offset[1:3]), int(offset[3:].strip(":") or 0)
        ahead = (hours * timedelta(hours=1) + minutes * timedelta(minutes=1)) * (
            -1 if offset[0] == "-" else 1
        )
    if declared == "timestamptz":
        return (moment - ahead).replace(tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)
    if ahead or (offset is not None and zone != "UTC"):
        return BAD
    if declared == "timestamp_ns":
        return (moment, nanoseconds) if datetime(1678, 1, 1) <= moment < datetime(2262, 4, 11) else BAD
    return moment + timedelta(microseconds=nanoseconds // 1000)


def expected(text: str, declared: str, zone: str | None = "UTC") -> Any:
    """The value of a text, or ``BAD``; nanoseconds as ``(second, nanoseconds)``."""
    if declared == "varchar":
        return text
    if declared in INTEGERS or declared.startswith("decimal"):
        number = _decimal(text)
        if number is None:
            return BAD
        if declared in INTEGERS:
            least, most = INTEGERS[declared]
            if not least <= number <= most or number != number.to_integral_value():
                return BAD
            return int(number)
        width, scale = map(int, declared[8:-1].split(","))
        with localcontext(prec=2000, Emax=10**9, Emin=-(10**9)):
            scaled = number.scaleb(scale)
            if scaled != scaled.to_integral_value() or abs(scaled) >= 10**width:
                return BAD
        return number
    if declared == "double":
        return _double(text)
    if declared == "float":
        return _float(text)
    if declared == "boolean":
        return {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}.get(
            text.lower(), BAD
        )
    if declared == "date":
        moment = _moment(text, "timestamp", zone)
        return BAD if moment is BAD or moment.time() != time(0) else moment.date()
    if declared == "time":
        found = re.fullmatch(_TIME, text, re.ASCII)
        clock = _clock(found, 6) if found else None
        if clock is None or clock[0].days:
            return BAD
        return (datetime(2000, 1, 1) + clock[0] + timedelta(microseconds=clock[1] // 1000)).time()
    if declared in _DIGITS:
        return _moment(text, declared, zone)
    if declared == "uuid":
        return uuid.UUID(text) if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) else BAD
    if declared == "json":
        try:
            json.loads(text)
        except ValueError:
            return BAD
        return text
    raise LookupError(declared)


def may_be_refused(text: str, declared: str) -> bool:
    """Whether DuckDB may refuse a valid text: a negative unsigned zero, or a decimal too narrow for a mantissa."""
    if declared in INTEGERS:
        return INTEGERS[declared][0] == 0 and "-" in text
    if not declared.startswith("decimal") or "e" not in text.lower():
        return False
    width, scale = map(int, declared[8:-1].split(","))
    room = 18 if width <= 18 else 38
    return sum(c.isdigit() for c in text.lower().split("e")[0]) + scale >= room


def nested(value: Any, declared: Any, zone: str | None = "UTC") -> Any:
    """The value of a JSON-like value of texts, lists and dicts in a type of lists, dicts and names."""
    if value is None:
        return None
    if isinstance(declared, str):
        return expected(value, declared, zone) if isinstance(value, str) else BAD
    if isinstance(declared, list):
        if not isinstance(value, list):
            return BAD
        items = [nested(item, declared[0], zone) for item in value]
        return BAD if any(item is BAD for item in items) else items
    if not isinstance(value, dict) or set(value) - set(declared):
        return BAD
    fields = {name: nested(value.get(name), kind, zone) for name, kind in declared.items()}
    return BAD if any(field is BAD for field in fields.values()) else fields


__all__ = ["BAD", "INTEGERS", "date", "expected", "local", "may_be_refused", "nested"]
