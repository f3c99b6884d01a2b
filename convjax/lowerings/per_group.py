"""The `per_group` lowering: one dense convolution for every group, many groups in a loop."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from convjax.layout import arranged, canonical, restored
from convjax.lowerings.call import Call, Problem
from convjax.lowerings.patches import reversed_where

_UNROLLED = 8  # groups written out
_TOGETHER = 2  # groups in one turn of the loop: XLA runs them side by side


def accepts(problem: Problem) -> str | None:
    """Why not, or None."""
    if not isinstance(problem.groups, int):
        return f"the number of its groups ({problem.groups}) is symbolic"
    if problem.groups == 1:
        return "it has one group"
    return None


def partitionable(problem: Problem) -> bool:
    """Groups are taken one by one from an axis that may be sharded."""
    return False


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    """The convolution; `x`, `kernel` and the result in the caller's layout."""
    layout, shape = call.layout, call.out_shape(x, kernel)
    x = arranged(x, layout.x, "group batch space contract", whole=True)
    kernel = arranged(kernel, layout.kernel, "group space contract out", whole=True)
    # Reversed here, with the copy that brings groups first, and not once more in every turn.
    kernel = reversed_where(kernel, call.geometry, 1)
    geometry = dataclasses.replace(call.geometry, reversal=False)
    dense = canonical(geometry.rank).ungrouped()

    def one(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return call.convolve(x, kernel, layout=dense, geometry=geometry, role="forward")

    groups = x.shape[0]
    if groups <= _UNROLLED:
        y = jnp.stack([one(x[group], kernel[group]) for group in range(groups)])
    else:
        _, y = lax.scan(lambda _, pair: (None, one(*pair)), None, (x, kernel), unroll=_TOGETHER)
    return restored(y, layout.out, "group batch space out", shape, whole=True)
