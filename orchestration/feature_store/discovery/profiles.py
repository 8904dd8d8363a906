"""How the values of a feature view are distributed: counted in one scan of its table.

What belongs here: the SQL, and from its answer to a profile. What does not: how a profile is shown.

Quantiles are DuckDB's t-digests: near enough for a picture, and one pass over the data. Values of classified
features are counted, never told.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import duckdb

from orchestration.declarations import DeclaredColumn, canonical, list_element
from orchestration.feature_store.views import View
from orchestration.lakehouse.tables import describe_table, relation
from orchestration.sql import identifier

Shape = Literal["numbers", "instants", "booleans", "categories", "lists", "hidden"]

BINS = 24
MAX_CATEGORIES = 200
"""Texts with more distinct values get no distribution."""
SHOWN_CATEGORIES = 8
FEW_NUMBERS = 12
"""Whole numbers with at most so many distinct values are shown value by value."""

_QUANTILES = (0.01, *(n / 50 for n in range(1, 50)), 0.99)
_MEDIAN = _QUANTILES.index(0.5)
_WHOLE = (
    "tinyint",
    "smallint",
    "integer",
    "bigint",
    "hugeint",
    "utinyint",
    "usmallint",
    "uinteger",
    "ubigint",
)
_FRACTIONS = ("double", "float", "real", "decimal", "numeric")


@dataclass(frozen=True)
class Bar:
    """A part of the values: those of one bin, or equal to one value."""

    label: str
    share: float
    """Of the values that are not null."""


@dataclass(frozen=True)
class FeatureProfile:
    """The values of a feature in all rows of its view.

    ``low`` and ``high`` are the smallest and largest value, numbers or, for instants, seconds since 1970;
    ``bars`` part the values between the 1st and the 99th percentile evenly, or tell the most frequent ones.
    ``distinct`` is estimated.
    """

    shape: Shape
    null_share: float
    distinct: int | None = None
    low: float | None = None
    median: float | None = None
    high: float | None = None
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class ViewProfile:
    """The rows of a view, and of how many entities they are."""

    rows: int
    entities: int
    newest: datetime | None
    features: dict[str, FeatureProfile]


def shape_of(column: DeclaredColumn) -> Shape:
    """How the values of a column are shown."""
    base = column.data_type.split("(")[0].strip().lower()
    if column.is_classified:
        return "hidden"
    if list_element(canonical(column.data_type)) is not None:
        return "lists"
    if base == "boolean":
        return "booleans"
    if base in _WHOLE or base in _FRACTIONS:
        return "numbers"
    if base.startswith("timestamp") or base == "date":
        return "instants"
    return "categories"


def _number(column: DeclaredColumn) -> str:
    name = identifier(column.name)
    if shape_of(column) == "instants":
        return f"epoch({name})"
    if column.data_type in ("double", "float", "real"):
        return f"case when isfinite({name}) then {name}::double end"
    return f"{name}::double"


def _facts(column: DeclaredColumn) -> str:
    """A struct of what one scan tells of a column."""
    name, shape = identifier(column.name), shape_of(column)
    parts = [f"'values': count({name})"]
    if shape == "booleans":
        parts.append(f"'true': count_if({name})")
    elif shape != "hidden":
        parts.append(f"'distinct': approx_count_distinct({name})")
    if shape in ("numbers", "instants"):
        number = _number(column)
        quantiles = "[" + ", ".join(map(str, _QUANTILES)) + "]"
        parts += [f"'low': min({number})", f"'high': max({number})"]
        parts.append(f"'quantiles': approx_quantile({number}, {quantiles})")
    return "{" + ", ".join(parts) + "}"


def profile(con: duckdb.DuckDBPyConnection, view: View) -> ViewProfile | None:
    """The profile of a view; None while its table is not there or lacks a declared column.

    Args:
        con: An open connection to the lakehouse.
        view: The view.
    """
    stored = {column.name for column in describe_table(con, view.schema, view.table)}
    if not stored.issuperset([*view.keys, view.timestamp, *(f.name for f in view.features)]):
        return None
    return _profile(con, view, relation(view.schema, view.table))


def profile_newest(con: duckdb.DuckDBPyConnection, view: View, span: timedelta) -> ViewProfile:
    """The profile of a view's newest rows, those no older than ``span`` before the newest of all.

    They are few: to plan all that ``profile`` asks for would cost more than to count here.

    Raises:
        duckdb.Error: There is no such table.
    """
    table, at = relation(view.schema, view.table), identifier(view.timestamp)
    ((latest,),) = con.execute(f"select epoch_us(max({at})) from {table}").fetchall()
    # A literal spares DuckDB the row groups before it.
    first = (latest or 0) - span // timedelta(microseconds=1)
    columns = ", ".join(identifier(c.name) for c in (*view.entity, *view.features))
    found = con.execute(f"select {columns} from {table} where {at} >= make_timestamptz({first})")
    rows = found.to_arrow_table()
    features = {
        column.name: _counted_here(column, rows.column(column.name).combine_chunks())
        for column in view.features
    }
    newest = None if latest is None else datetime.fromtimestamp(latest / 1e6, UTC)
    return ViewProfile(rows.num_rows, rows.select(view.keys).group_by(view.keys).aggregate([]).num_rows,
                       newest, features)  # fmt: skip


def _counted_here(column: DeclaredColumn, values: Any) -> FeatureProfile:
    """The profile of an Arrow array."""
    # Who loads definitions need not wait for these.
    import numpy as np  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    shape, count = shape_of(column), len(values) - values.null_count
    nulls = values.null_count / len(values) if len(values) else 0.0
    if shape == "hidden" or not count:
        return FeatureProfile(shape, nulls)
    values = values.drop_null()
    if shape == "lists":
        return FeatureProfile(shape, nulls, len({str(value) for value in values.to_pylist()}))
    if shape in ("booleans", "categories"):
        pairs = pc.value_counts(values).to_pylist()
        counted = {
            str(p["values"]).lower() if shape == "booleans" else p["values"]: p["counts"] for p in pairs
        }
        return FeatureProfile(shape, nulls, len(counted), bars=tuple(_most_frequent(counted, count)))
    if shape == "instants":
        values = pc.divide(pc.cast(pc.cast(values, "timestamp[us]"), "int64").cast("float64"), 1e6)
    numbers = values.cast("float64").to_numpy(zero_copy_only=False)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return FeatureProfile(shape, nulls)
    low, high = (float(edge) for edge in np.quantile(numbers, (_QUANTILES[0], _QUANTILES[-1])))
    heights, edges = np.histogram(numbers, BINS, (low, high) if low < high else (low - 0.5, low + 0.5))
    return FeatureProfile(
        shape,
        nulls,
        len(np.unique(numbers)),
        float(numbers.min()),
        float(np.median(numbers)),
        float(numbers.max()),
        tuple(Bar(f"{edge:.4g}", float(n / len(numbers))) for n, edge in zip(heights, edges, strict=False)),
    )


def _profile(con: duckdb.DuckDBPyConnection, view: View, table: str) -> ViewProfile:
    keys = ", ".join(map(identifier, view.keys))
    selected = [
        "count(*)",
        f"count(distinct ({keys}))",
        f"epoch_us(max({identifier(view.timestamp)}))",
        *map(_facts, view.features),
    ]
    rows, entities, newest, *facts = con.execute(f"select {', '.join(selected)} from {table}").fetchall()[0]
    found = dict(zip(view.features, facts, strict=True))
    counted = dict(_categories(con, table, found))
    return ViewProfile(
        rows=rows,
        entities=entities,
        newest=None if newest is None else datetime.fromtimestamp(newest / 1e6, UTC),
        features={
            column.name: _feature(column, rows, facts, counted.get(column.name))
            for column, facts in found.items()
        },
    )


def _is_told_by_value(column: DeclaredColumn, facts: dict[str, Any]) -> bool:
    distinct, limit = int(facts.get("distinct", 0)), 0
    if shape_of(column) == "categories":
        limit = MAX_CATEGORIES
    elif shape_of(column) == "numbers" and column.data_type in _WHOLE:
        limit = FEW_NUMBERS
    return 0 < distinct <= limit


def _categories(
    con: duckdb.DuckDBPyConnection, table: str, found: dict[DeclaredColumn, dict[str, Any]]
) -> Iterator[tuple[str, dict[Any, int]]]:
    """How often each value occurs, of the columns with few: a second scan, of these only."""
    columns = [column for column, facts in found.items() if _is_told_by_value(column, facts)]
    if columns:
        counts = ", ".join(f"histogram({identifier(column.name)})" for column in columns)
        row = con.execute(f"select {counts} from {table}").fetchall()[0]
        yield from ((column.name, values or {}) for column, values in zip(columns, row, strict=True))


def _feature(
    column: DeclaredColumn, rows: int, facts: dict[str, Any], counted: dict[Any, int] | None
) -> FeatureProfile:
    shape, values = shape_of(column), facts["values"]
    nulls = 0.0 if not rows else (rows - values) / rows
    if shape == "hidden" or not values:
        return FeatureProfile(shape, nulls)
    if shape == "booleans":
        true = facts["true"] / values
        return FeatureProfile(shape, nulls, bars=(Bar("true", true), Bar("false", 1 - true)))
    distinct = min(facts["distinct"], values)
    if shape == "lists":
        return FeatureProfile(shape, nulls, distinct)
    if shape == "categories":
        # Counted where that was cheap; an estimate may be above the count.
        bars = () if counted is None else tuple(_most_frequent(counted, values))
        return FeatureProfile(shape, nulls, len(counted) if counted else distinct, bars=bars)
    quantiles: Sequence[float] | None = facts["quantiles"]
    if quantiles is None:
        return FeatureProfile(shape, nulls, distinct)
    if counted is not None:
        bars = tuple(Bar(str(value), counted[value] / values) for value in sorted(counted))
    else:
        bars = tuple(_bins(quantiles))
    # Between two whole numbers the digest interpolates.
    median = round(quantiles[_MEDIAN]) if column.data_type in _WHOLE else quantiles[_MEDIAN]
    return FeatureProfile(shape, nulls, distinct, facts["low"], median, facts["high"], bars)


def _most_frequent(counted: dict[Any, int], values: int) -> Iterator[Bar]:
    ranked = sorted(counted.items(), key=lambda one: (-one[1], str(one[0])))
    shown = ranked if len(ranked) <= SHOWN_CATEGORIES else ranked[: SHOWN_CATEGORIES - 1]
    for value, count in shown:
        yield Bar(str(value), count / values)
    others = sum(count for _, count in ranked[len(shown) :])
    if others:
        yield Bar(f"{len(ranked) - len(shown)} others", others / values)


def _bins(quantiles: Sequence[float]) -> Iterator[Bar]:
    """Even bins between the outer quantiles; how much is below an edge is interpolated."""
    low, high = quantiles[0], quantiles[-1]
    if low == high:
        yield Bar(f"{low:.4g}", 1.0)
        return
    width, below = (high - low) / BINS, _QUANTILES[0]
    for number in range(1, BINS + 1):
        edge = high if number == BINS else low + number * width
        up_to = _QUANTILES[-1] if number == BINS else _share_below(quantiles, edge)
        yield Bar(f"{edge - width:.4g} to {edge:.4g}", max(up_to - below, 0.0))
        below = max(up_to, below)


def _share_below(quantiles: Sequence[float], edge: float) -> float:
    for number in range(1, len(quantiles)):
        before, after = quantiles[number - 1], quantiles[number]
        if after >= edge:
            part = 0.0 if after == before else (edge - before) / (after - before)
            return _QUANTILES[number - 1] + part * (_QUANTILES[number] - _QUANTILES[number - 1])
    return _QUANTILES[-1]
