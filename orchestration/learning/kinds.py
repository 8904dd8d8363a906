"""How values of a type are told to a model.

What belongs here: that answer, for definitions. What does not: the encoding itself (``encoding``).
"""

from typing import Literal

from orchestration.declarations import canonical, decimal_shape

Kind = Literal["number", "flag", "category"]

_KINDS: dict[str, Kind] = {"boolean": "flag", "varchar": "category"}
_NUMBERS = {
    "tinyint", "smallint", "integer", "bigint", "hugeint",
    "utinyint", "usmallint", "uinteger", "ubigint", "float", "double",
}  # fmt: skip


def kind_of(data_type: str) -> Kind | None:
    """How values of a DuckDB type are encoded; None for a type that no model takes."""
    name = canonical(data_type)
    if name in _NUMBERS or decimal_shape(name) is not None:
        return "number"
    return _KINDS.get(name)
