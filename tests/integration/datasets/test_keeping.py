"""What is pinned, in use or the newest stays, and with it the snapshots it needs."""

from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from orchestration.lakehouse.maintenance import maintain
from orchestration.learning.datasets.keeping import collect, needed_snapshots
from orchestration.learning.datasets.manifest import DatasetError
from orchestration.learning.datasets.rebuilding import rebuild
from tests.integration.datasets.orders import NAME

NOTHING = timedelta(0)


@pytest.fixture
def five(orders):
    """Five versions, the oldest first."""
    versions = [orders.build().manifest.version]
    for n in range(4):
        orders.append(100 + n, 1)
        versions.append(orders.build().manifest.version)
    return versions


def collected(orders, *, used=None, now=None, keep=None, older_than=None, dry_run=False):
    found = collect(
        orders.store, NAME, [lambda dataset: used or {}], now or datetime.now(UTC), keep=keep,
        older_than=older_than, dry_run=dry_run,
    )  # fmt: skip
    return {one.manifest.version: one.reason for one in found}


def test_the_newest_the_pinned_and_the_used_stay(orders, five):
    orders.store.pin(NAME, five[0], "what the paper used", datetime.now(UTC))
    told = collected(orders, used={five[1]: "model returns 3"}, keep=2, dry_run=True)
    assert told == {
        five[4]: "latest",
        five[3]: "one of the newest 2",
        five[2]: None,
        five[1]: "in use: model returns 3",
        five[0]: "pinned: what the paper used",
    }
    assert set(orders.store.versions(NAME)) == set(five)
    collected(orders, used={five[1]: "model returns 3"}, keep=2)
    assert set(orders.store.versions(NAME)) == set(five) - {five[2]}
    orders.store.unpin(NAME, five[0])
    collected(orders, keep=1)
    assert orders.store.versions(NAME) == [five[4]]
    assert orders.build().how == "same snapshot"


def test_younger_ones_stay_and_the_latest_does_whatever_its_age(orders, five):
    assert None not in collected(orders, older_than=timedelta(days=1), dry_run=True).values()
    later = datetime.now(UTC) + timedelta(days=2)
    told = collected(orders, older_than=timedelta(days=1), now=later, dry_run=True)
    assert [version for version, reason in told.items() if reason] == [five[4]]
    both = collected(orders, older_than=timedelta(days=1), keep=3, now=later, dry_run=True)
    assert [version for version, reason in both.items() if reason] == [five[4], five[3], five[2]]


def test_what_makes_no_sense_is_refused(orders, five):
    for options, message in (({}, "neither keep nor older_than"), ({"keep": 0}, "keep: found 0")):
        with pytest.raises(DatasetError, match=message):
            collected(orders, **options)
    with pytest.raises(DatasetError, match="found no reason"):
        orders.store.pin(NAME, five[0], " ", datetime.now(UTC))
    with pytest.raises(DatasetError, match="found no pin"):
        orders.store.unpin(NAME, five[0])


def test_snapshots_of_kept_versions_outlive_maintenance_and_no_longer(orders, five):
    old = orders.store.manifest(NAME, five[0])
    orders.append(300, 10)
    assert old.built.lake.snapshot in needed_snapshots(orders.store)
    done = maintain(
        orders.lakehouse, retention=NOTHING, safe_age=NOTHING, keep=needed_snapshots(orders.store)
    )
    assert done.snapshots_held == 5
    assert done.snapshots_expired > 0
    for version in five:
        assert rebuild(orders.store, orders.lakehouse, orders.store.manifest(NAME, version)).equal
    collected(orders, keep=1)
    done = maintain(
        orders.lakehouse, retention=NOTHING, safe_age=NOTHING, keep=needed_snapshots(orders.store)
    )
    assert (done.snapshots_held, done.snapshots_expired) == (1, 4)
    with pytest.raises(duckdb.Error, match="No snapshot found"):
        orders.lakehouse.open(read_only=True, snapshot=old.built.lake.snapshot)


def test_nothing_is_expired_while_a_manifest_cannot_be_read(orders, five):
    file = orders.store.path(NAME, five[2]) / "manifest.json"
    file.chmod(0o644)
    file.write_text("{}")
    with pytest.raises(DatasetError, match="format: found None"):
        needed_snapshots(orders.store)
