"""Automation: when things run, how fresh they must be, and who hears of failures.

What belongs here: jobs, schedules, conditions, freshness, alerts, upkeep. What does not: how an
asset is computed or checked (the other rooms).
"""

from orchestration.automation.alerts import build_alert_sensor
from orchestration.automation.conditions import automate, build_automation_sensor
from orchestration.automation.freshness import build_freshness_checks, with_policy
from orchestration.automation.jobs import ALL_ASSETS, DAILY, Span, build_jobs, reached_partitions
from orchestration.automation.registration import sensor_status
from orchestration.automation.schedules import build_schedules
from orchestration.automation.upkeep import build_maintenance

__all__ = [
    "ALL_ASSETS",
    "DAILY",
    "Span",
    "automate",
    "build_alert_sensor",
    "build_automation_sensor",
    "build_freshness_checks",
    "build_jobs",
    "build_maintenance",
    "build_schedules",
    "reached_partitions",
    "sensor_status",
    "with_policy",
]
