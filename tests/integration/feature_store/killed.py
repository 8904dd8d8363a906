"""What processes do that are killed in the middle of a materialization."""

import shutil
from pathlib import Path

from orchestration.feature_store.online import lmdb_recent, materialization, redis_store
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.materialization import materialize
from orchestration.feature_store.online.redis_store import RedisStore
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Settings
from tests.integration.feature_store.lakes import VIEW, at
from tests.integration.feature_store.stores import by_turns
from tests.killing import die, then_die


def at_moment(moment):
    """Arrange for this process to be killed at a moment of its next write."""
    match moment:
        case "before the commit of changes":
            lmdb_recent.Entities.apply = then_die(lmdb_recent.Entities.apply)
            redis_store.RedisStore._commit = die
        case "while the recent move in place":
            lmdb_recent.Entities._put = then_die(lmdb_recent.Entities._put)
        case "after the commit of changes":
            materialization._Run._report = die
        case "before a new generation is named":
            Path.replace = die
            redis_store.RedisStore._commit = die
        case "after a new generation is named":
            Path.replace = then_die(Path.replace)
            redis_store.RedisStore._commit = then_die(redis_store.RedisStore._commit)
        case "before the old generation is removed":
            shutil.rmtree = die
            redis_store.RedisStore._commit = then_die(redis_store.RedisStore._commit)


def open_place(place):
    return RedisStore(*place) if len(place) == 2 else LmdbStore(Path(place[0]), by_turns)


def materialize_once(folder, place, full, moment):
    """Materialize, and be killed at that moment if there is one."""
    lakehouse = LakehouseResource.from_settings(Settings(data_dir=folder, duckdb_threads=1))
    at_moment(moment)
    materialize(lakehouse, open_place(place), VIEW, at(1000), full=full)


def materialize_for_ever(folder, place, started):
    """Materialize by turns all and what has changed, adding a row to each entity before each."""
    lakehouse = LakehouseResource.from_settings(Settings(data_dir=folder, duckdb_threads=1))
    store, hour = open_place(place), 100
    with lakehouse.get_connection() as con:
        (hour,) = con.execute("select 1 + max(count) from features.levels").fetchone()
        while True:
            con.execute(
                f"insert into features.levels select pump, pipe, timestamptz '{at(hour).isoformat()}', {hour}, 'n', "
                f"{hour} from (select distinct pump, pipe from features.levels)"
            )
            materialize(lakehouse, store, VIEW, at(10_000), full=hour % 2 == 0)
            started.set()
            hour += 1
