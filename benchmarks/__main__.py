"""``make bench``: us and the alternative, side by side in one run, as ratios."""

import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from benchmarks import (
    against_feast,
    concurrency,
    day,
    drift,
    graph,
    join,
    landing,
    monitoring,
    online,
    parity,
    predict,
    promotion,
    scoring,
    server,
    stock,
    triggers,
)
from benchmarks.report import MissingError, Row, show

PARTS: dict[str, Callable[..., list[Row]]] = {
    "graph": graph.run,
    "stock": stock.run,
    "day": day.run,
    "landing": landing.run,
    "join": join.run,
    "online": online.run,
    "server": server.run,
    "feast": against_feast.run,
    "predict": predict.run,
    "parity": parity.run,
    "concurrency": concurrency.run,
    "promotion": promotion.run,
    "drift": drift.run,
    "monitoring": monitoring.run,
    "triggers": triggers.run,
    "scoring": scoring.run,
}
LONG = frozenset({"parity", "concurrency", "promotion", "drift", "triggers"})
"""Parts that run only by name: a year by moments, a minute of clients a store, simulated worlds."""
DEFAULT = [name for name in PARTS if name not in LONG]


@click.command()
@click.option("--copies", default=1, show_default=True, help="How many times the shipped flights (graph).")
@click.option(
    "--repeats",
    default=1,
    show_default=True,
    help="How often a slow side runs; quick ones run thrice as often.",
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work; default: a temporary folder.")
@click.option("--days", default=365, show_default=True, help="How many days to walk through (parity).")
@click.option("--moments", default=1, show_default=True, help="How many moments of each day (parity).")
@click.option(
    "--start", type=click.DateTime(["%Y-%m-%d"]), default="2013-01-01", help="The first day (parity)."
)
@click.option(
    "--lake",
    type=click.Path(path_type=Path),
    help="Data folder of a finished run (parity); default: one is made.",
)
@click.option("--seconds", default=60.0, show_default=True, help="How long clients ask (concurrency).")
@click.argument("which", nargs=-1, type=click.Choice(list(PARTS)))
def main(
    copies: int,
    repeats: int,
    folder: Path | None,
    days: int,
    moments: int,
    start: datetime,
    lake: Path | None,
    seconds: float,
    which: tuple[str, ...],
) -> None:
    """Measure WHICH comparisons; by default all but parity, concurrency, promotion, drift and triggers."""
    with tempfile.TemporaryDirectory(prefix="groundwork-bench-") as temporary:
        place = (folder or Path(temporary)).absolute()
        walk = partial(parity.run, days=days, moments=moments, start=start.replace(tzinfo=UTC), lake=lake)
        parts = PARTS | {"graph": partial(graph.run, copies=copies), "parity": walk}
        parts["concurrency"] = partial(concurrency.run, seconds=seconds)
        rows: list[Row] = []
        missing = []
        for name in which or DEFAULT:
            click.echo(f"measuring {name}", err=True)
            try:
                rows += parts[name](place, repeats=repeats)
            except MissingError as absent:
                missing.append(f"{name}: {absent}")
        if rows or missing:
            show(rows, missing)
    if missing:
        sys.exit(1)


if __name__ == "__main__":
    main()
