"""What the kernels read: inputs in float32, in VMEM, with zeros or neighbours around them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from convjax.pallas import tiles as cuts
from convjax.pallas.tiles import Line, Tiles

_WIDE = 64  # columns that are copied at once
_UNROLLED = 4  # rows that are copied at once


class Blocks(NamedTuple):
    """The input's block of a tile, and the blocks beside it (None where nothing is read there)."""

    main: Any
    left: Any = None
    right: Any = None


def specs(made: Tiles, rows: Line, columns: Line, order: Any) -> list[pl.BlockSpec]:
    """How a tile's block of the input (N, H, W, C) is fetched, and those beside it.

    `order` makes (image, row tile, column tile, channel tile) of the grid's indices.
    """
    height = cuts.block_rows(made, rows)
    width = cuts.block_columns(made, columns)

    def spec(columns_of_block: int, column: Any) -> pl.BlockSpec:
        def index(*grid: Any) -> tuple[Any, ...]:
            image, row, tile, channel = order(*grid)
            return image, _start(made, rows, row, height), column(tile), channel

        rows_of_block = height if made.rows.tiles == 1 else pl.Element(height)
        return pl.BlockSpec((made.images, rows_of_block, columns_of_block, made.channels), index)

    found = [spec(width, lambda tile: tile)]
    if made.halo:
        ratio, blocks = width // made.halo, -(-columns.size // made.halo)
        if columns.first < 0:
            found.append(spec(made.halo, lambda tile: jnp.maximum(tile * ratio - 1, 0)))
        if columns.last >= columns.stride:
            found.append(
                spec(made.halo, lambda tile: jnp.minimum((tile + 1) * ratio, blocks - 1))
            )
    return found


def blocks(made: Tiles, columns: Line, refs: list[Any]) -> tuple[Blocks, list[Any]]:
    """The references that belong to `specs`, and the other ones."""
    main, *rest = refs
    left = right = None
    if made.halo and columns.first < 0:
        left, *rest = rest
    if made.halo and columns.last >= columns.stride:
        right, *rest = rest
    return Blocks(main, left, right), rest


def _start(made: Tiles, rows: Line, row: Any, height: int) -> Any:
    """The first row of a tile's block: a block of rows lies within the image."""
    if made.rows.tiles == 1:
        return 0
    wanted = row * (made.rows.steps * rows.stride) + rows.first
    return jnp.clip(wanted, 0, rows.size - height)


def clear(scratch: Any, made: Tiles, columns: Line) -> None:
    """Write the zeros beside the only tile of columns. No copy touches them later."""
    if made.halo:
        return
    height, width = made.scratch
    zeros = jnp.zeros((_UNROLLED, 1, scratch.shape[-1]), jnp.float32)
    sides = [(0, made.left), (made.left + columns.size, width)]

    def rows(start: Any, count: int) -> None:
        for begin, end in sides:
            if end > begin:
                shape = (count, end - begin, scratch.shape[-1])
                scratch[pl.ds(start, count), begin:end, :] = jnp.broadcast_to(zeros[:1], shape)

    _by_rows(0, height, rows)


def fill(
    scratch: Any, image: Any, found: Blocks, made: Tiles, rows: Line, columns: Line, tile: Any
) -> None:
    """Copy one image's part to the scratch; `tile` is its (row, column) in the grid."""
    row, column = tile
    if made.rows.tiles == 1:
        begin = min(max(0, -rows.first), made.scratch[0])
        end = max(begin, min(made.scratch[0], rows.size - rows.first))
        zero = jnp.zeros((1, 1, 1), jnp.float32)
        for at in (*range(begin), *range(end, made.scratch[0])):
            width = columns.size
            shape = (1, width, scratch.shape[-1])
            scratch[at : at + 1, made.left : made.left + width, :] = jnp.broadcast_to(zero, shape)

        def copied(start: Any, count: int) -> None:
            for at in range(count):
                _row(scratch, start + at, start + at + rows.first, None)

        def _row(scratch: Any, to: Any, of: Any, inside: Any) -> None:
            _columns(scratch, to, image, of, inside, found, made, columns, column)

        _by_rows(begin, end, copied)
        return
    height = cuts.block_rows(made, rows)
    wanted = row * (made.rows.steps * rows.stride) + rows.first
    shift = wanted - _start(made, rows, row, height)

    def clipped(start: Any, count: int) -> None:
        for at in range(count):
            to = start + at
            inside = (to + wanted >= 0) & (to + wanted < rows.size)
            of = jnp.clip(to + shift, 0, height - 1)
            _columns(scratch, to, image, of, inside, found, made, columns, column)

    _by_rows(0, made.scratch[0], clipped)


def _by_rows(begin: int, end: int, run: Any) -> None:
    """`run(start, count)` for all rows from `begin` to `end`, several at once."""
    whole = (end - begin) // _UNROLLED

    def turn(number: Any, _: Any) -> Any:
        run(begin + number * _UNROLLED, _UNROLLED)
        return 0

    if whole:
        lax.fori_loop(0, whole, turn, 0)
    if (end - begin) % _UNROLLED:
        run(begin + whole * _UNROLLED, (end - begin) % _UNROLLED)


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


def _columns(
    scratch: Any,
    to: Any,
    image: Any,
    of: Any,
    inside: Any,
    found: Blocks,
    made: Tiles,
    columns: Line,
    column: Any,
) -> None:
    """Copy a row of the input's blocks; zeros if it is not `inside`, or beyond the input's end."""
    width = cuts.block_columns(made, columns)
    begin = column * width if made.halo else 0

    def copy(block: Any, offset: int, first: Any, size: int, bounds: bool) -> None:
        def chunk(start: Any, count: int) -> None:
            values = block[image, of, pl.ds(start, count), :].astype(jnp.float32)
            kept = inside
            if bounds:
                at = lax.broadcasted_iota(jnp.int32, values.shape, 0) + (first + start)
                within = (at >= 0) & (at < columns.size)
                kept = within if kept is None else within & kept
            if kept is not None:
                values = jnp.where(kept, values, 0.0)
            scratch[to, pl.ds(offset + start, count), :] = values

        by_chunks(size, _WIDE if size > _WIDE * 2 else size, chunk)

    ragged = made.halo > 0 and columns.size % width > 0
    copy(found.main, made.left, begin, width, ragged)
    if found.left is not None:
        copy(found.left, made.left - made.halo, begin - made.halo, made.halo, True)
    if found.right is not None:
        copy(found.right, made.left + width, begin + width, made.halo, True)


def load(scratch: Any, row: Any, made: Tiles, columns: Line, start: Any, count: int, offset: int):
    """Inputs of steps ``start``, ``start + 1`` ..., `count` of them, at a tap's `offset`."""
    stride = columns.stride
    if stride == 1:
        return scratch[row, pl.ds(start + (made.left + offset), count), :]
    return scratch[row, pl.ds(start * stride + (made.left + offset), count, stride=stride), :]


def compiler_params(semantics: tuple[str, ...]) -> Any:
    from jax.experimental.pallas import tpu as pltpu

    return pltpu.CompilerParams(dimension_semantics=semantics)


def out_struct(shape: tuple[int, ...], dtype: Any, like: jax.Array) -> jax.ShapeDtypeStruct:
    """The result's type: it varies over the manual mesh axes over which `like` varies."""
    return jax.ShapeDtypeStruct(
        shape, dtype, manual_axis_type=jax.typeof(like).manual_axis_type
    )
