"""Casts of whole columns, including nested types: each scalar inside follows the rule of its own type.

What belongs here: from the delivered type to the declared one, part by part. What does not: the rule of one
scalar (``casts``), or the delivered types of a file.
"""

from collections.abc import Callable, Mapping

from orchestration.declarations import TypeTree, decimal_shape, type_tree
from orchestration.ingestion.casts import (
    INTEGERS,
    NAIVE,
    UTC_ZONE,
    Cast,
    Zone,
    local_instant,
    text_cast,
)
from orchestration.sql import identifier, literal

NULL = TypeTree("scalar", "null")
"""The delivered type of a column that can hold only nulls."""

MOST_DIGITS = 38
"""The digits of the widest decimal."""
_MARK = "\\u0001"
_NUMBERS = r'("(?:[^"\\]|\\.)*")|(-?[0-9][-+0-9.eE]*)'


def too_wide_decimal(tree: TypeTree) -> str | None:
    """The first decimal in a type that has more digits than DuckDB's decimals; None if there is none."""
    shape = decimal_shape(tree.name)
    if shape is not None and shape[0] > MOST_DIGITS:
        return tree.name
    return next((found for _, part in tree.parts if (found := too_wide_decimal(part)) is not None), None)


def literal_numbers(json: str) -> str:
    """JSON text with each number as a marked string, which DuckDB cannot round; see ``number_text``."""
    marked = f"regexp_replace({json}, {literal(_NUMBERS)}, '\\1' || chr(1) || '\\2' || chr(2), 'g')"
    plain = f"replace({marked}, chr(1) || chr(2), '')"
    quoted = f"""replace(replace({plain}, chr(1), '"{_MARK}'), chr(2), '"')"""
    return f"if(contains({json}, '{_MARK}'), null, {quoted})"


def number_text(text: str) -> str:
    """SQL of the delivered text of a value that was extracted from ``literal_numbers``."""
    inner = r'"\\u0001([^"]*)"'
    return (
        f"if(starts_with({text}, chr(1)), {text}[2:], regexp_replace({text}, {literal(inner)}, '\\1', 'g'))"
    )


def has_lossy_number(json: str) -> str:
    """A condition: the JSON text may hold a number whose text DuckDB changes."""
    return f"regexp_matches({json}, '[0-9][.eE]|-0')"


def repeats_key(json: str) -> str:
    """A condition: the JSON object has a key twice, of whose values DuckDB would take the first."""
    return f"len(json_keys({json})) <> list_unique(json_keys({json}))"


def _some(conditions: list[str]) -> str:
    kept = [f"coalesce({c}, false)" for c in conditions if c != "false"]
    return f"({' or '.join(kept)})" if kept else "false"


def _all_of(cell: str, value: str, faults: list[str], declared: str) -> Cast:
    return Cast(value, _some([f"({cell} is not null and {value} is null)", *faults]), declared)


Scalar = Callable[[str, str, str], "Cast | None"]
"""The cast of a scalar: SQL of the cell, its delivered type, its declared one."""


def _list(items: str, element: Callable[[str], "Cast | None"], depth: int, declared: str) -> Cast | None:
    name = f"_gw_x{depth}"
    cast = element(name)
    if cast is None:
        return None
    value = f"list_transform({items}, lambda {name}: {cast.value})"
    bad = "false"
    if not cast.is_sure:
        bad = f"coalesce(list_bool_or(list_transform({items}, lambda {name}: {cast.is_bad})), false)"
    return Cast(value, bad, declared)


def _typed(
    cell: str, found: TypeTree, declared: TypeTree, scalar: Scalar, depth: int = 0
) -> Cast | None:  # fmt: skip
    """The cast of a cell by the rule for its scalars; None if its parts are not those declared."""
    if found.name == NULL.name:
        return Cast(f"null::{declared.name}", "false", declared.name)
    if found.kind != declared.kind:
        return None
    if found.kind == "scalar":
        return scalar(cell, found.name, declared.name)
    if found.kind == "list":
        (_, inner), (_, wanted) = found.parts[0], declared.parts[0]
        return _list(cell, lambda x: _typed(x, inner, wanted, scalar, depth + 1), depth, declared.name)
    if found.kind == "map":
        name = f"_gw_x{depth}"
        casts = [
            _typed(f"{name}.{part}", a, b, scalar, depth + 1)
            for (part, a), (_, b) in zip(found.parts, declared.parts, strict=True)
        ]
        if casts[0] is None or casts[1] is None:
            return None
        return _map(cell, f"map_entries({cell})", name, casts[0], casts[1], declared)
    fields = {name.lower(): (name, tree) for name, tree in found.parts}
    if fields.keys() != {name.lower() for name, _ in declared.parts}:
        return None
    parts: dict[str, Cast] = {}
    for name, tree in declared.parts:
        given, inner = fields[name.lower()]
        cast = _typed(f"struct_extract({cell}, {literal(given)})", inner, tree, scalar, depth)
        if cast is None:
            return None
        parts[name] = cast
    return _struct(cell, parts, declared.name)


def _struct(cell: str, parts: Mapping[str, Cast], declared: str, faults: tuple[str, ...] = ()) -> Cast:
    packed = ", ".join(f"{identifier(name)} := {cast.value}" for name, cast in parts.items())
    bad = _some([*faults, *(cast.is_bad for cast in parts.values())])
    if bad != "false":
        bad = f"({cell} is not null and {bad})"
    return Cast(f"case when {cell} is not null then struct_pack({packed}) end", bad, declared)


def _map(cell: str, entries: str, name: str, key: Cast, value: Cast, declared: TypeTree) -> Cast:
    pairs = f"list_transform({entries}, lambda {name}: {{'key': {key.value}, 'value': {value.value}}})"
    # Two keys may become equal, which raises.
    made = f"case when {cell} is not null then try(map_from_entries({pairs})) end::{declared.name}"
    bad = _some([key.is_bad, value.is_bad])
    faults = []
    if bad != "false":
        faults = [f"list_bool_or(list_transform({entries}, lambda {name}: {bad}))"]
    return _all_of(cell, f"({made})", faults, declared.name)


def _typed_scalar(cell: str, found: str, declared: str, zone: Zone) -> Cast | None:
    if found == declared:
        return _declared_as_found(cell, declared, zone)
    if found in NAIVE and declared == "timestamptz":
        if zone.name is None:
            return None
        value = local_instant(f"{cell}::timestamp", zone.name)
        if zone.name == "UTC":
            value = f"timezone('UTC', {cell}::timestamp)"
        bad = f"({cell} is not null and {value} is null)"
        if found == "timestamp_ns":
            bad = f"({bad} or coalesce({cell}::timestamp::timestamp_ns <> {cell}, false))"
        return Cast(value, bad, f"timestamptz, a local time that occurs once in {zone.name}")
    if not _converts(found, declared):
        return None
    value = f"try_cast({cell} as {declared})"
    back = f"try_cast({value} as {found})"
    unlike = f"{back} is distinct from {cell}"
    if declared == "double" and found in INTEGERS:
        unlike = "false"
    return Cast(value, f"({cell} is not null and ({value} is null or {unlike}))", declared)


def _declared_as_found(cell: str, declared: str, zone: Zone) -> Cast:
    if declared == "timetz":
        return Cast(cell, f"coalesce(date_part('timezone', {cell}) <> 0, false)", "timetz with offset +00")
    if declared in NAIVE and zone.is_event_time and zone.name not in {None, "UTC"}:
        instant = local_instant(f"{cell}::timestamp", str(zone.name))
        bad = f"({cell} is not null and {instant} is null)"
        return Cast(cell, bad, f"{declared}, a local time that occurs once in {zone.name}")
    return Cast(cell, "false", declared)


def _converts(found: str, declared: str) -> bool:
    """Whether values of the delivered type may fit the declared one; each value is then checked."""
    if found in INTEGERS:
        return declared in INTEGERS or declared in {"double", "float"} or decimal_shape(declared) is not None
    if (shape := decimal_shape(found)) is not None:
        is_number = decimal_shape(declared) is not None or declared in INTEGERS
        return is_number and shape[0] <= MOST_DIGITS
    if found in {"float", "double"}:
        return declared in {"float", "double"}
    if found in NAIVE:
        return declared in NAIVE
    return found == "json" and declared == "varchar"


def from_typed(column: str, found: TypeTree | str, declared: str, zone: Zone = UTC_ZONE) -> Cast | None:
    """The cast of a cell that was delivered with a type; None if that type is not the declared one."""
    tree = type_tree(found) if isinstance(found, str) else found
    cast = _typed(identifier(column), tree, type_tree(declared), lambda c, f, t: _typed_scalar(c, f, t, zone))
    if cast is not None and cast.is_sure and tree == type_tree(declared):
        return Cast(identifier(column), "false", tree.name)
    return cast


def _json(cell: str, declared: TypeTree, zone: Zone, depth: int = 0) -> Cast:
    """A JSON value, numbers as ``literal_numbers`` writes them."""
    name, kind = f"_gw_x{depth}", f"coalesce(json_type({cell}), 'NULL')"
    if declared.kind == "scalar":
        text = f"json_extract_string({cell}, '$')"
        return text_cast(f"({number_text(text)})", declared.name, zone)
    given = f"nullif({cell}, 'null'::json)"
    if declared.kind == "list":
        inner = declared.parts[0][1]
        cast = _list(
            f"json_extract({cell}, '$[*]')", lambda x: _json(x, inner, zone, depth + 1), depth, declared.name
        )
        assert cast is not None
        value = f"case when {kind} = 'ARRAY' then {cast.value} end"
        return Cast(value, f"({kind} <> 'NULL' and ({kind} <> 'ARRAY' or {cast.is_bad}))", declared.name)
    if declared.kind == "map":
        path = f"'/' || replace(replace({name}, '~', '~0'), '/', '~1')"
        key = text_cast(name, declared.parts[0][1].name, zone)
        value_cast = _json(f"json_extract({cell}, {path})", declared.parts[1][1], zone, depth + 1)
        made = _map(given, f"json_keys({cell})", name, key, value_cast, declared)
        value = f"case when {kind} = 'OBJECT' then {made.value} end"
        return Cast(value, f"({kind} <> 'NULL' and ({kind} <> 'OBJECT' or {made.is_bad}))", declared.name)
    known = ", ".join(literal(field) for field, _ in declared.parts)
    keys = f"json_keys({cell})"
    more = f"len(list_filter({keys}, lambda {name}: {name} not in ({known}))) > 0 or {repeats_key(cell)}"
    parts = {
        field: _json(f"json_extract({cell}, {literal(_pointer(field))})", tree, zone, depth + 1)
        for field, tree in declared.parts
    }
    made = _struct(given, parts, declared.name, (more,))
    value = f"case when {kind} = 'OBJECT' then {made.value} end"
    return Cast(value, f"({kind} <> 'NULL' and ({kind} <> 'OBJECT' or {made.is_bad}))", declared.name)


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _as_text(tree: TypeTree) -> str:
    """The same nested type with text for every scalar."""
    if tree.kind == "struct":
        return f"struct({', '.join(f'{identifier(n)} {_as_text(t)}' for n, t in tree.parts)})"
    if tree.kind == "list":
        return f"{_as_text(tree.parts[0][1])}[]"
    if tree.kind == "map":
        return f"map({_as_text(tree.parts[0][1])}, {_as_text(tree.parts[1][1])})"
    return "varchar"


def from_text(column: str, declared: str, zone: Zone = UTC_ZONE) -> Cast:
    """The cast of a cell that was delivered as text: a nested value as JSON or in DuckDB's own notation."""
    cell, tree = identifier(column), type_tree(declared)
    if tree.kind == "scalar":
        return text_cast(cell, tree.name, zone)
    numbers = (
        f"case when contains({cell}, '{_MARK}') then null "
        f"when {has_lossy_number(cell)} then {literal_numbers(cell)} else {cell} end"
    )
    json = _json(f"({numbers})::json", tree, zone)
    texts = _as_text(tree)
    other = _typed(
        f"try_cast({cell} as {texts})", type_tree(texts), tree, lambda c, _, t: text_cast(c, t, zone)
    )
    assert other is not None
    value = f"case when json_valid({cell}) then {json.value} else {other.value} end"
    unread = f"try_cast({cell} as {texts}) is null"
    bad = (
        f"case when {cell} is null then false when json_valid({cell}) "
        f"then ({json.is_bad} or {numbers} is null) else ({unread} or {other.is_bad}) end"
    )
    return Cast(value, bad, tree.name)
