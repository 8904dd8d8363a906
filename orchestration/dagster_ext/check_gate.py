"""The gate in front of everything that builds on data or publishes it: its blocking checks must hold."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import dagster as dg

from orchestration.dagster_ext.check_history import CheckHistory
from orchestration.dagster_ext.check_state import CheckState, CheckStatus
from orchestration.declarations import Partition

_POLL_SECONDS = 0.5
T = TypeVar("T")


class GraphChecks:
    """The checks of a graph by asset, and the partitions of assets whose checks test the window of a run.

    Args:
        partitions: The declared partition of each such asset.
        wait_seconds: How long a step that publishes waits for a check that another run is about to evaluate.
    """

    def __init__(
        self, partitions: Mapping[dg.AssetKey, Partition] | None = None, wait_seconds: float = 0.0
    ) -> None:
        self.partitions = dict(partitions or {})
        self._wait_seconds = wait_seconds
        self._specs: dict[dg.AssetCheckKey, dg.AssetCheckSpec] = {}

    def add(self, specs: Iterable[dg.AssetCheckSpec]) -> None:
        """Add checks of the graph."""
        self._specs.update({spec.key: spec for spec in specs})

    def blocking(self, assets: Collection[dg.AssetKey]) -> list[dg.AssetCheckKey]:
        """The blocking checks of assets, by asset and name."""
        found = [s.key for s in self._specs.values() if s.blocking and s.asset_key in assets]
        return sorted(found, key=lambda key: (key.asset_key, key.name))

    def specs(self, asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
        """The checks of an asset, blocking or not."""
        return [spec for spec in self._specs.values() if spec.asset_key == asset]

    def history(self, instance: dg.DagsterInstance, run_id: str = "") -> CheckHistory:
        """The check history as of now; a check that the run ``run_id`` has planned is not waited for."""
        return CheckHistory(instance, self.partitions, run_id)

    def not_holding(
        self, instance: dg.DagsterInstance, assets: Collection[dg.AssetKey], run_id: str = ""
    ) -> list[CheckState]:
        """The blocking checks of assets that do not hold for the current data."""
        states = self.history(instance, run_id).states(self.blocking(assets))
        return [state for state in states.values() if not state.holds]

    def require_built_on_passing(self, context: dg.AssetExecutionContext, *, is_ignored: bool) -> None:
        """Stop a step that would build on inputs, made by other runs, whose blocking checks do not hold.

        An input that no run has built or checked stops nothing, nor does one that a run in progress is about
        to check.

        Args:
            context: The step's.
            is_ignored: Warn instead.

        Raises:
            dg.Failure: It names each asset and check.
        """
        parents = _parents(context) - set(context.job_def.asset_layer.executable_asset_keys)
        states = self.not_holding(context.instance, parents, context.run_id)
        faults = [s for s in states if not s.is_unknown and s.status is not CheckStatus.PENDING]
        if not faults:
            return
        text = f"found inputs whose blocking checks do not hold, expected all to pass:{_lines(faults)}"
        if is_ignored:
            context.log.warning(f"{text}\nBuilt on them because ignore_failed_checks is set.")
            return
        raise dg.Failure(
            f"{text}\nFix the data and rerun the checks, or set ignore_failed_checks in the run config "
            "(the UI's Launchpad).",
            allow_retries=False,
        )

    def pinned(self, context: dg.AssetExecutionContext, pin: Callable[[], T]) -> T:
        """The result of ``pin``, taken while every blocking check on the step's inputs held.

        It starts over if an input is materialized while ``pin`` works: the checks may be of other data.

        Args:
            context: The step's.
            pin: Fixes what the step reads, such as a snapshot of the lakehouse.

        Raises:
            dg.Failure: It names each asset and check.
        """
        parents, deadline = _parents(context), time.monotonic() + self._wait_seconds
        while True:
            before = self._newest(context.instance, parents)
            found = pin()
            faults = self.not_holding(context.instance, parents, context.run_id)
            if self._newest(context.instance, parents) != before:
                continue
            if not faults:
                return found
            is_pending = all(fault.status is CheckStatus.PENDING for fault in faults)
            if not is_pending or time.monotonic() > deadline:
                raise dg.Failure(refusal(faults), allow_retries=False)
            time.sleep(_POLL_SECONDS)

    def _newest(self, instance: dg.DagsterInstance, assets: Collection[dg.AssetKey]) -> list[int]:
        """The id of the newest materialization of each asset."""
        history = self.history(instance)
        return [history.newest_materialization(asset) for asset in sorted(assets)]


def refusal(faults: Collection[CheckState]) -> str:
    """The message that says why nothing is published."""
    return (
        f"nothing is published: found blocking checks that do not hold ({counted(faults)}), "
        "expected all to pass:"
        f"{_lines(faults)}\nFix the data and rerun the checks."
    )


def counted(faults: Iterable[CheckState]) -> str:
    """The number of checks that failed and that were not evaluated: ``1 failed, 2 not evaluated``."""
    failed = missing = 0
    for fault in faults:
        failed += fault.status is CheckStatus.FAILED
        missing += fault.status is not CheckStatus.FAILED
    parts = [f"{count} {what}" for count, what in ((failed, "failed"), (missing, "not evaluated")) if count]
    return ", ".join(parts)


def _lines(faults: Iterable[CheckState]) -> str:
    return "".join(
        f"\n  {fault.key.asset_key.to_user_string()}: {fault.key.name}: {fault.reason}" for fault in faults
    )


def _parents(context: Any) -> set[dg.AssetKey]:
    found: set[dg.AssetKey] = set()
    for asset in context.selected_asset_keys:
        found |= context.assets_def.asset_deps[asset]
    return found - set(context.selected_asset_keys)
