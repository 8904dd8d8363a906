"""Which schedules and sensors start switched on, in which environment.

What belongs here: the one table that says so. What does not: what a schedule or sensor does. The
status only seeds Dagster's state: a switch that somebody turned in the UI stays as they left it.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import dagster as dg

from orchestration.settings import Environment

Trigger = Literal["daily", "landing", "automation", "alerts", "maintenance", "retraining"]
TRIGGERS: tuple[Trigger, ...] = get_args(Trigger)

RUNNING: Mapping[Environment, Mapping[Trigger, bool]] = {
    # On a laptop nothing starts by itself.
    "local": dict.fromkeys(TRIGGERS, False),
    # Staging does the work and tells nobody.
    "staging": {**dict.fromkeys(TRIGGERS, True), "alerts": False},
    "production": dict.fromkeys(TRIGGERS, True),
}


def schedule_status(environment: Environment, trigger: Trigger) -> dg.DefaultScheduleStatus:
    """The status a schedule starts with.

    Raises:
        KeyError: The environment or the trigger is not in the table.
    """
    on = RUNNING[environment][trigger]
    return dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED


def sensor_status(environment: Environment, trigger: Trigger) -> dg.DefaultSensorStatus:
    """The status a sensor starts with.

    Raises:
        KeyError: The environment or the trigger is not in the table.
    """
    on = RUNNING[environment][trigger]
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
