"""Causal depthwise convolution of a sequence on TPU, with all that surrounds it, in one pass.

x (N, T, C) goes once from HBM through VMEM: state, segments, bias and activation are applied there.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from convjax._lowerings.pallas_kernels import scratch as inputs
from convjax._lowerings.pallas_kernels.tiles import LANES, Line, Tiles, line, tiles, up


def causal(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    state: jax.Array | None,
    places: jax.Array | None,
    *,
    dilation: int,
    activation: Any,
    dtype: Any,
    interpret: Any,
) -> jax.Array:
    """``activation(bias + sum_j x[t - (K-1-j)*dilation] * kernel[j])``, (N, T, C) in `dtype`.

    Args:
        x: (N, T, C), bfloat16 or float32.
        kernel: (K, C).
        bias: (C,), or None.
        state: (N, (K-1)*dilation, C), what lies before the first step; None for zeros.
        places: (N, T) int32, how many steps of its sequence lie before each step: a tap that
            reaches over more meets zeros. None for one sequence.
        dilation: between taps.
        activation: a function of a float32 array, or None.
        dtype: of the result.
        interpret: for `pallas_call`.
    """
    n, steps, c = x.shape
    taps = kernel.shape[0]
    held = (taps - 1) * dilation
    rows = line(1, 1, 1)
    columns = line(steps, taps, steps, dilation=dilation, low=held)
    made = tiles(rows, columns, 1, c, max(x.dtype.itemsize, jnp.dtype(dtype).itemsize))
    grid = inputs.Grid.of(made, n, c)
    found = inputs.specs(made, rows, columns, grid.order)
    wide = made.columns.steps if made.halo else steps
    operands: list[jax.Array] = [x[:, None]] * len(found)

    def add(array: jax.Array, shape: tuple[int, ...], index: Any) -> None:
        """`index` makes block indices of those of (image, column tile, channel tile)."""
        operands.append(array)

        def of_step(*step: Any) -> Any:
            image, _, column, channel = grid.order(*step)
            return index(image, column, channel)

        found.append(pl.BlockSpec(shape, of_step))

    add(kernel.astype(jnp.float32), (taps, made.channels), lambda n, t, c: (0, c))
    if bias is not None:
        add(bias.astype(jnp.float32)[None], (1, made.channels), lambda n, t, c: (0, c))
    if state is not None and held:
        state = jnp.pad(state.astype(jnp.float32), ((0, 0), (made.before - held, 0), (0, 0)))
        add(state, (1, made.before, made.channels), lambda n, t, c: (n, 0, c))
    if places is not None and held:
        # A row of a multiple of 128 steps per tile, as the chunks have it.
        count, there = up(wide, LANES), made.columns.tiles
        places = jnp.minimum(places, held).astype(jnp.float32)
        places = jnp.pad(places, ((0, 0), (0, there * wide - steps))).reshape(n, there, wide)
        places = jnp.pad(places, ((0, 0), (0, 0), (0, count - wide))).reshape(n, there * count)
        add(places[:, None], (1, 1, count), lambda n, t, c: (n, 0, t))
    run = pl.pallas_call(
        functools.partial(
            _causal,
            made=made,
            rows=rows,
            columns=columns,
            has=(bias is not None, state is not None and held > 0, places is not None and held > 0),
            activation=activation,
        ),
        grid=grid.shape,
        in_specs=found,
        out_specs=pl.BlockSpec((1, 1, wide, made.channels), grid.order),
        out_shape=inputs.out_struct((n, 1, steps, c), dtype, x),
        scratch_shapes=[
            pltpu.VMEM((*made.scratch, made.channels), jnp.float32),
        ],
        compiler_params=grid.parallel,
        interpret=interpret,
        name="depthwise_causal",
    )
    y: jax.Array = run(*operands)
    return y[:, 0]


def _causal(
    *refs: Any,
    made: Tiles,
    rows: Line,
    columns: Line,
    has: tuple[bool, bool, bool],
    activation: Any,
) -> None:
    count = len(inputs.specs(made, rows, columns, None))
    found, (kernel, *rest) = refs[:count], refs[count:]
    bias, state, places = (rest.pop(0) if there else None for there in has)
    out, scratch = rest
    tile = pl.program_id(4)

    @pl.when(inputs.is_first())
    def _() -> None:
        inputs.clear(scratch, made, rows, columns)

    inputs.fill(scratch, 0, found, made, rows, columns, (0, tile))
    if state is not None:

        @pl.when(tile == 0)
        def _() -> None:
            scratch[0, made.left - made.before : made.left, :] = state[0]

    ((taps),) = columns.phases

    def chunk(start: Any, count: int) -> None:
        total: Any = None
        place = None if places is None else _down(places, start, count, scratch.shape[-1])
        if bias is not None:
            total = jnp.broadcast_to(bias[...], (count, scratch.shape[-1]))
        for offset, tap in taps:
            x = inputs.load(scratch, 0, made, columns, start, count, offset)
            if place is not None and offset < 0:
                x = jnp.where(place >= -offset, x, 0.0)
            term = x * kernel[tap : tap + 1, :]
            total = term if total is None else total + term
        if activation is not None:
            total = activation(total)
        out[0, 0, pl.ds(start, count), :] = total.astype(out.dtype)

    inputs.by_chunks(made.columns.steps, LANES if places is not None else made.chunk, chunk)


def _down(places: Any, start: Any, count: int, channels: int) -> jax.Array:
    """(count, channels): the places of `count` steps, each in all channels."""
    row = places[0, :, pl.ds(start, LANES)]
    column: jax.Array = jnp.transpose(jnp.broadcast_to(row, (LANES, LANES)))
    return column[:count, :channels]
