"""One day's partition after 30 days of history, and after 360."""

import statistics
from datetime import date, timedelta
from pathlib import Path

from benchmarks.report import Row
from benchmarks.workspace import Workspace

FIRST = date(2013, 1, 1)


def _day_after(folder: Path, days: int, repeats: int) -> float:
    side = Workspace(folder / f"after-{days}-days").prepare()
    side.groundwork("--from", str(FIRST), "--to", str(FIRST + timedelta(days=days - 1)))
    following = [FIRST + timedelta(days=days + n) for n in range(repeats)]
    return statistics.median(side.groundwork("--partition", str(day)).seconds for day in following)


def run(folder: Path, *, repeats: int) -> list[Row]:
    """The median of the days that follow a history loaded in one run."""
    short, long = (_day_after(folder, days, repeats) for days in (30, 360))
    return [
        Row("one day after 360 days / after 30", f"{long:.2f} s", f"{short:.2f} s", long / short, 1.2),
    ]
