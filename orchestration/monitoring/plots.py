"""Pictures of what was watched, over time.

What belongs here: drawing. What does not: the numbers (``tables``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestration.monitoring.bias import Bias
from orchestration.pictures import GRID, INK, LINES, QUIET, as_png, new_figure, style_axes

_CELLS = ("#f2f5f7", "#dcebdd", "#eeb84f", "#c8452f")
_MOST_COLUMNS = 25


def drift_png(points: Mapping[str, Mapping[datetime, tuple[float, bool]]], limit: float) -> bytes:
    """A row of cells for each column, a cell a window: the deeper, the further; alarms have a dot.

    Args:
        points: Stability index and alarm by column, in the order in which to show them, and window's end.
        limit: The index from which on it is an alarm.
    """
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415

    names = list(points)[:_MOST_COLUMNS]
    ends = sorted({end for told in points.values() for end in told})
    figure = new_figure(9, 1.2 + 0.24 * len(names))
    axes = figure.add_subplot()
    cells = [[points[name].get(end, (float("nan"), False))[0] for end in ends] for name in names]
    colours = LinearSegmentedColormap.from_list("drift", _CELLS)
    shown = axes.imshow(cells, aspect="auto", cmap=colours, vmin=0, vmax=2 * limit, interpolation="nearest")
    dots = [
        (x, y)
        for y, name in enumerate(names)
        for x, e in enumerate(ends)
        if points[name].get(e, (0, False))[1]
    ]
    if dots:
        axes.plot(*zip(*dots, strict=True), linestyle="", marker="o", markersize=3, color=INK)
    style_axes(
        axes, f"Population stability index by window; a dot is an alarm (at least {limit:g}, and sure)"
    )
    axes.grid(visible=False)
    axes.set_yticks(range(len(names)), names, color=INK)
    step = max(1, len(ends) // 10)
    axes.set_xticks(range(0, len(ends), step), [f"{end:%d %b}" for end in ends[::step]])
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelcolor=QUIET, labelsize=8)
    return as_png(figure)


@dataclass(frozen=True)
class Point:
    """A metric of a window: value, low and high of each kind; None where it was not told."""

    end: datetime
    estimated: tuple[float, float | None, float | None] | None
    realised: tuple[float, float | None, float | None] | None
    expected: float | None


def performance_png(lines: Mapping[str, Sequence[Point]]) -> bytes:
    """For each metric the estimate, what was realised and what was expected, over the windows' ends."""
    figure = new_figure(9, 2.6 * len(lines))
    for number, (metric, points) in enumerate(lines.items()):
        axes = figure.add_subplot(len(lines), 1, number + 1)
        style_axes(axes, metric)
        for kind, colour in zip(("estimated", "realised"), LINES, strict=False):
            told = [(p.end, getattr(p, kind)) for p in points if getattr(p, kind) is not None]
            ends = [end for end, _ in told]
            axes.plot(
                ends,
                [v[0] for _, v in told],
                color=colour,
                linewidth=1.6,
                marker="o",
                markersize=3,
                label=kind,
            )
            known = [(end, v[1], v[2]) for end, v in told if v[1] is not None]
            if known:
                axes.fill_between(*zip(*known, strict=True), color=colour, alpha=0.15, linewidth=0)
        expected = [(p.end, p.expected) for p in points if p.expected is not None]
        if expected:
            axes.step(
                *zip(*expected, strict=True), where="post", color=QUIET, linestyle=":", label="expected"
            )
        axes.legend(
            frameon=False, fontsize=8, labelcolor=INK, ncols=3, loc="lower right", bbox_to_anchor=(1, 1)
        )
        _dates(axes)
    return as_png(figure)


def bias_png(found: Sequence[Bias]) -> bytes:
    """The gap of each group to all others with its interval, a panel a rate; limits dotted, alarms red."""
    metrics = list(dict.fromkeys(bias.metric for bias in found))
    groups = list(dict.fromkeys((bias.group_column, bias.group_value) for bias in found))[:_MOST_COLUMNS]
    figure = new_figure(2.4 * len(metrics) + 1, 1.2 + 0.24 * len(groups))
    for number, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), number + 1)
        style_axes(axes, metric.replace("_", " "))
        axes.axvline(0, color=QUIET, linewidth=1)
        for bias in found:
            if bias.metric == metric and (bias.group_column, bias.group_value) in groups:
                y = -groups.index((bias.group_column, bias.group_value))
                colour = LINES[1] if bias.alarm else LINES[0]
                if bias.gap_low is not None and bias.gap_high is not None:
                    axes.plot([bias.gap_low, bias.gap_high], [y, y], color=colour, linewidth=1.4)
                axes.plot([bias.gap], [y], marker="o", markersize=4, color=colour)
        limit = next((b.limit for b in found if b.metric == metric and b.limit is not None), None)
        for edge in () if limit is None else (-limit, limit):
            axes.axvline(edge, color=LINES[1], linewidth=1, linestyle=":")
        shown = [f"{column}={value}" for column, value in groups] if number == 0 else [""] * len(groups)
        axes.set_yticks([-n for n in range(len(groups))], shown)
        axes.set_facecolor("white")
        axes.grid(color=GRID)
    return as_png(figure)


def _dates(axes: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415

    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
