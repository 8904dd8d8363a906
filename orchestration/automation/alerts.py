"""The failure sensor: tells the owner of an asset that it, or a check on it, keeps failing.

What belongs here: routing by owner, and one message an episode. What does not: counting failures
(``failures``) and delivering messages (``notifiers``).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import dagster as dg

from orchestration.automation.failures import (
    Failure,
    FailureState,
    broken_often,
    failing_checks,
    newest_run_end,
    read_runs,
)
from orchestration.automation.notifiers import Alert, NotificationError, Notifier, build_notifiers
from orchestration.automation.registration import sensor_status
from orchestration.settings import Settings

SENSOR_NAME = "failure_alerts"
NO_OWNER = "team:unowned"


def by_owner(
    failures: Sequence[Failure], owners: Mapping[str, Sequence[str]]
) -> list[tuple[str, list[Failure]]]:
    """The failures of each owner, in the owners' order.

    Args:
        failures: What fails.
        owners: Owners by asset; an asset without any goes to ``team:unowned``.
    """
    found: dict[str, list[Failure]] = defaultdict(list)
    for failure in failures:
        for owner in owners.get(failure.asset) or (NO_OWNER,):
            found[owner].append(failure)
    return sorted(found.items())


def notify(
    failures: Sequence[Failure],
    told: Mapping[str, Sequence[str]],
    owners: Mapping[str, Sequence[str]],
    notifiers: Sequence[Notifier],
    warn: Callable[[str], object],
) -> dict[str, list[str]]:
    """Send each owner what they have not been told yet, on each channel.

    An owner who cannot be reached on a channel is tried again at the next tick, without repeating the
    message to those who could. What no longer fails is forgotten: its next failure is a new episode.

    Returns:
        ``channel:owner`` of everybody who has been told, for each failing subject.
    """
    reached = {f.subject: list(told.get(f.subject, ())) for f in failures}
    for notifier in notifiers:
        for owner, theirs in by_owner(failures, owners):
            mark = f"{notifier.name}:{owner}"
            fresh = [f for f in theirs if mark not in reached[f.subject]]
            if not fresh:
                continue
            try:
                notifier.send(Alert(owner, f"Groundwork: {len(fresh)} failing", tuple(f.line for f in fresh)))
            except NotificationError as error:
                warn(f"message to {owner} not delivered, will be tried again: {error}")
                continue
            for failure in fresh:
                reached[failure.subject].append(mark)
    return reached


def build_alert_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor over all failures of the code location.

    A subject that fails ``notify_after_failures`` times in a row is told once to its owners; it is
    told again only after it has succeeded in between. Failures before the sensor's first tick are
    history and are not told, failing checks are.
    """

    @dg.sensor(
        name=SENSOR_NAME,
        minimum_interval_seconds=settings.sensor_interval(60),
        default_status=sensor_status(settings.environment, "alerts"),
        description="Tells owners, by log, webhook or e-mail, which of their assets and checks fail.",
    )
    def failure_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if context.cursor is None:
            state = FailureState(read_until=newest_run_end(context.instance))
        else:
            state = FailureState.model_validate_json(context.cursor)
        graph = context.repository_def.asset_graph  # type: ignore[union-attr]
        state = read_runs(context.instance, state)
        threshold = settings.notify_after_failures
        failures = broken_often(state, threshold) + failing_checks(
            context.instance, sorted(graph.asset_check_keys), threshold
        )
        owners = {key.to_user_string(): list(graph.get(key).owners) for key in graph.get_all_asset_keys()}
        told = notify(
            failures, state.told, owners, build_notifiers(settings, context.log), context.log.warning
        )
        skip = f"{len(failures)} failing" if failures else "nothing fails"
        return dg.SensorResult(
            skip_reason=skip, cursor=state.model_copy(update={"told": told}).model_dump_json()
        )

    return failure_alerts
