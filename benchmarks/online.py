"""The online store against bare reads and writes of LMDB and Redis, in process.

Reads: the packed value of an entity out of LMDB, against the 10 features of it with names, statuses and ttl.
Writes: values that are packed already, in the order of the table, against the whole materialization, from the
lakehouse's rows on. Changes: one entity in a hundred has a new row, against writing everything; once more and
once more, until all that changed has moved in place. Reads also amid these.
"""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import lmdb
import redis

from benchmarks.buyers import FEATURES, NOW, ROWS_EACH, VIEW, change, current_generation, fill, open_lakehouse
from benchmarks.report import Row
from benchmarks.timing import percentiles, redis_server
from orchestration.feature_store.online.encoding import Pair, micros
from orchestration.feature_store.online.lmdb_store import RECENT_SHARE, LmdbStore
from orchestration.feature_store.online.materialization import latest_rows, materialize, rows_known
from orchestration.feature_store.online.packing import Packer
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.online.redis_store import CHUNK, RedisStore
from orchestration.feature_store.online.store import OnlineStore
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource, current_snapshot
from orchestration.settings import Clock

ENTITIES = 1_000_000


def _reads(store: LmdbStore, pairs: list[Pair], *, kind: str = "") -> list[Row]:
    reader = OnlineReader(Catalog({VIEW.name: VIEW}), store, Clock(NOW))
    features = [f"{VIEW.name}:{name}" for name in FEATURES]
    chance = random.Random(1)
    chosen = [key for key, _ in chance.sample(pairs, 20_000)]
    folder = current_generation(store.folder)
    rows = []
    for count, calls in ((1, 20_000), (100, 2_000)):
        batches = [chosen[n * count % 19_000 :][:count] for n in range(calls)]
        asked = [[{"buyer": key[1:].decode()} for key in batch] for batch in batches]

        def ours(number: int, asked: list[list[dict[str, str]]] = asked) -> object:
            return reader.get_online_features(features, asked[number])

        mid, late = percentiles(ours, calls)
        store.close()
        with lmdb.open(str(folder), map_size=1 << 37, max_readers=1024) as env:

            def bare(
                number: int, batches: list[list[bytes]] = batches, env: lmdb.Environment = env
            ) -> object:
                with env.begin() as txn:
                    return [txn.get(key) for key in batches[number]]

            bare_mid, bare_late = percentiles(bare, calls)
        entities = "1 entity" if count == 1 else f"{count} entities"
        text = f"p50 {bare_mid:.1f} us, p99 {bare_late:.1f} us (bare LMDB)"
        ratio, limit, unit = (mid / 15, 1.0, "x 15 us") if count == 1 else (mid / bare_mid, 3.0, "x")
        rows.append(
            Row(
                f"read {entities} x 10 features{kind}",
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


def _written(
    lakehouse: LakehouseResource, store: OnlineStore, bare: Callable[[], float], repeats: int
) -> Row:
    ours = median(materialize(lakehouse, store, VIEW, NOW, full=True).seconds for _ in range(repeats))
    theirs = median(bare() for _ in range(repeats))
    return Row(
        f"materialize {ENTITIES:,} entities of {ENTITIES * ROWS_EACH:,} rows, {store.kind}",
        f"{ENTITIES / ours:,.0f} rows/s",
        f"{ENTITIES / theirs:,.0f} rows/s (bare writes)",
        ours / theirs,
        2.0,
    )


def _changed(lakehouse: LakehouseResource, store: OnlineStore, number: int) -> float:
    """Seconds to materialize a change to one entity in a hundred, others for each ``number``."""
    change(lakehouse, number, ENTITIES // 100)
    done = materialize(lakehouse, store, VIEW, NOW)
    assert (done.mode, done.written) == ("changes", ENTITIES // 100), done
    return done.seconds


def _changes(lakehouse: LakehouseResource, store: OnlineStore, times: int, repeats: int) -> list[Row]:
    full = median(materialize(lakehouse, store, VIEW, NOW, full=True).seconds for _ in range(repeats))
    seconds = [_changed(lakehouse, store, number) for number in range(times)]
    some, each = median(seconds), mean(seconds)
    everything, longest = f"{full:.2f} s (all of them)", f"{max(seconds):.2f} s (the longest)"
    return [
        Row(
            f"materialize 1% changed entities, {times} times",
            f"p50 {some:.3f} s",
            everything,
            some / full,
            0.05,
        ),
        Row("their mean, with the one that moves all in place", f"{each:.3f} s", longest, each / full, None),
    ]


def run(place: Path, *, repeats: int) -> list[Row]:
    """Measure reads, full and incremental materializations.

    Raises:
        MissingError: There is no redis-server.
    """
    folder, repeats = place / "online", 3 * repeats
    lakehouse = open_lakehouse(folder)
    fill(lakehouse, ENTITIES)
    store, until_moved = LmdbStore(folder / "store"), 100 // RECENT_SHARE + 1
    # Before this process holds a million pairs, which makes all else in it slower.
    rows = _changes(lakehouse, store, until_moved, repeats)
    packer = Packer(VIEW)
    with lakehouse.reader() as con:
        latest = latest_rows(VIEW, rows_known(VIEW, current_snapshot(con), micros(NOW)))
        pairs = [pair for batch in packer.batches(con, f"({latest})") for pair in batch]
    rows.append(_written(lakehouse, store, lambda: _write_lmdb(folder / "bare", pairs), repeats))
    rows += _reads(store, pairs)
    share = until_moved // 2
    for number in range(until_moved, until_moved + share):
        _changed(lakehouse, store, number)
    rows += _reads(store, pairs, kind=f", {share}% changed since")
    with redis_server() as url:
        other = RedisStore(url, "bench")
        rows.append(_written(lakehouse, other, lambda: _write_redis(url, pairs), repeats))
        other.close()
    return rows
