"""Dataset versions for whoever trains on them.

    from orchestration.learning.datasets.version import DatasetVersion

    version = DatasetVersion.open("orders_training_set", "latest")
    train = version.read(split="train", columns=["amount", "is_returned"])
    features, label = version.xy("train")

What belongs here: opening and reading. What does not: making and keeping versions. Importing this module
imports Arrow.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestration.learning.datasets.lease import Lease, VersionRemovedError
from orchestration.learning.datasets.manifest import DatasetError, Manifest, Shard
from orchestration.learning.datasets.store import LATEST, MANIFEST, DatasetStore
from orchestration.learning.datasets.verifying import check_shard, verify
from orchestration.numeric import as_numeric
from orchestration.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


class DatasetVersion:
    """A version of a dataset: immutable, and refused if any byte differs from what was written.

    ``dataset gc`` does not remove it while it is open, that is until ``close`` or until garbage collection.
    """

    def __init__(self, manifest: Manifest, path: Path, settings: Settings) -> None:
        """Open a version.

        Raises:
            VersionRemovedError: It has been removed.
        """
        self.manifest = manifest
        self.path = path
        self._settings = settings
        self._lease = Lease(path / MANIFEST)

    @classmethod
    def open(cls, dataset: str, version: str = LATEST, settings: Settings | None = None) -> "DatasetVersion":
        """A version by the name of its training set, and its id, the beginning of that, or ``latest``.

        Raises:
            DatasetError: There is none, or more than one is meant.
        """
        settings = settings or Settings()
        store = DatasetStore(settings.datasets_dir)
        while True:
            manifest = store.resolve(dataset, version)
            try:
                return cls(manifest, store.path(dataset, manifest.version), settings)
            except VersionRemovedError:  # Removed since it was listed; ``latest`` may now be another one.
                continue

    def close(self) -> None:
        """Release the version, so that ``dataset gc`` may remove it."""
        self._lease.release()

    @property
    def name(self) -> str:
        """The dataset."""
        return self.manifest.dataset

    @property
    def version(self) -> str:
        """Its id."""
        return self.manifest.version

    def _names(self, argument: str, names: Any) -> list[str]:
        """One name or several as a list."""
        found = [names] if isinstance(names, str) else list(names) if isinstance(names, Iterable) else [names]
        for name in found:
            if not isinstance(name, str):
                raise DatasetError(
                    f"{self.manifest.reference}: {argument}: found {name!r}, expected a name or several"
                )
        return found

    def shards(self, split: str | Sequence[str] | None = None) -> list[Shard]:
        """The files of some splits, or of all, in order.

        Raises:
            DatasetError: There is no such split, or none is named.
        """
        wanted = None if split is None else set(self._names("split", split))
        if wanted is not None and not wanted:
            raise DatasetError(
                f"{self.manifest.reference}: split: found none, expected some of "
                f"{', '.join(self.manifest.splits)}"
            )
        missing = (wanted or set()) - self.manifest.splits.keys()
        if missing:
            raise DatasetError(
                f"{self.manifest.reference}: split: found {', '.join(sorted(missing))}, expected one of "
                f"{', '.join(self.manifest.splits)}"
            )
        return [shard for shard in self.manifest.shards if wanted is None or str(shard.split) in wanted]

    def columns(self, names: str | Iterable[str] | None = None) -> list[str]:
        """The columns ``names``, one or several, in that order; all if None.

        Raises:
            DatasetError: There is no such column, one is named twice, or none is named.
        """
        have = self.manifest.column_names
        if names is None:
            return have
        wanted = self._names("columns", names)
        if not wanted or len(set(wanted)) < len(wanted):
            twice = ", ".join(sorted({name for name in wanted if wanted.count(name) > 1}))
            found = f"{twice} twice" if twice else "none"
            raise DatasetError(
                f"{self.manifest.reference}: columns: found {found}, expected some of {', '.join(have)}, "
                "each once"
            )
        missing = [str(name) for name in wanted if name not in have]
        if missing:
            raise DatasetError(
                f"{self.manifest.reference}: columns: found {', '.join(missing)}, expected some of "
                f"{', '.join(have)}"
            )
        return wanted

    def read(
        self,
        split: str | Sequence[str] | None = None,
        columns: str | Iterable[str] | None = None,
        *,
        check: bool = True,
        numeric: bool = False,
    ) -> Any:
        """The rows of some splits, in order, as a ``pyarrow.Table``.

        Args:
            split: One split, several, or all when None.
            columns: One column, or several in the order of the result; all if None.
            check: Whether each file is read through first, once a process, to see that it is whole.
            numeric: Whether to convert decimals and booleans to doubles.

        Raises:
            DatasetError: There is no such split or column, or a file is damaged.
        """
        names = self.columns(columns)
        tables = [
            pq.read_table(self.file(shard, check=check), columns=names, partitioning=None)
            for shard in self.shards(split)
        ]
        table = pa.concat_tables(tables)
        return as_numeric(table) if numeric else table

    def to_df(
        self,
        split: str | Sequence[str] | None = None,
        columns: str | Iterable[str] | None = None,
        *,
        check: bool = True,
        numeric: bool = False,
    ) -> "pd.DataFrame":
        """The rows as a pandas DataFrame; see ``read``."""
        return self.read(split, columns, check=check, numeric=numeric).to_pandas()

    def xy(
        self,
        split: str | Sequence[str] | None = "train",
        *,
        model: str | None = None,
        fit_on: str | Sequence[str] | None = "train",
        check: bool = True,
    ) -> tuple["pd.DataFrame", "pd.Series[float]"]:
        """The features and the label of a declared model as doubles, encoded as the platform trains on them.

        Booleans are 0 and 1, a text is the code of its category, and a missing value is NaN.

        Args:
            split: The rows, as in ``read``.
            model: The model; if None, the only one of the training set. If none was declared when the version
                was built, every feature of its service is used.
            fit_on: The rows whose texts define the categories; use the same for all splits of a model.
            check: As in ``read``.

        Raises:
            DatasetError: There is no such split or model, or a feature is infinite and the model rejects it.
        """
        from orchestration.learning.datasets.inputs import encoded, model_inputs  # noqa: PLC0415

        inputs = model_inputs(self.manifest, model)
        rows = self.read(split, inputs.names, check=check)
        encoding = inputs.fit(rows if split == fit_on else self.read(fit_on, inputs.names, check=check))
        return encoded(self.manifest, inputs, encoding, rows)

    def file(self, shard: Shard, *, check: bool = True) -> Path:
        """The file of a shard, verified in full, or without ``check`` only by its size.

        Raises:
            DatasetError: It is missing or damaged.
        """
        return check_shard(self.path, shard, content=check)

    def verify(self) -> list[str]:
        """What is wrong with the version, a line a fault; every byte and value is looked at."""
        return verify(DatasetStore(self.path.parent.parent), self.manifest, self._settings)

    def __len__(self) -> int:
        """The number of rows of all splits."""
        return self.manifest.rows

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"DatasetVersion({self.manifest.reference}, {self.manifest.rows} rows)"
