"""Strided pieces of an arranged operand: what taps and windows read."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax.geometry import Geometry


def padded(x: jax.Array, geometry: Geometry, first: int) -> jax.Array:
    """`x`, whose spatial axes start at `first`, dilated and padded, as an array of its own.

    Without the barrier XLA would compute the padding again for every piece that is read.
    """
    configuration = [(0, 0, 0)] * x.ndim
    for axis, (pair, dilation) in enumerate(
        zip(geometry.padding, geometry.input_dilation, strict=True)
    ):
        configuration[first + axis] = (*pair, dilation - 1)
    if all(pads == (0, 0, 0) for pads in configuration):
        return x
    return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), configuration))


def piece(
    x: jax.Array,
    first: int,
    starts: Sequence[Any],
    steps: Sequence[int],
    sizes: Sequence[Any],
) -> jax.Array:
    """The elements of x's spatial axes that lie `steps` apart from `starts` on, `sizes` of them.

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
    low = [0] * x.ndim
    low[first : first + rank] = starts
    shape = (*x.shape[:first], *reach, *x.shape[first + rank :])
    block = lax.dynamic_slice(x, low, shape, allow_negative_indices=False)
    if all(step == 1 for step in steps):
        return block
    index: list[Any] = [slice(None)] * x.ndim
    index[first : first + rank] = [slice(None, None, step) for step in steps]
    return block[tuple(index)]


def reversed_where(kernel: jax.Array, geometry: Geometry, first: int) -> jax.Array:
    """`kernel`, whose window starts at axis `first`, as the taps meet it."""
    if not geometry.reversal:
        return kernel
    return lax.rev(kernel, tuple(range(first, first + geometry.rank)))
