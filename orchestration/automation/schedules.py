"""The schedules: what the clock on the wall starts.

What belongs here: cron expressions and which partition a tick asks for. What does not: what the
requested job does.
"""

import dagster as dg

from orchestration.automation.jobs import DAILY, MAINTENANCE, project_partition, reached_partitions
from orchestration.automation.registration import schedule_status
from orchestration.declarations import Declarations
from orchestration.settings import Clock, Settings

DAILY_CRON = "15 1 * * *"
WEEKLY_CRON = "30 3 * * 0"


def build_schedules(
    declarations: Declarations, settings: Settings, clock: Clock
) -> list[dg.ScheduleDefinition]:
    """The daily landing and the weekly maintenance.

    The daily schedule asks for the last partition that is over on the platform's clock: yesterday on
    the wall clock, the day before the replay clock on recorded history. Its run key is that partition,
    so a clock that stands still is asked for once. Without partitioned sources it asks every day.
    """
    partition = project_partition(declarations)
    timezone = partition.timezone if partition is not None else "UTC"

    @dg.schedule(
        name=DAILY,
        job_name=DAILY,
        cron_schedule=DAILY_CRON,
        execution_timezone=timezone,
        default_status=schedule_status(settings.environment, "daily"),
        description=f"Lands the partition of the day on the {clock.mode} clock, and every reference source.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if partition is None:
            return dg.RunRequest()
        reached = reached_partitions(declarations, clock)
        if not reached:
            return dg.SkipReason(
                f"the {clock.mode} clock ({clock.now():%Y-%m-%d %H:%M} UTC) has passed no day"
            )
        return dg.RunRequest(run_key=reached[-1], partition_key=reached[-1])

    weekly = dg.ScheduleDefinition(
        name=MAINTENANCE,
        job_name=MAINTENANCE,
        cron_schedule=WEEKLY_CRON,
        execution_timezone=timezone,
        default_status=schedule_status(settings.environment, "maintenance"),
        description="Compacts the lakehouse once a week, when nobody lands data.",
    )
    return [daily, weekly]
