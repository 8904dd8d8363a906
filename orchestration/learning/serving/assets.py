"""Predictions made on request in the asset graph: ``online_predictions/<model>``, and when it runs.

What belongs here: assets and their sensor. What does not: landing (``landing``), which is imported when it
runs.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg

from orchestration.asset_specs import POOL, SUMMARY
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.assets import model_key
from orchestration.learning.serving.log import waiting_segments
from orchestration.learning.spec import ModelSpec
from orchestration.run_keys import run_key
from orchestration.settings import Settings

NAME = "online_predictions_waiting"
ONLINE_PREDICTIONS = "online_predictions"
INTERVAL_SECONDS = 60


def online_predictions_key(spec: ModelSpec) -> dg.AssetKey:
    """``online_predictions/<model>``."""
    return dg.AssetKey([ONLINE_PREDICTIONS, spec.name])


def build_online_prediction_assets(
    models: Mapping[str, ModelSpec], folder: Path
) -> list[dg.AssetsDefinition]:
    """An asset for each model that can be asked.

    Args:
        models: The declared models.
        folder: The log of predictions.
    """
    return [_asset(spec, folder) for spec in models.values() if spec.can_be_asked]


def _asset(spec: ModelSpec, folder: Path) -> dg.AssetsDefinition:
    @dg.asset(
        key=online_predictions_key(spec),
        deps=[model_key(spec, "champion")],
        group_name="predictions",
        owners=[spec.owner],
        kinds={"duckdb", "json"},
        tags={"layer": "predictions", "model": spec.name},
        pool=POOL,
        description=f"What servers predicted on request with {spec.name}, brought from their log to "
        f"predictions.{spec.name}, where its mode is online.",
        metadata={
            "dagster/table_name": f"lake.predictions.{spec.name}",
            "declared_in": spec.exposure.file,
        },
    )
    def online_predictions(
        context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> dg.MaterializeResult[None]:
        from orchestration.learning.serving.landing import land_predictions  # noqa: PLC0415

        done = land_predictions(lakehouse, folder, spec)
        said = f"{done.rows:,} predictions of {done.files} files"
        context.log.info(said)
        return dg.MaterializeResult(metadata={SUMMARY: said, "rows_landed": done.rows, "files": done.files})

    return online_predictions


def waiting(folder: Path, models: Sequence[str]) -> list[str]:
    """The models whose log has lines that can be landed, and the newest file of each."""
    logs = {model: waiting_segments(folder / model) for model in models}
    return [f"{model} {files[-1].name}" for model, files in logs.items() if files]


def build_prediction_sensor(
    assets: Sequence[dg.AssetsDefinition], settings: Settings, default_status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """The sensor over all logs: a run when there is something to land."""
    models = sorted(key.path[-1] for asset in assets for key in asset.keys)
    keys = {model: dg.AssetKey([ONLINE_PREDICTIONS, model]) for model in models}

    @dg.sensor(
        name=NAME,
        description="Lands the predictions that servers have written down.",
        target=dg.AssetSelection.assets(*keys.values()),
        minimum_interval_seconds=settings.sensor_interval(INTERVAL_SECONDS),
        default_status=default_status,
    )
    def online_predictions_waiting(
        context: dg.SensorEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        found = waiting(settings.prediction_log_dir, models)
        if found:
            chosen = [keys[told.split()[0]] for told in found]
            key = run_key(context.instance, NAME, "; ".join(found), time.time())
            if key.wait_seconds:
                reason = f"the last run for these files has ended; next request in {key.wait_seconds:.0f} s"
                yield dg.SkipReason(reason)
            else:
                yield dg.RunRequest(run_key=key.key, asset_selection=chosen)
        else:
            yield dg.SkipReason("no prediction waits")

    return online_predictions_waiting
