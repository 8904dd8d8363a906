"""The same dbt project through stock ``dagster-dbt``: its CLI subprocess, and its load time."""

import statistics
from pathlib import Path

from benchmarks.generate import SHIPPED
from benchmarks.report import Row
from benchmarks.timing import Measured
from benchmarks.workspace import Workspace
from orchestration.transformation import dbt_environment


def _environment(side: Workspace) -> dict[str, str]:
    return {
        **dbt_environment(side.settings),
        "DBT_TARGET_PATH": str(side.root / "target"),
        "DBT_LOG_PATH": str(side.root / "logs"),
    }


def _load(side: Workspace) -> None:
    side.drop_lake()
    data = str(side.root / "data")
    side.python("-m", "benchmarks.bare", "load", data, str(SHIPPED / "flights.csv.zip"), log="load")


def _median(measured: list[Measured]) -> float:
    return statistics.median(m.seconds for m in measured)


def run(folder: Path, *, repeats: int) -> list[Row]:
    """Build time of the dbt layers on the shipped data, then load time of the code location.

    Either side keeps its events where its instance has them by default: in SQLite files.
    """
    sides = [Workspace(folder / name).prepare() for name in ("our-layers", "stock-dagster-dbt")]
    ours, stock = sides
    ours.python("-c", "from orchestration.definitions import defs; defs()", log="parse")
    stock.dbt("parse")
    mine: list[Measured] = []
    theirs: dict[str, list[Measured]] = {"by day": [], "without partitions": []}
    for _ in range(repeats):
        _load(ours)
        mine.append(ours.python("-m", "benchmarks.our_layers", log="layers"))
        for kind, measured in theirs.items():
            _load(stock)
            history = stock.root / "dagster"
            history.mkdir(exist_ok=True)
            arguments = [str(history), *(["by-day"] if kind == "by day" else [])]
            measured.append(
                stock.python(
                    "-m", "benchmarks.stock_location", *arguments, log="stock", extra=_environment(stock)
                )
            )
    return [
        *(
            Row(
                f"dbt layers by day / stock dagster-dbt {kind}",
                f"{_median(mine):.1f} s",
                f"{_median(measured):.1f} s",
                _median(mine) / _median(measured),
                1.0 if kind == "by day" else None,
            )
            for kind, measured in theirs.items()
        ),
        *_load_time(ours, stock, repeats),
    ]


def _load_time(ours: Workspace, stock: Workspace, repeats: int) -> list[Row]:
    load = "repository = {}.get_repository_def(); repository.get_all_jobs()"
    mine, dagster, theirs = [], [], []
    for _ in range(repeats):
        mine.append(
            ours.python(
                "-c", f"from orchestration.definitions import defs; {load.format('defs()')}", log="load-ours"
            )
        )
        dagster.append(ours.python("-c", "import dagster", log="load-dagster"))
        theirs.append(
            stock.python(
                "-c",
                f"from benchmarks.stock_location import defs; {load.format('defs')}",
                log="load-stock",
                extra=_environment(stock),
            )
        )
    return [
        Row(
            f"code location loads / {name}",
            f"{_median(mine):.2f} s",
            f"{_median(other):.2f} s",
            _median(mine) / _median(other),
            limit,
        )
        for name, other, limit in (("import dagster", dagster, None), ("stock dagster-dbt", theirs, 1.0))
    ]
