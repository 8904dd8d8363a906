"""Counters that the worker processes of one server share.

What belongs here: numbers in shared memory, each with one writer. What does not: what is counted.
"""

import fcntl
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

_BYTES = 8


class Counters:
    """One row of 64-bit numbers a worker, in a file that all of them map into memory.

    A worker writes its own row only, so that nothing needs a lock; whoever asks sums all rows. A row
    belongs to the process that holds the lock on its byte, so the successor of a killed worker goes on
    counting where that one stopped.

    Args:
        path: The file; made if missing.
        names: What is counted, in the same order in every process.
        rows: How many processes there can be.
        spare: Numbers without a name, after those with one.

    Raises:
        RuntimeError: More processes than rows.
    """

    def __init__(self, path: Path, names: Sequence[str], rows: int, spare: int = 0) -> None:
        self.index: Mapping[str, int] = {name: i for i, name in enumerate(names)}
        self._width, self._rows = len(names) + spare, rows
        size = self._width * rows * _BYTES
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)
        self._row = self._claim(path)
        self._all = memoryview(mmap.mmap(self._file, size)).cast("Q")
        self.mine = self._all[self._row * self._width : (self._row + 1) * self._width]
        """This process's numbers, by ``index``."""

    def _claim(self, path: Path) -> int:
        for row in range(self._rows):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
            except OSError:
                continue
            return row
        raise RuntimeError(f"{path}: {self._rows} processes count already, expected fewer")

    def cells(self, index: int) -> list[int]:
        """One number of every process."""
        return self._all[index :: self._width].tolist()

    def totals(self) -> dict[str, int]:
        """The sum over all processes, by name."""
        return {name: sum(self.cells(i)) for name, i in self.index.items()}

    def close(self) -> None:
        """Give the row up; its numbers stay."""
        os.close(self._file)
