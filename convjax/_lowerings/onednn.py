"""What the rules ask of a convolution on a CPU where XLA has oneDNN.

XLA gives oneDNN a convolution of narrow floats whose input is neither dilated nor cropped, and
whose kernel it does not see reversed. Groups are for float32 only. As lax writes the gradient of a
grouped kernel it is a convolution in batch groups, which XLA does not give either: `channels_last`
writes it in feature groups.
"""

import math

import jax.numpy as jnp

from convjax._lowerings import batch_as_space, block_diagonal, patchify, reshaped
from convjax._lowerings import thresholds as at
from convjax._lowerings.problem import (
    Problem,
    count,
    is_dilated,
    is_matrix_product,
    is_product,
    window_exceeds_output,
)
from convjax._lowerings.target import Target
from convjax._lowerings.tools.slices import crops

_RANKS = (1, 2, 3)
_TYPES = ("float32", "float16", "bfloat16")


def computes(problem: Problem) -> bool:
    """Whether XLA gives oneDNN a convolution, cropped and its kernel reversed before."""
    narrow_groups = problem.groups != 1 and problem.dtype != jnp.float32
    return _is_narrow(problem) and not is_dilated(problem) and not narrow_groups


def _is_narrow(problem: Problem) -> bool:
    return jnp.dtype(problem.dtype).name in _TYPES and problem.geometry.rank in _RANKS


def is_fast(problem: Problem) -> bool:
    """Whether oneDNN computes what is no gradient of a kernel, and nothing is faster."""
    if not computes(problem) or window_exceeds_output(problem):
        return False
    if problem.groups != 1:
        return problem.role != "kernel_gradient" and _is_fast_in_groups(problem)
    is_pointwise = count(problem.window) == 1 and problem.role == "forward"
    return is_pointwise or not is_product(problem)


def _is_fast_in_groups(problem: Problem) -> bool:
    is_strided = any(stride > 1 for stride in problem.geometry.strides)
    is_moved = problem.images == "NCHW"  # to channels last before, and back after
    if problem.i > 1 or problem.o > 1:
        few = at.FEW_PRODUCTS_FOR_ONEDNN
        if is_moved and not is_strided:
            few = at.FEW_PRODUCTS_OF_CHANNELS_FIRST
        products = count((*problem.window, problem.i, problem.o))
        return problem.i > 1 and problem.o > 1 and products > few.value
    least = at.MANY_STRIDED_TAPS if is_strided else at.MANY_TAPS
    if is_moved:
        least = at.MANY_TAPS_OF_CHANNELS_FIRST
    elif problem.dtype == jnp.float16:
        least = at.MANY_TAPS_OF_HALVES
    has_many_taps = count(problem.window) >= least.value and problem.geometry.rank > 1
    return problem.images != "" and has_many_taps and not _has_slow_dilation(problem)


def _has_slow_dilation(problem: Problem) -> bool:
    """Whether a depthwise window is dilated, and oneDNN has only its reference code then."""
    if max(problem.geometry.kernel_dilation) == 1:
        return False
    return problem.geometry.rank > 2 or _padding(problem) > at.LITTLE_PADDING_IN_512_BITS.value


def _padding(problem: Problem) -> float:
    """The larger one of the last axis."""
    return max(count((side,)) for side in problem.geometry.padding[-1])


def has_slow_dilation_in_256_bits(problem: Problem) -> bool:
    """The same, of what is fast with 512 bits."""
    is_depthwise = problem.groups != 1 and count((problem.i, problem.o)) == 1
    is_dilated_window = max(problem.geometry.kernel_dilation) > 1
    return is_depthwise and is_dilated_window and _padding(problem) > at.LITTLE_PADDING.value


def tiles(problem: Problem) -> bool:
    """Whether it is a dense convolution whose windows tile the input, and oneDNN computes it."""
    windows = patchify.tiled(problem) == "windows"
    return windows and problem.groups == 1 and problem.role == "forward" and computes(problem)


def has_few_outputs(problem: Problem) -> bool:
    """Whether a dense convolution has so few output channels that most of a vector is zeros."""
    return problem.groups == 1 and count((problem.o,)) <= at.FEW_OUTPUTS_FOR_ONEDNN.value


def has_few_outputs_in_a_volume(problem: Problem, target: Target) -> bool:
    """The same of a volume, unless oneDNN has instructions that make it faster than a sum of planes
    all the same: bfloat16 with AMX (benchmarks/select/few_outputs_for_onednn.csv)."""
    is_fast = problem.dtype == jnp.bfloat16 and target.amx
    return problem.geometry.rank == 3 and has_few_outputs(problem) and not is_fast


def is_fast_in_gradients(problem: Problem) -> bool:
    """Whether it computes the gradient of a dense kernel, and nothing is faster."""
    positions = count(problem.window)
    return (
        computes(problem)
        and at.MANY_POSITIONS.value <= positions <= at.TOO_MANY_POSITIONS.value
        and window_exceeds_output(problem)
        and not is_product(problem)
        and problem.geometry.rank == 2
        and problem.i > 1
        and _is_dense_and_undilated(problem)  # with a stride oneDNN is slow
        and not _exceeds_the_input(problem)
    )


def is_fast_in_gradients_by_amx(problem: Problem) -> bool:
    """Whether it computes the gradient of a dense kernel in 16 bits, or a plane of one, and nothing
    is faster, on a processor with AMX, which has instructions for them."""
    return (
        computes(problem)
        and problem.dtype.itemsize == 2
        and problem.groups == 1
        and window_exceeds_output(problem)
        and not is_product(problem)
        and problem.geometry.rank < 3
        and not _exceeds_the_input(problem)
    )


def is_fast_in_gradients_of_planes(problem: Problem) -> bool:
    """Whether it computes the gradient of a dense kernel, and nothing is faster, with the layer's
    input channels on an axis of space, on a processor with vectors of 512 bits.

    In bfloat16 it is as fast without that where the kernel is large, or the examples are few and
    cannot be cut into blocks; in the other types for one large image.
    """
    is_image = (
        count((problem.i,)) * batch_as_space.blocks(problem) == 1
        and count(problem.window) >= at.MANY_POSITIONS.value
    )
    is_large = count(problem.out_space[-1:]) > at.LARGE_KERNEL_FOR_AMX.value
    is_fast = problem.dtype == jnp.bfloat16 and (is_large or _has_few_examples(problem))
    is_plane = problem.geometry.rank == 2 and _is_gradient_of_many(problem)
    return is_plane and not is_image and not is_fast


def is_fast_in_gradients_of_lines_by_amx(problem: Problem) -> bool:
    """The same for a kernel with one axis, in bfloat16, on a processor with AMX."""
    is_line = problem.geometry.rank == 1 and problem.dtype == jnp.bfloat16
    return is_line and _is_gradient_of_many(problem)


def is_fast_in_gradients_of_lines(problem: Problem) -> bool:
    """The same for a kernel with one axis, on a processor with vectors of 512 bits: in any type if
    the examples are no multiple of eight, in float32 if it is narrow, too."""
    is_uneven = isinstance(problem.i, int) and problem.i % 8 != 0
    is_narrow = count((problem.o,)) < at.WIDE_LINES.value and _is_dense_and_undilated(problem)
    is_fast = is_uneven or (is_narrow and problem.dtype == jnp.float32)
    return problem.geometry.rank == 1 and is_fast and _is_gradient_of_many(problem)


def is_large_product(problem: Problem, target: Target) -> bool:
    """Whether it is a product of two matrices, large enough that XLA gives it to oneDNN, which
    computes it faster than a 1x1 convolution: in float32, and in bfloat16 with AMX."""
    is_fast = problem.dtype == jnp.float32 or (problem.dtype == jnp.bfloat16 and target.amx)
    return is_fast and _is_large_product(problem)


def _is_large_product(problem: Problem) -> bool:
    sizes = (*problem.out_space, *problem.window)
    made = count((problem.n, *sizes, problem.i, problem.o))
    return is_matrix_product(problem) and at.MANY_PRODUCTS.value <= made < math.inf


def is_pointwise_for_amx(problem: Problem) -> bool:
    """Whether it computes a dense 1x1 convolution in bfloat16, or the gradient of its input, and
    nothing is faster, on a processor with AMX. XLA computes small products of matrices itself,
    without its instructions."""
    is_pointwise = problem.groups == 1 and count(problem.window) == 1
    is_narrow = problem.dtype == jnp.bfloat16 and computes(problem)
    return is_pointwise and is_narrow and not _is_large_product(problem)


def is_product_for_amx(problem: Problem) -> bool:
    """The same for the gradient of its kernel, and other windows that are the whole input."""
    many = count((problem.n,)) >= at.FEW_CHANNELS_IN_A_ROW.value
    return (
        many
        and problem.dtype == jnp.bfloat16
        and computes(problem)
        and batch_as_space.is_whole(problem)
        and not is_pointwise_for_amx(problem)
        and not _is_large_product(problem)
    )


def _is_gradient_of_many(problem: Problem) -> bool:
    """Whether it is the gradient of a dense kernel of many input channels, which is right in 16
    bits, with one axis of space more, without computing it in float32."""
    is_widened = problem.dtype.itemsize == 2 and max(problem.geometry.strides) > 1
    return (
        computes(problem)
        and problem.groups == 1
        and window_exceeds_output(problem)
        and not is_product(problem)
        and not is_widened
        and count((problem.n,))
        >= max(at.FEW_CHANNELS_IN_A_ROW.value, count(problem.out_space[-1:]))
    )


def _has_few_examples(problem: Problem) -> bool:
    examples = count((problem.i,)) * batch_as_space.blocks(problem)
    return problem.dtype == jnp.bfloat16 and examples < at.FEW_EXAMPLES_FOR_AMX.value


def _exceeds_the_input(problem: Problem) -> bool:
    """Whether a window is longer than the input, for which oneDNN has only its reference code. In
    a kernel's gradient it is where a convolution has more outputs than inputs on an axis."""
    sizes = zip(problem.window, problem.geometry.kernel_dilation, problem.space, strict=True)
    return any((count((k,)) - 1) * d + 1 > count((n,)) for k, d, n in sizes)


def is_fast_in_groups_of_halves(problem: Problem) -> bool:
    """Whether it computes groups in float16, and nothing is faster, on a processor with AMX, which
    has instructions for float16 too."""
    is_narrow = _is_narrow(problem) and problem.dtype == jnp.float16
    if not is_narrow or problem.groups == 1 or is_dilated(problem):
        return False
    if problem.role == "kernel_gradient":
        return _is_fast_in_gradients_of_groups(problem, is_wide=True)
    return not window_exceeds_output(problem) and _is_fast_in_groups(problem)


def is_fast_in_blocks(problem: Problem) -> bool:
    """Whether it computes groups in bfloat16 faster as `block_diagonal` writes them, on a processor
    with AMX: every call that is saved takes as long as to write some elements."""
    is_of_few = problem.role == "kernel_gradient" or count((problem.i, problem.o)) == 1
    if problem.dtype != jnp.bfloat16 or not _is_narrow(problem) or is_dilated(problem) or is_of_few:
        return False
    if block_diagonal.accepts(problem) is not None:
        return False
    size = block_diagonal.together(problem)
    saved = problem.groups - problem.groups // size
    written = size * count((*problem.window, problem.i, problem.o, problem.groups))
    return written <= at.WRITTEN_FOR_A_CALL.value * saved


def is_fast_in_gradients_of_groups(problem: Problem, target: Target) -> bool:
    """Whether it computes the gradient of a grouped kernel, and nothing is faster."""
    return (
        computes(problem)
        and problem.groups != 1
        and problem.role == "kernel_gradient"
        and _is_fast_in_gradients_of_groups(problem, is_wide=target.vector_bits == 512)
    )


def _is_fast_in_gradients_of_groups(problem: Problem, is_wide: bool) -> bool:
    """The window of this convolution is an example's cotangent, its examples are inputs."""
    pairs = count((problem.n, problem.o))
    few = pairs <= at.PAIRS_PER_EXAMPLE.value * count((problem.i,))
    if is_wide:
        few = count((*problem.window, problem.o)) < at.COTANGENT_OF_A_GROUP.value
    return (
        window_exceeds_output(problem)
        and not is_product(problem)
        and problem.geometry.rank < 3  # volumes of few examples take longer
        and not _exceeds_the_input(problem)
        and at.FEW_PAIRS_BESIDE_ONEDNN.value < pairs
        and few
    )


def is_fast_in_rows_of_tiles(problem: Problem) -> bool:
    """Whether it computes a plane whose rows are made of tiles faster as `reshaped` writes it, than
    the rows of every phase, which interleave. In bfloat16 it computes products of many inputs so
    much faster that padding, which it skips in part, costs more than interleaving."""
    few_inputs = problem.dtype != jnp.bfloat16 or (
        count((problem.i,)) <= at.INPUTS_OF_TILED_ROWS.value
    )
    return (
        _is_narrow(problem)
        and problem.images == "NHWC"
        and problem.groups == 1
        and reshaped.tiled_rows(problem)
        and problem.geometry.input_dilation[1] == 1
        and not has_few_outputs(problem)
        and count((*problem.window, problem.i, problem.o)) <= at.KERNEL_OF_TILED_ROWS.value
        and few_inputs
    )


def is_slow_for_a_line(problem: Problem) -> bool:
    """Whether it is the gradient of a dense kernel with one axis, wide and without a stride, or of
    a convolution with more outputs than inputs."""
    is_wide = _is_dense_and_undilated(problem) and count((problem.o,)) >= at.WIDE_LINES.value
    return (
        computes(problem)
        and problem.role == "kernel_gradient"
        and problem.geometry.rank == 1
        and problem.groups == 1
        and not is_product(problem)
        and (is_wide or _exceeds_the_input(problem))
    )


def _is_dense_and_undilated(problem: Problem) -> bool:
    """Whether it has one group, and no dilation between the elements of its window: in a kernel's
    gradient, whether the convolution has no stride."""
    return problem.groups == 1 and all(d == 1 for d in problem.geometry.kernel_dilation)


def is_arranged(problem: Problem) -> bool:
    """Whether XLA gives it to oneDNN, in loops too, without anything being moved, cropped or
    reversed before."""
    geometry = problem.geometry
    return problem.channels_last and not geometry.reversal and not any(crops(geometry))
