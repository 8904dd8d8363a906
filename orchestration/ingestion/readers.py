"""From a plain file to SQL that reads its rows, with nothing left for DuckDB to guess.

What belongs here: one function a format, each giving a ``Reading``. What does not: what is done with
the rows.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

import duckdb

from orchestration.declarations import Table, canonical
from orchestration.ingestion.contract import casts, check_columns, scanned_casts
from orchestration.ingestion.delivery import MAX_LINE, text_facts
from orchestration.ingestion.faults import IngestFault, shown
from orchestration.ingestion.nested_casts import literal_numbers, number_text, scan_type
from orchestration.ingestion.number_text import lossy_line, odd_numbers
from orchestration.ingestion.parquet_types import lost_nanoseconds, parquet_types
from orchestration.ingestion.reading import Reading
from orchestration.sql import identifier, listing, literal

MAX_REJECTS = 1_000_000
"""Unreadable rows of one file that are kept; more fail the file."""


_NO_TEXT = chr(30)
_scan_numbers: Iterator[int] = count(1)


def masked_columns(table: Table) -> frozenset[str]:
    """The columns whose values appear in no message."""
    return frozenset(c.name for c in table.columns if c.is_classified)


def _rejects_options(number: int) -> str:
    return (
        f"store_rejects=true, rejects_table='_rejects_{number}', rejects_scan='_scans_{number}', "
        f"rejects_limit={MAX_REJECTS}, auto_detect=false, strict_mode=true, null_padding=false, "
        f"max_line_size={MAX_LINE + 2}"
    )


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


def read_csv(con: duckdb.DuckDBPyConnection, table: Table, path: Path, label: str) -> Reading:
    """A delimited text file with a header; every cell is read as text and cast afterwards.

    Raises:
        IngestFault: The file is empty, or its header is not the declared one.
    """
    facts = text_facts(path, label)
    ingest = table.ingest
    header = _csv_header(path, ingest.delimiter, label)
    _check_delimiter(header, table, label)
    new = check_columns(table, header, label)
    wanted = {name: f"c{header.index(name)}" for name in (*(c.name for c in table.columns), *new)}
    number = next(_scan_numbers)
    scan_types = _scan_types(table, path)
    texts = {f"c{i}": "VARCHAR" for i in range(len(header))}

    def scan(types: Mapping[str, str], nulls: tuple[str, ...]) -> str:
        columns = ", ".join(f"{literal(name)}: '{data_type}'" for name, data_type in types.items())
        return (
            f"read_csv({literal(str(path))}, columns={{{columns}}}, header=true, "
            f"delim={literal(ingest.delimiter)}, quote='\"', escape='\"', nullstr={listing(nulls)}, "
            f"{_rejects_options(number)})"
        )

    special_characters = literal('["\n\r' + _class(ingest.delimiter) + "]")

    def quoted(cell: str) -> str:
        text = f"coalesce({cell}, '')"
        special = f"regexp_matches({text}, {special_characters})"
        return f"case when {special} then '\"' || replace({text}, '\"', '\"\"') || '\"' else {text} end"

    nulls = listing(ingest.null_values)
    fast = [f"{c} as {identifier(n)}" for n, c in wanted.items()]
    careful = [f"if(list_contains({nulls}, {c}), null, {c}) as {identifier(n)}" for n, c in wanted.items()]
    raw = f" || {literal(ingest.delimiter)} || ".join(quoted(f"c{i}") for i in range(len(header)))
    flags = "false as _skip, false as _broken"
    return Reading(
        label=label,
        cells=f"select {', '.join(fast)}, {flags} from {scan(texts | {wanted[n]: t for n, t in scan_types.items()}, ingest.null_values)}",
        careful_cells=f"select {', '.join(careful)}, {flags}, {raw} as _raw_text "
        f"from {scan(texts, (_NO_TEXT,))}",
        casts=scanned_casts(table, new, scan_types),
        careful_casts=casts(table, new, None, label),
        new_columns=new,
        masked=masked_columns(table),
        rejects=f"_rejects_{number}",
        reject_columns=tuple(header),
        path=path,
        facts=facts,
        header_lines=1 + sum(name.count("\n") for name in header),
    )


def _scan_types(table: Table, path: Path) -> dict[str, str]:
    """The type as which DuckDB reads each declared column of a CSV file."""
    usual = {c.name: scan_type(c.data_type) for c in table.columns}
    if "DOUBLE" not in usual.values():
        return usual
    odd = odd_numbers(path)
    return {
        c.name: scan_type(
            c.data_type,
            has_odd_numbers=odd.for_doubles if canonical(c.data_type) == "double" else odd.for_integers,
        )
        for c in table.columns
    }


def _class(character: str) -> str:
    return "\\" + character if character in "^]\\-" else character


def read_jsonl(con: duckdb.DuckDBPyConnection, table: Table, path: Path, label: str) -> Reading:
    """One JSON object a line; strings and numbers are cast alike, null markers do not apply.

    Raises:
        IngestFault: The file is empty, or no object has a declared column.
    """
    facts = text_facts(path, label)
    number = next(_scan_numbers)
    lines = (
        f"select l, coalesce(trim(l) = '', true) as _skip from read_csv({literal(str(path))}, "
        f"columns={{'l': 'VARCHAR'}}, header=false, delim=chr(31), quote='', escape='', "
        f"nullstr=[chr(30)], {_rejects_options(number)})"
    )
    keys = con.execute(
        f"select k, count(*) from (select unnest(try(json_keys(l))) as k from ({lines}) "
        "where not _skip and starts_with(trim(l), '{')) group by k order by min(k)"
    ).fetchall()
    con.execute(f"drop table if exists _rejects_{number}")
    con.execute(f"drop table if exists _scans_{number}")
    new = check_columns(table, _in_declared_order(table, [k for k, _ in keys]), label) if keys else ()
    names = (*(c.name for c in table.columns), *new)
    pointers = listing("/" + n.replace("~", "~0").replace("/", "~1") for n in names)
    cells = ", ".join(f"j[{i}] as {identifier(n)}" for i, n in enumerate(names, 1))
    # DuckDB reads numbers as doubles: where that may lose something, their text is extracted.
    texts = f"try(json_extract_string({literal_numbers('l')}, {pointers}))"
    exact = f"list_transform({texts}, lambda x: {number_text('x')})"
    source = (
        f"select {cells}, _skip, not _skip and (j is null or not starts_with(trim(l), '{{')) as _broken, "
        f"l as _raw_text from (select l, _skip, case when {lossy_line(table, names)} then {exact} "
        f"else try(json_extract_string(l, {pointers})) end as j from ({lines}))"
    )
    values = casts(table, new, None, label)
    return Reading(
        label=label,
        cells=source,
        careful_cells=source,
        casts=values,
        careful_casts=values,
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


def read_parquet(con: duckdb.DuckDBPyConnection, table: Table, path: Path, label: str) -> Reading:
    """A Parquet file.

    Raises:
        IngestFault: It is no whole Parquet file, or a column is missing or has another type.
    """
    source = f"read_parquet({literal(str(path))}, file_row_number=true)"
    try:
        types, cut = parquet_types(con, path)
    except duckdb.Error as error:
        raise IngestFault(
            label, f"no readable Parquet file ({shown(str(error), 200)})", "a whole one"
        ) from error
    new = check_columns(table, list(types), label)
    names = [identifier(n) for n in (*(c.name for c in table.columns), *new)]
    cells = f"select {', '.join(names)}, file_row_number, false as _skip, false as _broken"
    raw = f"to_json({{{', '.join(f'{n}: {n}' for n in names)}}})::varchar as _raw_text"
    values = casts(table, new, types, label)
    for column in (n for n in cut if n in values):
        lost = lost_nanoseconds(con, path, column, label)
        if lost is not None:
            number = next(_scan_numbers)
            con.execute(f"create or replace temp table _lost_{number} as select * from lost")
            cells += f", _lost_{number}.text as _text_{number}"
            source += f" left join _lost_{number} on _lost_{number}.row = file_row_number"
            declared = values[column]
            values[column] = replace(
                declared, is_bad=f"(_text_{number} is not null or {declared.is_bad})", found=f"_text_{number}"
            )
    return Reading(
        label=label,
        cells=f"{cells} from {source}",
        careful_cells=f"{cells}, {raw} from {source}",
        casts=values,
        careful_casts=values,
        new_columns=new,
        masked=masked_columns(table),
        ordinal="file_row_number + 1",
    )
