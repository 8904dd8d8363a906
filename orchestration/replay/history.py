"""Recorded history: the rows of a training set as they were known at an instant.

Each row holds what was known at its own prediction time, so the training set of the whole of history, cut off
where labels were not known yet, is the one that would have been built at that instant.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from orchestration.lakehouse import LakehouseResource, last_change
from orchestration.lakehouse.tables import relation
from orchestration.learning.spec import ModelSpec
from orchestration.sql import identifier

_INSTANT = pa.timestamp("us", tz="UTC")


class ReplayError(ValueError):
    """History that cannot be replayed; the message says why."""


@dataclass(frozen=True)
class Cut:
    """A training set as it was at an instant, in the shape of a dataset version."""

    version: str
    rows: pa.Table

    def columns(self) -> list[str]:
        """All of them."""
        return list(self.rows.column_names)

    def read(self, *, columns: Sequence[str] | None = None) -> pa.Table:
        """The named columns, in the order of predictions."""
        return self.rows if columns is None else self.rows.select(list(columns))


@dataclass(frozen=True)
class History:
    """Every row of a training set, in the order of predictions; ``state`` tells which those are."""

    rows: pa.Table
    state: str
    asked: pa.ChunkedArray
    known: pa.ChunkedArray

    @classmethod
    def read(cls, spec: ModelSpec, lakehouse: LakehouseResource) -> "History":
        """The training set of a model in a lakehouse.

        Raises:
            ReplayError: It has no rows.
        """
        table, training_set = spec.table, spec.training_set
        key = spec.spine.key if spec.spine is not None else ()
        wanted = dict.fromkeys([*spec.columns, *key, *_kept(spec)])
        columns = ", ".join(map(identifier, wanted))
        order = ", ".join(map(identifier, [training_set.prediction_time, *key]))
        with lakehouse.reader() as con:
            rows: pa.Table = con.execute(
                f"select {columns} from {relation(table.schema, table.name)} order by {order}"
            ).to_arrow_table()
            state = (
                f"{table.schema}.{table.name} {last_change(con, table.schema, table.name)} {rows.num_rows}"
            )
        if not rows.num_rows:
            raise ReplayError(f"{table.schema}.{table.name}: found no rows, expected a finished run")
        return cls(
            rows,
            state,
            pc.cast(rows.column(training_set.prediction_time), _INSTANT),
            pc.cast(rows.column(training_set.label_known_at), _INSTANT),
        )

    @property
    def first(self) -> datetime:
        """When the first prediction was asked for."""
        return _utc(pc.min(self.asked).as_py())

    @property
    def last(self) -> datetime:
        """When the last one was."""
        return _utc(pc.max(self.asked).as_py())

    def at(self, instant: datetime) -> Cut:
        """What could have been learnt from at an instant: what was known before it, as partitions are."""
        known = pc.less(self.known, pa.scalar(instant, _INSTANT))
        return Cut(name_of(instant), self.rows.filter(known))

    def open(self, version: str) -> Cut:
        """The same, by the name of the cut."""
        return self.at(datetime.fromisoformat(version.removeprefix(_PREFIX)))

    def between(self, start: datetime, end: datetime) -> pa.Table:
        """The rows whose prediction was asked for in ``[start, end)``."""
        return self.rows.filter(
            pc.and_(
                pc.greater_equal(self.asked, pa.scalar(start, _INSTANT)),
                pc.less(self.asked, pa.scalar(end, _INSTANT)),
            )
        )


_PREFIX = "as of "


def name_of(instant: datetime) -> str:
    """What the training set of an instant is called."""
    return f"{_PREFIX}{instant.isoformat()}"


def _kept(spec: ModelSpec) -> list[str]:
    """Columns that predictions keep, as far as the training set has them."""
    if spec.spine is None:
        return []
    return [c.name for c in spec.spine.columns if spec.table.column(c.name) is not None]


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def weeks(spec: ModelSpec, history: History) -> Iterator[tuple[datetime, datetime]]:
    """Whole weeks of history, from midnight to midnight, from the first at which a model can be trained."""
    split = spec.declared.split
    needed = split.validation + split.evaluation + 3 * split.embargo
    week = timedelta(days=7)
    start = _midnight(history.first, spec)
    while start + week <= history.last + timedelta(days=1):
        # Noon of the last day: a week in which clocks change is an hour longer or shorter.
        end = _midnight(start + week + timedelta(hours=12), spec)
        if start >= history.first + needed:
            yield start, end
        start = end


def _midnight(instant: datetime, spec: ModelSpec) -> datetime:
    local = instant.astimezone(spec.timezone)
    return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
