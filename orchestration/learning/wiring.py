"""What declared models stand on in this project: its datasets, its checks, its code.

What belongs here: from a read project to a ``Ground``. What does not: the assets (``assets``). What reads
rows is imported when it is called.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from orchestration.asset_specs import asset_key
from orchestration.dagster_ext import GraphChecks
from orchestration.declarations import Declarations
from orchestration.learning.assets import Ground
from orchestration.learning.datasets import dataset_key
from orchestration.learning.datasets.circumstances import git_state, lock_hash
from orchestration.learning.spec import ModelSpec
from orchestration.settings import PROJECT_DIR, Clock, Settings

if TYPE_CHECKING:
    from orchestration.learning.training import Code, Dataset


def make_ground(
    declarations: Declarations,
    settings: Settings,
    clock: Clock,
    checks: GraphChecks,
    definition: Callable[[ModelSpec], Mapping[str, str]],
) -> Ground:
    """The ground of a project's models.

    Args:
        declarations: What the dbt project declares.
        settings: Where datasets and artifacts are.
        clock: The platform's.
        checks: All checks of the graph; the blocking ones among them guard a model's inputs.
        definition: A hash of each thing that defines a model.
    """

    def inputs(spec: ModelSpec) -> list[dg.AssetCheckKey]:
        tables = [spec.table, *declarations.ancestors(spec.table.unique_id)]
        return checks.blocking([asset_key(table) for table in tables])

    def open_dataset(name: str, version: str) -> "Dataset":
        from orchestration.learning.datasets.version import DatasetVersion  # noqa: PLC0415 - imports Arrow

        return DatasetVersion.open(name, version, settings)

    def code(spec: ModelSpec) -> "Code":
        return present_code(definition(spec))

    return Ground(settings, clock, open_dataset, dataset_key, inputs, code, checks=checks)


def present_code(definition: Mapping[str, str]) -> "Code":
    """The commit of the platform's code, the hash of its locked dependencies, and what defines a model."""
    from orchestration.learning.training import Code  # noqa: PLC0415 - imports NumPy

    git = git_state(PROJECT_DIR)
    return Code(
        commit=None if git is None else git.commit,
        dirty=git is not None and git.dirty,
        lock_sha256=lock_hash(PROJECT_DIR / "requirements.lock"),
        definition=definition,
    )
