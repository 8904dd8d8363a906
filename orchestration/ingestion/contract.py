"""The arrival contract of columns: those that were delivered against those that are declared.

What belongs here: names and types of columns. What does not: rows.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence

from orchestration.declarations import Table, TypeTree, canonical
from orchestration.ingestion.casts import Cast, Zone
from orchestration.ingestion.faults import IngestFault, hint, shown
from orchestration.ingestion.nested_casts import from_scanned, from_text, from_typed

_RULES = 2
"""Which rules of reading a cell this release has; rows that landed by earlier ones are read again."""


def reading_version(table: Table) -> str:
    """A hash of what decides how a delivery is read: another one, and it has to be read again."""
    about_reading = {
        "format", "compression", "delimiter", "null_values", "encoding", "table", "cursor", "event_time",
        "partition", "timezone", "new_columns",
    }  # fmt: skip
    declared = {
        "ingest": table.ingest.model_dump(mode="json", include=about_reading),
        "columns": sorted((c.name, canonical(c.data_type), c.timezone or "") for c in table.columns),
        "rules": _RULES,
    }
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()[:16]


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
    doubled = [name for name, n in Counter(n.lower() for n in delivered).items() if n > 1]
    if doubled:
        raise IngestFault(f"{place}, header", f"column {doubled[0]!r} more than once", "each column once")
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
    reserved = [name for name in new if name.startswith("_") or not name.strip()]
    if reserved:
        raise IngestFault(
            f"{place}, columns",
            f"new column {reserved[0]!r}",
            "a name that does not start with an underscore",
        )
    return tuple(new)


def zone(table: Table, name: str) -> Zone:
    """How zone-less timestamps of a column are read."""
    is_event_time = table.ingest.partition is not None and name == table.ingest.event_time
    return Zone(table.zone_of(name), is_event_time)


def scanned_casts(table: Table, new: Sequence[str], scanned: Mapping[str, str]) -> dict[str, Cast]:
    """How cells that a CSV reader delivers in their scan types become values."""
    return {
        c.name: from_scanned(c.name, c.data_type, scanned[c.name], zone(table, c.name)) for c in table.columns
    } | {name: from_text(name, "varchar") for name in new}


def casts(
    table: Table, new: Sequence[str], types: Mapping[str, TypeTree] | None, place: str
) -> dict[str, Cast]:
    """How each column's cells become values: declared columns by their types, new ones as text.

    Args:
        table: The source table.
        new: Columns to add.
        types: Delivered types by column; None where everything was delivered as text.
        place: The file or table they are from.

    Raises:
        IngestFault: A column was delivered with another type than declared.
    """
    if types is None:
        return {c.name: from_text(c.name, c.data_type, zone(table, c.name)) for c in table.columns} | {
            name: from_text(name, "varchar") for name in new
        }
    found: dict[str, Cast] = {}
    for column in table.columns:
        cast = from_typed(column.name, types[column.name], column.data_type, zone(table, column.name))
        if cast is None:
            raise IngestFault(
                f"{place}, column {column.name!r}",
                f"type {types[column.name].name}",
                f"{canonical(column.data_type)}, as declared",
            )
        found[column.name] = cast
    for name in new:
        text = from_text(name, "varchar")
        found[name] = Cast(f"{text.value}::varchar", "false", "varchar")
    return found
