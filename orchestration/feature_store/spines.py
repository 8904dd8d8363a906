"""What callers give as an ``entity_df``, as an Arrow table in the caller's order.

What belongs here: the forms an ``entity_df`` may have. What does not: what its columns mean (``offline``).
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

Spine: TypeAlias = "pa.Table | pa.RecordBatch | Path | str | Any"
"""An Arrow table or batch, a pandas or polars DataFrame, the path of a Parquet file or of a folder of
them, or SQL over the lakehouse."""


def _is_instance(value: object, module: str, name: str) -> bool:
    """Whether a value is of a class of a module, which is imported if it is."""
    found = sys.modules.get(module)
    return found is not None and isinstance(value, getattr(found, name))


def _parquet(path: Path) -> pa.Table:
    from pyarrow import parquet  # noqa: PLC0415  # who gives no path need not wait for it

    return parquet.read_table(path)


def read_spine(value: Spine, run_sql: "Callable[[str], duckdb.DuckDBPyConnection]") -> pa.Table:
    """The rows of an ``entity_df``, all of its columns, in its order.

    A text is SQL, unless it ends with ``.parquet``; only ``order by`` gives the rows of SQL an order.

    Raises:
        TypeError: It has none of the forms.
        ValueError: Two of its columns have one name.
        FileNotFoundError: There is no file at the path.
        duckdb.Error: The SQL cannot be run.
    """
    if isinstance(value, pa.Table):
        table = value
    elif isinstance(value, pa.RecordBatch):
        table = pa.Table.from_batches([value])
    elif isinstance(value, Path) or (isinstance(value, str) and value.endswith(".parquet")):
        table = _parquet(Path(value))
    elif isinstance(value, str):
        table = run_sql(value).to_arrow_table()
    elif _is_instance(value, "pandas", "DataFrame"):
        table = pa.Table.from_pandas(value, preserve_index=False)
    elif _is_instance(value, "polars", "DataFrame"):
        table = value.to_arrow()
    else:
        raise TypeError(
            f"entity_df: found {type(value).__module__}.{type(value).__qualname__}, expected a pandas or "
            "polars DataFrame, an Arrow table, the path of a Parquet file, or SQL"
        )
    twice = {name for name in table.column_names if table.column_names.count(name) > 1}
    if twice:
        raise ValueError(f"entity_df: found {', '.join(sorted(twice))} twice, expected each column once")
    return table
