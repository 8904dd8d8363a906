"""What is failing, and since when: read from Dagster's run and check history.

What belongs here: counting failures in a row of assets and checks. What does not: telling anybody
(``alerts``). A failed check does not fail a run's sensor (dagster#29896), so checks are read from
their own history.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import dagster as dg
from dagster import DagsterEventType
from dagster._core.snap import ExecutionStepSnap
from pydantic import BaseModel

from orchestration.dagster_ext import CheckHistory
from orchestration.dagster_ext.check_state import Result

_LONGEST_LINE = 500


class Broken(BaseModel):
    """An asset that was not made, or a check that crashed, in the runs that last tried."""

    asset: str
    check: str | None
    count: int
    run_id: str
    failed_at: float
    error: str


class FailureState(BaseModel):
    """The sensor's cursor: how far runs were read, what is broken, and which channels told whom of it."""

    read_until: float
    broken: dict[str, Broken] = {}
    told: dict[str, list[str]] = {}


class Failure(BaseModel):
    """Something that fails now and has failed often enough to be told."""

    subject: str
    asset: str
    line: str


def _first_line(text: str | None, otherwise: str) -> str:
    return (text or otherwise).strip().splitlines()[0][:_LONGEST_LINE]


def _errors(instance: dg.DagsterInstance, run_id: str) -> tuple[dict[str, str], str]:
    """First line of the error of each failed step, and of the run itself."""
    records = instance.get_records_for_run(
        run_id, of_type={DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE}
    ).records
    steps: dict[str, str] = {}
    whole = "the run failed"
    for record in records:
        event = record.event_log_entry.get_dagster_event()
        if event.event_type == DagsterEventType.STEP_FAILURE and event.step_key is not None:
            error, said = event.step_failure_data.error, event.step_failure_data.user_failure_data
            text = said.description if said is not None else None
            text = text or ((error.cause or error).message if error is not None else event.message)
            steps[event.step_key] = _first_line(text, "the step failed")
        else:
            whole = _first_line(event.message, whole)
    return steps, whole


def _last_done(instance: dg.DagsterInstance, asset: dg.AssetKey, check: str | None) -> tuple[str, float]:
    """Run and instant of the last time the asset was made, or the check evaluated."""
    if check is None:
        made = instance.get_latest_materialization_event(asset)
        return (made.run_id, made.timestamp) if made is not None else ("", 0.0)
    key = dg.AssetCheckKey(asset, check)
    results = CheckHistory(instance).last_results([key])[key]
    return (results[0].run_id, results[0].planned_at.timestamp()) if results else ("", 0.0)


def _planned(steps: Iterable[ExecutionStepSnap]) -> Iterator[tuple[str, dg.AssetKey, str | None]]:
    """Step, asset and check of everything that steps were to yield."""
    for step in steps:
        for output in step.outputs:
            properties = output.properties
            if properties is None:
                continue
            if properties.asset_key is not None:
                yield step.key, properties.asset_key, None
            elif properties.asset_check_key is not None:
                check = properties.asset_check_key
                yield step.key, check.asset_key, check.name


def broken_by(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> Iterator[tuple[dg.AssetKey, str | None, str]]:
    """Asset, check and error of what the failed steps of a run did not yield.

    A run that failed before any step did breaks everything it had planned. What was skipped because
    something upstream failed is not broken.
    """
    if run.execution_plan_snapshot_id is None:
        return
    plan = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    errors, whole = _errors(instance, run.run_id)
    for step, asset, check in _planned(plan.steps):
        if errors and step not in errors:
            continue
        if _last_done(instance, asset, check)[0] != run.run_id:
            yield asset, check, errors.get(step, whole)


def read_runs(instance: dg.DagsterInstance, state: FailureState) -> FailureState:
    """The state after the runs that ended since it was taken: failures counted, mended ones let go."""

    def is_broken(item: Broken) -> bool:
        asset = dg.AssetKey.from_user_string(item.asset)
        return _last_done(instance, asset, item.check)[1] <= item.failed_at

    broken = dict(state.broken)
    read_until = state.read_until
    records = instance.get_run_records(
        filters=dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE],
            updated_after=datetime.fromtimestamp(state.read_until, UTC),
        ),
        order_by="update_timestamp",
        ascending=True,
    )
    for record in records:
        ended = _instant(record.update_timestamp)
        if ended <= state.read_until:
            continue
        read_until = max(read_until, ended)
        for asset, check, error in broken_by(instance, record.dagster_run):
            name = asset.to_user_string()
            subject = f"{name}:{check}" if check else name
            before = broken.get(subject)
            broken[subject] = Broken(
                asset=name,
                check=check,
                count=before.count + 1 if before is not None and is_broken(before) else 1,
                run_id=record.dagster_run.run_id,
                failed_at=record.end_time or ended,
                error=error,
            )
    still = {subject: item for subject, item in broken.items() if is_broken(item)}
    return state.model_copy(update={"read_until": read_until, "broken": still})


def _instant(moment: datetime) -> float:
    # Dagster's storages give naive UTC datetimes.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def newest_run_end(instance: dg.DagsterInstance) -> float:
    """When the last run changed; 0 without any run."""
    newest = instance.get_run_records(limit=1, order_by="update_timestamp")
    return _instant(newest[0].update_timestamp) if newest else 0.0


def broken_often(state: FailureState, threshold: int) -> list[Failure]:
    """What was broken in at least ``threshold`` runs in a row."""
    return [
        Failure(
            subject=f"run:{subject}",
            asset=item.asset,
            line=f"{_what(item)}, {item.count} in a row: {item.error} (run {item.run_id})",
        )
        for subject, item in sorted(state.broken.items())
        if item.count >= threshold
    ]


def _what(item: Broken) -> str:
    return f"check {item.check} of {item.asset} crashed" if item.check else f"{item.asset} was not made"


def failing_checks(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey], threshold: int
) -> list[Failure]:
    """Checks whose last ``threshold`` results all failed with severity ERROR or could not be evaluated."""
    history = CheckHistory(instance)
    failing = [
        key for key, results in history.last_results(keys).items() if results and _is_error(results[0])
    ]
    found = []
    for key, results in history.last_results(failing, threshold).items():
        if len(results) < threshold or not all(map(_is_error, results)):
            continue
        asset = key.asset_key.to_user_string()
        what = "failed" if any(result.evaluated for result in results) else "was not evaluated"
        found.append(
            Failure(
                subject=f"check:{asset}:{key.name}",
                asset=asset,
                line=f"check {key.name} of {asset} {what}, {threshold} in a row: "
                f"{_first_line(results[0].evaluation.description, 'see its page')} (run {results[0].run_id})",
            )
        )
    return found


def _is_error(result: Result) -> bool:
    return not result.evaluation.passed and not result.warns
