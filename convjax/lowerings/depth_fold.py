"""The `depth_fold` lowering: one axis of the window becomes channels, for one rank less.

XLA on CPU has a fast path for two dimensions and a slow one for three. Call that axis depth. Every
output depth becomes an example, whose channels are the channels of all depths that it reads.
"""

import jax
import jax.numpy as jnp

from convjax.layout import arranged, canonical, moved, restored
from convjax.lowerings._tools.slices import exchanged, reversed_where, shifted
from convjax.lowerings.lowering import Lowering, always
from convjax.lowerings.problem import Call, Problem, count, window_exceeds_output

_COPIES = 64  # times that the input may be read


def folded(problem: Problem) -> int:
    """Which axis: the first, whose depths are examples where they lie; for the kernel's gradient of
    one example the last, whose elements are channels of the cotangent where they lie."""
    one = window_exceeds_output(problem) and count((problem.i,)) == 1
    return problem.geometry.rank - 1 if one else 0


def copies(problem: Problem) -> float:
    """How many times the input is read."""
    axis = folded(problem)
    return min(count((problem.window[axis],)), count((problem.out_space[axis],)))


def accepts(problem: Problem) -> str | None:
    if problem.geometry.rank < 2:
        return f"it has fewer than two spatial axes ({problem.geometry.rank})"
    if problem.groups != 1:
        return f"it has groups ({problem.groups})"
    if copies(problem) > _COPIES:
        return f"neither its window nor its output is at most {_COPIES} long on the folded axis"
    return None


def elements_moved(problem: Problem) -> float:
    """Elements of an example that are written before they are convolved, where the first axis is
    folded: of the padded input, and of its copies."""
    depth = problem.space[0] if any(problem.geometry.padding[0]) else 0
    read = problem.window[0] * problem.out_space[0]
    return (depth + read) * count((*problem.space[1:], problem.i))


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    layout, geometry, shape = call.layout, call.geometry, call.out_shape(x, kernel)
    axis = folded(call.problem)
    depth = geometry.along(slice(axis, axis + 1))
    flat = geometry.along(slice(0, axis) if axis else slice(1, None))
    x = arranged(x, layout.x, "batch space contract", whole=True)
    kernel = arranged(kernel, layout.kernel, "space contract out", whole=True)
    kernel = reversed_where(kernel, depth, axis)
    taps, outputs = kernel.shape[axis], shape[layout.out.space[axis]]
    if count((taps,)) <= count((outputs,)):
        pieces = [shifted(x, depth, 1 + axis, tap, outputs) for tap in range(taps)]
        x = jnp.moveaxis(jnp.stack(pieces, -2), 1 + axis, 1)
    else:  # an output meets the taps as a tap meets the outputs
        depth = exchanged(depth)
        pieces = [shifted(x, depth, 1 + axis, output, taps) for output in range(outputs)]
        x = jnp.moveaxis(jnp.stack(pieces, 1), 2 + axis, -2)
    # (N, outputs, *space, taps, I)
    examples = x.shape[0]
    x = x.reshape(-1, *x.shape[2:-2], taps * x.shape[-1])
    order = [*range(axis), *range(axis + 1, geometry.rank), axis, geometry.rank, geometry.rank + 1]
    kernel = moved(kernel, order, whole=True)
    kernel = kernel.reshape(*kernel.shape[:-3], taps * kernel.shape[-2], kernel.shape[-1])
    y = call.again(
        x, kernel, layout=canonical(flat.rank).ungrouped(), geometry=flat, role="forward"
    )
    y = jnp.moveaxis(y.reshape(examples, outputs, *y.shape[1:]), 1, 1 + axis)
    return restored(y, layout.out, "batch space out", shape, whole=True)


LOWERING = Lowering("depth_fold", run, accepts, always)
