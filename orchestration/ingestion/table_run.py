"""A run of a source that is a table of another database.

What belongs here: where to read on from, and the run's one transaction. What does not: the SQL of the
other database.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from orchestration.declarations import Partition
from orchestration.ingestion.contract import reading_version
from orchestration.ingestion.databases import (
    Copied,
    Wanted,
    after_cursor,
    copy_table,
    finite_cursor,
    read_copy,
)
from orchestration.ingestion.event_time import EventTime, declared_span
from orchestration.ingestion.faults import IngestFault, faults_of, faults_of_lakehouse
from orchestration.ingestion.files import Outcome, Run, count_totals
from orchestration.ingestion.landing import Landed, Terms, land
from orchestration.ingestion.landing_log import Landing, LandingLog, covers
from orchestration.ingestion.raw_table import RawTable, Stamp
from orchestration.ingestion.uris import Place
from orchestration.lakehouse import table_exists
from orchestration.partitions import Window
from orchestration.sql import identifier


def _days(partition: Partition, window: Window) -> int:
    """How many of a partition's days a window holds."""
    first = window.start.astimezone(partition.tz).date()
    last = (window.end - timedelta(microseconds=1)).astimezone(partition.tz).date()
    return (last - first).days + 1


class TableRun:
    """Lands what is new in a table.

    With a cursor, rows are read from the highest landed cursor value on, that value included: rows that
    were committed later with the same value are found, and compared by content. Rows whose cursor is null,
    NaN or infinite are read each time, and are no highest value. Rows committed later
    with a *lower* value are not found, and neither are deletions; a run without a cursor finds both.
    """

    def __init__(self, run: Run, place: Place, folder: Path) -> None:
        self._run = run
        self._place = place
        self._folder = folder

    def land(self) -> Outcome:
        """Land what is new, all of it or nothing.

        Raises:
            IngestFault: The table cannot be landed as declared.
            ConnectionError: The database cannot be reached.
        """
        run = self._run
        partition = run.table.ingest.partition
        cursor_from = self._cursor_from()
        wanted = Wanted(run.window, None if partition is None else declared_span(partition), cursor_from)
        copied = copy_table(run.table, self._place, run.lakehouse.attachment, wanted, self._folder)
        with faults_of_lakehouse(f"lake.{run.table.schema}.{run.table.name}"):
            return run.lakehouse.write(
                lambda con: self._transaction(con, copied, cursor_from),
                lambda con, outcome: count_totals(con, run, outcome),
            )

    def _cursor_from(self) -> str | None:
        """The lowest of the window's partitions' highest landed cursor values; None to read all."""
        table, window = self._run.table, self._run.window
        cursor, partition = table.ingest.cursor, table.ingest.partition
        if cursor is None:
            return None
        with self._run.lakehouse.get_connection() as con:
            if not table_exists(con, table.schema, table.name):
                return None
            if not LandingLog(con, table.name, reading_version(table)).was_read_so():
                return None
            raw, name = RawTable(con, table), identifier(cursor)
            event = EventTime.of(table)
            day = "1" if event is None else event.day
            # Nothing comes after NaN or infinity: reading on from there would find no row ever again.
            finite = "true" if (is_finite := finite_cursor(table, name)) is None else is_finite
            groups, lowest = con.execute(
                "select count(highest), min(highest)::varchar from "
                f"(select {day} as _gw_day, max({name}) filter ({finite}) as highest "
                f"from {raw.relation} where {raw.in_window(window)} group by 1)"
            ).fetchall()[0]
        expected = 1 if window is None or partition is None else _days(partition, window)
        return None if groups < expected or lowest is None else str(lowest)

    def _transaction(
        self, con: duckdb.DuckDBPyConnection, copied: Copied, cursor_from: str | None
    ) -> Outcome:
        con.execute("set preserve_insertion_order = true")
        run, outcome = self._run, Outcome()
        table, ingest = run.table, run.table.ingest
        version = reading_version(table)
        log = LandingLog(con, table.name, version)
        landed = tuple(log.landed())
        is_new = not landed if run.window is None else not covers(landed, run.window)
        now = log.next_landing_at(datetime.now(UTC))
        stamp = Stamp(copied.label, copied.sha256, now, run.run_id, run.now, landed)
        scope = "true"
        if cursor_from is not None and ingest.cursor is not None:
            scope = after_cursor(table, identifier(ingest.cursor), cursor_from)
        self._refuse_emptied(con, copied, cursor_from)
        terms = Terms(
            scope=scope, holds_only_window=True, may_be_empty=True,
            replaced_key=ingest.primary_key if ingest.cursor is not None else (),
        )  # fmt: skip
        with faults_of(copied.label, copied.path):
            result: Landed = land(con, table, read_copy(table, copied), stamp, run.window, terms)
        change = result.change
        if is_new or change.added or change.removed or result.newly_quarantined:
            landing = Landing(
                source=table.name, source_uri=copied.label, sha256=copied.sha256, window=run.window,
                file_rows=result.file_rows, rows=change.added, removed=change.removed,
                unchanged=change.unchanged, quarantined=result.quarantined, first_event=None,
                last_event=None, landed_at=now, run_id=run.run_id, reading=version,
            )  # fmt: skip
            log.record(landing)
            outcome.landings.append(landing)
        else:
            outcome.unchanged.append((copied.label, copied.sha256))
        return outcome

    def _refuse_emptied(
        self, con: duckdb.DuckDBPyConnection, copied: Copied, cursor_from: str | None
    ) -> None:
        table = self._run.table
        if copied.rows or cursor_from is not None or not table_exists(con, table.schema, table.name):
            return
        raw = RawTable(con, table)
        if raw.has_rows(raw.in_window(self._run.window)):
            raise IngestFault(copied.label, "no row", "at least one (it had rows before)")
