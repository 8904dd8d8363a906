"""The delivered types of a Parquet file, including what DuckDB does not report.

What belongs here: columns that can hold only nulls, and nanoseconds that DuckDB cuts off. What does not:
rows.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from orchestration.declarations import TypeTree, type_tree
from orchestration.ingestion.faults import IngestFault
from orchestration.ingestion.nested_casts import MOST_DIGITS, NULL
from orchestration.sql import literal

_CUT = {"timestamptz", "time", "timestamp"}
"""Types in which DuckDB cuts nanoseconds off to microseconds."""


@dataclass(frozen=True)
class _Node:
    """A node of a file's schema."""

    name: str
    is_null: bool
    has_nanoseconds: bool
    digits: tuple[int, int] | None
    is_repeated: bool
    children: tuple["_Node", ...]


def _nodes(rows: list[tuple[str, str, str, int | None, str, int | None, int | None]]) -> _Node:
    """The schema tree from its rows, which are in depth-first order."""
    name, physical, repetition, number, logical, precision, scale = rows.pop(0)
    children = tuple(_nodes(rows) for _ in range(number or 0))
    nanoseconds = physical == "INT96" or "NanoSeconds" in (logical or "")
    digits = None if precision is None else (precision, scale or 0)
    return _Node(name, logical == "NullType()", nanoseconds, digits, repetition == "REPEATED", children)


def _inner(node: _Node) -> _Node:
    """The element of a list or the entries of a map, below the group that repeats."""
    repeated = node.children[0] if node.children else node
    return repeated.children[0] if len(repeated.children) == 1 else repeated


def _tree(found: TypeTree, node: _Node) -> TypeTree:
    """The type that DuckDB reports, with null types from the schema."""
    if node.is_null:
        return NULL
    if node.digits is not None and node.digits[0] > MOST_DIGITS:
        # DuckDB reads a double, which is not even near.
        return TypeTree("scalar", f"decimal({node.digits[0]},{node.digits[1]})")
    parts: list[tuple[str, TypeTree]] = []
    if found.kind == "struct" and len(found.parts) == len(node.children):
        parts = [(n, _tree(t, child)) for (n, t), child in zip(found.parts, node.children, strict=True)]
    elif found.kind == "list" and node.children:
        parts = [("element", _tree(found.parts[0][1], _inner(node)))]
    elif found.kind == "map" and node.children and len(node.children[0].children) == 2:
        entries = node.children[0].children
        parts = [(n, _tree(t, child)) for (n, t), child in zip(found.parts, entries, strict=True)]
    return TypeTree(found.kind, found.name, tuple(parts)) if parts else found


def _is_cut(found: TypeTree, node: _Node) -> bool:
    if found.kind == "scalar":
        return node.has_nanoseconds and found.name in _CUT
    return any(n.has_nanoseconds for n in _leaves(node)) and any(t in _CUT for t in _names(found))


def _leaves(node: _Node) -> list[_Node]:
    return [leaf for child in node.children for leaf in _leaves(child)] if node.children else [node]


def _names(tree: TypeTree) -> set[str]:
    return set().union(*(_names(t) for _, t in tree.parts)) if tree.parts else {tree.name}


def lost_nanoseconds(path: Path, column: str, label: str) -> pa.Table | None:
    """The values of a column that are not whole microseconds, as row number from 0 and text; None if all are.

    Raises:
        IngestFault: There are such values inside a nested column.
    """
    rows: list[int] = []
    texts: list[str] = []
    start = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[column]):
            values = batch.column(0)
            if pa.types.is_nested(values.type):
                if not _are_whole(values):
                    raise IngestFault(
                        f"{label}, column {column!r}", "nanoseconds", "microseconds inside a nested column"
                    )
            else:
                lost = pc.indices_nonzero(_is_lost(values))
                rows += [start + n for n in lost.to_pylist()]
                texts += values.take(lost).cast(pa.string()).to_pylist()
            start += len(values)
    return pa.table({"_gw_row": rows, "_gw_text": texts}) if rows else None


def _is_lost(values: pa.Array) -> pa.Array:
    if (
        not (pa.types.is_timestamp(values.type) or pa.types.is_time64(values.type))
        or values.type.unit != "ns"
    ):
        return pa.array([False] * len(values))
    numbers = values.cast(pa.int64())
    whole = pc.multiply(pc.divide(numbers, 1000), 1000)
    return pc.fill_null(pc.not_equal(numbers, whole), False)


def _are_whole(values: pa.Array) -> bool:
    if pa.types.is_map(values.type):
        return _are_whole(values.keys) and _are_whole(values.items)
    if pa.types.is_struct(values.type):
        return all(map(_are_whole, values.flatten()))
    if pa.types.is_nested(values.type):
        return _are_whole(values.flatten())
    return not pc.any(_is_lost(values)).as_py()


@dataclass(frozen=True)
class ParquetTypes:
    """The columns of a file.

    Attributes:
        types: The delivered type of each.
        cut: Those whose nanoseconds DuckDB cuts off.
        doubled: Names of another column in capitals or lowercase, which DuckDB reads by a name of its own.
    """

    types: dict[str, TypeTree]
    cut: tuple[str, ...]
    doubled: tuple[str, ...]


def parquet_types(con: duckdb.DuckDBPyConnection, path: Path) -> ParquetTypes:
    """The columns of a file, from DuckDB's description and from the file's own schema."""
    file = literal(str(path))
    found = con.execute(f"describe select * from read_parquet({file}, hive_partitioning=false)").fetchall()
    rows = con.execute(
        f"select name, type, repetition_type, num_children, logical_type, precision, scale "
        f"from parquet_schema({file})"
    ).fetchall()
    nodes = _nodes(list(rows)).children
    types: dict[str, TypeTree] = {}
    cut, doubled = [], []
    for (name, data_type, *_), node in zip(found, nodes, strict=False):
        if name != node.name:
            doubled.append(node.name)
            continue
        tree = type_tree(data_type)
        types[name] = _tree(tree, node)
        if _is_cut(tree, node):
            cut.append(name)
    return ParquetTypes(types, tuple(cut), tuple(doubled))
