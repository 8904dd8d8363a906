"""Tables of other databases: read in one statement, as text, into a local copy that then lands like a file.

The copy is made on a connection of its own, so that the lakehouse's transaction never holds another
database open and its connection never knows its password. Values are written as text by the database
itself, because the scanners lose some: a ``numeric`` NaN arrives as 0, an SQLite real with 15 digits.
What belongs here: SQL in other dialects. What does not: what becomes of the rows.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from orchestration.declarations import Table, canonical, type_tree
from orchestration.ingestion.casts import CELL
from orchestration.ingestion.contract import check_columns, zone
from orchestration.ingestion.event_time import EventTime
from orchestration.ingestion.faults import IngestFault, StorageError, shown, to_ingestion_error
from orchestration.ingestion.nested_casts import from_text
from orchestration.ingestion.readers import typed_reading
from orchestration.ingestion.reading import Reading
from orchestration.ingestion.uris import Place
from orchestration.lakehouse import Attachment
from orchestration.partitions import Window
from orchestration.sql import identifier, literal

_INSTANTS = {"timestamptz", "timestamp with time zone", "timestamp", "date", "timestamp_s", "timestamp_ms"}
_ENDLESS = _INSTANTS | {"timestamp_ns", "float", "double"}
"""Types that have infinite values."""
_REAL = "r"
"""The suffix that marks the text of a SQLite REAL."""
_HEX = "t"
"""The prefix that marks the bytes of a SQLite text, in hexadecimal."""
NOT_UTF8 = "\U0010ffff not UTF-8: "
"""What precedes the bytes of a text that is not UTF-8: a character that no text has and no cast takes."""
_NUMBERS = {"tinyint", "smallint", "integer", "bigint", "hugeint", "float", "double"}


@dataclass(frozen=True)
class Wanted:
    """Which rows of a table are read: of ``windows`` (None: all), and from ``cursor_from`` on.

    Rows whose event time or cursor is null or unreadable, or whose cursor is NaN or infinite, are always
    read: they must not vanish.
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
    if type_tree(kind).kind != "scalar":
        return "nested"
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
        self._is_utf8 = not self.is_postgres and con.execute(
            "select * from sqlite_query('src', 'select hex(cast(''a'' as blob))')"
        ).fetchall() == [("61",)]

    @property
    def is_postgres(self) -> bool:
        """Whether it is a PostgreSQL table; else SQLite."""
        return self._place.scheme == "postgres"

    def _text(self, column: str) -> str:
        """SQL, in the database's dialect, that writes a column's values without loss."""
        name, declared = identifier(column), self._declared(column)
        if not self.is_postgres:
            exact = f"printf('%!.17g', {name})"
            if declared == "float":
                exact += f" || '{_REAL}'"
            binary = f" when 'blob' then hex({name})" if declared == "blob" else ""
            # The scanner cuts text at a byte that is not UTF-8.
            text = f"'{_HEX}' || hex(cast({name} as blob))" if self._is_utf8 else f"cast({name} as text)"
            return (
                f"case typeof({name}) when 'null' then null when 'integer' then cast({name} as text) "
                f"when 'real' then {exact}{binary} else {text} end"
            )
        family = _family(self.types[column])
        if self._is_binary_number(column):
            return name
        if family == "blob" and declared == "blob":
            return f"encode({name}, 'hex')"
        # As JSON an instant is ISO 8601, whatever the server's DateStyle is.
        if family == "instant":
            return f"to_json({name}) #>> '{{}}'"
        return f"to_json({name})::text" if family == "nested" else f"{name}::text"

    def _declared(self, column: str) -> str:
        declared = self._table.column(column)
        return "varchar" if declared is None else canonical(declared.data_type)

    def _is_binary_number(self, column: str) -> bool:
        """Whether a number is read as a number, because its text does not have all of its digits."""
        found, declared = canonical(self.types[column]), self._declared(column)
        return (declared == "float" and found in {"float", "double"}) or (found, declared) == (
            "float",
            "double",
        )

    def _local_text(self, column: str) -> str:
        """DuckDB SQL that turns the result of ``_text`` into the text to cast."""
        name, declared = identifier(column), self._declared(column)
        if self.is_postgres and self._is_binary_number(column):
            return f"{_exact_text(name)} as {name}"
        text = name
        if not self.is_postgres and declared == "float":
            number = f"try_cast(rtrim({name}, '{_REAL}') as double)"
            text = f"if(suffix({name}, '{_REAL}'), coalesce({_exact_text(number)}, {name}), {name})"
        elif declared == "blob" and (not self.is_postgres or _family(self.types[column]) == "blob"):
            is_hex = f"regexp_full_match({name}, '([0-9A-Fa-f]{{2}})*')"
            text = f"if({is_hex}, regexp_replace({name}, '(..)', '\\\\x\\1', 'g'), {name})"
        if not self.is_postgres and self._is_utf8:
            digits = f"substr({name}, {len(_HEX) + 1})"
            decoded = f"coalesce(try(decode(unhex({digits}))), '{NOT_UTF8}' || {digits})"
            text = f"if(prefix({name}, '{_HEX}'), {decoded}, {text})"
        return f"{text} as {name}"

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
            self._comparable(ingest.event_time, self._declared(ingest.event_time), "event_time")
            conditions.append(self._postgres_span(wanted.window, wanted.declared))
        if wanted.cursor_from is not None and ingest.cursor is not None:
            self._comparable(ingest.cursor, self._declared(ingest.cursor), "cursor")
            name, start = identifier(ingest.cursor), literal(wanted.cursor_from)
            if self._declared(ingest.cursor) == "timestamptz":
                start = self._postgres_bound(ingest.cursor, wanted.cursor_from)
            collate = ' collate "C"' if _family(self.types[ingest.cursor]) == "varchar" else ""
            # NaN and infinity are the greatest values there.
            lowest = f" or {name} = '-infinity'" if canonical(self.types[ingest.cursor]) in _ENDLESS else ""
            conditions.append(f"({name} is null or {name}{collate} >= {start}{lowest})")
        return " and ".join(conditions) or "true"

    def _postgres_bound(self, column: str, instant: object) -> str:
        """PostgreSQL SQL of an instant in the form that a column is compared with."""
        bound = f"timestamptz '{instant}'"
        if canonical(self.types[column]) == "timestamptz":
            return bound
        return f"({bound} at time zone {literal(self._table.zone_of(column) or 'UTC')})"

    def _postgres_span(self, window: Window, declared: Window) -> str:
        event = EventTime.of(self._table)
        assert event is not None
        name = self._table.ingest.event_time or ""
        spans = [(declared.start, declared.end), (window.start, window.end)]
        if event.kind == "date":
            if canonical(self.types[name]) != "date":
                raise IngestFault(
                    f"{self.label}, column {name!r} (event_time)",
                    f"type {self.types[name].lower()}", "date, as declared",
                )  # fmt: skip
            bounds = [tuple(f"date '{day}'" for day in event.days(Window(*span))) for span in spans]
        else:
            bounds = [tuple(self._postgres_bound(name, instant) for instant in span) for span in spans]
        return _span_condition(identifier(name), bounds[0], bounds[1])

    def _local_filter(self, wanted: Wanted) -> str:
        """The same on text, for SQLite, whose values have no fixed type to compare by."""
        ingest, conditions = self._table.ingest, []
        event = EventTime.of(self._table)
        if wanted.window is not None and event is not None and ingest.event_time is not None:
            value = from_text(ingest.event_time, event.kind, zone(self._table, ingest.event_time)).value
            read = replace(event, column=f"({value})")
            conditions.append(f"({read.is_outside} or {read.within(wanted.window)})")
        if wanted.cursor_from is not None and ingest.cursor is not None:
            declared = self._declared(ingest.cursor)
            value = from_text(ingest.cursor, declared, zone(self._table, ingest.cursor)).value
            conditions.append(after_cursor(self._table, value, wanted.cursor_from))
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
        texts = ", ".join(map(self._local_text, columns))
        source = f"select {texts} from {function}('src', {literal(remote)})"
        return f"select * from ({source}) where {local} order by {order}"


def finite_cursor(table: Table, value: str) -> str | None:
    """A condition: a value of the cursor is neither NaN nor infinite; None if its type has no such value."""
    column = table.column(table.ingest.cursor or "")
    kind = "varchar" if column is None else canonical(column.data_type)
    return f"isfinite({value})" if kind in _ENDLESS else None


def after_cursor(table: Table, value: str, start: str) -> str:
    """A condition on a value of the cursor: rows that are read from ``start`` on."""
    column = table.column(table.ingest.cursor or "")
    kind = "varchar" if column is None else canonical(column.data_type)
    endless = "" if (is_finite := finite_cursor(table, value)) is None else f" or not {is_finite}"
    return f"({value} is null or {value} >= cast({literal(start)} as {kind}){endless})"


def _exact_text(number: str) -> str:
    """SQL of all decimal digits of a double that has the value of a float."""
    digits = f"rtrim(rtrim(format('{{:.149f}}', {number}::double), '0'), '.')"
    return f"if(isfinite({number}), {digits}, {number}::varchar)"


def _span_condition(event: str, declared: Sequence[str], window: Sequence[str]) -> str:
    """A condition: in the window, or outside every declared partition (such rows go to quarantine)."""
    inside = f"{event} >= {window[0]} and {event} < {window[1]}"
    return f"({event} is null or {event} < {declared[0]} or {event} >= {declared[1]} or ({inside}))"


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
            if isinstance(found := to_ingestion_error(error, source.label), StorageError):
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
    reading = typed_reading(table, new, None, {}, copied.label, file, copied.rows)
    marker = f"coalesce(starts_with({CELL}, {literal(NOT_UTF8)}), false)"
    casts = {
        name: replace(cast, is_bad=marker, declared="text in UTF-8") if cast.is_sure else cast
        for name, cast in reading.casts.items()
    }
    return replace(reading, casts=casts)
