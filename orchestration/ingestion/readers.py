"""From a plain file to SQL that reads its rows, with nothing left for DuckDB to guess.

What belongs here: one function a format, each giving a ``Reading``. What does not: what is done with
the rows.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.declarations import Table, TypeTree
from orchestration.ingestion.contract import casts, check_columns, path_values
from orchestration.ingestion.delivery import MAX_LINE, TextFacts, text_facts
from orchestration.ingestion.faults import IngestFault, shown
from orchestration.ingestion.nested_casts import literal_numbers, number_text, repeats_key
from orchestration.ingestion.number_text import lossy_line
from orchestration.ingestion.parquet_range import beyond_range
from orchestration.ingestion.parquet_types import lost_nanoseconds, parquet_types
from orchestration.ingestion.reading import ROW_NUMBER, Reading
from orchestration.sql import folded, identifier, listing, literal

MAX_REJECTS = 1_000_000
"""Unreadable rows of one file that are kept; more fail the file."""

Parts = Sequence[tuple[str, str]]
"""The ``key=value`` folders of a file's path."""

_NO_TEXT = chr(30)
_scan_numbers: Iterator[int] = count(1)


def masked_columns(table: Table) -> frozenset[str]:
    """The columns whose values appear in no message."""
    return frozenset(c.name for c in table.columns if c.is_classified)


def _scan_options(facts: TextFacts, number: int | None) -> str:
    """Options of a text scan: a broken row ends the scan, or goes to the rejects table with ``number``."""
    rejects = "" if number is None else (
        f", store_rejects=true, rejects_table='_rejects_{number}', rejects_scan='_scans_{number}', "
        f"rejects_limit={MAX_REJECTS}"
    )  # fmt: skip
    return (
        f"auto_detect=false, strict_mode=true, null_padding=false, hive_partitioning=false, "
        f"{facts.newline_option}max_line_size={MAX_LINE + 2}{rejects}"
    )


def _empty(table: Table, label: str) -> Reading:
    """The reading of a text file without content, which has no rows."""
    names = ", ".join(f"null::varchar as {identifier(c.name)}" for c in table.columns)
    cells = f"select {names}, false as _gw_skip, false as _gw_broken where false"
    return Reading(
        label=label, cells=cells, careful_cells=cells, casts=casts(table, (), None, label), raw_text="null",
        delivered=0,
    )  # fmt: skip


def _csv_header(path: Path, delimiter: str, label: str) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            header = next(csv.reader(file, delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise IngestFault(f"{label}, line 1", f"no header ({error})", "names of columns") from error
    if any("�" in name for name in header):
        raise IngestFault(f"{label}, line 1", "bytes that are not UTF-8", "the declared encoding")
    if any("\0" in name for name in header):
        raise IngestFault(f"{label}, line 1", "a NUL byte", "names of columns")
    return header


def _check_delimiter(header: list[str], table: Table, label: str) -> None:
    if len(header) > 1 or len(table.columns) == 1 or not header:
        return
    others = [d for d in ",;\t|" if d in header[0]]
    if others:
        raise IngestFault(
            f"{label}, header",
            f"one column {shown(header[0])} (is the delimiter {others[0]!r}?)",
            f"{len(table.columns)} columns parted by {table.ingest.delimiter!r}",
        )


def read_csv(
    con: duckdb.DuckDBPyConnection, table: Table, path: Path, label: str, parts: Parts = ()
) -> Reading:
    """A delimited text file with a header; every cell is read as text and cast afterwards.

    Raises:
        IngestFault: Its header is not the declared one.
    """
    facts = text_facts(path, label)
    if facts.is_empty:
        return _empty(table, label)
    ingest = table.ingest
    header = _csv_header(path, ingest.delimiter, label)
    _check_delimiter(header, table, label)
    given = path_values(table, header, parts, label)
    new = check_columns(table, [*header, *given], label)
    wanted = {
        name: literal(given[name]) + "::varchar" if name in given else f"c{header.index(name)}"
        for name in (*(c.name for c in table.columns), *new)
    }
    number = next(_scan_numbers)
    texts = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(header)))

    def scan(nulls: tuple[str, ...], number: int | None) -> str:
        return (
            f"read_csv({literal(str(path))}, columns={{{texts}}}, header=true, "
            f"delim={literal(ingest.delimiter)}, quote='\"', escape='\"', nullstr={listing(nulls)}, "
            f"{_scan_options(facts, number)})"
        )

    fast = ", ".join(f"{c} as {identifier(n)}" for n, c in wanted.items())
    careful = ", ".join(
        f"{c if n in given else _without(ingest.null_values, c)} as {identifier(n)}"
        for n, c in wanted.items()
    )
    delivered = ", ".join(f"c{i} as _gw_d{i}" for i in range(len(header)))
    # One call for all cells: the depth of a chain of operators would grow with the number of columns.
    special = literal('["\n\r' + _class(ingest.delimiter) + "]")
    quoted = (
        f"case when regexp_matches(x, {special}) then '\"' || replace(x, '\"', '\"\"') || '\"' else x end"
    )
    every = ", ".join(f"coalesce(_gw_d{i}, '')" for i in range(len(header)))
    raw = f"array_to_string(list_transform([{every}], lambda x: {quoted}), {literal(ingest.delimiter)})"
    flags = "false as _gw_skip, false as _gw_broken"
    return Reading(
        label=label,
        cells=f"select {fast}, {flags} from {scan(ingest.null_values, None)}",
        rejecting_cells=f"select {fast}, {flags} from {scan(ingest.null_values, number)}",
        careful_cells=f"select {careful}, {flags}, {delivered} from {scan((_NO_TEXT,), number)}",
        casts=casts(table, new, None, label),
        raw_text=raw,
        delivered=len(header),
        new_columns=new,
        delimiter=ingest.delimiter,
        masked=masked_columns(table),
        rejects=f"_rejects_{number}",
        reject_columns=tuple(header),
        path=path,
        facts=facts,
        header_lines=1 + sum(name.count("\n") for name in header),
    )


def _without(markers: Sequence[str], cell: str) -> str:
    """A cell that is null where it is one of the null markers."""
    is_null = " or ".join(f"{cell} = {literal(marker)}" for marker in markers)
    return f"case when {is_null} then null else {cell} end" if is_null else cell


def _class(character: str) -> str:
    return "\\" + character if character in "^]\\-" else character


def read_jsonl(
    con: duckdb.DuckDBPyConnection, table: Table, path: Path, label: str, parts: Parts = ()
) -> Reading:
    """One JSON object a line; strings and numbers are cast alike, null markers do not apply.

    Raises:
        IngestFault: No object has a declared column.
    """
    facts = text_facts(path, label)
    if facts.is_empty:
        return _empty(table, label)
    number = next(_scan_numbers)

    def lines(number: int | None) -> str:
        return (
            f"select l, coalesce(trim(l) = '', true) as _gw_skip from read_csv({literal(str(path))}, "
            f"columns={{'l': 'VARCHAR'}}, header=false, delim=chr(31), quote='', escape='', "
            f"nullstr=[chr(30)], {_scan_options(facts, number)})"
        )

    keys = con.execute(
        "select k, bool_or(is_repeated) from (select unnest(x) as k, len(x) <> list_unique(x) as is_repeated "
        f"from (select try(json_keys(l)) as x from ({lines(number)}) "
        "where not _gw_skip and starts_with(trim(l), '{'))) group by k order by min(k)"
    ).fetchall()
    broken = "j is null or not starts_with(trim(l), '{')"
    if any(is_repeated for _, is_repeated in keys):
        broken += f" or coalesce({repeats_key('try(l::json)')}, false)"
    con.execute(f"drop table if exists _rejects_{number}")
    con.execute(f"drop table if exists _scans_{number}")
    found = _in_declared_order(table, [k for k, _ in keys])
    given = path_values(table, found, parts, label)
    new = check_columns(table, _in_declared_order(table, [*found, *given]), label) if keys else ()
    names = [n for n in (*(c.name for c in table.columns), *new) if n not in given]
    pointers = listing("/" + n.replace("~", "~0").replace("/", "~1") for n in names)
    cells = ", ".join(
        [f"j[{i}] as {identifier(n)}" for i, n in enumerate(names, 1)]
        + [f"{literal(value)}::varchar as {identifier(n)}" for n, value in given.items()]
    )

    # DuckDB reads numbers as doubles: if that may lose digits, their text is extracted.
    texts = f"try(json_extract_string({literal_numbers('l')}, {pointers}))"
    exact = f"list_transform({texts}, lambda x: {number_text('x')})"
    values = (
        f"case when {lossy_line(table, names)} then {exact} else try(json_extract_string(l, {pointers})) end"
    )

    def source(number: int | None) -> str:
        return (
            f"select {cells}, _gw_skip, not _gw_skip and ({broken}) as _gw_broken, "
            f"l as _gw_d0 from (select l, _gw_skip, {values} as j from ({lines(number)}))"
        )

    return Reading(
        label=label,
        cells=source(None),
        rejecting_cells=source(number),
        careful_cells=source(number),
        casts=casts(table, new, None, label),
        raw_text="_gw_d0",
        delivered=1,
        new_columns=new,
        masked=masked_columns(table),
        rejects=f"_rejects_{number}",
        reject_columns=("",),
        path=path,
        facts=facts,
    )


def _in_declared_order(table: Table, names: list[str]) -> list[str]:
    declared = [c.name for c in table.columns if c.name in names]
    return [*declared, *(n for n in names if n not in declared)]


def read_parquet(
    con: duckdb.DuckDBPyConnection, table: Table, path: Path, label: str, parts: Parts = ()
) -> Reading:
    """A Parquet file.

    Raises:
        IngestFault: It is no whole Parquet file, or a column is missing or has another type.
    """
    file = f"read_parquet({literal(str(path))}, hive_partitioning=false"
    try:
        file_types = parquet_types(con, path)
        ((rows,),) = con.execute(
            f"select num_rows from parquet_file_metadata({literal(str(path))})"
        ).fetchall()
    except duckdb.Error as error:
        raise IngestFault(
            label, f"no readable Parquet file ({shown(str(error), 200)})", "a whole one"
        ) from error
    types = file_types.types
    given = path_values(table, list(types), parts, label)
    new = check_columns(table, [*types, *file_types.doubled, *given], label)
    wanted = {*(c.name for c in table.columns), *new} - given.keys()
    texts = beyond_range(con, path, wanted, label, f"_text_{next(_scan_numbers)}")
    lost = {
        name: _lost_table(con, found)
        for name in file_types.cut
        if name in wanted and (found := lost_nanoseconds(path, name, label)) is not None
    }
    return typed_reading(table, new, types, given, label, file, rows, lost, texts)


def _lost_table(con: duckdb.DuckDBPyConnection, lost: pa.Table) -> str:
    """Create a temporary table of the values that DuckDB would cut off, by row."""
    name = f"_gw_lost_{next(_scan_numbers)}"
    con.register(f"{name}_rows", lost)
    con.execute(f"create or replace temp table {name} as select * from {name}_rows")
    con.unregister(f"{name}_rows")
    return name


def typed_reading(
    table: Table, new: tuple[str, ...], types: Mapping[str, TypeTree] | None,
    given: Mapping[str, str | None], label: str, file: str, rows: int, lost: Mapping[str, str] | None = None,
    whole: Mapping[str, str] | None = None,
) -> Reading:  # fmt: skip
    """The rows of a Parquet file, whose scan ``file`` begins.

    ``given`` has the values of columns that it lacks, ``lost`` the tables with the texts of values that
    DuckDB cuts off, ``whole`` the tables with the texts of columns that DuckDB cannot read.
    """
    lost, whole = lost or {}, whole or {}
    names = [*(c.name for c in table.columns), *new]
    own = [n for n in names if n not in given]
    # DuckDB can number the rows in parallel, unless the file has a column of the same name.
    number, source = "file_row_number", f"{file}, file_row_number=true)"
    if is_hidden := number in map(folded, types or names):
        number, source = "row_number() over () - 1", f"{file})"
    if is_numbered := not is_hidden or bool(lost or whole):
        # Only these columns: others of the file may have any name, or values that cannot be read.
        read = [identifier(n) for n in names if n not in given and n not in whole]
        source = f"(select {', '.join([*read, number])} as {ROW_NUMBER} from {source})"
    cells = []
    for name in names:
        cell = identifier(name)
        if name in given:
            cell = f"{literal(given[name])}::varchar as {cell}"
        elif name in whole:
            cell = f"{whole[name]}._gw_text as {cell}"
        elif name in lost:
            cell = f"coalesce({lost[name]}._gw_text, {cell}::varchar) as {cell}"
        cells.append(cell)
    for table_name in [*lost.values(), *whole.values()]:
        source += f" left join {table_name} using ({ROW_NUMBER})"
    numbered = [ROW_NUMBER] if is_numbered else []
    select = ", ".join([*cells, *numbered, "false as _gw_skip", "false as _gw_broken"])
    texts = {n: f"{table_name}._gw_text" for n, table_name in whole.items()}
    delivered = ", ".join(f"{texts.get(n, identifier(n))} as _gw_d{i}" for i, n in enumerate(own))
    raw = f"to_json({{{', '.join(f'{identifier(n)}: _gw_d{i}' for i, n in enumerate(own))}}})::varchar"
    as_text = dict.fromkeys([*given, *lost, *whole], "varchar")
    values = casts(table, new, types, label, as_text.keys())
    return Reading(
        label=label,
        cells=f"select {select} from {source}",
        careful_cells=f"select {select}, {delivered} from {source}",
        casts=values,
        raw_text=raw,
        delivered=len(own),
        types={n: repr(t) for n, t in (types or {}).items()} | as_text,
        new_columns=new,
        masked=masked_columns(table),
        ordinal=f"{ROW_NUMBER} + 1" if is_numbered else "row_number() over ()",
        rows_in_file=rows,
    )
