"""The online store against bare reads and writes of LMDB and Redis, in process.

Reads: the packed value of an entity out of LMDB, against the 10 features of it with names, statuses and ttl.
Writes: values that are packed already, in the order of the table, against the whole materialization, from the
lakehouse's rows on. Changes: one entity in a hundred has a new row, against writing everything.
"""

import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles

import lmdb
import redis

from benchmarks.report import Row
from orchestration.declarations import DeclaredColumn
from orchestration.feature_store.online.encoding import Pair, micros
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.materialization import latest_rows, materialize, rows_known
from orchestration.feature_store.online.packing import Packer
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.online.redis_store import CHUNK, RedisStore
from orchestration.feature_store.online.store import OnlineStore
from orchestration.feature_store.views import Catalog, View
from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.tables import relation
from orchestration.settings import Clock, Settings

ENTITIES = 1_000_000
ROWS_EACH = 3
NOW = datetime(2024, 3, 1, tzinfo=UTC)
TYPES = {f"amount_{n}": "double" for n in range(6)} | {
    "orders": "bigint", "visits": "integer", "is_member": "boolean", "segment": "varchar",
}  # fmt: skip


def _columns(types: dict[str, str]) -> tuple[DeclaredColumn, ...]:
    return tuple(DeclaredColumn(name, kind, name, "internal") for name, kind in types.items())


VIEW = View(
    name="buyers",
    schema="features",
    table="buyers",
    entity=_columns({"buyer": "varchar"}),
    timestamp="known_at",
    ttl=timedelta(days=90),
    online=True,
    features=_columns(TYPES),
    description="Buyers.",
    owner="team:benchmarks",
)


def _rows(first_entity: int, entities: int, hours: int, seed: int) -> str:
    """A query for one row of each of so many entities; the order of the table is not that of the keys."""
    values = ", ".join(f"(hash(i, {seed}, {n}) % 1000000) / 1000.0" for n in range(6))
    return (
        f"select 'buyer-' || (hash(i) % 100000) || '-' || i, "
        f"timestamptz '2024-01-01' + interval ({hours}) hour, {values}, "
        f"i * 7, cast(hash(i, {seed}) % 100 as integer), i % 3 = 0, "
        f"'segment ' || (i % 50) from range({first_entity}, {first_entity + entities}) as r(i)"
    )


def _fill(lakehouse: LakehouseResource) -> None:
    with lakehouse.get_connection() as con:
        con.execute("create schema features")
        columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
        table = relation(VIEW.schema, VIEW.table)
        con.execute(f"create table {table} (buyer varchar, known_at timestamptz, {columns})")
        for number in range(ROWS_EACH):
            con.execute(f"insert into {table} {_rows(0, ENTITIES, number, number)}")


def _change(lakehouse: LakehouseResource, number: int) -> None:
    with lakehouse.get_connection() as con:
        first, count = number * ENTITIES // 100, ENTITIES // 100
        con.execute(
            f"insert into {relation(VIEW.schema, VIEW.table)} {_rows(first, count, 100 + number, number)}"
        )


def _percentiles(work: Callable[[int], object], calls: int) -> tuple[float, float]:
    """Microseconds of the median call and of the 99th in a hundred."""
    for number in range(calls // 10):
        work(number)
    taken = []
    for number in range(calls):
        started = time.perf_counter_ns()
        work(number)
        taken.append((time.perf_counter_ns() - started) / 1000)
    return median(taken), quantiles(taken, n=100)[98]


def _reads(store: LmdbStore, pairs: list[Pair]) -> list[Row]:
    reader = OnlineReader(Catalog({VIEW.name: VIEW}), store, Clock(NOW))
    features = [f"{VIEW.name}:{name}" for name in TYPES]
    chance = random.Random(1)
    chosen = [key for key, _ in chance.sample(pairs, 20_000)]
    folder = next(f for f in (store.folder / VIEW.name).iterdir() if f.is_dir())
    rows = []
    for count, calls in ((1, 20_000), (100, 2_000)):
        batches = [chosen[n * count % 19_000 :][:count] for n in range(calls)]
        asked = [[{"buyer": key[1:].decode()} for key in batch] for batch in batches]

        def ours(number: int, asked: list[list[dict[str, str]]] = asked) -> object:
            return reader.get_online_features(features, asked[number])

        mid, late = _percentiles(ours, calls)
        store.close()
        with lmdb.open(str(folder), map_size=1 << 37, max_readers=1024) as env:

            def bare(
                number: int, batches: list[list[bytes]] = batches, env: lmdb.Environment = env
            ) -> object:
                with env.begin() as txn:
                    return [txn.get(key) for key in batches[number]]

            bare_mid, bare_late = _percentiles(bare, calls)
        entities = "1 entity" if count == 1 else f"{count} entities"
        text = f"p50 {bare_mid:.1f} us, p99 {bare_late:.1f} us (bare LMDB)"
        ratio, limit, unit = (mid / 15, 1.0, "x 15 us") if count == 1 else (mid / bare_mid, 3.0, "x")
        rows.append(
            Row(
                f"read {entities} x 10 features",
                f"p50 {mid:.1f} us, p99 {late:.1f} us",
                text,
                ratio,
                limit,
                unit,
            )
        )
    return rows


def _write_lmdb(folder: Path, pairs: list[Pair]) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    with lmdb.open(str(folder), map_size=1 << 37) as env, env.begin(write=True) as txn:
        txn.cursor().putmulti(pairs)
    return time.perf_counter() - started


def _write_redis(url: str, pairs: list[Pair]) -> float:
    with redis.Redis.from_url(url) as client:
        started = time.perf_counter()
        for at in range(0, len(pairs), CHUNK):
            client.mset(dict(pairs[at : at + CHUNK]))
        seconds = time.perf_counter() - started
        client.flushdb()
    return seconds


@contextmanager
def local_redis() -> Iterator[str]:
    """A Redis of our own that keeps nothing; gives its address."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("found no redis-server, expected one on the path (package redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def _written(
    lakehouse: LakehouseResource, store: OnlineStore, bare: Callable[[], float], repeats: int
) -> tuple[Row, float]:
    ours = median(materialize(lakehouse, store, VIEW, NOW, full=True).seconds for _ in range(repeats))
    theirs = median(bare() for _ in range(repeats))
    row = Row(
        f"materialize {ENTITIES:,} entities of {ENTITIES * ROWS_EACH:,} rows, {store.kind}",
        f"{ENTITIES / ours:,.0f} rows/s",
        f"{ENTITIES / theirs:,.0f} rows/s (bare writes)",
        ours / theirs,
        2.0,
    )
    return row, ours


def run(place: Path, *, repeats: int) -> list[Row]:
    """Measure reads, full and incremental materializations."""
    folder = place / "online"
    lakehouse = LakehouseResource.from_settings(Settings(data_dir=folder / "data"))
    _fill(lakehouse)
    packer = Packer(VIEW)
    with lakehouse.reader() as con:
        snapshot = int(
            con.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchall()[0][0]
        )
        latest = latest_rows(VIEW, rows_known(VIEW, snapshot, micros(NOW)))
        pairs = [pair for batch in packer.batches(con, f"({latest})") for pair in batch]
    store = LmdbStore(folder / "store")
    row, full = _written(lakehouse, store, lambda: _write_lmdb(folder / "bare", pairs), repeats)
    rows = [*_reads(store, pairs), row]
    incremental = []
    for number in range(repeats):
        _change(lakehouse, number)
        done = materialize(lakehouse, store, VIEW, NOW)
        assert (done.mode, done.written) == ("changes", ENTITIES // 100), done
        incremental.append(done.seconds)
    some = median(incremental)
    rows.append(
        Row(
            "materialize 1% changed entities",
            f"{some:.3f} s",
            f"{full:.2f} s (all of them)",
            some / full,
            0.05,
        )
    )
    with local_redis() as url:
        other = RedisStore(url, "bench")
        rows.append(_written(lakehouse, other, lambda: _write_redis(url, pairs), repeats)[0])
        other.close()
    return rows
