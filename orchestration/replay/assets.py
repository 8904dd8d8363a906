"""The replay in the asset graph: ``retraining/<model>_replay``, with its report as the UI shows it.

What belongs here: the asset and the job. What does not: the walk, which is imported when it begins.
"""

import re
from collections.abc import Callable, Mapping

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from orchestration.asset_specs import SUMMARY, asset_key
from orchestration.automation.jobs import RETRAINING
from orchestration.declarations import Declarations
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.assets import TRAINING_POOL, Ground
from orchestration.learning.spec import ModelSpec
from orchestration.pictures import as_markdown_image
from orchestration.project import Project

JOB = "replay"


def replay_key(model: str) -> dg.AssetKey:
    """``retraining/<model>_replay``."""
    return dg.AssetKey([RETRAINING, f"{model}_replay"])


def build_replay(
    models: Mapping[str, ModelSpec],
    ground: Ground,
    declarations: Declarations,
    assemble: Callable[[Project], dg.Definitions],
) -> tuple[list[dg.AssetsDefinition], list[UnresolvedAssetJobDefinition]]:
    """The asset of each model, and the job over all of them; no job without models.

    Args:
        models: The declared models.
        ground: What they stand on.
        declarations: What the dbt project declares.
        assemble: Makes the definitions of a project; another process must be able to import it.
    """
    assets = [_asset(spec, ground, declarations, assemble) for spec in models.values()]
    if not assets:
        return [], []
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(*(replay_key(name) for name in models)),
        description="Walks the platform's clock through recorded history: when would have been trained, why, "
        "and what would it have been worth?",
    )
    return assets, [job]


def _asset(
    spec: ModelSpec,
    ground: Ground,
    declarations: Declarations,
    assemble: Callable[[Project], dg.Definitions],
) -> dg.AssetsDefinition:
    training_set = asset_key(spec.table)

    @dg.asset(
        key=replay_key(spec.name),
        deps=[training_set],
        description=f"{spec.name} trained never again, every week, every four weeks, and as its triggers "
        "decide, on recorded history: what fired when and why, and how good what served was.",
        group_name=RETRAINING,
        owners=[spec.owner],
        kinds={"python"},
        tags={"layer": RETRAINING, "model": spec.name},
        pool=TRAINING_POOL,
    )
    def replay(
        context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> dg.MaterializeResult[None]:
        from orchestration.replay.fork import recorded_checks, recorded_tables  # noqa: PLC0415
        from orchestration.replay.report import make_report  # noqa: PLC0415
        from orchestration.replay.walk import Replayed, walk  # noqa: PLC0415

        history = ground.checks.history(context.instance, context.run_id)
        inputs = ground.inputs(spec)
        copied = [asset_key(table) for table in recorded_tables(spec, declarations)]
        recorded = {*inputs, *ground.checks.blocking(copied)}
        replayed = Replayed(
            spec,
            declarations,
            ground.settings,
            lakehouse,
            ground.code(spec),
            history.verdicts(inputs),
            recorded_checks(history, [key for key in recorded if key.asset_key != training_set]),
        )
        walked = walk(replayed, assemble, context.log.info)
        report = make_report(walked)
        place = report.write(walked.ground.settings.data_dir / "report")

        def picture(found: re.Match[str]) -> str:
            return as_markdown_image(report.pictures[found[2]], found[1])

        metadata = {
            f"{what}_{line.name}": value
            for line in report.lines
            for what, value in (
                ("log_loss", line.log_loss), ("auc", line.auc), ("trainings", line.trainings),
                ("promotions", line.promotions),
            )
        }  # fmt: skip
        return dg.MaterializeResult(
            metadata={
                SUMMARY: "; ".join(
                    f"{line.name}: log loss {line.log_loss:.4f}, {line.trainings} trainings"
                    for line in report.lines
                ),
                "report": dg.MetadataValue.md(re.sub(r"!\[(.*?)\]\((.*?)\)", picture, report.markdown)),
                "file": dg.MetadataValue.path(place),
                "data_dir": dg.MetadataValue.path(walked.live.data_dir),
                **metadata,
            }
        )

    return replay
