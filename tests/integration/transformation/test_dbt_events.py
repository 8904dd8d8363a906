"""What dbt did reaches Dagster: as dagster-dbt would say it, and more."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, dbt_assets
from dagster_dbt.asset_utils import build_dbt_specs

from orchestration.settings import Clock
from orchestration.transformation import DbtResource
from orchestration.transformation.environment import applied, dbt_environment
from orchestration.transformation.translator import LayerTranslator
from tests.integration.transformation.tiny_platform import (
    DAY,
    Platform,
    evaluations,
    failure,
    materializations,
    window_tags,
)

OURS_ALONE = {"compiled_sql", "dagster/row_count", "dagster/partition_row_count", "dagster/column_schema"}
DEFECTS = (
    "update raw.readings set value = null where reading = 3",
    "insert into raw.readings select * from raw.readings where reading = 5",
)


def translator(platform: Platform) -> LayerTranslator:
    return LayerTranslator(platform.declarations, platform.settings, Clock())


def told(result: dg.ExecuteInProcessResult) -> set[tuple[Any, ...]]:
    """The events of a run, as far as they can be the same in two runs."""
    return {
        ("materialized", key, m.partition, str(m.metadata["status"]), frozenset(set(m.metadata) - OURS_ALONE))
        for key, events in materializations(result).items()
        for m in events
    } | {
        (
            "checked",
            e.asset_key.to_user_string(),
            name,
            e.passed,
            e.severity,
            e.blocking,
            str(e.metadata.get("dagster_dbt/failed_row_count")),
            frozenset(set(e.metadata) - OURS_ALONE),
        )
        for name, e in evaluations(result).items()
    }


def stock_dbt(project_dir: Path) -> DbtCliResource:
    """dagster-dbt's own resource, that runs the CLI in a process."""
    return DbtCliResource(
        project_dir=os.fspath(project_dir),
        profiles_dir=os.fspath(project_dir),
        dbt_executable=os.fspath(Path(sys.executable).with_name("dbt")),
    )


def stock_run(platform: Platform, dbt: DbtCliResource | DbtResource) -> dg.ExecuteInProcessResult:
    """The staged layer through dagster-dbt's assets."""

    @dbt_assets(
        manifest=platform.manifest,
        select="tiny.staged tiny.kinds",
        dagster_dbt_translator=translator(platform),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def staged(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
        args = ["build", "--exclude-resource-type", "unit_test"]
        yield from dbt.cli(args, context=context).stream()

    with applied(dbt_environment(platform.settings)):
        return dg.materialize(
            [staged], resources={"dbt": dbt}, tags=window_tags(DAY, DAY), raise_on_error=False
        )


def test_a_run_with_passed_warned_and_failed_tests_says_what_dagster_dbt_says(
    platform: Platform, tmp_path: Path
) -> None:
    platform.execute(*DEFECTS)
    project = tmp_path / "stock"
    shutil.copytree(platform.settings.dbt_project_dir, project)
    ours = platform.run(selection=dg.AssetSelection.groups("staged"))
    stock = stock_run(platform, stock_dbt(project))
    assert {e[3] for e in told(ours) if e[0] == "checked"} == {True, False}
    assert told(ours) == told(stock) == told(stock_run(platform, platform.dbt))
    assert ours.success == stock.success
    assert "unique_stg_readings_reading" in failure(ours)


def test_a_stock_definition_with_our_resource_makes_its_assets_with_rows_and_columns(
    platform: Platform, tmp_path: Path
) -> None:
    @dbt_assets(manifest=platform.manifest)
    def tiny(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
        invocation = dbt.cli(["build"], context=context, target_path=tmp_path / "target")
        yield from invocation.stream().fetch_row_counts().fetch_column_metadata()
        assert invocation.is_successful()
        assert invocation.get_artifact("run_results.json")["results"]

    result = dg.materialize([tiny], resources={"dbt": platform.dbt})
    events = materializations(result)
    assert set(events) == {key.to_user_string() for key in tiny.keys}
    assert set(evaluations(result)) == {key.name for key in tiny.check_keys}
    for key, [event] in events.items():
        assert event.metadata["dagster/row_count"].value > 0, key
        columns = event.metadata["dagster/column_schema"].value.columns
        assert [c.name for c in columns] == [
            c.name for c in tiny.metadata_by_key[event.asset_key]["dagster/column_schema"].columns
        ]
    assert (tmp_path / "target" / "dbt.log").is_file()


def test_what_the_resource_cannot_do_is_named(platform: Platform) -> None:
    with pytest.raises(ValueError, match="with_column_lineage: found True"):
        platform.dbt.cli(["build"]).stream().fetch_column_metadata(with_column_lineage=True)


def test_a_failed_command_can_be_asked_before_it_is_streamed(platform: Platform) -> None:
    platform.execute(*DEFECTS)
    build = ["build", "--select", "stg_readings"]
    invocation = platform.dbt.cli(build, manifest=platform.manifest, raise_on_error=False)
    assert not invocation.is_successful()
    events = list(invocation.stream())
    assert [e.asset_key.to_user_string() for e in events if isinstance(e, dg.AssetMaterialization)] == [
        "staged/stg_readings"
    ]


def test_assets_lineage_and_checks_are_those_of_dagster_dbt(platform: Platform) -> None:
    assets, checks = build_dbt_specs(
        translator=DagsterDbtTranslator(),
        manifest=platform.manifest,
        select="fqn:*",
        exclude="",
        selector="",
        io_manager_key=None,
        project=None,
    )

    def lineage(specs: Iterable[dg.AssetSpec]) -> dict[dg.AssetKey, tuple[str, set[dg.AssetKey]]]:
        return {s.key: (s.metadata["dagster_dbt/unique_id"], {d.asset_key for d in s.deps}) for s in specs}

    def facts(specs: Iterable[dg.AssetCheckSpec]) -> set[tuple[Any, ...]]:
        return {
            (
                c.key,
                c.blocking,
                c.metadata["dagster_dbt/unique_id"],
                *(d.asset_key for d in c.additional_deps),
            )
            for c in specs
        }

    assert lineage(s for layer in platform.layers for s in layer.specs) == lineage(assets)
    assert facts(c for layer in platform.layers for c in layer.check_specs) == facts(checks)


def test_a_partition_reaches_dbt_as_its_window_and_shows_rows_columns_sql_and_seconds(
    platform: Platform,
) -> None:
    [event] = materializations(platform.run())["staged/stg_readings"]
    assert event.metadata["dagster/row_count"].value == 96
    assert event.metadata["dagster/partition_row_count"].value == 24
    columns = {c.name: c for c in event.metadata["dagster/column_schema"].value.columns}
    assert columns["value"].type == "integer"
    assert columns["value"].tags["classification"] == "confidential"
    assert columns["event_at"].type == "timestamp with time zone"
    assert event.metadata["compiled_sql"].value.startswith("```sql\nwith readings as (")
    assert '"lake"."raw"."readings"' in event.metadata["compiled_sql"].value
    assert event.metadata["Execution Duration"].value > 0
    assert platform.rows("select distinct built_from from staged.stg_readings") == [
        ("2024-01-02T00:00:00+00:00",)
    ]


def test_a_range_of_partitions_is_one_run_with_short_events(platform: Platform) -> None:
    result = platform.run(days=("2024-01-01", "2024-01-03"))
    events = materializations(result)["features/sensor_loudness"]
    assert [e.partition for e in events] == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert all("dagster/column_schema" not in e.metadata for e in events)
    kept = Path(events[0].metadata["compiled_sql"].value)
    assert "__dbt__cte__loud_readings" in kept.read_text()
    assert len(list((platform.settings.data_dir / "dbt" / "runs" / result.run_id).rglob("run_results*"))) == 2


def test_a_subset_runs_exactly_its_models_and_tests_and_a_check_runs_alone(platform: Platform) -> None:
    platform.run()
    result = platform.run(selection=dg.AssetSelection.assets("staged/stg_sensors"))
    assert set(materializations(result)) == {"staged/stg_sensors"}
    assert set(evaluations(result)) == {
        "unique_stg_sensors_sensor",
        "relationships_stg_sensors_sensor__sensor__ref_stg_readings_",
    }
    check = dg.AssetCheckKey(dg.AssetKey(["staged", "stg_readings"]), "unique_stg_readings_reading")
    alone = platform.run(selection=dg.AssetSelection.checks(check))
    assert materializations(alone) == {}
    assert set(evaluations(alone)) == {check.name}


def test_a_model_that_fails_is_named_with_its_file_and_reason_and_stops_what_follows(
    own_project: Platform,
) -> None:
    own_project.replace(
        "models/staged/stg_sensors.sql", "sensors.sensor,", "cast(kinds.label as integer) as sensor,"
    )
    result = own_project.run()
    assert not result.success
    assert set(materializations(result)) == {"staged/kinds", "staged/stg_readings"}
    message = failure(result)
    assert "model.tiny.stg_sensors (models/staged/stg_sensors.sql)" in message
    assert "Could not convert string 'heat'" in message


def test_a_full_refresh_is_asked_for_by_tag_or_config(own_project: Platform) -> None:
    own_project.replace(
        "models/staged/stg_readings.sql", "with readings", "-- {{ flags.FULL_REFRESH }}\nwith readings"
    )

    def sql(result: dg.ExecuteInProcessResult) -> str:
        return str(materializations(result)["staged/stg_readings"][0].metadata["compiled_sql"].value)

    readings = dg.AssetSelection.assets("staged/stg_readings").without_checks()
    assert "-- False" in sql(own_project.run(selection=readings))
    assert "-- True" in sql(own_project.run(selection=readings, tags={"groundwork/full_refresh": "true"}))
    by_config = dg.materialize(
        own_project.layers[:1],
        selection=readings,
        resources={"dbt": own_project.dbt},
        tags=window_tags(DAY, DAY),
        run_config={"ops": {"dbt_staged": {"config": {"full_refresh": True}}}},
    )
    assert "-- True" in sql(by_config)
