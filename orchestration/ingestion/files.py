"""A run over a source of files: find the deliveries, find the new ones, and land them.

What belongs here: the run's transaction over all files that can land, and the refusal of the others.
What does not: how one file lands.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import duckdb

from orchestration.declarations import Table
from orchestration.ingestion.contract import reading_version
from orchestration.ingestion.delivery import Delivery, check_unchanged, deliver, unpack
from orchestration.ingestion.faults import IngestFault, faults_of, faults_of_lakehouse
from orchestration.ingestion.landing import Landed, Terms, Untidy, land
from orchestration.ingestion.landing_log import Landing, LandingLog, covers
from orchestration.ingestion.quarantine import SCHEMA
from orchestration.ingestion.raw_table import RawTable, Stamp, StoredTypeFault
from orchestration.ingestion.readers import Parts, read_csv, read_jsonl, read_parquet
from orchestration.ingestion.reading import Reading
from orchestration.ingestion.uris import Item, Place, folder_pattern, has_suffix, local_items, path_parts
from orchestration.lakehouse import LakehouseResource, current_snapshot, row_count
from orchestration.lakehouse.tables import relation
from orchestration.partitions import Window
from orchestration.settings import Settings
from orchestration.sql import literal


class Reader(Protocol):
    """Reads one format."""

    def __call__(
        self, con: duckdb.DuckDBPyConnection, table: Table, path: Path, label: str, parts: Parts = ()
    ) -> Reading:
        """The rows of a file, as SQL."""
        ...


READERS: dict[str, Reader] = {
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
            try:
                rows = con.execute(f"select file from glob({literal(pattern)}) order by 1").fetchall()
            except duckdb.Error as error:
                raise ConnectionError(f"{place.label}: {str(error).splitlines()[0]}") from error
        is_folder = place.address.endswith("/")
        names = [name for (name,) in rows if not is_folder or has_suffix(name, ingest)]
        found = [Item(name, name, path_parts(place, name)) for name in names]
    elif place.scheme == "local":
        found = local_items(place, ingest)
    else:
        found = [Item(place.address, place.label)]
    if not found:
        raise IngestFault(f"{run.declared_at}.uri", f"{place.label}, with no file", "at least one")
    return found


class RefusedFilesFault(IngestFault):
    """Some files of a source were refused; the others have landed.

    Args:
        source: Where the source is declared.
        refused: The errors of the refused files.
        outcome: What the run did with the other files.
    """

    def __init__(self, source: str, refused: Sequence[IngestFault], outcome: "Outcome") -> None:
        self.outcome = outcome
        others = len(outcome.landings) + len(outcome.unchanged)
        lines = "".join(f"\n  {fault}" for fault in refused[:20])
        more = f"\n  and {len(refused) - 20:,} more" if len(refused) > 20 else ""
        files = "file" if len(refused) == 1 else "files"
        metadata = refused[0].metadata | {"refused_files": len(refused), "other_files": others}
        super().__init__(
            source, f"{len(refused):,} refused {files} (see ops.landings), {others:,} others that are in the "
            f"lakehouse:{lines}{more}\n", "each file to be readable as declared", metadata,
        )  # fmt: skip


@dataclass
class _Refusal(Exception):
    """The file at ``index`` cannot land: the transaction is rolled back and restarted without it."""

    index: int
    fault: IngestFault


@dataclass(frozen=True)
class _RefusedFile:
    label: str
    sha256: str | None
    fault: IngestFault


class FileRun:
    """Lands the deliveries of a source of files; all that can land do so in one transaction."""

    def __init__(self, run: Run, place: Place, folder: Path) -> None:
        self._run = run
        self._place = place
        self._folder = folder
        self._plain: dict[str, Path] = {}
        self._careful: set[str] = set()
        self._refused: list[_RefusedFile] = []
        self._labels: set[str] = set()

    def land(self) -> Outcome:
        """Land the new deliveries; a refused file does not stop the others.

        Raises:
            IngestFault: A file cannot be landed as declared; every other file has landed.
            StorageError: The disk is full or the lakehouse cannot be written to; files landed before stay.
            ConnectionError: The network failed.
        """
        run, outcome = self._run, Outcome()
        todo = self._deliveries()
        count = len(todo) + len(self._refused)
        self._labels = {*(d.label for d in todo), *(r.label for r in self._refused)}
        while todo:
            try:
                self._write(todo, outcome)
                break
            except _Refusal as refusal:
                delivery = todo[refusal.index]
                self._refused.append(_RefusedFile(delivery.label, delivery.sha256, refusal.fault))
                # The files before it can land: they did in the transaction that was rolled back.
                if refusal.index:
                    self._write(todo[: refusal.index], outcome)
                todo = todo[refusal.index + 1 :]
        if self._refused:
            self._record_refusals()
            if count == 1:
                raise self._refused[0].fault
            raise RefusedFilesFault(run.declared_at, [r.fault for r in self._refused], outcome)
        return outcome

    def _deliveries(self) -> list[Delivery]:
        """The files on the local disk."""
        found = []
        for item in items(self._run, self._place):
            try:
                with faults_of(item.label):
                    found.append(deliver(item, self._place, self._run.settings, self._folder))
            except IngestFault as fault:
                self._refused.append(_RefusedFile(item.label, None, fault))
        return found

    def _write(self, deliveries: Sequence[Delivery], outcome: Outcome) -> None:
        """Land deliveries, all or nothing, and add the result to an outcome."""
        run = self._run
        while True:
            try:
                with faults_of_lakehouse(f"lake.{run.table.schema}.{run.table.name}"):
                    done = run.lakehouse.write(
                        lambda con: self._transaction(con, deliveries),
                        lambda con, done: count_totals(con, run, done),
                    )
            except Untidy:
                # At most once per file: from then on the file is read carefully.
                continue
            outcome.landings += done.landings
            outcome.unchanged += done.unchanged
            outcome.gone, outcome.totals = done.gone, done.totals
            return

    def _transaction(self, con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> Outcome:
        con.execute("set preserve_insertion_order = true")
        run, outcome = self._run, Outcome()
        version = reading_version(run.table)
        log = LandingLog(con, run.table.name, version)
        # A run may need several transactions: its own landings do not make its rows late.
        landed = tuple(log.landed(before_run=run.run_id))
        now = log.next_landing_at(datetime.now(UTC))
        outcome.gone = sorted(log.files() - self._labels) if self._place.is_many else []
        for index, delivery in enumerate(deliveries):
            known = log.known(
                delivery.label, delivery.sha256, run.window, is_only_file=not self._place.is_many
            )
            if known is not None and known.is_covered:
                outcome.unchanged.append((delivery.label, delivery.sha256))
                continue
            terms = Terms(
                scope=f"_source_uri = {literal(delivery.label)}" if self._place.is_many else "true",
                is_careful=delivery.label in self._careful,
                # The rows of an empty file are counted each time: it may have had some since.
                is_verified=known is not None and not known.quarantined and known.file_rows > 0,
                needs_span=self._place.is_many and run.window is not None,
                is_one_of_many=self._place.is_many,
            )
            stamp = Stamp(
                delivery.label, delivery.sha256, now, run.run_id, run.now, landed,
                is_reread=known is not None and known.is_reread,
            )  # fmt: skip
            try:
                result = self._land(con, delivery, stamp, terms)
            except Untidy:
                self._careful.add(delivery.label)
                raise
            except StoredTypeFault:
                raise
            except IngestFault as fault:
                raise _Refusal(index, fault) from fault
            landing = Landing(
                source=run.table.name, source_uri=delivery.label, sha256=delivery.sha256, window=run.window,
                file_rows=result.file_rows, rows=result.change.added, removed=result.change.removed,
                unchanged=result.change.unchanged, quarantined=result.quarantined,
                first_event=result.first_event, last_event=result.last_event, landed_at=now,
                run_id=run.run_id, reading=version,
            )  # fmt: skip
            log.record(landing)
            outcome.landings.append(landing)
        is_done = outcome.landings or self._refused
        if not is_done and run.window is not None and not covers(landed, run.window):
            log.record(Landing(run.table.name, run.window, now, run.run_id, version))
        return outcome

    def _land(self, con: duckdb.DuckDBPyConnection, delivery: Delivery, stamp: Stamp, terms: Terms) -> Landed:
        run = self._run
        with faults_of(delivery.label, delivery.path):
            path = self._unpacked(delivery)
        with faults_of(delivery.label, path):
            reader = READERS[run.table.ingest.format]
            reading = reader(con, run.table, path, delivery.label, delivery.parts)
            result = land(con, run.table, reading, stamp, run.window, terms)
            check_unchanged(delivery)
        return result

    def _unpacked(self, delivery: Delivery) -> Path:
        if delivery.label not in self._plain:
            run = self._run
            self._plain[delivery.label] = unpack(delivery, run.table.ingest, self._folder)
        return self._plain[delivery.label]

    def _record_refusals(self) -> None:
        """Add each refused file to the log of landings, unless its newest entry says the same."""
        run = self._run
        version = reading_version(run.table)

        def work(con: duckdb.DuckDBPyConnection) -> None:
            log = LandingLog(con, run.table.name, version)
            now = log.next_landing_at(datetime.now(UTC))
            for file in self._refused:
                landing = Landing(
                    run.table.name, run.window, now, run.run_id, version, file.label, file.sha256,
                    refused=str(file.fault),
                )  # fmt: skip
                if not log.repeats_newest(landing):
                    log.record(landing)

        with faults_of_lakehouse("lake.ops.landings"):
            run.lakehouse.write(work)
