"""DuckDB's many names of a type, and the one that the platform uses.

What belongs here: names of types. What does not: how values of a type are read or stored.
"""

import re

_ALIASES = {
    "int": "integer", "int4": "integer", "int32": "integer", "signed": "integer",
    "int1": "tinyint", "int2": "smallint", "int16": "smallint", "short": "smallint",
    "int8": "bigint", "int64": "bigint", "long": "bigint", "int128": "hugeint",
    "text": "varchar", "string": "varchar", "char": "varchar", "bpchar": "varchar",
    "bool": "boolean", "logical": "boolean",
    "real": "float", "float4": "float", "float8": "double", "double precision": "double",
    "timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp",
    "datetime": "timestamp",
}  # fmt: skip
_LIST = re.compile(r"^(?P<element>.+?)\s*(?P<brackets>\[\d*\])$")
_DECIMAL = re.compile(r"^(?:decimal|numeric)(?:\((\d+)(?:,\s*(\d+))?\))?$")


def canonical(data_type: str) -> str:
    """One spelling for the many names of a DuckDB type."""
    text = " ".join(data_type.lower().split())
    nested = _LIST.match(text)
    if nested:
        return canonical(nested["element"]) + nested["brackets"]
    text = re.sub(r"^(?:varchar|char|bpchar|text|string)\(\d+\)$", "varchar", text)
    match = _DECIMAL.match(text)
    if match:
        return f"decimal({match[1] or 18},{match[2] or (3 if match[1] is None else 0)})"
    return _ALIASES.get(text, text)


def decimal_shape(data_type: str) -> tuple[int, int] | None:
    """Width and scale of a canonical decimal type; None for any other."""
    match = _DECIMAL.match(data_type)
    return (int(match[1]), int(match[2])) if match else None


def list_element(data_type: str) -> str | None:
    """The element's type of a canonical list or array type; None for any other type."""
    match = _LIST.match(data_type)
    return match["element"] if match else None


def innermost(data_type: str) -> str:
    """The canonical type of what a list, or a list of lists, is of; any other type itself."""
    found = canonical(data_type)
    while (element := list_element(found)) is not None:
        found = element
    return found
