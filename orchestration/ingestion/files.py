"""A run of a source of files: which deliveries there are, which of them are new, and landing those.

What belongs here: the run's one transaction over all files. What does not: how one file lands.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from orchestration.declarations import Table
from orchestration.ingestion.contract import reading_version
from orchestration.ingestion.delivery import Delivery, check_unchanged, deliver, unpack
from orchestration.ingestion.faults import IngestFault
from orchestration.ingestion.landing import Terms, Untidy, land
from orchestration.ingestion.landing_log import Landing, LandingLog, covers
from orchestration.ingestion.quarantine import SCHEMA
from orchestration.ingestion.raw_table import RawTable, Stamp
from orchestration.ingestion.readers import read_csv, read_jsonl, read_parquet
from orchestration.ingestion.reading import Reading
from orchestration.ingestion.uris import Item, Place, folder_pattern, has_suffix, local_items
from orchestration.lakehouse import LakehouseResource, current_snapshot, row_count
from orchestration.lakehouse.tables import relation
from orchestration.partitions import Window
from orchestration.settings import Settings
from orchestration.sql import literal

READERS: dict[str, Callable[[duckdb.DuckDBPyConnection, Table, Path, str], Reading]] = {
    "csv": read_csv,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
}


@dataclass(frozen=True)
class Run:
    """One materialization of a source."""

    table: Table
    settings: Settings
    lakehouse: LakehouseResource
    run_id: str
    window: Window | None
    now: datetime
    """The platform's clock."""

    @property
    def declared_at(self) -> str:
        """Where the source's ingestion is declared."""
        return f"{self.table.file}: sources.{self.table.name}.config.meta.ingest"


@dataclass(frozen=True)
class Totals:
    """What the source's tables hold after a run."""

    snapshot: int
    rows: int
    rows_in_window: int
    quarantined: int


@dataclass
class Outcome:
    """What a run did, file by file."""

    landings: list[Landing] = field(default_factory=list)
    unchanged: list[tuple[str, str]] = field(default_factory=list)
    """Deliveries that had landed before: label and SHA-256."""
    gone: list[str] = field(default_factory=list)
    totals: Totals | None = None

    def total(self, what: str) -> int:
        """A count of all landings."""
        return sum(getattr(landing, what) for landing in self.landings)


def count_totals(con: duckdb.DuckDBPyConnection, run: Run, outcome: Outcome) -> None:
    """Add to an outcome what the tables hold now."""
    table = run.table
    in_window = RawTable(con, table).in_window(run.window)
    rows = row_count(con, table.schema, table.name)
    within = rows
    if run.window is not None:
        query = f"select count(*) from {relation(table.schema, table.name)} where {in_window}"
        within = int(con.execute(query).fetchall()[0][0])
    held = row_count(con, SCHEMA, table.name)
    outcome.totals = Totals(current_snapshot(con), rows, within, held)


@contextmanager
def temporary_folder(settings: Settings) -> Iterator[Path]:
    """A folder for one run's copies, removed at the end."""
    settings.tmp_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="landing-", dir=settings.tmp_dir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def items(run: Run, place: Place) -> list[Item]:
    """The files of a place.

    Raises:
        IngestFault: There is none.
    """
    ingest = run.table.ingest
    if place.scheme == "s3" and place.is_many:
        pattern = folder_pattern(place)
        with run.lakehouse.get_connection() as con:
            con.execute("load httpfs")
            con.execute(run.lakehouse.attachment.s3_secret_sql())
            names = [
                r[0] for r in con.execute(f"select file from glob({literal(pattern)}) order by 1").fetchall()
            ]
        is_folder = place.address.endswith("/")
        found = [Item(n, n) for n in names if not is_folder or has_suffix(n, ingest)]
    elif place.scheme == "local":
        found = local_items(place, ingest)
    else:
        found = [Item(place.address, place.label)]
    if not found:
        raise IngestFault(f"{run.declared_at}.uri", f"{place.label}, with no file", "at least one")
    return found


class FileRun:
    """Lands the deliveries of a source of files."""

    def __init__(self, run: Run, place: Place, folder: Path) -> None:
        self._run = run
        self._place = place
        self._folder = folder
        self._plain: dict[str, Path] = {}
        self._careful_from: int | None = None

    def land(self) -> Outcome:
        """Land what is new, all of it or nothing.

        Raises:
            IngestFault: A delivery cannot be landed as declared.
            ConnectionError: The network failed.
        """
        run = self._run
        deliveries = [
            deliver(item, self._place, run.settings, self._folder) for item in items(run, self._place)
        ]
        while True:
            try:
                return run.lakehouse.write(
                    lambda con: self._transaction(con, deliveries),
                    lambda con, outcome: count_totals(con, run, outcome),
                )
            except Untidy:
                # Every file from the untidy one on is taken carefully, so that this happens once.
                continue

    def _transaction(self, con: duckdb.DuckDBPyConnection, deliveries: list[Delivery]) -> Outcome:
        con.execute("set preserve_insertion_order = true")
        run, outcome = self._run, Outcome()
        version = reading_version(run.table)
        log = LandingLog(con, run.table.name, version)
        landed = tuple(log.landed())
        now = log.next_landing_at(datetime.now(UTC))
        labels = {d.label for d in deliveries}
        outcome.gone = sorted(log.files() - labels) if self._place.is_many else []
        for index, delivery in enumerate(deliveries):
            known = log.known(delivery.label, delivery.sha256, run.window)
            if known is not None and known.is_covered:
                outcome.unchanged.append((delivery.label, delivery.sha256))
                continue
            terms = Terms(
                scope=f"_source_uri = {literal(delivery.label)}" if self._place.is_many else "true",
                is_careful=self._careful_from is not None and index >= self._careful_from,
                is_verified=known is not None and not known.is_reread and not known.quarantined,
                needs_span=self._place.is_many and run.window is not None,
            )
            stamp = Stamp(
                delivery.label, delivery.sha256, now, run.run_id, run.now, landed,
                is_reread=known is not None and known.is_reread,
            )  # fmt: skip
            reading = READERS[run.table.ingest.format](
                con, run.table, self._unpacked(delivery), delivery.label
            )
            try:
                result = land(con, run.table, reading, stamp, run.window, terms)
            except Untidy:
                self._careful_from = index
                raise
            check_unchanged(delivery)
            landing = Landing(
                source=run.table.name, source_uri=delivery.label, sha256=delivery.sha256, window=run.window,
                file_rows=result.file_rows, rows=result.change.added, removed=result.change.removed,
                unchanged=result.change.unchanged, quarantined=result.quarantined,
                first_event=result.first_event, last_event=result.last_event, landed_at=now,
                run_id=run.run_id, reading=version,
            )  # fmt: skip
            log.record(landing)
            outcome.landings.append(landing)
        if not outcome.landings and run.window is not None and not covers(landed, run.window):
            log.record(Landing(run.table.name, run.window, now, run.run_id, version))
        return outcome

    def _unpacked(self, delivery: Delivery) -> Path:
        if delivery.label not in self._plain:
            run = self._run
            self._plain[delivery.label] = unpack(delivery, run.table.ingest, self._folder, run.declared_at)
        return self._plain[delivery.label]
