"""Maintenance of the lakehouse as an asset, so that its history and effect show in the UI.

What belongs here: the asset. What does not: what maintenance does (``orchestration.lakehouse``).
"""

from collections.abc import Callable, Collection
from datetime import timedelta

import dagster as dg

from orchestration.asset_specs import POOL
from orchestration.automation.jobs import OPERATIONS
from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.maintenance import SAFE_AGE, maintain
from orchestration.settings import Settings

MAINTENANCE_KEY = dg.AssetKey([OPERATIONS, "lakehouse_maintenance"])


def build_maintenance(
    settings: Settings, needed: Callable[[], Collection[int]], owner: str = "team:platform"
) -> dg.AssetsDefinition:
    """The maintenance asset.

    Args:
        settings: Gives the retention of snapshots.
        needed: Gives the snapshots that stay readable however old they are.
        owner: Who hears of its failures.
    """
    retention = timedelta(days=settings.snapshot_retention_days)

    @dg.asset(
        key=MAINTENANCE_KEY,
        group_name=OPERATIONS,
        owners=[owner],
        kinds={"duckdb", "parquet"},
        pool=POOL,
        description="The lakehouse after upkeep: small files merged, snapshots older than "
        f"{settings.snapshot_retention_days} days expired but those that dataset versions were made from, "
        "unneeded files removed. Rows never change.",
        metadata={
            "retention_days": settings.snapshot_retention_days,
            "safe_age_hours": SAFE_AGE / timedelta(hours=1),
        },
    )
    def lakehouse_maintenance(
        context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> dg.MaterializeResult[None]:
        done = maintain(lakehouse, retention=retention, keep=needed())
        for rows in done.inlined:
            context.log.warning(str(rows))
        context.log.info(
            f"files {done.before.stored_files} -> {done.after.stored_files}, "
            f"bytes {done.before.stored_bytes} -> {done.after.stored_bytes}"
        )
        return dg.MaterializeResult(metadata=dict(done.as_metadata()))

    return lakehouse_maintenance
