"""The `depth_fold` lowering: one axis of the window becomes channels, for one rank less.

XLA on CPU has a fast path for two dimensions and a slow one for three. Call that axis depth. Every
output depth becomes an example, whose channels are the channels of all depths that it reads.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.layout import arranged, canonical, moved, restored
from convjax._lowerings import thresholds as at
from convjax._lowerings.lowering import Lowering, always
from convjax._lowerings.problem import Call, Problem, count, is_large, window_exceeds_output
from convjax._lowerings.rule import on_one_cpu_with_onednn_and_512_bits
from convjax._lowerings.tools.slices import exchanged, reversed_where, shifted
from convjax._lowerings.tools.xla import isolated

_COPIES = 64  # times that the input may be read
_CALLS = 8  # convolutions, at most, that are compiled in place of one


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
    order = [*range(axis), *range(axis + 1, geometry.rank), axis, geometry.rank, geometry.rank + 1]
    kernel = moved(kernel, order, whole=True)
    kernel = kernel.reshape(*kernel.shape[:-3], taps * kernel.shape[-2], kernel.shape[-1])

    def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
        """(N, outputs, *flat, O), of (N, outputs, *space, taps, I)."""
        examples, some = x.shape[:2]
        x = x.reshape(-1, *x.shape[2:-2], taps * x.shape[-1])
        y = call.again(
            x, kernel, layout=canonical(flat.rank).ungrouped(), geometry=flat, role="forward"
        )
        return y.reshape(examples, some, *y.shape[1:])

    if count((taps,)) <= count((outputs,)):
        pieces = [shifted(x, depth, 1 + axis, tap, outputs) for tap in range(taps)]
        y = convolved(jnp.moveaxis(jnp.stack(pieces, -2), 1 + axis, 1), kernel)
    else:  # an output meets the taps as a tap meets the outputs
        depth = exchanged(depth)

        def result(x: jax.Array, kernel: jax.Array, *, some: range) -> jax.Array:
            pieces = [shifted(x, depth, 1 + axis, output, taps) for output in some]
            return convolved(jnp.moveaxis(jnp.stack(pieces, 1), 2 + axis, -2), kernel)

        large = is_large(x, call.limits) and not _fills_rows(call)
        if call.target.is_one_cpu and geometry.rank > 2 and large and outputs <= _CALLS:
            # Calls, one after the other, so that XLA does not make all copies first.
            some = [functools.partial(result, some=range(o, o + 1)) for o in range(outputs)]
            y = lax.concatenate([isolated(of_one)(x, kernel) for of_one in some], 1)
        else:
            y = result(x, kernel, some=range(outputs))
    y = jnp.moveaxis(y, 1, 1 + axis)
    return restored(y, layout.out, "batch space out", shape, whole=True)


def _fills_rows(call: Call) -> bool:
    """Whether all outputs along the folded axis make rows for `batch_as_space`, of as many numbers
    more: one call computes the gradient of a volume's kernel up to three times as fast (jaxlib
    0.12.0.1, vectors of 512 bits), if its copies are no larger than the operands, twice."""
    problem = call.problem
    outputs, *plane = problem.out_space
    depth, *rest = problem.space
    copied = (count((outputs, problem.window[0])) - 2 * count((depth,))) * count((problem.n, *rest))
    return (
        on_one_cpu_with_onednn_and_512_bits(call.target)
        and window_exceeds_output(problem)
        and problem.dtype != jnp.bfloat16  # in which rows are not short: `batch_as_space` blocks
        and count((problem.n,)) >= at.FEW_CHANNELS_IN_A_ROW.value
        and count(tuple(plane)) > 1
        and copied <= count((*problem.window, problem.o))
    )


LOWERING = Lowering("depth_fold", run, accepts, always)
