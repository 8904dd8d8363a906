"""PyTorch's persistent workers read the epoch that the training is in."""

import importlib.util
import multiprocessing
import pickle
import sys
from pathlib import Path

import pytest

from orchestration.learning.datasets.manifest import DatasetError
from orchestration.learning.datasets.version import DatasetVersion
from tests.integration.datasets.orders import Orders

STAND_IN = Path(__file__).parent / "torch_stand_in"
EVERY = 10**6


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    orders = Orders(tmp_path_factory.mktemp("torch") / "data", 3000)
    yield DatasetVersion.open("returns", orders.build().manifest.version, orders.settings)
    orders.lakehouse.teardown_after_execution(None)


@pytest.fixture(scope="module")
def torch_loader():
    names = ["torch", "torch.utils", "torch.utils.data", "torch.distributed"]
    own = [*names, "orchestration.learning.datasets.torch_loader"]
    before = {name: sys.modules.pop(name) for name in own if name in sys.modules}
    sys.path.insert(0, str(STAND_IN))  # Spawned processes have it too.
    yield importlib.import_module("orchestration.learning.datasets.torch_loader")
    sys.path.remove(str(STAND_IN))
    for name in own:
        sys.modules.pop(name, None)
    sys.modules.update(before)


def ids(batch):
    return batch.column("order_id").to_pylist()


def dataset_of(torch_loader, version, **options):
    return torch_loader.TorchDataset(version, columns="order_id", batch_size=100, transform=ids, **options)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_persistent_workers_read_the_epoch_that_is_set(torch_loader, version, start):
    dataset = dataset_of(torch_loader, version, num_workers=2)
    workers = torch_loader._data.PersistentWorkers(dataset, multiprocessing.get_context(start))
    try:
        epochs = []
        for epoch in range(3 if start == "fork" else 2):
            dataset.set_epoch(epoch)
            epochs.append(workers.ask(EVERY))
            assert sorted(n for rows in epochs[-1] for n in rows) == [n for n in range(3000) if n % 10 < 6]
            with pytest.raises(DatasetError, match="StatefulDataLoader"):
                dataset.state_dict()
        assert len({str(rows) for rows in epochs}) == len(epochs)
        alone = dataset_of(torch_loader, version)
        alone.set_epoch(1)
        assert sum(1 for _ in alone) == len(alone) == 18
        dataset.set_epoch(1)
        assert workers.ask(3) == [rows[:300] for rows in epochs[1]]
        states = workers.ask("state")
        assert [(state["epoch"], state["position"]) for state in states] == [(1, 300), (1, 300)]
    finally:
        workers.close()
    resumed = torch_loader._data.PersistentWorkers(dataset, multiprocessing.get_context("fork"))
    try:
        for (requests, answers), state in zip(resumed._queues, states, strict=True):
            requests.put(state)
            answers.get(timeout=60)
        assert resumed.ask(EVERY) == [rows[300:] for rows in epochs[1]]
    finally:
        resumed.close()


def test_in_one_process_a_state_continues_where_it_was(torch_loader, version):
    dataset = dataset_of(torch_loader, version)
    assert dataset.state_dict() == {"epoch": 0}
    dataset.set_epoch(2)
    batches = iter(dataset)
    first = [next(batches) for _ in range(4)]
    again = pickle.loads(pickle.dumps(dataset_of(torch_loader, version)))
    again.load_state_dict(dataset.state_dict())
    whole = dataset_of(torch_loader, version)
    whole.set_epoch(2)
    assert first + list(again) == list(whole)
    assert len(whole) == 18
    assert len(dataset_of(torch_loader, version, num_workers=7)) == 21  # Each worker has a last batch.


def test_invalid_arguments_are_refused_when_the_dataset_is_created(torch_loader, version):
    for options, message in (
        ({"split": "trian"}, "split: found trian, expected one of train"),
        ({"split": []}, "split: found none"),
        ({"worker": 0}, "expected neither: the DataLoader sets them"),
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"num_workers": 0.5}, "num_workers: found 0.5"),
    ):
        with pytest.raises(DatasetError, match=message):
            torch_loader.TorchDataset(version, **options)
    dataset = dataset_of(torch_loader, version)
    for epoch in (-1, 1.5, None, True):
        with pytest.raises(DatasetError, match="epoch: found"):
            dataset.set_epoch(epoch)
    with pytest.raises(DatasetError, match="state: epoch: found None"):
        dataset.load_state_dict({"position": 3})
    with pytest.raises(DatasetError, match="state: found None, expected the dict"):
        dataset.load_state_dict(None)
