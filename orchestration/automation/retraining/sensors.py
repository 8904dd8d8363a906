"""A sensor and a job for each model: the triggers are looked at, and one run trains, judges and tells.

``retraining/<model>`` is the last asset of that run: what came of it, told to the model's owner. What belongs
here: definitions for Dagster. What does not: the decision (``policy``), training and promotion
(``orchestration.learning``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from pydantic import Field

from orchestration.automation.jobs import RETRAINING as GROUP
from orchestration.automation.notifiers import Alert, NotificationError, build_notifiers
from orchestration.automation.registration import RUNNING, sensor_status
from orchestration.automation.retraining.decisions import DecisionLog
from orchestration.automation.retraining.evaluating import evaluate
from orchestration.automation.retraining.evidence import Watched
from orchestration.automation.retraining.policy import Decision
from orchestration.automation.retraining.runs import DECISION_TAG, MODEL_TAG, TRIGGERS_TAG, InstanceRuns
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.events import Event
from orchestration.learning.registry import Registry
from orchestration.settings import Clock, Settings

INTERVAL_SECONDS = 60
BY_HAND = "by hand"


def job_name(model: str) -> str:
    """Of a model's job, and of its sensor."""
    return f"retrain_{model}"


@dataclass(frozen=True)
class Retrained:
    """What a model's job is made of.

    ``inputs`` are the assets that pull the newest labelled rows and keep them as a version; ``challenger``,
    ``evaluation`` and ``champion`` follow. ``partitions`` gives the first and last partition that a training
    rebuilds, given the instant up to which the last one knew labels; None without partitions.
    """

    watched: Watched
    owner: str
    inputs: Sequence[dg.AssetKey]
    challenger: dg.AssetKey
    evaluation: dg.AssetKey
    champion: dg.AssetKey
    partitions: Callable[[datetime], tuple[str, str] | None]

    @property
    def model(self) -> str:
        """Its name."""
        return self.watched.model

    @property
    def key(self) -> dg.AssetKey:
        """``retraining/<model>``."""
        return dg.AssetKey([GROUP, self.model])

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name(self.model)


class RetrainingConfig(dg.Config):
    """Which decision started the run."""

    decision: str = Field(BY_HAND, description="Id of the decision; a person gives none.")


def _op(key: dg.AssetKey) -> str:
    return "__".join(key.path)


def build_retraining(
    models: Sequence[Retrained],
    settings: Settings,
    clock: Clock,
    checks: Callable[[dg.DagsterInstance, str], Mapping[str, bool | None]],
) -> tuple[list[dg.AssetsDefinition], list[UnresolvedAssetJobDefinition], list[dg.SensorDefinition]]:
    """The asset, the job and the sensor of each model.

    Args:
        models: What there is to retrain.
        settings: Where models lie and who is told.
        clock: The platform's.
        checks: Tells of each blocking check on a model's inputs whether it holds.
    """
    return (
        [_asset(model, settings, clock) for model in models],
        [_job(model) for model in models],
        [_sensor(model, settings, clock, checks) for model in models],
    )


def _job(model: Retrained) -> UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        model.job,
        selection=dg.AssetSelection.assets(
            *model.inputs, model.challenger, model.evaluation, model.champion, model.key
        ),
        tags={MODEL_TAG: model.model},
        description=f"Takes the newest labelled rows, trains {model.model}, promotes the challenger if the "
        "gate lets it pass, and tells. When anything fails the champion goes on serving.",
    )


def run_request(model: Retrained, decision: Decision, labels_until: datetime) -> dg.RunRequest:
    """The run that a decision starts. Its key is the decision's id: asked for twice, it runs once."""
    span = model.partitions(labels_until)
    tags = {MODEL_TAG: model.model, DECISION_TAG: decision.id, TRIGGERS_TAG: ",".join(decision.triggers)}
    if span is not None:
        tags |= {ASSET_PARTITION_RANGE_START_TAG: span[0], ASSET_PARTITION_RANGE_END_TAG: span[1]}
    reason = f"{', '.join(decision.triggers)} (decision {decision.id})"
    config = {
        _op(model.challenger): {"config": {"reason": reason}},
        _op(model.evaluation): {"config": {"forced": decision.forced}},
        _op(model.key): {"config": {"decision": decision.id}},
    }
    return dg.RunRequest(run_key=decision.id, job_name=model.job, run_config={"ops": config}, tags=tags)


def _sensor(
    model: Retrained,
    settings: Settings,
    clock: Clock,
    checks: Callable[[dg.DagsterInstance, str], Mapping[str, bool | None]],
) -> dg.SensorDefinition:
    @dg.sensor(
        name=model.job,
        job_name=model.job,
        minimum_interval_seconds=settings.sensor_interval(INTERVAL_SECONDS),
        default_status=sensor_status(settings.environment, "retraining"),
        description=f"Looks at the triggers of {model.model}, writes down what is decided, and asks for a "
        "training when one fires.",
    )
    def retrain(
        context: dg.SensorEvaluationContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> dg.RunRequest | dg.SkipReason:
        registry = Registry(lakehouse, settings.models_dir, clock)
        found = evaluate(model.watched, lakehouse, registry, InstanceRuns(context.instance, checks), clock)
        if found is None:
            return dg.SkipReason("no version serves yet")
        if found.is_new:
            context.log.info(
                f"decision {found.decision.id}: {found.decision.outcome}: {found.decision.reason}"
            )
        if found.to_run is None:
            return dg.SkipReason(found.decision.reason)
        return run_request(model, found.to_run, found.labels_until)

    return retrain


def _asset(model: Retrained, settings: Settings, clock: Clock) -> dg.AssetsDefinition:
    @dg.asset(
        key=model.key,
        deps=[model.champion],
        description=f"What came of the last training of {model.model}: why it was trained, what the gate "
        "found, who serves now. Its owner is told.",
        group_name=GROUP,
        owners=[model.owner],
        kinds={"duckdb"},
        tags={"layer": GROUP, "model": model.model},
    )
    def retraining(
        context: dg.AssetExecutionContext,
        config: RetrainingConfig,
        lakehouse: dg.ResourceParam[LakehouseResource],
    ) -> dg.MaterializeResult[None]:
        registry = Registry(lakehouse, settings.models_dir, clock)
        decisions = DecisionLog(lakehouse, clock).decisions(model.model)
        decision = next((d for d in decisions if d.id == config.decision), None)
        alert = tell(model, registry.events(model.model), decision, context.run_id)
        context.log.info(alert.text)
        told = []
        for notifier in build_notifiers(settings, context.log):
            # The log has it already, and not as an error; staging tells nobody.
            if notifier.name == "log" or not RUNNING[settings.environment]["alerts"]:
                continue
            try:
                notifier.send(alert)
                told.append(notifier.name)
            except NotificationError as fault:
                context.log.warning(f"message to {alert.owner} not delivered: {fault}")
        return dg.MaterializeResult(
            metadata={
                "message": dg.MetadataValue.md("\n\n".join([alert.subject, *alert.lines])),
                "decision": config.decision,
                "triggers": ", ".join(decision.triggers) if decision is not None else BY_HAND,
                "evidence": dg.MetadataValue.json(
                    [s.as_json() for s in decision.signals] if decision is not None else []
                ),
                "told": ", ".join(told) or "the log",
            }
        )

    return retraining


def tell(model: Retrained, events: Sequence[Event], decision: Decision | None, run_id: str) -> Alert:
    """What a run came to, for the model's owner."""
    mine = [e for e in events if e.run_id == run_id]
    judged = next((e for e in reversed(mine) if e.kind == "judged"), None)
    promoted = next((e for e in reversed(mine) if e.kind == "promoted"), None)
    champion = next((e.version for e in reversed(events) if e.changes_champion), "none")
    why = decision.reason if decision is not None else BY_HAND
    if promoted is not None:
        outcome = f"{promoted.version} serves instead of {promoted.before or 'none'}"
    elif judged is None:
        outcome = f"{champion} serves on: no challenger was judged in this run"
    elif judged.version == champion:
        outcome = f"{champion} serves on: trained again, it came out the same"
    else:
        failed = [f"{r['name']}: {r['description']}" for r in judged.detail["results"] if not r["passed"]]
        outcome = f"{champion} serves on; {judged.version} did not pass {'; '.join(failed)}"
    return Alert(model.owner, f"Groundwork: {model.model} trained again", (f"why: {why}", outcome))


def newest_partitions(
    labels_until: datetime, reached: Sequence[str], timezone: ZoneInfo
) -> tuple[str, str] | None:
    """The partitions to rebuild: from the day up to which labels were known to the newest that is over."""
    if not reached:
        return None
    first = labels_until.astimezone(timezone).date()
    day = min(max(date.fromisoformat(reached[0]), first), date.fromisoformat(reached[-1]))
    return day.isoformat(), reached[-1]
