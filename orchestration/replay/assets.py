"""The replay in the asset graph: ``retraining/<model>_replay``, with its report as the UI shows it.

What belongs here: the asset and the job. What does not: the walk, which is imported when it begins.
"""

import re
from collections.abc import Mapping

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from orchestration.asset_specs import SUMMARY, asset_key
from orchestration.automation.jobs import RETRAINING
from orchestration.automation.retraining.evidence import Watched
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.assets import TRAINING_POOL, Ground
from orchestration.learning.spec import ModelSpec
from orchestration.pictures import as_markdown_image

JOB = "replay"


def replay_key(model: str) -> dg.AssetKey:
    """``retraining/<model>_replay``."""
    return dg.AssetKey([RETRAINING, f"{model}_replay"])


def build_replay(
    models: Mapping[str, ModelSpec], watched: Mapping[str, Watched], ground: Ground, catalog: Catalog
) -> tuple[list[dg.AssetsDefinition], list[UnresolvedAssetJobDefinition]]:
    """The asset of each model, and the job over all of them; no job without models."""
    assets = [_asset(spec, watched[name], ground, catalog) for name, spec in models.items()]
    if not assets:
        return [], []
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(*(replay_key(name) for name in models)),
        description="Walks the platform's clock through recorded history: when would have been trained, why, "
        "and what would it have been worth?",
    )
    return assets, [job]


def _asset(spec: ModelSpec, watched: Watched, ground: Ground, catalog: Catalog) -> dg.AssetsDefinition:
    @dg.asset(
        key=replay_key(spec.name),
        deps=[asset_key(spec.table)],
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
        from orchestration.replay.report import make_report  # noqa: PLC0415
        from orchestration.replay.walk import walk  # noqa: PLC0415

        walked = walk(spec, watched, catalog, ground.settings, lakehouse, ground.code(spec), context.log.info)
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
                **metadata,
            }
        )

    return replay
