"""Whether the online store says what the lakehouse says: a sample of entities, read both ways.

What belongs here: the comparison. What does not: when it runs (``assets``). The expected values take another
way than the stored ones: DuckDB's own Python values, and keys made by Python.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from orchestration.feature_store.online.encoding import Layout, from_micros
from orchestration.feature_store.online.keys import EntityKeys
from orchestration.feature_store.online.materialization import rows_known
from orchestration.feature_store.online.store import NotMaterializedError, OnlineStore
from orchestration.feature_store.views import View
from orchestration.lakehouse import LakehouseResource
from orchestration.sql import identifier


@dataclass(frozen=True)
class Comparison:
    """What was found: entities compared and differing, by column; entities there are and should be."""

    snapshot: int
    compared: int
    differing: int
    differing_by_column: dict[str, int]
    stored: int
    expected: int

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return self.differing == 0 and self.stored == self.expected


def same(one: Any, other: Any) -> bool:
    """Whether two values are one: NaN equals itself, and zeros differ by their sign."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):  # DuckDB's arrays are tuples
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return (one == other and math.copysign(1, one) == math.copysign(1, other)) or (
            math.isnan(one) and math.isnan(other)
        )
    if isinstance(one, datetime) and isinstance(other, datetime) and not (one.tzinfo and other.tzinfo):
        return one.replace(tzinfo=None) == other.replace(tzinfo=None)  # infinity comes without a zone
    return bool(one == other)


def compare(lakehouse: LakehouseResource, store: OnlineStore, view: View, *, sample: int = 200) -> Comparison:
    """Compare a sample of a view's entities, another one for each position, and their number.

    Raises:
        NotMaterializedError: The store has nothing of the view.
    """
    position = store.position(view.name)
    if position is None:
        raise NotMaterializedError(view.name)
    rows = rows_known(view, position.snapshot, position.cutoff)
    with lakehouse.reader() as con:
        keys = ", ".join(map(identifier, view.keys))
        con.execute(f"create or replace temp table _entities as select distinct {keys} from ({rows})")
        expected = int(con.execute("select count(*) from _entities").fetchall()[0][0])
        salt = f"{position.snapshot}, {position.cutoff}"
        sampled = f"select {keys} from _entities order by hash({keys}, {salt}), {keys} limit {sample}"
        of_sample = view.of_same_entity("r", "s")
        found = _latest(con, view, f"select r.* from ({rows}) as r semi join ({sampled}) as s on {of_sample}")
        con.execute("drop table _entities")
    count = len(view.keys)
    columns = [[row[n] for row in found] for n in range(count)]
    layout = Layout(view)
    ((values, _),) = store.read([(view, EntityKeys(view).encode(columns))])
    decoded = (
        layout.decode([value or layout.blank for value in values], range(len(view.features)))
        if found
        else None
    )
    names = [view.timestamp, *(f.name for f in view.features)]
    by_column: dict[str, int] = {}
    differing = 0
    for row, wanted in enumerate(found):
        assert decoded is not None
        held = [from_micros(decoded.timestamps[row]), *(column[row] for column in decoded.columns)]
        wrong = [n for n, a, b in zip(names, held, wanted[count:], strict=True) if not same(a, b)]
        differing += bool(wrong)
        for name in wrong:
            by_column[name] = by_column.get(name, 0) + 1
    return Comparison(position.snapshot, len(found), differing, by_column, store.size(view.name), expected)


def _latest(con: duckdb.DuckDBPyConnection, view: View, rows: str) -> list[tuple[Any, ...]]:
    """The latest row of each entity: keys, timestamp, features; said in other words than ``latest_rows``."""
    keys, at = ", ".join(map(identifier, view.keys)), identifier(view.timestamp)
    features = [identifier(f.name) for f in view.features]
    # The case keeps DuckDB from making 0.0 of -0.0, the text orders these two.
    values = [f"case when {name} is not null then {name} end desc nulls last" for name in features]
    order = ", ".join([f"{at} desc", *values, *(f"{name}::varchar desc" for name in features)])
    select = ", ".join([keys, f"cast({at} as timestamptz)", *features])
    found: list[tuple[Any, ...]] = con.execute(
        f"select {select} from ({rows}) qualify row_number() over (partition by {keys} order by {order}) = 1"
    ).fetchall()
    return found
