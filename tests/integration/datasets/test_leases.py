"""A version that a process reads is kept; a version that is removed during a search is skipped."""

import json
import os
import pickle
import shutil
import signal
import threading
import time
from datetime import UTC, datetime

import pytest

from orchestration.learning.datasets.keeping import READ, collect, needed_snapshots
from orchestration.learning.datasets.loader import Loader
from orchestration.learning.datasets.manifest import DatasetError
from orchestration.learning.datasets.version import DatasetVersion
from tests.forks import CONTEXT
from tests.integration.datasets.orders import NAME

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def two_versions(orders):
    old = orders.build().manifest.version
    orders.append(100, 50)
    return old, orders.build().manifest.version


def collected(orders, *, dry_run=False):
    found = collect(orders.store, NAME, (), NOW, keep=1, older_than=None, dry_run=dry_run)
    return {one.manifest.version: one.reason for one in found}


def read_slowly(settings, version, ready):
    opened = DatasetVersion.open(NAME, version, settings)
    ready.set()
    time.sleep(600)
    opened.close()


def test_a_version_that_is_open_is_not_removed(orders):
    old, new = two_versions(orders)
    version = orders.version(old)
    assert collected(orders, dry_run=True) == collected(orders) == {new: "latest", old: READ}
    batches = iter(Loader(version, batch_size=10))
    next(batches)
    copy = pickle.loads(pickle.dumps(version))
    version.close()
    assert collected(orders)[old] == READ
    assert sum(batch.num_rows for batch in batches) == 50
    del copy
    assert collected(orders)[old] is None
    assert orders.store.versions(NAME) == [new]


def test_a_killed_reader_keeps_no_version(orders):
    old, _ = two_versions(orders)
    ready = CONTEXT.Event()
    reader = CONTEXT.Process(target=read_slowly, args=(orders.settings, old, ready))
    reader.start()
    assert ready.wait(60)
    assert collected(orders)[old] == READ
    os.kill(reader.pid, signal.SIGKILL)
    reader.join(30)
    assert collected(orders)[old] is None


def test_an_error_about_missing_files_names_gc_and_pin(orders):
    version = orders.version(orders.build().manifest.version)
    shutil.rmtree(version.path)  # As a release without leases would remove it.
    for check in (True, False):
        with pytest.raises(DatasetError, match=r"found no file, .*dataset gc --remove.*dataset pin"):
            next(iter(Loader(version, check=check)))
    with pytest.raises(DatasetError, match=r"found no .*manifest\.json, expected a version"):
        pickle.loads(pickle.dumps(version))


def test_latest_opens_while_versions_are_published_and_removed(orders):
    manifests = []
    for n in range(3):
        orders.append(100 + n, 1)
        manifests.append(orders.build().manifest)
    kept = orders.store.root / "kept"
    for manifest in manifests:
        shutil.copytree(orders.store.path(NAME, manifest.version), kept / manifest.version)
    newest, stop, turns = manifests[-1].version, threading.Event(), []

    def churn():
        while not stop.is_set():
            for manifest in manifests[:-1]:
                with orders.store.writing(NAME), orders.store.scratch(NAME) as folder:
                    if manifest.version in orders.store.versions(NAME):
                        orders.store.remove_unread(NAME, manifest.version)
                    else:
                        shutil.copytree(kept / manifest.version, folder, dirs_exist_ok=True)
                        folder.rename(orders.store.path(NAME, manifest.version))
            turns.append(1)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        opened = 0
        until = time.monotonic() + 3
        while time.monotonic() < until or len(turns) < 20:
            assert DatasetVersion.open(NAME, "latest", orders.settings).version == newest
            assert manifests[-1].built.lake.snapshot in needed_snapshots(orders.store)
            orders.store.pins(NAME)
            opened += 1
    finally:
        stop.set()
        thread.join()
    assert opened > 20


def test_a_dataset_is_a_name_not_a_path(orders):
    orders.build()
    for name in ("../datasets/returns", "/returns", "returns/", "", ".", "..", "returns\n"):
        with pytest.raises(DatasetError, match=r"dataset: found .*, expected the name of a training set"):
            DatasetVersion.open(name, "latest", orders.settings)
    assert orders.version().name == NAME


def test_numeric_converts_decimals_and_booleans_to_doubles(orders):
    orders.query = orders.query.replace(
        "    ratio\n",
        "    ratio, (order_id / 7)::decimal(9, 3) as share, case when order_id % 3 > 0 then amount > 9 end as is_big\n",
    )
    orders.train()
    orders.build()
    version = orders.version()
    names = ["order_id", "share", "is_big"]
    plain = version.to_df("train", names)
    assert list(plain.select_dtypes("number")) == ["order_id"]
    numeric = version.to_df("train", names, numeric=True)
    assert list(numeric.select_dtypes("number")) == names
    assert numeric["share"].tolist() == pytest.approx([float(value) for value in plain["share"]], rel=1e-15)
    assert numeric["is_big"].isna().sum() == plain["is_big"].isna().sum() > 0
    assert version.read("train", names, numeric=True).schema.field("share").type == "double"
    assert json.loads(numeric.to_json())["is_big"]["1"] in (0.0, 1.0)
