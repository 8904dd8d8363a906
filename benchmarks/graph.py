"""The whole graph: Groundwork against loading by hand, bare ``dbt build`` and bare Soda."""

from pathlib import Path

from benchmarks.generate import SHIPPED, generate_flights
from benchmarks.report import GIB, Row
from benchmarks.timing import Measured
from benchmarks.workspace import Workspace
from orchestration.declarations import LAYERS
from orchestration.settings import PROJECT_DIR

_COMPARABLE = 'not (group:serving or group:model or group:predictions or key:"datasets/*"{})'
"""What the tools by hand make too: all but the online store, dataset versions and what models do."""
_LARGE = ' or key:"training/*"'
"""Left out on both sides beyond the shipped rows: that join takes more memory than DuckDB gets by default."""


def _bare(side: Workspace, flights: str, *, is_large: bool) -> tuple[Measured, str]:
    load = side.python("-m", "benchmarks.bare", "load", str(side.root / "data"), flights, log="load")
    left_out = ("--exclude", "path:models/training") if is_large else ()
    build = side.dbt("build", "--exclude-resource-type", "unit_test", *left_out)
    contracts = [
        PROJECT_DIR / "soda_checks" / layer for layer in LAYERS if not is_large or layer != "training"
    ]
    soda = side.python(
        "-m", "benchmarks.bare", "soda", str(side.root / "data"), *map(str, contracts), log="soda"
    )
    parts = f"load {load.seconds:.1f} s + dbt build {build.seconds:.1f} s + Soda {soda.seconds:.1f} s"
    return load + build + soda, parts


def run(folder: Path, *, copies: int, repeats: int) -> list[Row]:
    """Both sides in turn, ``repeats`` times, each on an empty lakehouse with its caches warm."""
    many = None if copies == 1 else generate_flights(folder, copies=copies)
    flights = str(SHIPPED / "flights.csv.zip") if many is None else f"{many}/*.csv"
    compared = ("--select", _COMPARABLE.format(_LARGE if many else ""))
    ours = Workspace(folder / f"groundwork-{copies}x", many).prepare()
    bare = Workspace(folder / f"bare-{copies}x", many).prepare()
    ours.python("-c", "from orchestration.definitions import defs; defs()", log="parse")
    bare.dbt("parse")
    if repeats > 1:  # Dagster's own tables are made once in the life of a project.
        ours.groundwork(*compared)
    pairs = []
    for _ in range(repeats):
        ours.drop_lake()
        bare.drop_lake()
        pairs.append((ours.groundwork(*compared), *_bare(bare, flights, is_large=many is not None)))
    best = min(mine.seconds for mine, _, _ in pairs)
    mine, other, parts = next(pair for pair in pairs if pair[0].seconds == best)
    other = min((theirs for _, theirs, _ in pairs), key=lambda m: m.seconds)
    rows = 336_776 * copies
    limit = 1.25 if copies == 1 else 1.1
    return [
        Row(
            f"whole graph, {rows:,} flights",
            f"{mine.seconds:.1f} s",
            f"{other.seconds:.1f} s ({parts})",
            mine.seconds / other.seconds,
            limit,
        ),
        Row(
            f"peak memory, {rows:,} flights",
            f"{mine.peak_bytes / GIB:.2f} GiB",
            f"{other.peak_bytes / GIB:.2f} GiB",
            mine.peak_bytes / (4e9),
            1.0,
            "of 4 GB",
        ),
    ]
