"""Dates and times of a Parquet file that DuckDB cannot hold: reading one ends the scan, or makes no value.

What belongs here: finding such values, and the text of their column. What does not: nanoseconds.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from orchestration.ingestion.faults import IngestFault
from orchestration.sql import identifier

_ENDLESS = 2**63 - 1
_LEAST_MICROS = -9_223_372_022_400_000_000
_DAY_MICROS = 86_400_000_000
_MICROS = {"milliseconds": 1000, "microseconds": 1}


@dataclass(frozen=True)
class _Range:
    """The numbers of a column of dates or times that DuckDB reads as values.

    Attributes:
        least: The smallest of them, in the unit of the file.
        most: The greatest of them.
        unit: The unit, in words.
        text: SQL that writes such a number ``n`` as text that is cast to the declared type.
        endless: The number that DuckDB reads as minus infinity, below ``least``; None if there is none.
    """

    least: int
    most: int
    unit: str
    text: str
    endless: int | None = None


def _range(kind: dict[str, object]) -> _Range | None:
    """The range of a logical type, as Parquet describes it; None where DuckDB holds every value."""
    if kind["Type"] == "Date":
        text = (
            f"case when abs(n) = {2**31 - 1} then if(n > 0, 'infinity', '-infinity') "
            "else (date '1970-01-01' + n::integer)::varchar end"
        )
        return _Range(-(2**31) + 1, 2**31 - 1, "days since 1970-01-01", text)
    factor = _MICROS.get(str(kind.get("timeUnit")))
    if factor is None:
        return None
    unit = str(kind["timeUnit"])
    if kind["Type"] == "Time":
        text = f"(time '00:00:00' + to_microseconds(n * {factor}))::varchar"
        return _Range(0, _DAY_MICROS // factor - 1, f"{unit} since midnight", text)
    if kind["Type"] != "Timestamp":
        return None
    # DuckDB prints the microseconds of an instant after the year 200000 wrongly, those of a timestamp not.
    text = f"make_timestamp(n * {factor})::varchar" + (" || '+00'" if kind["isAdjustedToUTC"] else "")
    if factor == 1:
        text = f"case when abs(n) = {_ENDLESS} then if(n > 0, 'infinity', '-infinity') else {text} end"
    endless = -_ENDLESS if factor == 1 else None
    return _Range(-(-_LEAST_MICROS // factor), _ENDLESS // factor, f"{unit} since 1970-01-01", text, endless)


def _suspects(file: parquet.ParquetFile, columns: Collection[str]) -> Iterator[tuple[str, bool, _Range]]:
    """The columns whose statistics do not exclude such values, and whether they are nested."""
    metadata = file.metadata
    for at in range(metadata.num_columns):
        leaf = file.schema.column(at)
        kind = json.loads(leaf.logical_type.to_json())
        limits = _range(kind) if isinstance(kind, dict) else None
        # A name may hold a point, which also joins the names on the path to a nested leaf.
        column = leaf.path if leaf.path in columns else None
        column = column or next((c for c in columns if leaf.path.startswith(f"{c}.")), None)
        if limits is None or column is None:
            continue
        for group in range(metadata.num_row_groups):
            found = metadata.row_group(group).column(at).statistics
            if found is None or not found.has_min_max:
                is_within = metadata.row_group(group).num_rows == 0
            else:
                is_within = limits.least <= found.min_raw and found.max_raw <= limits.most
            if not is_within:
                yield column, column != leaf.path, limits
                break


def _is_beyond(numbers: pa.Array, limits: _Range) -> pa.Array:
    beyond = pc.or_(pc.less(numbers, limits.least), pc.greater(numbers, limits.most))
    if limits.endless is not None:
        beyond = pc.and_(beyond, pc.not_equal(numbers, limits.endless))
    return pc.fill_null(beyond, False)


def _numbers(values: pa.Array) -> pa.Array:
    width = pa.int32() if values.type.bit_width == 32 else pa.int64()
    return values.cast(width).cast(pa.int64())


def beyond_range(
    con: duckdb.DuckDBPyConnection, path: Path, columns: Collection[str], label: str, prefix: str
) -> dict[str, str]:
    """Read the columns that hold a value beyond DuckDB's range into temporary tables, as text.

    Args:
        con: The connection that gets the tables.
        path: The Parquet file.
        columns: The columns to look at.
        label: The file, for messages.
        prefix: What the names of the tables begin with.

    Returns:
        By column its table: ``_gw_row`` (from 0) and ``_gw_text`` of each row.

    Raises:
        IngestFault: There is such a value inside a nested column.
    """
    tables: dict[str, str] = {}
    with parquet.ParquetFile(path) as file:
        for column, is_nested, limits in list(_suspects(file, columns)):
            if is_nested:
                # Statistics of one leaf: the values themselves are inside lists, structs and maps.
                raise IngestFault(
                    f"{label}, column {column!r}",
                    f"a value beyond {limits.least:,} to {limits.most:,} {limits.unit}",
                    "values in this range inside a nested column",
                )
            batches = [_numbers(batch.column(0)) for batch in file.iter_batches(columns=[column])]
            numbers = pa.chunked_array(batches, pa.int64())
            beyond = _is_beyond(numbers, limits)
            if not pc.any(beyond).as_py():
                continue
            name = f"{prefix}_{len(tables)}"
            con.register(
                f"{name}_rows",
                pa.table(
                    {"_gw_row": pa.array(range(len(numbers)), pa.int64()), "n": numbers, "is_beyond": beyond}
                ),
            )
            con.execute(
                f"create or replace temp table {identifier(name)} as select _gw_row, case when is_beyond "
                f"then n || ' {limits.unit}' else {limits.text} end as _gw_text from {name}_rows"
            )
            con.unregister(f"{name}_rows")
            tables[column] = name
    return tables
