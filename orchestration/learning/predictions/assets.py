"""Predictions and outcomes of each declared model in the asset graph.

``predictions/<model>`` has the partitions of what it predicts; ``outcomes/<model>`` has none: whatever has
become known since is taken in. What belongs here: assets, checks and their metadata. What does not: scoring
(``scoring``) and joining labels (``outcomes``), which are imported when they run.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import dagster as dg

from orchestration.asset_specs import POOL, SUMMARY, asset_key, own_check
from orchestration.declarations import Table
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.assets import Ground, model_key
from orchestration.learning.predictions.outcomes import OUTCOME_COLUMNS, OUTCOMES, record_outcomes
from orchestration.learning.predictions.table import PREDICTIONS
from orchestration.learning.spec import ModelSpec
from orchestration.partitions import day_window, newest_day, partitions_def, run_window

COMPLETE = "every_row_predicted"
LABELS_COMPLETE, LABELS_IN_TIME = "labels_complete", "labels_in_time"
_TOLD_DAYS = 31

_MEANING = {
    "prediction_id": "Follows from the model and the key of the row alone.",
    "prediction_at": "As of when the row is predicted; its features were known then.",
    "predicted_at": "When the prediction was made, on the platform's clock.",
    "model_version": "The version that made it.",
    "dataset_version": "What that was trained on.",
    "snapshot_id": "Snapshot of the lakehouse from which the features were read.",
    "score": "Probability of the label.",
    "decision": "Whether the score reaches the version's threshold.",
    "mode": "batch, online or shadow.",
    "run_id": "The run that made it.",
}


def predictions_key(spec: ModelSpec) -> dg.AssetKey:
    """``predictions/<model>``."""
    return dg.AssetKey([PREDICTIONS, spec.name])


def outcomes_key(spec: ModelSpec) -> dg.AssetKey:
    """``outcomes/<model>``."""
    return dg.AssetKey([OUTCOMES, spec.name])


def build_prediction_assets(
    models: Mapping[str, ModelSpec], ground: Ground, catalog: Catalog, tables: Mapping[str, Table]
) -> list[dg.AssetsDefinition]:
    """The assets of each model that predicts in batches.

    Args:
        models: The declared models.
        ground: What they stand on.
        catalog: The features.
        tables: Declared tables of feature views by name.
    """
    return [
        asset
        for spec in models.values()
        if spec.spine is not None
        for asset in (_predictions(spec, ground, catalog, tables), _outcomes(spec, ground))
    ]


def prediction_schema(spec: ModelSpec) -> dg.TableSchema:
    """The columns of ``predictions.<model>``, described."""
    told = {i.name: i.description for i in spec.inputs}
    told |= {c.name: c.description for c in spec.predicted.columns}
    classes = {c.name: c.classification for c in spec.predicted.columns}
    return dg.TableSchema(
        [
            dg.TableColumn(
                name, kind, description=_MEANING.get(name) or told.get(name),
                tags={"classification": classes.get(name, "internal")},
            )
            for name, kind in spec.prediction_columns.items()
        ]
    )  # fmt: skip


def _predictions(
    spec: ModelSpec, ground: Ground, catalog: Catalog, tables: Mapping[str, Table]
) -> dg.AssetsDefinition:
    spine = spec.predicted
    key, partition = predictions_key(spec), spine.partition
    views = {wanted.role.view.name for wanted in spec.service.features}

    @dg.asset(
        key=key,
        deps=[
            asset_key(spine.table),
            *(asset_key(tables[name]) for name in sorted(views)),
            model_key(spec, "champion"),
        ],
        partitions_def=partitions_def(partition, ground.clock),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            own_check(
                COMPLETE,
                asset=key,
                description="Each row of the spine has a prediction on the days that had a champion.",
            )
        ],
        code_version=spec.schema_hash,
        group_name=PREDICTIONS,
        owners=[spec.owner],
        kinds={"duckdb", spec.declared.algorithm.name.replace("_", "-")},
        tags={"layer": PREDICTIONS, "model": spec.name},
        pool=POOL,
        description="Each row's score by the version that was champion when its day was over, from features "
        f"as known at its prediction time. {spec.exposure.description}",
        metadata={
            "dagster/table_name": f"lake.{PREDICTIONS}.{spec.name}",
            "dagster/column_schema": prediction_schema(spec),
            "predicts": f"{spine.table.schema}.{spine.table.name}",
            "declared_in": spec.exposure.file,
        },
    )
    def predictions(
        context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        from orchestration.learning.predictions.scoring import Day, predict_days  # noqa: PLC0415

        snapshot = ground.checks.pinned(context, lakehouse.newest_snapshot)
        window = run_window(context)
        assert window is not None, "a partitioned asset runs on partitions"
        first, days = window.start.astimezone(partition.tz).date(), list[Day]()
        while (found := day_window(partition, first + timedelta(len(days)))).start < window.end:
            days.append(Day(first + timedelta(len(days)), found))
        done = predict_days(
            spec, ground.registry(lakehouse), catalog, lakehouse, days, ground.clock.now(), context.run_id,
            context.log.info, newest_day(partition, ground.clock), snapshot,
        )  # fmt: skip
        versions = ", ".join(f"{version} {rows:,}" for version, rows in done.versions.items())
        missing = len(done.without_champion)
        said = f"by {versions}" if versions else "no champion yet"
        if versions and missing:
            said += f"; none on {missing} days without a champion"
        metadata: dict[str, Any] = {
            SUMMARY: said,
            "dagster/partition_row_count": done.rows,
            "predictions": done.rows,
            "predictions_new": done.added,
            "predictions_removed": done.removed,
            "predictions_in_shadow": done.shadow,
            "rows_left_out_as_learnt_from": done.learnt_from,
            "days_without_champion": missing,
            "champions": dg.MetadataValue.json(done.versions),
            "snapshot": done.snapshot,
            "by_day": dg.MetadataValue.md(_by_day(done.by_day)),
        }
        if len(days) > 1:
            metadata["dagster/row_count"] = metadata.pop("dagster/partition_row_count")
        yield dg.MaterializeResult(metadata=metadata)
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=COMPLETE,
            passed=done.learnt_from == 0,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{done.rows:,} rows predicted; {done.learnt_from:,} left out, as the champion had "
            f"seen what came after; {missing} of {len(days)} days had no champion",
            metadata={"days_without_champion": missing, "rows_left_out": done.learnt_from},
        )

    return predictions


def _by_day(found: Mapping[date, int]) -> str:
    lines = ["| day | predictions |", "|:--|--:|"]
    lines += [f"| {day} | {rows:,} |" for day, rows in sorted(found.items())[-_TOLD_DAYS:]]
    return "\n".join(lines) if found else "none: there was no champion"


_OUTCOME_MEANING = {
    "state": "pending, known, late or never.",
    "label": "As it is known by now; null while it is not.",
    "label_known_at": "When that became known.",
    "first_label": "As it was first known.",
    "first_known_at": "When it was.",
    "revisions": "How often it changed since.",
    "recorded_at": "When the row came to be as it is, on the platform's clock.",
}


def _outcomes(spec: ModelSpec, ground: Ground) -> dg.AssetsDefinition:
    spine = spec.predicted
    key, declared = outcomes_key(spec), spine.declared
    late = "any time" if declared.late_after is None else str(declared.late_after)

    @dg.asset(
        key=key,
        deps=[predictions_key(spec), asset_key(spec.table)],
        check_specs=[
            own_check(
                LABELS_COMPLETE,
                asset=key,
                description=f"{declared.least_complete:.0%} of the labels that are waited for no longer have "
                "come.",
            ),
            own_check(
                LABELS_IN_TIME,
                asset=key,
                description=f"At most {declared.most_late:.0%} of the labels took longer than {late}.",
            ),
        ],
        group_name=PREDICTIONS,
        owners=[spec.owner],
        kinds={"duckdb"},
        tags={"layer": OUTCOMES, "model": spec.name},
        pool=POOL,
        description=f"Each prediction of {spec.name} and its label, once that is known; what was revised is "
        "told, and what never came.",
        metadata={
            "dagster/table_name": f"lake.{OUTCOMES}.{spec.name}",
            "dagster/column_schema": dg.TableSchema(
                [
                    dg.TableColumn(name, kind, description={**_MEANING, **_OUTCOME_MEANING}[name])
                    for name, kind in OUTCOME_COLUMNS.items()
                ]
            ),
            "late_after": late,
            "never_after": str(declared.never_after),
            "declared_in": spec.exposure.file,
        },
    )
    def outcomes(
        context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        done = record_outcomes(lakehouse, spec, ground.clock.now())
        told = ", ".join(f"{count:,} {state}" for state, count in done.states.items() if count)
        context.log.info(f"{told or 'no predictions'}; {done.changed:,} changed")
        metadata: dict[str, Any] = {
            SUMMARY: told or "no predictions yet",
            "dagster/row_count": done.rows,
            **done.states,
            "changed": done.changed,
            "removed": done.removed,
            "revised": done.revised,
        }
        if done.hours_median is not None and done.hours_most is not None:
            metadata |= {"label_hours_median": done.hours_median, "label_hours_p95": done.hours_most}
        yield dg.MaterializeResult(metadata=metadata)
        yield _share_result(
            key, LABELS_COMPLETE, done.completeness, "labels have come", at_least=declared.least_complete
        )
        yield _share_result(
            key, LABELS_IN_TIME, done.late_share, "labels were late", at_most=declared.most_late
        )

    return outcomes


def _share_result(
    key: dg.AssetKey,
    name: str,
    share: float | None,
    what: str,
    *,
    at_least: float = 0.0,
    at_most: float = 1.0,
) -> dg.AssetCheckResult:
    limit = f"at least {at_least:.1%}" if at_least else f"at most {at_most:.1%}"
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=share is None or at_least <= share <= at_most,
        severity=dg.AssetCheckSeverity.WARN,
        description="nothing to tell by yet" if share is None else f"{share:.1%} {what}; expected {limit}",
        metadata={} if share is None else {"measured": share, "threshold": limit},
    )
