"""One op a layer: its models and seeds as assets, its dbt tests as asset checks."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from orchestration.asset_specs import POOL
from orchestration.dagster_ext import GraphChecks
from orchestration.declarations import Declarations, Layer
from orchestration.settings import Clock, Settings
from orchestration.transformation.resource import DbtResource
from orchestration.transformation.selection import LayerConfig, build_args
from orchestration.transformation.specs import asset_spec, check_specs, is_asset


def build_layer_assets(
    layer: Layer,
    declarations: Declarations,
    manifest: Mapping[str, Any],
    settings: Settings,
    clock: Clock,
    checks: GraphChecks | None = None,
) -> dg.AssetsDefinition:
    """The dbt assets of a layer, as ``@dbt_assets`` would define them.

    A subset chosen in the UI runs exactly those models and checks; a range of partitions is one run.

    Args:
        layer: ``staged``, ``features`` or ``training``.
        declarations: What the dbt project declares.
        manifest: What ``load_manifest`` gave.
        settings: Where the project is.
        clock: Decides how far open-ended partitions reach.
        checks: The checks of the graph; nothing is built if a blocking one on an input does not hold.

    Raises:
        DeclarationError: A dbt test belongs to no model or seed.
    """
    graph_checks = checks or GraphChecks()
    tables = [t for t in declarations.layer(layer) if is_asset(manifest, t.unique_id)]

    @dg.multi_asset(
        name=f"dbt_{layer}",
        specs=[asset_spec(manifest, declarations, table, settings, clock) for table in tables],
        check_specs=check_specs(manifest, declarations, tables),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
    )
    def dbt_layer(context: dg.AssetExecutionContext, config: LayerConfig, dbt: DbtResource) -> Iterator[Any]:
        # Imports dagster-dbt.
        from orchestration.transformation.translator import LayerTranslator  # noqa: PLC0415

        graph_checks.require_built_on_passing(context, is_ignored=config.ignore_failed_checks)
        started = time.monotonic()
        context.log.info(f"{layer}: building {len(context.selected_asset_keys)} tables")
        yield from dbt.cli(
            build_args(context, config, clock.now() if layer == "training" else None),
            context=context,
            manifest=manifest,
            dagster_dbt_translator=LayerTranslator(declarations, settings, clock),
        ).stream()
        context.log.info(f"{layer}: built in {time.monotonic() - started:.1f} s")

    return dbt_layer
