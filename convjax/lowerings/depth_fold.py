"""The `depth_fold` lowering: the window's first axis becomes channels, for one rank less.

XLA on CPU has a fast path for two dimensions and a slow one for three. Every output's depth is an
example of its own, whose channels are those of all the depths it reads.
"""

import jax
import jax.numpy as jnp

from convjax.layout import arranged, canonical, moved, restored
from convjax.lowerings.call import Call, Problem, count
from convjax.lowerings.patches import exchanged, reversed_where, shifted

apart = True
_COPIES = 64  # times that the input may be read


def accepts(problem: Problem) -> str | None:
    """Why not, or None."""
    if problem.geometry.rank < 2:
        return f"it has fewer than two spatial axes ({problem.geometry.rank})"
    if problem.groups != 1:
        return f"it has groups ({problem.groups})"
    copies = min(count(problem.window[:1]), count(problem.out_space[:1]))
    if copies > _COPIES:
        return f"neither its window nor its output is at most {_COPIES} deep"
    return None


def partitionable(problem: Problem) -> bool:
    """Output depths join the batch, wherever they were."""
    return False


def elements_moved(problem: Problem) -> float:
    """Elements of an example that are written before they are convolved: of the padded input, and
    of its copies."""
    depth = problem.space[0] if any(problem.geometry.padding[0]) else 0
    copies = problem.window[0] * problem.out_space[0]
    return (depth + copies) * count((*problem.space[1:], problem.i))


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    """The convolution; `x`, `kernel` and the result in the caller's layout."""
    layout, geometry, shape = call.layout, call.geometry, call.out_shape(x, kernel)
    depth, flat = geometry.along(slice(1)), geometry.along(slice(1, None))
    x = arranged(x, layout.x, "batch space contract", whole=True)
    kernel = arranged(kernel, layout.kernel, "space contract out", whole=True)
    kernel = reversed_where(kernel, depth, 0)
    taps, outputs = kernel.shape[0], shape[layout.out.space[0]]
    if count((taps,)) <= count((outputs,)):
        pieces = [shifted(x, depth, 1, tap, outputs) for tap in range(taps)]
        x = jnp.stack(pieces, -2)  # (N, outputs, *space, taps, I)
    else:  # an output meets the taps as a tap meets the outputs
        depth = exchanged(depth)
        pieces = [shifted(x, depth, 1, output, taps) for output in range(outputs)]
        x = jnp.moveaxis(jnp.stack(pieces, 1), 2, -2)
    x = x.reshape(-1, *x.shape[2:-2], taps * x.shape[-1])
    kernel = moved(
        kernel, [*range(1, geometry.rank), 0, geometry.rank, geometry.rank + 1], whole=True
    )
    kernel = kernel.reshape(*kernel.shape[:-3], taps * kernel.shape[-2], kernel.shape[-1])
    y = call.convolve(
        x, kernel, layout=canonical(flat.rank).ungrouped(), geometry=flat, role="forward"
    )
    return restored(y, layout.out, "batch space out", shape, whole=True)
