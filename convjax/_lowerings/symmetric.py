"""The `symmetric` lowering: lax's convolution with as much padding before the input as after it.

cuDNN pads both sides alike. For other padding XLA writes a padded copy of the input first. With a
stride s the padding before may grow by multiples of s: each adds one output before the first. The
padding after may be any that holds the last output. Outputs that this adds are cut off again.

    SAME, window 3, stride 2, 56 elements: (0, 1) becomes (2, 2), and 29 outputs instead of 28
    SAME_LOWER: (1, 0) becomes (1, 1), and no other output
"""

import dataclasses
from typing import NamedTuple

import jax
from jax import lax

from convjax._core.geometry import dilated
from convjax._lowerings import direct
from convjax._lowerings.lowering import Lowering, never
from convjax._lowerings.problem import Call, Problem, count


class Even(NamedTuple):
    """On one axis: the padding of either side, and how many outputs it adds."""

    padding: int
    before: int
    after: int


def accepts(problem: Problem) -> str | None:
    sizes = (*problem.space, *problem.window, *problem.out_space)
    if count(sizes) == float("inf") or not all(
        isinstance(side, int) for pair in problem.geometry.padding for side in pair
    ):
        return f"it has a symbolic size among {problem.space} and {problem.window}"
    if any(dilation != 1 for dilation in problem.geometry.input_dilation):
        return "its input is dilated"
    if any(min(pair) < 0 for pair in problem.geometry.padding):
        return f"its padding {problem.geometry.padding} crops the input"
    return None


def even(problem: Problem) -> list[Even]:
    """The least padding on every axis that is equal on both sides and gives all outputs."""
    geometry, found = problem.geometry, []
    for axis, (low, _) in enumerate(geometry.padding):
        size, outputs, step = problem.space[axis], problem.out_space[axis], geometry.strides[axis]
        window = dilated(problem.window[axis], geometry.kernel_dilation[axis])
        needed = (outputs - 1) * step + window - size - low  # after the input
        before = max(0, -(-(needed - low) // step))
        padding = low + before * step
        total = (size + 2 * padding - window) // step + 1
        found.append(Even(padding, before, total - outputs - before))
    return found


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    axes = even(call.problem)
    y = direct.run(
        x,
        kernel,
        call._replace(
            problem=call.problem._replace(
                geometry=dataclasses.replace(
                    call.geometry, padding=tuple((axis.padding,) * 2 for axis in axes)
                )
            )
        ),
    )
    starts, ends = [0] * y.ndim, list(y.shape)
    for position, axis in zip(call.layout.out.space, axes, strict=True):
        starts[position] += axis.before
        ends[position] -= axis.after
    return lax.slice(y, starts, ends) if y.shape != tuple(ends) or any(starts) else y


LOWERING = Lowering("symmetric", run, accepts, never)
