"""A source, a lakehouse and a landing: what the ingestion tests stand on."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from orchestration.declarations import Declarations, DeclaredColumn, Ingest, Partition, Table, TableMeta
from orchestration.ingestion.assets import land_source
from orchestration.ingestion.files import Outcome, Run
from orchestration.lakehouse import LakehouseResource
from orchestration.partitions import Window, day_window
from orchestration.settings import Clock, Settings

READINGS = {"id": "integer", "at": "timestamptz", "name": "varchar"}
PARTITION = Partition(frequency="daily", start=date(2024, 1, 1), end=date(2024, 1, 11))


def source_table(
    columns: dict[str, str], *, name: str = "readings", classified: str | None = None, **ingest: Any
) -> Table:
    """A declared source table; ``classified`` is the name of its confidential column."""
    ingest.setdefault("primary_key", (next(iter(columns)),))
    return Table(
        unique_id=f"source.test.raw.{name}",
        layer="raw",
        schema="raw",
        name=name,
        description="Readings of a gauge.",
        file="models/raw/sources.yml",
        columns=tuple(
            DeclaredColumn(n, t, f"The {n}.", "confidential" if n == classified else "internal")
            for n, t in columns.items()
        ),
        tags=(),
        meta=TableMeta(owner="team:operators", ingest=Ingest(**ingest)),
        upstream=(),
    )


def days(first: int, last: int | None = None) -> Window:
    """A window of days of January 2024."""
    return Window(
        day_window(PARTITION, date(2024, 1, first)).start,
        day_window(PARTITION, date(2024, 1, last or first)).end,
    )


ALL = days(1, 10)


@dataclass
class Ground:
    """A folder with deliveries and an empty lakehouse."""

    root: Path
    clock: Clock = field(default_factory=lambda: Clock(datetime(2024, 2, 1, tzinfo=UTC)))
    settings: Settings = field(init=False)
    lakehouse: LakehouseResource = field(init=False)
    runs: int = 0
    _reader: duckdb.DuckDBPyConnection | None = None

    def __post_init__(self) -> None:
        self.use(duckdb_threads=1)

    def use(self, **settings: Any) -> None:
        """Other settings than the usual ones."""
        self.settings = Settings(
            data_dir=self.root / "data", dbt_project_dir=self.root / "dbt_project", **settings
        )
        self.lakehouse = LakehouseResource.from_settings(self.settings)
        self.close()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def put(self, name: str, content: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def land(self, table: Table, window: Window | None = None, at: datetime | None = None) -> Outcome:
        self.runs += 1
        now = at or self.clock.now()
        run = Run(table, self.settings, self.lakehouse, f"run-{self.runs}", window, now)
        return land_source(run)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        # One reader for a whole test: opening one costs more than most questions.
        self._reader = self._reader or self.lakehouse.open(read_only=True)
        return self._reader.execute(query).fetchall()

    def rows(self, columns: str = "* exclude (_source_uri, _source_sha256, _ingested_at, _run_id, _late_at)",
             table: str = "readings") -> list[tuple[Any, ...]]:  # fmt: skip
        return self.ask(f"select {columns} from raw.{table} order by _source_uri, _row_number")

    def quarantine(self, table: str = "readings") -> list[tuple[Any, ...]]:
        return self.ask(
            f"select line, column_name, reason, raw_text from quarantine.{table} order by _source_uri, line"
        )

    def declarations(self, *tables: Table) -> Declarations:
        return Declarations({t.unique_id: t for t in tables})

    def csv(self, columns: dict[str, str] | None = None, uri: str = "in.csv", **ingest: Any) -> Table:
        return source_table(columns or READINGS, uri=uri, format="csv", **ingest)

    def daily(self, uri: str = "in.csv", **ingest: Any) -> Table:
        return self.csv(uri=uri, event_time="at", partition=PARTITION, **ingest)
