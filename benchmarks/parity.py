"""The year again, moment by moment: what is served then against what a training set has for then.

The rows of every online view come once more as a stream, each when it becomes known: in no order, some of
them an hour ahead, some of them twice, the second time three hours late. The online store follows the stream
by its change feed, and is asked at each moment for all entities of all views, and for the service's rows of
that moment. History is asked afterwards, on the whole year's tables. All values are compared bit for bit.
"""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa

from benchmarks.report import Row
from benchmarks.workspace import Workspace
from orchestration.declarations import TrainingSet
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.materialization import materialize
from orchestration.feature_store.online.reading import OnlineReader, OnlineResponse
from orchestration.feature_store.parity import compare_answers
from orchestration.feature_store.store import FeatureStore
from orchestration.feature_store.views import View
from orchestration.lakehouse import LAKE, LakehouseResource
from orchestration.settings import Clock, Settings
from orchestration.sql import identifier, literal

FIRST = datetime(2013, 1, 1, 5, tzinfo=UTC)
MOMENTS_AT_ONCE = 8
"""So many moments are held until history is asked about them."""
_ASKED_AT = "_asked_at"
_DAY = timedelta(days=1)


@dataclass
class Walked:
    """What has been compared; ``differing`` counts values by view or service and feature."""

    moments: int = 0
    entities: int = 0
    compared: int = 0
    delivered: int = 0
    online_seconds: float = 0.0
    differing: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)


@dataclass
class _Question:
    """One kind of question, with the answers that have not been compared yet."""

    features: Sequence[str] | str
    rows: list[pa.Table] = field(default_factory=list)
    answers: list[OnlineResponse] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.features if isinstance(self.features, str) else self.features[0]


def _relation(database: str, view: View) -> str:
    return ".".join(identifier(part) for part in (database, view.schema, view.table))


def _instant(at: datetime) -> str:
    return f"timestamptz {literal(at.isoformat())}"


@contextmanager
def _stream(source: LakehouseResource, target: LakehouseResource) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the lakehouse that the stream goes to, with the one it comes from as ``source``."""
    with target.get_connection() as con:
        path, files = source.attachment.path, source.attachment.data_path
        con.execute(f"attach {literal(path)} as source (read_only, data_path {literal(files)})")
        yield con


@contextmanager
def _opened_once(lakehouse: LakehouseResource) -> Iterator[None]:
    """As in a run, connections share what is open."""
    context = dg.build_init_resource_context()
    lakehouse.setup_for_execution(context)
    try:
        yield
    finally:
        lakehouse.teardown_after_execution(context)


def _deliver(con: duckdb.DuckDBPyConnection, views: Sequence[View], after: datetime, until: datetime) -> int:
    """Bring in what is delivered after one instant and not after another, in one transaction."""
    con.execute("begin")
    count = 0
    for view in views:
        at = identifier(view.timestamp)
        entity = ", ".join(map(identifier, view.keys))
        first = f"{at} - if(hash({at}, {entity}) % 10 = 0, interval 1 hour, interval 0 hours)"
        window = f"> {_instant(after)} and delivered_at <= {_instant(until)}"
        wide = f"{at} > {_instant(after - _DAY)} and {at} <= {_instant(until + _DAY)}"
        rows = f"select *, {first} as delivered_at from {_relation('source', view)} where {wide}"
        again = (
            f"select *, {at} + interval 3 hours as delivered_at from {_relation('source', view)} "
            f"where {wide} and hash({entity}, {at}) % 7 = 0"
        )
        found = con.execute(
            f"insert into {_relation(LAKE, view)} by name select * exclude (delivered_at) from "
            f"({rows} union all {again}) where delivered_at {window} order by hash({at}, 1)"
        ).fetchall()
        count += int(found[0][0])
    con.execute("commit")
    return count


def _moments(
    con: duckdb.DuckDBPyConnection, views: Sequence[View], start: datetime, days: int, a_day: int
) -> list[datetime]:
    """Moments of each day: by chance, or to the microsecond where a row becomes known or too old."""
    chance = random.Random(start.isoformat())
    found = []
    for day in range(days):
        first = start + day * _DAY
        moments = [first + timedelta(microseconds=chance.randrange(86_400_000_000)) for _ in range(a_day)]
        view = chance.choice(views)
        at = identifier(view.timestamp)
        edges = con.execute(
            f"select distinct epoch_us({at}) from {_relation('source', view)} "
            f"where {at} >= {_instant(first)} and {at} < {_instant(first + _DAY)} order by 1"
        ).fetchall()
        if edges:
            micros = chance.choice(edges)[0] + chance.choice((-1, 0, 1))
            edge = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
            moments[0] = edge + chance.choice((timedelta(0), view.ttl if view.ttl <= _DAY else timedelta(0)))
        found += moments
    return sorted(set(found))


def _with_moment(table: pa.Table, moment: datetime) -> pa.Table:
    instants = pa.array([moment] * table.num_rows, pa.timestamp("us", "UTC"))
    return table.append_column(_ASKED_AT, instants)


class _Walk:
    def __init__(self, store: FeatureStore, place: Path) -> None:
        self.store = store
        self.views = [view for view in store.catalog.views.values() if view.online]
        self.lakehouse = LakehouseResource.from_settings(Settings(data_dir=place / "data"))
        self.online = LmdbStore(place / "online")
        self.walked = Walked()
        self.questions = [_Question((f"{view.name}:*",)) for view in self.views]
        self.sets = [
            (table, table.meta.training_set)
            for table in store.project.declarations.training_sets
            if table.meta.training_set is not None
        ]
        self.questions += [_Question(declared.feature_service) for _, declared in self.sets]

    def go(self, start: datetime, days: int, a_day: int) -> Walked:
        with _stream(self.store.lakehouse, self.lakehouse) as con:
            for schema in {view.schema for view in self.views}:
                con.execute(f"create schema if not exists {LAKE}.{identifier(schema)}")
            for view in self.views:
                con.execute(
                    f"create table {_relation(LAKE, view)} as from {_relation('source', view)} limit 0"
                )
            entities = [self._entities(con, view) for view in self.views]
            before = datetime(1970, 1, 3, tzinfo=UTC)
            for moment in _moments(con, self.views, start, days, a_day):
                self.walked.delivered += _deliver(con, self.views, before, moment)
                started = time.perf_counter()
                for view in self.views:
                    materialize(self.lakehouse, self.online, view, moment)
                self.walked.online_seconds += time.perf_counter() - started
                rows = [*entities, *(self._asked(con, *one, before, moment) for one in self.sets)]
                self._ask(moment, rows)
                before = moment
            self._compare(before)
        return self.walked

    @staticmethod
    def _entities(con: duckdb.DuckDBPyConnection, view: View) -> pa.Table:
        keys = ", ".join(map(identifier, view.keys))
        return con.execute(
            f"select distinct {keys} from {_relation('source', view)} order by all"
        ).to_arrow_table()

    def _asked(
        self,
        con: duckdb.DuckDBPyConnection,
        table: Any,
        declared: TrainingSet,
        after: datetime,
        until: datetime,
    ) -> pa.Table:
        """The rows of a training set that were asked for of late."""
        service = self.store.catalog.service(declared.feature_service)
        names = [*dict.fromkeys(key for wanted in service.features for key in wanted.role.join_keys)]
        columns = ", ".join(map(identifier, [*names, *service.declared.request]))
        asked_at = identifier(declared.prediction_time)
        return con.execute(
            f"select {columns} from source.{identifier(table.schema)}.{identifier(table.name)} "
            f"where {asked_at} > {_instant(after)} and {asked_at} <= {_instant(until)} "
            f"order by {asked_at} desc, {columns} limit 500"
        ).to_arrow_table()

    def _ask(self, moment: datetime, rows: Sequence[pa.Table]) -> None:
        reader = OnlineReader(self.store.catalog, self.online, Clock(moment))
        for question, some in zip(self.questions, rows, strict=True):
            started = time.perf_counter()
            answer = reader.get_online_features(question.features, some.to_pydict(), full_feature_names=True)
            self.walked.online_seconds += time.perf_counter() - started
            question.rows.append(_with_moment(some, moment))
            question.answers.append(answer)
            self.walked.entities += some.num_rows
            for column in answer.statuses[some.num_columns :]:
                for status in set(column):
                    told = self.walked.statuses
                    told[status.value] = told.get(status.value, 0) + column.count(status)
        self.walked.moments += 1
        if self.walked.moments % MOMENTS_AT_ONCE == 0:
            self._compare(moment)

    def _compare(self, as_of: datetime) -> None:
        for question in self.questions:
            if not question.answers:
                continue
            asked = pa.concat_tables(question.rows)
            offline = self.store.get_historical_features(
                asked, question.features, event_timestamp=_ASKED_AT, as_of=as_of, full_feature_names=True
            ).to_arrow()
            values = offline.drop_columns(asked.column_names)
            found = compare_answers(values, question.answers)
            self.walked.compared += found.compared
            for name, count in found.differing.items():
                place = f"{question.name} {name}"
                self.walked.differing[place] = self.walked.differing.get(place, 0) + count
            question.rows, question.answers = [], []


def _year(place: Path) -> Path:
    """A finished lakehouse of the shipped data."""
    side = Workspace(place / "year").prepare()
    side.groundwork()
    return side.settings.data_dir


def run(
    place: Path,
    *,
    repeats: int,  # once is enough: nothing is measured
    days: int,
    moments: int,
    start: datetime = FIRST,
    lake: Path | None = None,
) -> list[Row]:
    """Walk ``days`` from ``start`` with so many moments a day, over a finished lakehouse in ``lake``."""
    store = FeatureStore.open(Settings(data_dir=lake or _year(place)))
    started = time.perf_counter()
    walk = _Walk(store, place / f"parity-{start:%Y%m%d}")
    with _opened_once(store.lakehouse), _opened_once(walk.lakehouse):
        walked = walk.go(start, days, moments)
    seconds = time.perf_counter() - started
    differences = sum(walked.differing.values())
    for name, count in sorted(walked.differing.items()):
        print(f"differs: {name}: {count} values")
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(walked.statuses.items()))
    print(
        f"{walked.moments} moments of {days} days from {start:%Y-%m-%d}: "
        f"{walked.delivered:,} rows delivered, "
        f"{walked.entities:,} entities asked for, {walked.compared:,} values compared ({told}), "
        f"{differences} differ; {seconds:.0f} s, {walked.online_seconds:.0f} s of them online"
    )
    return [
        Row(
            f"parity at {walked.moments} moments of {days} days",
            f"{walked.compared:,} values",
            "get_historical_features, later",
            differences,
            0,
            "differ",
        )
    ]
