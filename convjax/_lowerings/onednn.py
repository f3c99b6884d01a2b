"""What the rules ask of a convolution on a CPU where XLA has oneDNN.

XLA gives oneDNN a convolution of narrow floats whose input is neither dilated nor cropped, and
whose kernel it does not see reversed. Groups are for float32 only. The gradient of a grouped kernel
is a convolution in batch groups, which it does not give either.
"""

import math

import jax.numpy as jnp

from convjax._lowerings import thresholds as at
from convjax._lowerings.problem import (
    Problem,
    count,
    is_dilated,
    is_product,
    window_exceeds_output,
)
from convjax._lowerings.tools.slices import crops

_RANKS = (1, 2, 3)
_TYPES = ("float32", "float16", "bfloat16")


def computes(problem: Problem) -> bool:
    """Whether XLA gives oneDNN a convolution, cropped and its kernel reversed before."""
    narrow = jnp.dtype(problem.dtype).name in _TYPES and problem.geometry.rank in _RANKS
    grouped = problem.groups != 1 and (
        problem.role == "kernel_gradient" or problem.dtype != jnp.float32
    )
    return narrow and not is_dilated(problem) and not grouped


def is_fast(problem: Problem) -> bool:
    """Whether oneDNN computes what is no gradient of a kernel, and nothing is faster."""
    if not computes(problem) or window_exceeds_output(problem):
        return False
    if problem.groups == 1:
        is_pointwise = count(problem.window) == 1 and problem.role == "forward"
        return is_pointwise or not is_product(problem)
    if not is_arranged(problem) or any(stride > 1 for stride in problem.geometry.strides):
        return False
    if problem.i > 1:
        return True
    many = count(problem.window) >= at.MANY_TAPS.value
    return many and problem.o == 1 and problem.geometry.rank == 2


def is_fast_in_gradients(problem: Problem) -> bool:
    """Whether it computes the gradient of a dense kernel, and nothing is faster."""
    positions = count(problem.window)
    return (
        computes(problem)
        and at.MANY_POSITIONS.value <= positions < math.inf
        and window_exceeds_output(problem)
        and not is_product(problem)
        and problem.geometry.rank == 2
        and problem.groups == 1
        and problem.i > 1
        # as it is where the convolution has a stride: oneDNN is slow
        and all(dilation == 1 for dilation in problem.geometry.kernel_dilation)
    )


def is_arranged(problem: Problem) -> bool:
    """Whether XLA gives it to oneDNN, in loops too, without anything being moved, cropped or
    reversed before."""
    geometry = problem.geometry
    return problem.channels_last and not geometry.reversal and not any(crops(geometry))
