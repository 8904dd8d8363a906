"""Partitions and the window of a run: the one place where a declared partition becomes Dagster's.

What belongs here: what ingestion, transformation, quality and automation all need to know about
partitions. What does not: when a partition runs (automation decides that).
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from orchestration.declarations import Partition
from orchestration.settings import Clock

PARTITION_FORMAT = "%Y-%m-%d"


@dataclass(frozen=True)
class Window:
    """A half-open span of instants ``[start, end)`` in UTC."""

    start: datetime
    end: datetime


def partitions_def(partition: Partition | None, clock: Clock) -> dg.DailyPartitionsDefinition | None:
    """Dagster's partitions of a declared partition; open-ended ones grow with the platform's clock.

    On a replay clock an open-ended declaration ends at the last midnight the clock has passed.
    """
    if partition is None:
        return None
    end = partition.end
    if end is None and clock.mode == "replay":
        end = clock.now().astimezone(partition.tz).date()
    return dg.DailyPartitionsDefinition(
        start_date=partition.start.strftime(PARTITION_FORMAT),
        end_date=None if end is None else end.strftime(PARTITION_FORMAT),
        timezone=partition.timezone,
        fmt=PARTITION_FORMAT,
    )


def day_window(partition: Partition, day: date) -> Window:
    """The window of one day of a declared partition: 23 to 25 hours where clocks change."""

    def midnight(of: date) -> datetime:
        return datetime.combine(of, time.min, partition.tz).astimezone(UTC)

    return Window(midnight(day), midnight(day + timedelta(days=1)))


def newest_day(partition: Partition, clock: Clock) -> date:
    """The newest declared day that has ended on the platform's clock; before ``start`` if none has."""
    over = clock.now().astimezone(partition.tz).date() - timedelta(days=1)
    return over if partition.end is None else min(over, partition.end - timedelta(days=1))


def run_window(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Window | None:
    """The span of instants of the partitions a step works on.

    None for a run without partitions, and in any run for a step none of whose tables is partitioned.
    """
    op = context.op_execution_context
    if not op.has_partition_key and not op.has_partition_key_range:
        return None
    try:
        span = op.partition_time_window
    except dg.DagsterInvariantViolationError:  # neither the job nor the step has a partitions definition
        return None
    return Window(span.start.astimezone(UTC), span.end.astimezone(UTC))
