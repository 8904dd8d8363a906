"""What is watched of each declared model, in the asset graph.

``monitoring/<model>_drift``, ``_performance``, ``_bias`` and ``_skew`` have no partitions: each run measures
the windows that are due, up to the last day that is over on the platform's clock. What belongs here: assets,
checks and their metadata. What does not: measuring (``watching``), which is imported when it runs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from orchestration.asset_specs import POOL, SUMMARY, own_check
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.assets import Ground, model_key
from orchestration.learning.events import champion_of
from orchestration.learning.predictions import outcomes_key, predictions_key
from orchestration.learning.serving.assets import online_predictions_key
from orchestration.learning.spec import ModelSpec
from orchestration.partitions import Window
from orchestration.pictures import as_markdown_image

if TYPE_CHECKING:
    from orchestration.declarations import SkewWatch
    from orchestration.monitoring.bias import Bias
    from orchestration.monitoring.skew import ColumnSkew
    from orchestration.monitoring.watching import DriftFound, Watcher

GROUP = "monitoring"
NO_DRIFT, NO_DRIFT_TOGETHER = "no_drift", "no_drift_together"
ESTIMATED, REALISED = "estimated_as_expected", "realised_as_expected"
GROUPS_ALIKE = "groups_alike"
NO_SKEW = "no_skew"
_TOLD = 12
"""Columns that a table in metadata shows, the furthest first."""

Results = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]


class WatchConfig(dg.Config):
    """How far back windows are looked at."""

    days: int = Field(
        31,
        ge=1,
        description="Windows that end in so many days up to the last one are measured if they were not yet, "
        "or if predictions or labels have come since; 1 measures the newest window only.",
    )
    together: bool = Field(
        True,
        description="Of drift: whether a classifier looks at all features together, which takes seconds.",
    )


def monitoring_key(spec: ModelSpec, part: str) -> dg.AssetKey:
    """``monitoring/<model>_<part>``."""
    return dg.AssetKey([GROUP, f"{spec.name}_{part}"])


def skew_check(spec: ModelSpec) -> dg.AssetCheckKey:
    """The check that features were served as history says; while it fails nothing is promoted."""
    return dg.AssetCheckKey(monitoring_key(spec, "skew"), NO_SKEW)


def build_monitoring_assets(
    models: Mapping[str, ModelSpec], ground: Ground, catalog: Catalog
) -> list[dg.AssetsDefinition]:
    """The four assets of each model.

    Args:
        models: The declared models.
        ground: What they stand on.
        catalog: The features.
    """
    return [
        build(spec, ground, catalog)
        for spec in models.values()
        for build in (_drift, _performance, _bias, _skew)
    ]


def _asset(
    spec: ModelSpec, part: str, description: str, checks: Mapping[str, str]
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """The decorator of an asset, with what all of them have."""
    key = monitoring_key(spec, part)
    deps = [model_key(spec, "champion")]
    if spec.spine is not None:
        deps += [predictions_key(spec), outcomes_key(spec)]
    if part == "skew" and spec.can_be_asked:
        deps += [online_predictions_key(spec)]
    return dg.asset(
        key=key,
        deps=deps,
        check_specs=[own_check(name, key, words) for name, words in checks.items()],
        description=description,
        metadata={"dagster/table_name": f"lake.{GROUP}.{part}", "declared_in": spec.exposure.file},
        group_name=GROUP,
        owners=[spec.owner],
        kinds={"duckdb", "python"},
        tags={"layer": GROUP, "model": spec.name},
        pool=POOL,
    )


def _watcher(
    spec: ModelSpec,
    ground: Ground,
    catalog: Catalog,
    lakehouse: LakehouseResource,
    context: dg.AssetExecutionContext,
) -> "Watcher":
    from orchestration.monitoring.watching import Watcher  # noqa: PLC0415

    return Watcher(
        spec,
        ground.registry(lakehouse),
        lakehouse,
        catalog,
        ground.open_dataset,
        ground.clock.now(),
        context.run_id,
        context.log.info,
    )


def _not_served(spec: ModelSpec, watcher: "Watcher", window: Window) -> str | None:
    """Why a window may have no predictions: the first champion came after it; None if it should have some."""
    if champion_of(watcher.registry.events(spec.name), spec.name, window.end) is not None:
        return None
    return f"nothing to measure yet: no champion was serving before {window.end:%Y-%m-%d %H:%M} UTC"


def _result(
    key: dg.AssetKey, name: str, holds: bool, words: str, *, error: bool = False, **evidence: Any
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=holds,
        severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
        description=words,
        metadata={"evidence": dg.MetadataValue.json(evidence)},
    )


def _picture(png: bytes, alternative: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(as_markdown_image(png, alternative))


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> dg.MarkdownMetadataValue:
    lines = [headings, [":--", *["--:"] * (len(headings) - 1)], *rows]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _drift(spec: ModelSpec, ground: Ground, catalog: Catalog) -> dg.AssetsDefinition:
    watch = spec.declared.monitoring.drift
    key = monitoring_key(spec, "drift")

    @_asset(
        spec,
        "drift",
        f"Whether inputs, score and label of {spec.name} in the last {watch.window.days} days are still what "
        "it was made with, column by column and all features together.",
        {
            NO_DRIFT: f"Neither score nor label nor features that hold {watch.importance:.0%} of the "
            f"importance have drifted: by a stability index of {watch.psi:g} or more that is no chance.",
            NO_DRIFT_TOGETHER: "A classifier does not tell the window's rows from those trained on, by an "
            f"area that is surely {watch.together:g} or more.",
        },
    )
    def drift(
        context: dg.AssetExecutionContext, config: WatchConfig, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> Results:
        from orchestration.monitoring.history import drift_points  # noqa: PLC0415
        from orchestration.monitoring.plots import drift_png  # noqa: PLC0415

        watcher = _watcher(spec, ground, catalog, lakehouse, context)
        last = watcher.last_day
        days = sorted({*watcher.due("drift", watch.window, config.days), last})
        found = watcher.drift(days, together=config.together)
        window = watcher.window(last, watch.window)
        newest = found[-1] if found else None
        metadata: dict[str, Any] = {
            "windows": len(days),
            "window_start": dg.MetadataValue.timestamp(window.start),
            "window_end": dg.MetadataValue.timestamp(window.end),
        }
        with lakehouse.reader() as con:
            points = drift_points(con, spec.name, window.end)
        if points:
            metadata["drift_over_time"] = _picture(drift_png(points, watch.psi), "drift over time")
        if newest is None:
            words = _not_served(spec, watcher, window)
            none = f"found no predictions from {window.start} to {window.end}, expected some"
            yield dg.MaterializeResult(metadata={SUMMARY: words or "no predictions", **metadata})
            yield _result(key, NO_DRIFT, words is not None, words or none)
            yield _result(key, NO_DRIFT_TOGETHER, words is not None, words or none)
            return
        metadata |= {"version": newest.version, "drifted_importance": newest.drifted.importance}
        metadata["columns"] = _drift_table(newest)
        no_drift, together = _drift_results(key, newest, config.together)
        yield dg.MaterializeResult(metadata={SUMMARY: str(no_drift.description), **metadata})
        yield no_drift
        yield together

    return drift


def _drift_results(
    key: dg.AssetKey, found: "DriftFound", is_asked: bool
) -> tuple[dg.AssetCheckResult, dg.AssetCheckResult]:
    drifted, watch, together = found.drifted, found.drifted.watch, found.together
    rows = max((c.rows for c in drifted.columns), default=0)
    if rows < watch.min_rows:
        words = f"{rows:,} predictions, of which at least {watch.min_rows:,} are needed to tell"
    elif drifted.names:
        words = (
            f"{', '.join(drifted.names)} drifted; features hold {drifted.importance:.0%} of the importance"
        )
    else:
        words = f"none of {len(drifted.columns)} columns drifted in {rows:,} predictions"
    alarms = [asdict(column) for column in drifted.columns if column.alarm]
    said, evidence = "too few rows or days to tell" if is_asked else "the run was told not to look", {}
    if together is not None:
        evidence = asdict(together)
        said = (
            f"area {together.area:.3f}, surely {together.low:.3f} or more; "
            f"expected less than {watch.together:g}"
        )
    return (
        _result(
            key, NO_DRIFT, not drifted.has_drifted, words, version=found.version, rows=rows, columns=alarms
        ),
        _result(key, NO_DRIFT_TOGETHER, together is None or together.low < watch.together, said, **evidence),
    )


def _drift_table(found: "DriftFound") -> dg.MarkdownMetadataValue:
    furthest = sorted(found.drifted.columns, key=lambda c: (not c.alarm, -c.psi))[:_TOLD]
    return _markdown(
        ["column", "importance", "PSI", "Jensen-Shannon", "nulls", "p, adjusted", "drifted"],
        [
            [
                c.column_name,
                "" if c.importance is None else f"{c.importance:.1%}",
                f"{c.psi:.3f}",
                f"{c.jensen_shannon:.3f}",
                f"{c.null_rate_change:+.1%}",
                f"{c.adjusted_p_value:.2g}",
                "yes" if c.alarm else "",
            ]
            for c in furthest
        ],
    )


def _performance(spec: ModelSpec, ground: Ground, catalog: Catalog) -> dg.AssetsDefinition:
    watch, metric = spec.declared.monitoring.performance, spec.declared.metric
    worse = (
        f"The confidence interval of {metric} lies no more than {watch.loss:g} to the worse of what it was "
        "when the model was chosen"
    )
    key = monitoring_key(spec, "performance")

    @_asset(
        spec,
        "performance",
        f"How good {spec.name} was in the last {watch.window.days} days: as its scores foretell before "
        "labels come, as labels tell, and as it was when it was chosen; overall and by slice.",
        {ESTIMATED: f"{worse}, as the scores foretell.", REALISED: f"{worse}, as labels tell."},
    )
    def performance(
        context: dg.AssetExecutionContext, config: WatchConfig, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> Results:
        from orchestration.monitoring.history import performance_points  # noqa: PLC0415
        from orchestration.monitoring.performance import judge_performance  # noqa: PLC0415
        from orchestration.monitoring.plots import performance_png  # noqa: PLC0415

        watcher = _watcher(spec, ground, catalog, lakehouse, context)
        last = watcher.last_day
        days = sorted({*watcher.due("performance", watch.window, config.days), last})
        found = watcher.performance(days)
        window = watcher.window(last, watch.window)
        version, measured = next(reversed(found.items()), ("", []))
        verdicts = {v.kind: v for v in judge_performance(measured, metric, watch)}
        idle = None if found else _not_served(spec, watcher, window)
        metadata: dict[str, Any] = {
            SUMMARY: f"{version}: {verdicts['realised'].words}" if found else idle or "no predictions",
            "windows": len(days),
            "window_start": dg.MetadataValue.timestamp(window.start),
            "window_end": dg.MetadataValue.timestamp(window.end),
        }
        with lakehouse.reader() as con:
            points = performance_points(
                con, spec.name, list(dict.fromkeys([metric, "auc", "log_loss"])), window.end
            )
        if points:
            metadata["performance_over_time"] = _picture(performance_png(points), "performance over time")
        if found:
            metadata |= {"version": version, "metrics": _performance_table(measured)}
        yield dg.MaterializeResult(metadata=metadata)
        evidence = [asdict(p) for p in measured if p.metric == metric]
        for name, verdict in ((ESTIMATED, verdicts["estimated"]), (REALISED, verdicts["realised"])):
            holds = idle is not None or (bool(found) and verdict.holds is not False)
            yield _result(key, name, holds, idle or verdict.words, version=version, slices=evidence)

    return performance


def _performance_table(found: Sequence[Any]) -> dg.MarkdownMetadataValue:
    def text(value: Any) -> str:
        if value is None:
            return ""
        between = "" if value.low is None else f" ({value.low:.4f} to {value.high:.4f})"
        return f"{value.value:.4f}{between}"

    rows = [
        [p.slice or "all", p.metric, text(p.estimated), text(p.realised), text(p.expected), f"{p.labelled:,}"]
        for p in found
        if not p.slice or p.metric in {"auc", "log_loss"}
    ]
    return _markdown(["rows", "metric", "estimated", "realised", "expected", "labelled"], rows)


def _bias(spec: ModelSpec, ground: Ground, catalog: Catalog) -> dg.AssetsDefinition:
    watch = spec.declared.monitoring.bias
    gaps = ", ".join(f"{metric} {limit:g}" for metric, limit in watch.gaps.items()) or "none is declared"
    key = monitoring_key(spec, "bias")

    @_asset(
        spec,
        "bias",
        f"Whether {spec.name} decides for, errs on or misjudges a group otherwise than all others, in the "
        f"last {watch.window.days} days.",
        {GROUPS_ALIKE: f"No group is surely further from all others than declared ({gaps})."},
    )
    def bias(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]) -> Results:
        from orchestration.monitoring.plots import bias_png  # noqa: PLC0415

        watcher = _watcher(spec, ground, catalog, lakehouse, context)
        found = watcher.bias(watcher.last_day)
        version, measured = next(reversed(found.items()), ("", []))
        alarms = [b for b in measured if b.alarm]
        words = "; ".join(_bias_words(b) for b in alarms) or (
            f"{len({(b.group_column, b.group_value) for b in measured})} groups, no gap surely beyond a limit"
            if measured
            else "no labels yet"
        )
        metadata: dict[str, Any] = {SUMMARY: words, "version": version}
        if measured:
            metadata["gaps"] = _picture(bias_png(measured), "gaps by group")
        yield dg.MaterializeResult(metadata=metadata)
        yield _result(key, GROUPS_ALIKE, not alarms, words, gaps=[asdict(b) for b in alarms])

    return bias


def _bias_words(found: "Bias") -> str:
    return (
        f"{found.group_column}={found.group_value}: {found.metric} {found.value:.3f}, of all others "
        f"{found.others:.3f}, expected at most {found.limit:g} between them"
    )


def _skew(spec: ModelSpec, ground: Ground, catalog: Catalog) -> dg.AssetsDefinition:
    watch = spec.declared.monitoring.skew
    key = monitoring_key(spec, "skew")

    @_asset(
        spec,
        "skew",
        f"Whether the features that {spec.name} was served with online are those that were known.",
        {
            NO_SKEW: "No online prediction was made from a value other than history says was known; while "
            "this fails no challenger is promoted."
        },
    )
    def skew(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[LakehouseResource]) -> Results:
        watcher = _watcher(spec, ground, catalog, lakehouse, context)
        by_version = watcher.skew(watcher.today)
        found = [(version, column) for version, told in by_version.items() for column in told]
        wrong = [(version, column) for version, column in found if column.alarm]
        rows = sum(max((column.rows for column in told), default=0) for told in by_version.values())
        words = "; ".join(_skew_words(version, column, watch) for version, column in wrong) or (
            f"{len({column.column_name for _, column in found})} features of {rows:,} predictions are what "
            "history says" if found else f"no online predictions in the last {watch.window.days + 1} days"
        )  # fmt: skip
        yield dg.MaterializeResult(
            metadata={
                SUMMARY: words,
                "compared": sum(column.rows for _, column in found),
                "differences": sum(column.differences for _, column in found),
                "behind_seconds": max((column.behind or 0.0 for _, column in found), default=0.0),
                "columns": _markdown(
                    ["column", "version", "from", "rows", "differences", "seconds behind"],
                    [
                        [
                            c.column_name,
                            version,
                            c.source,
                            str(c.rows),
                            str(c.differences),
                            "" if c.behind is None else f"{c.behind:.0f}",
                        ]
                        for version, c in found
                    ],
                ),
            }
        )
        yield _result(
            key,
            NO_SKEW,
            not wrong,
            words,
            error=True,
            columns=[{"model_version": version, **asdict(column)} for version, column in wrong],
        )

    return skew


def _skew_words(version: str, found: "ColumnSkew", watch: "SkewWatch") -> str:
    allowed, behind = watch.lag.total_seconds(), found.behind or 0.0
    why = f"; the store was up to {behind:.0f} seconds behind, at most {allowed:.0f} are meant to be"
    return (
        f"{found.column_name} of {version}: {found.differences:,} of {found.rows:,} differ, such as "
        f"{found.example}: found {found.online}, expected {found.offline}{why if behind > allowed else ''}"
    )
