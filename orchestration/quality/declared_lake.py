"""An empty copy of the declared lakehouse, in memory, to try SQL text on when definitions load.

What belongs here: the declared tables with DuckDB's own types, the window column of each, and binding
a statement against them. What does not: contracts, and the real lakehouse.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo

import duckdb

from orchestration.declarations import Declarations, Partition, Table
from orchestration.lakehouse import LAKE
from orchestration.partitions import Window
from orchestration.quality.sql_text import SqlError

LANDING_COLUMNS: Mapping[str, str] = {
    "_source_uri": "VARCHAR",
    "_source_sha256": "VARCHAR",
    "_row_number": "BIGINT",
    "_ingested_at": "TIMESTAMP WITH TIME ZONE",
    "_run_id": "VARCHAR",
    "_late_at": "TIMESTAMP WITH TIME ZONE",
}
"""What ingestion adds to every raw table: how a row came to be here, never what it says."""

_DEFAULT_WINDOW_COLUMN = "event_at"


@cache
def _reserved() -> frozenset[str]:
    with duckdb.connect() as con:
        rows = con.execute(
            "select keyword_name from duckdb_keywords() where keyword_category <> 'unreserved'"
        )
        return frozenset(name for (name,) in rows.fetchall())


def identifier(name: str) -> str:
    """A name as SQL text, quoted only where it must be."""
    plain = name.isidentifier() and name.isascii() and name == name.lower() and name not in _reserved()
    return name if plain else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class WindowColumn:
    """The column that tells which window a row belongs to."""

    name: str
    data_type: str
    partition: Partition
    zone: str = "UTC"
    """The time zone of zone-less timestamps."""

    def predicate(self, window: Window) -> str:
        """SQL that is true for the rows of a window."""

        def literal(at: datetime) -> str:
            if self.data_type == "DATE":
                return f"date '{at.astimezone(self.partition.tz).date()}'"
            zone = ZoneInfo(self.zone) if self.data_type == "TIMESTAMP" else UTC
            text = at.astimezone(zone).replace(tzinfo=None).isoformat(sep=" ")
            return f"timestamp '{text}'" if self.data_type == "TIMESTAMP" else f"timestamptz '{text}+00'"

        column = identifier(self.name)
        return f"{column} >= {literal(window.start)} and {column} < {literal(window.end)}"


WINDOW_TYPES = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP", "DATE")


@dataclass(frozen=True)
class DeclaredTable:
    """A declared table with its columns' types as DuckDB names them."""

    table: Table
    types: Mapping[str, str]
    window_column: WindowColumn | None

    @property
    def relation(self) -> str:
        """``lake.<schema>.<table>``."""
        return ".".join(identifier(part) for part in (LAKE, self.table.schema, self.table.name))

    @property
    def expected(self) -> Mapping[str, str]:
        """The types of the declared columns alone."""
        return {c.name: self.types[c.name] for c in self.table.columns}

    @property
    def plain(self) -> frozenset[str]:
        """Columns whose values may be shown: declared and not classified, or added by landing."""
        open_ = {c.name for c in self.table.columns if c.classification in {"public", "internal"}}
        return frozenset(open_ | ({*LANDING_COLUMNS} & self.types.keys()))

    @property
    def is_classified(self) -> bool:
        """Whether any column is confidential or personal."""
        return any(c.classification in {"confidential", "personal"} for c in self.table.columns)

    def rows(self, window: Window | None, where: Iterable[str] = (), select: str = "*") -> str:
        """A ``select`` over the table's rows, those of a window or all."""
        conditions = [
            *([self.window_column.predicate(window)] if window and self.window_column else []),
            *where,
        ]
        text = f"select {select}\nfrom {self.relation}"
        return text + ("\nwhere " + "\n  and ".join(conditions) if conditions else "")


@dataclass(frozen=True)
class DeclaredLake:
    """The declared tables by ``(schema, name)``, and a connection that has them, empty."""

    con: duckdb.DuckDBPyConnection
    tables: Mapping[tuple[str, str], DeclaredTable] = field(default_factory=dict)

    def bind(self, text: str) -> dict[str, str]:
        """Output columns and their types of a statement.

        Raises:
            SqlError: It does not fit the declared tables.
        """
        try:
            rows = self.con.execute(f"describe {text}").fetchall()
        except duckdb.Error as error:
            raise SqlError(
                f"found {first_line(error)}, expected SQL that fits the declared tables"
            ) from error
        return {row[0]: row[1] for row in rows}


def first_line(error: duckdb.Error) -> str:
    """The telling part of a DuckDB error, on one line."""
    return " ".join(str(error).split("\n\nLINE")[0].split())


def _declared_window_column(table: Table) -> str:
    """The column by which the table's own declaration puts a row into a partition."""
    meta = table.meta
    if meta.ingest is not None:
        return meta.ingest.event_time or ""
    if meta.feature_view is not None:
        return meta.feature_view.timestamp
    if meta.training_set is not None:
        return meta.training_set.label_known_at
    if meta.spine is not None:
        return meta.spine.partition_by
    return _DEFAULT_WINDOW_COLUMN


def _window_column(
    declarations: Declarations,
    table: Table,
    types: Mapping[str, str],
    override: str | None,
    faults: list[str],
) -> WindowColumn | None:
    partition = declarations.partition(table.unique_id)
    if partition is None:
        return None
    name = override or _declared_window_column(table)
    if name not in types:
        contract = f"soda_checks/{table.layer}/{table.name}.yml"
        faults.append(
            f"{table.file}: {table.name}: found no column {name!r}, expected the column that tells a row's "
            f"partition, or its name as check_attributes.window_column in {contract}"
        )
        return None
    if types[name] not in WINDOW_TYPES:
        faults.append(
            f"{table.file}: {table.name}: found {types[name]} for {name!r}, which tells a row's partition, "
            f"expected one of {', '.join(WINDOW_TYPES)}"
        )
        return None
    zone = table.zone_of(name) if table.meta.ingest is not None else None
    return WindowColumn(name, types[name], partition, zone or "UTC")


@contextmanager
def declared_lake(
    declarations: Declarations,
    tables: Iterable[Table],
    window_columns: Mapping[str, str],
    faults: list[str],
) -> Iterator[DeclaredLake]:
    """Make the empty copy.

    Args:
        declarations: The dbt project's declarations.
        tables: The tables that SQL text may name.
        window_columns: Window columns that contracts set, by dbt unique id.
        faults: Gets one line a fault.
    """
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        con.execute(f"attach ':memory:' as {LAKE}")
        con.execute(f"use {LAKE}")
        found: dict[tuple[str, str], DeclaredTable] = {}
        for table in tables:
            declared = {c.name: c.data_type for c in table.columns}
            extra = LANDING_COLUMNS if table.layer == "raw" else {}
            columns = declared | {name: kind for name, kind in extra.items() if name not in declared}
            place = ".".join(identifier(part) for part in (LAKE, table.schema, table.name))
            body = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns.items())
            try:
                con.execute(f"create schema if not exists {identifier(table.schema)}")
                con.execute(f"create table {place} ({body})")
                rows = con.execute(f"describe {place}").fetchall()
            except duckdb.Error as error:
                faults.append(
                    f"{table.file}: {table.name}.columns: found {first_line(error)}, expected DuckDB types"
                )
                continue
            types = {row[0]: row[1] for row in rows}
            window = _window_column(declarations, table, types, window_columns.get(table.unique_id), faults)
            found[table.schema, table.name] = DeclaredTable(table, types, window)
        yield DeclaredLake(con, found)
