"""The SQL of models as dbt compiles it, for the whole of history: nothing of it is run.

What belongs here: calling dbt for that. What does not: what the SQL is kept for.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.settings import Settings
from orchestration.transformation.environment import dbt_environment
from orchestration.transformation.manifest import DbtParseError, executable_manifest, project_args
from orchestration.transformation.records import target_dir
from orchestration.transformation.selection import select_args


def compile_models(
    settings: Settings,
    manifest: Mapping[str, Any],
    unique_ids: Sequence[str],
    variables: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The SQL of models by unique id, without the window of a run and as of tables built from nothing.

    Args:
        settings: Where the project is.
        manifest: What ``load_manifest`` gave.
        unique_ids: Of models and seeds; the SQL of a seed is empty.
        variables: dbt's, in addition to the project's own.
        environment: Variables that ``profiles.yml`` reads; by default those of the lakehouse of the settings.

    Raises:
        DbtParseError: dbt cannot compile them.
    """
    from orchestration.transformation.engine import Engine  # noqa: PLC0415 - imports dbt

    flags = ["--log-level", "none", "--log-level-file", "none", "--no-write-json", "--no-populate-cache"]
    with target_dir(settings) as target:
        args = [*flags, "compile", "--full-refresh", "--vars", json.dumps(dict(variables), default=str)]
        args += [*select_args(manifest, unique_ids), *project_args(settings, target)]
        with Engine(args, environment or dbt_environment(settings), executable_manifest(settings)) as engine:
            for _ in engine.events():
                pass
        if not engine.succeeded:
            raise DbtParseError(f"{settings.dbt_project_dir}: dbt cannot compile\n{engine.error}")
        return {unique_id: engine.compiled.get(unique_id, "") for unique_id in unique_ids}
