"""Pictures of a model: how it learned, and how often its scores come true.

What belongs here: drawing. What does not: the numbers (``training``, ``statistics``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.pictures import INK, LINES, QUIET, as_png, new_figure, style_axes


def _figure(title: str) -> tuple[Any, Any]:
    figure = new_figure(6.4, 4)
    axes = figure.add_subplot()
    style_axes(axes, title)
    return figure, axes


def learning_curve_png(curve: Mapping[str, Any]) -> bytes:
    """Log loss after each round, on the rows trained on and on validation; the best round is marked.

    Args:
        curve: ``train`` and ``validation``, a loss a round, and ``best``, the number of the best round.
    """
    figure, axes = _figure("Log loss by round")
    for name, colour in zip(("train", "validation"), LINES, strict=False):
        rounds = range(1, len(curve[name]) + 1)
        axes.plot(rounds, curve[name], color=colour, linewidth=1.6, label=name)
    axes.axvline(curve["best"], color=QUIET, linewidth=1, linestyle=":")
    axes.set_xlabel("round", fontsize=9, color=QUIET)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return as_png(figure)


def calibration_png(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> bytes:
    """Share of positives over mean score, a line for each model; on the diagonal scores are right.

    Args:
        curves: Mean scores and shares of positives by the model's name.
    """
    figure, axes = _figure("Share of positives by score")
    top = max(max([*scores, *shares]) for scores, shares in curves.values()) * 1.05
    axes.plot([0, top], [0, top], color=QUIET, linewidth=1, linestyle=":")
    for (name, (scores, shares)), colour in zip(curves.items(), LINES, strict=False):
        axes.plot(scores, shares, color=colour, linewidth=1.6, marker="o", markersize=3.5, label=name)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("mean score", fontsize=9, color=QUIET)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return as_png(figure)
