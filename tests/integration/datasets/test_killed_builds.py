"""A build that is killed leaves whole versions only, and the next one finishes its work."""

import random
import signal
import time

import pytest

from orchestration.learning.datasets.verifying import verify
from tests.forks import CONTEXT
from tests.integration.datasets import killed
from tests.integration.datasets.orders import NAME, Orders


def check_that_readers_see_whole_versions(orders):
    for version in orders.store.versions(NAME):
        assert verify(orders.store, orders.store.manifest(NAME, version), orders.settings) == []


def leftovers(orders):
    return list((orders.store.root / NAME).glob(".unnamed-*"))


@pytest.mark.parametrize(
    ("moment", "is_there"),
    [
        ("before a shard", False),
        ("after the shards", False),
        ("before the manifest", False),
        ("in the middle of the manifest", False),
        ("before the name", False),
        ("after the name", True),
        ("in the middle of the log", True),
        ("after the log", True),
    ],
)
def test_killed_at_the_boundary(orders, moment, is_there):
    first = orders.build().manifest.version
    orders.append(100, 5)
    process = CONTEXT.Process(target=killed.build_once, args=(orders.settings.data_dir, moment))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    found = set(orders.store.versions(NAME))
    assert (len(found) == 2) == is_there
    assert (orders.version().version == first) == (not is_there)
    check_that_readers_see_whole_versions(orders)
    done = orders.build()
    assert done.how == ("same snapshot" if moment == "after the log" else
                        "same content" if is_there else "written")  # fmt: skip
    assert found <= {first, done.manifest.version}
    assert orders.version().version == done.manifest.version
    assert leftovers(orders) == []
    assert orders.store.builds(NAME)[-1].version == done.manifest.version


def test_killed_at_any_moment(tmp_path):
    folder = tmp_path / "data"
    orders = Orders(folder, 3000)
    orders.build()
    chance = random.Random(5)
    for _ in range(20):
        started = CONTEXT.Event()
        process = CONTEXT.Process(target=killed.build_for_ever, args=(folder, started))
        process.start()
        assert started.wait(60)
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        newest = orders.version()
        assert verify(orders.store, newest.manifest, orders.settings) == []
    assert len(orders.store.versions(NAME)) > 20
    check_that_readers_see_whole_versions(orders)
    made = orders.build().manifest.version
    assert orders.version().version == made
    assert leftovers(orders) == []
    assert Orders(folder, 0).build().manifest.version == made
