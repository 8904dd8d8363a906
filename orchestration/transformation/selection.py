"""From what a Dagster step is asked to do, to dbt's arguments: pure functions of the step's context."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from orchestration.partitions import Window, run_window
from orchestration.transformation.specs import UNIQUE_ID

FULL_REFRESH_TAG = "groundwork/full_refresh"
"""A run with this tag set to ``true`` rebuilds its models from nothing."""

TOLD_VARIABLES = ("training_cutoff",)
"""Variables of a run that the materializations it makes tell."""


class LayerConfig(dg.Config):
    """Run config of a layer."""

    full_refresh: bool = False
    ignore_failed_checks: bool = False
    """Build on inputs whose blocking checks do not hold."""


def selected_nodes(context: dg.AssetExecutionContext) -> list[str]:
    """The dbt nodes of a step: the selected assets and checks, nothing else."""
    assets = context.assets_def
    metadata = [
        *(assets.get_asset_spec(key).metadata for key in context.selected_asset_keys),
        *(assets.get_spec_for_check_key(key).metadata or {} for key in context.selected_asset_check_keys),
    ]
    return sorted(str(m[UNIQUE_ID]) for m in metadata)


def select_args(manifest: Mapping[str, Any], unique_ids: Iterable[str]) -> list[str]:
    """Arguments that make dbt run exactly these nodes, and no test just because it is near."""
    names = [".".join(manifest["nodes"][u]["fqn"]) for u in unique_ids]
    return ["--select", *(f"fqn:{name}" for name in names), "--indirect-selection", "empty"]


def window_vars(window: Window | None) -> dict[str, str]:
    """``partition_start`` and ``partition_end`` as ISO 8601 in UTC; nothing for a run without partitions."""
    if window is None:
        return {}
    return {"partition_start": window.start.isoformat(), "partition_end": window.end.isoformat()}


def build_args(
    context: dg.AssetExecutionContext, config: LayerConfig, training_cutoff: datetime | None = None
) -> list[str]:
    """``dbt build`` for a step, but for its selection.

    Args:
        context: The step's.
        config: Its run config.
        training_cutoff: The variable of that name: labels that became known later are not trained on.
    """
    args = ["build", "--exclude-resource-type", "unit_test"]
    variables = window_vars(run_window(context))
    if training_cutoff is not None:
        variables["training_cutoff"] = training_cutoff.isoformat()
    if variables:
        args += ["--vars", json.dumps(variables)]
    if config.full_refresh or context.run_tags.get(FULL_REFRESH_TAG) == "true":
        args.append("--full-refresh")
    return args
