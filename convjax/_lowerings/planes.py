"""What the rules ask of planes on a CPU: of dense convolutions with two spatial axes.

XLA gives them to Eigen or to YNNPACK. Where one of the two is slow, another lowering is faster.
"""

import math

import jax.numpy as jnp

from convjax._lowerings import depth_fold, depth_sum
from convjax._lowerings import thresholds as at
from convjax._lowerings.problem import Problem, count, is_dilated, window_exceeds_output
from convjax._lowerings.target import DILATED, LARGE, SMALL, Target


def cuts_off_little(problem: Problem) -> bool:
    """Whether `depth_sum` accepts it, and computes few results that are cut off again."""
    if window_exceeds_output(problem) or depth_sum.accepts(problem) is not None:
        return False
    (stride, *_), (period, *_) = problem.geometry.strides, problem.geometry.input_dilation
    computed = -(-problem.space[0] * period // stride)
    return computed <= at.LITTLE_CUT_OFF.value * problem.out_space[0]


def _is_for_ynnpack(problem: Problem) -> bool:
    """Whether XLA on CPU would give a plane to YNNPACK, whatever its extents, if it uses YNNPACK.

    It gives narrow floats of more than 16 channels that are not dilated (xla/backends/cpu/ynn).
    """
    narrow_float = jnp.issubdtype(problem.dtype, jnp.floating) and problem.dtype.itemsize <= 4
    channels = max(count((problem.i,)), count((problem.o,)))
    return narrow_float and channels > 16 and not is_dilated(problem)


def _kind_of_window(problem: Problem) -> str:
    """Small, large, or large and dilated: what YNNPACK's speed depends on."""
    if not window_exceeds_output(problem):
        return SMALL
    return DILATED if any(d > 1 for d in problem.geometry.kernel_dilation) else LARGE


def _has_slow_ynnpack(problem: Problem, target: Target) -> bool:
    """Whether XLA gives a plane to YNNPACK or oneDNN, which is slower for it than Eigen."""
    return _is_for_ynnpack(problem) and _kind_of_window(problem) in target.ynnpack_slower


def _ynnpack_is_fast(target: Target) -> bool:
    """Whether YNNPACK or oneDNN is used, and as fast as Eigen for small windows."""
    return (target.ynnpack or target.onednn) and SMALL not in target.ynnpack_slower


def has_few_outputs(problem: Problem, target: Target) -> bool:
    """Whether a plane has few output channels under a large window.

    Few means that ``window[0] * O`` is at most I, or at most 3*I if the results are small. Then one
    convolution with the rows of taps as output channels, and a sum, is cheaper than Eigen's
    convolution: Eigen gathers ``prod(window) * I`` inputs per output, which takes longer than to
    multiply them.
    """
    if not cuts_off_little(problem) or problem.geometry.strides[0] != 1:
        return False
    # oneDNN takes twice as long in float16 (benchmarks/select/few_outputs_for_onednn.csv).
    is_slow = problem.dtype == jnp.float16 and target.onednn and target.amx
    if not is_slow and problem.dtype not in (jnp.float32, jnp.float64):
        return False  # XLA widens it, or sums by itself
    gathered = count((problem.n, *problem.out_space, *problem.window, problem.i))
    if not at.WORTH_SUMMING.value < gathered < math.inf:
        return False
    fewest = at.FEWEST_OUTPUTS.value if target.ynnpack and _ynnpack_is_fast(target) else 1
    written = problem.n * depth_sum.elements_moved(problem)
    small = written <= at.SMALL_RESULTS.value and problem.o <= at.SMALL_CHANNELS.value
    most = (at.FEW_SMALL_OUTPUTS if small else at.FEW_OUTPUTS).value
    return (
        problem.window[0] > 1
        and problem.o >= fewest
        and problem.window[0] * problem.o <= most * problem.i
    )


def is_gathered_fast(problem: Problem, target: Target) -> bool:
    """Whether YNNPACK is slow for a plane, and Eigen gathers its spread rows fast.

    Eigen does where enough channels lie side by side, and enough products use what it gathered.
    """
    gradient = window_exceeds_output(problem)
    least = (at.GATHERED_FAST_IN_GRADIENTS if gradient else at.GATHERED_FAST).value
    enough = count((problem.o,)) >= at.GATHERED_FAST.value and count((problem.i,)) >= least
    return enough and _has_slow_ynnpack(problem, target)


def has_few_channels(problem: Problem, target: Target) -> bool:
    """Whether a plane has few input channels (in a kernel's gradient: examples).

    Eigen gathers windows channel by channel, and is slower then than folding one axis of the window
    into channels. This concerns what YNNPACK would compute slowly, and kernels' gradients that
    Eigen computes. Where YNNPACK is fast, it keeps the convolution.
    """
    gradient = window_exceeds_output(problem)
    if gradient and not (target.ynnpack or target.onednn):
        slow = _is_for_ynnpack(problem)
    else:
        slow = _has_slow_ynnpack(problem, target)
    few_outputs = count((problem.o,)) <= at.FEW_OUTPUTS_OF_FEW_EXAMPLES.value
    if gradient and few_outputs and _ynnpack_is_fast(target):
        return False
    few_products = count((*problem.window, problem.i)) <= at.FEW_PRODUCTS.value
    few_channels = count((problem.i,)) < at.FEW_CHANNELS.value
    return slow and few_channels and not few_products and _copies_little(problem, target)


def _copies_little(problem: Problem, target: Target) -> bool:
    """Whether folding an axis of the window into channels copies the input only a few times."""
    if math.inf in (count(problem.space), count(problem.window)):
        return False
    gradient_of_colours = window_exceeds_output(problem) and problem.n <= at.FEW_COLOURS.value
    is_fast = _ynnpack_is_fast(target) and not (target.ynnpack and gradient_of_colours)
    most = at.FEW_COPIES_FOR_YNNPACK if is_fast else at.FEW_COPIES
    return depth_fold.copies(problem) <= most.value
