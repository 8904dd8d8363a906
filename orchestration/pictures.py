"""Pictures in the metadata of assets.

What belongs here: what every room that draws needs, so that all pictures look alike. What does not: what is
drawn.
"""

import base64
import io
from typing import Any

INK, QUIET, GRID = "#1f2933", "#7b8794", "#e4e7eb"
LINES = ("#2f6690", "#c8452f", "#7b8794")


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches; matplotlib takes long to import and is imported now."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Any, title: str) -> None:
    """A title on the left, a quiet grid, no frame."""
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=QUIET, labelsize=8)
    for side in axes.spines.values():
        side.set_visible(False)


def as_png(figure: Any) -> bytes:
    """The figure as a PNG, the same bytes each time."""
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


def as_markdown_image(png: bytes, alternative: str) -> str:
    """The picture inside markdown, as a data address."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"
