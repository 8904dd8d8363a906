"""What has landed: ``lake.ops.landings``, one row a delivery and run window.

What belongs here: which deliveries and windows a source has landed. What does not: the rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from orchestration.lakehouse import describe_table
from orchestration.lakehouse.tables import relation
from orchestration.partitions import Window
from orchestration.sql import literal

SCHEMA, NAME = "ops", "landings"
LANDINGS = relation(SCHEMA, NAME)
COLUMNS = {
    "source": "varchar", "source_uri": "varchar", "sha256": "varchar", "window_start": "timestamptz",
    "window_end": "timestamptz", "file_rows": "bigint", "rows": "bigint", "removed": "bigint",
    "unchanged": "bigint", "quarantined": "bigint", "first_event": "timestamptz", "last_event": "timestamptz",
    "landed_at": "timestamptz", "run_id": "varchar", "reading": "varchar", "refused": "varchar",
}  # fmt: skip
_EVER = Window(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Landing:
    """One delivery, landed for one window (None: the source has no partitions).

    ``source_uri`` and ``sha256`` are None for a run that found nothing new to land. ``first_event``
    and ``last_event`` span the whole delivery, not the window; None where nobody needed to know.
    """

    source: str
    window: Window | None
    landed_at: datetime
    run_id: str
    reading: str
    """How it was read: ``contract.reading_version``."""
    source_uri: str | None = None
    sha256: str | None = None
    file_rows: int | None = None
    rows: int = 0
    removed: int = 0
    unchanged: int = 0
    quarantined: int = 0
    first_event: datetime | None = None
    last_event: datetime | None = None
    refused: str | None = None
    """Why the delivery did not land; None if it did."""


@dataclass(frozen=True)
class Known:
    """What the log says about one version of one file.

    ``is_reread`` is true if it landed before, but was read in another way than is declared now.
    """

    is_covered: bool
    is_reread: bool
    quarantined: int
    file_rows: int = 0


def merged(windows: Iterable[Window]) -> list[Window]:
    """The same spans with touching and overlapping ones joined, in order."""
    result: list[Window] = []
    for window in sorted(windows, key=lambda w: w.start):
        if result and window.start <= result[-1].end:
            result[-1] = Window(result[-1].start, max(result[-1].end, window.end))
        else:
            result.append(window)
    return result


def covers(windows: Iterable[Window], wanted: Window) -> bool:
    """Whether the spans together hold the whole of another one."""
    return any(w.start <= wanted.start and wanted.end <= w.end for w in merged(windows))


def overlap(a: Window, b: Window) -> bool:
    """Whether two spans share an instant."""
    return a.start < b.end and b.start < a.end


class LandingLog:
    """The landings of one source, inside an open transaction."""

    def __init__(self, con: duckdb.DuckDBPyConnection, source: str, reading: str) -> None:
        self._con = con
        self._reading = f"reading = {literal(reading)}"
        # Literals, not parameters: binding one makes DuckDB import pandas, which costs half a second.
        self._mine = f"source = {literal(source)}"
        columns = {column.name for column in describe_table(con, SCHEMA, NAME)}
        self._exists = bool(columns)
        self._has_refusals = "refused" in columns
        # In a lakehouse of release 0.1 the log lacks the column until the first refusal.
        self._landings = f"(from {LANDINGS} where refused is null)" if self._has_refusals else LANDINGS

    def _windows(self, condition: str = "") -> list[Window]:
        if not self._exists:
            return []
        rows = self._con.execute(
            f"select distinct window_start, window_end from {self._landings} where {self._mine} {condition}"
        ).fetchall()
        return merged(_EVER if start is None else Window(_utc(start), _utc(end)) for start, end in rows)

    def landed(self, *, before_run: str | None = None) -> list[Window]:
        """The windows that any delivery has landed for; one window of all instants if unpartitioned.

        Args:
            before_run: A run whose own landings do not count.
        """
        return self._windows("" if before_run is None else f"and run_id <> {literal(before_run)}")

    def known(
        self, source_uri: str, sha256: str, window: Window | None, *, is_only_file: bool = False
    ) -> Known | None:
        """What is known of this version of a file; None if it is new.

        Args:
            source_uri: The file.
            sha256: Its version.
            window: The window to land.
            is_only_file: Whether a landing of any file of the source replaces the rows of this one.
        """
        if not self._exists:
            return None
        rows = self._con.execute(
            f"select max(quarantined) filter ({self._reading}), max(file_rows) filter ({self._reading}), "
            f"min(first_event) filter ({self._reading}), max(last_event) filter ({self._reading}), "
            f"count(*) filter ({self._reading}), count(*) from {self._landings} "
            f"where {self._mine} and source_uri = {literal(source_uri)} and sha256 = {literal(sha256)}"
        ).fetchall()
        quarantined, file_rows, first, last, count, ever = rows[0]
        if not count:
            return Known(False, True, 0) if ever else None
        wanted = window or _EVER
        first, last = (None if v is None else _utc(v) for v in (first, last))
        elsewhere = (
            first is not None
            and last is not None
            and not overlap(Window(first, last + timedelta(microseconds=1)), wanted)
        )
        same = f"source_uri = {literal(source_uri)} and sha256 = {literal(sha256)} and {self._reading}"
        scope = "source_uri is not null" if is_only_file else f"source_uri = {literal(source_uri)}"
        others = f"{scope} and not ({same})"
        # Rows of another version may lie in a window in which this version has none.
        if elsewhere and not any(overlap(w, wanted) for w in self._windows(f"and {others}")):
            return Known(True, False, quarantined, file_rows or 0)
        # A file that goes back to an older version has to land again: only later landings count.
        other = f"select max(landed_at) from {self._landings} where {self._mine} and {others}"
        windows = self._windows(f"and {same} and landed_at > coalesce(({other}), timestamptz '0001-01-01')")
        return Known(covers(windows, wanted), False, quarantined, file_rows or 0)

    def was_read_so(self) -> bool:
        """Whether the newest landing was read in the way that is declared now."""
        if not self._exists:
            return False
        newest = f"select arg_max({self._reading}, landed_at) from {self._landings} where {self._mine}"
        return bool(self._con.execute(newest).fetchall()[0][0])

    def files(self) -> set[str]:
        """Every file that has landed."""
        if not self._exists:
            return set()
        rows = self._con.execute(
            f"select distinct source_uri from {self._landings} where {self._mine} and source_uri is not null"
        ).fetchall()
        return {row[0] for row in rows}

    def next_landing_at(self, now: datetime) -> datetime:
        """The wall clock, moved on where it would not be later than every earlier landing."""
        if not self._exists:
            return now
        rows = self._con.execute(f"select max(landed_at) from {LANDINGS} where {self._mine}").fetchall()
        latest = rows[0][0]
        return now if latest is None else max(now, _utc(latest) + timedelta(microseconds=1))

    def repeats_newest(self, landing: Landing) -> bool:
        """Whether the newest entry of a file refuses the same version of it for the same reason."""
        if not self._has_refusals:
            return False
        rows = self._con.execute(
            f"select sha256, reading, refused from {LANDINGS} where {self._mine} "
            f"and source_uri = {literal(landing.source_uri)} order by landed_at desc limit 1"
        ).fetchall()
        return list(rows) == [(landing.sha256, landing.reading, landing.refused)]

    def record(self, landing: Landing) -> None:
        """Add a landing, or the refusal of one."""
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        if not self._exists:
            self._con.execute(f"create schema if not exists lake.{SCHEMA}")
            self._con.execute(f"create table if not exists {LANDINGS} ({columns})")
            self._exists = self._has_refusals = True
        elif landing.refused is not None and not self._has_refusals:
            self._con.execute(f"alter table {LANDINGS} add column refused {COLUMNS['refused']}")
            self._has_refusals = True
        window = landing.window
        values = {
            **{name: getattr(landing, name) for name in COLUMNS if not name.startswith("window_")},
            "window_start": None if window is None else window.start,
            "window_end": None if window is None else window.end,
        }
        names = [name for name in COLUMNS if name != "refused" or self._has_refusals]
        self._con.execute(
            f"insert into {LANDINGS} ({', '.join(names)}) "
            f"values ({', '.join(literal(values[name]) for name in names)})"
        )


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)
