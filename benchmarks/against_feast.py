"""The online store against Feast: reads in process, materialization, and the server.

Both have the same rows of the same entities: we in the lakehouse, Feast in a Parquet file behind its DuckDB
offline store. Embedded stores are compared with each other (LMDB, SQLite), and both in the same kind of Redis.
The number of entities is one at which ``feast materialize`` ends in a minute or two; rates are compared.
"""

import random
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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

ENTITIES = 50_000


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


def _read(store: OnlineStore, keys: list[str]) -> dict[str, tuple[float, float]]:
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


def _rows(
    lakehouse: LakehouseResource, store: OnlineStore, theirs: str, folder: Path, declared: dict[str, Any]
) -> list[Row]:
    seconds = materialize(lakehouse, store, VIEW, NOW, full=True).seconds
    told, _ = run_feast("materialize", folder, declared)
    rows = [
        Row(
            f"materialize {ENTITIES:,} entities of {ENTITIES * ROWS_EACH:,} rows, {store.kind}",
            f"{ENTITIES / seconds:,.0f} rows/s",
            f"{ENTITIES / told['seconds']:,.0f} rows/s: feast materialize, {theirs}",
            told["seconds"] / seconds, 50.0, at_least=True,
        )
    ]  # fmt: skip
    ours = _read(store, declared["keys"])
    told, _ = run_feast("read", folder, declared)
    for count, (mid, late) in ours.items():
        their_mid, their_late = told[count]
        entities = "1 entity" if count == "1" else f"{count} entities"
        rows.append(
            Row(
                f"read {entities} x 10 features, {store.kind}",
                f"p50 {mid:.0f} us, p99 {late:.0f} us",
                f"p50 {their_mid:,.0f} us, p99 {their_late:,.0f} us: Feast, {theirs}",
                their_mid / mid, 10.0, at_least=True,
            )
        )  # fmt: skip
    return rows


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
    store = LmdbStore(folder / "store")
    rows = _rows(
        lakehouse, store, "SQLite", folder / "sqlite",
        _declared(file, keys, "{type: sqlite, path: " + str(folder / "online.db") + "}"),
    )  # fmt: skip
    store.close()
    with redis_server() as url:
        address = urlsplit(url).netloc
        other = RedisStore(url, "bench")
        declared = _declared(file, keys, '{type: redis, connection_string: "' + f"{address},db=1" + '"}')
        rows += _rows(lakehouse, other, "Redis", folder / "redis", declared)
        other.close()
    _, rate = against_bare(folder, keys[:500], 1)
    rows.append(against_feast(folder, folder / "sqlite", "SQLite", keys[:500], rate))
    return rows
