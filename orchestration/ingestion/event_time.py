"""The partition of a row by its event time, for landing, quarantine, sensors and databases alike.

A date is its own day, an instant belongs to a day of the partition's zone, and a timestamp without a zone is
local to the declared one. What belongs here: SQL of one column. What does not: what happens to the rows.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from orchestration.declarations import Partition, Table, canonical
from orchestration.ingestion.faults import IngestFault
from orchestration.partitions import Window, day_window
from orchestration.sql import identifier, literal

FAR = date(9999, 1, 1)
"""The end of a partition that is declared without one."""


@dataclass(frozen=True)
class EventTime:
    """The event time of a partitioned source.

    Attributes:
        column: SQL of the column.
        kind: Its canonical type.
        zone: The zone that values without one are local to.
        partition: The declared partition.
    """

    column: str
    kind: str
    zone: str
    partition: Partition

    @classmethod
    def of(cls, table: Table) -> "EventTime | None":
        """The event time of a source; None if it is not partitioned.

        Raises:
            IngestFault: Its timestamps have no zone and none is declared.
        """
        ingest = table.ingest
        if ingest.partition is None or ingest.event_time is None:
            return None
        column = table.column(ingest.event_time)
        kind = canonical(column.data_type) if column is not None else "timestamptz"
        zone = table.zone_of(ingest.event_time)
        if zone is None and kind not in {"timestamptz", "date"}:
            raise IngestFault(
                f"{table.file}: sources.{table.name}.config.meta.ingest.timezone",
                "nothing",
                f"the time zone that the {kind} {ingest.event_time!r} is local to",
            )
        return cls(identifier(ingest.event_time), kind, zone or "UTC", ingest.partition)

    @property
    def instant(self) -> str:
        """SQL of a row's instant, for a date the start of its day; null if there is none."""
        if self.kind == "timestamptz":
            return self.column
        zone = self.partition.timezone if self.kind == "date" else self.zone
        return f"try(timezone({literal(zone)}, {self.column}::timestamp))"

    @property
    def day(self) -> str:
        """SQL of the day of the partition that a row belongs to; null if there is none."""
        if self.kind == "date":
            return self.column
        return f"try(timezone({literal(self.partition.timezone)}, {self.instant})::date)"

    def _from(self, day: date) -> str:
        """SQL of the value at which a day begins."""
        if self.kind == "date":
            return f"date '{day.isoformat()}'"
        start = day_window(self.partition, day).start
        if self.kind == "timestamptz":
            return literal(start)
        return f"timezone({literal(self.zone)}, {literal(start)})"

    @property
    def _ordered(self) -> str:
        """SQL of the column in a type that can hold every day."""
        return (
            self.column if self.kind in {"timestamptz", "date", "timestamp"} else f"{self.column}::timestamp"
        )

    def days(self, window: Window) -> tuple[date, date]:
        """The first day that begins in a window, and the first after it."""
        return (self._day_of(window.start), self._day_of(window.end))

    def _day_of(self, instant: datetime) -> date:
        local = instant.astimezone(self.partition.tz)
        return local.date() if local.time() == time.min else (local + timedelta(days=1)).date()

    def within(self, window: Window) -> str:
        """A condition: the row is in a window."""
        if self.kind == "date":
            first, end = self.days(window)
            return f"({self.column} >= {self._from(first)} and {self.column} < {self._from(end)})"
        instant = self.instant
        return f"({instant} >= {literal(window.start)} and {instant} < {literal(window.end)})"

    @property
    def is_outside(self) -> str:
        """A condition: the row is in no declared partition."""
        first, end = self._from(self.partition.start), self._from(self.partition.end or FAR)
        return f"({self.column} is null or {self._ordered} < {first} or {self._ordered} >= {end})"


def declared_span(partition: Partition) -> Window:
    """All instants of a declared partition; an open end is ``FAR``."""
    end = partition.end or FAR
    return Window(day_window(partition, partition.start).start, day_window(partition, end).start)
