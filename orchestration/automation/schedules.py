"""The schedules: what the clock on the wall starts.

What belongs here: cron expressions and which partition a tick asks for. What does not: what the
requested job does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG

from orchestration.asset_specs import asset_key
from orchestration.automation.jobs import DAILY, MAINTENANCE, Span, project_partition, reached_partitions
from orchestration.automation.registration import schedule_status
from orchestration.declarations import Declarations
from orchestration.settings import Clock, Settings

DAILY_CRON = "15 1 * * *"
WEEKLY_CRON = "30 3 * * 0"
DAYS_BACK = 7
"""How many of the last days a tick asks for again if they did not land."""

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Daily:
    """What the daily schedule lands.

    ``landing`` holds the keys of the partitioned sources; ``unwatched`` those of their assets that no
    sensor watches, whose late rows are looked for in the ``late_days`` before the last day.
    """

    landing: Sequence[dg.AssetKey]
    unwatched: Sequence[dg.AssetKey]
    late_days: int

    def requests(self, instance: dg.DagsterInstance, reached: Sequence[str]) -> Iterator[dg.RunRequest]:
        """The runs to ask for.

        Each day of the last week that some source lacks, oldest first; the last day when none does; and
        one run over the days before it for late rows. Nothing of it that a run under way lands already.

        Args:
            instance: Knows what has landed and what is under way.
            reached: Partitions that are over, oldest first; at least one.
        """
        under_way = [
            run.tags for run in instance.get_runs(dg.RunsFilter(job_name=DAILY, statuses=_UNFINISHED))
        ]
        landed = set(reached).intersection(*(instance.get_materialized_partitions(k) for k in self.landing))
        missing = [day for day in reached[-DAYS_BACK:] if day not in landed]
        for day in missing or reached[-1:]:
            if day not in {tags.get(PARTITION_NAME_TAG) for tags in under_way}:
                yield dg.RunRequest(run_key=day, partition_key=day)
        earlier = reached[-1 - self.late_days : -1]
        if not self.unwatched or not earlier:
            return
        span = Span(earlier[0], earlier[-1])
        if not any(span.tags.items() <= tags.items() for tags in under_way):
            yield dg.RunRequest(run_key=f"late: {span}", asset_selection=[*self.unwatched], tags=span.tags)


def build_schedules(
    declarations: Declarations,
    settings: Settings,
    clock: Clock,
    unwatched: Sequence[dg.AssetKey] = (),
) -> list[dg.ScheduleDefinition]:
    """The daily landing and the weekly maintenance.

    The daily schedule asks for the last partition that is over on the platform's clock: yesterday on
    the wall clock, the day before the replay clock on recorded history. If days of the last week have
    not landed in every partitioned source, because nobody was there to ask or because a run failed, it
    asks for each of them instead. What a run that is queued or running lands is not asked for twice.
    Without partitioned sources it asks every day.

    Args:
        declarations: The sources.
        settings: Gives the days that are looked at again for late rows.
        clock: Says which days are over.
        unwatched: Keys of the assets of partitioned sources that no sensor watches.
    """
    partition = project_partition(declarations)
    timezone = partition.timezone if partition is not None else "UTC"
    work = Daily(
        [asset_key(table) for table in declarations.sources if table.ingest.partition is not None],
        unwatched,
        settings.late_days,
    )

    @dg.schedule(
        name=DAILY,
        job_name=DAILY,
        cron_schedule=DAILY_CRON,
        execution_timezone=timezone,
        default_status=schedule_status(settings.environment, "daily"),
        description=f"Lands the last day of the {clock.mode} clock, days before it that did not land, and "
        "every reference source.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.RunRequest | dg.SkipReason:
        if partition is None:
            return dg.RunRequest()
        reached = reached_partitions(declarations, clock)
        if not reached:
            return dg.SkipReason(
                f"the {clock.mode} clock ({clock.now():%Y-%m-%d %H:%M} UTC) has passed no day"
            )
        asked = list(work.requests(context.instance, reached))
        return asked or dg.SkipReason("a run that lands them is under way")

    weekly = dg.ScheduleDefinition(
        name=MAINTENANCE,
        job_name=MAINTENANCE,
        cron_schedule=WEEKLY_CRON,
        execution_timezone=timezone,
        default_status=schedule_status(settings.environment, "maintenance"),
        description="Compacts the lakehouse once a week, when nobody lands data.",
    )
    return [daily, weekly]
