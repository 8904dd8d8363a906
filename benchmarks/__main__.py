"""``make bench``: us and the alternative, side by side in one run, as ratios."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from benchmarks import day, graph, join, online, promotion, stock
from benchmarks.report import Row, show

PARTS: dict[str, Callable[..., list[Row]]] = {
    "graph": graph.run,
    "stock": stock.run,
    "day": day.run,
    "join": join.run,
    "online": online.run,
    "promotion": promotion.run,
}


@click.command()
@click.option("--copies", default=1, show_default=True, help="How many times the shipped flights (graph).")
@click.option("--repeats", default=3, show_default=True, help="How often each side runs.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work; default: a temporary folder.")
@click.argument("which", nargs=-1, type=click.Choice(list(PARTS)))
def main(copies: int, repeats: int, folder: Path | None, which: tuple[str, ...]) -> None:
    """Measure WHICH comparisons; all of them by default."""
    with tempfile.TemporaryDirectory(prefix="groundwork-bench-") as temporary:
        place = (folder or Path(temporary)).absolute()
        parts = PARTS | {"graph": partial(graph.run, copies=copies)}
        rows = [row for name in which or parts for row in parts[name](place, repeats=repeats)]
    if rows:
        show(rows)


if __name__ == "__main__":
    main()
