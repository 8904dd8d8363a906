"""Each declared model in the asset graph: challenger, evaluation with the gate's checks, champion.

``model/<name>_challenger`` trains on a version of the model's training set; ``model/<name>_evaluation``
scores it beside the champion and judges, a check for each condition of the gate; ``model/<name>_champion``
promotes it, or keeps who serves. What belongs here: assets, their config and metadata. What does not: how a
model is trained (``training``) or judged (``gate``); both are imported when they run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from orchestration.asset_specs import POOL, SUMMARY, WITHHELD
from orchestration.dagster_ext import CheckStatus, GraphChecks
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.conditions import CONDITIONS
from orchestration.learning.events import Event, RegistryError, Who
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.pictures import as_markdown_image
from orchestration.settings import Clock, Settings

if TYPE_CHECKING:
    from orchestration.learning.gate import GateResult
    from orchestration.learning.judging import Judged
    from orchestration.learning.training import Code, Dataset

GROUP = "model"
LATEST = "latest"
TRAINING_POOL = "training"
"""Pool of the ops that train and score on all processors."""


@dataclass(frozen=True)
class Ground:
    """What models stand on, told by whoever builds the definitions.

    ``open_dataset`` gives a version of a training set by names, ``latest`` being the newest; ``dataset_key``
    is the asset that makes them; ``inputs`` are the blocking checks of all that a training set is made from;
    ``code`` is what a model would be trained by.
    """

    settings: Settings
    clock: Clock
    open_dataset: Callable[[str, str], "Dataset"]
    dataset_key: Callable[[str], dg.AssetKey]
    inputs: Callable[[ModelSpec], Sequence[dg.AssetCheckKey]]
    code: Callable[[ModelSpec], "Code"]
    watches: Callable[[ModelSpec], Sequence[dg.AssetCheckKey]] = lambda _: ()
    """Checks of what serves: none may have failed, but before anything has served none is evaluated."""
    checks: GraphChecks = field(default_factory=GraphChecks)
    """The checks of the graph."""

    def verdicts(
        self, instance: dg.DagsterInstance, spec: ModelSpec, run_id: str = ""
    ) -> dict[str, bool | None]:
        """Whether each blocking check that a model depends on holds; None for one that was not evaluated.

        What serves goes by the last result: a check of it that was never evaluated, or that a run ended
        before, says nothing.
        """
        history = self.checks.history(instance, run_id)
        found = history.verdicts(self.inputs(spec))
        for key, results in history.last_results(self.watches(spec)).items():
            name = f"{key.asset_key.to_user_string()}:{key.name}"
            if results and not (results[0].evaluation.passed or results[0].warns):
                found[name] = False if results[0].status is CheckStatus.FAILED else None
            elif results:
                found[name] = True
        return found

    def registry(self, lakehouse: LakehouseResource) -> Registry:
        """The registry in a lakehouse."""
        return Registry(lakehouse, self.settings.models_dir, self.clock)


class TrainingConfig(dg.Config):
    """How training is started by hand; as it is, it takes the newest version."""

    dataset_version: str = Field(LATEST, description="Version of the training set, or its beginning.")
    reason: str = Field("materialized", description="Why; the registry keeps it.")


class JudgementConfig(dg.Config):
    """What the gate is told."""

    forced: str | None = Field(
        None,
        description="What forces the retrain, such as age, erasure or definition: the challenger need then "
        "only be no worse than the champion, by the declared margin.",
    )


def model_key(spec: ModelSpec, part: str) -> dg.AssetKey:
    """``model/<name>_<part>``."""
    return dg.AssetKey([GROUP, f"{spec.name}_{part}"])


def build_model_assets(models: Mapping[str, ModelSpec], ground: Ground) -> list[dg.AssetsDefinition]:
    """The three assets of each model."""
    return [
        asset
        for spec in models.values()
        for asset in (_challenger(spec, ground), _evaluation(spec, ground), _champion(spec, ground))
    ]


def retraining_ages(models: Mapping[str, ModelSpec]) -> dict[dg.AssetKey, timedelta | None]:
    """At which age each of the assets is made anew; None where a model declares no age."""
    return {
        model_key(spec, part): spec.declared.retrain.age
        for spec in models.values()
        for part in ("challenger", "evaluation", "champion")
    }


def _tags(spec: ModelSpec) -> dict[str, str]:
    return {"layer": GROUP, "model": spec.name}


def _who(context: dg.AssetExecutionContext, reason: str) -> Who:
    return Who("dagster", reason, context.run_id)


def _challenger(spec: ModelSpec, ground: Ground) -> dg.AssetsDefinition:
    declared = spec.declared

    @dg.asset(
        key=model_key(spec, "challenger"),
        deps=[ground.dataset_key(spec.table.name)],
        code_version=spec.schema_hash,
        description=f"A model that may take over. {spec.exposure.description}",
        metadata={
            "label": declared.label,
            "algorithm": declared.algorithm.name,
            "primary_metric": declared.metric,
            "features": len(spec.inputs),
            "declared_in": spec.exposure.file,
        },
        group_name=GROUP,
        owners=[spec.owner],
        kinds={declared.algorithm.name.replace("_", "-"), "python"},
        tags=_tags(spec),
        pool=TRAINING_POOL,
    )
    def challenger(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        lakehouse: dg.ResourceParam[LakehouseResource],
    ) -> dg.MaterializeResult[None]:
        from orchestration.learning.card import card_markdown  # noqa: PLC0415
        from orchestration.learning.plots import calibration_png, learning_curve_png  # noqa: PLC0415
        from orchestration.learning.training import train  # noqa: PLC0415

        dataset = ground.open_dataset(spec.table.name, config.dataset_version)
        root = ground.settings.models_dir
        artifact, _ = train(spec, dataset, root, ground.code(spec), context.log.info)
        event = ground.registry(lakehouse).register(artifact, _who(context, config.reason))
        told = artifact.manifest
        curve = told["calibration_curve"]
        metadata: dict[str, Any] = {
            SUMMARY: f"{artifact.version} of {told['split']['train']['rows']:,} rows: {_told_metrics(told)}",
            "version": artifact.version,
            "dataset_version": dataset.version,
            "registered_as": event.sequence,
            "registry_head": event.hash,
            "train_rows": told["split"]["train"]["rows"],
            "card": dg.MetadataValue.md(card_markdown(artifact.version, told, [event])),
            "calibration_curve": dg.MetadataValue.md(
                as_markdown_image(
                    calibration_png({"evaluation": (curve["scores"], curve["positives"])}),
                    "calibration curve",
                )
            ),
            **{f"evaluation_{name}": found["value"] for name, found in told["metrics"]["evaluation"].items()},
        }
        if told["learning_curve"]["train"]:
            picture = as_markdown_image(learning_curve_png(told["learning_curve"]), "learning curve")
            metadata["learning_curve"] = dg.MetadataValue.md(picture)
        return dg.MaterializeResult(data_version=dg.DataVersion(artifact.version), metadata=metadata)

    return challenger


def _told_metrics(manifest: Mapping[str, Any]) -> str:
    found = manifest["metrics"]["evaluation"]
    return ", ".join(f"{name} {found[name]['value']:.4f}" for name in ("log_loss", "auc") if name in found)


def trained_version(instance: dg.DagsterInstance, spec: ModelSpec) -> str:
    """The version that the challenger was when it was last materialized.

    Raises:
        RegistryError: It never was.
    """
    key = model_key(spec, "challenger")
    found = instance.get_latest_materialization_event(key)
    materialization = None if found is None else found.asset_materialization
    if materialization is None:
        raise RegistryError(f"{spec.name}: found no challenger, expected {key.to_user_string()} materialized")
    return str(materialization.metadata["version"].value)


def _evaluation(spec: ModelSpec, ground: Ground) -> dg.AssetsDefinition:
    key = model_key(spec, "evaluation")

    @dg.asset(
        key=key,
        deps=[model_key(spec, "challenger")],
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, description=words) for name, words in CONDITIONS.items()
        ],
        description="The challenger beside the champion, scored now on rows that neither has learnt from, "
        "and what the promotion gate finds.",
        metadata={
            "primary_metric": spec.declared.metric,
            "minimum_gain": spec.declared.gate.minimum_gain,
            "error_rate": spec.declared.gate.error_rate,
            "declared_in": spec.exposure.file,
        },
        group_name=GROUP,
        owners=[spec.owner],
        kinds={"python"},
        tags=_tags(spec),
        pool=TRAINING_POOL,
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        config: JudgementConfig,
        lakehouse: dg.ResourceParam[LakehouseResource],
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        from orchestration.learning.gate import Shadow  # noqa: PLC0415
        from orchestration.learning.judging import judge_challenger  # noqa: PLC0415
        from orchestration.learning.predictions.table import shadow_of  # noqa: PLC0415

        registry = ground.registry(lakehouse)
        version = trained_version(context.instance, spec)
        told = None if spec.declared.gate.shadow is None else shadow_of(lakehouse, spec, version)
        judged = judge_challenger(
            spec,
            registry,
            version,
            ground.open_dataset,
            ground.verdicts(context.instance, spec, context.run_id),
            ground.clock.now(),
            ground.code(spec),
            _who(context, "evaluated"),
            context.log.info,
            forced=config.forced,
            shadow=None if told is None else Shadow(*told),
        )
        yield dg.MaterializeResult(
            metadata={
                SUMMARY: _in_words(judged),
                "challenger": version,
                "against": f"{judged.contest.against} {judged.contest.opponent.model.version}",
                "rows": len(judged.contest.part.labels),
                "passed": judged.event.detail["passed"],
                "judged_as": judged.event.sequence,
                "registry_head": judged.event.hash,
                "calibration_curves": dg.MetadataValue.md(
                    as_markdown_image(judged.picture(), "calibration curves")
                ),
            }
        )
        yield from (_check_result(spec, key, result) for result in judged.results)

    return evaluation


def _in_words(judged: "Judged") -> str:
    failed = [result.name for result in judged.results if not result.passed]
    verdict = f"did not pass {', '.join(failed)}" if failed else "passed the gate"
    return f"{judged.contest.challenger.model.version} {verdict}"


def _check_result(spec: ModelSpec, key: dg.AssetKey, result: "GateResult") -> dg.AssetCheckResult:
    # That a challenger is not good enough is an answer; that its inputs do not hold is a fault.
    fault = result.name in {"inputs_hold", "same_frozen_window"}
    withheld = {}
    if result.name == "inputs_hold" and not result.passed:
        withheld[WITHHELD] = f"{spec.name} was not promoted: {result.description}"
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=result.name,
        passed=result.passed,
        severity=dg.AssetCheckSeverity.ERROR if fault else dg.AssetCheckSeverity.WARN,
        description=result.description,
        metadata={"evidence": dg.MetadataValue.json(dict(result.evidence)), **withheld},
    )


def _champion(spec: ModelSpec, ground: Ground) -> dg.AssetsDefinition:
    @dg.asset(
        key=model_key(spec, "champion"),
        deps=[model_key(spec, "evaluation")],
        description=f"The version that serves. {spec.exposure.description}",
        metadata={"declared_in": spec.exposure.file, "dagster/table_name": "lake.registry.champions"},
        group_name=GROUP,
        owners=[spec.owner],
        kinds={"duckdb"},
        tags=_tags(spec),
        pool=POOL,
    )
    def champion(
        context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> dg.MaterializeResult[None]:
        registry = ground.registry(lakehouse)
        checks = ground.verdicts(context.instance, spec, context.run_id)
        decision, event, withheld = decide(spec.name, registry, _who(context, "The gate is open."), checks)
        context.log.info(decision)
        metadata: dict[str, Any] = {SUMMARY: decision, "decision": decision}
        if withheld:
            metadata[WITHHELD] = f"{spec.name} was not promoted: {withheld}"
        if event is not None:
            metadata |= {
                "champion": event.version,
                "since": dg.MetadataValue.timestamp(event.happened_at),
                "registry_head": event.hash,
            }
        return dg.MaterializeResult(metadata=metadata)

    return champion


def decide(
    model: str, registry: Registry, who: Who, checks: Mapping[str, bool | None] | None = None
) -> tuple[str, Event | None, str]:
    """Promote the challenger that was judged last if the gate was open to it; else keep who serves.

    Args:
        model: The model.
        registry: Where versions and verdicts are.
        who: Who promotes.
        checks: Whether the blocking checks that the model depends on hold now.

    Returns:
        The decision as text, the event by which the champion serves, if there is one, and the checks that
        withheld a promotion, empty if none was withheld.

    Raises:
        RegistryError: Nothing was judged, or another champion serves by now than it was compared with.
    """
    events = registry.events(model)
    judged = next((e for e in reversed(events) if e.kind == "judged"), None)
    serving = registry.champion(model)
    name = "none" if serving is None else serving.version
    stays = "no model serves" if serving is None else f"{serving.version} serves on"
    if judged is None:
        raise RegistryError(f"{model}: found no judged challenger, expected its evaluation materialized")
    if serving is not None and serving.sequence > judged.sequence:
        return f"{name} serves: what was judged last was decided on already", serving, ""
    if serving is not None and serving.version == judged.version:
        return f"{name} serves on: trained again, it came out the same", serving, ""
    if not judged.detail["passed"]:
        failed = ", ".join(r["name"] for r in judged.detail["results"] if not r["passed"])
        return f"{stays}: {judged.version} failed {failed}", serving, ""
    from orchestration.learning.gate import not_holding  # noqa: PLC0415 - imports NumPy

    if faults := not_holding(checks or {}):
        return f"{stays}: {judged.version} is not promoted: {faults}", serving, faults
    promoted = registry.promote(
        model,
        judged.version,
        who,
        evidence={"judged_as": judged.sequence, "hash": judged.hash, "forced": judged.detail["forced"]},
        instead_of=judged.detail["champion"],
    )
    return f"{promoted.version} serves, instead of {promoted.before or 'none'}", promoted, ""
