"""The `stacked_sum` lowering: one sum has all elements of a small result.

An element of the result is a sum of products over channels and the window. The products of all
elements lie side by side on a new axis, which is never written: XLA for GPU fuses padding, shifts
and products into the sum, and the sum reads the input and the kernel once. It is for the gradient
of a kernel of few taps in many groups, whose window is the result's gradient.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core.layout import arranged, restored
from convjax._lowerings.lowering import Lowering, never
from convjax._lowerings.problem import Call, Problem, count
from convjax._lowerings.tools.slices import padded, piece, reversed_where

_WRITTEN_OUT = 64  # elements for every group, at most, so that compiling stays quick


def accepts(problem: Problem) -> str | None:
    if count((problem.n, problem.o, *problem.out_space)) > _WRITTEN_OUT:
        return f"its result has more than {_WRITTEN_OUT} elements for every group"
    return None


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    geometry, rank, axes = call.geometry, call.geometry.rank, call.layout
    shape, result, sums = call.out_shape(x, kernel), call.result_type(x), call.accumulator(x)
    out_space = axes.out.sizes(shape, "space")
    # Operands stay in the caller's order. The new axis comes right before the groups, or right
    # after them where they lie before space: elements that read the same piece are neighbours.
    roles, first, channel, new = "contract space group {}", 1, -1, -2
    if call.groups_first:
        roles, first, channel, new = "contract group {} space", 3, 2, 2
    x = arranged(x, axes.x, roles.format("batch")).astype(sums)
    kernel = arranged(kernel, axes.kernel, roles.format("out")).astype(sums)
    inputs, outputs = (
        [lax.index_in_dim(a, at, channel, keepdims=False) for at in range(a.shape[channel])]
        for a in (x, reversed_where(kernel, geometry, first))
    )
    first -= int(call.groups_first)
    inputs = [padded(one, geometry, first, materialized=False) for one in inputs]
    window = outputs[0].shape[first : first + rank]

    def product(i: int, o: int, *place: int) -> Any:
        """What one element of the result is the sum of, for every group."""
        starts = [at * stride for at, stride in zip(place, geometry.strides, strict=True)]
        return piece(inputs[i], first, starts, geometry.kernel_dilation, window) * outputs[o]

    indices = np.ndindex(len(inputs), len(outputs), *out_space)
    products = jnp.stack([product(*index) for index in indices], new)
    kept = (1, 2) if call.groups_first else (products.ndim - 2, products.ndim - 1)
    y = products.sum([axis for axis in range(products.ndim) if axis not in kept])
    order = "group batch out space" if call.groups_first else "batch out space group"
    return restored(y.astype(result), axes.out, order, shape)


LOWERING = Lowering("stacked_sum", run, accepts, never)
