"""What the rules ask of a convolution in groups on a CPU."""

import numpy as np

from convjax._lowerings import taps
from convjax._lowerings import thresholds as at
from convjax._lowerings.problem import Problem, count, is_product


def has_few_pairs(problem: Problem) -> bool:
    """Whether a group has few products for each tap, or in a kernel's gradient by rows, for each
    position of the window: few pairs of channels, which `taps` accepts."""
    if taps.accepts(problem) is not None:
        return False
    pairs = count((problem.n if taps.by_rows(problem) else problem.i, problem.o))
    if problem.role != "kernel_gradient":
        most = at.FEW_UNEVEN_PAIRS if _is_uneven(problem) else at.FEW_PAIRS
        return pairs <= most.value
    most = at.FEW_PAIRS if problem.geometry.rank == 3 else at.FEW_PAIRS_IN_GRADIENTS
    return pairs <= min(most.value, at.PAIRS_PER_GROUP.value * count((problem.groups,)))


def _is_uneven(problem: Problem) -> bool:
    """Whether Eigen, which gathers eight channels at once, gathers those of a group one by one."""
    uneven = isinstance(problem.i, int) and problem.i % 8 != 0
    return uneven and problem.role != "kernel_gradient" and not is_product(problem)


def is_uneven_and_narrow(problem: Problem) -> bool:
    """Whether XLA's own loop over channels is faster than to gather them one by one."""
    strided = any(stride > 1 for stride in problem.geometry.strides)
    most = at.UNEVEN_STRIDED_CHANNELS if strided else at.UNEVEN_CHANNELS
    return _is_uneven(problem) and problem.i <= most.value


def is_strided_line(problem: Problem) -> bool:
    """On jaxlib 0.10.2 and 0.12 (AVX2) `per_group` took 1.1 to 2 times as long as lax for these."""
    is_line = problem.geometry.rank == 1 and problem.geometry.strides[0] > 1
    return is_line and problem.role != "kernel_gradient" and problem.dtype == np.float32
