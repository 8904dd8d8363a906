"""A materialization that is killed leaves the whole old or the whole new state, and the next one finishes the work."""

import random
import signal
import time

import pytest

from orchestration.feature_store.online import lmdb_store
from orchestration.feature_store.online.encoding import Layout
from orchestration.feature_store.online.keys import EntityKeys
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.verification import compare
from tests.forks import CONTEXT
from tests.integration.feature_store import killed
from tests.integration.feature_store.lakes import Lake
from tests.integration.feature_store.stores import recent

ENTITIES = 60


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path / "data")
    lake.insert(*[("a", n, 0, 0, "n", 0) for n in range(ENTITIES)])
    yield lake
    lake.con.close()


def place_of(store):
    return (str(store.folder),) if isinstance(store, LmdbStore) else (store._url, store._prefix)


def states(store, view):
    """The hours of the values of all entities: one of them if the state is whole."""
    keys = EntityKeys(view).encode([["a"] * ENTITIES, list(range(ENTITIES))])
    ((values, _),) = store.read([(view, keys)])
    assert None not in values
    layout = Layout(view)
    return set(layout.decode(values, [layout.position("count")]).columns[0])


@pytest.mark.parametrize(
    ("full", "moment", "is_new"),
    [
        (False, "before the commit of changes", False),
        (False, "after the commit of changes", True),
        (True, "before a new generation is named", False),
        (True, "after a new generation is named", True),
        (True, "before the old generation is removed", True),
    ],
)
def test_killed_at_the_boundary(lake, any_store, full, moment, is_new, monkeypatch):
    monkeypatch.setattr(lmdb_store, "LOOK_SECONDS", 0)
    lake.materialize(any_store)
    kill_and_go_on(lake, any_store, 1, moment, full=full, is_new=is_new)


@pytest.mark.parametrize(
    ("moment", "is_new"),
    [
        ("while the recent move in place", False),
        ("before the commit of changes", False),
        ("after the commit of changes", True),
    ],
)
def test_killed_as_what_changed_recently_moves_in_place(lake, store, moment, is_new):
    lake.materialize(store)
    lake.insert(*[("a", n, 1, 1, "n", 1) for n in range(ENTITIES)])
    lake.materialize(store)
    assert recent(store, "levels") == ENTITIES
    kill_and_go_on(lake, store, 2, moment, full=False, is_new=is_new)
    assert recent(store, "levels") == 0


def kill_and_go_on(lake, store, hour, moment, *, full, is_new):
    """Add the rows of an hour, kill what materializes them, and look at what it leaves."""
    before = store.position("levels")
    assert states(store, lake.view) == {hour - 1}
    lake.insert(*[("a", n, hour, 1, "n", hour) for n in range(ENTITIES)])
    process = CONTEXT.Process(
        target=killed.materialize_once,
        args=(str(lake.lakehouse.settings.data_dir), place_of(store), full, moment),
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    found = {hour if is_new else hour - 1}
    fresh = killed.open_place(place_of(store))
    assert states(fresh, lake.view) == found
    assert (fresh.position("levels") != before) == is_new
    assert states(store, lake.view) == found
    done = lake.materialize(store)
    assert done.mode == "changes"
    assert done.written == (0 if is_new else ENTITIES)
    assert states(store, lake.view) == {hour}
    assert compare(lake.lakehouse, store, lake.view).holds


def test_killed_at_any_moment(lake, any_store):
    lake.materialize(any_store)
    chance = random.Random(3)
    seen = set()
    for _ in range(20):
        started = CONTEXT.Event()
        process = CONTEXT.Process(
            target=killed.materialize_for_ever,
            args=(str(lake.lakehouse.settings.data_dir), place_of(any_store), started),
        )
        process.start()
        assert started.wait(60)
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
        process.join(60)
        found = states(any_store, lake.view)
        assert len(found) == 1
        seen |= found
    assert len(seen) == 20
    lake.materialize(any_store, 10_000)
    assert compare(lake.lakehouse, any_store, lake.view).holds
