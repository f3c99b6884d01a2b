"""Where the boards of an arithmetic drawing stand, with the arrows and the legend."""

import dataclasses
from collections.abc import Collection

import numpy as np

from convjax.draw.board import GAP, Board, described
from convjax.draw.scene import FONT_WIDTH, Item, Path, Rect, Text
from convjax.draw.step import KERNEL
from convjax.draw.worked import Worked

_LEGEND = {
    "tap": "read now",
    "current": "computed now",
    "fed": "fed by it",
    "padding": "padding",
    "tap-zero": "read now: zero or copy",
    "inserted": "inserted zero",
    "copy": "copy of an element",
    "cropped": "cropped away",
    "window": "window",
}


def laid_out(worked: Worked, padded: bool) -> tuple[dict[int, Board], list[Item]]:
    """A board for every tensor, by number, and what stands between them.

    Args:
        padded: whether padding and inserted zeros are drawn.
    """
    windows = worked.windows if padded else [None] * len(worked.windows)
    cell = _cell(worked, padded)
    last = len(worked.stages)
    colours = _colours(worked)
    boards: dict[int, Board] = {}
    right = down = 0.0
    for number, value in enumerate(worked.values):
        role = "input" if number == 0 else "output" if number == last else "middle"
        words = f"{'between' if role == 'middle' else role} {described(value.shape[:-1], 1)}"
        window = windows[number] if number < last else None
        board = Board(number, value, role, window, cell, colours[number], right, down, words)
        boards[number] = board
        right += board.width + 4.2 * GAP if worked.rank == 2 else 0
        down += 0 if worked.rank == 2 else board.height + 3 * GAP
    if worked.rank == 2:
        return _side_by_side(worked, boards, cell, padded)
    wide = max(board.width for board in boards.values())
    boards = {n: _shifted(board, (wide - board.width) / 2, 0) for n, board in boards.items()}
    items: list[Item] = []
    for number, stage in enumerate(worked.stages):
        if last == 1 and worked.rank == 1:
            continue  # the lines from what is read say it
        one, two = boards[number], boards[number + 1]
        place = wide / 2 if worked.rank == 3 else wide + 12
        top = one.top + one.height + 12
        if worked.rank == 3:
            items.append(Path(((place, top), (place, two.top - 4)), "arrow", arrow=True))
        items.append(Text(place + 10, top + 16, stage.name, "quiet", 12, "start"))
    return boards, items


def _cell(worked: Worked, padded: bool) -> float:
    """The side of a cell: the more there are, the smaller."""
    seen = [max(value.shape[:-1]) for value in worked.values]
    if padded:
        seen += [max(window.canvas) for window in worked.windows if window]
    planes = max(value.shape[-1] for value in worked.values)
    if worked.rank == 3:
        planes *= 2
    if max(seen) <= 9 and planes <= 3:
        return 38.0
    return 32.0 if max(seen) <= 14 and planes <= 6 else 27.0


def _side_by_side(
    worked: Worked, boards: dict[int, Board], cell: float, padded: bool
) -> tuple[dict[int, Board], list[Item]]:
    """Boards of the plane, from left to right, with the kernel between them if it is one grid."""
    items: list[Item] = []
    last = len(worked.stages)
    kernel = _kernel_board(worked, cell, turned=padded)
    if kernel is not None:
        kernel = _shifted(kernel, boards[0].width + 2.4 * GAP, 0)
        move = kernel.width + 2.2 * GAP
        boards = {n: _shifted(board, move if n else 0, 0) for n, board in boards.items()}
        boards[KERNEL] = kernel
    tall = max(board.height for board in boards.values())
    boards = {n: _shifted(board, 0, (tall - board.height) / 2) for n, board in boards.items()}
    if kernel is not None:
        middle = tall / 2 + 18
        ends = boards[0].width, kernel.left, kernel.left + kernel.width, boards[last].left
        items.append(Text((ends[0] + ends[1]) / 2, middle, "∗", "quiet", 24))
        items.append(Text((ends[2] + ends[3]) / 2, middle, "=", "quiet", 24))
        return boards, items
    for number, stage in enumerate(worked.stages):
        one, two = boards[number], boards[number + 1]
        line = ((one.left + one.width + 8, tall / 2), (two.left - 8, tall / 2))
        items.append(Path(line, "arrow", arrow=True))
        if last > 1:
            middle = (line[0][0] + line[1][0]) / 2
            for row, word in enumerate(reversed(stage.name.split())):
                items.append(Text(middle, tall / 2 - 8 - 13 * row, word, "quiet", 11))
    return boards, items


def _kernel_board(worked: Worked, cell: float, turned: bool) -> Board | None:
    """The kernel, where it is one small grid."""
    one = worked.rank == 2 and len(worked.stages) == len(worked.kernels) == 1
    if not one or worked.kernels[0].shape[-2:] != (1, 1) or worked.taps is None:
        return None
    values = worked.kernels[0][..., 0]
    if turned and worked.kind.name == "transposed":  # as the direct convolution's window holds it
        words = "kernel, turned"
        return Turned(KERNEL, values[::-1, ::-1], "kernel", cell=cell, words=words)
    return Board(KERNEL, values, "kernel", cell=cell, words="kernel")


class Turned(Board):
    """A board whose elements are numbered from its end."""

    def cell_of(self, flat: int) -> tuple[float, float]:
        return super().cell_of(self.values.size - 1 - flat)


def _colours(worked: Worked) -> list[tuple[int | None, ...]]:
    """A group for every channel of every tensor, where it can be told.

    Channels of x have the groups of the first step; later ones the group that all channels share
    which they read, if they share one. So a shuffle carries the colours of groups along.
    """
    first, groups = worked.values[0].shape[-1], worked.stages[0].groups
    if groups == 1 or first == 1:
        return [() for _ in worked.values]
    found: list[tuple[int | None, ...]] = [tuple(c * groups // first for c in range(first))]
    for reads, value in zip(worked.reads, worked.values[1:], strict=True):
        before, channels = found[-1], value.shape[-1]
        per = reads.reshape(-1, channels, reads.shape[1] // len(before), len(before))
        mixed = np.asarray(per.any(axis=(0, 2)))
        shared = [{before[i] for i in np.flatnonzero(row)} for row in mixed]
        found.append(tuple(s.pop() if len(s) == 1 else None for s in shared))
    return found


def legend(roles: Collection[str], left: float, top: float, width: float) -> list[Item]:
    """What the roles that occur mean, in lines of about this width."""
    items: list[Item] = []
    at = left
    for role, words in _LEGEND.items():
        if role == "tap" and "fed" in roles:
            words = "this input"
        if role in roles:
            if at > left and at + 18 + FONT_WIDTH * 11.5 * len(words) > left + max(width, 380):
                at, top = left, top + 20
            items.append(Rect(at, top, 13, 13, role))
            items.append(Text(at + 18, top + 11, words, "quiet", 11.5, "start"))
            at += 32 + FONT_WIDTH * 11.5 * len(words)
    return items


def _shifted(board: Board, right: float, down: float) -> Board:
    return dataclasses.replace(board, left=board.left + right, top=board.top + down)
