"""One tensor as grids of cells: channels and depth slices side by side, padding around them."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np

from convjax.draw import window as places
from convjax.draw.colours import group_role
from convjax.draw.scene import Item, Path, Rect, Text
from convjax.draw.window import Window

GAP = 18.0  # between grids
HEAD = 22.0  # for a line of words above one
_ROLES = {
    places.PADDING: "padding",
    places.INSERTED: "inserted",
    places.COPY: "copy",
    places.CROPPED: "cropped",
}


@dataclasses.dataclass(frozen=True)
class Board:
    """Where every cell of one tensor is.

    Attributes:
        number: of the tensor, 0 for x.
        values: (*space, C).
        role: of its cells.
        window: that moves over it, whose padding is drawn; None draws the elements only.
        cell: the side of a cell.
        colours: a group for every channel, or None where it belongs to none.
        left, top: of the whole board.
        words: its heading.
    """

    number: int
    values: np.ndarray
    role: str
    window: Window | None = None
    cell: float = 36
    colours: tuple[int | None, ...] = ()
    left: float = 0
    top: float = 0
    words: str = ""

    @property
    def space(self) -> tuple[int, ...]:
        return self.values.shape[:-1]

    @property
    def channels(self) -> int:
        return self.values.shape[-1]

    @property
    def canvas(self) -> tuple[int, ...]:
        """Extents with padding and inserted zeros."""
        return self.window.canvas if self.window else self.space

    @property
    def planes(self) -> list[tuple[int, int]]:
        """(channel, depth) of every grid."""
        depth = self.canvas[0] if len(self.canvas) == 3 else 1
        return list(itertools.product(range(self.channels), range(depth)))

    @property
    def columns(self) -> int:
        """How many grids stand side by side."""
        if len(self.canvas) == 1:
            return 1
        if len(self.canvas) == 3:
            depth = self.canvas[0]
            return min(depth, 6) if self.channels == 1 else depth
        return 1 if self.channels < 4 else 2 if self.channels < 9 else ceil(self.channels**0.5)

    @property
    def _names(self) -> bool:
        """Whether grids have names of their own."""
        return len(self.planes) > 1

    @property
    def _grid(self) -> tuple[float, float]:
        """Width and height of one grid."""
        *rest, width = self.canvas
        return width * self.cell, (rest[-1] if rest else 1) * self.cell

    @property
    def _side(self) -> float:
        """Room at the left for the names of rows, of grids of one row."""
        return 84.0 if self._names and len(self.canvas) == 1 else 0.0

    @property
    def _pitch(self) -> tuple[float, float]:
        width, height = self._grid
        if len(self.canvas) == 1:
            return width + GAP, height + 6
        return width + GAP, height + (HEAD if self._names else GAP)

    @property
    def width(self) -> float:
        return self._side + self.columns * self._pitch[0] - GAP

    @property
    def height(self) -> float:
        rows = ceil(len(self.planes) / self.columns)
        head = HEAD if self._names and len(self.canvas) > 1 else 0
        space = 6 if len(self.canvas) == 1 else HEAD if self._names else GAP
        return HEAD + head + rows * self._pitch[1] - space

    def corner(self, channel: int, depth: int) -> tuple[float, float]:
        """Left and top of one grid."""
        number = self.planes.index((channel, depth))
        row, column = divmod(number, self.columns)
        head = HEAD + (HEAD if self._names and len(self.canvas) > 1 else 0)
        return (
            self.left + self._side + column * self._pitch[0],
            self.top + head + row * self._pitch[1],
        )

    def at(self, place: Sequence[int], channel: int) -> tuple[float, float]:
        """Left and top of the cell at a place of the canvas."""
        depth, row, column = (0, 0, 0, *place)[-3:]
        left, top = self.corner(channel, depth)
        return left + column * self.cell, top + row * self.cell

    def where(self, element: Sequence[int]) -> tuple[int, ...]:
        """The canvas place of an element."""
        return self.window.where(element) if self.window else tuple(element)

    def cell_of(self, flat: int) -> tuple[float, float]:
        """Left and top of an element, given by its flat index in (*space, C)."""
        *element, channel = np.unravel_index(flat, self.values.shape)
        return self.at(self.where([int(e) for e in element]), int(channel))

    def name(self, flat: int) -> str:
        """An element's index as it is written: "1, 2", and its channel if there are several."""
        *element, channel = np.unravel_index(flat, self.values.shape)
        where = ", ".join(str(int(e)) for e in element)
        return f"{where}; {int(channel)}" if self.channels > 1 else where

    def role_of(self, channel: int) -> str:
        """The role of a channel's cells: the colour of its group, if it has one."""
        group = self.colours[channel] if self.colours else None
        return self.role if group is None else group_role(group)

    def items(self) -> Iterator[Item]:
        """The board at rest."""
        if self.words:
            if len(self.canvas) == 1:  # lines come down to the cells
                yield Text(self.left, self.top + 13, self.words, "ink", 13, "start", bold=True)
            else:
                middle = self.left + self.width / 2
                yield Text(middle, self.top + 13, self.words, "ink", 13, bold=True)
        for channel, depth in self.planes:
            left, top = self.corner(channel, depth)
            yield from self._name(channel, depth, left, top)
            plane = [range(n) for n in (self.canvas if len(self.canvas) < 3 else self.canvas[1:])]
            for place in itertools.product(*plane):
                full = (depth, *place) if len(self.canvas) == 3 else place
                yield from self._cell(full, channel)

    def _name(self, channel: int, depth: int, left: float, top: float) -> Iterator[Item]:
        if not self._names:
            return
        parts = []
        if self.channels > 1 and (depth == 0 or self.columns != self.canvas[0]):
            parts.append(f"channel {channel}")
        if len(self.canvas) == 3:
            parts.append(self._depth(depth))
        if len(self.canvas) == 1:
            yield Text(left - 8, top + self.cell / 2 + 4, parts[0], "quiet", 12, "end")
        else:
            yield Text(left, top - 6, ", ".join(parts), "quiet", 12, "start")

    def _depth(self, depth: int) -> str:
        """What a slice is called."""
        if self.window is None:
            return f"depth {depth}"
        kind, element = self.window.line(0)[depth]
        return f"depth {element}" if kind == places.REAL else kind

    def _cell(self, place: tuple[int, ...], channel: int) -> Iterator[Item]:
        kind, element = self.window.place(place) if self.window else (places.REAL, place)
        left, top = self.at(place, channel)
        if kind == places.REAL:
            flat = int(np.ravel_multi_index((*element, channel), self.values.shape))
            key = f"{self.number}.{flat}"
            yield Rect(left, top, self.cell, self.cell, self.role_of(channel), key)
            yield self.number_at(left, top, self.values[(*element, channel)])
            return
        yield Rect(left, top, self.cell, self.cell, _ROLES[kind])
        if kind == places.COPY:
            yield self.number_at(left, top, self.values[(*element, channel)], "quiet")
        elif kind == places.CROPPED:
            ends = (left + 6, top + 6), (left + self.cell - 6, top + self.cell - 6)
            yield Path(ends, "axis")
        else:
            yield self.number_at(left, top, 0, "quiet")

    def number_at(
        self, left: float, top: float, value: float, role: str = "ink", raised: float = 0
    ) -> Text:
        """A value in the cell there, in letters that fit; `raised` makes room below it."""
        words = shown(value)
        size = min(14.0, self.cell * 0.42, (self.cell - 5) / (0.6 * len(words)))
        middle = top + self.cell / 2 + 0.36 * size - raised
        return Text(left + self.cell / 2, middle, words, role, round(size, 1))


def shown(value: float) -> str:
    """A value in at most four significant digits, with a true minus sign."""
    words = f"{float(value):.3g}" if value % 1 else f"{int(value)}"
    return words.replace("-", "−")


def described(space: Sequence[int], channels: int) -> str:
    """Extents in words: "4×4", and the channels if there are several."""
    words = "×".join(map(str, space))
    return f"{words}, {channels} channels" if channels > 1 else words
