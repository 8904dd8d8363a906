"""The dbt layers alone, as Groundwork runs them, for the comparison with stock ``dagster-dbt``."""

import dagster as dg

from orchestration.automation.jobs import Span, reached_partitions
from orchestration.definitions import assemble
from orchestration.instance import open_instance
from orchestration.project import read_project
from orchestration.settings import Settings

if __name__ == "__main__":
    project = read_project(Settings())
    built = assemble(project)
    days = reached_partitions(project.declarations, project.clock)
    assets = [a for a in built.assets or () if isinstance(a, dg.AssetsDefinition)]
    layers = [a for a in assets if "dbt" in a.required_resource_keys]
    with open_instance(project.settings) as instance:
        dg.materialize(
            layers, resources=built.resources, instance=instance, tags=Span(days[0], days[-1]).tags
        )
