"""Dataset versions: what a training set was, once and for all, and all that it was made from.

What belongs here: making, keeping, checking, comparing and reading versions. What does not: the training
set itself (dbt makes it) and the models trained on a version. Importing this package imports no Arrow.
"""

from orchestration.learning.datasets.assets import build_dataset_asset, dataset_key
from orchestration.learning.datasets.keeping import needed_snapshots
from orchestration.learning.datasets.manifest import DatasetError, Manifest
from orchestration.learning.datasets.store import DatasetStore, UsedBy

__all__ = [
    "DatasetError",
    "DatasetStore",
    "Manifest",
    "UsedBy",
    "build_dataset_asset",
    "dataset_key",
    "needed_snapshots",
]
