"""The verdicts that the gate gets on the checks that a model depends on."""

from pathlib import Path

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.utils import make_new_run_id

from orchestration.learning.assets import Ground
from orchestration.settings import Clock, Settings
from tests.model_works import CODE, make_spec

KEY = dg.AssetCheckKey(dg.AssetKey(["monitoring", "skew"]), "no_difference")
NAME = "monitoring/skew:no_difference"
SPEC = make_spec()


def ground(folder: Path, *, watched: bool) -> Ground:
    return Ground(
        Settings(data_dir=folder),
        Clock(),
        lambda *_: None,  # type: ignore[arg-type,return-value]
        lambda name: dg.AssetKey(name),
        lambda _: [] if watched else [KEY],
        lambda _: CODE,
        watches=lambda _: [KEY] if watched else [],
    )


def verdicts(instance: dg.DagsterInstance, *, watched: bool) -> dict[str, bool | None]:
    return ground(Path("unused"), watched=watched).verdicts(instance, SPEC)


def evaluated(instance: dg.DagsterInstance, answer: bool | None) -> None:
    """Execute a run with the check; None makes it raise."""

    @dg.asset_check(asset=KEY.asset_key, name=KEY.name)
    def check() -> dg.AssetCheckResult:
        if answer is None:
            raise ValueError("broken")
        return dg.AssetCheckResult(passed=answer)

    job = dg.Definitions(
        asset_checks=[check], jobs=[dg.define_asset_job("watch", dg.AssetSelection.checks(check))]
    ).resolve_job_def("watch")
    job.execute_in_process(instance=instance, raise_on_error=False)


def planned(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> None:
    run = dg.DagsterRun("watch", make_new_run_id(), status=status)
    instance.add_run(run)
    data = AssetCheckEvaluationPlanned(asset_key=KEY.asset_key, check_name=KEY.name)
    kind = DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value
    instance.report_dagster_event(DagsterEvent(kind, run.job_name, event_specific_data=data), run.run_id)


def test_the_last_result_counts_if_a_run_ends_before_the_check() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert verdicts(instance, watched=True) == {}
        assert verdicts(instance, watched=False) == {NAME: None}
        last = None
        for answer in (True, False, None, True, None):
            evaluated(instance, answer)
            last = last if answer is None else answer
            assert verdicts(instance, watched=True) == verdicts(instance, watched=False) == {NAME: last}


def test_a_monitoring_check_that_was_never_evaluated_is_left_out() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        planned(instance, dg.DagsterRunStatus.FAILURE)
        assert verdicts(instance, watched=True) == {}
        assert verdicts(instance, watched=False) == {NAME: None}


def test_the_last_result_counts_while_a_run_has_planned_the_check() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        evaluated(instance, False)
        planned(instance, dg.DagsterRunStatus.STARTED)
        assert verdicts(instance, watched=True) == verdicts(instance, watched=False) == {NAME: False}
