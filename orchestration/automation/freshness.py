"""Freshness: how old an asset may be, on the platform's clock.

Two views of it. The ``freshness`` check of a table that declares ``freshness`` compares the newest instant
in the data with the platform's clock, the wall clock or a replay clock. Dagster's ``FreshnessPolicy`` watches
that materializations keep coming: Dagster measures it on the wall clock, so on a replay clock there is none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import duckdb

from orchestration.asset_specs import asset_key
from orchestration.automation.jobs import OPERATIONS
from orchestration.dagster_ext.check_state import EVALUATED
from orchestration.declarations import LAYERS, Declarations, Freshness, Layer, Table, canonical, in_words
from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.tables import relation
from orchestration.settings import Clock
from orchestration.sql import identifier, literal

CHECK_NAME = "freshness"
UPKEEP_LIMITS = (timedelta(days=8), timedelta(days=35))
"""Windows of the policy, warn and fail, for the platform's own upkeep, which runs weekly."""


@dataclass(frozen=True)
class Measurement:
    """The newest instant of a table and its age on the platform's clock; both None for no rows."""

    newest: datetime | None
    age: timedelta | None


def freshness_policy(warn_after: timedelta, fail_after: timedelta | None) -> dg.FreshnessPolicy:
    """Dagster's policy for the time between materializations."""
    if fail_after is None or fail_after <= warn_after:
        return dg.FreshnessPolicy.time_window(fail_window=warn_after)
    return dg.FreshnessPolicy.time_window(fail_window=fail_after, warn_window=warn_after)


def _instant(table: Table, column: str) -> str:
    """SQL of a column as an instant: a source's zone-less value is local to the declared zone."""
    declared = table.column(column)
    kind = "timestamptz" if declared is None else canonical(declared.data_type)
    zone = "UTC"
    if table.meta.ingest is not None:
        zone = table.zone_of(column) or "UTC"
        if kind == "date" and table.meta.ingest.partition is not None:
            zone = table.meta.ingest.partition.timezone
    if kind == "timestamptz" or zone == "UTC":
        return f"try_cast({identifier(column)} as timestamptz)"
    return f"try(timezone({literal(zone)}, {identifier(column)}::timestamp))"


def measure(con: duckdb.DuckDBPyConnection, table: Table, column: str, now: datetime) -> Measurement:
    """The newest instant in a column that is not after ``now``, and its age.

    Later instants do not count: a row may say when its values stop holding.
    """
    name = _instant(table, column)
    # A literal: for a parameter DuckDB imports pandas, which takes half a second.
    newest = con.execute(
        f"select max(instant) from (select {name} as instant "
        f"from {relation(table.schema, table.name)}) where instant <= timestamptz '{now.isoformat()}'"
    ).fetchall()[0][0]
    if newest is None:
        return Measurement(None, None)
    newest = newest.astimezone(UTC)
    return Measurement(newest, now - newest)


def judge(table: Table, limits: Freshness, found: Measurement, clock: Clock) -> dg.AssetCheckResult:
    """The result: WARN past ``warn_after``, ERROR past ``fail_after``, the worse if there are no rows."""
    fail_after = "never" if limits.fail_after is None else in_words(limits.fail_after)
    metadata: dict[str, dg.MetadataValue] = {
        "clock": dg.MetadataValue.text(clock.mode),
        "now": dg.MetadataValue.timestamp(clock.now()),
        "measured_by": dg.MetadataValue.text(limits.column),
        "warn_after": dg.MetadataValue.text(in_words(limits.warn_after)),
        "fail_after": dg.MetadataValue.text(fail_after),
    }
    failed, severity = False, dg.AssetCheckSeverity.WARN
    if found.newest is None or found.age is None:
        failed, metadata[EVALUATED] = True, dg.MetadataValue.bool(False)
        if limits.fail_after is not None:
            severity = dg.AssetCheckSeverity.ERROR
        description = f"nothing to measure: no value of {limits.column} up to the clock's now"
    else:
        metadata["newest"] = dg.MetadataValue.timestamp(found.newest)
        metadata["age"] = dg.MetadataValue.text(in_words(found.age))
        metadata["age_hours"] = dg.MetadataValue.float(round(found.age / timedelta(hours=1), 2))
        limit = in_words(limits.warn_after)
        description = f"{in_words(found.age)} old on the {clock.mode} clock, limit {limit}"
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
    layer: Layer, tables: Sequence[tuple[Table, Freshness]], clock: Clock
) -> dg.AssetChecksDefinition:
    by_key = {asset_key(table): (table, limits) for table, limits in tables}

    @dg.multi_asset_check(
        name=f"{layer}_{CHECK_NAME}",
        specs=[
            dg.AssetCheckSpec(
                CHECK_NAME,
                asset=key,
                blocking=False,
                description=f"The newest {limits.column} is at most {in_words(limits.warn_after)} old on the "
                "platform's clock.",
            )
            for key, (_, limits) in by_key.items()
        ],
        can_subset=True,
    )
    def check_freshness(
        context: dg.AssetCheckExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> Iterator[dg.AssetCheckResult]:
        with lakehouse.reader() as con:
            for check in sorted(context.selected_asset_check_keys, key=lambda k: k.asset_key):
                table, limits = by_key[check.asset_key]
                yield judge(table, limits, measure(con, table, limits.column, clock.now()), clock)

    return check_freshness


def build_freshness_checks(declarations: Declarations, clock: Clock) -> list[dg.AssetChecksDefinition]:
    """One op a layer that measures every table of it that declares freshness."""
    layers = {
        layer: [(t, t.meta.freshness) for t in declarations.layer(layer) if t.meta.freshness is not None]
        for layer in LAYERS
    }
    return [_layer_check(layer, found, clock) for layer, found in layers.items() if found]


def with_policy(
    spec: dg.AssetSpec,
    declarations: Declarations,
    clock: Clock,
    ages: Mapping[dg.AssetKey, timedelta | None] | None = None,
) -> dg.AssetSpec:
    """The spec with the freshness policy that its table declares, or that its age gives; else with none.

    On a replay clock it gets none, as Dagster measures policies on the wall clock. Upkeep follows the wall
    clock whatever the platform's clock is: files age in any case.

    Args:
        spec: An asset.
        declarations: Tables with their declared freshness.
        clock: The platform's clock.
        ages: Assets that are rebuilt at an age, or, for None, at no age: these have no policy.
    """
    if clock.mode == "replay" and spec.key.path[0] != OPERATIONS:
        return spec
    table = next((t for t in declarations.tables.values() if asset_key(t) == spec.key), None)
    if table is not None and table.meta.freshness is not None:
        policy = freshness_policy(table.meta.freshness.warn_after, table.meta.freshness.fail_after)
    elif ages is not None and spec.key in ages:
        age = ages[spec.key]
        if age is None:
            return spec
        policy = freshness_policy(age, 2 * age)
    elif spec.key.path[0] == OPERATIONS:
        policy = freshness_policy(*UPKEEP_LIMITS)
    else:
        return spec
    return spec.replace_attributes(freshness_policy=policy)
