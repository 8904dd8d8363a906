"""The same dbt project as a stock ``dagster-dbt`` code location: one ``@dbt_assets``, the dbt CLI beneath.

Once without partitions, and once with a day each, in a single run, as ``dagster-dbt``'s documentation has it.
"""

import os
import sys
from pathlib import Path

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

DBT = str(Path(sys.executable).with_name("dbt"))
project = DbtProject(
    project_dir=os.environ["GROUNDWORK_DBT_PROJECT_DIR"], target_path=Path(os.environ["DBT_TARGET_PATH"])
)
DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
COMMAND = ["build", "--exclude-resource-type", "unit_test"]


@dbt_assets(manifest=project.manifest_path)  # type: ignore[untyped-decorator]
def models(context: dg.AssetExecutionContext, dbt: DbtCliResource):  # type: ignore[no-untyped-def]
    yield from dbt.cli(COMMAND, context=context).stream()


@dbt_assets(  # type: ignore[untyped-decorator]
    manifest=project.manifest_path, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run()
)
def models_by_day(context: dg.AssetExecutionContext, dbt: DbtCliResource):  # type: ignore[no-untyped-def]
    yield from dbt.cli(COMMAND, context=context).stream()


defs = dg.Definitions(
    assets=[models], resources={"dbt": DbtCliResource(project_dir=project, dbt_executable=DBT)}
)

if __name__ == "__main__":
    chosen, tags = models, {}
    if "by-day" in sys.argv:
        days = DAYS.get_partition_keys()
        chosen = models_by_day
        tags = {
            "dagster/asset_partition_range_start": days[0],
            "dagster/asset_partition_range_end": days[-1],
        }
    with dg.DagsterInstance.local_temp(sys.argv[1]) as instance:
        dg.materialize([chosen], resources=defs.resources, instance=instance, tags=tags)
