"""The `batch_as_space` lowering: examples lie side by side on one more axis of space.

    out[n, o] = sum over t and i of x[n, o*s + t*d - low, i] * kernel[t, i]

is the convolution of a single example, with n as its last spatial axis. The window has one element
there. oneDNN multiplies neighbouring results of the last axis together, and reads the kernel again
for the next ones. In the gradient of a 3x3 kernel an example has 3 results on that axis, and the
examples are the input channels of the layer, which are many.

What is summed for a result at once are the channels i, which are the layer's examples there. In
bfloat16, instructions sum 32 of them. Where there are few, the last axis of the window is cut into
blocks, and the elements of all blocks at one place in them become channels:

    sum over t of x[o*s + t*d] * kernel[t] =
    sum over t in a block and over blocks j of x[o*s + (j*b + t)*d] * kernel[j*b + t]

for blocks of b elements. Neighbouring blocks of the input overlap, so that some of it is copied. If
the window is the whole input, as in the gradient of a 1x1 kernel, all of its elements are channels.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.geometry import Geometry
from convjax._core.layout import arranged, canonical, restored
from convjax._lowerings import channels_last
from convjax._lowerings.lowering import Lowering, for_kernel_gradients
from convjax._lowerings.problem import Call, Problem
from convjax._lowerings.tools.slices import cropped

_RANK = 2  # at most: with three axes of space there would be four, which oneDNN does not have
_SUMMED = 32  # channels in bfloat16 that an instruction of AMX sums
_FEW = 12  # of them, below which blocks gain more time than their copies cost (jaxlib 0.12.0.1)
_COPIED = 2  # times that blocks may copy the input, at most
_LINE = Geometry((1,), ((0, 0),), (1,), (1,))


def accepts(problem: Problem) -> str | None:
    if problem.geometry.rank > _RANK:
        return f"it has more than {_RANK} spatial axes ({problem.geometry.rank})"
    return None


def blocks(problem: Problem) -> int:
    """Into how many blocks the last axis of the window is cut."""
    sizes = (problem.i, problem.space[-1], problem.window[-1], problem.out_space[-1])
    is_known = all(isinstance(size, int) for size in sizes) and not problem.geometry.reversal
    if not is_known or problem.dtype != jnp.bfloat16 or problem.groups != 1 or problem.i >= _FEW:
        return 1
    fitting = [q for q in range(1, problem.window[-1] + 1) if _fits(problem, q)]
    return next((q for q in fitting if q * problem.i >= _SUMMED), max(fitting, default=1))


def is_whole(problem: Problem) -> bool:
    """Whether the window is the whole input, and nothing else: there is one result."""
    geometry = problem.geometry
    return (
        problem.groups == 1
        and not geometry.reversal
        and all(isinstance(size, int) for size in problem.space)
        and problem.window == problem.space
        and all(size == 1 for size in problem.out_space)
        and all(pair == (0, 0) for pair in geometry.padding)
        and all(step == 1 for step in (*geometry.kernel_dilation, *geometry.input_dilation))
    )


def _fits(problem: Problem, number: int) -> bool:
    """Whether so many blocks are of one size, and copy little."""
    read = _reach(problem.geometry, problem.window[-1] // number, problem.out_space[-1])
    return problem.window[-1] % number == 0 and number * read <= _COPIED * problem.space[-1]


def _reach(geometry: Geometry, taps: int, outputs: int) -> int:
    """How many inputs so many taps and outputs reach over, on the last axis."""
    return (outputs - 1) * geometry.strides[-1] + (taps - 1) * geometry.kernel_dilation[-1] + 1


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    layout, shape = call.layout, call.out_shape(x, kernel)
    rank = call.geometry.rank
    if is_whole(call.problem):
        x = arranged(x, layout.x, "batch space contract")
        kernel = arranged(kernel, layout.kernel, "space contract out")
        x, kernel = x.reshape(1, x.shape[0], -1), kernel.reshape(1, -1, kernel.shape[-1])
        y = channels_last.convolved(x, kernel, canonical(1).ungrouped(), _LINE, call)
        return restored(y, layout.out, "batch space out", shape)
    group, inner = "", canonical(rank + 1).ungrouped()
    if layout.x.group:
        group, inner = "group ", canonical(rank + 1)
    x = arranged(x, layout.x, f"space batch {group}contract")
    kernel = arranged(kernel, layout.kernel, f"space {group}contract out")
    x, geometry = cropped(x, call.geometry, 0)
    number = blocks(call.problem)
    if number > 1:
        x, kernel, geometry = _in_blocks(x, kernel, geometry, number, call.problem.out_space[-1])
    x, kernel = lax.expand_dims(x, (0,)), lax.expand_dims(kernel, (rank,))
    geometry = _with_one_axis_more(geometry)
    y = channels_last.convolved(x, kernel, inner, geometry, call)
    return restored(lax.squeeze(y, (0,)), layout.out, f"space batch {group}out", shape)


def _in_blocks(
    x: jax.Array, kernel: jax.Array, geometry: Geometry, number: int, outputs: int
) -> tuple[jax.Array, jax.Array, Geometry]:
    """x (*space, N, blocks and I) and kernel (*window, blocks and I, O), whose last axis of the
    window is one block long, and the geometry that is left."""
    last = geometry.rank - 1
    low, high = geometry.padding[last]
    config = [(low, high, 0) if axis == last else (0, 0, 0) for axis in range(x.ndim)]
    x = lax.pad(x, jnp.zeros((), x.dtype), config)
    *window, taps = kernel.shape[: last + 1]
    taps //= number
    step, read = taps * geometry.kernel_dilation[last], _reach(geometry, taps, outputs)
    starts = range(0, number * step, step)
    parts = [lax.slice_in_dim(x, start, start + read, axis=last) for start in starts]
    x = jnp.stack(parts, -2).reshape(*parts[0].shape[:-1], -1)
    kernel = kernel.reshape(*window, number, taps, *kernel.shape[-2:])
    kernel = jnp.moveaxis(kernel, last, -3).reshape(*window, taps, -1, kernel.shape[-1])
    padding = (*geometry.padding[:last], (0, 0))
    return x, kernel, dataclasses.replace(geometry, padding=padding)


def _with_one_axis_more(geometry: Geometry) -> Geometry:
    return Geometry(
        (*geometry.strides, 1),
        (*geometry.padding, (0, 0)),
        (*geometry.input_dilation, 1),
        (*geometry.kernel_dilation, 1),
        geometry.reversal,
    )


LOWERING = Lowering("batch_as_space", run, accepts, for_kernel_gradients)
