from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
from dagster._core.definitions.automation_tick_evaluation_context import (
    _build_run_requests_from_partitions_def_mapping,
)

from orchestration.definitions import build_definitions
from orchestration.transformation import load_manifest
from tests.integration.dbt_project.recorded_days import RecordedDays, typed


def test_the_project_declares_every_table_strictly(lake: RecordedDays) -> None:
    declarations = lake.declarations()
    assert [t.name for t in declarations.sources] == ["airlines", "airports", "flights", "planes", "weather"]
    assert {t.name for t in declarations.layer("staged")} == {f"stg_{t.name}" for t in declarations.sources}
    assert len(declarations.feature_views) >= 7
    assert all(view.meta.feature_view.timestamp == "known_at" for view in declarations.feature_views)


def test_the_shipped_files_are_what_the_sources_declare(lake: RecordedDays) -> None:
    for table in lake.declarations().sources:
        file = typed(lake.files, table)
        key = ", ".join(table.ingest.primary_key)
        twice = file.aggregate(f"{key}, count(*) as rows").filter(
            "rows > 1 or " + " is null or ".join([*table.ingest.primary_key, ""]).removesuffix(" or ")
        )
        assert len(file) > 0
        assert twice.fetchall() == [], f"{table.name}: the declared key is not one"


def test_a_weather_report_is_not_published_before_its_hour_is_over(lake: RecordedDays) -> None:
    weather = next(t for t in lake.declarations().sources if t.name == "weather")
    assert weather.ingest.publication_delay > timedelta(minutes=51)


def test_models_that_follow_from_dated_sources_have_their_partitions(lake: RecordedDays) -> None:
    declarations = lake.declarations()
    undated = {t.name for t in declarations.tables.values() if declarations.partition(t.unique_id) is None}
    assert undated == {
        *("airlines", "airports", "planes", "stg_airlines", "stg_airports", "stg_planes"),
        *("aircraft_attributes", "airport_attributes"),
    }


def test_the_lineage_of_every_table_is_that_of_dbts_manifest(recorded: RecordedDays) -> None:
    manifest = load_manifest(recorded.settings)
    graph = build_definitions(recorded.settings).get_repository_def().asset_graph
    nodes = {**manifest["nodes"], **manifest["sources"]}

    def key(unique_id: str) -> dg.AssetKey:
        return dg.AssetKey([nodes[unique_id]["schema"], nodes[unique_id]["name"]])

    def parents(unique_id: str) -> Iterator[dg.AssetKey]:
        for parent in nodes[unique_id]["depends_on"]["nodes"]:
            if nodes[parent]["config"].get("materialized") == "ephemeral":
                yield from parents(parent)
            else:
                yield key(parent)

    tables = [
        unique_id
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in {"model", "seed"} and node["config"]["materialized"] != "ephemeral"
    ]
    assert len(tables) > 10
    expected = {key(unique_id): set(parents(unique_id)) for unique_id in tables}
    for source in map(key, manifest["sources"]):
        expected |= {source: set(), dg.AssetKey(["quarantine", source.path[-1]]): {source}}
    assert {asset: set(graph.get(asset).parent_keys) for asset in expected} == expected
    of_tables = {
        asset for asset in graph.executable_asset_keys if asset.path[0] in {k.path[0] for k in expected}
    }
    assert of_tables == set(expected)


def test_a_run_that_automation_asks_for_has_every_check_on_its_assets(recorded: RecordedDays) -> None:
    graph = build_definitions(recorded.settings).get_repository_def().asset_graph
    automated = [graph.get(k) for k in graph.executable_asset_keys if graph.get(k).automation_condition]
    assert {node.key.path[0] for node in automated} >= {"staged", "features", "predictions", "monitoring"}
    for definition in {node.partitions_def for node in automated}:
        nodes = [node for node in automated if node.partitions_def == definition]
        wanted = {key for node in nodes for key in node.execution_set_entity_keys}
        day = None if definition is None else definition.get_first_partition_key()
        (asked,) = _build_run_requests_from_partitions_def_mapping({(definition, day): wanted}, graph, {})
        there = {check for node in nodes for check in graph.get_check_keys_for_assets({node.key})}
        assert asked.asset_check_keys is None or {*asked.asset_check_keys} == there
