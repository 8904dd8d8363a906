"""Freshness: how old an asset may be, on the platform's clock.

Two views of it. The ``freshness`` check of each table compares the newest instant in the data with
the platform's clock: the truth, on the wall clock and on recorded history alike. Dagster's
``FreshnessPolicy`` watches, on the wall clock, that materializations keep coming. What belongs here:
both, and the limits they use. What does not: what the columns mean.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import duckdb

from orchestration.asset_specs import asset_key
from orchestration.automation.jobs import OPERATIONS
from orchestration.declarations import LAYERS, Declarations, Layer, Table
from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.tables import relation
from orchestration.settings import Clock

CHECK_NAME = "freshness"
DAILY_LIMITS = (timedelta(days=2), timedelta(days=7))
"""Warn and fail after, for partitioned tables that declare no limits of their own."""
REFERENCE_LIMITS = (timedelta(days=8), timedelta(days=35))
"""The same for tables without partitions."""
STANDSTILL = timedelta(days=3650)
"""Policy window on the replay clock. That clock stands still, so on it no materialization ever ages;
Dagster measures policies on the wall clock only, and a window nobody outlives says the same there."""

_DEFAULT_COLUMNS = ("known_at", "event_at")


@dataclass(frozen=True)
class Limits:
    """What freshness is measured by. Without ``column``: by the last materialization."""

    column: str | None
    warn_after: timedelta
    fail_after: timedelta | None
    declared: bool


@dataclass(frozen=True)
class Measurement:
    """The newest instant of a table and its age on the platform's clock; both None for no rows."""

    newest: datetime | None
    age: timedelta | None


def limits_of(table: Table, declarations: Declarations) -> Limits:
    """The declared limits of a table, or the ones that follow from how it is partitioned.

    Without a declaration a partitioned table is measured by its event time (raw) or by ``known_at``
    or ``event_at`` (models); anything else by when it was last materialized.
    """
    declared = table.meta.freshness
    if declared is not None:
        return Limits(declared.column, declared.warn_after, declared.fail_after, declared=True)
    if declarations.partition(table.unique_id) is None:
        return Limits(None, *REFERENCE_LIMITS, declared=False)
    if table.meta.ingest is not None:
        column = table.meta.ingest.event_time
    else:
        column = next((name for name in _DEFAULT_COLUMNS if table.column(name) is not None), None)
    return Limits(column, *DAILY_LIMITS, declared=False)


def freshness_policy(limits: Limits, clock: Clock) -> dg.FreshnessPolicy:
    """Dagster's policy for the time between materializations."""
    if clock.mode == "replay":
        return dg.FreshnessPolicy.time_window(fail_window=STANDSTILL)
    if limits.fail_after is None or limits.fail_after <= limits.warn_after:
        return dg.FreshnessPolicy.time_window(fail_window=limits.warn_after)
    return dg.FreshnessPolicy.time_window(fail_window=limits.fail_after, warn_window=limits.warn_after)


def measure(con: duckdb.DuckDBPyConnection, table: Table, column: str, now: datetime) -> Measurement:
    """The newest instant in a column that is not after ``now``, and its age.

    Later instants do not count: a row may say when its values stop holding.
    """
    name = '"' + column.replace('"', '""') + '"'
    # A literal: for a parameter DuckDB imports pandas, which takes half a second.
    newest = con.execute(
        f"select max(instant) from (select try_cast({name} as timestamptz) as instant "
        f"from {relation(table.schema, table.name)}) where instant <= timestamptz '{now.isoformat()}'"
    ).fetchall()[0][0]
    if newest is None:
        return Measurement(None, None)
    newest = newest.astimezone(UTC)
    return Measurement(newest, now - newest)


def _materialized(context: dg.AssetCheckExecutionContext, key: dg.AssetKey, clock: Clock) -> Measurement:
    event = context.instance.get_latest_materialization_event(key)
    if event is None:
        return Measurement(None, None)
    at = datetime.fromtimestamp(event.timestamp, UTC)
    # On the replay clock a materialization happened now: that clock does not move.
    return Measurement(at, clock.now() - at if clock.mode == "wall" else timedelta(0))


def judge(table: Table, limits: Limits, found: Measurement, clock: Clock) -> dg.AssetCheckResult:
    """The check's result: WARN past ``warn_after``, ERROR past ``fail_after`` or without any row."""
    metadata: dict[str, dg.MetadataValue] = {
        "clock": dg.MetadataValue.text(clock.mode),
        "now": dg.MetadataValue.timestamp(clock.now()),
        "measured_by": dg.MetadataValue.text(limits.column or "last materialization"),
        "warn_after": dg.MetadataValue.text(str(limits.warn_after)),
        "fail_after": dg.MetadataValue.text(str(limits.fail_after or "never")),
        "limits": dg.MetadataValue.text("declared" if limits.declared else "default"),
    }
    failed, severity = False, dg.AssetCheckSeverity.WARN
    if found.newest is None or found.age is None:
        failed, severity = True, dg.AssetCheckSeverity.ERROR
        description = f"nothing to measure: no value of {metadata['measured_by'].value} up to the clock's now"
    else:
        metadata["newest"] = dg.MetadataValue.timestamp(found.newest)
        metadata["age"] = dg.MetadataValue.text(str(found.age))
        metadata["age_hours"] = dg.MetadataValue.float(round(found.age / timedelta(hours=1), 2))
        description = f"{found.age} old on the {clock.mode} clock, limit {limits.warn_after}"
        failed = found.age > limits.warn_after
        if limits.fail_after is not None and found.age > limits.fail_after:
            failed, severity = True, dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        asset_key=asset_key(table),
        check_name=CHECK_NAME,
        passed=not failed,
        severity=severity,
        description=description,
        metadata=metadata,
    )


def _layer_check(
    layer: Layer, tables: Sequence[Table], declarations: Declarations, clock: Clock
) -> dg.AssetChecksDefinition:
    by_key = {asset_key(table): table for table in tables}

    @dg.multi_asset_check(
        name=f"{layer}_{CHECK_NAME}",
        specs=[
            dg.AssetCheckSpec(
                CHECK_NAME,
                asset=key,
                blocking=False,
                description=f"The newest data is at most {limits_of(table, declarations).warn_after} old on "
                "the platform's clock.",
            )
            for key, table in by_key.items()
        ],
        can_subset=True,
    )
    def check_freshness(
        context: dg.AssetCheckExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> Iterator[dg.AssetCheckResult]:
        with lakehouse.reader() as con:
            for check in sorted(context.selected_asset_check_keys, key=lambda k: k.asset_key):
                table = by_key[check.asset_key]
                limits = limits_of(table, declarations)
                if limits.column is None:
                    found = _materialized(context, check.asset_key, clock)
                else:
                    found = measure(con, table, limits.column, clock.now())
                yield judge(table, limits, found, clock)

    return check_freshness


def build_freshness_checks(declarations: Declarations, clock: Clock) -> list[dg.AssetChecksDefinition]:
    """One op a layer that measures every table of it."""
    tables = {layer: declarations.layer(layer) for layer in LAYERS}
    return [_layer_check(layer, found, declarations, clock) for layer, found in tables.items() if found]


def with_policy(
    spec: dg.AssetSpec,
    declarations: Declarations,
    clock: Clock,
    ages: Mapping[dg.AssetKey, timedelta | None] | None = None,
) -> dg.AssetSpec:
    """The spec with a freshness policy; one that follows no table gets that of its partitions.

    ``ages`` are assets that are made anew by themselves at that age, or, for None, at no age. Upkeep follows
    the wall clock whatever the platform's clock is: files grow old by themselves.
    """
    if spec.key.path[0] == OPERATIONS:
        clock = Clock()
    table = next((t for t in declarations.tables.values() if asset_key(t) == spec.key), None)
    if table is not None:
        limits = limits_of(table, declarations)
    elif ages is not None and spec.key in ages:
        age = ages[spec.key]
        limits = Limits(None, age or STANDSTILL, age and 2 * age, declared=True)
    else:
        defaults = REFERENCE_LIMITS if spec.partitions_def is None else DAILY_LIMITS
        limits = Limits(None, *defaults, declared=False)
    return spec.replace_attributes(freshness_policy=freshness_policy(limits, clock))
