"""Convolutions that oneDNN computes wrongly, and what computes them rightly.

Seen with oneDNN 3.12.3 of jaxlib 0.12.0.1 by a search over random convolutions, on a processor with
AMX. The first two are there, too, if oneDNN is told to use the instructions of AVX-512 only:

one number      In float32 all results are wrong where each of several examples has one result: one
                output channel, and one place of the window. So is the gradient of the kernel of a
                1x1 convolution with one output channel, as lax writes it.
one column      In float32 some results are wrong for one input channel and a stride on the last
                axis, on which the window has one place only.
few channels    In bfloat16 all results are wrong where there are 2, 4, ... or 14 input channels
                (with a stride 2, 4, ... or 30), and a row of the window has 64, 96, 128 ... numbers
                and is not dilated. In a kernel's gradient the channels are examples, and the row
                is one of an image. With an odd number of channels they are right, and in volumes
                whose window has one element on its last axis (not in planes).
rare geometry   In bfloat16 and float16 some results are wrong, or memory is written that belongs to
                others, where the strides of the axes differ, where a stride meets a dilation, or
                where the results are one column. The process ends where a window lies outside of
                the input, or an axis of the window has one tap that is dilated.
one plane       In bfloat16 results are wrong, or NaN, for a volume of one plane under a window of
                several planes and fewer than 16 channels, as in the gradient of an input whose
                result had one plane. (48 of 501 random ones; of 410 with two planes or more none.)

Other processors are treated alike: little is known of them.
"""

from typing import Any, Literal

import jax.numpy as jnp

from convjax._lowerings.problem import Problem, count, is_dilated

Remedy = Literal["", "a channel of zeros", "an output of zeros", "no stride", "float32"]

_UNIT = 32  # numbers of 16 bits in a row of a tile of AMX
_MANY, _MANY_STRIDED = 16, 32  # channels from which there is no fault


def remedy(problem: Problem, split: bool = False) -> Remedy:
    """How oneDNN computes it rightly; "" where it does so anyway.

    Where XLA splits the convolution (`split`), or sizes are symbolic, nobody knows how many
    channels a part has.
    """
    if is_dilated(problem):  # XLA gives it no dilated input
        return ""
    if problem.dtype == jnp.float32:
        return _remedy_in_float32(problem, split)
    if problem.dtype.itemsize != 2:
        return ""
    pads = [side for pair in problem.geometry.padding for side in pair]
    sizes = (problem.i, *problem.window, *problem.space, *problem.out_space, *pads)
    if split or not all(isinstance(size, int) for size in sizes) or _is_rare(problem):
        return "float32"
    is_right = problem.geometry.rank == 3 and problem.window[-1] == 1
    if problem.dtype != jnp.bfloat16 or is_right:
        return ""
    many = _MANY if max(problem.geometry.strides) == 1 else _MANY_STRIDED
    few = problem.i < many and problem.i % 2 == 0
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


def _remedy_in_float32(problem: Problem, split: bool) -> Remedy:
    if problem.groups != 1 or not problem.out_space:
        return ""
    if problem.o == 1 and all(size == 1 for size in problem.out_space):
        return "an output of zeros"
    is_column = problem.out_space[-1] == 1 < problem.geometry.strides[-1]
    return "no stride" if is_column and (split or problem.i == 1) else ""


def may_be_one_number(problem: Problem) -> bool:
    """Whether XLA may split outputs so that a part has one result of every example, in float32."""
    is_narrow = problem.dtype == jnp.float32 and problem.groups == 1 and not is_dilated(problem)
    return is_narrow and all(size == 1 for size in problem.out_space)


def may_be_wrong_in_float32(problem: Problem, devices: int) -> bool:
    """Whether a convolution of lax in one group, or one of its gradients, may be wrong, or a part
    of one that is split over `devices`."""
    n, _, i, o, space, window, out_space, geometry = problem[:8]
    one_n, one_i, one_o = (count((size,)) <= devices for size in (n, i, o))
    numbers = [
        one_i and all(size == 1 for size in space),
        one_o and any(all(size == 1 for size in sizes) for sizes in (window, out_space)),
    ]
    columns = [
        one_i and _has_one(out_space, geometry.strides),
        one_n and _has_one(window, geometry.kernel_dilation),
        one_o and _has_one(space, geometry.input_dilation),
    ]
    return any(numbers) or any(columns)


def _has_one(sizes: tuple[Any, ...], steps: tuple[int, ...]) -> bool:
    return any(size == 1 and step > 1 for size, step in zip(sizes, steps, strict=True))
