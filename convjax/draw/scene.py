"""What a picture is made of, before it is SVG or pixels: shapes and words, each with a role.

A role is a word such as "input" or "tap"; `convjax.draw.colours` says what each looks like on a
light and on a dark ground. A colour such as "#d55e00" is a role too, the same on both. Lengths are
pixels at scale 1, x to the right and y downward.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

FONT_WIDTH = 0.6  # of a letter, in font sizes: a little more than the average


@dataclasses.dataclass(frozen=True)
class Rect:
    """A rectangle; `key` names what it stands for ("tensor.flat index"), `name` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    role: str
    key: str = ""
    name: str = ""
    radius: float = 3

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclasses.dataclass(frozen=True)
class Text:
    """Words at (x, y), their baseline's start, middle or end; `rotated` by 90 degrees, or not."""

    x: float
    y: float
    words: str
    role: str = "ink"
    size: float = 14
    anchor: str = "middle"
    bold: bool = False
    rotated: bool = False

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom, by the average width of letters."""
        wide = FONT_WIDTH * self.size * len(self.words)
        if self.rotated:
            return self.x - self.size, self.y - wide / 2, self.x, self.y + wide / 2
        left = self.x - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        return left, self.y - self.size, left + wide, self.y + 0.3 * self.size


@dataclasses.dataclass(frozen=True)
class Path:
    """Lines through points, closed and filled or not; `arrow` puts a head on the last one."""

    points: tuple[tuple[float, float], ...]
    role: str
    closed: bool = False
    arrow: bool = False

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        across, down = zip(*self.points, strict=True)
        return min(across), min(down), max(across), max(down)


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """An image: `pixels` (H, W, 3), uint8, enlarged to a width and a height."""

    x: float
    y: float
    width: float
    height: float
    pixels: np.ndarray
    name: str
    smooth: bool = False
    role: str = "page"

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.x, self.y, self.x + self.width, self.y + self.height


Item = Rect | Text | Path | Picture


@dataclasses.dataclass(frozen=True)
class Frame:
    """What one step lays over the picture, and what it says of it in words."""

    items: tuple[Item, ...] = ()
    words: str = ""


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture, and the steps that move on it.

    Attributes:
        title: what it shows, in one line.
        words: the text alternative: what someone learns who does not see it.
        width, height: of the picture.
        items: what every step shows, the lowest first.
        frames: the steps; none for a picture that stands still.
        still: the step that a still picture shows.
        reads: for a player, per result the flat indices of what it reads, tensor by tensor.
    """

    title: str
    words: str
    width: float
    height: float
    items: tuple[Item, ...]
    frames: tuple[Frame, ...] = ()
    still: int = 0
    reads: Any = None

    def at(self, step: int | None = None) -> tuple[Item, ...]:
        """All items of the picture at a step."""
        if not self.frames:
            return self.items
        return (*self.items, *self.frames[self.still if step is None else step].items)

    def described(self, step: int | None = None) -> str:
        """The text alternative, with what the step says."""
        if not self.frames:
            return self.words
        return f"{self.words} {self.frames[self.still if step is None else step].words}".strip()


def bounds(items: Iterable[Item]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of all items together."""
    found = [item.bounds() for item in items]
    if not found:
        return 0, 0, 0, 0
    left, top, right, bottom = zip(*found, strict=True)
    return min(left), min(top), max(right), max(bottom)


def moved(items: Iterable[Item], right: float, down: float) -> list[Item]:
    """The same items elsewhere."""
    found: list[Item] = []
    for item in items:
        if isinstance(item, Path):
            points = tuple((x + right, y + down) for x, y in item.points)
            found.append(dataclasses.replace(item, points=points))
        else:
            found.append(dataclasses.replace(item, x=item.x + right, y=item.y + down))
    return found


def fitted(
    title: str,
    words: str,
    items: Sequence[Item],
    frames: Sequence[Frame] = (),
    *,
    margin: float = 16,
    heading: bool = True,
    note: str = "",
    **fields: Any,
) -> Scene:
    """A scene as large as its items need, under a line that says what it shows, and a note."""
    laid = [*items, *(item for frame in frames for item in frame.items)]
    left, top, right, bottom = bounds(laid)
    width = right - left
    lines = wrapped(title, int(max(width, 260) / (FONT_WIDTH * 14))) if heading else []
    notes = wrapped(note, int(max(width, 260) / (FONT_WIDTH * 12))) if note else []
    head = 22.0 * len(lines) + 17 * len(notes) + (8 if lines else 0)
    width = max(
        [width, *(FONT_WIDTH * 14 * len(line) for line in lines)]
        + [FONT_WIDTH * 12 * len(line) for line in notes]
    )
    shift = margin - left + (width - (right - left)) / 2, margin - top + head
    heads = [
        Text(margin, margin + 14 + 22 * row, line, size=14, anchor="start", bold=True)
        for row, line in enumerate(lines)
    ] + [
        Text(margin, margin + 12 + 22 * len(lines) + 17 * row, line, "quiet", 12, "start")
        for row, line in enumerate(notes)
    ]
    shown = tuple(Frame(tuple(moved(frame.items, *shift)), frame.words) for frame in frames)
    return Scene(
        title,
        words,
        round(width + 2 * margin),
        round(bottom - top + head + 2 * margin),
        (*heads, *moved(items, *shift)),
        shown,
        **fields,
    )


def wrapped(text: str, letters: int) -> list[str]:
    """The words of `text` in lines of at most so many letters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > max(letters, 8):
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
