"""Retraining in a read project: its models as triggers see them, with their jobs, sensors and replays.

What belongs here: from specifications to definitions. What does not: triggers, decisions and sensors
themselves (``automation.retraining``), or the replay (``replay``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import dagster as dg
import duckdb
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from orchestration.asset_specs import asset_key
from orchestration.automation import reached_partitions
from orchestration.automation.retraining.evidence import Labels, Learnt, Watched
from orchestration.automation.retraining.sensors import Retrained, build_retraining, newest_partitions
from orchestration.lakehouse import last_change, table_exists
from orchestration.learning.assets import Ground, model_key
from orchestration.learning.datasets import DatasetStore, dataset_key
from orchestration.learning.spec import ModelSpec
from orchestration.model_definition import comparable_definition
from orchestration.project import Project
from orchestration.replay.assets import build_replay

Restated = Callable[[duckdb.DuckDBPyConnection, Learnt], Sequence[tuple[str, int]] | None]


@dataclass(frozen=True)
class Retraining:
    """Assets, jobs and sensors of all models; ``ages`` are those at which assets are made anew."""

    assets: list[dg.AssetsDefinition]
    jobs: list[UnresolvedAssetJobDefinition]
    sensors: list[dg.SensorDefinition]
    ages: dict[dg.AssetKey, timedelta | None]


def retraining_of(
    project: Project,
    models: Mapping[str, ModelSpec],
    ground: Ground,
    assemble: Callable[[Project], dg.Definitions],
) -> Retraining:
    """Triggers, jobs and the replay of every declared model; ``assemble`` makes a project's definitions."""

    def checks(instance: dg.DagsterInstance, model: str) -> Mapping[str, bool | None]:
        return ground.verdicts(instance, models[model])

    retrained = [_retrained(project, spec) for spec in models.values()]
    assets, jobs, sensors = build_retraining(retrained, project.settings, project.clock, checks)
    replays, replay_jobs = build_replay(models, ground, project.declarations, assemble)
    ages = {model.key: model.watched.policy.age for model in retrained}
    return Retraining(
        [*assets, *replays],
        [*jobs, *replay_jobs],
        sensors,
        {**ages, **{key: None for replay in replays for key in replay.keys}},
    )


def watched_model(project: Project, spec: ModelSpec, restated: Restated) -> Watched:
    """A model as its triggers see it."""
    return Watched(
        model=spec.name,
        metric=spec.declared.metric,
        policy=spec.declared.retrain,
        labels=Labels(spec.table.schema, spec.table.name, spec.training_set.label_known_at),
        labelled=spec.declared.monitoring.performance.labelled,
        definition=partial(comparable_definition, project, spec),
        restated=restated,
    )


def _retrained(project: Project, spec: ModelSpec) -> Retrained:
    embargo = spec.declared.split.embargo
    has_partitions = project.declarations.partition(spec.table.unique_id) is not None

    def partitions(labels_until: datetime) -> tuple[str, str] | None:
        if not has_partitions:
            return None
        reached = reached_partitions(project.declarations, project.clock)
        return newest_partitions(labels_until - embargo, reached, spec.timezone)

    return Retrained(
        watched=watched_model(project, spec, restated_since(project, spec)),
        owner=spec.owner,
        inputs=[asset_key(spec.table), dataset_key(spec.table.name)],
        challenger=model_key(spec, "challenger"),
        evaluation=model_key(spec, "evaluation"),
        champion=model_key(spec, "champion"),
        partitions=partitions,
    )


def restated_since(project: Project, spec: ModelSpec) -> Restated:
    """Compares the training set with a version, once for each state of either."""
    store = DatasetStore(project.settings.datasets_dir)
    found: dict[tuple[str, int], Sequence[tuple[str, int]] | None] = {}

    def restated(con: duckdb.DuckDBPyConnection, learnt: Learnt) -> Sequence[tuple[str, int]] | None:
        from orchestration.learning.datasets.restating import restated_days  # noqa: PLC0415

        if not table_exists(con, spec.table.schema, spec.table.name):
            return None
        state = learnt.dataset_version, last_change(con, spec.table.schema, spec.table.name)
        if state not in found:
            found.clear()
            found[state] = restated_days(
                con,
                store,
                spec.table,
                learnt.dataset_version,
                learnt.labels_until,
                spec.columns,
                spec.timezone,
            )
        return found[state]

    return restated
