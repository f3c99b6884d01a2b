"""Convolutions of 16-bit numbers that oneDNN computes wrongly, and what computes them rightly.

Seen with oneDNN 3.12.3 of jaxlib 0.12.0.1 on a processor with AMX, by a search over random
convolutions:

few channels    In bfloat16 all results are wrong where there are 2, 4, ... or 14 input channels,
                and a row of the window has 64, 96, 128 ... numbers and is not dilated. In a
                kernel's gradient the channels are examples, and the row is one of an image. With
                an odd number of channels they are right, and in volumes whose window has one
                element on its last axis (not in planes).
rare geometry   In bfloat16 and float16 some results are wrong, or memory is written that belongs to
                others, where the strides of the axes differ, where a stride meets a dilation, or
                where the results are one column. The process ends where a window lies outside of
                the input, or an axis of the window has one tap that is dilated.
one plane       In bfloat16 results are wrong, or NaN, for a volume of one plane under a window of
                several planes and fewer than 16 channels, as in the gradient of an input whose
                result had one plane. (48 of 501 random ones; of 410 with two planes or more none.)

In float32 nothing was wrong. Other processors are treated alike: little is known of them.
"""

from typing import Literal

import jax.numpy as jnp

from convjax._lowerings.problem import Problem, is_dilated

Remedy = Literal["", "a channel of zeros", "float32"]

_UNIT = 32  # numbers of 16 bits in a row of a tile of AMX
_MANY = 16  # channels from which there is no fault


def remedy(problem: Problem, split: bool = False) -> Remedy:
    """How oneDNN computes it rightly; "" where it does so anyway.

    Where XLA splits the convolution (`split`), or sizes are symbolic, nobody knows how many
    channels a part has.
    """
    if problem.dtype.itemsize != 2 or is_dilated(problem):  # XLA gives it no dilated input
        return ""
    pads = [side for pair in problem.geometry.padding for side in pair]
    sizes = (problem.i, *problem.window, *problem.space, *problem.out_space, *pads)
    if split or not all(isinstance(size, int) for size in sizes) or _is_rare(problem):
        return "float32"
    is_right = problem.geometry.rank == 3 and problem.window[-1] == 1
    if problem.dtype != jnp.bfloat16 or is_right:
        return ""
    few = problem.i < _MANY and problem.i % 2 == 0
    axes = zip(problem.window, problem.geometry.kernel_dilation, strict=True)
    rows = [problem.i * size for size, dilation in axes if dilation == 1]
    return "a channel of zeros" if few and any(row % _UNIT == 0 for row in rows) else ""


def _is_rare(problem: Problem) -> bool:
    """Whether its strides differ, and so on: see above."""
    strides, dilations = problem.geometry.strides, problem.geometry.kernel_dilation
    is_outside = is_dilated_tap = False
    for size, pads, dilation in zip(
        problem.window, problem.geometry.padding, dilations, strict=True
    ):
        is_outside |= max(pads) > (size - 1) * dilation
        is_dilated_tap |= size == 1 and dilation > 1
    is_column = problem.out_space[-1] == 1 and max(problem.out_space) > 1
    is_plane = len(problem.window) > 2 and problem.space[0] == 1 < problem.window[0]
    is_both = max(strides) > 1 and max(dilations) > 1
    is_rare = is_both or is_column or is_plane or is_outside or is_dilated_tap
    return is_rare or len(set(strides)) > 1
