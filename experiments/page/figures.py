"""Pictures of the page as data URIs: photographs, enlarged pixels, charts with estimates."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from convjax.draw.charts import DARK, LIGHT, Theme, coloured, png
from experiments.page.report import Picture
from experiments.page.verdicts import Estimate


def photo(label: str, values: Any, width: int = 256) -> Picture:
    """A photograph (H, W, 3) or (H, W) with values in 0..1; others are clipped."""
    return _picture(label, _bytes(values), width, pixelated=False)


def response(label: str, values: Any, width: int = 256) -> Picture:
    """Signed values (H, W) in colours: zero is near black, the strongest 1 % are full colour."""
    limit = float(np.percentile(np.abs(values), 99))
    return _picture(label, _bytes(coloured(values, limit)), width, pixelated=False)


def pixels(label: str, values: Any, width: int = 256, signed: bool = False) -> Picture:
    """A small picture (or signed values), every element of which is to be seen as a square."""
    values = coloured(values) if signed else values
    return _picture(label, _bytes(values), width, pixelated=True)


def chart(
    label: str, draw: Callable[[Axes, Theme], None], width: int = 380, height: int = 260
) -> Picture:
    """What `draw(axes, theme)` draws, once for light pages and once for dark ones."""
    light, dark = (_data_uri(png(draw, theme, width, height), "png") for theme in (LIGHT, DARK))
    return Picture(label, light, width, dark)


def errors(axes: Axes, x: Sequence[float], each: Sequence[Estimate], **style: Any) -> None:
    """Draw estimates at `x`, each with its interval if it has one; `style` is of ``errorbar``."""
    half = [e.half or 0 for e in each]
    style = {"marker": "o", "capsize": 3, "markersize": 4, **style}
    axes.errorbar(x, [e.mean for e in each], half, **style)


def intervals(axes: Axes, theme: Theme, found: Mapping[str, tuple[float, float | None]]) -> None:
    """A named row for every mean, with half of its interval; the first one on top."""
    for row, (mean, half) in enumerate(found.values()):
        axes.errorbar(mean, -row, xerr=half or 0, fmt="o", color=theme.two, capsize=3)
    axes.set_yticks([-row for row in range(len(found))], list(found))
    axes.set_ylim(0.6 - len(found), 0.6)
    axes.grid(axis="x")


def _bytes(values: Any) -> np.ndarray:
    return np.round(np.clip(np.asarray(values, float), 0, 1) * 255).astype(np.uint8)


def _picture(label: str, values: np.ndarray, width: int, pixelated: bool) -> Picture:
    image = Image.fromarray(values)
    if pixelated or values.size < 2**13:
        return Picture(label, _uri(image, "png", optimize=True), width, pixelated=True)
    return Picture(label, _uri(image, "jpeg", quality=88, subsampling=0, optimize=True), width)


def _uri(image: Image.Image, form: str, **options: Any) -> str:
    data = io.BytesIO()
    image.save(data, format=form, **options)
    return _data_uri(data.getvalue(), form)


def _data_uri(data: bytes, form: str) -> str:
    return f"data:image/{form};base64,{base64.b64encode(data).decode()}"
