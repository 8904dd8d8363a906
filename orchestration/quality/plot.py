"""The picture of the quality report: scores over time, by dimension and by table.

What belongs here: drawing. What does not: where the numbers come from (``history``).
"""

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from orchestration.declarations import LAYERS
from orchestration.quality.history import Score

_INK, _QUIET, _GRID, _LINE = "#1f2933", "#7b8794", "#e4e7eb", "#2f6690"
_CELLS = ("#c8452f", "#eeb84f", "#dcebdd", "#8cc09a")
_WRITTEN = 16
"""Up to so many runs the cells have room for their numbers."""


def percent(scores: Sequence[Score]) -> float:
    """The score of several scores together."""
    return 100 * sum(s.passed for s in scores) / sum(s.weight for s in scores)


def by(scores: Sequence[Score], key: Callable[[Score], str]) -> dict[str, dict[datetime, float]]:
    """Percent by a key and instant."""
    groups: dict[str, dict[datetime, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        groups[key(score)][score.at].append(score)
    return {name: {at: percent(found) for at, found in points.items()} for name, points in groups.items()}


def _dimension_panel(axes: Any, name: str, points: dict[int, float], runs: int, low: float) -> None:
    x = sorted(points)
    values = [points[i] for i in x]
    axes.fill_between(x, values, low, color=_LINE, alpha=0.12, linewidth=0)
    axes.plot(x, values, color=_LINE, linewidth=1.8)
    axes.plot(x[-1:], values[-1:], color=_LINE, marker="o", markersize=5)
    axes.set_title(name, loc="left", color=_QUIET, fontsize=9)
    axes.text(
        0, 1.32, f"{values[-1]:.1f}".removesuffix(".0"), transform=axes.transAxes, fontsize=17, color=_INK
    )
    axes.set_xlim(-0.5, runs - 0.5 + 0.01)
    axes.set_ylim(low, 100 + (100 - low) * 0.1)
    axes.set_yticks([low, 100])
    axes.set_xticks([])
    axes.grid(axis="y", color=_GRID)


def _cells_panel(axes: Any, scores: Sequence[Score], instants: Sequence[datetime]) -> None:
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415

    tables = by(scores, lambda s: f"{s.layer}/{s.table}")
    order = list(dict.fromkeys(f"{s.layer}/{s.table}" for s in _in_layer_order(scores)))
    cells = [[tables[name].get(at, float("nan")) for at in instants] for name in order]
    colours = LinearSegmentedColormap.from_list("score", _CELLS)
    axes.imshow(cells, aspect="auto", cmap=colours, vmin=70, vmax=100, interpolation="nearest")
    axes.set_yticks(range(len(order)), order)
    step = max(1, len(instants) // 8)
    shown = list(range(0, len(instants), step))
    axes.set_xticks(shown, [f"{instants[i]:%d %b\n%H:%M}" for i in shown])
    axes.set_xticks([i - 0.5 for i in range(1, len(instants))], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, len(order))], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    if len(instants) <= _WRITTEN:
        for row, values in enumerate(cells):
            for column, value in enumerate(values):
                if value < 100:
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=_INK)


def scores_png(scores: Sequence[Score]) -> bytes:
    """A PNG: a small line for each dimension, and below a row of cells for each table, a column a run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow, and only needed here
    from matplotlib.figure import Figure  # noqa: PLC0415

    instants = sorted({s.at for s in scores})
    column = {at: index for index, at in enumerate(instants)}
    lines = by(scores, lambda s: s.dimension)
    height = 0.3 * len({(s.layer, s.table) for s in scores}) + 0.3
    figure = Figure(figsize=(12, 2.6 + height), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, len(lines), height_ratios=[1.1, height])
    worst = min(value for points in lines.values() for value in points.values())
    low = min(90.0, 10 * (worst // 10))
    every = []
    for number, name in enumerate(sorted(lines)):
        axes = figure.add_subplot(grid[0, number])
        points = {column[at]: value for at, value in lines[name].items()}
        _dimension_panel(axes, name, points, len(instants), low)
        if number:
            axes.set_yticklabels([])
        every.append(axes)
    cells = figure.add_subplot(grid[1, :])
    _cells_panel(cells, scores, instants)
    cells.set_xlabel("end of run, UTC", fontsize=9, color=_QUIET)
    for axes in [*every, cells]:
        axes.tick_params(which="both", length=0, labelcolor=_QUIET, labelsize=8)
        for side in axes.spines.values():
            side.set_visible(False)
    cells.tick_params(axis="y", labelcolor=_INK, labelsize=9)
    figure.suptitle(
        "Share of checks passed, %  (a check that warns counts half)",
        x=0.005,
        ha="left",
        fontsize=11,
        color=_INK,
    )
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def _in_layer_order(scores: Sequence[Score]) -> list[Score]:
    return sorted(scores, key=lambda s: (LAYERS.index(s.layer), s.table))
