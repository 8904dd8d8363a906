"""Landing one delivery: from its reading to rows in the raw table, in the transaction of the run.

What belongs here: the choice of how to land a delivery with as few scans as possible. What does not:
SQL of one table.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import duckdb

from orchestration.declarations import Table
from orchestration.ingestion.event_time import EventTime, declared_span
from orchestration.ingestion.faults import IngestFault
from orchestration.ingestion.quarantine import Faulty, Quarantine, bad_row, check_share, collect
from orchestration.ingestion.raw_table import Change, RawTable, Stamp
from orchestration.ingestion.reading import Reading
from orchestration.partitions import Window
from orchestration.sql import identifier, literal

_WIDE = 100
"""The most columns of a delivery for which every optimizer pays."""


class Untidy(Exception):
    """A row of another shape ended the scan: the transaction has to start again, carefully."""


@dataclass(frozen=True)
class Terms:
    """On what terms a delivery lands.

    Attributes:
        scope: A condition on the raw table: rows that this delivery is the new state of.
        is_careful: Whether to look for rows of another shape first; otherwise such a row raises.
        is_verified: True if this version landed before without an unreadable row.
        needs_span: Whether to find out which events the delivery spans.
        holds_only_window: True if the delivery was read for the run's window only.
        may_be_empty: Whether a delivery may have no rows.
        is_one_of_many: Whether it is a file among others, which may have no rows if it never had any.
        replaced_key: For a delivery of changes only: the key by which they replace earlier rows.
    """

    scope: str
    is_careful: bool = False
    is_verified: bool = False
    needs_span: bool = False
    holds_only_window: bool = False
    may_be_empty: bool = False
    is_one_of_many: bool = False
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
    declared = declared_span(part)
    return window.start <= declared.start and window.end >= declared.end


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
    except duckdb.InvalidInputException as error:
        if terms.is_careful or reading.rejects is None:
            raise
        raise Untidy from error


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
        with _quickly_planned(self._con, self._reading):
            return self._land()

    def _land(self) -> Landed:
        terms = self._terms
        if terms.is_verified and not terms.is_careful:
            rows = f"select * from ({self._reading.rows()}) where not _gw_skip and {self._in_window}"
            change = self._write(rows)
            self._quarantine.put(self._stamp, None, 0, self._quarantine_scope())
            return Landed(change, None)
        if terms.holds_only_window or holds_all(self._table, self._window):
            return self._land_whole()
        return self._land_part()

    def _write(self, rows: str, ordinal: str = "_gw_n") -> Change:
        columns = self._reading.columns
        if not self._raw.has_rows(self._scope):
            with _threads(self._con, 1 if self._reading.is_numbered_by_scan else None):
                return Change(self._raw.insert(rows, columns, self._stamp, self._window, ordinal))
        if ordinal != "_gw_n":
            rows = f"select * exclude (_gw_n), {ordinal} as _gw_n from ({rows})"
        return self._raw.replace(
            rows, columns, self._stamp, self._window, self._scope, replaced_key=self._terms.replaced_key
        )

    def _land_whole(self) -> Landed:
        """Land all good rows in one scan, and look for the others only if rows are missing."""
        reading, had_rows, faulty = self._reading, self._raw.has_rows(self._terms.scope), None
        if self._terms.is_careful:
            faulty = self._collect()
        is_first = not self._raw.has_rows(self._scope)
        count = self._write_good(faulty)
        landed = count.added + count.unchanged
        if faulty is None and not _is_all(reading, landed):
            # Of a file that landed for the first time, all good rows are there now, with its numbers.
            is_known = is_first and holds_all(self._table, self._window)
            faulty = self._collect(self._raw.numbers(self._stamp) if is_known else None)
        first, last = self._span() if self._terms.needs_span else (None, None)
        return self._account(count, landed, faulty, had_rows, first, last)

    def _land_part(self) -> Landed:
        """Read it all, then land the good rows of the window."""
        reading, had_rows, faulty = self._reading, self._raw.has_rows(self._terms.scope), None
        survey = _survey(self._con, self._table, reading)
        if survey.bad or survey.rejected:
            faulty = self._collect()
        change = self._write_good(faulty)
        return self._account(
            change, survey.rows - survey.bad, faulty, had_rows, survey.first_event, survey.last_event
        )

    def _collect(self, good: str | None = None) -> Faulty:
        return collect(self._con, self._table, self._reading, self._reading.header_lines + 1, good)

    def _write_good(self, faulty: Faulty | None) -> Change:
        """Land the readable rows of the window."""
        is_rejecting = faulty is not None and faulty.refused > 0
        rows = self._reading.rows("rejecting" if is_rejecting else "strict")
        good = (
            f"select * from ({rows}) where not _gw_skip and not {bad_row(self._table)} and {self._in_window}"
        )
        change = self._write(good, faulty.shift if faulty is not None else "_gw_n")
        if is_rejecting:
            self._reading.forget_rejects(self._con)
        return change

    def _account(
        self, change: Change, good: int, faulty: Faulty | None, had_rows: bool,
        first: datetime | None, last: datetime | None,
    ) -> Landed:  # fmt: skip
        """Check that every row landed or is in quarantine, and that there are rows.

        Raises:
            IngestFault: Rows are missing, too many are unreadable, or an emptied file would remove all rows.
        """
        reading, terms = self._reading, self._terms
        bad = 0 if faulty is None else faulty.faulty
        _check_all_read(reading, good + bad)
        first_line = reading.header_lines + 1
        if faulty is not None:
            check_share(self._con, self._table, reading.label, faulty, good + bad, first_line)
        if not good + bad and not terms.may_be_empty and not (terms.is_one_of_many and not had_rows):
            found = "no rows, where it had rows before" if had_rows else "no rows"
            raise IngestFault(reading.label, found, "at least one (an empty delivery would remove all rows)")
        newly = self._quarantine.put(
            self._stamp, faulty, first_line, self._quarantine_scope(), keep=bool(terms.replaced_key)
        )
        return Landed(change, good + bad, bad, newly, first, last)

    def _quarantine_scope(self) -> str:
        """A condition on the quarantine table: the rows that those of this delivery replace."""
        event = EventTime.of(self._table)
        if event is None or self._window is None or not self._terms.holds_only_window:
            return self._terms.scope
        day = replace(event, column="partition_day", kind="date")
        return f"{self._terms.scope} and ({day.is_outside} or {day.within(self._window)})"

    def _span(self) -> tuple[datetime | None, datetime | None]:
        event = EventTime.of(self._table)
        if event is None:
            return (None, None)
        first, last = self._con.execute(
            f"select min({event.instant}), max({event.instant}) from {self._raw.relation} where {self._scope}"
        ).fetchall()[0]
        return (_utc(first), _utc(last))


def _threads(con: duckdb.DuckDBPyConnection, number: int | None) -> AbstractContextManager[None]:
    """Fewer threads for a while: DuckDB's idle main thread spins while another one works."""
    return nullcontext() if number is None else _setting(con, "threads", str(number))


def _quickly_planned(con: duckdb.DuckDBPyConnection, reading: Reading) -> AbstractContextManager[None]:
    """Without an optimizer that takes most of the time of a statement over many columns."""
    is_wide = len(reading.columns) > _WIDE
    return _setting(con, "disabled_optimizers", "common_subexpressions") if is_wide else nullcontext()


@contextmanager
def _setting(con: duckdb.DuckDBPyConnection, name: str, value: str) -> Iterator[None]:
    """Another value of a setting for a while."""
    # A session beside the transaction: in one that has failed nothing can be set.
    with con.cursor() as session:
        usual = session.execute(f"select current_setting({literal(name)})").fetchall()[0][0]
        session.execute(f"set {name} = {literal(value)}")
        try:
            yield
        finally:
            session.execute(f"set {name} = {literal(str(usual))}")


@dataclass(frozen=True)
class _Survey:
    rows: int
    bad: int
    rejected: int
    first_event: datetime | None
    last_event: datetime | None


def _survey(con: duckdb.DuckDBPyConnection, table: Table, reading: Reading) -> _Survey:
    """Read the whole delivery once and keep nothing but counts."""
    # Hashing every column keeps DuckDB from skipping the columns that nothing else asks for.
    everything = ", ".join(map(identifier, reading.columns))
    event, bad = EventTime.of(table), bad_row(table)
    # Rows outside every partition may be beyond the range of Python's datetime.
    instant = "null::timestamptz" if event is None else f"if({bad}, null, {event.instant})"
    query = (
        f"select count(*), count(*) filter ({bad}), min({instant}), max({instant}), "
        f"bit_xor(hash({everything})) from ({reading.rows('rejecting')}) where not _gw_skip"
    )
    with _threads(con, 1 if reading.is_numbered_by_scan else None):
        rows, bad, first, last, _ = con.execute(query).fetchall()[0]
    rejected = reading.rejected(con)
    reading.forget_rejects(con)
    return _Survey(rows, bad, rejected, _utc(first), _utc(last))


def _utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _check_all_read(reading: Reading, rows: int) -> None:
    """Every line of the file must be accounted for: DuckDB drops some it cannot read without a word.

    Raises:
        IngestFault: Lines are neither rows, nor unreadable rows, nor blank, nor inside quoted text.
    """
    if not _is_all(reading, rows):
        found = f"{rows:,} rows in {reading.expected_rows(exactly=True):,} lines (a broken line?)"
        raise IngestFault(reading.label, found, "every line to belong to a row")


def _is_all(reading: Reading, rows: int) -> bool:
    """Whether ``rows`` is the number of rows of the delivery, as far as its bytes show."""
    return reading.expected_rows() in {None, rows} or reading.expected_rows(exactly=True) == rows
