from datetime import timedelta

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
