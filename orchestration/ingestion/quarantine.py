"""Rows that cannot be read as declared: what is kept of them, and when there are too many.

What belongs here: ``lake.quarantine.<table>`` and the limit. What does not: how rows are read.
"""

from dataclasses import dataclass
from typing import Any

import duckdb

from orchestration.declarations import Table
from orchestration.ingestion.event_time import EventTime
from orchestration.ingestion.faults import IngestFault, shown
from orchestration.ingestion.raw_table import Stamp
from orchestration.ingestion.readers import MAX_REJECTS
from orchestration.ingestion.reading import Reading
from orchestration.lakehouse import table_exists
from orchestration.lakehouse.tables import relation
from orchestration.sql import literal

SCHEMA = "quarantine"
MAX_RAW_TEXT = 10_000
COLUMNS = {
    "_source_uri": ("varchar", "The delivery the row came in."),
    "_source_sha256": ("varchar", "Its SHA-256."),
    "line": ("bigint", "The row's line in the delivery; the header is line 1 of a csv file."),
    "column_name": ("varchar", "The first column that could not be read, if it is one column's fault."),
    "reason": ("varchar", "Why the row could not be read, for each column that could not."),
    "raw_text": ("varchar", f"The row as delivered, cut after {MAX_RAW_TEXT:,} characters."),
    "partition_day": ("date", "The partition the row belongs to, where its event time could be read."),
    "_quarantined_at": ("timestamptz", "When it was put here, on the wall clock."),
    "_run_id": ("varchar", "The run that put it here."),
}


@dataclass(frozen=True)
class Faulty:
    """The unreadable rows of one delivery, in the temporary tables ``_faulty`` and ``_refused``."""

    faulty: int
    refused: int
    """The number of them that the reader itself refused."""
    shift: str
    """SQL that turns the number of a row among those read (``_gw_n``) into its number in the file."""


def _outside(table: Table) -> str | None:
    """A condition: the event time is in no declared partition."""
    event = EventTime.of(table)
    return None if event is None else event.is_outside


def bad_row(table: Table) -> str:
    """A condition on the rows of a reading: the row goes to quarantine."""
    outside = _outside(table)
    return "_gw_bad" if outside is None else f"(_gw_bad or {outside})"


def _fault_outside(table: Table) -> str | None:
    """A select of the faults of rows whose event time is in no partition, in the form of cell faults."""
    event, part = table.ingest.event_time, table.ingest.partition
    if event is None or part is None:
        return None
    words = literal(f" is in no partition ({part.start} to {part.end or 'open'}, {part.timezone})")
    found = f"coalesce(_event, 'no event time') || {words}"
    return (
        f"select _gw_n, 1000000 as _at, {literal(event)} as c, {found} as r from _suspects "
        f"where _is_outside and not _gw_broken and _gw_n not in "
        f"(select _gw_n from _faults where c = {literal(event)})"
    )


def collect(
    con: duckdb.DuckDBPyConnection, table: Table, reading: Reading, first_line: int, good: str | None = None
) -> Faulty:
    """Find every unreadable row of a delivery, in one scan.

    Args:
        con: A connection.
        table: The source table.
        reading: The delivery.
        first_line: The line number of the first row.
        good: A select of the numbers of all readable rows, where they are known: the others need no casts.

    Raises:
        IngestFault: There are more than can be kept.
    """
    at, outside = EventTime.of(table), _outside(table) or "false"
    day, event = ("null::date", "null") if at is None else (at.day, at.column)
    lists = "".join(f", {cells}" for cells in reading.fault_columns())
    rows, bad = reading.careful_rows(), bad_row(table)
    if good is not None:
        rows, bad = reading.other_rows(good, {table.ingest.event_time or ""}), "true"
    con.execute(
        f"create or replace temp table _suspects as select _gw_n, _gw_broken, {outside} as _is_outside, "
        f"{event}::varchar as _event, left({reading.raw_text}, {MAX_RAW_TEXT}) as raw_text, "
        f"{day} as partition_day{lists} from ({rows}) "
        f"where not _gw_skip and {bad} limit {MAX_REJECTS + 1}"
    )
    con.execute(f"create or replace temp table _faults as {reading.faults_of_cells()}")
    more = _fault_outside(table)
    if more is not None:
        con.execute(f"insert into _faults {more}")
    con.execute(
        "create or replace temp table _faulty as with faults as "
        "(select _gw_n, list({'c': c, 'r': r} order by _at, r) as reasons from _faults group by _gw_n) "
        "select _gw_n, "
        "coalesce(reasons, [{'c': null::varchar, 'r': 'not readable as declared'}]) as reasons, "
        "raw_text, partition_day from _suspects left join faults using (_gw_n)"
    )
    con.execute("drop table _suspects")
    con.execute("drop table _faults")
    con.execute(
        "create or replace temp table _refused "
        "(_line bigint, reasons struct(c varchar, r varchar)[], raw_text varchar)"
    )
    if reading.rejects is not None:
        names = "[" + ", ".join(literal(n) for n in reading.reject_columns) + "]"
        reason = "lower(error_type::varchar) || ': ' || error_message"
        con.execute(
            f"insert into _refused select line, list({{'c': {names}[column_idx::bigint], 'r': {reason}}} "
            f"order by column_idx), left(any_value(csv_line), {MAX_RAW_TEXT}) "
            f"from {reading.rejects} group by line"
        )
    con.execute(
        f"create or replace temp table _shifts as select _line - {first_line} "
        "- (row_number() over (order by _line) - 1) as _gw_before from _refused"
    )
    reading.forget_rejects(con)
    refused = _scalar(con, "select count(*) from _refused")
    faulty = _scalar(con, "select count(*) from _faulty") + refused
    if faulty > MAX_REJECTS:
        raise IngestFault(reading.label, f"more than {MAX_REJECTS:,} unreadable rows", "fewer")
    shift = "_gw_n" if not refused else "_gw_n + (select count(*) from _shifts where _gw_before < _gw_n)"
    return Faulty(faulty, refused, shift)


def _scalar(con: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(con.execute(query).fetchall()[0][0])


def first_faults(
    con: duckdb.DuckDBPyConnection, first_line: int, shift: str, limit: int
) -> list[dict[str, Any]]:
    """The first unreadable rows: line, columns, reasons and text."""
    columns = "line, column_name, reason, raw_text, partition_day::varchar"
    rows = con.execute(
        f"select {columns} from ({_listed(first_line, shift)}) order by line limit {limit}"
    ).fetchall()
    keys = ("line", "column", "reason", "raw_text", "partition_day")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _listed(first_line: int, shift: str) -> str:
    describe = (
        "reasons[1].c as column_name, array_to_string(list_transform(reasons, lambda x: x.r), '; ') as reason"
    )
    return (
        f"select * from (select {shift} - 1 + {first_line} as line, {describe}, raw_text, partition_day "
        f"from _faulty union all select _line, {describe}, raw_text, null from _refused)"
    )


def check_share(
    con: duckdb.DuckDBPyConnection, table: Table, label: str, faulty: Faulty, rows: int, first_line: int
) -> None:
    """Fail the delivery if too large a share of its rows is unreadable.

    Raises:
        IngestFault: The share is above ``max_quarantined_share``.
    """
    limit = table.ingest.max_quarantined_share
    if not faulty.faulty or faulty.faulty <= limit * rows:
        return
    share = faulty.faulty / max(rows, 1)
    columns = con.execute(
        f"select column_name, count(*) as n from ({_listed(first_line, faulty.shift)}) "
        "where column_name is not null group by column_name order by n desc, column_name limit 10"
    ).fetchall()
    first = first_faults(con, first_line, faulty.shift, 5)
    if any(c.is_classified for c in table.columns):
        # The text may hold what only the quarantine table's readers may see.
        for fault in first:
            del fault["raw_text"]
    lines = "\n".join(
        f"  line {f['line']}: {f['reason']}" + (f": {shown(f['raw_text'], 160)}" if "raw_text" in f else "")
        for f in first
    )
    by_column = ", ".join(f"{name} ({n:,})" for name, n in columns)
    raise IngestFault(
        label,
        f"{faulty.faulty:,} of {rows:,} rows ({share:.2%}) that cannot be read as declared"
        + (f", by column: {by_column}" if by_column else ""),
        f"at most {limit:.2%} (ingest.max_quarantined_share); nothing of this delivery landed. "
        f"First ones:\n{lines}",
        {"unreadable_rows": faulty.faulty, "rows_in_delivery": rows, "first_unreadable_rows": first},
    )


class Quarantine:
    """``lake.quarantine.<table>`` inside an open transaction."""

    def __init__(self, con: duckdb.DuckDBPyConnection, table: Table) -> None:
        self._con = con
        self._table = table
        self.relation = relation(SCHEMA, table.name)

    def prepare(self) -> None:
        """Create the table."""
        if table_exists(self._con, SCHEMA, self._table.name):
            return
        self._con.execute(f"create schema if not exists lake.{SCHEMA}")
        body = ", ".join(f"{n} {t}" for n, (t, _) in COLUMNS.items())
        self._con.execute(f"create table {self.relation} ({body})")

    def put(
        self, stamp: Stamp, faulty: Faulty | None, first_line: int, scope: str, *, keep: bool = False
    ) -> int:
        """Make the quarantined rows of a delivery those of its present version; gives how many are new.

        Args:
            stamp: What quarantined rows carry.
            faulty: The unreadable rows; None if there are none.
            first_line: Line of the delivery's first row.
            scope: A condition on the table: the rows that the unreadable rows replace.
            keep: True for a delivery of changes only: earlier rows stay, equal ones are not added again.
        """
        con, uri = self._con, literal(stamp.source_uri)
        has_faults = faulty is not None and faulty.faulty > 0
        same = f"q._source_uri = {uri} and q.raw_text is not distinct from f.raw_text and q.reason = f.reason"
        if not keep:
            same += f" and q._source_sha256 = {literal(stamp.sha256)} and q.line = f.line"
            still = "false"
            if faulty is not None and has_faults:
                still = f"exists (select 1 from ({_listed(first_line, faulty.shift)}) f where {same})"
            con.execute(
                f"delete from {self.relation} where rowid in "
                f"(select q.rowid from {self.relation} q where ({scope}) and not {still})"
            )
        if faulty is None or not has_faults:
            return 0
        done = con.execute(
            f"insert into {self.relation} select {uri}, {literal(stamp.sha256)}, line, column_name, reason, "
            f"raw_text, partition_day, {literal(stamp.ingested_at)}, {literal(stamp.run_id)} "
            f"from ({_listed(first_line, faulty.shift)}) f "
            f"where not exists (select 1 from {self.relation} q where {same})"
        ).fetchall()
        return int(done[0][0])
