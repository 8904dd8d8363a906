"""Every schedule and sensor has a declared status in every environment."""

from typing import get_args

import dagster as dg
import pytest

from orchestration.automation.registration import RUNNING, TRIGGERS, schedule_status, sensor_status
from orchestration.settings import Environment


def test_every_environment_decides_for_every_trigger() -> None:
    assert set(RUNNING) == set(get_args(Environment))
    assert all(set(statuses) == set(TRIGGERS) for statuses in RUNNING.values())


def test_nothing_starts_by_itself_on_a_laptop() -> None:
    assert {schedule_status("local", t) for t in TRIGGERS} == {dg.DefaultScheduleStatus.STOPPED}
    assert {sensor_status("local", t) for t in TRIGGERS} == {dg.DefaultSensorStatus.STOPPED}


def test_everything_runs_in_production() -> None:
    assert {schedule_status("production", t) for t in TRIGGERS} == {dg.DefaultScheduleStatus.RUNNING}
    assert {sensor_status("production", t) for t in TRIGGERS} == {dg.DefaultSensorStatus.RUNNING}


def test_staging_does_the_work_and_alerts_nobody() -> None:
    stopped = {t for t in TRIGGERS if sensor_status("staging", t) == dg.DefaultSensorStatus.STOPPED}
    assert stopped == {"alerts"}


def test_an_unknown_environment_raises() -> None:
    with pytest.raises(KeyError):
        sensor_status("laptop", "daily")  # type: ignore[arg-type]
