"""What a device does with the parts of neighbours: rows around its own, strips from far away.

All functions run where the mesh axes `names` are manual; a shard is a position along them.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax.partition import Rows, Share, Strip


def existing(part: jax.Array, axis: int, size: int, shards: int, names: Any) -> jax.Array:
    """`part` of an axis of `size` elements; zeros for elements of a last block that do not exist."""
    if part.shape[axis] * shards == size:
        return part
    index = _indices(part, axis, lax.axis_index(names) * part.shape[axis])
    return jnp.where(index < size, part, jnp.zeros((), part.dtype))


def needed_rows(part: jax.Array, axis: int, rows: Rows, names: Any) -> jax.Array:
    """The rows that this shard needs, from its own `part` and from neighbours."""

    def zeros(count: int) -> list[jax.Array]:
        shape = (*part.shape[:axis], count, *part.shape[axis + 1 :])
        return [jnp.zeros(shape, part.dtype)] if count else []

    if rows.rows == 0:
        return lax.slice_in_dim(part, 0, 0, axis=axis)
    if rows.whole:
        pieces = [lax.all_gather(part, names, axis=axis, tiled=True)]
    else:
        before, after = [], []
        for count, pairs in rows.hops("before"):
            last = lax.slice_in_dim(part, part.shape[axis] - count, None, axis=axis)
            before.append(_sent(last, names, pairs))
        for count, pairs in rows.hops("after"):
            first = lax.slice_in_dim(part, 0, count, axis=axis)
            after.append(_sent(first, names, pairs))
        pieces = [*before, part, *after]
    pieces = [*zeros(rows.lead), *pieces, *zeros(rows.trail)]
    buffer = lax.concatenate(pieces, axis) if len(pieces) > 1 else pieces[0]
    return taken(buffer, axis, rows.starts, rows.rows, names)


def _sent(part: jax.Array, names: Any, pairs: Sequence[tuple[int, int]]) -> jax.Array:
    """What this shard gets if senders send `part`; zeros where none sends."""
    return lax.ppermute(part, names, pairs) if pairs else jnp.zeros_like(part)


def taken(x: jax.Array, axis: int, starts: Sequence[int], size: int, names: Any) -> jax.Array:
    """`size` elements of `x` along `axis`, from this shard's entry of `starts` on."""
    if len(set(starts)) > 1:
        start = jnp.array(starts, np.int32)[lax.axis_index(names)]
        return lax.dynamic_slice_in_dim(x, start, size, axis)
    if size == x.shape[axis]:
        return x
    return lax.slice_in_dim(x, starts[0], starts[0] + size, axis=axis)


def among_zeros(part: jax.Array, axis: int, share: Share, names: Any) -> jax.Array:
    """A window in which this shard's `part` lies where its taps do."""
    if share.window == part.shape[axis]:
        return part
    shape = (*part.shape[:axis], share.window, *part.shape[axis + 1 :])
    start = jnp.array(share.tap_skips, np.int32)[lax.axis_index(names)]
    return lax.dynamic_update_slice_in_dim(jnp.zeros(shape, part.dtype), part, start, axis)


def fetched(part: jax.Array, axis: int, strip: Strip, names: Any) -> jax.Array:
    """The strip's elements, on the shards that need them."""
    index = jnp.arange(strip.count) + strip.first - lax.axis_index(names) * strip.block
    shape = [-1 if a == axis else 1 for a in range(part.ndim)]
    held = ((index >= 0) & (index < strip.block)).reshape(shape)
    elements = jnp.take(part, jnp.clip(index, 0, strip.block - 1), axis=axis)
    own = jnp.where(held, elements, jnp.zeros((), part.dtype))
    total = own if strip.kept else jnp.zeros_like(own)
    for pairs in strip.hops:  # an element has one holder: nothing but zeros is added to it
        total = total + lax.ppermute(own, names, pairs)
    return total


def replaced(
    x: jax.Array, axis: int, starts: Sequence[int], strip: jax.Array, names: Any
) -> jax.Array:
    """`x` with the elements of `strip` where they lie: from this shard's entry of `starts` on.

    Those that would lie outside `x` are left out.
    """
    inside, elements = _aligned(x, axis, starts, strip, names)
    return jnp.where(inside, elements, x)


def increased(
    x: jax.Array, axis: int, starts: Sequence[int], strip: jax.Array, names: Any
) -> jax.Array:
    """`x` plus the elements of `strip` where they lie, as in `replaced`."""
    inside, elements = _aligned(x, axis, starts, strip, names)
    return x + jnp.where(inside, elements, jnp.zeros((), x.dtype))


def _aligned(
    x: jax.Array, axis: int, starts: Sequence[int], strip: jax.Array, names: Any
) -> tuple[jax.Array, jax.Array]:
    """Where along `x` the strip lies, and for every element of `x` what of the strip lies there."""
    start = jnp.array(starts, np.int32)[lax.axis_index(names)]
    count = strip.shape[axis]
    index = jnp.arange(x.shape[axis]) - start
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    inside = ((index >= 0) & (index < count)).reshape(shape)
    return inside, jnp.take(strip, jnp.clip(index, 0, count - 1), axis=axis)


def _indices(part: jax.Array, axis: int, first: jax.Array) -> jax.Array:
    return first + lax.broadcasted_iota(np.int32, part.shape, axis)
