"""Where the taps of a depthwise kernel fall, and in which pieces it goes through VMEM.

Plain integers: arrays and devices are unknown here.
"""

import dataclasses
import math

LANES = 128  # elements of a vector register's row
SUBLANES = 8  # rows of a vector register of 32-bit elements
ROUND = 16  # columns that fill vector registers of either 32-bit or 16-bit elements
VMEM = 12 << 20  # bytes that a kernel's blocks may take: the compiler's limit is 16 MiB by default
_ENOUGH = 1 << 19  # bytes of a block, from which on the cost of starting a step is small
_ROWS = 8  # output rows that share the inputs which they load


@dataclasses.dataclass(frozen=True)
class Line:
    """Where taps fall along one spatial axis.

    Step ``j`` makes `spread` outputs, one per phase ``p``: output ``j*spread + p`` is the sum over
    the phase's taps ``(offset, element)`` of input ``j*stride + offset`` times that element of the
    kernel. A dilated input has several phases; a strided convolution has one.
    """

    size: int
    out: int
    stride: int
    phases: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def spread(self) -> int:
        return len(self.phases)

    @property
    def steps(self) -> int:
        return -(-self.out // self.spread)

    @property
    def first(self) -> int:
        """The smallest offset of a tap."""
        return min((offset for phase in self.phases for offset, _ in phase), default=0)

    @property
    def last(self) -> int:
        """The largest offset of a tap."""
        return max((offset for phase in self.phases for offset, _ in phase), default=0)

    def reach(self, steps: int) -> int:
        """How many inputs lie between the first one and the last one that `steps` steps read."""
        return (steps - 1) * self.stride + self.last - self.first + 1


def line(
    size: int,
    window: int,
    out: int,
    *,
    stride: int = 1,
    spread: int = 1,
    dilation: int = 1,
    low: int = 0,
    reversal: bool = False,
) -> Line:
    """The line of an axis: `low` zeros before the input, ``spread - 1`` between its elements.

    ``stride`` and ``spread`` are not both larger than 1.
    """
    phases = tuple(
        tuple(
            ((phase + tap * dilation - low) // spread, window - 1 - tap if reversal else tap)
            for tap in range(window)
            if (phase + tap * dilation - low) % spread == 0
        )
        for phase in range(spread)
    )
    return Line(size, out, stride, phases)


@dataclasses.dataclass(frozen=True)
class Cut:
    """One axis of steps in pieces: `tiles` of `steps` each, the last one perhaps not full."""

    steps: int
    tiles: int


@dataclasses.dataclass(frozen=True)
class Tiles:
    """The pieces of one convolution.

    Attributes:
        images: per grid step, all of their rows and columns if that is more than one.
        rows, columns: steps per tile.
        channels: per tile.
        together: rows of outputs that are computed at once.
        chunk: columns that are computed at once.
        halo_rows: rows of the blocks above and below a tile; 0 where one tile holds all rows.
        halo: columns of the blocks next to a tile; 0 where one tile holds all columns.
        left: columns of the scratch before the first input of the tile.
        before: the part of them, in whole registers, that taps reach.
        scratch: the rows and columns of the scratch.
    """

    images: int
    rows: Cut
    columns: Cut
    channels: int
    together: int
    chunk: int
    halo_rows: int
    halo: int
    left: int
    before: int
    scratch: tuple[int, int]


def up(size: int, multiple: int) -> int:
    """`size`, rounded up to a multiple."""
    return -(-size // multiple) * multiple


def together(steps: int) -> int:
    """The rows that are computed at once: the most, up to `_ROWS`, that divide them."""
    return max(r for r in range(1, _ROWS + 1) if steps % r == 0)


def abreast(rows: int) -> int:
    """The columns that are computed at once beside `rows` rows, a multiple of `ROUND`.

    Their sums take half of the 64 registers. At the start of a piece products wait for their loads,
    and at its end sums wait for each other: large pieces leave fewer vector slots empty.
    """
    return ROUND * (2 * _ROWS // rows)


def tiles(rows: Line, columns: Line, batch: int, channels: int, itemsize: int) -> Tiles:
    """The pieces that fit and read least twice: whole images if possible, of equals the largest."""
    lanes = min(channels, LANES)
    best, least = None, math.inf
    for columns_cut in _cuts_of_columns(columns):
        for rows_cut in _cuts_of_rows(rows):
            found = _made(rows, columns, rows_cut, columns_cut, lanes, 1)
            if _bytes(found, rows, columns, itemsize) <= VMEM:
                read = _read_twice(rows, rows_cut) * _read_twice(columns, columns_cut)
                if read < least:
                    best, least = found, read
                break
    if best is not None:
        return _with_images(best, rows, columns, batch, itemsize)
    raise ValueError(
        f"no piece of its {rows.steps} x {columns.steps} results fits into VMEM with all that its "
        "taps reach"
    )


def _cuts_of_rows(line: Line) -> list[Cut]:
    """All steps; then ever more tiles, which are full if that leaves rows to be computed at once.

    Otherwise a tile has a multiple of `_ROWS` rows, and the last tile is not full.
    """
    found = [Cut(line.steps, 1)]
    for count in range(2, line.steps + 1):
        steps = -(-line.steps // count)
        if line.steps % count or together(steps) < _ROWS // 2:
            steps = up(steps, _ROWS)
        if steps * line.stride < _beside(line) or steps < _ROWS // 2:
            break
        cut = Cut(steps, -(-line.steps // steps))
        if cut.tiles > 1 and cut != found[-1]:
            found.append(cut)
    return found


def _beside(line: Line) -> int:
    """How many elements of a neighbour a tile reads, at least 1."""
    return max(-line.first, line.last - line.stride + 1, 1)


def _halo_rows(line: Line, cut: Cut) -> int:
    """Rows of a block that holds what a tile needs of its neighbour: they divide the tile's."""
    height = cut.steps * line.stride
    return min(r for r in range(_beside(line), height + 1) if height % r == 0)


def _cuts_of_columns(line: Line) -> list[Cut]:
    found = [Cut(line.steps, 1)]
    halo = _halo(line)
    size = 1 << 13
    while size >= max(ROUND, halo):
        if size < line.steps:
            found.append(Cut(size, -(-line.steps // size)))
        size //= 2
    return found


def _read_twice(line: Line, cut: Cut) -> float:
    """What tiles read and compute, also beyond the last step, to what there is."""
    if cut.tiles == 1:
        return 1
    overlap = line.reach(cut.steps) / (cut.steps * line.stride)
    return overlap * cut.tiles * cut.steps / line.steps


def _halo(line: Line) -> int:
    """Columns of a block that holds what a tile needs of its neighbour: a power of two."""
    return max(ROUND, 1 << (_beside(line) - 1).bit_length())


def _made(
    rows: Line, columns: Line, rows_cut: Cut, columns_cut: Cut, lanes: int, images: int
) -> Tiles:
    halo = _halo(columns) if columns_cut.tiles > 1 else 0
    left = halo if halo else up(max(0, -columns.first), SUBLANES)
    halo_rows = _halo_rows(rows, rows_cut) if rows_cut.tiles > 1 else 0
    at_once = together(rows_cut.steps)
    wide = abreast(at_once) if columns.spread == 1 else SUBLANES
    inputs = columns_cut.steps * columns.stride if halo else columns.size
    filled = up(columns_cut.steps, SUBLANES)  # a kernel's gradient reads whole registers
    right = max((filled - 1) * columns.stride + columns.last + 1, inputs + halo)
    return Tiles(
        images,
        rows_cut,
        columns_cut,
        lanes,
        at_once,
        min(wide, columns_cut.steps),
        halo_rows,
        halo,
        left,
        up(max(0, -columns.first), SUBLANES),
        (rows.reach(rows_cut.steps), up(left + right, SUBLANES)),
    )


def _bytes(tiles: Tiles, rows: Line, columns: Line, itemsize: int) -> int:
    lanes, images = LANES, tiles.images
    height = tiles.rows.steps * rows.stride + 2 * tiles.halo_rows
    width = tiles.columns.steps * columns.stride + 2 * tiles.halo
    inputs = (height if tiles.halo_rows else rows.size) * up(
        width if tiles.halo else columns.size, ROUND
    )
    outputs = tiles.rows.steps * rows.spread * up(tiles.columns.steps * columns.spread, ROUND)
    widened = math.prod(tiles.scratch) + (outputs if columns.spread > 1 else 0)
    return lanes * (2 * itemsize * images * (inputs + outputs) + 4 * widened)


def _with_images(tiles: Tiles, rows: Line, columns: Line, batch: int, itemsize: int) -> Tiles:
    """Small images in steps of several, so that a step has enough to do."""
    if tiles.rows.tiles * tiles.columns.tiles > 1:
        return tiles
    best = tiles
    for images in range(2, min(batch, 64) + 1):
        several = dataclasses.replace(tiles, images=images)
        size = images * rows.size * up(columns.size, ROUND) * LANES * itemsize
        if _bytes(several, rows, columns, itemsize) > VMEM or size > _ENOUGH:
            break
        if batch % images == 0:
            best = several
    return best
