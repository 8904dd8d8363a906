"""Rows that DuckLake stored in its catalog: restore those that it reads wrong, then move all to files.

Up to the previous release DuckLake inlined writes of at most ten rows. It stores a struct as a SQL literal,
``{'x': CAST('2024-01-02' AS DATE), 'y': 'it''s'}``, and reads it back as a cast from text, which fails or
drops quotes (duckdb/ducklake#1435). The literal is exact: it is parsed, and written as text that the cast
reads.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import duckdb
from duckdb.sqltypes import DuckDBPyType

from orchestration.declarations import altered_type
from orchestration.lakehouse.attachment import LAKE
from orchestration.lakehouse.tables import describe_table
from orchestration.sql import identifier, literal

_CATALOG = f"__ducklake_metadata_{LAKE}"
_RESTORED = "groundwork_restored_rows"
"""The table of rows that already hold text that the cast reads, in case the process dies before the move."""
_TEXT_TYPES = ("list", "array", "map")


@dataclass(frozen=True)
class InlinedRows:
    """Rows of one table that stay in the catalog, with the reason."""

    schema: str
    table: str
    rows: int
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.schema}.{self.table}: {self.rows} rows stay in the catalog: {self.reason}; "
            "drop the table and rebuild it (README, 'Tables to build again')"
        )


class StructLiteralError(ValueError):
    """The text is not a literal of the struct."""


def _constant(text: str) -> str:
    """SQL of a text; a SQL literal cannot hold a zero byte."""
    return "(" + " || chr(0) || ".join(map(literal, text.split("\0"))) + ")"


class _Literal:
    """Parses one literal into a SQL expression that has only constants."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def expression(self, data_type: DuckDBPyType) -> str:
        """The whole text as an expression."""
        expression = self._value(data_type)
        if self._at != len(self._text):
            raise StructLiteralError(f"expected its end at {self._at}")
        return expression

    def _take(self, token: str) -> bool:
        found = self._text.startswith(token, self._at)
        self._at += len(token) if found else 0
        return found

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise StructLiteralError(f"expected {token!r} at {self._at}")

    def _value(self, data_type: DuckDBPyType) -> str:
        if self._take("NULL"):
            return f"cast(null as {data_type})"
        if data_type.id == "struct":
            return self._struct(data_type)
        if data_type.id in _TEXT_TYPES:
            return f"cast({_constant(self._brackets())} as {data_type})"
        return f"cast({self._scalar()} as {data_type})"

    def _struct(self, data_type: DuckDBPyType) -> str:
        fields = dict(data_type.children)
        self._expect("{")
        values = []
        while True:
            name = self._string()
            if name not in fields:
                raise StructLiteralError(f"found field {name!r}, expected one of {data_type}")
            self._expect(": ")
            values.append(f"{identifier(name)} := {self._value(fields[name])}")
            if not self._take(", "):
                break
        self._expect("}")
        return f"struct_pack({', '.join(values)})"

    def _scalar(self) -> str:
        if self._take("CAST("):
            text = self._string()
            self._expect(" AS ")
            self._at = self._text.find(")", self._at) + 1 or len(self._text) + 1
            return _constant(text)
        if self._take("chr(0)"):
            return "chr(0)"
        if self._text.startswith("'", self._at):
            return _constant(self._string())
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in ",}":
            self._at += 1
        return _constant(self._text[start : self._at])

    def _string(self) -> str:
        """A quoted string, in which a quote is doubled."""
        self._expect("'")
        parts = []
        while True:
            end = self._text.find("'", self._at)
            if end < 0:
                raise StructLiteralError(f"expected the end of a string after {self._at}")
            parts.append(self._text[self._at : end])
            self._at = end + 1
            if not self._take("'"):
                return "'".join(parts)

    def _brackets(self) -> str:
        """A list or map as DuckDB casts it to text: quoted parts escape with a backslash."""
        start, depth, is_quoted = self._at, 0, False
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if is_quoted:
                self._at += char == "\\"
                is_quoted = char != "'"
            elif char == "'":
                is_quoted = True
            elif char in "[{":
                depth += 1
            elif char in "]}":
                depth -= 1
                if not depth:
                    return self._text[start : self._at]
        raise StructLiteralError(f"expected the end of brackets after {start}")


def readable_text(con: duckdb.DuckDBPyConnection, text: str, data_type: DuckDBPyType) -> str:
    """The struct of a literal as text that a cast to its type reads as the same value.

    Raises:
        StructLiteralError: The text is not such a literal, or no text is read as its value.
    """
    value = f"select cast({_Literal(text).expression(data_type)} as {data_type}) as v"
    try:
        found, is_same = con.execute(
            f"select v::varchar, cast(v::varchar as {data_type}) is not distinct from v from ({value})"
        ).fetchall()[0]
    except duckdb.Error as error:
        raise StructLiteralError(f"expected a value of {data_type}, found {type(error).__name__}") from None
    if not is_same:
        raise StructLiteralError("expected text that reads as the same value, found none")
    return str(found)


@dataclass(frozen=True)
class _InlinedTable:
    """A table of the catalog with inlined rows of one table of the lakehouse."""

    name: str
    table_id: int
    schema: str
    table: str


def flush_inlined_rows(con: duckdb.DuckDBPyConnection) -> list[InlinedRows]:
    """Move inlined rows and deletes from the catalog to files; snapshots do not change.

    Returns:
        The rows that stay in the catalog: they cannot be restored, or a file would alter them.
    """
    live = _live_tables(con)
    if not live:
        return []
    tables = _inlined_tables(con)
    kept = [rows for table in tables if (rows := _restore(con, table)) is not None]
    _flush(con, live, {(rows.schema, rows.table) for rows in kept})
    return kept


def _flush(
    con: duckdb.DuckDBPyConnection, tables: Sequence[tuple[str, str]], apart: Collection[tuple[str, str]]
) -> None:
    """Move the inlined rows of tables to files, except those of the tables in ``apart``."""
    if not apart:
        con.execute(f"call ducklake_flush_inlined_data('{LAKE}')")
        return
    for schema, table in tables:
        if (schema, table) not in apart:
            con.execute(
                f"call ducklake_flush_inlined_data('{LAKE}', schema_name => {literal(schema)}, "
                f"table_name => {literal(table)})"
            )


def _live_tables(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    rows = con.execute(
        f"select s.schema_name, t.table_name from {_CATALOG}.ducklake_table t "
        f"join {_CATALOG}.ducklake_schema s using (schema_id) where t.end_snapshot is null order by all"
    ).fetchall()
    return [(schema, table) for schema, table in rows]


def _inlined_tables(con: duckdb.DuckDBPyConnection) -> list[_InlinedTable]:
    rows = con.execute(
        f"select i.table_name, i.table_id, s.schema_name, t.table_name "
        f"from {_CATALOG}.ducklake_inlined_data_tables i join {_CATALOG}.ducklake_table t using (table_id) "
        f"join {_CATALOG}.ducklake_schema s using (schema_id) where t.end_snapshot is null order by all"
    ).fetchall()
    return [_InlinedTable(*row) for row in rows]


def _restore(con: duckdb.DuckDBPyConnection, inlined: _InlinedTable) -> InlinedRows | None:
    """Rewrite the structs of an inlined table as readable text; return the rows that cannot move, if any."""
    (count,) = con.execute(f"select count(*) from {_CATALOG}.{identifier(inlined.name)}").fetchall()[0]
    if not count:
        return None
    types = {c.name: c.data_type for c in describe_table(con, inlined.schema, inlined.table)}
    altered = sorted(n for n, t in types.items() if altered_type(t) is not None)
    if altered:
        reason = f"a file would alter the values of {', '.join(f'{n} ({types[n]})' for n in altered)}"
        return InlinedRows(inlined.schema, inlined.table, count, reason)
    structs = con.execute(
        f"select distinct was.column_name, now.column_name from {_CATALOG}.ducklake_column was "
        f"join {_CATALOG}.ducklake_column now using (table_id, column_id) "
        f"where table_id = {inlined.table_id} and was.column_type = 'struct' and was.parent_column is null "
        f"and now.end_snapshot is null"
    ).fetchall()
    held = {name for name, *_ in con.execute(f"describe {_CATALOG}.{identifier(inlined.name)}").fetchall()}
    columns = [(was, types[now]) for was, now in structs if was in held and now in types]
    if not columns:
        return None
    try:
        _rewrite_structs(con, inlined, columns)
    except StructLiteralError as error:
        return InlinedRows(inlined.schema, inlined.table, count, str(error))
    return None


def _rewrite_structs(
    con: duckdb.DuckDBPyConnection, inlined: _InlinedTable, columns: Sequence[tuple[str, str]]
) -> None:
    relation = f"{_CATALOG}.{identifier(inlined.name)}"
    marks = f"{_CATALOG}.{_RESTORED}"
    con.execute(f"create table if not exists {marks} (name varchar, row_id bigint, begin_snapshot bigint)")
    names = ", ".join(f"r.{identifier(name)}" for name, _ in columns)
    rows = con.execute(
        f"select r.row_id, r.begin_snapshot, {names} from {relation} r left join {marks} m "
        f"on m.name = {literal(inlined.name)} and m.row_id = r.row_id "
        "and m.begin_snapshot = r.begin_snapshot where m.name is null"
    ).fetchall()
    restored = []
    with duckdb.connect() as sandbox:
        sandbox.execute("set timezone = 'UTC'")
        kinds = [sandbox.type(data_type) for _, data_type in columns]
        for row_id, begin, *texts in rows:
            found: list[str | None] = []
            for (name, _), text, kind in zip(columns, texts, kinds, strict=True):
                try:
                    found.append(None if text is None else readable_text(sandbox, text, kind))
                except StructLiteralError as error:
                    raise StructLiteralError(f"column {name}, row {row_id}: {error}") from None
            restored.append((*found, row_id, begin))
    assignments = ", ".join(f"{identifier(name)} = ?" for name, _ in columns)
    con.execute("begin")
    try:
        for values in restored:
            con.execute(
                f"update {relation} set {assignments} where row_id = ? and begin_snapshot = ?", list(values)
            )
            con.execute(f"insert into {marks} values (?, ?, ?)", [inlined.name, *values[-2:]])
        con.execute("commit")
    except BaseException:
        con.execute("rollback")
        raise
