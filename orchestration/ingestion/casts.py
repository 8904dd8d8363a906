"""How one cell becomes a value of its declared type, or a fault: SQL that loses nothing silently.

DuckDB's own casts round ``1.5`` to 2 for an integer, drop the offset of a timestamp, the time of a date
and the digits beyond a decimal's scale, and read a number too large as infinity. Here each of these is
a fault. What belongs here: one cell. What does not: rows, files, what becomes of a fault.
"""

from dataclasses import dataclass

from orchestration.declarations import canonical, decimal_shape
from orchestration.sql import identifier

_SMALL = {"tinyint", "smallint", "integer", "utinyint", "usmallint", "uinteger"}
_LARGE = {"bigint", "ubigint"}
_HUGE = {"hugeint", "uhugeint"}
_INTEGERS = _SMALL | _LARGE | _HUGE
_NAIVE = {"timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"}


@dataclass(frozen=True)
class Cast:
    """The SQL of one column: its value, and whether the cell is unreadable (never null)."""

    value: str
    is_bad: str
    declared: str


def _checked(cell: str, declared: str, value: str, fault: str | None = None) -> Cast:
    unread = f"({cell} is not null and {value} is null)"
    return Cast(value, unread if fault is None else f"({unread} or coalesce({fault}, false))", declared)


def from_text(column: str, declared: str) -> Cast:
    """A cell that was delivered as text, null markers already null."""
    c, t = identifier(column), canonical(declared)

    def tried(data_type: str) -> str:
        return f"try_cast({c} as {data_type})"

    if t == "varchar":
        return Cast(c, "false", t)
    if t in _SMALL:
        value = f"try_cast({tried('double')} as {t})"
        return _checked(c, t, value, f"{value} <> {tried('double')}")
    if t in _LARGE:
        return _checked(c, t, tried(t), f"{tried(t)} is distinct from {tried('decimal(38,18)')}")
    if t in _HUGE:
        return _checked(c, t, tried(t), f"not regexp_full_match(trim({c}), '[+-]?[0-9]+')")
    if t in {"double", "float"}:
        return _checked(c, t, tried(t), f"isinf({tried(t)}) and not contains(lower({c}), 'inf')")
    decimal = decimal_shape(t)
    if decimal is not None:
        wide = f"decimal(38,{38 - (decimal[0] - decimal[1])})"
        return _checked(c, t, tried(t), f"{tried(t)} is distinct from {tried(wide)}")
    if t == "date":
        return _checked(c, t, tried(t), f"{tried(t)}::timestamp is distinct from {tried('timestamp')}")
    if t in _NAIVE:
        utc = f"timezone('UTC', {tried('timestamptz')})"
        return _checked(c, t, tried(t), f"date_trunc('second', {tried(t)}) <> date_trunc('second', {utc})")
    return _checked(c, t, tried(t))


def scan_type(declared: str) -> str:
    """The type as which DuckDB's own CSV reader may read a column without losing anything."""
    t = canonical(declared)
    return "DOUBLE" if t in _SMALL or t == "double" else "BOOLEAN" if t == "boolean" else "VARCHAR"


def from_scanned(column: str, declared: str) -> Cast:
    """A cell that was read as its scan type: cheaper than text; what is in doubt counts as a fault here."""
    c, t = identifier(column), canonical(declared)
    if t in _SMALL:
        # Doubles hold every 32-bit integer; reading them costs no more, and tells a fraction.
        return _checked(c, t, f"try_cast({c} as {t})", f"try_cast({c} as {t}) <> {c}")
    if t == "double":
        return Cast(c, f"coalesce(isinf({c}), false)", t)
    return Cast(c, "false", t) if t == "boolean" else from_text(column, declared)


def _converts(found: str, declared: str) -> bool:
    """Whether values of the delivered type may be of the declared one, each of them checked."""
    if found in _INTEGERS:
        return declared in _INTEGERS or declared == "double" or decimal_shape(declared) is not None
    if decimal_shape(found) is not None:
        return decimal_shape(declared) is not None or declared in _INTEGERS
    if found == "float":
        return declared == "double"
    if found in _NAIVE:
        return declared in _NAIVE
    return found == "json" and declared == "varchar"


def from_typed(column: str, found: str, declared: str) -> Cast | None:
    """A cell that was delivered with a type; None where that type is another one than declared."""
    c, f, t = identifier(column), canonical(found), canonical(declared)
    if f == t:
        return Cast(c, "false", t)
    if not _converts(f, t):
        return None
    value = f"try_cast({c} as {t})"
    return _checked(c, t, value, f"try_cast({value} as {f}) is distinct from {c}")
