"""The epoch of a training, shared with the worker processes that load its data.

What belongs here: a number that forked and spawned workers read. What does not: the rows of an epoch.
"""

import multiprocessing
from multiprocessing.context import get_spawning_popen
from typing import Any


class SharedEpoch:
    """A number in memory that a process shares with the workers it starts, forked or spawned.

    Any other copy, such as one by ``pickle.dumps``, starts with the same number and is not shared.
    """

    def __init__(self, epoch: int = 0) -> None:
        self._shared = multiprocessing.RawArray("q", [epoch, -1])

    @property
    def number(self) -> int:
        """The epoch that is read next."""
        return int(self._shared[0])

    @number.setter
    def number(self, epoch: int) -> None:
        self._shared[0] = epoch

    @property
    def is_read_by_workers(self) -> bool:
        """Whether a worker has begun to read the epoch."""
        return bool(self._shared[1] == self._shared[0])

    def begin_in_worker(self) -> None:
        """Record that a worker reads the epoch."""
        self._shared[1] = self._shared[0]

    def __getstate__(self) -> Any:
        return self._shared if get_spawning_popen() is not None else self.number

    def __setstate__(self, state: Any) -> None:
        self._shared = multiprocessing.RawArray("q", [state, -1]) if isinstance(state, int) else state
