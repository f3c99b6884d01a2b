"""Depthwise convolution on TPU: x (N, H, W, C) with a kernel (KH*KW, C), and its gradients.

A vector register holds 8 columns of 128 channels. Every output takes a multiplication and an
addition per tap, in float32, and that is what bounds the kernel: inputs are widened once, and a tap
is a load at another offset, which shifts nothing.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from convjax._lowerings.pallas_kernels import scratch as inputs
from convjax._lowerings.pallas_kernels.tiles import SUBLANES, Line, Tiles, abreast, tiles, up

_SUMS = 25  # of a kernel's gradient that are kept in registers at once


def correlate(
    x: jax.Array, kernel: jax.Array, rows: Line, columns: Line, dtype: Any, interpret: Any
) -> jax.Array:
    """The convolution whose taps fall as `rows` and `columns` say: (N, rows.out, columns.out, C).

    Args:
        x: (N, H, W, C), bfloat16 or float32.
        kernel: (KH*KW, C), float32.
        rows, columns: where taps fall.
        dtype: of the result.
        interpret: for `pallas_call`.
    """
    n, _, _, c = x.shape
    made = tiles(rows, columns, n, c, max(x.dtype.itemsize, jnp.dtype(dtype).itemsize))
    grid = inputs.Grid.of(made, n, c)
    found = inputs.specs(made, rows, columns, grid.order)
    taps = kernel.shape[0]
    high = made.rows.steps * rows.spread
    wide = made.columns.steps * columns.spread if made.halo else columns.out
    kept = [pltpu.VMEM((*made.scratch, made.channels), jnp.float32)]
    if columns.spread > 1 or rows.out % rows.spread:
        width = up(made.columns.steps * columns.spread, SUBLANES)
        kept.append(pltpu.VMEM((high, width, made.channels), jnp.float32))
    run = pl.pallas_call(
        functools.partial(_correlate, made=made, rows=rows, columns=columns),
        grid=grid.shape,
        in_specs=[*found, pl.BlockSpec((taps, made.channels), lambda c, *_: (0, c))],
        out_specs=pl.BlockSpec(
            (made.images, min(high, rows.out), wide, made.channels),
            grid.order,
        ),
        out_shape=inputs.out_struct((n, rows.out, columns.out, c), dtype, x),
        scratch_shapes=kept,
        compiler_params=grid.parallel,
        interpret=interpret,
        name="depthwise",
    )
    y: jax.Array = run(*[x] * len(found), kernel)
    return y


def _correlate(*refs: Any, made: Tiles, rows: Line, columns: Line) -> None:
    count = len(inputs.specs(made, rows, columns, None))
    found, (kernel, out, scratch, *spread) = refs[:count], refs[count:]
    tile = pl.program_id(3), pl.program_id(4)

    @pl.when(inputs.is_first())
    def _() -> None:
        inputs.clear(scratch, made, rows, columns)

    def one(image: Any, _: Any) -> Any:
        inputs.fill(scratch, image, found, made, rows, columns, tile)
        target = spread[0] if spread else out.at[image]

        def block(number: Any, _: Any) -> Any:
            def chunk(start: Any, count: int) -> None:
                _outputs(scratch, kernel, target, number, start, count, made, rows, columns)

            inputs.by_chunks(made.columns.steps, made.chunk, chunk)
            return 0

        lax.fori_loop(0, made.rows.steps // made.together, block, 0)
        if spread:

            def narrowed(row: Any, _: Any) -> Any:
                out[image, row] = spread[0][row, : out.shape[2], :].astype(out.dtype)
                return 0

            lax.fori_loop(0, out.shape[1], narrowed, 0)
        return 0

    lax.fori_loop(0, made.images, one, 0)


def _outputs(
    scratch: Any,
    kernel: Any,
    out: Any,
    number: Any,
    start: Any,
    count: int,
    made: Tiles,
    rows: Line,
    columns: Line,
) -> None:
    """The outputs of `count` steps of columns, and of the rows of block `number`."""
    window = 1 + max((t for phase in columns.phases for _, t in phase), default=0)
    first = number * made.together  # step of rows
    for row_phase, row_taps in enumerate(rows.phases):
        for column_phase, column_taps in enumerate(columns.phases):
            sums: list[Any] = [None] * made.together
            for at, met in _meetings(made.together, rows.stride, row_taps):
                row = first * rows.stride + (at - rows.first)
                for offset, column_tap in column_taps:
                    x = inputs.load(scratch, row, made, columns, start, count, offset)
                    for step, row_tap in met:
                        element = row_tap * window + column_tap
                        term = x * kernel[element : element + 1, :]
                        sums[step] = term if sums[step] is None else sums[step] + term
            for step, total in enumerate(sums):
                if total is None:
                    total = jnp.zeros((count, out.shape[-1]), jnp.float32)
                row = (first + step) * rows.spread + row_phase
                where = pl.ds(start, count)
                if columns.spread > 1:
                    spread = columns.spread
                    where = pl.ds(start * spread + column_phase, count, stride=spread)
                out[row, where, :] = total.astype(out.dtype)


def _meetings(
    steps: int, stride: int, taps: tuple[tuple[int, int], ...]
) -> list[tuple[int, list[tuple[int, int]]]]:
    """For every input row that `steps` steps read: which steps read it, by which tap."""
    found: dict[int, list[tuple[int, int]]] = {}
    for step in range(steps):
        for offset, tap in taps:
            found.setdefault(step * stride + offset, []).append((step, tap))
    return sorted(found.items())


# ---- the kernel's gradient ----------------------------------------------------------------------


def kernel_gradient(
    x: jax.Array, cotangent: jax.Array, rows: Line, columns: Line, interpret: Any
) -> jax.Array:
    """(KH*KW, C) in float32: for every tap the sum of inputs times the cotangents that they meet.

    Args:
        x: (N, H, W, C).
        cotangent: (N, rows.out, columns.out, C), of the result.
        rows, columns: where the taps of the convolution fall, one phase each.
        interpret: for `pallas_call`.
    """
    n, _, _, c = x.shape
    made = tiles(rows, columns, n, c, max(x.dtype.itemsize, cotangent.dtype.itemsize))
    grid = inputs.Grid.of(made, n, c)
    found = inputs.specs(made, rows, columns, grid.order)
    wide = made.columns.steps if made.halo else columns.out
    taps = len(rows.phases[0]) * len(columns.phases[0])
    block = (made.images, made.rows.steps, wide, made.channels)
    run = pl.pallas_call(
        functools.partial(_kernel_gradient, made=made, rows=rows, columns=columns),
        grid=grid.shape,
        in_specs=[*found, pl.BlockSpec(block, grid.order)],
        out_specs=pl.BlockSpec((1, taps, made.channels), lambda c, half, *_: (half, 0, c)),
        out_shape=inputs.out_struct((grid.shape[1], taps, c), jnp.float32, x),
        scratch_shapes=[
            pltpu.VMEM((*made.scratch, made.channels), jnp.float32),
            pltpu.VMEM((made.together, SUBLANES, made.channels), jnp.float32),
        ],
        compiler_params=grid.parallel,
        interpret=interpret,
        name="depthwise_kernel_gradient",
    )
    sums: jax.Array = run(*[x] * len(found), cotangent)
    return sums.sum(0)


def _kernel_gradient(*refs: Any, made: Tiles, rows: Line, columns: Line) -> None:
    count = len(inputs.specs(made, rows, columns, None))
    found, (cotangent, out, scratch, end) = refs[:count], refs[count:]
    tile = pl.program_id(3), pl.program_id(4)

    @pl.when(inputs.is_first())
    def _() -> None:
        out[...] = jnp.zeros(out.shape, out.dtype)
        inputs.clear(scratch, made, rows, columns)
        end[...] = jnp.zeros(end.shape, end.dtype)

    (row_taps,), (column_taps,) = rows.phases, columns.phases
    at_once = max(1, _SUMS // len(row_taps))
    left: Any = None
    if made.columns.tiles * made.columns.steps > columns.steps:  # the last tile is not full
        left = columns.steps - tile[1] * made.columns.steps
    blocks: Any = made.rows.steps // made.together
    if made.rows.tiles * made.rows.steps > rows.steps:  # the same of rows
        made = dataclasses.replace(made, together=1)
        blocks = jnp.minimum(made.rows.steps, rows.steps - tile[0] * made.rows.steps)

    def one(image: Any, _: Any) -> Any:
        inputs.fill(scratch, image, found, made, rows, columns, tile)
        for first in range(0, len(column_taps), at_once):
            chosen = column_taps[first : first + at_once]
            parties = scratch, cotangent.at[image], end
            products = _Products(*parties, made, rows, columns, chosen, left, blocks)
            for (row_tap, column_tap), total in products.summed().items():
                element = row_tap * len(column_taps) + column_tap
                out[0, element : element + 1, :] += jnp.sum(total, 0, keepdims=True)
        return 0

    lax.fori_loop(0, made.images, one, 0)


class _Products(NamedTuple):
    """Sums over a tile of inputs times cotangents, for some of the columns of taps.

    `left` is the number of the tile's columns that exist, if that may be fewer than it has. There
    are `blocks` blocks of rows.
    """

    scratch: Any
    cotangent: Any
    end: Any
    made: Tiles
    rows: Line
    columns: Line
    column_taps: tuple[tuple[int, int], ...]
    left: Any
    blocks: Any

    def summed(self) -> dict[tuple[int, int], jax.Array]:
        """Per tap (of rows, of columns) the sums (8, C), of every eighth column each."""
        keys = [(r, c) for _, r in self.rows.phases[0] for _, c in self.column_taps]
        channels = self.scratch.shape[-1]
        zeros = tuple(jnp.zeros((SUBLANES, channels), jnp.float32) for _ in keys)
        steps = self.made.columns.steps
        # Masks take registers, too.
        wide = abreast(self.made.together * (1 if self.left is None else 2))
        whole, end = steps // wide, steps - steps % SUBLANES

        def block(number: Any, sums: Any) -> Any:
            first = number * self.made.together

            def chunk(index: Any, sums: Any) -> Any:
                start = pl.multiple_of(index * wide, wide)
                return self._added(dict(zip(keys, sums, strict=True)), first, start, wide)

            if whole == 1:
                sums = chunk(0, sums)
            elif whole:
                sums = lax.fori_loop(0, whole, chunk, sums)
            # Only what is left of a register is masked.
            for start, stop in ((whole * wide, end), (end, steps)):
                if start < stop:
                    summed = dict(zip(keys, sums, strict=True))
                    sums = self._added(summed, first, start, stop - start)
            return sums

        sums = lax.fori_loop(0, self.blocks, block, zeros)
        return dict(zip(keys, sums, strict=True))

    def _added(self, sums: dict[Any, Any], first: Any, start: Any, count: int) -> tuple[Any, ...]:
        """`sums`, and what `count` columns from `start` on of a block of rows add to them."""
        made, rows, columns = self.made, self.rows, self.columns
        size = up(count, SUBLANES)
        exists: Any = None
        if size != count or self.left is not None:
            column = lax.broadcasted_iota(jnp.int32, (size, self.scratch.shape[-1]), 0)
            exists = column < (count if self.left is None else self.left - start)
        cotangents = []
        for step in range(made.together):
            ct = self.cotangent[first + step, pl.ds(start, count), :].astype(jnp.float32)
            if size != count:
                self.end[step, :count, :] = ct
                ct = self.end[step]
            if self.left is not None:
                ct = jnp.where(exists, ct, 0.0)
            cotangents.append(ct)
        for at, met in _meetings(made.together, rows.stride, rows.phases[0]):
            row = first * rows.stride + (at - rows.first)
            for offset, column_tap in self.column_taps:
                x = inputs.load(self.scratch, row, made, columns, start, size, offset)
                if exists is not None:
                    x = jnp.where(exists, x, 0.0)
                for step, row_tap in met:
                    sums[row_tap, column_tap] += _folded(x * cotangents[step])
        return tuple(sums.values())


def _folded(products: jax.Array) -> jax.Array:
    """(8, C) of (8*n, C): neighbours first, so that no addition waits for all others."""
    found = [products[at : at + SUBLANES] for at in range(0, products.shape[0], SUBLANES)]
    while len(found) > 1:
        pairs = [a + b for a, b in zip(found[::2], found[1::2], strict=False)]
        found = pairs + found[2 * len(pairs) :]
    return found[0]
