"""The table that the benchmarks print."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

GIB = 1024**3


@dataclass(frozen=True)
class Row:
    """One comparison: ``ratio`` is ours over theirs, ``limit`` the most it may be."""

    what: str
    ours: str
    theirs: str
    ratio: float
    limit: float
    unit: str = "x"


def show(rows: Sequence[Row]) -> None:
    """Print the comparisons; a ratio above its limit is marked."""
    table = Table(title="Groundwork against the same work done by hand", title_justify="left")
    for heading in ("what", "Groundwork", "alternative", "ratio", "limit"):
        table.add_column(heading, justify="left" if heading in ("what", "alternative") else "right")
    for row in rows:
        mark = "" if row.ratio <= row.limit else "  over"
        table.add_row(row.what, row.ours, row.theirs, f"{row.ratio:.2f} {row.unit}{mark}", f"{row.limit:.2f}")
    Console(width=150).print(table)
