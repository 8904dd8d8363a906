"""Tick by tick: when downstream layers are requested, and when they are not."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.automation_tick_evaluation_context import (
    _build_run_requests_from_partitions_def_mapping,
)

from orchestration.asset_specs import own_check
from orchestration.automation.conditions import automate as automate_with
from orchestration.dagster_ext import GraphChecks
from orchestration.declarations import Partition

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")
PARTITION = Partition(frequency="daily", start="2024-01-01", end="2024-02-01")
OLD, NEWEST = "2024-01-10", "2024-01-31"
RAW, STAGED, FEATURES, REPORT = (
    dg.AssetKey([layer, "t"]) for layer in ("raw", "staged", "features", "quality")
)


class Graph:
    """raw -> staged -> features, a report on them, and a check on raw whose verdicts the test decides."""

    def __init__(self, partitions: dg.PartitionsDefinition | None) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.passes = True
        self.staged_works = True
        self._cursor: Any = None
        single = dg.BackfillPolicy.single_run()

        @dg.asset(key=RAW, partitions_def=partitions, backfill_policy=single)
        def raw() -> None: ...

        @dg.asset(key=STAGED, deps=[RAW], partitions_def=partitions, backfill_policy=single)
        def staged() -> None:
            if not self.staged_works:
                raise RuntimeError("broken")

        @dg.asset(key=FEATURES, deps=[STAGED], partitions_def=partitions, backfill_policy=single)
        def features() -> None: ...

        @dg.asset(key=REPORT, deps=[RAW, FEATURES])
        def report() -> None: ...

        @dg.asset_check(asset=RAW, name="gate", blocking=True)
        def gate() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.passes)

        checks = GraphChecks({RAW: PARTITION} if partitions else {})
        checks.add(gate.check_specs)

        def automate(spec: dg.AssetSpec) -> dg.AssetSpec:
            return automate_with(spec, checks)

        self.defs = dg.Definitions(
            assets=dg.map_asset_specs(automate, [raw, staged, features, report]),
            asset_checks=[gate],
            jobs=[
                dg.define_asset_job("land", selection=dg.AssetSelection.assets(RAW).without_checks()),
                dg.define_asset_job("check", selection=dg.AssetSelection.checks_for_assets(RAW)),
                dg.define_asset_job("refresh", selection=dg.AssetSelection.assets(STAGED, FEATURES)),
                dg.define_asset_job("tell", selection=dg.AssetSelection.assets(REPORT)),
            ],
        )
        self.tick()

    def run(self, job: str, day: str | None) -> bool:
        resolved = self.defs.resolve_job_def(job)
        return resolved.execute_in_process(
            instance=self.instance,
            partition_key=None if job in ("check", "tell") else day,
            raise_on_error=False,
        ).success

    def tick(self) -> dict[str, set[str | None]]:
        """Requested partitions by asset."""
        result = dg.evaluate_automation_conditions(
            self.defs, self.instance, cursor=self._cursor, evaluation_time=datetime(2024, 2, 2, tzinfo=UTC)
        )
        self._cursor = result.cursor
        self.report_requested = bool(result.get_num_requested(REPORT))
        return {
            key.to_user_string(): set(result.get_requested_partitions(key))
            for key in (RAW, STAGED, FEATURES)
            if result.get_num_requested(key)
        }


@pytest.fixture(params=[None, NEWEST, OLD], ids=["unpartitioned", "newest day", "old day"])
def graph(request: pytest.FixtureRequest) -> tuple[Graph, str | None]:
    return Graph(DAYS if request.param else None), request.param


def _downstream(day: str | None) -> dict[str, set[str | None]]:
    return {"staged/t": {day}, "features/t": {day}}


def test_landed_and_checked_data_requests_downstream_once(graph: tuple[Graph, str | None]) -> None:
    it, day = graph
    it.run("land", day)
    it.run("check", day)
    assert it.tick() == _downstream(day)
    assert it.tick() == {}


def test_landed_data_without_a_check_result_requests_nothing(graph: tuple[Graph, str | None]) -> None:
    it, day = graph
    it.run("land", day)
    assert it.tick() == {}


def test_a_failed_blocking_check_requests_nothing_until_it_is_mended(
    graph: tuple[Graph, str | None],
) -> None:
    it, day = graph
    it.run("land", day)
    it.passes = False
    it.run("check", day)
    assert it.tick() == {}
    assert it.tick() == {}
    it.passes = True
    it.run("check", day)
    assert it.tick() == _downstream(day)
    assert it.tick() == {}


def test_a_failed_downstream_run_is_not_requested_again_until_its_input_changes(
    graph: tuple[Graph, str | None],
) -> None:
    it, day = graph
    it.run("land", day)
    it.run("check", day)
    assert "staged/t" in it.tick()
    it.staged_works = False
    assert not it.run("refresh", day)
    assert [it.tick() for _ in range(3)] == [{}, {}, {}]
    it.run("land", day)
    it.run("check", day)
    assert it.tick() == _downstream(day)


def test_a_run_of_the_whole_graph_leaves_nothing_to_request(graph: tuple[Graph, str | None]) -> None:
    it, day = graph
    for job in ("land", "check", "refresh"):
        it.run(job, day)
    assert it.tick() == {}


def test_a_report_is_requested_once_even_when_a_blocking_check_failed(
    graph: tuple[Graph, str | None],
) -> None:
    it, day = graph
    it.run("land", day)
    it.passes = False
    it.run("check", day)
    assert it.tick() == {}
    assert it.report_requested
    it.tick()
    assert not it.report_requested
    it.run("tell", None)
    it.tick()
    assert not it.report_requested


def test_predictions_follow_features_but_not_another_champion() -> None:
    champion, predictions = dg.AssetKey(["model", "m_champion"]), dg.AssetKey(["predictions", "m"])
    single = dg.BackfillPolicy.single_run()

    @dg.asset(key=FEATURES, partitions_def=DAYS, backfill_policy=single)
    def features() -> None: ...

    @dg.asset(key=champion, group_name="model")
    def promoted() -> None: ...

    @dg.asset(key=predictions, deps=[FEATURES, champion], partitions_def=DAYS, backfill_policy=single)
    def predicted() -> None: ...

    automated = dg.map_asset_specs(lambda spec: automate_with(spec, GraphChecks()), [predicted])
    defs = dg.Definitions(assets=[features, promoted, *automated])
    instance, cursor = dg.DagsterInstance.ephemeral(), None

    def requested(*made: dg.AssetsDefinition) -> set[str]:
        nonlocal cursor
        for asset in made:
            day = None if asset is promoted else OLD
            assert dg.materialize([asset], instance=instance, partition_key=day).success
        result = dg.evaluate_automation_conditions(
            defs, instance, cursor=cursor, evaluation_time=datetime(2024, 2, 2, tzinfo=UTC)
        )
        cursor = result.cursor
        return set(result.get_requested_partitions(predictions)) - {None}

    assert requested() == set()
    assert requested(features) == set()
    assert OLD in requested(promoted)
    assert requested(predicted) == set()
    assert requested(promoted) == set()
    assert requested(features) == {OLD}


def test_a_run_that_automation_asks_for_has_the_contracts_on_its_assets() -> None:
    """Also where a step evaluates a check of its own: Dagster would take that for all that is asked for."""
    predictions = dg.AssetKey(["predictions", "m"])
    single = dg.BackfillPolicy.single_run()

    @dg.asset(key=STAGED, partitions_def=DAYS, backfill_policy=single)
    def staged() -> None: ...

    @dg.asset(
        key=predictions,
        deps=[STAGED],
        partitions_def=DAYS,
        backfill_policy=single,
        check_specs=[own_check("own", predictions, "Of the step itself.")],
    )
    def predicted() -> Iterator[Any]:
        yield from ()

    @dg.asset_check(asset=STAGED, name="contract", blocking=True)
    def contract() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    graph = dg.Definitions(assets=[staged, predicted], asset_checks=[contract]).resolve_asset_graph()
    keys: set[dg.AssetKey | dg.AssetCheckKey] = {
        STAGED,
        predictions,
        dg.AssetCheckKey(predictions, "own"),
    }
    (request,) = _build_run_requests_from_partitions_def_mapping({(DAYS, OLD): keys}, graph, {})
    assert {key.name for key in request.asset_check_keys or []} == {"own", "contract"}
