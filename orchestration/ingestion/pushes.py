"""Rows that a caller pushes: they become one more delivery in the landing folder of their source.

What belongs here: from columns to a file that lands, whole and durable. What does not: who may push, and
landing it (a sensor notices the file as it notices any other).
"""

import csv
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import duckdb

from orchestration.declarations import DeclarationError, Declarations, Table
from orchestration.ingestion.contract import check_columns
from orchestration.ingestion.delivery import MAX_LINE
from orchestration.ingestion.faults import IngestFault, faults_of
from orchestration.ingestion.files import READERS
from orchestration.ingestion.quarantine import collect, first_faults
from orchestration.ingestion.uris import find_place, looks_like_many
from orchestration.settings import Settings

Columns = Mapping[str, Sequence[Any]]
"""JSON values (texts, numbers, booleans, None) by column, all columns equally long."""

_SHOWN = 5


def pushable_sources(declarations: Declarations, settings: Settings) -> dict[str, Table]:
    """The sources that take pushes, by name.

    Raises:
        DeclarationError: One of them is no local folder.
    """
    found = {table.name: table for table in declarations.sources if table.ingest.push}
    faults = [
        f"{table.file}: sources.{table.name}.config.meta.ingest.uri: found {table.ingest.uri!r}, "
        f"expected a local folder in which {_name(table, 'x')} is a delivery, as the source takes pushes"
        for table in found.values()
        if not (looks_like_many(table.ingest, settings) and _takes_pushes(table))
    ]
    if faults:
        raise DeclarationError(faults)
    return found


def _name(table: Table, what: str) -> str:
    return f"push-{what}.{table.ingest.format}"


def _takes_pushes(table: Table) -> bool:
    folder, _, pattern = table.ingest.uri.rpartition("/")
    if any(c in folder for c in "*?["):
        return False
    return not any(c in pattern for c in "*?[") or fnmatch(_name(table, "x"), pattern)


def _landing_folder(table: Table, settings: Settings) -> Path:
    place = find_place(table.ingest, settings, f"{table.file}: sources.{table.name}.config.meta.ingest")
    path = Path(place.address)
    # A pattern such as landing/*.csv stands for the files of its folder.
    return path.parent if any(c in path.name for c in "*?[") else path


def _write(path: Path, table: Table, columns: Columns) -> None:
    """The rows as a file of the source's format, on the disk when this returns."""
    ingest, names = table.ingest, list(columns)
    with path.open("w", encoding="utf-8", newline="") as file:
        if ingest.format == "jsonl":
            for row in zip(*columns.values(), strict=True):
                file.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n")
        else:
            null = ingest.null_values[0] if ingest.null_values else ""
            writer = csv.writer(file, delimiter=ingest.delimiter, lineterminator="\n")
            writer.writerow(names)
            for row in zip(*columns.values(), strict=True):
                writer.writerow([_cell(value, null) for value in row])
        file.flush()
        os.fsync(file.fileno())


def _cell(value: Any, null: str) -> str:
    if value is None:
        return null
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(table: Table, columns: Columns, label: str) -> None:
    check_columns(table, list(columns), label)
    ingest = table.ingest
    for name, values in columns.items():
        for row, value in enumerate(values):
            if value is not None and not isinstance(value, str | int | float | bool):
                kind = "an object" if isinstance(value, Mapping) else "a list"
                raise IngestFault(f"{label}, column {name!r}, row {row}", kind, "a single value")
            if value is None and name in ingest.primary_key:
                raise IngestFault(
                    f"{label}, column {name!r}, row {row}", "null", "a value, as it is of the primary key"
                )
            if isinstance(value, str) and ingest.format == "csv" and value in ingest.null_values:
                raise IngestFault(
                    f"{label}, column {name!r}, row {row}", f"the text {value!r}", "null, for which it stands"
                )
            if isinstance(value, str) and len(value) > MAX_LINE // 8:
                raise IngestFault(
                    f"{label}, column {name!r}, row {row}", f"{len(value):,} characters", "a shorter text"
                )


def _check_readable(path: Path, table: Table, label: str) -> None:
    """Read the file as landing will: a row that would be quarantined is refused now."""
    with closing(duckdb.connect()) as con:
        con.execute("set timezone = 'UTC'")
        con.execute("set threads = 1")
        with faults_of(label, path):
            reading = READERS[table.ingest.format](con, table, path, label)
            first_line = reading.header_lines + 1
            faulty = collect(con, table, reading, first_line)
        if not faulty.faulty:
            return
        found = first_faults(con, first_line, faulty.shift, _SHOWN)
    rows = "; ".join(f"row {fault['line'] - first_line}: {fault['reason']}" for fault in found)
    raise IngestFault(label, f"{faulty.faulty:,} rows that cannot be read as declared ({rows})", "none")


def deliver_push(table: Table, settings: Settings, columns: Columns) -> str:
    """Put rows into the landing folder of a source, all of them or none.

    When this returns the file is on the disk under its final name; a crash before leaves at most a hidden
    file that no reader looks at. Pushes of one source land in the order in which they came.

    Args:
        table: A source that takes pushes.
        settings: The platform's settings.
        columns: The rows, by column.

    Returns:
        The delivery's file name.

    Raises:
        IngestFault: A row cannot be read as declared; nothing is delivered.
    """
    label = f"push to {table.name}"
    _check(table, columns, label)
    folder = _landing_folder(table, settings)
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    name = _name(table, f"{moment}-{secrets.token_hex(6)}")
    arriving = folder / f".{name}.part"
    try:
        _write(arriving, table, columns)
        _check_readable(arriving, table, label)
        arriving.rename(folder / name)
    except UnicodeEncodeError as error:
        raise IngestFault(label, "a text that is not Unicode", "one that is") from error
    finally:
        arriving.unlink(missing_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)
    return name
