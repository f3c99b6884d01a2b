"""Boundary modes as a linear map: what lies beyond the edges is copied from inside."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax.geometry import Pair


def extend(
    x: jax.Array, extension: Sequence[Pair], modes: Sequence[str], axes: Sequence[int]
) -> jax.Array:
    """`x` with its spatial `axes` extended by their boundary modes: a linear map.

    Only the extended axis is sliced (unlike by ``jnp.pad``), so that others may be sharded.
    """
    for axis, (lo, hi), mode in zip(axes, extension, modes, strict=True):
        if mode != "constant" and (lo, hi) != (0, 0):
            before, after = _beyond(x, axis, lo, hi, mode)
            x = jnp.concatenate([before, x, after], axis)
    return x


def _beyond(x: jax.Array, axis: int, lo: Any, hi: Any, mode: str) -> tuple[jax.Array, jax.Array]:
    """What `mode` puts before and after `x` along `axis`, `lo` and `hi` elements."""
    n = x.shape[axis]

    def part(start: Any, stop: Any) -> jax.Array:
        return lax.slice_in_dim(x, start, stop, axis=axis)

    def mirrored(start: Any, stop: Any) -> jax.Array:
        return lax.rev(part(start, stop), (axis,))

    def repeated(start: Any, times: Any) -> jax.Array:
        shape = (*x.shape[:axis], times, *x.shape[axis + 1 :])
        return jnp.broadcast_to(part(start, start + 1), shape)

    if mode == "edge":
        return repeated(0, lo), repeated(n - 1, hi)
    if mode == "wrap":
        return part(n - lo, n), part(0, hi)
    if mode == "symmetric":
        return mirrored(0, lo), mirrored(n - hi, n)
    return mirrored(1, lo + 1), mirrored(n - 1 - hi, n - 1)  # reflect


def fold(
    y: jax.Array,
    extension: Sequence[Pair],
    modes: Sequence[str],
    axes: Sequence[int],
) -> jax.Array:
    """The adjoint of `extend`: copies beyond the edges are added back to their origins."""
    if all(pair == (0, 0) for pair in extension):
        return y
    shape = list(y.shape)
    for axis, (lo, hi) in zip(axes, extension, strict=True):
        shape[axis] = shape[axis] - lo - hi
    # linear_transpose wants an input of y's own type, shardings included: crop y to that shape
    start = [0] * y.ndim
    for axis, (lo, _) in zip(axes, extension, strict=True):
        start[axis] = lo
    like = jax.eval_shape(
        lambda y: y[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))], y
    )
    (x,) = jax.linear_transpose(lambda x: extend(x, extension, modes, axes), like)(y)
    return x
