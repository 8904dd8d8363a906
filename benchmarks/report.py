"""The table that the benchmarks print."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

GIB = 1024**3


class MissingError(RuntimeError):
    """A program that a comparison needs is not there; the message says which and where it comes from."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    ``ratio`` is ours over theirs and ``limit`` the most it may be; or how many times better ours is, where
    ``at_least`` says that ``limit`` is the least. None for a limit: only measured.
    """

    what: str
    ours: str
    theirs: str
    ratio: float
    limit: float | None
    unit: str = "x"
    at_least: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether the limit was met; None without one."""
        if self.limit is None:
            return None
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit


_MET = {True: "yes", False: "NO", None: ""}


def show(rows: Sequence[Row], missing: Sequence[str] = ()) -> None:
    """Print the comparisons, whether each limit was met, and what could not be measured."""
    table = Table(title="Groundwork against the same work done otherwise", title_justify="left")
    for heading in ("what", "Groundwork", "alternative", "ratio", "limit", "met"):
        table.add_column(heading, justify="right" if heading in ("ratio", "limit") else "left")
    for row in rows:
        sign = ">=" if row.at_least else "<="
        limit = "" if row.limit is None else f"{sign} {row.limit:g}"
        table.add_row(row.what, row.ours, row.theirs, f"{row.ratio:.3g} {row.unit}", limit, _MET[row.is_met])
    console = Console(width=160)
    console.print(table)
    for message in missing:
        console.print(f"NOT MEASURED: {message}", markup=False)
