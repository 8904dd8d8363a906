"""Tables of other databases: read in one statement, as text, into a local copy that then lands like a file.

The copy is made on a connection of its own, so that the lakehouse's transaction never holds another
database open and its connection never knows its password. Values are written as text by the database
itself, because the scanners lose some: a ``numeric`` NaN arrives as 0, an SQLite real with 15 digits.
What belongs here: SQL in other dialects. What does not: what becomes of the rows.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

from orchestration.declarations import Table, canonical
from orchestration.ingestion.contract import check_columns
from orchestration.ingestion.faults import IngestFault, StorageError, shown, translated
from orchestration.ingestion.readers import typed_reading
from orchestration.ingestion.reading import Reading
from orchestration.ingestion.uris import Place
from orchestration.lakehouse import Attachment
from orchestration.partitions import Window
from orchestration.sql import identifier, literal

_INSTANTS = {"timestamptz", "timestamp with time zone", "timestamp", "date", "timestamp_s", "timestamp_ms"}
_NUMBERS = {"tinyint", "smallint", "integer", "bigint", "hugeint", "float", "double"}


@dataclass(frozen=True)
class Wanted:
    """Which rows of a table are read: of ``windows`` (None: all), and from ``cursor_from`` on.

    Rows whose event time or cursor is null or unreadable are always read: they must not vanish.
    """

    window: Window | None
    declared: Window | None
    cursor_from: str | None


@dataclass(frozen=True)
class Copied:
    """A table's rows in a local Parquet file, every column as text."""

    label: str
    path: Path
    columns: tuple[str, ...]
    sha256: str
    rows: int


def _qualified(name: str) -> str:
    return ".".join(identifier(part) for part in name.split("."))


def _family(data_type: str) -> str:
    kind = canonical(data_type)
    if kind in _INSTANTS:
        return "instant"
    return "number" if kind in _NUMBERS or kind.startswith("decimal") else kind


class SourceTable:
    """One table of an attached database."""

    def __init__(self, con: duckdb.DuckDBPyConnection, place: Place, table: Table) -> None:
        self._con = con
        self._place = place
        self._table = table
        self._name = table.ingest.table or ""
        self.label = f"{place.label}#{self._name}"
        described = con.execute(f"describe select * from src.{_qualified(self._name)}").fetchall()
        self.types: Mapping[str, str] = {row[0]: row[1] for row in described}

    @property
    def is_postgres(self) -> bool:
        """Whether it is a PostgreSQL table; else SQLite."""
        return self._place.scheme == "postgres"

    def _text(self, column: str) -> str:
        """SQL, in the database's dialect, that writes a column's values without loss."""
        name = identifier(column)
        if not self.is_postgres:
            exact = f"printf('%!.17g', {name})"
            return f"case when typeof({name}) = 'real' then {exact} else cast({name} as text) end"
        # As JSON an instant is ISO 8601, whatever the server's DateStyle is.
        if _family(self.types[column]) == "instant":
            return f"to_json({name}) #>> '{{}}'"
        return f"{name}::text"

    def _comparable(self, column: str, declared: str, key: str) -> None:
        found, expected = _family(self.types[column]), _family(declared)
        if found != expected:
            raise IngestFault(
                f"{self.label}, column {column!r} ({key})",
                f"type {self.types[column].lower()}",
                f"one that orders like {declared}",
            )

    def _postgres_filter(self, wanted: Wanted) -> str:
        """What the server can leave out."""
        ingest, conditions = self._table.ingest, []
        if wanted.window is not None and wanted.declared is not None and ingest.event_time is not None:
            column = self._table.column(ingest.event_time)
            self._comparable(ingest.event_time, column.data_type if column else "", "event_time")
            conditions.append(_span_condition(identifier(ingest.event_time), wanted, "'{}'"))
        if wanted.cursor_from is not None and ingest.cursor is not None:
            column = self._table.column(ingest.cursor)
            self._comparable(ingest.cursor, column.data_type if column else "", "cursor")
            name = identifier(ingest.cursor)
            collate = ' collate "C"' if _family(self.types[ingest.cursor]) == "varchar" else ""
            conditions.append(f"({name} is null or {name}{collate} >= {literal(wanted.cursor_from)})")
        return " and ".join(conditions) or "true"

    def _local_filter(self, wanted: Wanted) -> str:
        """The same on text, for SQLite, whose values have no fixed type to compare by."""
        ingest, conditions = self._table.ingest, []
        if wanted.window is not None and wanted.declared is not None and ingest.event_time is not None:
            event = f"try_cast({identifier(ingest.event_time)} as timestamptz)"
            conditions.append(_span_condition(event, wanted, "timestamptz '{}'"))
        if wanted.cursor_from is not None and ingest.cursor is not None:
            column = self._table.column(ingest.cursor)
            data_type = column.data_type if column else "varchar"
            value = f"try_cast({identifier(ingest.cursor)} as {data_type})"
            start = f"cast({literal(wanted.cursor_from)} as {data_type})"
            conditions.append(f"({value} is null or {value} >= {start})")
        return " and ".join(conditions) or "true"

    def select(self, columns: Sequence[str], wanted: Wanted) -> str:
        """A select, in DuckDB's dialect, of the wanted rows as text in a fixed order."""
        inner = ", ".join(f"{self._text(c)} as {identifier(c)}" for c in columns)
        remote = f"select {inner} from {_qualified(self._name)}"
        function, local = "sqlite_query", self._local_filter(wanted) if not self.is_postgres else "true"
        if self.is_postgres:
            function, remote = "postgres_query", f"{remote} where {self._postgres_filter(wanted)}"
        key = [c for c in self._table.ingest.primary_key if c in columns]
        order = ", ".join(identifier(c) for c in [*key, *(c for c in columns if c not in key)])
        return f"select * from {function}('src', {literal(remote)}) where {local} order by {order}"


def _span_condition(event: str, wanted: Wanted, quoted: str) -> str:
    """In the window, or in no declared partition at all (such rows go to quarantine)."""
    assert wanted.window is not None
    assert wanted.declared is not None

    def at(instant: object) -> str:
        return quoted.format(instant)

    inside = f"{event} >= {at(wanted.window.start)} and {event} < {at(wanted.window.end)}"
    before, after = at(wanted.declared.start), at(wanted.declared.end)
    return f"({event} is null or {event} < {before} or {event} >= {after} or ({inside}))"


def copy_table(table: Table, place: Place, attachment: Attachment, wanted: Wanted, folder: Path) -> Copied:
    """Read the wanted rows of a table, in one snapshot of its database, into a local file.

    Raises:
        IngestFault: The table is missing, has other columns, or cannot be read.
        ConnectionError: The database cannot be reached.
    """
    with closing(duckdb.connect(config=attachment.config())) as con:
        con.execute("set timezone = 'UTC'")
        source = _attach(con, table, place)
        new = check_columns(table, _declared_first(table, source.types), source.label)
        columns = (*(c.name for c in table.columns), *new)
        path = folder / "table.parquet"
        try:
            con.execute(f"copy ({source.select(columns, wanted)}) to {literal(str(path))} (format parquet)")
        except duckdb.Error as error:
            if isinstance(found := translated(error, source.label), StorageError):
                raise found from None
            raise IngestFault(source.label, _safe(error, place), "a table that can be read") from None
        cells = ", ".join(f"coalesce('=' || {identifier(c)}, '-')" for c in sorted(columns))
        rows, digest = con.execute(
            f"select count(*), coalesce(sum(md5_number_lower(concat_ws(chr(31), {cells}))::hugeint), 0) "
            f"from read_parquet({literal(str(path))}, hive_partitioning=false)"
        ).fetchall()[0]
    return Copied(source.label, path, columns, f"{rows:016x}{digest % (1 << 192):048x}", rows)


def _declared_first(table: Table, types: Mapping[str, str]) -> list[str]:
    declared = [c.name for c in table.columns if c.name in types]
    return [*declared, *(n for n in types if n not in declared)]


def _attach(con: duckdb.DuckDBPyConnection, table: Table, place: Place) -> SourceTable:
    if place.scheme == "sqlite":
        if not Path(place.address).is_file():
            raise IngestFault(place.label, "no such file", "an SQLite database")
        con.execute("load sqlite_scanner")
        con.execute("set sqlite_all_varchar = true")
    else:
        con.execute("load postgres_scanner")
    try:
        con.execute(f"attach {literal(place.address)} as src (type {place.scheme}, read_only)")
    except duckdb.Error as error:
        # Its message quotes the address with the password.
        text = _safe(error, place)
        if place.scheme == "postgres":
            raise ConnectionError(f"{place.label}: {text}") from None
        raise IngestFault(place.label, text, "an SQLite database") from None
    try:
        return SourceTable(con, place, table)
    except duckdb.Error as error:
        raise IngestFault(
            f"{place.label}, table {table.ingest.table}", _safe(error, place), "a table that can be read"
        ) from None


def _safe(error: duckdb.Error, place: Place) -> str:
    return shown(str(error).replace(place.address, place.label).split("\n")[0], 300)


def read_copy(table: Table, copied: Copied) -> Reading:
    """The rows of a copied table."""
    new = copied.columns[len(table.columns) :]
    file = f"read_parquet({literal(str(copied.path))}, hive_partitioning=false"
    return typed_reading(table, new, None, {}, copied.label, file, copied.rows)
