"""Online values follow the clock: views are materialized again when a row has become known since.

What belongs here: when. What does not: which rows lie ahead, which each materialization tells
(``materialization``).
"""

import time
from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from orchestration.dagster_ext import CheckState, GraphChecks
from orchestration.dagster_ext.check_gate import counted
from orchestration.run_keys import run_key
from orchestration.settings import Clock, Settings

NAME = "online_rows_due"
NEXT_DUE = "next_due"
"""Metadata of a materialization: when the first row becomes known that it left out."""
INTERVAL_SECONDS = 60


def due_request(
    instance: dg.DagsterInstance,
    keys: Sequence[dg.AssetKey],
    clock: Clock,
    not_holding: Callable[[dg.AssetKey], Sequence[CheckState]] = lambda _: (),
) -> dg.RunRequest | dg.SkipReason:
    """Request one run of all assets that have a row due and may be published; retry after a failure.

    Args:
        instance: Where materializations are recorded.
        keys: The assets.
        clock: The platform's.
        not_holding: The blocking checks on an asset's inputs that do not hold.
    """
    due: list[dg.AssetKey] = []
    told: list[str] = []
    withheld: list[str] = []
    for key in keys:
        event = instance.get_latest_materialization_event(key)
        found = None if event is None else event.asset_materialization
        at = None if found is None else found.metadata.get(NEXT_DUE)
        if event is None or not isinstance(at, dg.TimestampMetadataValue):
            continue
        if at.value > clock.now().timestamp():
            continue
        if faults := not_holding(key):
            withheld.append(f"{key.to_user_string()}: {counted(faults)}")
        else:
            due.append(key)
            told.append(f"{key.to_user_string()} {event.timestamp}")
    if due:
        # A failed run leaves the rows due: they are requested again, under a new key, after a pause.
        request = run_key(instance, NAME, "; ".join(told), time.time())
        if request.wait_seconds:
            return dg.SkipReason(
                f"the last run for these rows has ended; the next request is in {request.wait_seconds:.0f} s"
            )
        return dg.RunRequest(run_key=request.key, asset_selection=due)
    if withheld:
        return dg.SkipReason(f"withheld because blocking checks do not hold: {'; '.join(withheld)}")
    return dg.SkipReason("no row is due")


def build_due_sensor(
    assets: Sequence[dg.AssetsDefinition],
    settings: Settings,
    clock: Clock,
    default_status: dg.DefaultSensorStatus,
    checks: GraphChecks,
) -> dg.SensorDefinition:
    """The sensor over all online stores."""
    inputs = {key: asset.asset_deps[key] for asset in assets for key in asset.keys}
    keys = sorted((key for asset in assets for key in asset.keys), key=lambda key: key.to_user_string())

    @dg.sensor(
        name=NAME,
        description="Materializes online stores when a row that lay ahead of the clock has become known.",
        target=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=settings.sensor_interval(INTERVAL_SECONDS),
        default_status=default_status,
    )
    def online_rows_due(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        yield due_request(
            context.instance, keys, clock, lambda key: checks.not_holding(context.instance, inputs[key])
        )

    return online_rows_due
