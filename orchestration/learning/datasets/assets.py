"""Dataset versions in the asset graph: one asset for each training set, behind its blocking checks.

What belongs here: assets and their metadata. What does not: how a version is made (``building``), which is
imported when one is.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import dagster as dg

from orchestration.asset_specs import asset_key, declared_schema
from orchestration.dagster_ext import GraphChecks
from orchestration.declarations import Declarations, Table
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.datasets.circumstances import built_window, check_outcomes, cutoff_of
from orchestration.learning.datasets.recipe import Compile, read_recipe
from orchestration.learning.datasets.store import DatasetStore
from orchestration.settings import Clock, Settings

DATASETS = "datasets"
"""First part of the assets' keys."""
GROUP = "training"


def dataset_key(name: str) -> dg.AssetKey:
    """``datasets/<training set>``."""
    return dg.AssetKey([DATASETS, name])


def build_dataset_asset(
    table: Table,
    declarations: Declarations,
    manifest: Mapping[str, Any],
    variables: Mapping[str, Any],
    settings: Settings,
    clock: Clock,
    compile_models: Compile,
    checks: GraphChecks,
) -> dg.AssetsDefinition:
    """The asset of a training set that makes its versions.

    Args:
        table: The training set.
        declarations: What the dbt project declares.
        manifest: dbt's.
        variables: The dbt project's.
        settings: Where versions are kept.
        clock: Up to when labels count, where a training set does not tell.
        compile_models: Gives the SQL of models: unique ids and the cut-off in, SQL by unique id out.
        checks: The checks of the graph.
    """
    training_set, store = asset_key(table), DatasetStore(settings.datasets_dir)

    @dg.asset(
        key=dataset_key(table.name),
        deps=[training_set],
        group_name=GROUP,
        owners=[table.meta.owner],
        kinds={"parquet"},
        tags={"layer": DATASETS, **dict.fromkeys(table.tags, "")},
        description=f"{table.name} as immutable versions: Parquet files, named after their content, with a "
        "manifest of all they were made from. The same data again is the same version.",
        metadata={
            "dagster/column_schema": declared_schema(table),
            "declared_in": table.file,
            "folder": dg.MetadataValue.path(store.root / table.name),
        },
    )
    def dataset_version(
        context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> dg.MaterializeResult[None]:
        from orchestration.learning.datasets.building import Told, build  # noqa: PLC0415 - imports Arrow

        snapshot = checks.pinned(context, lakehouse.newest_snapshot)
        recipe = read_recipe(declarations, manifest, table)
        specs = checks.specs(training_set)
        results = checks.history(context.instance).last_results(spec.key for spec in specs)
        told = Told(
            run_id=context.run_id,
            cutoff=cutoff_of(context.instance, training_set) or clock.now(),
            variables=variables,
            checks=check_outcomes(results, specs),
            window=partial(
                built_window, context.instance, training_set, recipe.partition, recipe.window_column
            ),
            compiled=compile_models,
        )
        done = build(store, lakehouse, recipe, told, settings, snapshot)
        made = done.manifest
        context.log.info(f"{made.reference}: {done.how}, {made.rows} rows")
        lake = made.built.lake
        return dg.MaterializeResult(
            data_version=dg.DataVersion(made.version),
            metadata={
                "dagster/row_count": made.rows,
                "version": made.version,
                "how": done.how,
                "bytes": made.bytes,
                "files": len(made.shards),
                "content_hash": made.content_hash,
                "path": dg.MetadataValue.path(done.path),
                "snapshot": lake.snapshot,
                "lineage": dg.MetadataValue.json(
                    {name: source.changed_at for name, source in lake.inputs.items() if source.is_read}
                ),
                "checks": len(made.built.checks),
                **{f"rows_{split}": rows for split, rows in made.splits.items()},
            },
        )

    return dataset_version
