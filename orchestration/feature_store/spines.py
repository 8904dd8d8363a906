"""What callers give as an ``entity_df``, as an Arrow table in the caller's order.

What belongs here: the forms an ``entity_df`` may have. What does not: what its columns mean (``offline``).
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

Spine: TypeAlias = "pa.Table | pa.RecordBatch | Path | str | Any"
"""A pandas DataFrame, a polars DataFrame or LazyFrame, a DuckDB relation, an Arrow table, batch, reader or
anything else with an Arrow stream, a list of dicts, a dict of lists, the path of a Parquet file or of a
folder of them, or SQL over the lakehouse."""

_EXPECTED = (
    "a pandas or polars DataFrame, an Arrow table, a DuckDB relation, a list of dicts, the path of a Parquet "
    "file, or SQL"
)
_SQL = re.compile(
    r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*[(]*\s*"
    r"(?:select|from|with|values|table|pivot|unpivot|describe|show|summarize)\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class SpineRows:
    """The rows of an ``entity_df``; ``index`` is that of a pandas DataFrame."""

    table: pa.Table
    index: Any = None


def _is_instance(value: object, module: str, name: str) -> bool:
    """Whether a value is of a class of a module, which is imported if it is."""
    found = sys.modules.get(module)
    return found is not None and isinstance(value, getattr(found, name))


def _parquet(path: Path) -> pa.Table:
    from pyarrow import parquet  # noqa: PLC0415  # who gives no path need not wait for it

    try:
        # A key=value folder in the path is not a column of the file.
        return parquet.read_table(path, partitioning=None)
    except pa.ArrowInvalid as fault:
        raise ValueError(
            f"entity_df: found {path}, which is not a Parquet file ({fault}), expected {_EXPECTED}"
        ) from fault


def _text(value: str, run_sql: "Callable[[str], duckdb.DuckDBPyConnection]") -> pa.Table:
    if _SQL.match(value):
        return run_sql(value).to_arrow_table()
    if value.endswith(".parquet"):
        return _parquet(Path(value))
    shown = value if len(value) <= 80 else f"{value[:77]}..."
    raise ValueError(
        f"entity_df: found the text {shown!r}, which is neither a SQL query nor the path of a Parquet file, "
        f"expected {_EXPECTED}; read files of other formats into a DataFrame first"
    )


def _of_pandas(frame: Any) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError) as fault:
        raise ValueError(f"entity_df: found a DataFrame that Arrow cannot hold: {fault}") from fault


def _rows(value: list[Any]) -> pa.Table:
    for number, row in enumerate(value):
        if not isinstance(row, Mapping):
            raise TypeError(
                f"entity_df: [{number}]: found {type(row).__qualname__}, expected a dict of values by column"
            )
    names = list(dict.fromkeys(str(name) for row in value for name in row))
    return _lists({name: [row.get(name) for row in value] for name in names})


def _lists(value: Mapping[str, Any]) -> pa.Table:
    arrays = {}
    for name, values in value.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowException, OverflowError) as fault:
            raise ValueError(
                f"entity_df: {name}: found values of different types ({fault}), expected one type"
            ) from fault
    lengths = {len(values) for values in arrays.values()}
    if len(lengths) > 1:
        raise ValueError(
            f"entity_df: found columns of different lengths {sorted(lengths)}, expected one length"
        )
    return pa.table(arrays)


def _streamed(value: Any) -> pa.Table | None:
    """The rows of a value that exports an Arrow stream; None for any other value."""
    if _is_instance(value, "polars", "LazyFrame"):
        value = value.collect()
    if _is_instance(value, "polars", "DataFrame"):
        return value.to_arrow()
    if not hasattr(value, "__arrow_c_stream__"):
        return None
    return pa.RecordBatchReader.from_stream(value).read_all()


def read_spine(value: Spine, run_sql: "Callable[[str], duckdb.DuckDBPyConnection]") -> SpineRows:
    """The rows of an ``entity_df``, all of its columns, in its order.

    A string is SQL or a path that ends with ``.parquet``; rows of SQL have an order only with ``order by``.

    Raises:
        TypeError: It has none of the forms.
        ValueError: Two columns have the same name, a string is neither SQL nor a path of a Parquet file, or
            the values of a column have different types.
        FileNotFoundError: There is no file at the path.
        duckdb.Error: The SQL cannot be run.
    """
    index = None
    if isinstance(value, pa.Table):
        table = value
    elif isinstance(value, pa.RecordBatch):
        table = pa.Table.from_batches([value])
    elif isinstance(value, Path):
        table = _parquet(value)
    elif isinstance(value, str):
        table = _text(value, run_sql)
    elif _is_instance(value, "pandas", "DataFrame"):
        table, index = _of_pandas(value), value.index
    elif isinstance(value, list):
        table = _rows(value)
    elif isinstance(value, Mapping):
        table = _lists(value)
    else:
        found = _streamed(value)
        if found is None:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise TypeError(f"entity_df: found {kind}, expected {_EXPECTED}")
        table = found
    twice = {name for name in table.column_names if table.column_names.count(name) > 1}
    if twice:
        raise ValueError(f"entity_df: found {', '.join(sorted(twice))} twice, expected each column once")
    return SpineRows(table, index)
