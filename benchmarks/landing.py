"""Landing a CSV file compared with DuckDB's own ``read_csv`` into a table, rows a second."""

import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import duckdb

from benchmarks.report import Row
from orchestration.declarations import DeclaredColumn, Ingest, Table, TableMeta
from orchestration.ingestion.assets import land_source
from orchestration.ingestion.files import Run
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Settings
from orchestration.sql import identifier, literal

TYPES = ("integer", "double", "varchar", "timestamptz")
SHAPES = {"8 columns": (8, 200_000), "500 columns": (500, 2_000), "2,000 columns": (2_000, 500)}
BAD = 100
"""One row of so many has a cell that cannot be read."""
BAD_LIMIT = 2.0


def _columns(width: int) -> dict[str, str]:
    return {f"c{i}": TYPES[i % len(TYPES)] for i in range(width)}


def _write(path: Path, width: int, rows: int, *, is_bad: bool) -> None:
    values = ("{0}", "{0}.5", "name {0}", "2024-01-01T00:00:00Z")
    line = ",".join(values[i % len(TYPES)] for i in range(width))
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(_columns(width)) + "\n")
        for number in range(rows):
            text = line.format(number)
            file.write(("x" + text if is_bad and number % BAD == BAD - 1 else text) + "\n")


def _bare(path: Path, width: int) -> float:
    types = ", ".join(f"{literal(n)}: {literal(t)}" for n, t in _columns(width).items())
    with duckdb.connect(str(path.with_suffix(".duckdb"))) as con:
        con.execute("set timezone = 'UTC'")
        started = time.perf_counter()
        con.execute(
            f"create or replace table landed as from read_csv({literal(str(path))}, header = true, "
            f"columns = {{{types}}}, auto_detect = false)"
        )
        return time.perf_counter() - started


def _ours(path: Path, width: int, number: int) -> float:
    settings = Settings(
        data_dir=path.parent / f"lake-{path.stem}-{number}", dbt_project_dir=path.parent / "dbt"
    )
    columns = tuple(DeclaredColumn(n, t, identifier(n), "internal") for n, t in _columns(width).items())
    ingest = Ingest(uri=str(path), format="csv", primary_key=("c0",), max_quarantined_share=0.5)
    table = Table(
        "source.bench.raw.wide", "raw", "raw", "wide", "", "", columns, (),
        TableMeta(owner="team:bench", ingest=ingest), (),
    )  # fmt: skip
    lakehouse = LakehouseResource.from_settings(settings)
    with lakehouse.kept_open():
        lakehouse.open().close()
        started = time.perf_counter()
        land_source(Run(table, settings, lakehouse, "bench", None, datetime.now(UTC)))
        return time.perf_counter() - started


def run(place: Path, *, repeats: int) -> list[Row]:
    """Clean files and files with bad rows, narrow and wide."""
    found = []
    place.mkdir(parents=True, exist_ok=True)
    for name, (width, rows) in SHAPES.items():
        clean, bad = (place / f"{width}-{kind}.csv" for kind in ("clean", "bad"))
        _write(clean, width, rows, is_bad=False)
        _write(bad, width, rows, is_bad=True)
        bare = median(_bare(clean, width) for _ in range(repeats))
        ours = median(_ours(clean, width, number) for number in range(repeats))
        faulty = median(_ours(bad, width, number) for number in range(repeats))
        text, slower = f"{rows / ours:,.0f} rows/s", f"{rows / faulty:,.0f} rows/s"
        other = f"{rows / bare:,.0f} rows/s: bare read_csv into a table"
        found.append(Row(f"land {rows:,} rows, {name}", text, other, ours / bare, None))
        found.append(Row("1% of rows unreadable", slower, f"{text}: none", faulty / ours, BAD_LIMIT))
    return found
