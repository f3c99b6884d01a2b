"""Where which lowering is chosen on a TPU or a GPU, by programs that were compiled and read.

These rules continue those for CPUs in `rules.py`. None was timed.
"""

from convjax._lowerings import block_diagonal, cudnn
from convjax._lowerings import thresholds as at
from convjax._lowerings.problem import Problem, count, is_product
from convjax._lowerings.rule import Rule
from convjax._lowerings.target import Target

_COMPILED = " (seen in programs compiled for an H200; none was timed)"


def on_gpu(target: Target) -> bool:
    return target.is_one_gpu


def on_tpu(target: Target) -> bool:
    return target.platform == "tpu" and target.split != "XLA"


def _fills_blocks(problem: Problem) -> bool:
    """Whether dense convolutions of blocks take fewer cycles on a TPU than lax's groups."""
    if problem.dtype.itemsize > 2 and _is_fast_in_32_bits(problem):
        return False
    is_gradient = problem.role == "kernel_gradient"
    if is_product(problem) and not is_gradient:
        return block_diagonal.together(problem) > 1
    few = at.FEW_IN_GRADIENTS if is_gradient else at.FEW_OF_A_UNIT
    return 1 < block_diagonal.channels(problem) <= few.value


def _is_fast_in_32_bits(problem: Problem) -> bool:
    """Whether lax's groups of 32 bits may take fewer cycles than blocks, as in programs compiled
    for v5e and v6e. In 16 bits they do not."""
    inputs = count((problem.n, *problem.space, problem.groups, problem.i))
    is_large = inputs >= at.MANY_INPUTS_IN_FLOAT32.value
    if problem.role == "kernel_gradient":
        return not is_large
    channels = block_diagonal.channels(problem)
    is_narrow = channels <= at.NARROW_IN_FLOAT32.value
    is_one_block = (
        block_diagonal.together(problem) == problem.groups
        and channels * problem.groups <= at.ONE_BLOCK_IN_FLOAT32.value
    )
    is_strided = any(stride > 1 for stride in problem.geometry.strides)
    return not (is_narrow or is_one_block or (is_large and not is_strided))


def _is_short(problem: Problem) -> bool:
    """Whether it is a depthwise convolution along one axis, or a gradient of one, whose kernel has
    few elements for each group."""
    is_gradient = problem.role == "kernel_gradient"
    inputs, taps = (problem.n, problem.out_space) if is_gradient else (problem.i, problem.window)
    few = count((problem.o, *taps)) <= at.FEW_IN_A_SEQUENCE.value
    return problem.geometry.rank == 1 and problem.groups != 1 and inputs == 1 and few


FAST = (
    Rule(
        "groups on a TPU",
        on_tpu,
        lambda p: p.groups != 1 and _fills_blocks(p),
        "block_diagonal",
        "groups of few channels: XLA for TPU gives each a matrix unit and moves the result; blocks "
        "of them fill a unit, and write into place. Fewer cycles by XLA's estimate for programs "
        "that were compiled for v5e and v6e; none was timed",
    ),
    Rule(
        "gradient of a short kernel on a GPU",
        on_gpu,
        lambda p: p.role == "kernel_gradient" and _is_short(p),
        "stacked_sum",
        "the gradient of a kernel of few taps along one axis, depthwise: one pass reads the input "
        "and the cotangent, and writes no padded copy; read from programs compiled for an H200, "
        "none was timed",
    ),
    Rule(
        "short kernel on a GPU",
        on_gpu,
        lambda p: p.role != "kernel_gradient" and _is_short(p),
        "taps",
        "few taps along one axis, depthwise: XLA fuses their sum with what is around it, and "
        "writes no padded copy; read from programs compiled for an H200, none was timed",
    ),
    Rule(
        "volume of planes on a GPU",
        on_gpu,
        cudnn.is_a_plane,
        "reshaped",
        "a volume whose window has one element on an axis: as a plane it keeps channels last, "
        "where XLA for GPUs transposes volumes" + _COMPILED,
    ),
    Rule(
        "tiles on a GPU",
        on_gpu,
        cudnn.is_hidden_by_tiles,
        "reshaped",
        "a gradient with a window that tiles the input: with tiles as channels XLA for GPUs sees "
        "that it is one, and copies nothing" + _COMPILED,
    ),
    Rule(
        "dilated axis on a GPU",
        on_gpu,
        cudnn.is_hidden_by_a_dilation,
        "reshaped",
        "the kernel's gradient of a dilated convolution: cut into rows it has no dilation, and "
        "cuDNN's function for such gradients computes it without transposes" + _COMPILED,
    ),
    Rule(
        "gradient of a transposed kernel on a GPU",
        on_gpu,
        cudnn.is_hidden_by_zeros,
        "commuted",
        "the kernel's gradient of a transposed convolution: with its operands exchanged cuDNN's "
        "function for kernel gradients computes it, without transposes" + _COMPILED,
    ),
    Rule(
        "even padding on a GPU",
        on_gpu,
        cudnn.is_padded_evenly_for_free,
        "symmetric",
        "padding that differs between both sides: cuDNN pads both alike, which gives the same "
        "outputs here, without a padded copy" + _COMPILED,
    ),
    Rule(
        "depthwise on a GPU",
        on_gpu,
        cudnn.is_copied,
        "taps",
        "a depthwise convolution whose input XLA for GPUs would copy first: a sum of shifted "
        "inputs is one pass over the input as it is" + _COMPILED,
    ),
)
