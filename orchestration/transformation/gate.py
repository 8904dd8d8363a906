"""A layer is not built on tables whose blocking checks do not hold.

Within a run Dagster stops what is downstream of a failed check, and declarative automation waits for its
inputs' checks; a run of one layer alone, started by hand, would do neither. What belongs here: refusing
it. What does not: the checks.
"""

from collections.abc import Iterable, Mapping

import dagster as dg
from dagster import DagsterEventType
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

_PLANNED = AssetCheckExecutionRecordStatus.PLANNED
_SUCCEEDED = AssetCheckExecutionRecordStatus.SUCCEEDED
_LOOKED_BACK = 20


def blocking_by_asset(specs: Iterable[dg.AssetCheckSpec]) -> dict[dg.AssetKey, list[dg.AssetCheckKey]]:
    """The blocking checks of each asset."""
    found: dict[dg.AssetKey, list[dg.AssetCheckKey]] = {}
    for spec in specs:
        if spec.blocking:
            found.setdefault(spec.asset_key, []).append(spec.key)
    return found


def refuse_failing_inputs(
    context: dg.AssetExecutionContext,
    blocking: Mapping[dg.AssetKey, list[dg.AssetCheckKey]],
    is_ignored: bool,
) -> None:
    """Stop a step that would build on inputs, made by other runs, whose blocking checks do not hold.

    A check that was never evaluated stops nothing, unless the run that built the input ended before it.

    Args:
        context: The step's.
        blocking: Blocking checks by asset.
        is_ignored: Warn instead.

    Raises:
        dg.Failure: It names each asset and check.
    """
    parents: set[dg.AssetKey] = set()
    for asset in context.selected_asset_keys:
        parents |= context.assets_def.asset_deps[asset]
    elsewhere = parents - set(context.job_def.asset_layer.executable_asset_keys)
    keys = sorted((key for asset in elsewhere for key in blocking.get(asset, ())), key=str)
    if not keys:
        return
    newest = context.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    faults = [
        f"{key.asset_key.to_user_string()}: {key.name}: {fault}"
        for key in keys
        if key in newest and newest[key].status != _SUCCEEDED
        if (fault := _fault(context.instance, key)) is not None
    ]
    if not faults:
        return
    lines = "".join(f"\n  {fault}" for fault in faults)
    text = f"found inputs whose blocking checks do not hold, expected all passed:{lines}"
    if is_ignored:
        context.log.warning(f"{text}\nBuilt on them all the same: the run is told to ignore failed checks.")
        return
    raise dg.Failure(
        f"{text}\nMend the data and run the checks again, or set ignore_failed_checks in the run config.",
        allow_retries=False,
    )


def _fault(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> str | None:
    """Why a check does not hold; None when it does, or when nothing is known."""
    for record in instance.event_log_storage.get_asset_check_execution_history(check, limit=_LOOKED_BACK):
        if record.status == _PLANNED:
            if _ended_before_it(instance, check.asset_key, record):
                return f"not evaluated: run {record.run_id} ended before it"
        elif record.evaluation is not None:
            is_held = record.evaluation.passed or record.evaluation.severity != dg.AssetCheckSeverity.ERROR
            return None if is_held else f"failed: {record.evaluation.description or ''}".rstrip(": ")
    return None


def _ended_before_it(
    instance: dg.DagsterInstance, asset: dg.AssetKey, record: AssetCheckExecutionRecord
) -> bool:
    """Whether the run that planned a check has built the asset and ended without checking it."""
    run = instance.get_run_by_id(record.run_id)
    if run is None or not run.is_finished:
        return False
    built = instance.all_logs(record.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
    return any(entry.get_dagster_event().asset_key == asset for entry in built)
