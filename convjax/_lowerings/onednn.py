"""What the rules ask of a convolution on a CPU where XLA has oneDNN.

XLA gives oneDNN a convolution of narrow floats whose input is neither dilated nor cropped, and
whose kernel it does not see reversed. Groups it gives for float32 only, and no gradient of a grouped
kernel: that is a convolution in batch groups.
"""

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
    taps = count(problem.window)
    if problem.groups == 1:
        return problem.role == "forward" if is_product(problem) else True
    if problem.i == 1:
        return taps >= at.MANY_TAPS.value and problem.geometry.rank > 1
    return not is_strided(problem)


def is_fast_in_gradients(problem: Problem) -> bool:
    """Whether it computes the gradient of a dense kernel, and nothing is faster."""
    if not computes(problem) or not window_exceeds_output(problem) or is_product(problem):
        return False
    return problem.geometry.rank == 2 and not has_dilated_window(problem)


def has_dilated_window(problem: Problem) -> bool:
    """As the gradient of the kernel of a strided convolution has, for which oneDNN is slow."""
    return any(dilation > 1 for dilation in problem.geometry.kernel_dilation)


def is_strided(problem: Problem) -> bool:
    return any(stride > 1 for stride in problem.geometry.strides)


def is_arranged(problem: Problem) -> bool:
    """Whether XLA gives it to oneDNN, in loops too, without anything being moved, cropped or
    reversed before."""
    geometry = problem.geometry
    return problem.channels_last and not geometry.reversal and not any(crops(geometry))
