"""The jobs: what can be started by name, and on which partitions.

What belongs here: selections and partition ranges. What does not: what starts a job (schedules,
sensors, the command line).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from orchestration.declarations import DeclarationError, Declarations, Partition
from orchestration.partitions import partitions_def
from orchestration.settings import Clock

ALL_ASSETS = "all_assets"
DAILY = "daily"
MAINTENANCE = "lakehouse_maintenance"
OPERATIONS = "operations"
RETRAINING = "retraining"
"""Group of the assets that tell what came of a model's own job."""


@dataclass(frozen=True)
class Span:
    """Partitions from ``first`` to ``last``, both included."""

    first: str
    last: str

    @property
    def tags(self) -> dict[str, str]:
        """The tags that make one run cover the span."""
        return {ASSET_PARTITION_RANGE_START_TAG: self.first, ASSET_PARTITION_RANGE_END_TAG: self.last}

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


def project_partition(declarations: Declarations) -> Partition | None:
    """The one partition declaration of the project's sources; None when no source has one.

    Raises:
        DeclarationError: Sources declare different ones: a run has one range of partitions.
    """
    found: dict[Partition, str] = {}
    for table in declarations.sources:
        if table.ingest.partition is not None:
            found.setdefault(table.ingest.partition, f"{table.file}: sources.{table.name}")
    if len(found) > 1:
        raise DeclarationError(
            [
                f"{place}.config.meta.ingest.partition: found {partition.start} to {partition.end} in "
                f"{partition.timezone}, expected the same as every other partitioned source"
                for partition, place in found.items()
            ]
        )
    return next(iter(found), None)


def reached_partitions(declarations: Declarations, clock: Clock) -> list[str]:
    """Keys of the partitions that are over on the platform's clock, oldest first."""
    definition = partitions_def(project_partition(declarations), clock)
    return [] if definition is None else list(definition.get_partition_keys(current_time=clock.now()))


def build_jobs(landing: Iterable[dg.AssetKey]) -> list[UnresolvedAssetJobDefinition]:
    """The jobs over the graph.

    Args:
        landing: Keys of the assets that take data in.
    """
    return [
        dg.define_asset_job(
            ALL_ASSETS,
            selection=dg.AssetSelection.all() - dg.AssetSelection.groups(OPERATIONS, RETRAINING),
            description="The whole graph with every check, for one partition or a range of them.",
        ),
        dg.define_asset_job(
            DAILY,
            selection=dg.AssetSelection.assets(*landing),
            description="Lands one day of the partitioned sources and all of the others; what lies "
            "downstream follows by its automation condition.",
        ),
        dg.define_asset_job(
            MAINTENANCE,
            selection=dg.AssetSelection.groups(OPERATIONS),
            description="Compacts the lakehouse and drops what no snapshot needs.",
        ),
    ]
