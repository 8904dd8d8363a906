"""dbt's models as Dagster assets, and dbt run in the run's own process.

What belongs here: parsing the project, running it, and telling Dagster what happened. What does not:
what the SQL says (``dbt_project/``), and when it runs (``automation``). Importing this package does
not import dbt.
"""

from orchestration.transformation.assets import build_layer_assets
from orchestration.transformation.compilation import compile_models
from orchestration.transformation.environment import dbt_environment, dbt_target
from orchestration.transformation.manifest import DbtParseError, load_manifest
from orchestration.transformation.resource import DbtResource

__all__ = [
    "DbtParseError",
    "DbtResource",
    "build_layer_assets",
    "compile_models",
    "dbt_environment",
    "dbt_target",
    "load_manifest",
]
