"""Boundary modes as a linear map: what lies beyond the edges is copied from inside."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from convjax.geometry import Pair


def extend(
    x: jax.Array, extension: Sequence[Pair], modes: Sequence[str], axes: Sequence[int]
) -> jax.Array:
    """`x` with its spatial `axes` extended by their boundary modes: a linear map."""
    for axis, pair, mode in zip(axes, extension, modes, strict=True):
        if mode == "constant" or pair == (0, 0):
            continue
        widths = [(0, 0)] * x.ndim
        widths[axis] = pair
        x = jnp.pad(x, widths, mode=mode)
    return x


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
