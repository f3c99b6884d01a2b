"""Charts by matplotlib for light and dark pages: matrices, bars, frames. Needs the extra `draw`."""

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from PIL import Image

# Responses have a sign: blue is negative, near black is zero, orange is positive.
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#9fd8ff", "#2a7fc0", "#0c1118", "#d2691e", "#ffd9a0"]
)
DPI = 200  # of charts, whose sizes are given in pixels of the page (100 per inch)


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of a chart: page, ink, quiet ink, and three that stand for things."""

    page: str
    ink: str
    quiet: str
    one: str
    two: str
    three: str
    heat: Colormap

    @property
    def cycle(self) -> tuple[str, str, str]:
        return self.one, self.two, self.three


def _heat(*colours: str) -> Colormap:
    return LinearSegmentedColormap.from_list("heat", colours)


LIGHT = Theme(
    page="#ffffff",
    ink="#1d232b",
    quiet="#a9b2bd",
    one="#1f6fb2",
    two="#c8571b",
    three="#2f8f5b",
    heat=_heat("#f3f6f9", "#8dc0e8", "#1f6fb2", "#0b3a66"),
)
DARK = Theme(
    page="#181d24",
    ink="#e4e9ef",
    quiet="#5d6874",
    one="#6bb5f0",
    two="#f2955a",
    three="#6fce9c",
    heat=_heat("#222a33", "#1d5f99", "#58a9ea", "#d9eeff"),
)


def matrix(
    axes: Axes,
    theme: Theme,
    values: Any,
    *,
    left: float = 0,
    top: float = 0,
    numbers: bool = False,
    cmap: Any = None,
    limits: tuple[float, float] | None = None,
    size: float = 9,
) -> None:
    """Draw a matrix as coloured cells, the first one at (`left`, `top`); NaN is an empty cell.

    Several matrices on the same axes want the same `limits`, and axes limits set afterwards.
    """
    values = np.asarray(values, float)
    rows, columns = values.shape
    low, high = limits or (min(np.nanmin(values), 0.0), np.nanmax(values) or 1.0)
    edges = (left - 0.5, left + columns - 0.5, top + rows - 0.5, top - 0.5)
    drawn = axes.imshow(values, cmap=cmap or theme.heat, vmin=low, vmax=high, extent=edges)
    axes.set(xticks=[], yticks=[], aspect="equal")
    gap = max(0.3, min(1.2, 24 / max(rows, columns)))
    axes.hlines(np.arange(rows + 1) + top - 0.5, *edges[:2], theme.quiet, linewidth=gap)
    axes.vlines(np.arange(columns + 1) + left - 0.5, *edges[2:], theme.quiet, linewidth=gap)
    for (row, column), value in np.ndenumerate(values) if numbers else ():
        if not np.isnan(value):
            red, green, blue, _ = drawn.cmap(drawn.norm(value))
            dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.55
            ink = "#f5f8fb" if dark else "#11161c"
            at = (left + column, top + row)
            axes.text(*at, f"{value:g}", ha="center", va="center", color=ink, fontsize=size)
    for spine in axes.spines.values():
        spine.set_visible(False)


def frame(
    axes: Axes, theme: Theme, top: int, left: int, height: int, width: int, colour: str = ""
) -> None:
    """Outline the window of cells whose first is (`top`, `left`)."""
    box = Rectangle(
        (left - 0.5, top - 0.5),
        width,
        height,
        fill=False,
        edgecolor=colour or theme.two,
        linewidth=3,
        zorder=5,
        clip_on=False,
    )
    axes.add_patch(box)


def blocks(axes: Axes, theme: Theme, values: Any, groups: int) -> None:
    """Draw a matrix from 0 to its largest value, and outline `groups` diagonal blocks."""
    values = np.asarray(values, float)
    axes.imshow(values, cmap=theme.heat, vmin=0, vmax=values.max(), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    height, width = (n / groups for n in values.shape)
    for number in range(groups if groups > 1 else 0):
        corner = (number * width - 0.5, number * height - 0.5)
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=theme.two))
    for spine in axes.spines.values():
        spine.set_visible(False)


def bars(axes: Axes, theme: Theme, values: Any, colour: str) -> None:
    """Bars at 0, 1, 2, ..., each with its value on top."""
    axes.bar(range(len(values)), values, color=colour, width=0.86)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_ylim(0, max(values) * 1.2)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    for position, value in enumerate(values):
        axes.text(position, value, f"{value:g}", ha="center", va="bottom", fontsize=9)


def png(
    draw: Callable[[Axes, Theme], None], theme: Theme, width: int = 380, height: int = 260
) -> bytes:
    """What `draw(axes, theme)` draws, as a PNG file; sizes in pixels of the page, 100 an inch."""
    style = {
        "figure.facecolor": theme.page,
        "axes.facecolor": theme.page,
        "axes.edgecolor": theme.quiet,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.titlesize": 10,
        "axes.labelsize": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "grid.color": theme.quiet,
        "grid.alpha": 0.4,
        "font.family": "DejaVu Sans",
    }
    with matplotlib.rc_context(style):
        canvas = Canvas(figsize=(width / 100, height / 100), dpi=DPI, layout="constrained")
        draw(canvas.add_subplot(), theme)
        data = io.BytesIO()
        canvas.savefig(data, format="png")
    image = Image.open(data).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def coloured(values: Any, limit: float = 0.0) -> np.ndarray:
    """Signed values in the colours of `SIGNED`, (..., 3) in 0..1: zero is near black."""
    values = np.asarray(values, float)
    limit = limit or float(np.abs(values).max()) or 1.0
    return SIGNED(0.5 + 0.5 * np.clip(values / limit, -1, 1))[..., :3]
