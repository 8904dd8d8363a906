"""The arrival contract of columns: those that were delivered against those that are declared.

What belongs here: names and types of columns. What does not: rows.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any

from orchestration.declarations import RESERVED_NAMES, DeclaredColumn, Ingest, Table, TypeTree, canonical
from orchestration.ingestion.casts import CELL_NAME, Cast, Zone
from orchestration.ingestion.faults import IngestFault, hint, shown
from orchestration.ingestion.nested_casts import MOST_DIGITS, from_text, from_typed, too_wide_decimal
from orchestration.sql import folded

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""The marker for null in a ``key=value`` folder."""
NEW_KEYS = ("partition_columns", "max_unpacked_size", "timezone")


def reading_version(table: Table) -> str:
    """A hash of what decides how a delivery is read: another one, and it has to be read again."""
    about_reading = {
        "format", "compression", "delimiter", "null_values", "encoding", "table", "cursor", "event_time",
        "partition", "timezone", "new_columns", "partition_columns",
    }  # fmt: skip
    declared = {
        "ingest": declared_values(table.ingest, about_reading),
        "columns": sorted((c.name, canonical(c.data_type), *_own_zone(c)) for c in table.columns),
    }
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()[:16]


def _own_zone(column: DeclaredColumn) -> tuple[str, ...]:
    return () if column.timezone is None else (column.timezone,)


def declared_values(ingest: Ingest, only: Set[str] | None = None) -> dict[str, Any]:
    """A declaration as JSON values, without unused keys that release 0.1 did not have.

    Data folders store hashes of it: an unused new key must not change them.
    """
    unused = {name for name in NEW_KEYS if getattr(ingest, name) == type(ingest).model_fields[name].default}
    include = (set(type(ingest).model_fields) if only is None else set(only)) - unused
    return ingest.model_dump(mode="json", include=include)


def path_values(
    table: Table, delivered: Collection[str], parts: Sequence[tuple[str, str]], place: str
) -> dict[str, str | None]:
    """The declared partition columns that a file lacks, with the values that its path gives them.

    Raises:
        IngestFault: Neither the file nor its path has one of them, or the path has it twice.
    """
    found: dict[str, str | None] = {}
    for name in table.ingest.partition_columns:
        if name in delivered:
            continue
        values = [value for key, value in parts if key == name]
        if len(values) != 1:
            what = f"no such column in it and {len(values) or 'no'} folders {name + '=...'!r} in its path"
            raise IngestFault(f"{place}, column {name!r}", what, "one of the two (ingest.partition_columns)")
        found[name] = None if values[0] == HIVE_NULL else values[0]
    return found


def check_columns(table: Table, delivered: Sequence[str], place: str) -> tuple[str, ...]:
    """The new columns to add to the table, after the declared policy; declared ones must all be there.

    Args:
        table: The source table.
        delivered: Names of the delivered columns, in order.
        place: The file or table they are from.

    Raises:
        IngestFault: A column is missing, renamed, doubled or, if the policy is to fail, new.
    """
    declared = [c.name for c in table.columns]
    if list(delivered) == declared:
        return ()
    doubled = _doubled(table, delivered)
    if doubled:
        found = f"column {' and '.join(map(repr, doubled))} more than once"
        raise IngestFault(f"{place}, header", found, "each column once (names are compared without case)")
    missing = [name for name in declared if name not in delivered]
    new = [name for name in delivered if name not in declared]
    if missing:
        words = ", ".join(f"{name!r}{hint(name, new)}" for name in missing)
        raise IngestFault(
            f"{place}, columns",
            f"no column {words} among {len(delivered)}: {', '.join(map(shown, delivered[:30]))}",
            f"the declared columns {', '.join(declared)}",
        )
    if not new or table.ingest.new_columns == "ignore":
        return ()
    if table.ingest.new_columns == "fail":
        raise IngestFault(
            f"{place}, columns",
            f"new column {', '.join(map(repr, new))}",
            "the declared columns only (ingest.new_columns: fail; declare it, or choose ignore or evolve)",
        )
    reserved = [n for n in new if n.startswith("_") or not n.strip() or n.lower() in RESERVED_NAMES]
    if reserved:
        raise IngestFault(
            f"{place}, columns",
            f"new column {reserved[0]!r}",
            f"a name that does not start with an underscore and is none of {', '.join(RESERVED_NAMES)}",
        )
    return tuple(new)


def _doubled(table: Table, delivered: Sequence[str]) -> list[str]:
    """The names of the first wanted column that was delivered more than once; the lakehouse ignores case."""
    spelled: dict[str, list[str]] = defaultdict(list)
    for name in delivered:
        spelled[folded(name)].append(name)
    wanted = {folded(c.name) for c in table.columns}
    for key, names in spelled.items():
        if len(names) > 1 and (key in wanted or table.ingest.new_columns != "ignore"):
            return sorted(set(names))
    return []


def zone(table: Table, name: str) -> Zone:
    """How to read zone-less timestamps of a column."""
    is_event_time = table.ingest.partition is not None and name == table.ingest.event_time
    return Zone(table.zone_of(name), is_event_time)


def casts(
    table: Table, new: Sequence[str], types: Mapping[str, TypeTree] | None, place: str,
    texts: Collection[str] = (),
) -> dict[str, Cast]:  # fmt: skip
    """How each column's cells become values: declared columns by their types, new ones as text.

    Args:
        table: The source table.
        new: Columns to add.
        types: Delivered types by column; None where everything was delivered as text.
        place: The file or table they are from.
        texts: Columns delivered as text even if the others are typed.

    Raises:
        IngestFault: A column was delivered with another type than declared.
    """
    if types is None:
        return {c.name: from_text(CELL_NAME, c.data_type, zone(table, c.name)) for c in table.columns} | {
            name: from_text(CELL_NAME, "varchar") for name in new
        }
    found: dict[str, Cast] = {}
    for column in table.columns:
        at = zone(table, column.name)
        if column.name in texts:
            found[column.name] = from_text(CELL_NAME, column.data_type, at)
            continue
        cast = from_typed(CELL_NAME, types[column.name], column.data_type, at)
        if cast is None:
            raise IngestFault(
                f"{place}, column {column.name!r}",
                f"type {too_wide_decimal(types[column.name]) or types[column.name].name}",
                f"{canonical(column.data_type)}, as declared",
            )
        found[column.name] = cast
    for name in new:
        if (wide := too_wide_decimal(types[name])) is not None:
            raise IngestFault(f"{place}, column {name!r}", f"type {wide}", f"at most {MOST_DIGITS} digits")
        text = from_text(CELL_NAME, "varchar")
        found[name] = Cast(f"{text.value}::varchar", "false", "varchar")
    return found
