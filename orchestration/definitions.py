"""The code location: the only place where the rooms meet.

What belongs here: calling each room's builders and handing the results to Dagster. What does not:
any decision that belongs to a room.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import dagster as dg

from orchestration.asset_specs import asset_partitions
from orchestration.automation import (
    automate,
    build_alert_sensor,
    build_automation_sensor,
    build_freshness_checks,
    build_jobs,
    build_maintenance,
    build_schedules,
    sensor_status,
    with_policy,
)
from orchestration.dagster_ext import GraphChecks
from orchestration.declarations import LAYERS
from orchestration.feature_store.discovery.asset_metadata import Metadata, declared_metadata
from orchestration.feature_store.online.assets import ONLINE_STORE, build_online_assets
from orchestration.feature_store.online.due_sensor import build_due_sensor
from orchestration.feature_store.views import build_catalog
from orchestration.ingestion import build_landing_sensors, build_raw_assets, unwatched_assets
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.assets import build_model_assets, retraining_ages
from orchestration.learning.datasets import DatasetStore, build_dataset_asset, needed_snapshots
from orchestration.learning.predictions import build_prediction_assets
from orchestration.learning.serving.assets import build_online_prediction_assets, build_prediction_sensor
from orchestration.learning.spec import build_models
from orchestration.learning.wiring import make_ground
from orchestration.model_definition import model_definition
from orchestration.monitoring.assets import build_monitoring_assets, skew_check
from orchestration.project import Project, read_project
from orchestration.quality import build_contract_checks, build_quality_report, load_contracts
from orchestration.retraining import retraining_of
from orchestration.settings import Settings
from orchestration.transformation import DbtResource, build_layer_assets, compile_models


def build_definitions(settings: Settings, **overrides: Any) -> dg.Definitions:
    """Every definition of the platform for these settings.

    Args:
        settings: Where things are, and which environment this is.
        overrides: Resources by key, in place of the platform's own (``lakehouse``, ``dbt``).

    Raises:
        DeclarationError: The dbt project or the contracts declare something that cannot be used.
    """
    return assemble(read_project(settings), **overrides)


def assemble(project: Project, **resources: Any) -> dg.Definitions:
    """The definitions of a project that has been read."""
    settings, manifest, declarations, clock = (
        project.settings,
        project.manifest,
        project.declarations,
        project.clock,
    )
    graph_checks = GraphChecks(asset_partitions(declarations), settings.lake_lock_timeout_seconds)
    online_assets, online_checks = build_online_assets(declarations, settings, clock, graph_checks)
    contracts = load_contracts(declarations, settings.soda_checks_dir)
    # Nobody should meet its faults only when features are asked for.
    catalog = build_catalog(declarations)
    told = declared_metadata(catalog, declarations, settings, clock)
    learned = build_models(declarations, catalog)
    landing = build_raw_assets(declarations, settings, clock)
    contract_checks = build_contract_checks(contracts, clock)
    layers: list[dg.AssetsDefinition] = []
    for layer in LAYERS[1:]:
        if declarations.layer(layer):
            layers.append(build_layer_assets(layer, declarations, manifest, settings, clock, graph_checks))
    checks = [
        *contract_checks,
        *build_freshness_checks(declarations, clock),
        *online_checks,
    ]
    graph_checks.add(spec for definition in (*layers, *checks) for spec in definition.check_specs)
    compiled = partial(_compiled, project)
    versions = [
        build_dataset_asset(
            table, declarations, manifest, project.variables, settings, clock, compiled, graph_checks
        )
        for table in declarations.training_sets
    ]
    ground = replace(
        make_ground(declarations, settings, clock, graph_checks, partial(model_definition, project)),
        watches=lambda spec: [skew_check(spec)],
    )
    asked = build_online_prediction_assets(learned, settings.prediction_log_dir)
    retraining = retraining_of(project, learned, ground, assemble)
    ages = retraining_ages(learned) | retraining.ages
    assets = dg.map_asset_specs(
        lambda spec: automate(with_policy(_with_facts(spec, told), declarations, clock, ages), graph_checks),
        [
            *landing,
            *layers,
            *versions,
            *build_model_assets(learned, ground),
            *build_prediction_assets(
                learned, ground, catalog, {table.name: table for table in declarations.feature_views}
            ),
            *build_monitoring_assets(learned, ground, catalog),
            *asked,
            *retraining.assets,
            *online_assets,
            build_quality_report(contracts, settings, clock),
            build_maintenance(settings, partial(needed_snapshots, DatasetStore(settings.datasets_dir))),
        ],
    )
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=[*build_jobs(key for asset in landing for key in asset.keys), *retraining.jobs],
        schedules=build_schedules(declarations, settings, clock, unwatched_assets(declarations, settings)),
        sensors=[
            *build_landing_sensors(
                declarations, settings, clock, sensor_status(settings.environment, "landing")
            ),
            *(
                [
                    build_due_sensor(
                        online_assets,
                        settings,
                        clock,
                        sensor_status(settings.environment, "automation"),
                        graph_checks,
                    )
                ]
                if online_assets
                else []
            ),
            *(
                [
                    build_prediction_sensor(
                        asked,
                        settings,
                        sensor_status(settings.environment, "automation"),
                    )
                ]
                if asked
                else []
            ),
            build_automation_sensor(settings),
            *retraining.sensors,
            build_alert_sensor(settings),
        ],
        resources={
            "lakehouse": LakehouseResource.from_settings(settings),
            "dbt": DbtResource.from_settings(settings),
            **resources,
        },
        # One process: starting another costs more than most assets do.
        executor=dg.in_process_executor,
    )


def _with_facts(spec: dg.AssetSpec, told: Mapping[str, Metadata]) -> dg.AssetSpec:
    """What the catalog tells of a feature view, on its asset and on that of its online values."""
    layer, name = spec.key.path[0], spec.key.path[-1]
    if layer not in {"features", ONLINE_STORE} or name not in told:
        return spec
    return spec.merge_attributes(metadata=told[name])


def _compiled(project: Project, unique_ids: Sequence[str], cutoff: datetime) -> Mapping[str, str]:
    """The SQL of models for the whole of history, with labels known up to ``cutoff``."""
    variables = {"training_cutoff": cutoff.isoformat()}
    return compile_models(project.settings, project.manifest, unique_ids, variables)


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads: the definitions for the environment's settings."""
    return build_definitions(Settings())
