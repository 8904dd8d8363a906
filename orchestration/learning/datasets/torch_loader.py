"""A loader as a dataset of PyTorch. Importing this module imports torch, which nothing else needs.

    dataset = TorchDataset(version, split="train", columns=[...], batch_size=1024, transform=to_tensors)
    for batch in torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=4):
        ...

What belongs here: which part of the rows a process of PyTorch reads. What does not: their order (``loader``).
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from orchestration.learning.datasets.loader import Loader
from orchestration.learning.datasets.manifest import DatasetError
from orchestration.learning.datasets.version import DatasetVersion

try:
    # By name: types are checked where PyTorch is not installed, too.
    _data: Any = import_module("torch.utils.data")
    _distributed: Any = import_module("torch.distributed")
except ImportError as error:
    raise DatasetError("found no package torch, expected PyTorch: install it beside Groundwork") from error


class TorchDataset(_data.IterableDataset):  # type: ignore[misc]
    """The batches of a ``Loader``, in each worker of each rank those that are its own.

    ``DataLoader`` takes it with ``batch_size=None``: batches are made here. Rank and world size are those
    of ``torch.distributed`` where that runs, and workers those of the ``DataLoader``.
    """

    def __init__(
        self, version: DatasetVersion, *, transform: Callable[[Any], Any] | None = None, **options: Any
    ) -> None:
        """Say what is read.

        Args:
            version: The version.
            transform: Makes what is given of a ``pyarrow.RecordBatch``; the batch itself when None.
            options: The arguments of ``Loader``, but worker and workers.
        """
        super().__init__()
        if _distributed.is_available() and _distributed.is_initialized():
            own = {"rank": _distributed.get_rank(), "world_size": _distributed.get_world_size()}
            options = {**own, **options}
        self._version, self._options, self._transform = version, options, transform
        self._epoch = 0
        self._state: dict[str, Any] | None = None
        self._loader: Loader | None = None

    def set_epoch(self, epoch: int) -> None:
        """The epoch that is given next; to be called before each, as workers begin anew."""
        self._epoch, self._state = epoch, None

    def __iter__(self) -> Iterator[Any]:
        """The batches that are left of the epoch."""
        info = _data.get_worker_info()
        worker = {} if info is None else {"worker": info.id, "workers": info.num_workers}
        self._loader = Loader(self._version, **self._options, **worker)
        state, self._state = self._state, None
        if state is None:
            batches = self._loader.epoch(self._epoch)
        else:
            self._loader.load_state_dict(state)
            batches = iter(self._loader)
        for batch in batches:
            yield batch if self._transform is None else self._transform(batch)

    def state_dict(self) -> dict[str, Any]:
        """Where this process stands; ``torchdata``'s ``StatefulDataLoader`` asks each worker."""
        return {"epoch": self._epoch} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._epoch, self._state = int(state["epoch"]), state if "position" in state else None
