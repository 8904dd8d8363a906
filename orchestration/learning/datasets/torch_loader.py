"""A loader as a dataset of PyTorch. Importing this module imports torch, which nothing else needs.

    dataset = TorchDataset(version, split="train", columns=[...], batch_size=1024, transform=to_tensors)
    for batch in torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=4):
        ...

What belongs here: which part of the rows a process of PyTorch reads. What does not: their order (``loader``).
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from orchestration.learning.datasets.loader import Loader, check_state, whole_number
from orchestration.learning.datasets.manifest import DatasetError
from orchestration.learning.datasets.shared_epoch import SharedEpoch
from orchestration.learning.datasets.version import DatasetVersion

try:
    # By name: types are checked where PyTorch is not installed, too.
    _data: Any = import_module("torch.utils.data")
    _distributed: Any = import_module("torch.distributed")
except ImportError as error:
    raise DatasetError("found no package torch, expected PyTorch: install it beside Groundwork") from error


class TorchDataset(_data.IterableDataset):  # type: ignore[misc]
    """The batches of a ``Loader``; each worker of each rank gets its own.

    ``DataLoader`` takes it with ``batch_size=None``: batches are made here. Rank and world size are those
    of ``torch.distributed`` where that runs, and workers those of the ``DataLoader``. The order of
    an epoch is that of the number last passed to ``set_epoch``.
    """

    def __init__(
        self,
        version: DatasetVersion,
        *,
        transform: Callable[[Any], Any] | None = None,
        num_workers: int = 0,
        **options: Any,
    ) -> None:
        """Say what is read.

        Args:
            version: The version.
            transform: Makes what is given of a ``pyarrow.RecordBatch``; the batch itself when None.
            num_workers: That of the ``DataLoader``; ``len`` depends on it.
            options: The arguments of ``Loader``, but worker and workers.

        Raises:
            DatasetError: An argument of ``Loader`` cannot be used.
        """
        super().__init__()
        if "worker" in options or "workers" in options:
            raise DatasetError("worker, workers: found one, expected neither: the DataLoader sets them")
        if _distributed.is_available() and _distributed.is_initialized():
            own = {"rank": _distributed.get_rank(), "world_size": _distributed.get_world_size()}
            options = {**own, **options}
        # Validate the arguments now, before workers start.
        num_workers = whole_number("num_workers", num_workers)
        self._batches = sum(
            Loader(version, **options, worker=worker, workers=max(1, num_workers)).batches
            for worker in range(max(1, num_workers))
        )
        self._version, self._options, self._transform = version, options, transform
        self._epoch = SharedEpoch()
        self._state: dict[str, Any] | None = None
        self._loader: Loader | None = None

    def __len__(self) -> int:
        """The number of batches of an epoch from all workers of this rank."""
        return self._batches

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch to read next, also in persistent workers; call it before each epoch."""
        self._epoch.number = whole_number("epoch", epoch)
        self._state = self._loader = None

    def __iter__(self) -> Iterator[Any]:
        """The batches that are left of the epoch."""
        info = _data.get_worker_info()
        worker = {} if info is None else {"worker": info.id, "workers": info.num_workers}
        loader = Loader(self._version, **self._options, **worker)
        state, self._state = self._state, None
        if state is None:
            batches = loader.epoch(self._epoch.number)
        else:
            loader.load_state_dict(state)
            batches = iter(loader)
        if info is not None:
            self._epoch.begin_in_worker()
        self._loader = loader
        return self._transformed(batches)

    def _transformed(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            yield batch if self._transform is None else self._transform(batch)

    def state_dict(self) -> dict[str, Any]:
        """The position of this process.

        Raises:
            DatasetError: Workers read the epoch, and only they have the position. ``torchdata``'s
                ``StatefulDataLoader`` collects it from each of them.
        """
        if self._loader is not None:
            return self._loader.state_dict()
        if self._epoch.is_read_by_workers:
            raise DatasetError(
                "state_dict: found workers that read the epoch, expected a call in each of them: use "
                "torchdata.stateful_dataloader.StatefulDataLoader and its state_dict()"
            )
        return {"epoch": self._epoch.number}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of ``state_dict``.

        Raises:
            DatasetError: The state has no epoch.
        """
        check_state(state)
        epoch, is_only_epoch = whole_number("state: epoch", state.get("epoch")), len(state) == 1
        if is_only_epoch or _data.get_worker_info() is None:  # Each worker has its own state.
            self._epoch.number = epoch
        self._state, self._loader = None if is_only_epoch else state, None
