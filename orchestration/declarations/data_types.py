"""DuckDB's many names for a type, the canonical one of the platform, and the parts of nested types.

What belongs here: names of types. What does not: how values of a type are read or stored.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import duckdb
from duckdb.sqltypes import DuckDBPyType

_ALIASES = {
    "int": "integer", "int4": "integer", "int32": "integer", "signed": "integer",
    "int1": "tinyint", "int2": "smallint", "int16": "smallint", "short": "smallint",
    "int8": "bigint", "int64": "bigint", "long": "bigint", "oid": "bigint",
    "int128": "hugeint", "uint128": "uhugeint",
    "uint8": "utinyint", "uint16": "usmallint", "uint32": "uinteger", "uint64": "ubigint",
    "text": "varchar", "string": "varchar", "char": "varchar", "bpchar": "varchar", "nvarchar": "varchar",
    "bool": "boolean", "logical": "boolean",
    "real": "float", "float4": "float", "float8": "double", "double precision": "double",
    "bytea": "blob", "binary": "blob", "varbinary": "blob", "guid": "uuid",
    "time without time zone": "time", "time with time zone": "timetz",
    "timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp",
    "datetime": "timestamp", "timestamp_us": "timestamp",
}  # fmt: skip
_DECIMAL = re.compile(r"^(?:decimal|numeric|dec)(?:\((\d+)(?:,\s*(\d+))?\))?$")
_NESTED = re.compile(r"\]$|^(?:struct|row|map|list)\b", re.IGNORECASE)
_LIST = re.compile(r"^(?P<element>.+?)\s*(?P<brackets>\[\d*\])$")

Kind = Literal["scalar", "struct", "list", "map"]


@lru_cache(maxsize=4096)
def canonical(data_type: str) -> str:
    """One spelling for the many names of a DuckDB type, at every depth of a nested one."""
    text = " ".join(data_type.lower().split())
    text = re.sub(r"^(?:varchar|char|bpchar|text|string|nvarchar)\(\d+\)$", "varchar", text)
    match = _DECIMAL.match(text)
    if match:
        return f"decimal({match[1] or 18},{match[2] or (3 if match[1] is None else 0)})"
    if _NESTED.search(text):
        try:
            return str(DuckDBPyType(text)).lower()
        except duckdb.Error:
            return text
    return _ALIASES.get(text, text)


def decimal_shape(data_type: str) -> tuple[int, int] | None:
    """Width and scale of a canonical decimal type; None for any other."""
    match = _DECIMAL.match(data_type)
    return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class TypeTree:
    """A type with the types inside it.

    Attributes:
        kind: What the type is made of.
        name: The canonical name.
        parts: Fields of a struct by name; the ``element`` of a list; ``key`` and ``value`` of a map.
    """

    kind: Kind
    name: str
    parts: tuple[tuple[str, "TypeTree"], ...] = ()


@lru_cache(maxsize=4096)
def type_tree(data_type: str) -> TypeTree:
    """The tree of a DuckDB type; a type unknown to DuckDB is a scalar."""
    name = canonical(data_type)
    if not _NESTED.search(name):
        return TypeTree("scalar", name)
    try:
        parsed = DuckDBPyType(" ".join(data_type.split()))
        if parsed.id == "struct":
            fields = tuple((str(n), type_tree(str(t))) for n, t in parsed.children)
            return TypeTree("struct", name, fields)
        if parsed.id == "list":
            return TypeTree("list", name, (("element", type_tree(str(parsed.children[0][1]))),))
        if parsed.id == "map":
            key, value = (type_tree(str(t)) for _, t in parsed.children)
            return TypeTree("map", name, (("key", key), ("value", value)))
    except duckdb.Error:
        pass
    return TypeTree("scalar", name)


ALTERED_TYPES = {
    "hugeint": "Parquet stores it as double, which rounds from 2^53 on; use decimal(38, 0)",
    "uhugeint": "Parquet stores it as double, which rounds from 2^53 on; use decimal(38, 0)",
    "timetz": "Parquet stores it in UTC without its offset; use time, or timestamptz",
    "interval": "Parquet stores no microseconds and no negative parts of it; use a number of microseconds",
}
"""Types whose values Parquet alters: the reason for each, and what to use instead."""


def altered_type(data_type: str) -> str | None:
    """The first of ``ALTERED_TYPES`` that a type is or contains; None if there is none."""
    tree = type_tree(data_type)
    if tree.kind == "scalar":
        return tree.name if tree.name in ALTERED_TYPES else None
    return next((found for _, part in tree.parts if (found := altered_type(part.name)) is not None), None)


_STORED = {
    *(f"{sign}{size}" for sign in ("", "u") for size in ("tinyint", "smallint", "integer", "bigint")),
    "boolean", "float", "double", "varchar", "blob", "uuid", "json", "date", "time", "timestamp",
    "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamptz", "geometry", "variant",
}  # fmt: skip


def unknown_type(data_type: str) -> str | None:
    """The first part of a type that the lakehouse has no type for, such as an enum; None if there is none."""
    tree = type_tree(data_type)
    if tree.kind == "scalar":
        shape = decimal_shape(tree.name)
        is_known = tree.name in _STORED or tree.name in ALTERED_TYPES
        return None if is_known or (shape is not None and shape[1] <= shape[0] <= 38) else tree.name
    return next((found for _, part in tree.parts if (found := unknown_type(part.name)) is not None), None)


_INTEGER = ("int", "integer")
_EXACT_IN_FLOAT = {"float", "tinyint", "smallint", "utinyint", "usmallint", "boolean"}
_FRACTION_DIGITS = {"timestamp_s": 0, "timestamp_ms": 3, "timestamp": 6, "timestamptz": 6, "timestamp_ns": 9}


def cast_loses_digits(found: str, declared: str) -> bool:
    """Whether a cast from one type to another may change a value without an error, by rounding for example.

    A ``double`` may take the nearest value. What is too large for a type is an error of the cast.
    """
    before, after = type_tree(found), type_tree(declared)
    if before.parts or after.parts:
        pairs = zip(before.parts, after.parts, strict=False)
        return any(cast_loses_digits(a.name, b.name) for (_, a), (_, b) in pairs)
    if before.name == "varchar":
        return after.name not in {"varchar", "double", "boolean", "uuid"}
    if after.name == "boolean":
        return before.name != "boolean"
    if before.name in _FRACTION_DIGITS:
        kept = _FRACTION_DIGITS.get(after.name)
        is_part = after.name in {"date", "time"}
        return is_part or (kept is not None and kept < _FRACTION_DIGITS[before.name])
    shape, target = decimal_shape(before.name), decimal_shape(after.name)
    is_binary = before.name in {"float", "double"}
    scale = shape[1] if shape else 39 if is_binary else 0
    if after.name == "float":
        is_number = is_binary or shape is not None or before.name.endswith(_INTEGER)
        return is_number and before.name not in _EXACT_IN_FLOAT
    if target is not None:
        return scale > target[1]
    return scale > 0 and after.name.endswith(_INTEGER)


def list_element(data_type: str) -> str | None:
    """The canonical type of the elements of a canonical list or array type; None for any other type."""
    match = _LIST.match(data_type)
    return canonical(match["element"]) if match else None


def innermost(data_type: str) -> str:
    """The canonical type of what a list, or a list of lists, is of; any other type itself."""
    found = canonical(data_type)
    while (element := list_element(found)) is not None:
        found = element
    return found
