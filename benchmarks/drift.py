"""How often drift is called on simulated windows of known truth: where there is none, and where there is.

Columns are normal. Rows are independent, or half of their variance is their day's, as with weather, and a day
may be like the one before. A window of no drift is drawn as the reference is; in one of drift the first
column is moved by so many standard deviations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.report import Row
from orchestration.declarations import DriftWatch
from orchestration.learning.profile import ColumnProfile, profile_number
from orchestration.learning.statistics.persistence import persistence
from orchestration.monitoring.counting import Counted, reference_counts
from orchestration.monitoring.drift import compare_columns
from orchestration.monitoring.shift import chi_square

Floats = NDArray[np.float64]

COLUMNS = 20
REFERENCE_DAYS = 200
SIZES = ((7, 150), (14, 150), (14, 500))
SHIFTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
FEWER = 5
"""Of windows of drift there are so many times fewer."""
RULES = ("alarm", "days as unrelated", "index alone", "test of rows alone")


@dataclass(frozen=True)
class World:
    """How rows are drawn: days share the part ``weather`` of their variance; ``lasting`` is how a day's share
    goes with that of the day before."""

    weather: float
    lasting: float
    dice: np.random.Generator

    def draw(self, columns: int, days: int, rows: int) -> Floats:
        """Values, columns by days by rows, of variance 1."""
        day = self.dice.normal(size=(columns, days, 1))
        for n in range(1, days):
            day[:, n] = self.lasting * day[:, n - 1] + (1 - self.lasting**2) ** 0.5 * day[:, n]
        day *= self.weather**0.5
        return np.asarray(day + self.dice.normal(size=(columns, days, rows)) * (1 - self.weather) ** 0.5)

    def reference(self, rows: int, length: int) -> tuple[list[ColumnProfile], dict[str, float]]:
        """Profiles of days of the same kind, and how much the days hang together in runs of ``length``."""
        profiles, hanging = [], {}
        days = np.repeat(np.arange(REFERENCE_DAYS), rows)
        for n, values in enumerate(self.draw(COLUMNS, REFERENCE_DAYS, rows)):
            profiles.append(profile_number(f"c{n}", values.ravel()))
            places = np.searchsorted(profiles[n].edges, values.ravel(), side="left")
            hanging[f"c{n}"] = persistence(places, days, length)
        return profiles, hanging


def counted(profile: ColumnProfile, values: Floats) -> Counted:
    """A column's values, days by rows, counted by the bins of its profile."""
    days, bins = len(values), len(profile.counts)
    place = np.searchsorted(profile.edges, values, side="left") + np.arange(days)[:, None] * (bins + 1)
    counts = np.bincount(place.ravel(), minlength=days * (bins + 1)).reshape(days, -1)
    return Counted(counts.astype(np.float64), 0)


def called(
    world: World,
    profiles: list[ColumnProfile],
    hanging: Mapping[str, float],
    days: int,
    rows: int,
    shift: float,
    watch: DriftWatch,
) -> tuple[bool, ...]:
    """Whether each rule calls drift in a window: in any column if none has moved, else in that one."""
    values = world.draw(COLUMNS, days, rows)
    values[0] += shift
    counts = {p.name: counted(p, v) for p, v in zip(profiles, values, strict=True)}
    by_name = {p.name: p for p in profiles}
    asked, unrelated = (
        [
            c
            for c in compare_columns(by_name, counts, {}, watch, told).columns
            if shift == 0 or c.column_name == "c0"
        ]
        for told in (hanging, None)
    )
    together = {
        p.name: c.by_day.sum(axis=0, keepdims=True) for p, c in zip(profiles, counts.values(), strict=True)
    }
    by_rows = (
        chi_square(reference_counts(p), together[p.name])[1] for p in profiles if shift == 0 or p.name == "c0"
    )
    return (
        any(column.alarm for column in asked),
        any(column.alarm for column in unrelated),
        any(column.psi >= watch.psi for column in asked),
        any(p_value * COLUMNS < watch.significance for p_value in by_rows),
    )


def simulated(windows: int, seed: int = 1) -> Iterator[tuple[str, int, int, float, Floats]]:
    """Kind of rows, days, rows a day, shift, and the share of windows in which each rule calls drift."""
    watch = DriftWatch()
    for kind, weather, lasting in (
        ("independent", 0.0, 0.0),
        ("half of the day", 0.5, 0.0),
        ("half of the day, 0.3", 0.5, 0.3),
        ("half of the day, 0.5", 0.5, 0.5),
        ("half of the day, 0.7", 0.5, 0.7),
    ):
        for days, rows in SIZES:
            world = World(weather, lasting, np.random.default_rng(seed))
            profiles, hanging = world.reference(rows, days)
            for shift in SHIFTS:
                count = windows // FEWER if shift else windows
                hits = [called(world, profiles, hanging, days, rows, shift, watch) for _ in range(count)]
                yield kind, days, rows, shift, np.mean(hits, axis=0)


def run(folder: Path, *, repeats: int, windows: int = 300) -> list[Row]:
    """Print the table; it needs no folder, and windows are its repeats."""
    del folder, repeats
    table = Table(
        title=f"Drift called in windows of {COLUMNS} simulated columns: in any of them in {windows} "
        f"windows of no shift, else in the one that moved, in {windows // FEWER}",
        title_justify="left",
    )
    for heading in ("rows", "window", "shift, sd", *RULES):
        table.add_column(heading, justify="right")
    for kind, days, rows, shift, shares in simulated(windows):
        table.add_row(kind, f"{days} days of {rows}", f"{shift:g}", *(f"{share:.1%}" for share in shares))
    Console(width=130).print(table)
    return []
