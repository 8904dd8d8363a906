"""``make bench``: us and the alternative, side by side in one run, as ratios."""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from benchmarks import against_feast, day, graph, join, online, server, stock
from benchmarks.report import MissingError, Row, show

PARTS: dict[str, Callable[..., list[Row]]] = {
    "graph": graph.run,
    "stock": stock.run,
    "day": day.run,
    "join": join.run,
    "online": online.run,
    "server": server.run,
    "feast": against_feast.run,
}


@click.command()
@click.option("--copies", default=1, show_default=True, help="How many times the shipped flights (graph).")
@click.option(
    "--repeats",
    default=1,
    show_default=True,
    help="How often a slow side runs; quick ones run thrice as often.",
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work; default: a temporary folder.")
@click.argument("which", nargs=-1, type=click.Choice(list(PARTS)))
def main(copies: int, repeats: int, folder: Path | None, which: tuple[str, ...]) -> None:
    """Measure WHICH comparisons; all of them by default."""
    with tempfile.TemporaryDirectory(prefix="groundwork-bench-") as temporary:
        place = (folder or Path(temporary)).absolute()
        parts = PARTS | {"graph": partial(graph.run, copies=copies)}
        rows: list[Row] = []
        missing = []
        for name in which or parts:
            click.echo(f"measuring {name}", err=True)
            try:
                rows += parts[name](place, repeats=repeats)
            except MissingError as absent:
                missing.append(f"{name}: {absent}")
        show(rows, missing)
    if missing:
        sys.exit(1)


if __name__ == "__main__":
    main()
