"""Checks that a model depends on, for commands that publish without a run."""

from dataclasses import replace

import dagster as dg

from orchestration.asset_specs import asset_partitions
from orchestration.dagster_ext import GraphChecks
from orchestration.definitions import assemble
from orchestration.feature_store.views import build_catalog
from orchestration.instance import open_instance
from orchestration.learning.spec import build_models
from orchestration.learning.wiring import make_ground
from orchestration.monitoring.assets import skew_check
from orchestration.project import read_project
from orchestration.settings import Settings


def input_verdicts(settings: Settings, model: str) -> dict[str, bool | None]:
    """Whether each blocking check that a model depends on holds; None for one that was not evaluated."""
    project = read_project(settings)
    declarations = project.declarations
    spec = build_models(declarations, build_catalog(declarations)).get(model)
    if spec is None:
        return {}
    definitions = assemble(project)
    checks = GraphChecks(asset_partitions(declarations))
    for made in (*(definitions.assets or ()), *(definitions.asset_checks or ())):
        if isinstance(made, dg.AssetsDefinition):
            checks.add(made.check_specs)
    ground = make_ground(declarations, settings, project.clock, checks, lambda _: {})
    with open_instance(settings) as instance:
        return replace(ground, watches=lambda one: [skew_check(one)]).verdicts(instance, spec)
