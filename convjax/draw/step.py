"""One step of an arithmetic drawing: what it lays over the boards, and what it says."""

from collections.abc import Iterator, Mapping

import numpy as np

from convjax.draw.board import Board, shown
from convjax.draw.scene import Frame, Item, Path, Rect, Text, wrapped
from convjax.draw.window import COPY, INSERTED, PADDING, Window
from convjax.draw.worked import Worked

KERNEL = -1  # the number of the kernel's board
_MOST_TERMS = 12  # of a sum that is written out


class Step:
    """One step: what it lays over the boards, and its words."""

    def __init__(self, worked: Worked, boards: Mapping[int, Board], number: int) -> None:
        self.worked, self.boards, self.number = worked, boards, number
        self.last = len(worked.stages)

    def frame(self, by: str, left: float, bottom: float) -> Frame:
        items = list(self._output() if by == "output" else self._input())
        words = self._sum() if by == "output" else self._feeds()
        wide = max(board.left + board.width for board in self.boards.values()) - left
        lines = wrapped(words, max(int(wide / 7.6), 34))
        for row, line in enumerate(lines):
            items.append(Text(left, bottom + 18 * row, line, "ink", 13, "start"))
        return Frame(tuple(items), words)

    def _output(self) -> Iterator[Item]:
        """The cell of the result, the window, and what it reads, tensor by tensor."""
        shape = self.boards[self.last].values.shape
        *out, _ = (int(i) for i in np.unravel_index(self.number, shape))
        for tensor in range(self.last):
            window = self.worked.windows[tensor] if tensor == self.last - 1 else None
            yield from self._taps(tensor, window, out)
        if KERNEL in self.boards and self.worked.taps is not None:
            for flat in np.flatnonzero(self.worked.taps[self.number]):
                yield from self._marked(KERNEL, int(flat), "tap", "on-tap")
        yield from self._marked(self.last, self.number, "current", "on-current")

    def _taps(self, tensor: int, window: Window | None, out: list[int]) -> Iterator[Item]:
        board = self.boards[tensor]
        depends = self.worked.depends[tensor][self.number]
        found = np.flatnonzero(depends)
        weights = self.worked.weights[tensor][self.number]
        channels = sorted({int(flat) % board.channels for flat in found})
        if window is not None:
            if not channels:  # the window is on padding only
                channels = [0]
            for place in window.taps(out):
                kind, element = window.place(place)
                if kind not in (PADDING, INSERTED, COPY):
                    continue
                for channel in channels:
                    left, top = board.at(place, channel)
                    yield Rect(left, top, board.cell, board.cell, "tap-zero")
                    value = board.values[(*element, channel)] if kind == COPY else 0
                    yield board.number_at(left, top, value, "ink")
        many = self.last > 1 and tensor < self.last - 1
        for flat in found:
            yield from self._marked(
                tensor, int(flat), "tap", "on-tap", None if many else float(weights[flat])
            )
        if window is not None:
            yield from self._window(board, window, out, channels)
        yield from self._links(tensor, found)

    def _marked(
        self, tensor: int, flat: int, role: str, ink: str, weight: float | None = None
    ) -> Iterator[Item]:
        board = self.boards[tensor]
        left, top = board.cell_of(flat)
        yield Rect(left, top, board.cell, board.cell, role)
        value = float(board.values.reshape(-1)[flat])
        if weight is None:
            yield board.number_at(left, top, value, ink)
            return
        yield board.number_at(left, top, value, ink, raised=board.cell * 0.13)
        words, size = f"×{shown(weight)}", board.cell * 0.27
        yield Text(left + board.cell - 3, top + board.cell - 4, words, ink, round(size, 1), "end")

    def _window(
        self, board: Board, window: Window, out: list[int], channels: list[int]
    ) -> Iterator[Item]:
        """The outline of the window, on every grid that it reaches."""
        first, reach = window.first(out), window.extent()
        depths = [0]
        if len(first) == 3:
            step = window.geometry.kernel_dilation[0]
            depths = list(range(first[0], first[0] + reach[0], step))
        for channel in channels:
            for depth in depths:
                place = (depth, *first[-2:]) if len(first) == 3 else first
                left, top = board.at(place, channel)
                size = [*reach[-2:]] if len(reach) > 1 else [1, reach[0]]
                yield Rect(
                    left, top, size[1] * board.cell, size[0] * board.cell, "window", radius=4
                )

    def _links(self, tensor: int, found: np.ndarray) -> Iterator[Item]:
        """Lines from what is read to the cell that reads it."""
        board, last = self.boards[tensor], self.boards[self.last]
        if tensor != self.last - 1 or not len(found):
            return
        left, top = last.cell_of(self.number)
        middle = left + last.cell / 2
        if self.worked.rank == 1:
            for flat in found:
                x, y = board.cell_of(int(flat))
                yield Path(((x + board.cell / 2, y + board.cell), (middle, top)), "link")
        elif self.worked.rank == 2 and KERNEL not in self.boards and board.columns == 1:
            for channel in sorted({int(flat) % board.channels for flat in found}):
                spots = [board.cell_of(int(f)) for f in found if int(f) % board.channels == channel]
                right = max(x for x, _ in spots) + board.cell
                down = (min(y for _, y in spots) + max(y for _, y in spots) + board.cell) / 2
                yield Path(((right, down), (left, top + last.cell / 2)), "link")

    def _input(self) -> Iterator[Item]:
        """The cell of x, and what it feeds, tensor by tensor."""
        yield from self._marked(0, self.number, "tap", "on-tap")
        weights = self.worked.weights[0][:, self.number]
        for flat in np.flatnonzero(self.worked.depends[0][:, self.number]):
            yield from self._marked(self.last, int(flat), "fed", "ink", float(weights[flat]))
        left, top = self.boards[0].cell_of(self.number)
        for flat in np.flatnonzero(self.worked.depends[0][:, self.number]):
            x, y = self.boards[self.last].cell_of(int(flat))
            half, other = self.boards[0].cell / 2, self.boards[self.last].cell / 2
            if self.worked.rank == 1:
                ends = (left + half, top + 2 * half), (x + other, y)
                yield Path(ends, "link")

    def _sum(self) -> str:
        """The sum that makes the cell, written out."""
        board, result = self.boards[self.last - 1], self.boards[self.last]
        found = np.flatnonzero(self.worked.depends[self.last - 1][self.number])
        weights = self.worked.weights[self.last - 1][self.number]
        values = board.values.reshape(-1)
        total = shown(float(result.values.reshape(-1)[self.number]))
        name = f"output[{result.name(self.number)}]"
        if not len(found):
            return f"{name} = 0: the window touches padding only."
        if len(found) > _MOST_TERMS:
            return f"{name} = {total}, the sum of {len(found)} products."
        terms = " + ".join(f"{shown(values[i])}·{shown(weights[i])}" for i in found)
        return f"{name} = {terms} = {total}"

    def _feeds(self) -> str:
        board, result = self.boards[0], self.boards[self.last]
        found = np.flatnonzero(self.worked.depends[0][:, self.number])
        name = f"input[{board.name(self.number)}] = {shown(board.values.reshape(-1)[self.number])}"
        if not len(found):
            return f"{name} feeds no output."
        cells = "1 output cell" if len(found) == 1 else f"{len(found)} output cells"
        return f"{name} feeds {cells}, from {result.name(found[0])} to {result.name(found[-1])}."
