"""Pictures of a model: how it learned, and how often its scores come true.

What belongs here: drawing. What does not: the numbers (``training``, ``statistics``).
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

_INK, _QUIET, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_LINES = ("#2f6690", "#c8452f", "#7b8794")


def _figure(title: str) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(6.4, 4), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=_QUIET, labelsize=8)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


def learning_curve_png(curve: Mapping[str, Any]) -> bytes:
    """Log loss after each round, on the rows trained on and on validation; the best round is marked.

    Args:
        curve: ``train`` and ``validation``, a loss a round, and ``best``, the number of the best round.
    """
    figure, axes = _figure("Log loss by round")
    for name, colour in zip(("train", "validation"), _LINES, strict=False):
        rounds = range(1, len(curve[name]) + 1)
        axes.plot(rounds, curve[name], color=colour, linewidth=1.6, label=name)
    axes.axvline(curve["best"], color=_QUIET, linewidth=1, linestyle=":")
    axes.set_xlabel("round", fontsize=9, color=_QUIET)
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK)
    return _png(figure)


def calibration_png(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> bytes:
    """Share of positives over mean score, a line for each model; on the diagonal scores are right.

    Args:
        curves: Mean scores and shares of positives by the model's name.
    """
    figure, axes = _figure("Share of positives by score")
    top = max(max([*scores, *shares]) for scores, shares in curves.values()) * 1.05
    axes.plot([0, top], [0, top], color=_QUIET, linewidth=1, linestyle=":")
    for (name, (scores, shares)), colour in zip(curves.items(), _LINES, strict=False):
        axes.plot(scores, shares, color=colour, linewidth=1.6, marker="o", markersize=3.5, label=name)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("mean score", fontsize=9, color=_QUIET)
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK)
    return _png(figure)


def weeks_png(
    title: str,
    series: Mapping[str, tuple[Sequence[Any], Sequence[float]]],
    marked: Sequence[Any],
) -> bytes:
    """A number by week, a line for each way that a model was trained.

    Args:
        title: What the number is.
        series: Instants and values by name; the last is drawn strongest.
        marked: Instants that a dotted line marks.
    """
    figure, axes = _figure(title)
    for at in marked:
        axes.axvline(at, color=_QUIET, linewidth=0.8, linestyle=":")
    colours = ("#b8c2cc", "#e0a458", "#2f6690", "#c8452f")
    for number, (name, (instants, values)) in enumerate(series.items()):
        last = number == len(series) - 1
        axes.plot(
            instants, values, color=colours[number % len(colours)], linewidth=2.0 if last else 1.4, label=name
        )
    figure.autofmt_xdate(rotation=0, ha="center")
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK)
    return _png(figure)
