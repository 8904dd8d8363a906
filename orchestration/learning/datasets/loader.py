"""Reading a dataset version for training, at any size: shuffled, shared out, and resumed where it stopped.

    loader = Loader(version, split="train", batch_size=1024, seed=7, rank=0, world_size=8)
    for epoch in range(10):
        for batch in loader.epoch(epoch):     # pyarrow.RecordBatch
            ...

An epoch is one order of all rows of its splits. Row groups are permuted by seed and epoch and laid end to
end; reader ``r`` of ``n`` (ranks times their workers) has the rows from ``r * rows // n`` up to
``(r + 1) * rows // n`` of that line, so that readers differ by one row at most and each row has one reader.
A reader goes through its part in windows of about ``shuffle_rows`` rows, which end with a row group, and
permutes the rows of each. The row at a position depends only on seed, epoch, reader and number of readers,
not on the batch size or on where a reader began. While the batches of a window are consumed, a thread
reads the next one: memory holds two windows.

What belongs here: that order. What does not: turning rows into tensors, or any library that does.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestration.learning.datasets.manifest import DatasetError, Shard
from orchestration.learning.datasets.version import DatasetVersion


@dataclass(frozen=True)
class _Piece:
    """Rows ``[start, stop)`` of a row group of a shard."""

    shard: Shard
    group: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


def _permutation(rows: int, *seeds: int) -> "np.ndarray[Any, Any]":
    """The same permutation for the same seeds, in every release of NumPy: raw bits are promised to stay."""
    bits = np.random.PCG64(np.random.SeedSequence(seeds))
    return np.argsort(bits.random_raw(rows), kind="stable")


class Loader:
    """The rows of one reader, epoch after epoch, as Arrow record batches.

    Iterating gives the epoch it stands in from the row it stands at, and then stands at the next epoch.
    ``state_dict`` gives its position, ``load_state_dict`` restores it. Several iterators may be open; each
    gives its own rows, and the state is that of the last one created since ``load_state_dict``.
    """

    def __init__(
        self,
        version: DatasetVersion,
        *,
        split: str | Sequence[str] = "train",
        columns: str | Iterable[str] | None = None,
        batch_size: int = 1024,
        seed: int = 0,
        shuffle: bool = True,
        shuffle_rows: int = 65_536,
        rank: int = 0,
        world_size: int = 1,
        worker: int = 0,
        workers: int = 1,
        check: bool = True,
    ) -> None:
        """Say what is read, and which part of it.

        Args:
            version: The version.
            split: One split, or several.
            columns: One column, or several in the order of the result; all if None.
            batch_size: Rows of a batch; the last one of an epoch may have fewer.
            seed: Of the permutations.
            shuffle: Without it rows come in the version's order.
            shuffle_rows: About how many rows are permuted at a time; memory holds twice as many.
            rank: Which of the processes that train this is.
            world_size: How many train.
            worker: Which of the processes that load for it this is.
            workers: How many load for each.
            check: Whether each file is read through first, once a process, to see that it is whole.

        Raises:
            DatasetError: There is no such split, column, rank or worker,
                a number is not a whole one, or a size is not
                positive.
        """
        world_size = whole_number("world_size", world_size, least=1)
        workers = whole_number("workers", workers, least=1)
        rank = whole_number("rank", rank, most=world_size - 1)
        worker = whole_number("worker", worker, most=workers - 1)
        for name, flag in (("shuffle", shuffle), ("check", check)):
            if not isinstance(flag, bool):
                raise DatasetError(f"{name}: found {flag!r}, expected True or False")
        self.version = version
        self.columns = version.columns(columns)
        self.batch_size = whole_number("batch_size", batch_size, least=1)
        names = split if isinstance(split, Iterable) else (split,)
        self._split = names if isinstance(names, str) else tuple(names)
        self._shards = version.shards(self._split)
        self._seed, self._shuffle = whole_number("seed", seed), shuffle
        self._shuffle_rows = whole_number("shuffle_rows", shuffle_rows, least=1)
        self._reader, self._readers = rank * workers + worker, world_size * workers
        self._check = check
        self._epoch = self._position = 0
        self._current = object()  # Identifies the iterator that moves the state.
        self._footers: dict[str, Any] = {}

    def __len__(self) -> int:
        """Rows of an epoch that this reader gives."""
        total = sum(shard.rows for shard in self._shards)
        return (self._reader + 1) * total // self._readers - self._reader * total // self._readers

    def epoch(self, number: int) -> Iterator[Any]:
        """The batches of an epoch from its first row; each iterator keeps its own epoch.

        Raises:
            DatasetError: The number is negative, or a file is missing or damaged.
        """
        self._epoch, self._position = whole_number("epoch", number), 0
        return self._given(self._epoch, 0)

    def __iter__(self) -> Iterator[Any]:
        """The batches that are left of the epoch it stands in.

        Raises:
            DatasetError: A file is missing or damaged.
        """
        return self._given(self._epoch, self._position)

    @property
    def batches(self) -> int:
        """The number of batches of an epoch that this reader gives."""
        return -(-len(self) // self.batch_size)

    def _given(self, epoch: int, position: int) -> Iterator[Any]:
        own = self._current = object()

        def given(position: int) -> Iterator[Any]:
            for batch in self._batches(epoch, position):
                position += batch.num_rows
                if self._current is own:
                    self._epoch, self._position = epoch, position
                yield batch
            if self._current is own:
                self._epoch, self._position = epoch + 1, 0

        return given(position)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: after the batch that was given last. JSON can hold it."""
        return {**self._identity(), "epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where another loader of the same rows stood; batches may have another size.

        Raises:
            DatasetError: The state is of another version, part or order of rows, or its position is invalid.
        """
        check_state(state)
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise DatasetError(f"state: {name}: found {state.get(name)!r}, expected {value!r}")
        self._epoch, self._position = (
            whole_number("state: epoch", state.get("epoch")),
            whole_number("state: position", state.get("position"), most=len(self)),
        )
        self._current = object()

    def _identity(self) -> dict[str, Any]:
        return {
            "dataset": self.version.name,
            "version": self.version.version,
            "split": self._split if isinstance(self._split, str) else list(self._split),
            "seed": self._seed,
            "shuffle": self._shuffle,
            "shuffle_rows": self._shuffle_rows,
            "reader": self._reader,
            "readers": self._readers,
        }

    def _pieces(self, epoch: int) -> list[_Piece]:
        """What this reader reads in an epoch: its part of the line of row groups."""
        groups = [(shard, n, rows) for shard in self._shards for n, rows in enumerate(shard.row_groups)]
        if self._shuffle:
            groups = [groups[place] for place in _permutation(len(groups), self._seed, epoch)]
        total = sum(rows for _, _, rows in groups)
        first, last = (place * total // self._readers for place in (self._reader, self._reader + 1))
        pieces, at = [], 0
        for shard, number, rows in groups:
            start, stop = max(first - at, 0), min(last - at, rows)
            if start < stop:
                pieces.append(_Piece(shard, number, start, stop))
            at += rows
        return pieces

    def _windows(self, epoch: int) -> Iterator[list[_Piece]]:
        window: list[_Piece] = []
        for piece in self._pieces(epoch):
            window.append(piece)
            if not self._shuffle or sum(p.rows for p in window) >= self._shuffle_rows:
                yield window
                window = []
        if window:
            yield window

    def _batches(self, epoch: int, position: int) -> Iterator[Any]:
        """The batches of an epoch from a position of this reader on."""
        rest: list[Any] = []  # Rows left over, fewer than a batch.
        missing = self.batch_size
        for window in self._loaded(epoch, position):
            start = 0
            if rest:
                start = min(missing, window.num_rows)
                rest.append(window.slice(0, start))
                missing -= start
                if missing:
                    continue
                yield _joined(rest)
                rest, missing = [], self.batch_size
            while window.num_rows - start >= self.batch_size:
                yield window.slice(start, self.batch_size)
                start += self.batch_size
            if start < window.num_rows:
                rest, missing = [window.slice(start)], self.batch_size - (window.num_rows - start)
            del window  # Before the next window is read: a slice keeps its whole window in memory.
            rest = [_joined(rest)] if rest else []
        if rest:
            yield _joined(rest)

    def _loaded(self, epoch: int, position: int) -> Iterator[Any]:
        """The rows of each window from a position on, as one record batch each, read one ahead."""
        todo = self._unread(epoch, position)
        with ThreadPoolExecutor(1, "groundwork-loader") as pool:

            def begin() -> "Future[Any] | None":
                following = next(todo, None)
                return None if following is None else pool.submit(self._rows, *following, epoch)

            reading = begin()
            while reading is not None:
                window = reading.result()
                reading = begin()
                yield window
                del window

    def _unread(self, epoch: int, position: int) -> Iterator[tuple[list[_Piece], int, int]]:
        """Each window with rows from a position on: its pieces, its number, and how many rows to skip."""
        at = 0
        for number, window in enumerate(self._windows(epoch)):
            rows = sum(piece.rows for piece in window)
            skipped, at = min(max(position - at, 0), rows), at + rows
            if skipped < rows:
                yield window, number, skipped

    def _rows(self, window: Sequence[_Piece], number: int, skipped: int, epoch: int) -> Any:
        """The rows of a window, permuted, without the first ``skipped``."""
        tables = [self._read(piece) for piece in window]
        count = sum(table.num_rows for table in tables)
        order = None
        if self._shuffle:
            order = pa.array(_permutation(count, self._seed, epoch, self._reader, number)[skipped:])
        columns = []
        # Column by column, each freed once it is permuted: memory never holds the whole window twice.
        parts = [table.columns for table in tables]
        schema = tables[0].schema
        tables.clear()
        for place in range(len(self.columns)):
            chunks = [chunk for columns_of in parts for chunk in columns_of[place].chunks]
            for columns_of in parts:
                columns_of[place] = None
            values = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
            columns.append(values.slice(skipped) if order is None else values.take(order))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _read(self, piece: _Piece) -> Any:
        path = self.version.file(piece.shard, check=self._check)
        with pq.ParquetFile(path, metadata=self._footers.get(piece.shard.path)) as file:
            self._footers[piece.shard.path] = file.metadata
            table = file.read_row_group(piece.group, columns=self.columns, use_threads=True)
        return table.select(self.columns).slice(piece.start, piece.rows)


def _joined(batches: Sequence[Any]) -> Any:
    """Record batches as one, which keeps no rows of another batch in memory."""
    if len(batches) == 1:
        return batches[0].take(
            pa.array(range(batches[0].num_rows))
        )  # A slice would keep its window in memory.
    return pa.concat_batches(batches)


def check_state(state: Any) -> None:
    """Check that a state is a dict.

    Raises:
        DatasetError: It is not.
    """
    if not isinstance(state, Mapping):
        raise DatasetError(f"state: found {state!r}, expected the dict that state_dict returned")


def whole_number(name: str, value: Any, *, least: int = 0, most: int | None = None) -> int:
    """The value, which must be an integer within limits.

    Raises:
        DatasetError: It is not; the message begins with ``name``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise DatasetError(f"{name}: found {value!r}, expected a whole number")
    if value < least or (most is not None and value > most):
        limit = f"{least} or more" if most is None else f"{least} to {most}"
        raise DatasetError(f"{name}: found {value}, expected {limit}")
    return int(value)
