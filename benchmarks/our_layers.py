"""The dbt layers alone, as Groundwork runs them, for the comparison with stock ``dagster-dbt``."""

import dagster as dg

from orchestration.definitions import defs

if __name__ == "__main__":
    built = defs()
    layers = [
        a
        for a in built.assets or ()
        if isinstance(a, dg.AssetsDefinition) and "dbt" in a.required_resource_keys
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize(layers, resources=built.resources, instance=instance)
