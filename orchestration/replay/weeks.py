"""The weeks that a lane of the replay has walked through, kept in the lane's own lakehouse.

What belongs here: that table. What does not: walking (``lanes``, ``live``).
"""

from dataclasses import dataclass
from datetime import datetime

import duckdb

from orchestration.lakehouse import LAKE, LakehouseResource, table_exists
from orchestration.sql import literal

_WEEKS = f"{LAKE}.replay.weeks"


@dataclass(frozen=True)
class Week:
    """One week of a lane: from when on, who served, and whether a training came before it."""

    start: datetime
    end: datetime
    version: str
    trained: str | None
    promoted: bool
    reason: str


def read_weeks(lakehouse: LakehouseResource) -> list[Week]:
    """The weeks that a lane has walked through, in order."""
    with lakehouse.get_connection() as con:
        if not table_exists(con, "replay", "weeks"):
            return []
        rows = con.execute(
            f'select "start"::varchar, "end"::varchar, version, trained, promoted, reason '
            f'from {_WEEKS} order by "start"'
        ).fetchall()
    return [
        Week(datetime.fromisoformat(start), datetime.fromisoformat(end), *told) for start, end, *told in rows
    ]


def write_week(lakehouse: LakehouseResource, week: Week) -> None:
    """Keep a week, in place of what was kept of it."""

    def work(con: duckdb.DuckDBPyConnection) -> None:
        con.execute(f"create schema if not exists {LAKE}.replay")
        con.execute(
            f'create table if not exists {_WEEKS} ("start" timestamptz, "end" timestamptz, version varchar, '
            "trained varchar, promoted boolean, reason varchar)"
        )
        con.execute(f'delete from {_WEEKS} where "start" = {literal(week.start)}')
        con.execute(
            f"insert into {_WEEKS} values ({literal(week.start)}, {literal(week.end)}, "
            f"{literal(week.version)}, {literal(week.trained)}, {str(week.promoted).lower()}, "
            f"{literal(week.reason)})"
        )

    lakehouse.write(work)
