"""The same dbt project as a stock ``dagster-dbt`` code location: one ``@dbt_assets``, the dbt CLI beneath."""

import os
import sys
from pathlib import Path

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

DBT = str(Path(sys.executable).with_name("dbt"))
project = DbtProject(
    project_dir=os.environ["GROUNDWORK_DBT_PROJECT_DIR"], target_path=Path(os.environ["DBT_TARGET_PATH"])
)


@dbt_assets(manifest=project.manifest_path)  # type: ignore[untyped-decorator]
def models(context: dg.AssetExecutionContext, dbt: DbtCliResource):  # type: ignore[no-untyped-def]
    command = ["build", "--exclude-resource-type", "unit_test"]
    yield from dbt.cli(command, context=context).stream()


defs = dg.Definitions(
    assets=[models], resources={"dbt": DbtCliResource(project_dir=project, dbt_executable=DBT)}
)

if __name__ == "__main__":
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([models], resources=defs.resources, instance=instance)
