"""Reading a dataset version for training, at any size: shuffled, shared out, and resumed where it stopped.

    loader = Loader(version, split="train", batch_size=1024, seed=7, rank=0, world_size=8)
    for epoch in range(10):
        for batch in loader.epoch(epoch):     # pyarrow.RecordBatch
            ...

An epoch is one order of all rows of its splits. Row groups are permuted by seed and epoch and laid end to
end; reader ``r`` of ``n`` (ranks times their workers) has the rows from ``r * rows // n`` up to
``(r + 1) * rows // n`` of that line, so that readers differ by one row at most and each row has one reader.
A reader goes through its part in windows of about ``shuffle_rows`` rows and permutes the rows of each. What
comes at a position follows from seed, epoch, reader and readers alone: not from the size of batches, nor
from where a reader has begun. Memory is that of a window.

What belongs here: that order. What does not: turning rows into tensors, or any library that does.
"""

from collections.abc import Iterable, Iterator, Sequence
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
    ``state_dict`` tells where it stands, ``load_state_dict`` goes there.
    """

    def __init__(
        self,
        version: DatasetVersion,
        *,
        split: str | Sequence[str] = "train",
        columns: Iterable[str] | None = None,
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
            columns: The columns, in the order in which they come; all when None.
            batch_size: Rows of a batch; the last one of an epoch may have fewer.
            seed: Of the permutations.
            shuffle: Without it rows come in the version's order.
            shuffle_rows: About how many rows are permuted, and in memory, at a time.
            rank: Which of the processes that train this is.
            world_size: How many train.
            worker: Which of the processes that load for it this is.
            workers: How many load for each.
            check: Whether each file is read through first, once a process, to see that it is whole.

        Raises:
            DatasetError: There is no such split, column, rank or worker, or a size is not positive.
        """
        for name, value in (("batch_size", batch_size), ("shuffle_rows", shuffle_rows)):
            if value < 1:
                raise DatasetError(f"{name}: found {value}, expected 1 or more")
        for name, value, count in (("rank", rank, world_size), ("worker", worker, workers)):
            if not 0 <= value < count:
                raise DatasetError(f"{name}: found {value} of {count}, expected 0 to {count - 1}")
        if seed < 0:
            raise DatasetError(f"seed: found {seed}, expected 0 or more")
        self.version = version
        self.columns = version.columns(columns)
        self.batch_size = batch_size
        self._split = split if isinstance(split, str) else tuple(split)
        self._shards = version.shards(self._split)
        self._seed, self._shuffle, self._shuffle_rows = seed, shuffle, shuffle_rows
        self._reader, self._readers = rank * workers + worker, world_size * workers
        self._check = check
        self._epoch = self._position = 0

    def __len__(self) -> int:
        """Rows of an epoch that this reader gives."""
        total = sum(shard.rows for shard in self._shards)
        return (self._reader + 1) * total // self._readers - self._reader * total // self._readers

    def epoch(self, number: int) -> Iterator[Any]:
        """The batches of an epoch from its first row on.

        Raises:
            DatasetError: A file is missing or damaged.
        """
        self._epoch, self._position = number, 0
        return iter(self)

    def __iter__(self) -> Iterator[Any]:
        """The batches that are left of the epoch it stands in.

        Raises:
            DatasetError: A file is missing or damaged.
        """
        epoch = self._epoch
        for batch in self._batches(epoch, self._position):
            self._position += batch.num_rows
            yield batch
        self._epoch, self._position = epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: after the batch that was given last. JSON can hold it."""
        return {**self._identity(), "epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where another loader of the same rows stood; batches may have another size.

        Raises:
            DatasetError: The state is of another version, part or order of rows.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise DatasetError(f"state: {name}: found {state.get(name)!r}, expected {value!r}")
        self._epoch, self._position = int(state["epoch"]), int(state["position"])

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
        held: list[Any] = []  # rows that are not a batch yet
        count = at = 0
        for number, window in enumerate(self._windows(epoch)):
            rows = sum(piece.rows for piece in window)
            skipped, at = min(max(position - at, 0), rows), at + rows
            if skipped == rows:
                continue
            held.append(self._rows(window, number, epoch).slice(skipped))
            count += rows - skipped
            table = pa.concat_tables(held)
            given = count - count % self.batch_size
            for start in range(0, given, self.batch_size):
                yield _as_batch(table.slice(start, self.batch_size))
            held, count = [table.slice(given)], count - given
        if count:
            yield _as_batch(pa.concat_tables(held))

    def _rows(self, window: Sequence[_Piece], number: int, epoch: int) -> Any:
        """The rows of a window, permuted."""
        tables = []
        for piece in window:
            file = pq.ParquetFile(self.version.file(piece.shard, check=self._check))
            with file:
                table = file.read_row_group(piece.group, columns=self.columns, use_threads=True)
            tables.append(table.select(self.columns).slice(piece.start, piece.rows))
        table = pa.concat_tables(tables)
        if not self._shuffle:
            return table
        return table.take(_permutation(table.num_rows, self._seed, epoch, self._reader, number))


def _as_batch(table: Any) -> Any:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)
