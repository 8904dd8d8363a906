"""The online store against Feast: reads in process, materialization, and the server.

Both have the same rows of the same entities: we in the lakehouse, Feast in a Parquet file behind its DuckDB
offline store. Our default store (LMDB) reads against Feast's default (SQLite) and against Feast with Redis;
both with Redis too. Materializations are compared embedded with embedded, and Redis with Redis, at as many
entities as ``feast materialize`` writes in less than a minute. Of reads from Redis on both sides no ratio is
demanded: its own round trip takes more than a tenth of Feast's time.
"""

import random
import socket
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis

from benchmarks.buyers import FEATURES, NOW, ROWS_EACH, VIEW, export, fill, open_lakehouse
from benchmarks.feast_side import run_feast
from benchmarks.report import Row
from benchmarks.server import against_bare, against_feast
from benchmarks.timing import percentiles, redis_server
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.materialization import materialize
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.online.redis_store import RedisStore
from orchestration.feature_store.online.store import OnlineStore
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Clock

ENTITIES = 200_000
Times = dict[str, tuple[float, float]]


def _declared(file: Path, keys: list[str], online_store: str) -> dict[str, Any]:
    return {
        "name": VIEW.name,
        "entity": ["buyer", "varchar"],
        "ttl_days": VIEW.ttl.days,
        "file": str(file),
        "features": FEATURES,
        "online_store": online_store,
        "keys": keys,
    }


def _read(store: OnlineStore, keys: list[str]) -> Times:
    reader = OnlineReader(Catalog({VIEW.name: VIEW}), store, Clock(NOW))
    wanted = [f"{VIEW.name}:{name}" for name in FEATURES]

    def read(number: int, count: int) -> object:
        at = number * count % (len(keys) - count)
        rows = [{"buyer": key} for key in keys[at : at + count]]
        return reader.get_online_features(wanted, rows).to_dict()

    return {
        "1": percentiles(lambda number: read(number, 1), 10_000),
        "100": percentiles(lambda number: read(number, 100), 1_000),
    }


def _read_bare_redis(url: str, values: dict[bytes, bytes]) -> Times:
    """A round trip by hand: MGET of as many keys as entities, parsed by hiredis, and no more."""
    with redis.Redis.from_url(url) as client:
        client.mset(values)
    parser, names = hiredis.Reader(), list(values)
    pack: Any = hiredis.pack_command  # annotated as if each command were one word
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 6379)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def read(number: int, count: int) -> object:
            at = number * count % (len(names) - count)
            connection.sendall(pack(("MGET", *names[at : at + count])))
            while (answer := parser.gets()) is False:
                parser.feed(connection.recv(65_536))
            assert None not in answer
            return answer

        return {
            "1": percentiles(lambda number: read(number, 1), 10_000),
            "100": percentiles(lambda number: read(number, 100), 1_000),
        }


def _materialized(
    lakehouse: LakehouseResource, store: OnlineStore, theirs: str, folder: Path, declared: dict[str, Any]
) -> Row:
    seconds = median(materialize(lakehouse, store, VIEW, NOW, full=True).seconds for _ in range(3))
    told, _ = run_feast("materialize", folder, declared)
    return Row(
        f"materialize {ENTITIES:,} entities of {ENTITIES * ROWS_EACH:,} rows, {store.kind}",
        f"{ENTITIES / seconds:,.0f} rows/s",
        f"{ENTITIES / told['seconds']:,.0f} rows/s: feast materialize, {theirs}",
        told["seconds"] / seconds,
        50.0,
        "x faster",
        at_least=True,
    )


def _compared(kind: str, ours: Times, their_kind: str, theirs: Times) -> list[Row]:
    rows = []
    for count, (mid, late) in ours.items():
        their_mid, their_late = theirs[count]
        rows.append(
            Row(
                f"read {'1 entity' if count == '1' else f'{count} entities'} x 10 features, {kind}",
                f"p50 {mid:.0f} us, p99 {late:.0f} us",
                f"p50 {their_mid:,.0f} us, p99 {their_late:,.0f} us: Feast, {their_kind}",
                their_mid / mid,
                None if kind == "redis" else 10.0,
                "x faster",
                at_least=True,
            )
        )
    return rows


def _above(count: str, ours: tuple[float, float], bare: tuple[float, float]) -> Row:
    """How far a read from Redis is from the round trip that none is quicker than."""
    return Row(
        f"read {'1 entity' if count == '1' else f'{count} entities'} x 10 features, redis",
        f"p50 {ours[0]:.0f} us, p99 {ours[1]:.0f} us",
        f"p50 {bare[0]:,.0f} us, p99 {bare[1]:,.0f} us: bare MGET by hiredis",
        ours[0] / bare[0],
        None,
    )


def run(place: Path, *, repeats: int) -> list[Row]:
    """Each of Feast's sides once: they take long, and are far away.

    Raises:
        MissingError: Feast cannot be installed, or there is no redis-server or no wrk.
    """
    folder = place / "feast"
    lakehouse = open_lakehouse(folder)
    fill(lakehouse, ENTITIES)
    file = folder / "buyers.parquet"
    export(lakehouse, file)
    with lakehouse.reader() as con:
        found = con.execute(f"select distinct buyer from '{file}' order by buyer").fetchall()
    keys = [str(key) for (key,) in random.Random(1).sample(found, 20_000)]
    sqlite, redis = folder / "sqlite", folder / "redis"
    store = LmdbStore(folder / "store")
    declared = _declared(file, keys, "{type: sqlite, path: " + str(folder / "online.db") + "}")
    rows = [_materialized(lakehouse, store, "SQLite", sqlite, declared)]
    ours = _read(store, keys)
    store.close()
    theirs, _ = run_feast("read", sqlite, declared)
    rows += _compared("lmdb", ours, "SQLite", theirs)
    with redis_server() as url:
        address = urlsplit(url).netloc
        other = RedisStore(url, "bench")
        declared = _declared(file, keys, '{type: redis, connection_string: "' + f"{address},db=1" + '"}')
        rows.append(_materialized(lakehouse, other, "Redis", redis, declared))
        theirs, _ = run_feast("read", redis, declared)
        rows += _compared("lmdb", ours, "Redis", theirs)
        ours = _read(other, keys)
        rows += _compared("redis", ours, "Redis", theirs)
        stored = [f"={key}".encode() for key in keys]
        ((values, _),) = other.read([(VIEW, stored)])
        held = {key: value for key, value in zip(stored, values, strict=True) if value is not None}
        bare = _read_bare_redis(url, held)
        rows += [_above(count, ours[count], bare[count]) for count in ours]
        other.close()
    _, rate = against_bare(folder, keys[:500], 1)
    rows.append(against_feast(folder, sqlite, "SQLite", keys[:500], rate))
    return rows
