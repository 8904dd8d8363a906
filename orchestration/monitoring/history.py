"""What was told of past windows, for pictures.

What belongs here: reading the tables back, in the form that pictures take. What does not: drawing
(``plots``).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import duckdb

from orchestration.monitoring.plots import Point
from orchestration.monitoring.tables import read_windows

SHOWN = timedelta(days=180)
"""How far back pictures reach."""


def drift_points(
    con: duckdb.DuckDBPyConnection, model: str, until: datetime
) -> dict[str, dict[datetime, tuple[float, bool]]]:
    """Stability index and alarm by column and window's end: score and label first, then by importance.

    Where two versions predicted in a window, the one that predicted more is shown.
    """
    columns = ("window_end", "column_name", "role", "psi", "alarm", "importance", "rows")
    told = read_windows(
        con, "drift", model, columns, since=until - SHOWN, until=until, where="psi is not null"
    )
    points: dict[str, dict[datetime, tuple[float, bool]]] = {}
    order: dict[str, tuple[int, float, str]] = {}
    most: dict[tuple[datetime, str], int] = {}
    for end, name, role, psi, alarm, importance, rows in told:
        if rows >= most.get((end, name), 0):
            most[end, name] = rows
            points.setdefault(name, {})[end] = (psi, alarm)
        order[name] = (0 if role != "feature" else 1, -(importance or 0.0), name)
    return {name: points[name] for name in sorted(points, key=order.__getitem__)}


def performance_points(
    con: duckdb.DuckDBPyConnection, model: str, metrics: Sequence[str], until: datetime
) -> dict[str, list[Point]]:
    """The windows of each metric over all rows; the version that predicted more stands for both."""
    kinds = ("estimated", "realised")
    columns = ["window_end", "metric", "rows", "expected"]
    columns += [f"{kind}{part}" for kind in kinds for part in ("", "_low", "_high")]
    told = read_windows(
        con, "performance", model, columns, since=until - SHOWN, until=until, where="slice = ''"
    )
    found: dict[str, dict[datetime, tuple[int, Point]]] = {metric: {} for metric in metrics}
    for end, metric, rows, expected, *values in told:
        if metric in found and rows >= found[metric].get(end, (0, None))[0]:
            estimated, realised = (
                None if v[0] is None else v for v in (tuple(values[:3]), tuple(values[3:]))
            )
            found[metric][end] = (rows, Point(end, estimated, realised, expected))
    return {metric: [point for _, point in points.values()] for metric, points in found.items() if points}
