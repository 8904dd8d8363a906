"""A town with trips and cities: a domain small enough to read, for tests of contracts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

import dagster as dg
import duckdb

from orchestration.declarations import Declarations, DeclaredColumn, Ingest, Partition, Table, TableMeta
from orchestration.lakehouse import LakehouseResource
from orchestration.partitions import Window
from orchestration.quality.contract import Contract
from orchestration.quality.loading import load_contracts
from orchestration.quality.verification import Verdict, verify
from orchestration.settings import Clock, Settings

NOW = datetime(2013, 2, 1, 5, tzinfo=UTC)
DAY = Partition(frequency="daily", start="2013-01-01", end="2013-02-01", timezone="America/New_York")
PARTITIONS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-02-01", timezone="America/New_York")
TRIPS = (
    "trip integer",
    "rider varchar personal",
    "city varchar",
    "fare double",
    "seats integer",
    "at timestamptz",
)
ROW_COUNT = "columns: []\nchecks:\n  - row_count:\n"


def _columns(texts: Sequence[str]) -> tuple[DeclaredColumn, ...]:
    split = [text.split() for text in texts]
    return tuple(
        DeclaredColumn(name, kind, f"{name}.", rest[0] if rest else "internal") for name, kind, *rest in split
    )


def _table(
    layer: str,
    name: str,
    columns: Sequence[str],
    upstream: Sequence[str] = (),
    partition: Partition | None = None,
) -> Table:
    ingest = None
    if layer == "raw":
        first = columns[0].split()[0]
        time = "at" if partition is not None else None
        ingest = Ingest(uri="x", format="csv", primary_key=(first,), event_time=time, partition=partition)
    meta = TableMeta(owner="team:town", ingest=ingest)
    unique_id = f"{layer}.{name}"
    return Table(
        unique_id, layer, layer, name, f"{name}.", "models.yml", _columns(columns), (), meta, tuple(upstream)
    )


def town(*, trips: Sequence[str] = TRIPS) -> Declarations:
    """raw/trips by day, raw/cities, and staged/stg_trips built from both."""
    tables = [
        _table("raw", "trips", trips, partition=DAY),
        _table("raw", "cities", ["city varchar"]),
        _table(
            "staged",
            "stg_trips",
            ["trip integer", "rider varchar personal", "event_at timestamptz"],
            upstream=["raw.trips", "raw.cities"],
        ),
    ]
    return Declarations({table.unique_id: table for table in tables})


def write_contracts(folder: Path, contracts: Mapping[str, str]) -> Path:
    """Contract files by ``layer/table``; ``dataset`` is put before each, and the rest get a row count."""
    for place in ("raw/trips", "raw/cities", "staged/stg_trips"):
        path = folder / f"{place}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"dataset: lake/{place}\n" + dedent(contracts.get(place, ROW_COUNT)))
    return folder


@dataclass(frozen=True)
class Town:
    """A lakehouse with the town's tables, and one contract of raw/trips."""

    settings: Settings
    declarations: Declarations
    lakehouse: LakehouseResource
    con: duckdb.DuckDBPyConnection

    @contextmanager
    def session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A session on the town's one connection: to open another takes longer than most tests."""
        with self.con.cursor() as session:
            session.execute("set timezone = 'UTC'")
            session.execute("use lake")
            yield session

    def contract(self, text: str, place: str = "raw/trips") -> Contract:
        """The read contract of a table."""
        write_contracts(self.settings.soda_checks_dir, {place: text})
        read = load_contracts(self.declarations, self.settings.soda_checks_dir)
        return next(c for c in read if "/".join(c.target.table.asset_path) == place)

    def run(self, *statements: str) -> None:
        """Change the lakehouse."""
        with self.session() as session:
            for statement in statements:
                session.execute(statement)

    def verify(
        self, text: str, window: Window | None = None, place: str = "raw/trips", now: datetime = NOW
    ) -> dict[str, Verdict]:
        """Verdicts by check name."""
        contract = self.contract(text, place)
        with self.session() as con:
            return {v.check.name: v for v in verify(con, contract, contract.checks, window, now)}


def build_town(folder: Path) -> Town:
    """Ten trips on two days: 1 to 8 on January 1st, 9 and 10 on January 2nd."""
    settings = Settings(data_dir=folder / "data", soda_checks_dir=folder / "soda_checks", duckdb_threads=1)
    lakehouse = LakehouseResource.from_settings(settings)
    made = Town(settings, town(), lakehouse, lakehouse.open())
    made.run(
        "create schema raw",
        "create schema staged",
        'create table raw.trips (trip integer, rider varchar, city varchar, fare double, seats integer, "at" '
        "timestamptz)",
        """
        insert into raw.trips
        select i, 'rider-' || i, case when i % 2 = 0 then 'Oslo' else 'Rome' end, i * 1.5, i % 3 + 1,
            timestamptz '2013-01-01 12:00:00+00' + case when i > 8 then interval 1 day else interval 0 day end
        from range(1, 11) as t(i)
        """,
        "create table raw.cities as select unnest(['Oslo', 'Rome']) as city",
        'create table staged.stg_trips as select trip, rider, "at" as event_at from raw.trips',
    )
    return made


def clock() -> Clock:
    """A replay clock at the end of the town's month."""
    return Clock(NOW)
