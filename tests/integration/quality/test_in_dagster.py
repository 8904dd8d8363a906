"""Contracts in the asset graph: what blocks, what warns, what runs alone, what a person sees."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

import dagster as dg
import duckdb
import pytest

from orchestration.dagster_ext import GraphChecks
from orchestration.lakehouse import LakehouseResource
from orchestration.quality import REPORT_KEY, build_contract_checks, build_quality_report, load_contracts
from orchestration.quality.history import HISTORY
from orchestration.transformation.selection import LayerConfig
from tests.unit.quality.town import DAY, PARTITIONS, Town, clock, write_contracts

TRIPS, CITIES, STAGED = (
    dg.AssetKey(path) for path in (["raw", "trips"], ["raw", "cities"], ["staged", "stg_trips"])
)

CONTRACT = """
columns:
  - name: rider
    checks:
      - missing: {attributes: {description: Every trip has a rider.}}
  - name: fare
    checks:
      - invalid: {valid_max: 15, threshold: {level: warn}}
  - name: city
    checks:
      - invalid: {valid_reference_data: {dataset: lake/raw/cities, column: city}, attributes: {blocking: false}}
checks:
  - row_count:
"""

NO_RIDER = "update raw.trips set rider = null where trip = 9"
MENDED = "update raw.trips set rider = 'rider-9' where trip = 9"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def definitions(
    town: Town,
    partitions: dg.PartitionsDefinition | None = PARTITIONS,
    contract: str = CONTRACT,
    lakehouse: LakehouseResource | None = None,
) -> dg.Definitions:
    write_contracts(town.settings.soda_checks_dir, {"raw/trips": contract})

    @dg.multi_asset(
        specs=[dg.AssetSpec(TRIPS, partitions_def=partitions), dg.AssetSpec(CITIES)], can_subset=True
    )
    def landing(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]
        for key in sorted(context.selected_asset_keys, key=str):
            yield dg.MaterializeResult(asset_key=key)

    blocked = dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()

    contracts = load_contracts(town.declarations, town.settings.soda_checks_dir)
    checks = build_contract_checks(contracts, clock())
    gates = GraphChecks({TRIPS: DAY} if partitions else {})
    gates.add(spec for definition in checks for spec in definition.check_specs)

    @dg.asset(key=STAGED, deps=[TRIPS, CITIES], partitions_def=partitions, automation_condition=blocked)
    def staging(context: dg.AssetExecutionContext, config: LayerConfig) -> None:
        gates.require_built_on_passing(context, is_ignored=config.ignore_failed_checks)

    return dg.Definitions(
        assets=[landing, staging, build_quality_report(contracts, town.settings, clock())],
        asset_checks=checks,
        resources={"lakehouse": lakehouse or town.lakehouse},
        executor=dg.in_process_executor,
    )


def run(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    *keys: dg.AssetKey,
    checks: list[dg.AssetCheckKey] | None = None,
    partition: str | None = None,
) -> dg.ExecuteInProcessResult:
    # ``None`` runs the checks of the chosen assets, as a run of the assets in the UI does.
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(keys), asset_check_selection=None if checks is None else set(checks)
    )
    return job.execute_in_process(instance=instance, raise_on_error=False, partition_key=partition)


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


def test_a_failed_check_stops_what_is_downstream_in_the_run(town: Town, instance: dg.DagsterInstance) -> None:
    town.run(NO_RIDER)
    result = run(definitions(town), instance, TRIPS, CITIES, STAGED, partition="2013-01-02")
    assert materialized(result) == {"raw/trips", "raw/cities"}
    assert not result.success


def test_a_check_that_warns_and_one_that_is_told_not_to_block_stop_nothing(
    town: Town, instance: dg.DagsterInstance
) -> None:
    town.run("update raw.trips set fare = 99, city = 'Paris' where trip = 9")
    result = run(definitions(town), instance, TRIPS, CITIES, STAGED, partition="2013-01-02")
    assert materialized(result) == {"raw/trips", "raw/cities", "staged/stg_trips"}
    failed = {e.check_name: e.severity.value for e in result.get_asset_check_evaluations() if not e.passed}
    assert failed == {"valid_fare": "WARN", "valid_city": "ERROR"}
    assert result.success


def test_a_bad_layer_keeps_later_runs_away_until_it_is_mended(
    town: Town, instance: dg.DagsterInstance
) -> None:
    # The staged table asks for every partition of what it is built from: here there is but one.
    defs = definitions(town, partitions=None)
    town.run(NO_RIDER)
    first = dg.evaluate_automation_conditions(defs=defs, instance=instance)
    assert not run(defs, instance, TRIPS, CITIES).success
    second = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=first.cursor)
    assert second.total_requested == 0
    town.run(MENDED)
    assert run(defs, instance, checks=[dg.AssetCheckKey(TRIPS, "no_missing_rider")]).success
    third = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=second.cursor)
    assert third.total_requested == 1


def test_a_bad_day_is_not_hidden_by_a_good_one_after_it(town: Town, instance: dg.DagsterInstance) -> None:
    defs = definitions(town)
    check = [dg.AssetCheckKey(TRIPS, "no_missing_rider")]

    def passes(partition: str | None) -> bool:
        return run(defs, instance, checks=check, partition=partition).get_asset_check_evaluations()[0].passed

    town.run(NO_RIDER)  # on the second day
    assert not passes("2013-01-02")
    later = run(defs, instance, checks=check, partition="2013-01-01").get_asset_check_evaluations()[0]
    assert not later.passed
    assert later.metadata["failed_rows"].value == 0
    assert "Still failing for: 2013-01-02T05:00:00+00:00" in (later.description or "")
    town.run(MENDED)
    assert not passes("2013-01-01")
    assert passes("2013-01-02")
    assert passes("2013-01-01")


def test_a_failure_of_the_whole_table_is_mended_by_the_whole_table(
    town: Town, instance: dg.DagsterInstance
) -> None:
    defs = definitions(town)
    check = [dg.AssetCheckKey(TRIPS, "no_missing_rider")]
    town.run(NO_RIDER)
    assert not run(defs, instance, checks=check).get_asset_check_evaluations()[0].passed
    town.run(MENDED)
    one_day = run(defs, instance, checks=check, partition="2013-01-02").get_asset_check_evaluations()[0]
    assert not one_day.passed
    assert "the whole table" in (one_day.description or "")
    assert run(defs, instance, checks=check).get_asset_check_evaluations()[0].passed


class _Away(LakehouseResource):
    """A lakehouse whose catalog cannot be reached."""

    def reader(self) -> Never:
        raise ConnectionError("the catalog is away")


def check_of(
    defs: dg.Definitions, instance: dg.DagsterInstance, partition: str | None, name: str = "no_missing_rider"
) -> dg.AssetCheckEvaluation:
    checks = [dg.AssetCheckKey(TRIPS, name)]
    return run(defs, instance, checks=checks, partition=partition).get_asset_check_evaluations()[0]


def why(result: dg.ExecuteInProcessResult) -> str:
    (failure,) = result.get_step_failure_events()
    error = failure.step_failure_data.user_failure_data
    assert error is not None
    return error.description or ""


def newest_passed(instance: dg.DagsterInstance) -> bool:
    key = dg.AssetCheckKey(TRIPS, "no_missing_rider")
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    return newest.status.value == "SUCCEEDED"


def test_a_day_whose_check_crashed_is_not_hidden_by_a_good_one_after_it(
    town: Town, instance: dg.DagsterInstance
) -> None:
    defs = definitions(town)
    assert check_of(defs, instance, "2013-01-02").passed
    away = _Away.from_settings(town.settings)
    crashed = run(definitions(town, lakehouse=away), instance, TRIPS, partition="2013-01-02")
    assert materialized(crashed) == {"raw/trips"}
    assert not crashed.get_asset_check_evaluations()
    good = check_of(defs, instance, "2013-01-01")
    assert not good.passed
    assert good.description == (
        "Missing values of rider: 0 in 8 rows tested; expected none. Not evaluated for: "
        "2013-01-02T05:00:00+00:00 to 2013-01-03T05:00:00+00:00; rerun the check on these partitions."
    )
    assert check_of(defs, instance, "2013-01-02").passed
    assert check_of(defs, instance, "2013-01-01").passed


def test_a_check_that_crashed_where_nothing_was_built_holds_nothing(
    town: Town, instance: dg.DagsterInstance
) -> None:
    defs = definitions(town)
    away = _Away.from_settings(town.settings)
    check = [dg.AssetCheckKey(TRIPS, "no_missing_rider")]
    assert not run(definitions(town, lakehouse=away), instance, checks=check, partition="2013-01-02").success
    assert check_of(defs, instance, "2013-01-01").passed


def test_days_checked_at_once_do_not_hide_each_other(town: Town, instance: dg.DagsterInstance) -> None:
    # Planned first and ended last: the run of the bad second day, around the whole run of the first.
    town.run(NO_RIDER)
    defs = definitions(town)
    within: list[bool] = []

    class Slow(LakehouseResource):
        @contextmanager
        def reader(self) -> Iterator[duckdb.DuckDBPyConnection]:
            within.append(check_of(defs, instance, "2013-01-01").passed)
            with town.session() as con:
                yield con

    slow = Slow.from_settings(town.settings)
    bad = check_of(definitions(town, lakehouse=slow), instance, "2013-01-02")
    assert (within, bad.passed) == ([True], False)
    assert not newest_passed(instance)
    later = check_of(defs, instance, "2013-01-03")
    assert "Still failing for: 2013-01-02T05:00:00+00:00" in (later.description or "")
    town.run(MENDED)
    assert check_of(defs, instance, "2013-01-02").passed
    assert newest_passed(instance)
    assert check_of(defs, instance, "2013-01-03").passed


def test_a_check_of_the_whole_table_is_mended_by_any_run(town: Town, instance: dg.DagsterInstance) -> None:
    contract = CONTRACT.replace("description: Every", "scope: table, description: Every")
    defs = definitions(town, contract=contract)
    town.run(NO_RIDER)
    assert not check_of(defs, instance, "2013-01-02").passed
    town.run(MENDED)
    mended = check_of(defs, instance, "2013-01-01")
    assert mended.description == "Missing values of rider: 0 in 10 rows tested; expected none."
    assert mended.passed


def test_a_layer_run_alone_is_not_built_on_inputs_that_fail(town: Town, instance: dg.DagsterInstance) -> None:
    defs = definitions(town)
    assert run(defs, instance, STAGED, partition="2013-01-02").success  # nothing was ever built or checked
    away = _Away.from_settings(town.settings)
    assert not run(definitions(town, lakehouse=away), instance, TRIPS, partition="2013-01-02").success
    crashed = run(defs, instance, STAGED, partition="2013-01-02")
    assert "raw/trips: no_missing_rider: not evaluated for 2013-01-02T05:00:00+00:00 to " in why(crashed)
    town.run(NO_RIDER)
    assert not check_of(defs, instance, "2013-01-02").passed
    assert "raw/trips: no_missing_rider: failed: Missing values of rider: 1 in 2 rows" in why(
        run(defs, instance, STAGED, partition="2013-01-02")
    )
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={STAGED})
    told = {"ops": {"staged__stg_trips": {"config": {"ignore_failed_checks": True}}}}
    assert job.execute_in_process(instance=instance, run_config=told, partition_key="2013-01-02").success
    town.run(MENDED)
    assert run(defs, instance, TRIPS, partition="2013-01-02").success
    assert run(defs, instance, STAGED, partition="2013-01-02").success


def test_a_check_runs_alone_with_and_without_a_partition(town: Town, instance: dg.DagsterInstance) -> None:
    defs = definitions(town)
    check = dg.AssetCheckKey(TRIPS, "row_count")
    found = []
    for partition in (None, "2013-01-01", "2013-01-02"):
        evaluations = run(defs, instance, checks=[check], partition=partition).get_asset_check_evaluations()
        assert [e.check_name for e in evaluations] == ["row_count"]
        found.append((evaluations[0].metadata["measured"].value, evaluations[0].metadata["window"].value))
    assert found == [
        (10, "whole table"),
        (8, "2013-01-01T05:00:00+00:00 to 2013-01-02T05:00:00+00:00"),
        (2, "2013-01-02T05:00:00+00:00 to 2013-01-03T05:00:00+00:00"),
    ]


def test_a_run_over_a_range_of_partitions_tests_their_whole_span(
    town: Town, instance: dg.DagsterInstance
) -> None:
    job = definitions(town).resolve_implicit_global_asset_job_def()
    checks = {dg.AssetCheckKey(TRIPS, "row_count")}
    tags = {
        "dagster/asset_partition_range_start": "2013-01-01",
        "dagster/asset_partition_range_end": "2013-01-02",
    }
    result = job.get_subset(asset_selection=set(), asset_check_selection=checks).execute_in_process(
        instance=instance, tags=tags
    )
    assert result.get_asset_check_evaluations()[0].metadata["measured"].value == 10


def test_a_result_tells_a_person_all_there_is_to_know(town: Town, instance: dg.DagsterInstance) -> None:
    town.run(NO_RIDER)
    check = dg.AssetCheckKey(TRIPS, "no_missing_rider")
    result = run(definitions(town), instance, checks=[check], partition="2013-01-02")
    found = result.get_asset_check_evaluations()[0]
    assert found.description == "Missing values of rider: 1 in 2 rows tested; expected none."
    metadata = {name: value.value for name, value in found.metadata.items()}
    assert metadata["failed_rows_sql"] == (
        "```sql\nselect *\nfrom lake.raw.trips\nwhere \"at\" >= timestamptz '2013-01-02 05:00:00+00' "
        "and \"at\" < timestamptz '2013-01-03 05:00:00+00'\n  and rider is null;\n```"
    )
    sample = metadata["failed_rows_sample"]
    assert [record.data["trip"] for record in found.metadata["failed_rows_sample"].records] == [9], sample
    assert (metadata["measured"], metadata["rows_tested"], metadata["failed_rows"]) == (1.0, 2, 1)
    assert (metadata["dimension"], metadata["contract"]) == ("completeness", "soda_checks/raw/trips.yml:6")
    assert len(metadata["contract_sha256"]) == 64
    assert metadata["seconds"] > 0
    reference = found.metadata["dagster/code_references"].code_references[0]
    assert (reference.line_number, reference.file_path) == (
        6,
        str(town.settings.soda_checks_dir / "raw/trips.yml"),
    )


def test_checks_wait_for_the_tables_they_look_into(town: Town) -> None:
    checks = definitions(town).resolve_all_asset_keys()
    assert TRIPS in checks
    contracts = load_contracts(town.declarations, town.settings.soda_checks_dir)
    specs = {
        spec.key: spec
        for definition in build_contract_checks(contracts, clock())
        for spec in definition.check_specs
    }
    deps = {dep.asset_key for dep in specs[dg.AssetCheckKey(TRIPS, "valid_city")].additional_deps}
    assert deps == {CITIES}
    assert specs[dg.AssetCheckKey(TRIPS, "no_missing_rider")].description == (
        "Every trip has a rider. Missing values of rider: expected none. A failure stops what is downstream."
    )


def test_the_report_keeps_every_evaluation_once_and_scores_them(
    town: Town, instance: dg.DagsterInstance
) -> None:
    defs = definitions(town)
    report_run = lambda: run(defs, instance, REPORT_KEY, checks=[])  # noqa: E731
    everything = [key for key in defs.resolve_all_asset_keys() if key.path[0] == "raw"]
    town.run(NO_RIDER, "update raw.trips set fare = 99 where trip = 9")
    run(defs, instance, *everything, partition="2013-01-02")
    first = report_run().asset_materializations_for_node("quality__quality_report")[0].metadata
    assert first["evaluations_added"].value == 5
    assert first["score"].value == pytest.approx(100 * (4 * 2 + 1 - 2 - 1) / (4 * 2 + 1))
    assert "| raw/trips | **50.0** | **0.0** |  | 100 |  |  |  | **57.1** | 4 |" in first["scores"].value
    assert "| raw/trips | no_missing_rider | fails |" in first["not_holding"].value
    assert "| raw/trips | valid_fare | warns |" in first["not_holding"].value
    assert first["scores_over_time"].value.startswith(
        "![share of checks passed over time](data:image/png;base64,"
    )

    again = report_run().asset_materializations_for_node("quality__quality_report")[0].metadata
    assert again["evaluations_added"].value == 0

    town.run(MENDED)
    run(defs, instance, checks=[dg.AssetCheckKey(TRIPS, "no_missing_rider")])
    mended = report_run().asset_materializations_for_node("quality__quality_report")[0].metadata
    assert mended["evaluations_added"].value == 1
    assert mended["dagster/row_count"].value == 6
    assert "no_missing_rider" not in mended["not_holding"].value
    assert mended["score"].value == pytest.approx(100 * 8 / 9)
    with town.session() as con:
        rows = con.execute(
            f"select count(*), count(distinct run_id), count(distinct evaluated_at) from {HISTORY}"
        )
        assert rows.fetchall() == [(6, 2, 6)]


def test_a_report_without_history_says_so(town: Town, instance: dg.DagsterInstance) -> None:
    result = run(definitions(town), instance, REPORT_KEY, checks=[])
    metadata = result.asset_materializations_for_node("quality__quality_report")[0].metadata
    assert metadata["scores"].value == "No check has been evaluated yet."
    assert metadata["not_holding"].value == "Every check holds."
    assert "score" not in metadata
