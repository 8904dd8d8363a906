"""The online store in the asset graph: one asset for each view that is online, and its check.

What belongs here: assets, their config and metadata. What does not: what a materialization does
(``materialization``) or compares (``verification``); both are imported when they run, as the columns they
work on take half a second to import.
"""

from contextlib import closing
from datetime import datetime, timedelta

import dagster as dg
from pydantic import Field

from orchestration.asset_specs import asset_key
from orchestration.dagster_ext import GraphChecks
from orchestration.declarations import DeclarationError, Declarations, Table
from orchestration.feature_store.online.due_sensor import NEXT_DUE
from orchestration.feature_store.online.encoding import Layout, UnsupportedTypeError
from orchestration.feature_store.online.keys import EntityKeys
from orchestration.feature_store.online.opening import open_online_store, store_kind
from orchestration.feature_store.views import Catalog, View, build_catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Clock, Settings

GROUP = "serving"
ONLINE_STORE = "online_store"
"""First part of the assets' keys, and the pool of their ops."""
CHECK_NAME = "matches_offline"
SAMPLE = 200
"""Entities that the check compares."""
PROFILED = timedelta(days=1)
"""How far back from the newest row the values go whose distribution the asset tells."""


class OnlineStoreConfig(dg.Config):
    """How a materialization is started by hand; as it is, it takes in what has changed."""

    rebuild: bool = Field(False, description="Write every value anew.")
    as_of: str | None = Field(
        None,
        description="Write every value anew as it was known at this instant (ISO 8601 with offset).",
    )
    snapshot: int | None = Field(None, description="The lakehouse snapshot to read; the newest if left out.")

    def instant(self, clock: Clock) -> datetime:
        """Up to when rows count as known.

        Raises:
            ValueError: ``as_of`` is no instant.
        """
        if self.as_of is None:
            return clock.now()
        try:
            at = datetime.fromisoformat(self.as_of)
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            raise ValueError(
                f"config.as_of: found {self.as_of!r}, expected an instant with an offset, such as "
                "2024-01-31T12:00:00+00:00"
            )
        return at


def online_key(view: View) -> dg.AssetKey:
    """``online_store/<view>``."""
    return dg.AssetKey([ONLINE_STORE, view.name])


def check_online_types(declarations: Declarations, catalog: Catalog) -> None:
    """Refuse online views that the online store cannot hold.

    Raises:
        DeclarationError: A view has a key or feature of such a type.
    """
    faults: list[str] = []
    for table in declarations.feature_views:
        view = catalog.view(table.name)
        for check in (Layout, EntityKeys) if view.online else ():
            try:
                check(view)
            except UnsupportedTypeError as fault:
                faults.append(f"{table.file}: models.{table.name}.{fault}")
    if faults:
        raise DeclarationError(faults)


def build_online_assets(
    declarations: Declarations, settings: Settings, clock: Clock, checks: GraphChecks | None = None
) -> tuple[list[dg.AssetsDefinition], list[dg.AssetChecksDefinition]]:
    """The asset of each online view, and the check of each.

    Args:
        declarations: What the dbt project declares.
        settings: Where the store is.
        clock: The platform's; rows known after its present instant are left out.
        checks: The checks of the graph; a view whose blocking checks do not hold is not published.

    Raises:
        DeclarationError: A view has a key or feature of a type that the online store cannot hold.
    """
    catalog = build_catalog(declarations)
    check_online_types(declarations, catalog)
    tables = [table for table in declarations.feature_views if catalog.view(table.name).online]
    views = [(table, catalog.view(table.name)) for table in tables]
    return (
        [_asset(table, view, settings, clock, checks or GraphChecks()) for table, view in views],
        [_check(view, settings) for _, view in views],
    )


def _asset(
    table: Table, view: View, settings: Settings, clock: Clock, checks: GraphChecks
) -> dg.AssetsDefinition:
    kind = store_kind(settings)

    @dg.asset(
        key=online_key(view),
        deps=[asset_key(table)],
        group_name=GROUP,
        owners=[view.owner],
        kinds={kind, "duckdb"},
        tags={"layer": ONLINE_STORE, **dict.fromkeys(table.tags, "")},
        pool=ONLINE_STORE,
        code_version=view.schema_hash,
        description=(
            f"The latest known values of {view.name} for each {', '.join(view.keys)}, ready to be served. "
            f"{view.description}"
        ),
        metadata={"declared_in": table.file},
    )
    def online_values(
        context: dg.AssetExecutionContext,
        config: OnlineStoreConfig,
        lakehouse: dg.ResourceParam[LakehouseResource],
    ) -> dg.MaterializeResult[None]:
        from orchestration.feature_store.discovery.asset_metadata import Metadata, stored_metadata  # noqa: PLC0415
        from orchestration.feature_store.discovery.profiles import profile_newest  # noqa: PLC0415
        from orchestration.feature_store.online.materialization import materialize  # noqa: PLC0415

        now = config.instant(clock)
        full = config.rebuild or config.as_of is not None
        newest = checks.pinned(context, lakehouse.newest_snapshot)
        snapshot = newest if config.snapshot is None else config.snapshot
        with closing(open_online_store(settings)) as store:
            done = materialize(lakehouse, store, view, now, full=full, snapshot=snapshot)
            size = store.size(view.name)
        told: Metadata = {}
        if done.written or done.deleted:
            with lakehouse.reader() as con:
                told = stored_metadata(view, profile_newest(con, view, PROFILED), clock)
        context.log.info(
            f"{done.mode} {done.reason}".strip() + f": {done.written} rows in {done.seconds:.2f} s"
        )
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": size,
                "mode": done.mode,
                "reason": done.reason,
                "rows_written": done.written,
                "rows_skipped_as_older": done.skipped,
                "rows_deleted": done.deleted,
                "bytes_written": done.written_bytes,
                "from_snapshot": "none" if done.from_snapshot is None else done.from_snapshot,
                "to_snapshot": done.to_snapshot,
                "known_until": dg.MetadataValue.timestamp(done.cutoff),
                "rows_ahead_of_the_clock": done.ahead,
                **_due(done.next_due if config.as_of is None else None),
                "seconds": round(done.seconds, 3),
                **told,
            }
        )

    return online_values


def _due(at: datetime | None) -> dict[str, dg.MetadataValue]:
    return {} if at is None else {NEXT_DUE: dg.MetadataValue.timestamp(at)}


def _check(view: View, settings: Settings) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=online_key(view),
        name=CHECK_NAME,
        blocking=True,
        description=f"Of {SAMPLE} entities the online values are those of the lakehouse, and no entity is "
        "missing or left over.",
    )
    def matches_offline(lakehouse: dg.ResourceParam[LakehouseResource]) -> dg.AssetCheckResult:
        from orchestration.feature_store.online.verification import compare  # noqa: PLC0415

        with closing(open_online_store(settings)) as store:
            found = compare(lakehouse, store, view, sample=SAMPLE)
        wrong = ", ".join(f"{name} of {count}" for name, count in found.differing_by_column.items())
        return dg.AssetCheckResult(
            passed=found.holds,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{found.compared} of {found.expected} entities compared"
            if found.holds
            else f"{found.differing} of {found.compared} entities differ ({wrong or 'none'}); "
            f"{found.stored} are stored, {found.expected} expected",
            metadata={
                "entities_compared": found.compared,
                "entities_differing": found.differing,
                "entities_stored": found.stored,
                "entities_expected": found.expected,
                "snapshot": found.snapshot,
            },
        )

    return matches_offline
