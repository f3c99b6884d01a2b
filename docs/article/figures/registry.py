"""The list of figures, and what they are made of: panels, tables, curves, photographs."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convjax.draw import Drawing
from convjax.draw.scene import Item, Path, Picture, Rect, Text, bounds, fitted, moved


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        number: as the list of the article's figures has it, such as "F15".
        section: of the article, such as "6".
        draw: makes the `Drawing`.
        moving: whether its picture shows all steps.
    """

    number: str
    section: str
    draw: Callable[[], Drawing]
    moving: bool = False

    @property
    def title(self) -> str:
        """What it shows, in one line."""
        return (self.draw.__doc__ or "").splitlines()[0]


FIGURES: dict[str, Figure] = {}


def figure(number: str, section: str, moving: bool = False) -> Callable[[Any], Any]:
    """Enter a function into the list."""

    def enter(draw: Callable[[], Drawing]) -> Callable[[], Drawing]:
        FIGURES[number] = Figure(number, section, draw, moving)
        return draw

    return enter


def beside(title: str, *drawings: Drawing, columns: int = 0, gap: float = 10) -> Drawing:
    """Several still drawings in one, in rows of `columns` (all in one row by default)."""
    columns = columns or len(drawings)
    items: list[Item] = []
    down = 0.0
    for start in range(0, len(drawings), columns):
        row = drawings[start : start + columns]
        right = tall = 0.0
        for drawing in row:
            items += moved(drawing.scene.at(), right, down)
            right += drawing.scene.width + gap
            tall = max(tall, drawing.scene.height)
        down += tall + gap
    words = " ".join(drawing.scene.described() for drawing in drawings)
    return Drawing(fitted(title, words, items), details=[drawing.details for drawing in drawings])


def table(
    title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], words: str = ""
) -> Drawing:
    """Words and numbers in columns."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    wide = [max(len(row[c]) for row in cells) * 8.4 + 26 for c in range(len(head))]
    items: list[Item] = []
    for number, row in enumerate(cells):
        y, x = 30.0 * number, 0.0
        role = "plate" if number % 2 else "page"
        items.append(Rect(0, y, sum(wide), 30, role if number else "face", radius=0))
        for width, cell in zip(wide, row, strict=True):
            items.append(Text(x + 12, y + 20, cell, "ink", 13, "start", bold=not number))
            x += width
    said = ". ".join(", ".join(row) for row in cells)
    return Drawing(fitted(title, words or said, items), details=rows)


def axes(
    curves: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    *,
    width: float = 420,
    height: float = 220,
    across: str = "",
    upward: str = "",
    limits: tuple[float, float] | None = None,
    points: bool = False,
) -> list[Item]:
    """Curves (name, x, y) in a frame with a few ticks, each named at its end."""
    xs, ys = (np.concatenate([np.asarray(c[n], float) for c in curves]) for n in (1, 2))
    low, high = limits or (min(ys.min(), 0.0), ys.max())
    first, last = xs.min(), xs.max()

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            (x - first) / ((last - first) or 1) * width,
            height - (y - low) / ((high - low) or 1) * height,
        )

    items: list[Item] = [Path(((0, 0), (0, height), (width, height)), "axis")]
    for share in (0.0, 0.5, 1.0):
        x, y = first + share * (last - first), low + share * (high - low)
        items.append(Text(share * width, height + 18, f"{x:.3g}", "quiet", 11))
        items.append(Text(-8, height - share * height + 4, f"{y:.3g}", "quiet", 11, "end"))
    ends: list[float] = []
    for number, (name, x, y) in enumerate(curves):
        line = tuple(at(float(a), float(b)) for a, b in zip(x, y, strict=True))
        items.append(Path(line, f"curve-{number % 4}"))
        for px, py in line if points else ():
            items.append(
                Rect(px - 2.5, py - 2.5, 5, 5, "bar" if number % 2 == 0 else "bar-2", radius=2)
            )
        end = line[-1][1]
        while any(abs(end - other) < 14 for other in ends):
            end += 14
        ends.append(end)
        items.append(Text(width + 8, end + 4, name, "ink", 12, "start"))
    items.append(Text(width / 2, height + 38, across, "quiet", 12))
    if upward:
        items.append(Text(-44, height / 2, upward, "quiet", 12, rotated=True))
    return items


def plot(title: str, curves: Sequence[tuple[str, Any, Any]], words: str, **options: Any) -> Drawing:
    """A chart of curves; see `axes`."""
    return Drawing(fitted(title, words, axes(curves, **options)), details=curves)


@functools.cache
def photograph(size: int = 128) -> np.ndarray:
    """A photograph that scikit-learn brings along, (size, size, 3) in 0..1."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    whole = load_sample_image("flower.jpg")[20:420, 120:520]
    return np.asarray(Image.fromarray(whole).resize((size, size)), np.float32) / 255


def pictures(
    title: str,
    named: Sequence[tuple[str, np.ndarray]],
    words: str,
    side: float = 170,
    columns: int = 0,
) -> Drawing:
    """Images (H, W, 3), uint8, side by side, each with its name above it."""
    items: list[Item] = []
    columns = columns or len(named)
    for number, (name, image) in enumerate(named):
        row, column = divmod(number, columns)
        x, y = column * (side + 16), row * (side + 34)
        items.append(Text(x, y, name, "quiet", 12, "start"))
        smooth = image.shape[0] >= 64
        items.append(
            Picture(x, y + 8, side, side * image.shape[0] / image.shape[1], image, name, smooth)
        )
    return Drawing(fitted(title, words, items), details=[image for _, image in named])


def grey(values: Any, low: float | None = None, high: float | None = None) -> np.ndarray:
    """A matrix as a grey image, from its least to its largest value."""
    values = np.asarray(values, float)
    low, high = values.min() if low is None else low, values.max() if high is None else high
    shade = np.clip((values - low) / ((high - low) or 1), 0, 1)
    return np.repeat(np.round(shade * 255).astype(np.uint8)[..., None], 3, axis=-1)


def below(items: Sequence[Item], *lines: str) -> list[Item]:
    """The items, with lines of words below them."""
    left, _, _, bottom = bounds(items)
    said = [
        Text(left, bottom + 24 + 18 * row, line, "ink", 13, "start")
        for row, line in enumerate(lines)
    ]
    return [*items, *said]
