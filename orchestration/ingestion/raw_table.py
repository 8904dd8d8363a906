"""The raw table of a source: created as declared, grown when the declaration grows, changed by difference.

What belongs here: statements that change ``lake.raw.<table>``. What does not: reading deliveries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from orchestration.declarations import Table, canonical
from orchestration.ingestion.event_time import EventTime
from orchestration.ingestion.faults import IngestFault
from orchestration.lakehouse import describe_table
from orchestration.lakehouse.tables import relation
from orchestration.partitions import Window
from orchestration.sql import folded, identifier, literal

STAMPS = {
    "_source_uri": "varchar",
    "_source_sha256": "varchar",
    "_row_number": "bigint",
    "_ingested_at": "timestamptz",
    "_run_id": "varchar",
    "_late_at": "timestamptz",
}


class StoredTypeFault(IngestFault):
    """The raw table holds a column with another type than declared: no file is at fault."""


@dataclass(frozen=True)
class Stamp:
    """What every row of one landing carries; ``landed`` are the spans that landed before.

    ``is_reread`` marks a delivery that landed before and is read again because the declaration changed:
    that makes no row late.
    """

    source_uri: str
    sha256: str
    ingested_at: datetime
    run_id: str
    late_at: datetime
    landed: tuple[Window, ...]
    is_reread: bool = False


@dataclass(frozen=True)
class Change:
    """What a landing did."""

    added: int
    removed: int = 0
    unchanged: int = 0


def stored_type(con: duckdb.DuckDBPyConnection, data_type: str) -> str:
    """A declared type as the catalog spells it."""
    return str(con.execute(f"select typeof(null::{data_type})").fetchall()[0][0]).lower()


class RawTable:
    """``lake.raw.<table>`` inside an open transaction."""

    def __init__(self, con: duckdb.DuckDBPyConnection, table: Table) -> None:
        self._con = con
        self._table = table
        self.relation = relation(table.schema, table.name)
        self._event_time = EventTime.of(table)

    def prepare(self, new_columns: Sequence[str] = ()) -> None:
        """Create the table, or add what the declaration or an evolving delivery has more.

        Raises:
            StoredTypeFault: A column's stored type is another one than declared.
        """
        con, table = self._con, self._table
        con.execute(f"create schema if not exists lake.{identifier(table.schema)}")
        stored = {folded(c.name): c.data_type for c in describe_table(con, table.schema, table.name)}
        if not stored:
            columns = {c.name: c.data_type for c in table.columns} | STAMPS
            body = ", ".join(f"{identifier(n)} {t}" for n, t in columns.items())
            con.execute(f"create table {self.relation} ({body})")
            stored = {folded(name): data_type for name, data_type in columns.items()}
        else:
            for column in table.columns:
                if folded(column.name) not in stored:
                    self._add(column.name, column.data_type)
                    stored[folded(column.name)] = column.data_type
                elif canonical(stored[folded(column.name)]) != canonical(stored_type(con, column.data_type)):
                    raise StoredTypeFault(
                        f"{table.file}: sources.{table.name}.columns.{column.name}.data_type",
                        f"{column.data_type}, where lake.{table.schema}.{table.name} holds "
                        f"{stored[folded(column.name)].lower()}",
                        "the stored type. To build the table again: drop table "
                        f"lake.{table.schema}.{table.name}; delete from lake.ops.landings where source = "
                        f"'{table.name}'; groundwork run --select raw/{table.name}+ --force",
                    )
        for name in new_columns:
            if folded(name) not in stored:
                self._add(name, "varchar")

    def _add(self, name: str, data_type: str) -> None:
        self._con.execute(f"alter table {self.relation} add column {identifier(name)} {data_type}")

    def content_columns(self) -> dict[str, str]:
        """What a row says: every column but the stamps, with its type."""
        stored = describe_table(self._con, self._table.schema, self._table.name)
        return {c.name: c.data_type for c in stored if c.name not in STAMPS}

    def in_window(self, window: Window | None) -> str:
        """A condition: the row's event lies in the window."""
        if window is None or self._event_time is None:
            return "true"
        return self._event_time.within(window)

    def has_rows(self, condition: str) -> bool:
        """Whether any row fulfils a condition."""
        found = self._con.execute(f"select 1 from {self.relation} where {condition} limit 1").fetchall()
        return bool(found)

    def numbers(self, stamp: Stamp) -> str:
        """A select of the numbers that the rows of a landing have in their delivery."""
        return (
            f"select _row_number from {self.relation} where _source_uri = {literal(stamp.source_uri)} "
            f"and _source_sha256 = {literal(stamp.sha256)} and _ingested_at = {literal(stamp.ingested_at)}"
        )

    def _late(self, stamp: Stamp, window: Window | None) -> str:
        if not stamp.landed:
            return "null"
        spans = ["true"] if window is None else [self.in_window(w) for w in stamp.landed]
        return f"case when {' or '.join(spans)} then {literal(stamp.late_at)} end"

    def insert(
        self,
        rows: str,
        columns: Sequence[str],
        stamp: Stamp,
        window: Window | None,
        ordinal: str = "_gw_n",
        late: str | None = None,
    ) -> int:
        """Add the rows of a select and say how many; ``late``, if given, is SQL for ``_late_at``."""
        names = [*map(identifier, columns), *STAMPS]
        stamps = (
            literal(stamp.source_uri), literal(stamp.sha256), ordinal,
            literal(stamp.ingested_at), literal(stamp.run_id), late or self._late(stamp, window),
        )  # fmt: skip
        done = self._con.execute(
            f"insert into {self.relation} ({', '.join(names)}) "
            f"select {', '.join([*map(identifier, columns), *stamps])} from ({rows})"
        ).fetchall()
        return int(done[0][0])

    def replace(
        self, rows: str, columns: Sequence[str], stamp: Stamp, window: Window | None, scope: str,
        *, replaced_key: Sequence[str] = (),
    ) -> Change:  # fmt: skip
        """Make the rows of a scope those of a select: equal ones stay as they are, as often as they occur.

        Args:
            rows: A select of ``columns`` and ``_gw_n``.
            columns: The columns that were delivered.
            stamp: What added rows carry.
            window: The run's window.
            scope: A condition on the table: the rows that the select is the new state of.
            replaced_key: Where the select may lack rows that still hold: nothing is removed but what
                an added row with the same key takes the place of.
        """
        con = self._con
        content = self.content_columns()
        delivered = set(map(folded, columns))
        given = [
            identifier(c) if folded(c) in delivered else f"null::{t} as {identifier(c)}"
            for c, t in content.items()
        ]
        names = [identifier(c) for c in content]
        key = f"hash({', '.join(e for c, t in content.items() for e in _exact(identifier(c), t))})"
        con.execute(
            f"create or replace temp table _incoming as select {', '.join(given)}, _gw_n from ({rows})"
        )
        # Rows are paired by content and by the how-manieth of their content; the hash only sorts them
        # into heaps, so that two contents with one hash can at worst be stamped anew.
        nth = f"row_number() over (partition by {key} order by {{}}) as _gw_nth, {key} as _gw_key"
        con.execute(
            f"create or replace temp table _existing as select {', '.join(names)}, rowid as _gw_id, "
            "_source_uri, _source_sha256, _row_number, _late_at, "
            f"{nth.format('_row_number, _source_sha256')} from {self.relation} where {scope}"
        )
        con.execute(
            f"create or replace temp table _incoming as select *, {nth.format('_gw_n')} from _incoming"
        )
        same = " and ".join(
            f"{a} is not distinct from {b}"
            for c, t in content.items()
            for a, b in zip(
                _exact(f"_gw_a.{identifier(c)}", t), _exact(f"_gw_b.{identifier(c)}", t), strict=True
            )
        )
        pair = f"_gw_a._gw_key = _gw_b._gw_key and _gw_a._gw_nth = _gw_b._gw_nth and {same}"
        con.execute(
            f"create or replace temp table _added as select * from _incoming _gw_a where not exists "
            f"(select 1 from _existing _gw_b where {pair})"
        )
        con.execute(
            f"create or replace temp table _removed as select _gw_id from _existing _gw_a where not exists "
            f"(select 1 from _incoming _gw_b where {pair})"
        )
        gone = "rowid in (select _gw_id from _removed)"
        if replaced_key:
            # Nulls in a key equal each other, as the conditions of a scope may be null.
            equal = " and ".join(
                f"_gw_a.{k} is not distinct from _gw_r.{k}" for k in map(identifier, replaced_key)
            )
            gone = (
                f"rowid in (select _gw_r.rowid from {self.relation} _gw_r "
                f"where exists (select 1 from _added _gw_a where {equal}) "
                f"and (_gw_r.rowid in (select _gw_id from _removed) or ({scope}) is not true))"
            )
        done = con.execute(f"delete from {self.relation} where {gone}").fetchall()
        removed = int(done[0][0])
        total = _count(con, "_incoming")
        added = _count(con, "_added")
        if added:
            self._add_rows(list(content), stamp, window)
        for name in ("_incoming", "_existing", "_added", "_removed"):
            con.execute(f"drop table if exists temp.{name}")
        return Change(added, removed, total - added)

    def _add_rows(self, columns: list[str], stamp: Stamp, window: Window | None) -> None:
        rows, late = "select * from _added order by _gw_n", None
        if stamp.is_reread:
            same = (
                f"_gw_e._source_uri = {literal(stamp.source_uri)} "
                f"and _gw_e._source_sha256 = {literal(stamp.sha256)}"
            )
            rows = (
                "select _gw_a.*, _gw_e._gw_id is not null as _gw_was_here, _gw_e._late_at as _gw_was_late "
                f"from _added _gw_a left join _existing _gw_e on {same} and _gw_e._row_number = _gw_a._gw_n"
            )
            late = f"case when _gw_was_here then _gw_was_late else {self._late(stamp, window)} end"
        self.insert(rows, columns, stamp, window, late=late)


def _exact(value: str, data_type: str) -> list[str]:
    """SQL that is equal for two values of a type only if they are the same value: -0.0 equals 0.0."""
    kind = data_type.lower()
    if kind in {"double", "float"}:
        return [value, f"({value} = 0 and signbit({value}))"]
    if any(name in kind for name in ("double", "float")):
        return [value, f"{value}::varchar"]
    return [value]


def _count(con: duckdb.DuckDBPyConnection, name: str) -> int:
    return int(con.execute(f"select count(*) from {name}").fetchall()[0][0])
