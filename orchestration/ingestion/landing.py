"""Landing one delivery: from its reading to rows in the raw table, in the transaction of the run.

What belongs here: which way a delivery takes. A clean one that lands whole goes in one pass; where
anything is amiss, the careful way finds every unreadable row first. What does not: SQL of one table.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from orchestration.declarations import Table
from orchestration.ingestion.delivery import blank_lines
from orchestration.ingestion.event_time import EventTime
from orchestration.ingestion.faults import IngestFault, shown
from orchestration.ingestion.quarantine import Faulty, Quarantine, bad_row, check_share, collect
from orchestration.ingestion.raw_table import Change, RawTable, Stamp
from orchestration.ingestion.reading import Reading
from orchestration.lakehouse import is_lock_conflict
from orchestration.partitions import Window, day_window
from orchestration.sql import identifier

_UNREADABLE = (
    duckdb.InvalidInputException, duckdb.ConversionException, duckdb.IOException, duckdb.OutOfRangeException,
)  # fmt: skip
_MARK = "groundwork: unreadable row"


class Untidy(Exception):
    """A delivery that was taken for clean is not: the transaction has to start again, carefully."""


@dataclass(frozen=True)
class Terms:
    """On what terms a delivery lands.

    Attributes:
        scope: A condition on the raw table: rows that this delivery is the new state of.
        is_careful: False to take the delivery for clean.
        is_verified: True if this version landed before without an unreadable row.
        needs_span: Whether to find out which events the delivery spans.
        holds_only_window: True if the delivery was read for the run's window only.
        may_be_empty: Whether a delivery without rows can be right.
        replaced_key: For a delivery of changes only: the key by which they replace earlier rows.
    """

    scope: str
    is_careful: bool = False
    is_verified: bool = False
    needs_span: bool = False
    holds_only_window: bool = False
    may_be_empty: bool = False
    replaced_key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Landed:
    """What the landing of one delivery did, and what the delivery holds."""

    change: Change
    file_rows: int | None
    quarantined: int = 0
    newly_quarantined: int = 0
    first_event: datetime | None = None
    last_event: datetime | None = None


def holds_all(table: Table, window: Window | None) -> bool:
    """Whether a window holds every instant that a declared partition can have."""
    part = table.ingest.partition
    if window is None or part is None:
        return True
    if window.start > day_window(part, part.start).start:
        return False
    return part.end is None or window.end >= day_window(part, part.end).start


def land(
    con: duckdb.DuckDBPyConnection, table: Table, reading: Reading, stamp: Stamp, window: Window | None,
    terms: Terms,
) -> Landed:  # fmt: skip
    """Land the rows of a delivery that lie in the run's window.

    Raises:
        IngestFault: The delivery cannot be landed as declared.
        Untidy: It was taken for clean and is not; roll back, and land it carefully.
    """
    try:
        return _Attempt(con, table, reading, stamp, window, terms).land()
    except duckdb.Error as error:
        if _MARK in str(error):
            raise Untidy from error
        # Damaged Parquet pages raise the base class itself.
        if is_lock_conflict(error) or not (isinstance(error, _UNREADABLE) or type(error) is duckdb.Error):
            raise
        raise IngestFault(reading.label, _first_line(error), "a file that can be read as declared") from error


class _Attempt:
    """One delivery on its way into the raw table."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, table: Table, reading: Reading, stamp: Stamp,
        window: Window | None, terms: Terms,
    ) -> None:  # fmt: skip
        self._con = con
        self._table = table
        self._reading = reading
        self._stamp = stamp
        self._window = window
        self._terms = terms
        self._raw = RawTable(con, table)
        self._quarantine = Quarantine(con, table)
        self._in_window = self._raw.in_window(window)
        self._scope = f"{terms.scope} and {self._in_window}"

    def land(self) -> Landed:
        """Take the cheapest way that is safe."""
        self._raw.prepare(self._reading.new_columns)
        self._quarantine.prepare()
        terms = self._terms
        if terms.is_careful:
            return self._carefully()
        if terms.is_verified:
            rows = f"select * from ({self._reading.rows()}) where not _skip and {self._in_window}"
            return Landed(self._write(rows), None)
        if terms.holds_only_window or holds_all(self._table, self._window):
            return self._in_one_pass()
        return self._carefully()

    def _write(self, rows: str, ordinal: str = "_n") -> Change:
        columns = self._reading.columns
        if not self._raw.has_rows(self._scope):
            with _threads(self._con, 1 if self._reading.is_numbered_by_scan else None):
                return Change(self._raw.insert(rows, columns, self._stamp, self._window, ordinal))
        if ordinal != "_n":
            rows = f"select * exclude (_n), {ordinal} as _n from ({rows})"
        return self._raw.replace(
            rows, columns, self._stamp, self._window, self._scope, replaced_key=self._terms.replaced_key
        )

    def _in_one_pass(self) -> Landed:
        """The first unreadable row ends it."""
        reading, con = self._reading, self._con
        check = f"case when {bad_row(self._table)} then error('{_MARK}')::boolean "
        check += f"else not _skip and {self._in_window} end"
        change = self._write(f"select * from ({reading.rows()}) where {check}")
        count = change.added + change.unchanged
        if reading.refused(con) or reading.expected_rows not in {None, count}:
            raise Untidy
        self._check_any(count)
        self._quarantine.put(self._stamp, None, 0, keep=bool(self._terms.replaced_key))
        first, last = self._span() if self._terms.needs_span else (None, None)
        return Landed(change, count, first_event=first, last_event=last)

    def _carefully(self) -> Landed:
        """Read it all, then land what is good."""
        table, reading, con = self._table, self._reading, self._con
        first_line = reading.header_lines + 1
        survey = _survey(con, table, reading)
        faulty, file_rows, ordinal = None, survey.rows, "_n"
        good = f"select * from ({reading.rows()}) where not _skip"
        if not survey.is_tidy:
            faulty = collect(con, table, reading, first_line)
            _account(reading, faulty)
            check_share(con, table, reading.label, faulty, first_line)
            file_rows, ordinal = faulty.rows, faulty.shift
            good = (
                f"select * from ({reading.rows(careful=True)}) "
                f"where not _skip and _raw_text is not null and not {bad_row(table)}"
            )
        self._check_any(file_rows)
        change = self._write(f"select * from ({good}) where {self._in_window}", ordinal)
        newly = self._quarantine.put(self._stamp, faulty, first_line, keep=bool(self._terms.replaced_key))
        quarantined = 0 if faulty is None else faulty.faulty
        return Landed(change, file_rows, quarantined, newly, survey.first_event, survey.last_event)

    def _check_any(self, rows: int) -> None:
        if not rows and not self._terms.may_be_empty:
            expected = "at least one (an empty delivery would remove all rows)"
            raise IngestFault(self._reading.label, "no row", expected)

    def _span(self) -> tuple[datetime | None, datetime | None]:
        event = EventTime.of(self._table)
        if event is None:
            return (None, None)
        first, last = self._con.execute(
            f"select min({event.instant}), max({event.instant}) from {self._raw.relation} where {self._scope}"
        ).fetchall()[0]
        return (_utc(first), _utc(last))


@contextmanager
def _threads(con: duckdb.DuckDBPyConnection, number: int | None) -> Iterator[None]:
    """Fewer threads for a while: DuckDB's idle main thread spins while another one works."""
    if number is None:
        yield
        return
    # A session beside the transaction: in one that has failed nothing can be set.
    with con.cursor() as session:
        usual = session.execute("select current_setting('threads')").fetchall()[0][0]
        session.execute(f"set threads = {number}")
        try:
            yield
        finally:
            session.execute(f"set threads = {usual}")


def _first_line(error: duckdb.Error) -> str:
    return "what DuckDB cannot read: " + shown(str(error).split("\n\n")[0].split("\nPossible")[0], 300)


@dataclass(frozen=True)
class _Survey:
    rows: int
    is_tidy: bool
    first_event: datetime | None
    last_event: datetime | None


def _survey(con: duckdb.DuckDBPyConnection, table: Table, reading: Reading) -> _Survey:
    """Read the whole delivery once and keep nothing but counts."""
    # Hashing every column keeps DuckDB from skipping the columns that nothing else asks for.
    everything = ", ".join(map(identifier, reading.columns))
    event, bad = EventTime.of(table), bad_row(table)
    # Rows outside every partition may lie beyond what Python's datetime holds.
    instant = "null::timestamptz" if event is None else f"if({bad}, null, {event.instant})"
    query = (
        f"select count(*), count(*) filter ({bad}), min({instant}), max({instant}), "
        f"bit_xor(hash({everything})) from ({reading.rows()}) where not _skip"
    )
    with _threads(con, 1 if reading.is_numbered_by_scan else None):
        rows, bad, first, last, _ = con.execute(query).fetchall()[0]
    is_tidy = not bad and not reading.refused(con) and reading.expected_rows in {None, rows}
    reading.forget_rejects(con)
    return _Survey(rows, is_tidy, _utc(first), _utc(last))


def _utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _account(reading: Reading, faulty: Faulty) -> None:
    """Every line of the file must be accounted for: DuckDB drops some it cannot read without a word.

    Raises:
        IngestFault: Lines are neither rows, nor unreadable rows, nor blank, nor inside quoted text.
    """
    if reading.expected_rows is None or reading.path is None:
        return
    missing = reading.expected_rows - faulty.rows
    if missing < 0:
        raise IngestFault(reading.label, "lines that end in a bare carriage return", "line feeds")
    if missing:
        missing -= faulty.line_breaks + blank_lines(reading.path)
    if missing > 0:
        raise IngestFault(
            reading.label,
            f"{missing:,} lines that no row was read from (an unterminated quote, or a broken line?)",
            "every line to belong to a row",
        )
