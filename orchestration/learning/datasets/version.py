"""Dataset versions for whoever trains on them.

    from orchestration.learning.datasets.version import DatasetVersion

    version = DatasetVersion.open("orders_training_set", "latest")
    train = version.read(split="train", columns=["amount", "is_returned"])

What belongs here: opening and reading. What does not: making and keeping versions. Importing this module
imports Arrow.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestration.learning.datasets.manifest import DatasetError, Manifest, Shard
from orchestration.learning.datasets.store import LATEST, DatasetStore
from orchestration.learning.datasets.verifying import check_shard, verify
from orchestration.settings import Settings


class DatasetVersion:
    """A version of a dataset: immutable, and refused when a byte of it is not as it was written."""

    def __init__(self, manifest: Manifest, path: Path, settings: Settings) -> None:
        self.manifest = manifest
        self.path = path
        self._settings = settings

    @classmethod
    def open(cls, dataset: str, version: str = LATEST, settings: Settings | None = None) -> "DatasetVersion":
        """A version by the name of its training set, and its id, the beginning of that, or ``latest``.

        Raises:
            DatasetError: There is none, or more than one is meant.
        """
        settings = settings or Settings()
        store = DatasetStore(settings.datasets_dir)
        manifest = store.resolve(dataset, version)
        return cls(manifest, store.path(dataset, manifest.version), settings)

    @property
    def name(self) -> str:
        """The dataset."""
        return self.manifest.dataset

    @property
    def version(self) -> str:
        """Its id."""
        return self.manifest.version

    def shards(self, split: str | Sequence[str] | None = None) -> list[Shard]:
        """The files of some splits, or of all, in order.

        Raises:
            DatasetError: There is no such split.
        """
        wanted = {split} if isinstance(split, str) else None if split is None else set(split)
        missing = (wanted or set()) - self.manifest.splits.keys()
        if missing:
            raise DatasetError(
                f"{self.manifest.reference}: split: found {', '.join(sorted(missing))}, expected one of "
                f"{', '.join(self.manifest.splits)}"
            )
        return [shard for shard in self.manifest.shards if wanted is None or str(shard.split) in wanted]

    def columns(self, names: Iterable[str] | None = None) -> list[str]:
        """Columns as they are asked for; all when None.

        Raises:
            DatasetError: There is no such column.
        """
        have = self.manifest.column_names
        if names is None:
            return have
        wanted = list(names)
        missing = [name for name in wanted if name not in have]
        if missing:
            raise DatasetError(
                f"{self.manifest.reference}: columns: found {', '.join(missing)}, expected some of "
                f"{', '.join(have)}"
            )
        return wanted

    def read(
        self,
        split: str | Sequence[str] | None = None,
        columns: Iterable[str] | None = None,
        *,
        check: bool = True,
    ) -> Any:
        """The rows of some splits, in order, as a ``pyarrow.Table``.

        Args:
            split: One split, several, or all when None.
            columns: The columns, in the order in which they come; all when None.
            check: Whether each file is read through first, once a process, to see that it is whole.

        Raises:
            DatasetError: There is no such split or column, or a file is damaged.
        """
        names = self.columns(columns)
        tables = [
            pq.read_table(self.file(shard, check=check), columns=names, partitioning=None)
            for shard in self.shards(split)
        ]
        return pa.concat_tables(tables)

    def file(self, shard: Shard, *, check: bool = True) -> Path:
        """The file of a shard, seen to be whole.

        Raises:
            DatasetError: It is missing or damaged.
        """
        return check_shard(self.path, shard) if check else self.path / shard.path

    def verify(self) -> list[str]:
        """What is wrong with the version, a line a fault; every byte and value is looked at."""
        return verify(DatasetStore(self.path.parent.parent), self.manifest, self._settings)

    def __repr__(self) -> str:
        return f"DatasetVersion({self.manifest.reference}, {self.manifest.rows} rows)"
