"""A view whose values are the generation they were written in, a writer of generations, a server over them.

``python -m benchmarks.mill write|serve FOLDER SECONDS [REDIS_URL]``. What belongs here: what is read from.
What does not: those who read (``clients``).
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks.clients import ENTITIES, FEATURES, KEY, VIEW
from benchmarks.served import make_app
from orchestration.declarations import DeclaredColumn
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.materialization import materialize
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.online.store import OnlineStore
from orchestration.feature_store.server import FeatureServer, serve
from orchestration.feature_store.views import Catalog, View
from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.tables import relation
from orchestration.settings import Clock, Settings

START, NOW = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
REBUILD_EVERY = 3
"""Of so many materializations one writes everything anew."""


def _columns(*names: str, data_type: str) -> tuple[DeclaredColumn, ...]:
    return tuple(DeclaredColumn(name, data_type, name, "internal") for name in names)


STOCK = View(
    name=VIEW,
    schema="features",
    table=VIEW,
    entity=_columns(KEY, data_type="varchar"),
    timestamp="known_at",
    ttl=timedelta(days=2),
    online=True,
    features=_columns(*FEATURES, data_type="bigint"),
    description="Stock.",
    owner="team:benchmarks",
)
CATALOG = Catalog({VIEW: STOCK})


def open_store(folder: Path, redis_url: str | None) -> OnlineStore:
    """LMDB in the folder, or Redis under the folder's name.

    In LMDB, changes to all entities by turns go among the recent and move these in place.
    """
    if redis_url is None:
        return LmdbStore(folder / "online", lambda entities: entities * 3 // 2)
    from orchestration.feature_store.online.redis_store import RedisStore  # noqa: PLC0415

    return RedisStore(redis_url, folder.name)


def make_reader(folder: Path, redis_url: str | None) -> OnlineReader:
    """What reads the view online."""
    return OnlineReader(CATALOG, open_store(folder, redis_url), Clock(NOW))


class Mill:
    """Writes generations into the lakehouse, and after each, changes or everything into the store."""

    def __init__(self, folder: Path, redis_url: str | None) -> None:
        self.lakehouse = LakehouseResource.from_settings(Settings(data_dir=folder / "data", duckdb_threads=1))
        self.store = open_store(folder, redis_url)
        self.changes = self.rebuilds = 0

    def write(self, seconds: float) -> None:
        """Generations for so long; at least the first."""
        table = relation(STOCK.schema, STOCK.table)
        until = time.monotonic() + seconds
        with self.lakehouse.get_connection() as con:
            con.execute("create schema if not exists features")
            columns = ", ".join(f"{name} bigint" for name in FEATURES)
            con.execute(
                f"create table if not exists {table} ({KEY} varchar, known_at timestamptz, {columns})"
            )
            ((last,),) = con.execute(f"select coalesce(max(f0), 0) from {table}").fetchall()
            generation = int(last)
            while generation == last or time.monotonic() < until:
                generation += 1
                at = (START + timedelta(microseconds=generation)).isoformat()
                values = ", ".join([f"{generation}"] * len(FEATURES))
                con.execute(
                    f"insert into {table} select 'item-' || i, timestamptz '{at}', {values} "
                    f"from range({ENTITIES}) as r(i)"
                )
                full = generation % REBUILD_EVERY == 0
                done = materialize(self.lakehouse, self.store, STOCK, NOW, full=full)
                self.rebuilds += done.mode == "rebuild"
                self.changes += done.mode == "changes"


def _app(folder: Path, redis_url: str | None, workers: int) -> FeatureServer:
    return make_app(folder, CATALOG, make_reader(folder, redis_url), NOW, workers)


def main(what: str, folder: Path, number: float, redis_url: str | None) -> None:
    """Write for so many seconds, or serve with so many workers."""
    if what == "serve":
        workers = int(number)
        serve(Settings(server_workers=workers), partial(_app, folder, redis_url, workers))
        return
    mill = Mill(folder, redis_url)
    mill.write(0)
    print("writing", flush=True)
    mill.write(number)
    print(json.dumps({"changes": mill.changes, "rebuilds": mill.rebuilds}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
