"""Strided pieces of an arranged operand: what taps and windows read."""

import dataclasses
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core.geometry import Geometry, dilated
from convjax._core.symbolic import certainly


def padded(x: jax.Array, geometry: Geometry, first: int, materialized: bool = True) -> jax.Array:
    """`x`, whose spatial axes start at `first`, dilated and padded.

    If it is `materialized`, XLA writes it once. Otherwise XLA may compute the padding again for
    every piece that is read, in what reads the piece.
    """
    pads = _sides(geometry, first)
    if not pads:
        return x
    x = _by_side(x, pads)
    return lax.optimization_barrier(x) if materialized else x


def _sides(geometry: Geometry, first: int) -> list[tuple[int, tuple[Any, Any, int]]]:
    """The axes that are padded or dilated: zeros before, after and between their elements."""
    return [
        (first + axis, (low, high, dilation - 1))
        for axis, ((low, high), dilation) in enumerate(
            zip(geometry.padding, geometry.input_dilation, strict=True)
        )
        if (low, high, dilation) != (0, 0, 1)
    ]


def _by_side(x: jax.Array, pads: list[tuple[int, tuple[Any, Any, int]]]) -> jax.Array:
    """`x` with zeros before, after and between the elements of some axes.

    Axis by axis, and side by side where it is one axis: XLA on CPU compiles a fusion of two pads
    several times faster than one pad, which runs no faster (seen on jaxlib 0.10.2).
    """
    if len(pads) == 1:
        ((axis, (low, high, between)),) = pads
        if all(isinstance(side, int) and side > 0 for side in (low, high)):
            pads = [(axis, (low, 0, between)), (axis, (0, high, 0))]
    for axis, sides in pads:
        config: list[Any] = [(0, 0, 0)] * x.ndim
        config[axis] = sides
        x = lax.pad(x, jnp.zeros((), x.dtype), config)
    return x


def crops(geometry: Geometry) -> list[bool]:
    """On which axes padding is negative, and cuts off elements of an input that is not dilated."""
    return [
        all(isinstance(side, int) for side in pair) and min(pair) < 0 and dilation == 1
        for pair, dilation in zip(geometry.padding, geometry.input_dilation, strict=True)
    ]


def cropped_space(
    space: Sequence[Any], geometry: Geometry
) -> tuple[list[Any], list[Any], Geometry]:
    """Where an input begins and ends without what negative padding cuts off, on every axis, and the
    geometry that is left on it.

    Axes whose input is shorter than what is cut off stay as they are.
    """
    starts, ends, padding = [0] * len(space), list(space), list(geometry.padding)
    for axis, cuts in enumerate(crops(geometry)):
        if not cuts:
            continue
        (lo, hi), size = padding[axis], space[axis]
        before, after = max(0, -lo), max(0, -hi)
        if certainly(operator.gt, size, before + after):
            starts[axis], ends[axis] = before, size - after
            padding[axis] = (max(0, lo), max(0, hi))
    return starts, ends, dataclasses.replace(geometry, padding=tuple(padding))


def cropped(x: jax.Array, geometry: Geometry, first: int) -> tuple[jax.Array, Geometry]:
    """`x`, whose spatial axes start at `first`, without what negative padding cuts off, and the
    geometry that is left on it."""
    space = slice(first, first + geometry.rank)
    starts, ends, left = cropped_space(x.shape[space], geometry)
    if left == geometry:
        return x, geometry
    low, high = [0] * x.ndim, list(x.shape)
    low[space], high[space] = starts, ends
    return lax.slice(x, low, high), left


def piece(
    x: jax.Array,
    first: int,
    starts: Sequence[Any],
    steps: Sequence[int],
    sizes: Sequence[Any],
) -> jax.Array:
    """`sizes` elements of x's spatial axes, from `starts` on, at a distance of `steps`.

    Starts may be traced.
    """
    reach = [(size - 1) * step + 1 for size, step in zip(sizes, steps, strict=True)]
    rank = len(reach)
    if all(isinstance(start, int) for start in starts):
        low, high, stride = [0] * x.ndim, list(x.shape), [1] * x.ndim
        low[first : first + rank] = starts
        high[first : first + rank] = [a + b for a, b in zip(starts, reach, strict=True)]
        stride[first : first + rank] = steps
        return lax.slice(x, low, high, stride)
    corner: list[Any] = [np.int32(0)] * x.ndim  # of one type: Python's integers may have 64 bits
    corner[first : first + rank] = [lax.convert_element_type(start, np.int32) for start in starts]
    shape = (*x.shape[:first], *reach, *x.shape[first + rank :])
    block = lax.dynamic_slice(x, corner, shape, allow_negative_indices=False)
    if all(step == 1 for step in steps):
        return block
    index: list[Any] = [slice(None)] * x.ndim
    index[first : first + rank] = [slice(None, None, step) for step in steps]
    return block[tuple(index)]


def pieces(
    x: jax.Array,
    geometry: Geometry,
    first: int,
    counts: Sequence[int],
    sizes: Sequence[Any],
    partitioned: bool,
    materialized: bool = True,
) -> Iterator[tuple[tuple[int, ...], jax.Array]]:
    """Every index below `counts` and the piece of `x`, `sizes` long, whose first element lies
    ``index * kernel_dilation`` after the first that the geometry reads. `materialized` is as in
    `padded`.

    On several devices the first axis is shifted before it is padded, once for every row of taps:
    pieces of an array whose padded extent its shards do not divide would move one by one, but so a
    shard takes the rows beyond its edge from its neighbours, and nothing else moves.
    """
    shape = x.shape[first : first + len(counts)]
    if partitioned and counts and known(geometry, shape, sizes):
        rows, steps = geometry.along(slice(1)), geometry.along(slice(1, None))
        x = padded(x, steps, first + 1)
        for row in range(counts[0]):
            row_of_taps = shifted(x, rows, first, row, sizes[0])
            for index in np.ndindex(*counts[1:]):
                starts = [i * d for i, d in zip(index, steps.kernel_dilation, strict=True)]
                yield (row, *index), piece(row_of_taps, first + 1, starts, steps.strides, sizes[1:])
        return
    x, geometry = cropped(x, geometry, first)
    x = padded(x, geometry, first, materialized)
    for index in np.ndindex(*counts):
        starts = [i * d for i, d in zip(index, geometry.kernel_dilation, strict=True)]
        yield index, piece(x, first, starts, geometry.strides, sizes)


def known(geometry: Geometry, *sizes: Sequence[Any]) -> bool:
    """Whether neither padding nor sizes are symbolic."""
    return all(isinstance(size, int) for group in (*geometry.padding, *sizes) for size in group)


def shifted(x: jax.Array, geometry: Geometry, axis: int, index: int, size: int) -> jax.Array:
    """`size` elements of `axis`, those that tap `index` of the one-dimensional geometry reads."""
    (step,), (dilation,), ((low, _),) = geometry.strides, geometry.input_dilation, geometry.padding
    low -= index * geometry.kernel_dilation[0]
    high = size * step - low - dilated(x.shape[axis], dilation)
    configuration = [(0, 0, 0)] * x.ndim
    configuration[axis] = (low, high, dilation - 1)
    if configuration[axis] != (0, 0, 0):
        x = lax.pad(x, jnp.zeros((), x.dtype), configuration)
    return x if step == 1 else lax.slice_in_dim(x, 0, None, step, axis)


def exchanged(geometry: Geometry) -> Geometry:
    """The geometry in which taps and outputs change places."""
    return dataclasses.replace(
        geometry, strides=geometry.kernel_dilation, kernel_dilation=geometry.strides
    )


def looped_over(axes: Sequence[int], most: int) -> int:
    """How many axes to loop over, so that the extents of the others make `most` at most."""
    first = len(axes)
    while first > 0 and math.prod(axes[first - 1 :]) <= most:
        first -= 1
    return first


def reversed_where(
    kernel: jax.Array, geometry: Geometry, first: int, hidden: bool = False
) -> jax.Array:
    """`kernel`, whose window starts at axis `first`, as the taps meet it.

    `hidden`: from XLA, which gives oneDNN no kernel that it sees reversed.
    """
    if not geometry.reversal:
        return kernel
    kernel = lax.rev(kernel, tuple(range(first, first + geometry.rank)))
    return lax.optimization_barrier(kernel) if hidden else kernel
