"""The `per_group` lowering: one dense convolution for every group."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax.layout import Axes, restored
from convjax.lowerings.call import Call, Problem, count

_UNROLLED = 64


def accepts(problem: Problem) -> str | None:
    """Why not, or None."""
    if count((problem.groups,)) > _UNROLLED:
        return f"it has more than {_UNROLLED} groups ({problem.groups})"
    return None


def partitionable(problem: Problem) -> bool:
    """Groups are taken one by one from an axis that may be sharded."""
    return problem.groups == 1


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    """The convolution; `x`, `kernel` and the result in the caller's layout."""
    layout, shape = call.layout, call.out_shape(x, kernel)

    def only(operand: jax.Array, axes: Axes, group: tuple[int, ...]) -> jax.Array:
        low, high = [0] * operand.ndim, list(operand.shape)
        for axis, index in zip(axes.group, group, strict=True):
            low[axis], high[axis] = index, index + 1
        return lax.squeeze(lax.slice(operand, low, high), axes.group)

    dense = layout.ungrouped()
    results = [
        call.convolve(
            only(x, layout.x, group),
            only(kernel, layout.kernel, group),
            layout=dense,
            geometry=call.geometry,
            role=call.role,
        )
        for group in np.ndindex(*layout.x.sizes(x.shape, "group"))
    ]
    if not layout.out.group:
        return results[0]
    # Several group axes are one until `restored` parts them; it stands where the last one does.
    rest = Axes(*dense.out)
    order = "batch space group out"
    moved = [
        lax.transpose(y, [*rest.batch, *rest.space, *rest.out]) for y in results
    ]
    y = jnp.stack(moved, len(rest.batch) + len(rest.space))
    return restored(y, layout.out, order, shape)
