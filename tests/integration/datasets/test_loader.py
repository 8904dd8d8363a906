"""Readers share the rows of an epoch: each row is given once, in an order that seed and epoch decide."""

import json
import re
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.learning.datasets.loader import Loader
from orchestration.learning.datasets.manifest import DatasetError
from orchestration.learning.datasets.version import DatasetVersion
from tests.integration.datasets.orders import Orders

TRAIN = 7200


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    orders = Orders(tmp_path_factory.mktemp("loader") / "data", 12_000)
    return DatasetVersion.open("returns", orders.build().manifest.version, orders.settings)


def ids(batches):
    return [n for batch in batches for n in batch.column("order_id").to_pylist()]


def reader(version, **options):
    return Loader(version, columns=["order_id"], **options)


@settings(max_examples=15, deadline=None)
@given(
    world=st.integers(1, 4),
    workers=st.integers(1, 3),
    batch_size=st.integers(200, 9000),  # batches of a row take long
    other_size=st.integers(200, 9000),
    shuffle_rows=st.sampled_from([1, 2048, 5000, 100_000]),
    shuffle=st.booleans(),
    seed=st.integers(0, 3),
    stop=st.integers(0, 8),
)
def test_no_row_is_given_twice_or_dropped_whoever_reads_and_wherever_one_goes_on(
    version, world, workers, batch_size, other_size, shuffle_rows, shuffle, seed, stop
):
    given_rows, lengths = [], []
    for rank in range(world):
        for worker in range(workers):
            options = {
                "rank": rank, "world_size": world, "worker": worker, "workers": workers, "seed": seed,
                "shuffle": shuffle, "shuffle_rows": shuffle_rows,
            }  # fmt: skip
            whole = reader(version, batch_size=batch_size, **options)
            batches = list(whole.epoch(2))
            assert all(batch.num_rows == batch_size for batch in batches[:-1])
            rows = ids(batches)
            assert len(rows) == len(whole)
            stopped = reader(version, batch_size=batch_size, **options)
            first = ids(batch for _, batch in zip(range(stop), stopped.epoch(2), strict=False))
            state = stopped.state_dict()
            resumed = reader(version, batch_size=other_size, **options)
            resumed.load_state_dict(state)
            assert first + (ids(resumed) if state["epoch"] == 2 else []) == rows
            given_rows += rows
            lengths.append(len(rows))
    assert len(given_rows) == TRAIN
    assert set(given_rows) == {n for n in range(12_000) if n % 10 < 6}
    assert max(lengths) - min(lengths) <= 1


def test_seed_and_epoch_decide_the_order(version):
    def order(epoch, **options):
        return ids(reader(version, **options).epoch(epoch))

    assert order(1, seed=3) == order(1, seed=3)
    assert order(1, seed=3) != order(2, seed=3)
    assert order(1, seed=3) != order(1, seed=4)
    kept = version.read("train", ["order_id"]).column("order_id").to_pylist()
    assert order(1, shuffle=False) == kept
    assert order(0) != kept
    # These orders are promised: a resumed training must meet them in any release.
    assert order(0, seed=3)[:4] == [5690, 4563, 3934, 9810]


def test_a_loader_goes_on_to_the_next_epoch_and_over_several_splits(version):
    loader = reader(version, split=["validation", "test"], batch_size=1000)
    first, second = ids(loader), ids(loader)
    assert sorted(first) == sorted(second)
    assert first != second
    assert len(first) == 4800
    assert loader.state_dict()["epoch"] == 2


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=8), st.integers(900, 4000)
)
def test_iterators_of_different_epochs_are_independent(version, steps, batch_size):
    loader = reader(version, batch_size=batch_size)
    orders = {number: ids(reader(version).epoch(number)) for number in range(3)}
    open_ones = [[number, loader.epoch(number), []] for number, _ in steps]  # All before any is read.
    for turn in range(3):
        for number, batches, rows in open_ones:
            if (number + turn) % 2 == 0:
                rows += ids([batch] if (batch := next(batches, None)) is not None else [])
    for number, batches, rows in open_ones:
        assert rows + ids(batches) == orders[number]


def test_an_invalid_state_is_refused(version):
    loader = reader(version)
    state = loader.state_dict()
    for changed, message in (
        ({"position": -5}, f"state: position: found -5, expected 0 to {TRAIN}"),
        ({"position": 10**9}, f"state: position: found 1000000000, expected 0 to {TRAIN}"),
        ({"position": None}, "state: position: found None, expected a whole number"),
        ({"position": 1.5}, "state: position: found 1.5, expected a whole number"),
        ({"epoch": -1}, "state: epoch: found -1, expected 0 or more"),
    ):
        with pytest.raises(DatasetError, match=message):
            loader.load_state_dict({**state, **changed})
    for name in ("position", "epoch"):
        with pytest.raises(DatasetError, match=f"state: {name}: found None"):
            loader.load_state_dict({key: value for key, value in state.items() if key != name})
    for number in (-1, 0.5, None, "1"):
        with pytest.raises(DatasetError, match="epoch: found"):
            loader.epoch(number)
    assert loader.state_dict() == state
    loader.load_state_dict({**state, "position": TRAIN})
    assert list(loader) == []


@pytest.mark.parametrize("read", [DatasetVersion.read, Loader], ids=["read", "loader"])
def test_only_named_columns_and_splits_are_read(version, read):
    for options, message in (
        ({"columns": []}, "columns: found none, expected some of order_id"),
        ({"columns": ["order_id", "order_id"]}, "columns: found order_id twice"),
        ({"columns": "order"}, "columns: found order, expected some of"),
        ({"split": []}, "split: found none, expected some of train"),
        ({"split": ["train", "tset"]}, "split: found tset, expected one of train"),
    ):
        with pytest.raises(DatasetError, match=message):
            read(version, **options)
    assert version.read("train", "order_id").column_names == ["order_id"]
    assert next(iter(Loader(version, columns="note"))).schema.names == ["note"]
    assert (len(version), len(Loader(version)), Loader(version, batch_size=1000).batches) == (
        12_000,
        TRAIN,
        8,
    )


def test_memory_holds_two_windows(version, tmp_path):
    orders = Orders(tmp_path / "data", 40_000, dataset_row_group_rows=4096, dataset_shard_rows=100_000)
    wide = DatasetVersion.open("returns", orders.build().manifest.version, orders.settings)
    orders.lakehouse.teardown_after_execution(None)
    window = wide.read("train").nbytes * 8192 / 24_000
    list(Loader(wide, shuffle_rows=8192).epoch(0))
    before, most = pa.total_allocated_bytes(), 0
    for _ in Loader(wide, shuffle_rows=8192, batch_size=512).epoch(1):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 3 * window  # Two windows, and a column of the next.


def test_what_makes_no_sense_is_refused(version):
    for options, message in (
        ({"rank": 2, "world_size": 2}, "^rank: found 2, expected 0 to 1$"),
        ({"worker": -1}, "^worker: found -1, expected 0"),
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"seed": -1}, "seed: found -1"),
        ({"split": "later"}, "split: found later"),
        ({"split": None}, "split: found None, expected a name"),
        ({"split": [["train"]]}, r"split: found \['train'\], expected a name"),
        ({"shuffle": "no"}, "^shuffle: found 'no', expected True or False"),
        ({"check": None}, "^check: found None"),
        *(
            ({"rank": 0, "world_size": 1, name: value}, f"^{name}: found {re.escape(repr(value))}, expected")
            for name in ("rank", "world_size", "worker", "workers", "batch_size", "shuffle_rows", "seed")
            for value in (0.5, None, "1", True, -1)
        ),
    ):
        with pytest.raises(DatasetError, match=message):
            reader(version, **options)
    with pytest.raises(DatasetError, match="columns: found 3, expected a name"):
        Loader(version, columns=3)
    state = reader(version, seed=1).state_dict()
    with pytest.raises(DatasetError, match="state: seed: found 1, expected 2"):
        reader(version, seed=2).load_state_dict(state)
    with pytest.raises(DatasetError, match="state: readers: found 1, expected 2"):
        reader(version, seed=1, world_size=2).load_state_dict(state)


@pytest.mark.parametrize("state", [None, 3, [], "{}"])
def test_a_state_that_is_no_dict_is_refused(version, state):
    loader = reader(version)
    before = loader.state_dict()
    with pytest.raises(DatasetError, match=f"^state: found {re.escape(repr(state))}, expected the dict"):
        loader.load_state_dict(state)
    assert loader.state_dict() == before


def test_numbers_of_numpy_give_the_same_order_and_a_state_for_json(version):
    options = {"seed": 3, "batch_size": 500, "rank": 1, "world_size": 2, "shuffle_rows": 4096}
    loader = reader(version, **{name: np.int64(value) for name, value in options.items()})
    plain = reader(version, **options)
    assert ids(loader) == ids(plain)
    assert json.loads(json.dumps(loader.state_dict())) == plain.state_dict()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["epoch", "iter", "load", "next"]), st.integers(0, 3)), max_size=12)
)
def test_the_state_is_that_of_the_iterator_created_last(version, steps):
    loader = reader(version, batch_size=900)
    iterators, state, current = [], loader.state_dict(), None
    for action, number in steps:
        if action == "epoch":
            iterators.append(loader.epoch(number))
            state, current = {**state, "epoch": number, "position": 0}, len(iterators) - 1
        elif action == "iter":
            iterators.append(iter(loader))
            current = len(iterators) - 1
        elif action == "load":
            state, current = {**state, "epoch": number, "position": 17}, None
            loader.load_state_dict(state)
        elif iterators:
            chosen = number % len(iterators)
            batch = next(iterators[chosen], None)
            if chosen == current:
                ends = {"epoch": state["epoch"] + 1, "position": 0}
                given_rows = {} if batch is None else {"position": state["position"] + batch.num_rows}
                state = {**state, **(ends if batch is None else given_rows)}
                current = None if batch is None else current
        assert loader.state_dict() == state


def test_pytorch_is_needed_by_who_asks_for_it_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "orchestration.learning.datasets.torch_loader", raising=False)
    with pytest.raises(DatasetError, match="found no package torch"):
        import orchestration.learning.datasets.torch_loader  # noqa: F401, PLC0415
