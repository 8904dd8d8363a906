"""``make bench``: us and the alternative, side by side in one run, as ratios."""

import tempfile
from pathlib import Path

import click

from benchmarks import day, graph, join, stock
from benchmarks.report import Row, show


@click.command()
@click.option("--copies", default=1, show_default=True, help="How many times the shipped flights (graph).")
@click.option("--repeats", default=3, show_default=True, help="How often each side runs.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work; default: a temporary folder.")
@click.argument("which", nargs=-1, type=click.Choice(["graph", "stock", "day", "join"]))
def main(copies: int, repeats: int, folder: Path | None, which: tuple[str, ...]) -> None:
    """Measure WHICH comparisons; all of them by default."""
    with tempfile.TemporaryDirectory(prefix="groundwork-bench-") as temporary:
        place = (folder or Path(temporary)).absolute()
        rows: list[Row] = []
        for name in which or ("graph", "stock", "day", "join"):
            if name == "graph":
                rows += graph.run(place, copies=copies, repeats=repeats)
            elif name == "stock":
                rows += stock.run(place, repeats=repeats)
            elif name == "join":
                rows += join.run(place, repeats=repeats)
            else:
                rows += day.run(place, repeats=repeats)
        show(rows)


if __name__ == "__main__":
    main()
