"""The `per_group` lowering: one dense convolution for every group, many groups in a loop."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core.layout import arranged, canonical, restored
from convjax._lowerings.lowering import Lowering, for_kernel_gradients
from convjax._lowerings.problem import Call, Problem, is_product
from convjax._lowerings.tools.slices import reversed_where
from convjax._lowerings.tools.xla import isolated
from convjax._sharding.sharding import same_varying

WRITTEN_OUT = 8  # groups whose window, or result, is one element, at most; more are looped over
_WINDOWS_WRITTEN_OUT = 4  # other groups: each is compiled with all that its convolution copies
_GROUPS_PER_TURN = 2  # groups in one turn of the loop: XLA runs them side by side


def accepts(problem: Problem) -> str | None:
    if not isinstance(problem.groups, int):
        return f"the number of its groups ({problem.groups}) is symbolic"
    if problem.groups == 1:
        return "it has one group"
    return None


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    problem = call.problem
    most = WRITTEN_OUT if is_product(problem) else _WINDOWS_WRITTEN_OUT
    written_out = problem.groups <= most and len(call.layout.x.group) == 1
    return (_one_by_one if written_out else _in_turns)(x, kernel, call)


def _one_by_one(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    """Groups are cut out where they lie, which copies each of them once."""
    layout = call.layout
    (x_axis,), (kernel_axis,), (out_axis,) = (axes.group for axes in layout)
    convolved: Callable[..., jax.Array] = functools.partial(
        call.again, layout=layout.ungrouped(), geometry=call.geometry, role=call.role
    )
    # Not of types that are widened: jaxlib 0.10.2 compiles such calls three times as long (0.12
    # a third as long).
    widened = call.accumulator(x) != x.dtype
    if call.target.is_one_cpu and not widened and not is_product(call.problem):
        # As calls, of which XLA compiles one, and what one copies is gone before the next copies.
        convolved = isolated(convolved)
    parts = [
        convolved(
            lax.index_in_dim(x, group, x_axis, keepdims=False),
            lax.index_in_dim(kernel, group, kernel_axis, keepdims=False),
        )
        for group in range(x.shape[x_axis])
    ]
    return jnp.stack(parts, out_axis)


def _in_turns(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    """Groups are brought first, and taken in a loop."""
    layout, shape = call.layout, call.out_shape(x, kernel)
    groups = math.prod(layout.x.sizes(x.shape, "group"))
    x = arranged(x, layout.x, "group batch space contract", whole=True)
    kernel = arranged(kernel, layout.kernel, "group space contract out", whole=True)
    # Reversed here, with the copy that brings groups first, and not once more in every turn.
    kernel = reversed_where(kernel, call.geometry, 1)
    geometry = dataclasses.replace(call.geometry, reversal=False)
    dense = canonical(geometry.rank).ungrouped()

    def convolved(x: jax.Array, kernel: jax.Array, group: jax.Array) -> jax.Array:
        cut = functools.partial(
            lax.dynamic_index_in_dim, index=group, keepdims=False, allow_negative_indices=False
        )
        return call.again(cut(x), cut(kernel), layout=dense, geometry=geometry, role="forward")

    if call.target.is_one_cpu:  # as a call, of which XLA compiles one for the groups of a turn
        convolved = isolated(convolved)

    def turn(state: tuple[Any, jax.Array], number: int = _GROUPS_PER_TURN) -> tuple[Any, jax.Array]:
        group, y = state
        parts = jnp.stack([convolved(x, kernel, group + np.int32(i)) for i in range(number)])
        y = lax.dynamic_update_slice_in_dim(y, parts, group, 0, allow_negative_indices=False)
        return group + np.int32(number), y

    out_space = geometry.output_space(x.shape[2:-1], kernel.shape[1:-2])
    zeros = jnp.zeros((groups, x.shape[1], *out_space, kernel.shape[-1]), call.result_type(x))
    y = same_varying(zeros, x, kernel)[0]
    # Counted, and not scanned: XLA compiles no kernels that only look up an index.
    rest = groups % _GROUPS_PER_TURN
    _, y = state = lax.while_loop(lambda state: state[0] < groups - rest, turn, (np.int32(0), y))
    if rest:
        _, y = turn(state, rest)
    return restored(y, layout.out, "group batch space out", shape, whole=True)


LOWERING = Lowering("per_group", run, accepts, for_kernel_gradients)
