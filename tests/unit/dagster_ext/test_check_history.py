"""Whether a check holds for the current data, after any runs in any order."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestration.dagster_ext import CheckHistory
from orchestration.instance import open_instance
from orchestration.settings import Settings
from tests.forks import CONTEXT
from tests.unit.dagster_ext.recorded import ASSET, CHECK, DAYS, Recorded, window


@pytest.fixture
def it() -> Iterator[Recorded]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Recorded(instance)


def test_a_check_that_was_never_evaluated_does_not_hold(it: Recorded) -> None:
    assert it.status == "not evaluated"
    assert it.state().is_unknown
    it.run().build(1).end()
    assert it.status == "not evaluated"
    assert not it.state().is_unknown


def test_a_result_does_not_count_for_what_was_built_after_it(it: Recorded) -> None:
    it.run().plan().build(1).check(True, window(1)).end()
    assert it.status == "passed"
    it.run().build(1).end()  # A run without the check.
    assert it.status == "not evaluated"
    it.run().plan().check(True, window(2)).end()  # Another day.
    assert it.status == "not evaluated"
    it.run().plan().check(True, window(1)).end()
    assert it.status == "passed"


def test_a_run_that_was_killed_before_the_check_counts_where_it_built(it: Recorded) -> None:
    it.run().plan().build(1).check(True, window(1)).end()
    it.run().plan().end(succeeded=False)
    assert it.status == "passed"
    it.run().plan().build(2).end(succeeded=False)
    assert it.status == "not evaluated"
    assert "2024-01-02T23:00:00+00:00" in it.state().reason
    it.run().plan().build(2).check(True, window(2)).end()
    assert it.status == "passed"


def test_a_bad_day_is_not_hidden_and_a_retry_of_it_passes(it: Recorded) -> None:
    it.run().plan().build(1).check(False, window(1)).end(succeeded=False)
    it.run().plan().build(2).check(True, window(2)).end()
    assert it.status == "failed"
    it.run().plan().build(1).check(True, window(1)).end()
    assert it.status == "passed"


def test_a_backfill_covers_its_days_and_late_rows_open_one_again(it: Recorded) -> None:
    it.run().plan().build(0, 1, 2, 3).check(True, window(0, 3)).end()
    assert it.status == "passed"
    late = it.run().plan().build(1)
    assert it.status == "pending"
    late.check(False, window(1)).end(succeeded=False)
    assert it.status == "failed"
    it.run().plan().check(True, None).end()
    assert it.status == "passed"


def test_what_is_built_while_a_check_reads_is_not_tested_by_it(it: Recorded) -> None:
    one = it.run().plan().build(1).begin_check()
    it.run().build(1).end()
    one.end_check(True, window(1)).end()
    assert it.status == "not evaluated"


def test_a_run_in_progress_is_pending_for_others_and_not_for_itself(it: Recorded) -> None:
    it.run().plan().build(1).check(True, window(1)).end()
    other = it.run().plan()
    assert it.status == "passed"  # It has built nothing yet.
    other.build(1)
    assert it.status == "pending"
    assert it.state(other.id).status.value == "not evaluated"
    it.run().plan().build(2).check(True, window(2)).end()
    assert it.status == "pending"
    other.check(True, window(1)).end()
    assert it.status == "passed"


def test_the_result_of_a_run_planned_first_and_ended_last_counts(it: Recorded) -> None:
    slow = it.run().plan().build(1)
    it.run().plan().build(2).check(True, window(2)).end()
    slow.check(False, window(1)).end(succeeded=False)
    assert it.status == "failed"
    newest = it.instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK])[CHECK]
    assert newest.status.value == "FAILED"  # Dagster's own status agrees.


def test_a_check_that_could_not_be_evaluated_has_not_failed_and_does_not_hold(it: Recorded) -> None:
    it.run().plan().build(1).begin_check().end_check(False, window(1), evaluated=False).end()
    assert it.status == "not evaluated"
    assert CheckHistory(it.instance, {ASSET: DAYS}).verdicts([CHECK]) == {"features/t:complete": None}


def test_a_result_reported_by_another_system_counts_for_what_was_there(it: Recorded) -> None:
    def report(passed: bool, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR) -> None:
        it.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(ASSET, CHECK.name, passed, {}, severity=severity)
        )

    it.run().build(1).end()
    report(True)
    assert it.status == "passed"
    report(False, dg.AssetCheckSeverity.WARN)
    assert it.status == "warned"
    report(False)
    assert it.status == "failed"
    it.run().build(1).end()
    assert not it.state().holds


def test_the_usual_case_reads_no_history(it: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    it.run().plan().build(1).check(True, window(1)).end()
    storage, calls = it.instance.event_log_storage, []
    for name in ("get_asset_check_execution_history", "fetch_materializations", "get_logs_for_run"):
        monkeypatch.setattr(storage, name, lambda *_, name=name, **__: calls.append(name))
    assert CheckHistory(it.instance, {ASSET: DAYS}).states([CHECK])[CHECK].holds
    assert calls == []


def build_and_die(settings: Settings, asset_dies: bool, is_checked: bool) -> None:
    """A run, with the check or without, that is killed while a step builds the asset, or before that step."""

    @dg.asset
    def before() -> None:
        if not asset_dies:
            os.kill(os.getpid(), signal.SIGKILL)

    @dg.asset(key=ASSET, deps=[before])
    def table() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @dg.asset_check(asset=ASSET, name=CHECK.name, blocking=True)
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    with open_instance(settings) as instance:
        dg.materialize([before, table, *([check] if is_checked else [])], instance=instance)


@pytest.mark.parametrize("is_checked", [True, False])
@pytest.mark.parametrize(("asset_dies", "expected"), [(False, "passed"), (True, "not evaluated")])
def test_what_a_killed_step_was_building_may_have_been_written(
    tmp_path: Path, asset_dies: bool, expected: str, is_checked: bool
) -> None:
    settings = Settings(data_dir=tmp_path)
    with open_instance(settings) as instance:
        it = Recorded(instance)
        it.run().plan().build().check(True).end()
        process = CONTEXT.Process(target=build_and_die, args=(settings, asset_dies, is_checked))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        (killed,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        assert it.status == ("pending" if asset_dies else "passed")  # The run is not known to be dead yet.
        instance.report_run_failed(killed)
        assert it.status == expected
        it.run().plan().build().check(True).end()
        assert it.status == "passed"


def run_and_interrupt(instance: dg.DagsterInstance, *, after_first_event: bool) -> None:
    """A run over three days, without the check, that is interrupted while it writes them."""

    @dg.asset(
        key=ASSET,
        partitions_def=dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01"),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def table(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        if after_first_event:
            context.log_event(dg.AssetMaterialization(ASSET, partition="2024-01-02"))
        raise DagsterExecutionInterruptedError
        yield dg.MaterializeResult()

    tags = {
        "dagster/asset_partition_range_start": "2024-01-02",
        "dagster/asset_partition_range_end": "2024-01-04",
    }
    with suppress(DagsterExecutionInterruptedError):
        dg.materialize([table], instance=instance, tags=tags, raise_on_error=False)


@pytest.mark.parametrize("after_first_event", [False, True])
def test_what_an_interrupted_step_was_building_counts_for_its_whole_range(
    it: Recorded, after_first_event: bool
) -> None:
    it.run().plan().build(1, 2, 3, 4).check(True, window(1, 4)).end()
    run_and_interrupt(it.instance, after_first_event=after_first_event)
    assert it.status == "not evaluated"
    it.run().plan().check(True, window(4)).end()  # elsewhere
    it.run().plan().check(True, window(1)).end()  # a part of it
    assert it.status == "not evaluated"
    it.run().plan().check(True, window(1, 3)).end()
    assert it.status == "passed"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "build", "begin", "end", "kill", "finish", "unchecked", "whole"]),
        st.integers(0, 2),
        st.booleans(),
    ),
    min_size=3,
    max_size=22,
)


class Model:
    """The true state of the data: each build of a day is a version, good or bad, tested or not."""

    def __init__(self) -> None:
        self.built: dict[int, tuple[int, bool]] = {}
        self.tested: set[tuple[int, int]] = set()
        self.count = 0

    def build(self, day: int, good: bool) -> None:
        self.count += 1
        self.built[day] = (self.count, good)

    @property
    def holds(self) -> bool:
        return all(good and (day, version) in self.tested for day, (version, good) in self.built.items())


class RunInProgress:
    """A run in progress over one day, as the model sees it."""

    def __init__(self, it: Recorded, day: int) -> None:
        self.run, self.day = it.run().plan(), day
        self.seen: dict[int, tuple[int, bool]] | None = None


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_nothing_holds_that_was_not_tested_as_it_is_now(steps: list[tuple[str, int, bool]]) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        it, model, going = Recorded(instance), Model(), list[RunInProgress]()
        for what, number, good in steps:
            one = going[number % len(going)] if going else None
            if what == "start" and len(going) < 3:
                going.append(RunInProgress(it, number))
            elif what == "unchecked":
                it.run().build(number).end()
                model.build(number, good)
            elif what == "whole" and not going:
                it.run().plan().check(all(fine for _, fine in model.built.values()), None).end()
                model.tested |= {(day, version) for day, (version, _) in model.built.items()}
            elif one is None:
                continue
            elif what == "build" and one.seen is None:
                one.run.build(one.day)
                model.build(one.day, good)
            elif what == "begin" and one.seen is None:
                one.run.begin_check()
                one.seen = {d: v for d, v in model.built.items() if d == one.day}
            elif what == "end" and one.seen is not None:
                one.run.end_check(all(fine for _, fine in one.seen.values()), window(one.day))
                model.tested |= {(day, version) for day, (version, _) in one.seen.items()}
                going.remove(one)
                one.run.end()
            elif what in ("kill", "finish"):
                going.remove(one)
                one.run.end(succeeded=what == "finish")
            if it.state().holds:
                assert model.holds, (what, number, good)
        # Once every run has ended, a run over everything settles the check.
        for one in going:
            one.run.end(succeeded=False)
        it.run().plan().check(all(fine for _, fine in model.built.values()), None).end()
        assert it.state().holds == all(fine for _, fine in model.built.values())
