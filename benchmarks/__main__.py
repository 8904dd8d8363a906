"""``make bench``: us and the alternative, side by side in one run, as ratios."""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from benchmarks import concurrency, day, graph, join, online, parity, promotion, stock
from benchmarks.report import Row, show

PARTS: dict[str, Callable[..., list[Row]]] = {
    "graph": graph.run,
    "stock": stock.run,
    "day": day.run,
    "join": join.run,
    "online": online.run,
    "parity": parity.run,
    "concurrency": concurrency.run,
    "promotion": promotion.run,
}


@click.command()
@click.option("--copies", default=1, show_default=True, help="How many times the shipped flights (graph).")
@click.option("--repeats", default=3, show_default=True, help="How often each side runs.")
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
    """Measure WHICH comparisons; all of them by default."""
    with tempfile.TemporaryDirectory(prefix="groundwork-bench-") as temporary:
        place = (folder or Path(temporary)).absolute()
        walk = partial(parity.run, days=days, moments=moments, start=start.replace(tzinfo=UTC), lake=lake)
        parts = PARTS | {"graph": partial(graph.run, copies=copies), "parity": walk}
        parts["concurrency"] = partial(concurrency.run, seconds=seconds)
        rows = [row for name in which or parts for row in parts[name](place, repeats=repeats)]
    if rows:
        show(rows)


if __name__ == "__main__":
    main()
