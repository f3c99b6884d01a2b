"""What the kernels read: inputs in float32, in VMEM, with zeros or neighbours around them."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from convjax._lowerings.pallas_kernels.tiles import SUBLANES, Cut, Line, Tiles, up

_WIDE = 256  # columns that are copied at once, at most
_AT_ONCE = 448  # elements of a channel that are copied at once, about: registers hide latencies


class Piece(NamedTuple):
    """A block that a tile reads, along one axis.

    Attributes:
        size: of the block.
        index: which block it is, a function of the tile's number.
        first: its first element, counted from the tile's first input.
        begin, end: the elements of it that the tile reads.
        bounds: whether some of them may lie beyond the input.
    """

    size: int
    index: Any
    first: int
    begin: int
    end: int
    bounds: bool


def pieces(line: Line, cut: Cut, halo: int) -> list[Piece]:
    """The block of a tile, and the blocks next to it."""
    if not halo:
        last = line.first + line.reach(up(cut.steps, SUBLANES))
        begin = min(max(0, line.first), line.size)
        return [Piece(line.size, lambda tile: 0, 0, begin, max(begin, min(line.size, last)), False)]
    width = cut.steps * line.stride
    ratio, blocks = width // halo, -(-line.size // halo)
    whole = -(-line.size // width)
    ragged = cut.tiles * width > line.size
    end = max(0, min(width, line.first + line.reach(cut.steps)))
    found = [
        Piece(width, lambda tile: jnp.minimum(tile, whole - 1), 0, max(0, line.first), end, ragged)
    ]
    if line.first < 0:
        before = lambda tile: jnp.clip(tile * ratio - 1, 0, blocks - 1)  # noqa: E731
        found.append(Piece(halo, before, -halo, halo + line.first, halo, True))
    if line.last >= line.stride:
        after = lambda tile: jnp.minimum((tile + 1) * ratio, blocks - 1)  # noqa: E731
        found.append(Piece(halo, after, width, 0, line.last - line.stride + 1, True))
    return found


def specs(made: Tiles, rows: Line, columns: Line, order: Any) -> list[pl.BlockSpec]:
    """How the blocks of the input (N, H, W, C) are fetched that a tile reads.

    `order` makes (image, row tile, column tile, channel tile) of the grid's indices.
    """

    def spec(high: Piece, wide: Piece) -> pl.BlockSpec:
        def index(*grid: Any) -> tuple[Any, ...]:
            image, row, column, channel = order(*grid)
            return image, high.index(row), wide.index(column), channel

        return pl.BlockSpec((made.images, high.size, wide.size, made.channels), index)

    return [spec(*both) for both in _blocks(made, rows, columns)]


def _blocks(made: Tiles, rows: Line, columns: Line) -> list[tuple[Piece, Piece]]:
    high = pieces(rows, made.rows, made.halo_rows)
    wide = pieces(columns, made.columns, made.halo)
    return list(itertools.product(high, wide))


def clear(scratch: Any, made: Tiles, rows: Line, columns: Line) -> None:
    """Write the zeros around the only tile of rows, or of columns. No copy touches them later."""
    height, width = made.scratch
    high, wide = (0, height), (0, width)
    if not made.halo_rows:
        (piece,) = pieces(rows, made.rows, 0)
        high = piece.begin - rows.first, piece.end - rows.first
        for begin, end in ((0, high[0]), (high[1], height)):
            _zeros(scratch, begin, end, 0, width)
    if not made.halo:
        wide = made.left, made.left + columns.size
        for begin, end in ((0, wide[0]), (wide[1], width)):
            _zeros(scratch, *high, begin, end)


def _zeros(scratch: Any, top: int, bottom: int, left: int, right: int) -> None:
    if top >= bottom or left >= right:
        return

    def rows(start: Any, count: int) -> None:
        for at in range(count):
            row = functools.partial(columns, start + at)
            by_chunks(right - left, min(right - left, _WIDE), row)

    def columns(row: Any, start: Any, count: int) -> None:
        where: Any
        if isinstance(start, int):
            where = slice(left + start, left + start + count)
        else:
            where = pl.ds(left + start, count)
        scratch[row, where, :] = jnp.zeros((count, scratch.shape[-1]), jnp.float32)

    _by_rows(top, bottom, right - left, rows)


def fill(
    scratch: Any, image: Any, refs: Sequence[Any], made: Tiles, rows: Line, columns: Line, tile: Any
) -> None:
    """Copy one image's part to the scratch; `tile` is its (row, column) in the grid.

    `refs` are the blocks, in the order of `specs`.
    """
    top = tile[0] * (made.rows.steps * rows.stride) if made.halo_rows else 0
    side = tile[1] * (made.columns.steps * columns.stride) if made.halo else 0
    for ref, (high, wide) in zip(refs, _blocks(made, rows, columns), strict=True):

        def copied(
            start: Any, count: int, ref: Any = ref, high: Any = high, wide: Any = wide
        ) -> None:
            for at in range(count):
                row = start + at
                inside = None
                if high.bounds:
                    absolute = top + (row + high.first)
                    inside = (absolute >= 0) & (absolute < rows.size)
                to = row + (high.first - rows.first)
                _copy(scratch, to, ref, image, row, inside, wide, made, columns, side)

        _by_rows(high.begin, high.end, wide.size, copied)


def _copy(
    scratch: Any,
    to: Any,
    ref: Any,
    image: Any,
    row: Any,
    inside: Any,
    wide: Piece,
    made: Tiles,
    columns: Line,
    side: Any,
) -> None:
    """Copy a row of a block; zeros if it is not `inside`, or beyond the input's end."""

    def chunk(start: Any, count: int) -> None:
        values = ref[image, row, pl.ds(start, count), :].astype(jnp.float32)
        kept = inside
        if wide.bounds:
            at = lax.broadcasted_iota(jnp.int32, values.shape, 0) + (side + wide.first + start)
            within = (at >= 0) & (at < columns.size)
            kept = within if kept is None else within & kept
        if kept is not None:
            values = jnp.where(kept, values, 0.0)
        scratch[to, pl.ds(start + (made.left + wide.first), count), :] = values

    # Whole registers: what is not read is copied with the rest.
    by_chunks(wide.size, min(wide.size, _WIDE), chunk)


def _by_rows(begin: int, end: int, width: int, run: Any) -> None:
    """`run(start, count)` for all rows from `begin` to `end`, several narrow ones at once."""
    count = min(8, max(1, _AT_ONCE // width))
    whole, rest = (end - begin) // count, (end - begin) % count

    def turn(number: Any, _: Any) -> Any:
        run(begin + number * count, count)
        return 0

    if whole:
        lax.fori_loop(0, whole, turn, 0)
    if rest:
        run(begin + whole * count, rest)


def by_chunks(size: int, chunk: int, run: Any) -> None:
    """`run(start, count)` for pieces of `size`, all but the last of `chunk`, a multiple of 8."""
    whole = size // chunk
    if whole == 1:
        run(0, chunk)
    elif whole:
        step = chunk & -chunk  # the power of two that the start is known to be a multiple of

        def turn(number: Any, _: Any) -> Any:
            run(pl.multiple_of(number * chunk, step), chunk)
            return 0

        lax.fori_loop(0, whole, turn, 0)
    if size % chunk:
        run(whole * chunk, size % chunk)


def load(
    scratch: Any, row: Any, made: Tiles, columns: Line, start: Any, count: int, offset: int
) -> Any:
    """Inputs of steps ``start``, ``start + 1`` ..., `count` of them, at a tap's `offset`."""
    stride = columns.stride
    if stride == 1:
        return scratch[row, pl.ds(start + (made.left + offset), count), :]
    return scratch[row, pl.ds(start * stride + (made.left + offset), count, stride=stride), :]


class Grid(NamedTuple):
    """The steps of a kernel: channel tiles, halves of the images, images, rows, columns.

    A TPU with two cores may take one half on each. What a step leaves in VMEM the next step of the
    same half finds there.
    """

    shape: tuple[int, ...]

    @classmethod
    def of(cls, made: Tiles, batch: int, channels: int) -> "Grid":
        images = batch // made.images
        halves = 2 if images % 2 == 0 else 1
        whole = -(-channels // made.channels), halves, images // halves
        return cls((*whole, made.rows.tiles, made.columns.tiles))

    def order(self, channel: Any, half: Any, image: Any, row: Any, column: Any) -> tuple[Any, ...]:
        """(image, row tile, column tile, channel tile) of a step."""
        return half * self.shape[2] + image, row, column, channel

    @property
    def parallel(self) -> Any:
        """For the compiler: the cores may share channels and halves."""
        return _compiler_params(("parallel", "parallel", *("arbitrary",) * 3))


def is_first() -> Any:
    """Whether this is the first step of a channel tile and half."""
    return (pl.program_id(2) == 0) & (pl.program_id(3) == 0) & (pl.program_id(4) == 0)


def _compiler_params(semantics: Any) -> Any:
    from jax.experimental.pallas import tpu as pltpu

    return pltpu.CompilerParams(dimension_semantics=semantics)


def out_struct(shape: tuple[int, ...], dtype: Any, like: jax.Array) -> jax.ShapeDtypeStruct:
    """The result's type: it varies over the manual mesh axes over which `like` varies."""
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.typeof(like).manual_axis_type)
