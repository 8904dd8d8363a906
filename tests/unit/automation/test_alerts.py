"""Who is told of a failure, when, and how often."""

import json
from typing import Any

import dagster as dg
import pytest

from orchestration.automation.alerts import build_alert_sensor, notify
from orchestration.automation.failures import Failure, FailureState
from orchestration.automation.notifiers import Alert, NotificationError
from orchestration.settings import Settings

ANA, TEAM = "ana@example.org", "team:models"


class Channel:
    """A notifier that keeps what it is given, or is down."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.down = False
        self.unreachable: set[str] = set()
        self.got: list[Alert] = []

    def send(self, alert: Alert) -> None:
        if self.down or alert.owner in self.unreachable:
            raise NotificationError("down")
        self.got.append(alert)


class Platform:
    """Two assets of two owners and a check; the test decides what works."""

    def __init__(self, threshold: int) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.broken: set[str] = set()
        self.verdict: tuple[bool, dg.AssetCheckSeverity] = (True, dg.AssetCheckSeverity.ERROR)
        self.cursor: str | None = None
        self.told: list[str] = []

        @dg.asset(key=["raw", "t"], owners=[ANA])
        def raw() -> None:
            if "raw" in self.broken:
                raise RuntimeError("disk full\nsecond line")

        @dg.asset(key=["staged", "t"], owners=[TEAM], deps=[["raw", "t"]])
        def staged() -> None:
            if "staged" in self.broken:
                raise RuntimeError("bad cast")

        @dg.asset_check(asset=["raw", "t"], name="complete")
        def complete() -> dg.AssetCheckResult:
            if "check" in self.broken:
                raise RuntimeError("no contract")
            passed, severity = self.verdict
            return dg.AssetCheckResult(passed=passed, severity=severity, description="3 rows are missing")

        self.sensor = build_alert_sensor(Settings(notify_after_failures=threshold))
        self.defs = dg.Definitions(
            assets=[raw, staged],
            asset_checks=[complete],
            sensors=[self.sensor],
            jobs=[dg.define_asset_job("all", selection=dg.AssetSelection.all())],
        )
        self.tick()

    def run(self) -> None:
        self.defs.resolve_job_def("all").execute_in_process(instance=self.instance, raise_on_error=False)

    def tick(self) -> list[str]:
        """One evaluation of the sensor; gives the subjects it told about for the first time."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=self.defs.get_repository_def()
        )
        before = set(self._state().told)
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return sorted(set(self._state().told) - before)

    def _state(self) -> FailureState:
        return FailureState.model_validate_json(self.cursor) if self.cursor else FailureState(read_until=0)


def test_a_failed_asset_is_told_once_until_it_succeeds() -> None:
    it = Platform(threshold=1)
    it.broken = {"raw"}
    it.run()
    assert it.tick() == ["run:raw/t"]
    assert it.tick() == []
    it.run()
    assert it.tick() == []
    it.broken = set()
    it.run()
    assert it.tick() == []
    it.broken = {"raw"}
    it.run()
    assert it.tick() == ["run:raw/t"]


def test_what_was_skipped_because_of_a_failure_is_not_told() -> None:
    it = Platform(threshold=1)
    it.broken = {"raw", "staged"}
    it.run()
    assert it.tick() == ["run:raw/t"]


def test_an_asset_is_told_when_its_failures_in_a_row_reach_the_threshold() -> None:
    it = Platform(threshold=3)
    it.broken = {"staged"}
    for _ in range(2):
        it.run()
    assert it.tick() == []
    it.run()
    assert it.tick() == ["run:staged/t"]


def test_a_success_in_between_starts_the_count_again() -> None:
    it = Platform(threshold=2)
    for broken in ({"staged"}, set(), {"staged"}):
        it.broken = broken
        it.run()
        assert it.tick() == []
    it.run()
    assert it.tick() == ["run:staged/t"]


def test_a_success_between_two_ticks_counts_too() -> None:
    it = Platform(threshold=2)
    it.broken = {"staged"}
    it.run()
    assert it.tick() == []
    for broken in (set(), {"staged"}):
        it.broken = broken
        it.run()
    assert it.tick() == []


def test_a_failed_check_is_told_although_its_run_succeeds() -> None:
    it = Platform(threshold=2)
    it.verdict = (False, dg.AssetCheckSeverity.ERROR)
    it.run()
    assert it.tick() == []
    it.run()
    assert it.tick() == ["check:raw/t:complete"]
    assert it.tick() == []


def test_a_warning_is_not_told() -> None:
    it = Platform(threshold=1)
    it.verdict = (False, dg.AssetCheckSeverity.WARN)
    it.run()
    assert it.tick() == []


def test_a_check_that_crashes_is_told() -> None:
    it = Platform(threshold=1)
    it.broken = {"check"}
    it.run()
    assert it.tick() == ["run:raw/t:complete"]
    it.broken = set()
    it.run()
    assert it.tick() == []


def test_failed_runs_from_before_the_first_tick_are_history() -> None:
    it = Platform(threshold=1)
    it.broken = {"raw"}
    it.run()
    it.cursor = None
    assert it.tick() == []


def _failure(asset: str) -> Failure:
    return Failure(subject=f"run:{asset}", asset=asset, line=f"{asset} was not made")


OWNERS = {"raw/t": [ANA, TEAM], "staged/t": [TEAM]}


def test_each_owner_hears_of_their_own_assets_only() -> None:
    log = Channel("log")
    notify([_failure("raw/t"), _failure("staged/t"), _failure("raw/orphan")], {}, OWNERS, [log], print)
    assert {alert.owner: alert.lines for alert in log.got} == {
        ANA: ("raw/t was not made",),
        TEAM: ("raw/t was not made", "staged/t was not made"),
        "team:unowned": ("raw/orphan was not made",),
    }


def test_a_channel_that_was_down_is_tried_again_and_the_others_are_not() -> None:
    log, hook = Channel("log"), Channel("webhook")
    failures, warnings = [_failure("raw/t")], []
    hook.down = True
    told = notify(failures, {}, {"raw/t": [ANA]}, [log, hook], warnings.append)
    assert (len(log.got), len(hook.got), len(warnings)) == (1, 0, 1)
    hook.down = False
    told = notify(failures, told, {"raw/t": [ANA]}, [log, hook], warnings.append)
    notify(failures, told, {"raw/t": [ANA]}, [log, hook], warnings.append)
    assert (len(log.got), len(hook.got), len(warnings)) == (1, 1, 1)


def test_an_owner_out_of_reach_is_tried_again_and_the_other_owner_of_the_asset_is_not() -> None:
    mail = Channel("email")
    mail.unreachable = {ANA}
    told = notify([_failure("raw/t")], {}, OWNERS, [mail], print)
    assert [alert.owner for alert in mail.got] == [TEAM]
    mail.unreachable = set()
    told = notify([_failure("raw/t")], told, OWNERS, [mail], print)
    notify([_failure("raw/t")], told, OWNERS, [mail], print)
    assert [alert.owner for alert in mail.got] == [TEAM, ANA]


def test_the_message_names_asset_error_and_run(caplog: pytest.LogCaptureFixture) -> None:
    it = Platform(threshold=1)
    it.broken = {"raw"}
    it.run()
    it.tick()
    state: dict[str, Any] = json.loads(it.cursor or "{}")["broken"]["raw/t"]
    assert state["error"] == "RuntimeError: disk full"
    run = it.instance.get_runs()[0]
    assert state["run_id"] == run.run_id
