"""Pictures of a replay.

What belongs here: drawing. What does not: the numbers (``report``).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from orchestration.pictures import INK, QUIET, as_png, new_figure, style_axes

_COLOURS = ("#b8c2cc", "#e0a458", "#2f6690", "#c8452f")


def weeks_png(
    title: str, series: Mapping[str, tuple[Sequence[datetime], Sequence[float]]], marked: Sequence[datetime]
) -> bytes:
    """A number by week, a line for each way in which a model was trained.

    Args:
        title: What the number is.
        series: Instants and values by name; the last is drawn strongest.
        marked: Instants that a dotted line marks.
    """
    figure = new_figure(9, 3.6)
    axes = figure.add_subplot()
    style_axes(axes, title)
    for at in marked:
        axes.axvline(at, color=QUIET, linewidth=0.8, linestyle=":")
    for number, (name, (instants, values)) in enumerate(series.items()):
        width = 2.0 if number == len(series) - 1 else 1.3
        axes.plot(instants, values, color=_COLOURS[number % len(_COLOURS)], linewidth=width, label=name)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=len(series))
    return as_png(figure)
