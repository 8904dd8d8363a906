"""What the gate is told of checks that follow predictions, which may never have been made."""

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.utils import make_new_run_id

from orchestration.learning.assets import checks_hold, watches_hold

KEY = dg.AssetCheckKey(dg.AssetKey(["monitoring", "skew"]), "no_difference")
NAME = "monitoring/skew:no_difference"


def evaluated(instance: dg.DagsterInstance, answer: bool | None) -> None:
    """A run with the check; None: it breaks off."""

    @dg.asset_check(asset=KEY.asset_key, name=KEY.name)
    def check() -> dg.AssetCheckResult:
        if answer is None:
            raise ValueError("broken")
        return dg.AssetCheckResult(passed=answer)

    job = dg.Definitions(
        asset_checks=[check], jobs=[dg.define_asset_job("watch", dg.AssetSelection.checks(check))]
    ).resolve_job_def("watch")
    job.execute_in_process(instance=instance, raise_on_error=False)


def test_a_watch_is_told_by_its_last_evaluation_and_one_broken_off_holds_not() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert watches_hold(instance, [KEY]) == {}
        assert checks_hold(instance, [KEY]) == {NAME: None}
        for answer in (True, False, None, True):
            evaluated(instance, answer)
            assert watches_hold(instance, [KEY]) == checks_hold(instance, [KEY]) == {NAME: answer}


def test_a_watch_that_an_unfinished_run_has_planned_is_told_by_the_one_before() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        evaluated(instance, False)
        run = dg.DagsterRun("watch", make_new_run_id(), status=dg.DagsterRunStatus.STARTED)
        instance.add_run(run)
        told = AssetCheckEvaluationPlanned(asset_key=KEY.asset_key, check_name=KEY.name)
        planned = DagsterEvent(
            DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value, run.job_name, event_specific_data=told
        )
        instance.report_dagster_event(planned, run.run_id)
        assert watches_hold(instance, [KEY]) == checks_hold(instance, [KEY]) == {NAME: False}
