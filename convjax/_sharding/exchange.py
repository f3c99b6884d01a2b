"""What a device does with the parts of neighbours: rows around its own, strips from far away.

All functions run where the mesh axes of `line` are manual; a shard is a position along them.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._sharding.partition import Rows, Share, Strip


class Line:
    """The shards that split an axis, in a row: mesh axes, major first.

    JAX's collectives order devices as the mesh has its axes, which may be another order.
    """

    def __init__(self, names: Sequence[str], mesh: Mapping[str, int]) -> None:
        self.names, self.mesh = tuple(names), mesh
        self.in_mesh_order = tuple(name for name in mesh if name in self.names)
        self.shards = math.prod(mesh[name] for name in self.names)

    def position(self) -> jax.Array:
        """This shard's number."""
        number = jnp.zeros((), np.int32)
        for name in self.names:
            number = number * self.mesh[name] + lax.axis_index(name)
        return number

    def _number_in_mesh_order(self, shard: int) -> int:
        places = {}
        for name in reversed(self.names):
            shard, places[name] = divmod(shard, self.mesh[name])
        number = 0
        for name in self.in_mesh_order:
            number = number * self.mesh[name] + places[name]
        return number

    def sent(self, part: jax.Array, pairs: Sequence[tuple[int, int]]) -> jax.Array:
        """What this shard gets if senders send `part`; zeros where none sends."""
        if not pairs:
            return jnp.zeros_like(part)
        ordered = [tuple(map(self._number_in_mesh_order, pair)) for pair in pairs]
        return lax.ppermute(part, self.in_mesh_order, ordered)

    def gathered(self, part: jax.Array) -> list[jax.Array]:
        """All shards' parts, in the order of the shards."""
        every = lax.all_gather(part, self.in_mesh_order)
        return [every[self._number_in_mesh_order(shard)] for shard in range(self.shards)]


def existing(part: jax.Array, axis: int, size: int, line: Line) -> jax.Array:
    """`part` of an axis of `size` elements; zeros where the last blocks have no elements."""
    if part.shape[axis] * line.shards == size:
        return part
    index = _indices(part, axis, line.position() * part.shape[axis])
    return jnp.where(index < size, part, jnp.zeros((), part.dtype))


def needed_rows(part: jax.Array, axis: int, rows: Rows, line: Line) -> jax.Array:
    """The rows that this shard needs, from its own `part` and from neighbours."""
    strips = received(part, axis, rows, line)
    return surrounded(part, *strips, axis=axis, rows=rows, line=line)


def received(part: jax.Array, axis: int, rows: Rows, line: Line) -> list[jax.Array]:
    """What this shard gets of others: the strips before and after its own `part`, or all parts."""
    if rows.rows == 0:
        return []
    if rows.whole:
        return line.gathered(part)
    strips = []
    for count, pairs in rows.hops("before"):
        last = lax.slice_in_dim(part, part.shape[axis] - count, None, axis=axis)
        strips.append(line.sent(last, pairs))
    for count, pairs in rows.hops("after"):
        first = lax.slice_in_dim(part, 0, count, axis=axis)
        strips.append(line.sent(first, pairs))
    return strips


def surrounded(part: jax.Array, *strips: jax.Array, axis: int, rows: Rows, line: Line) -> jax.Array:
    """The rows that this shard needs, from its own `part` and what it `received`."""

    def zeros(count: int) -> list[jax.Array]:
        shape = (*part.shape[:axis], count, *part.shape[axis + 1 :])
        return [jnp.zeros(shape, part.dtype)] if count else []

    if rows.rows == 0:
        return lax.slice_in_dim(part, 0, 0, axis=axis)
    before = len(rows.hops("before"))
    pieces = strips if rows.whole else (*strips[:before], part, *strips[before:])
    pieces = (*zeros(rows.lead), *pieces, *zeros(rows.trail))
    buffer = lax.concatenate(pieces, axis) if len(pieces) > 1 else pieces[0]
    return taken(buffer, axis, rows.starts, rows.rows, line)


def taken(x: jax.Array, axis: int, starts: Sequence[int], size: int, line: Line) -> jax.Array:
    """`size` elements of `x` along `axis`, from this shard's entry of `starts` on."""
    if len(set(starts)) > 1:
        start = jnp.array(starts, np.int32)[line.position()]
        return lax.dynamic_slice_in_dim(x, start, size, axis)
    if size == x.shape[axis]:
        return x
    return lax.slice_in_dim(x, starts[0], starts[0] + size, axis=axis)


def among_zeros(part: jax.Array, axis: int, share: Share, line: Line) -> jax.Array:
    """A window in which this shard's `part` lies where its taps do."""
    if share.window == part.shape[axis]:
        return part
    shape = (*part.shape[:axis], share.window, *part.shape[axis + 1 :])
    start = jnp.array(share.tap_skips, np.int32)[line.position()]
    return lax.dynamic_update_slice_in_dim(jnp.zeros(shape, part.dtype), part, start, axis)


def fetched(part: jax.Array, axis: int, strip: Strip, line: Line) -> jax.Array:
    """The strip's elements, on the shards that need them."""
    index = jnp.arange(strip.length) + strip.first - line.position() * strip.block
    shape = [-1 if a == axis else 1 for a in range(part.ndim)]
    held = ((index >= 0) & (index < strip.block)).reshape(shape)
    elements = jnp.take(part, jnp.clip(index, 0, strip.block - 1), axis=axis)
    own = jnp.where(held, elements, jnp.zeros((), part.dtype))
    total = own if strip.kept else jnp.zeros_like(own)
    for pairs in strip.hops:  # an element has one holder: nothing but zeros is added to it
        total = total + line.sent(own, pairs)
    return total


def replaced(
    x: jax.Array, axis: int, starts: Sequence[int], strip: jax.Array, line: Line
) -> jax.Array:
    """`x` with the elements of `strip` where they lie: from this shard's entry of `starts` on.

    Those that would lie outside `x` are left out.
    """
    inside, elements = _aligned(x, axis, starts, strip, line)
    return jnp.where(inside, elements, x)


def increased(
    x: jax.Array, axis: int, starts: Sequence[int], strip: jax.Array, line: Line
) -> jax.Array:
    """`x` plus the elements of `strip` where they lie, as in `replaced`."""
    inside, elements = _aligned(x, axis, starts, strip, line)
    return x + jnp.where(inside, elements, jnp.zeros((), x.dtype))


def _aligned(
    x: jax.Array, axis: int, starts: Sequence[int], strip: jax.Array, line: Line
) -> tuple[jax.Array, jax.Array]:
    """Where along `x` the strip lies, and for every element of `x` what of the strip lies there."""
    start = jnp.array(starts, np.int32)[line.position()]
    count = strip.shape[axis]
    index = jnp.arange(x.shape[axis]) - start
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    inside = ((index >= 0) & (index < count)).reshape(shape)
    return inside, jnp.take(strip, jnp.clip(index, 0, count - 1), axis=axis)


def _indices(part: jax.Array, axis: int, first: jax.Array) -> jax.Array:
    return first + lax.broadcasted_iota(np.int32, part.shape, axis)
