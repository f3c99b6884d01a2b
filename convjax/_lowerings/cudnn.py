"""What rules ask of GPUs: which convolutions XLA does not hand to cuDNN as they are.

XLA looks for cuDNN's three functions (forward, gradient of the input, gradient of the kernel) in
the sizes and steps of a convolution. What it does not recognise it rewrites: it transposes, copies,
or fills up with zeros. All of this was seen in programs compiled for an H200 (jaxlib 0.12.0.1), for
images with channels last. `benchmarks/results/devices` has the programs.
"""

from convjax._lowerings import reshaped, symmetric
from convjax._lowerings import thresholds as at
from convjax._lowerings.problem import Problem, count, is_dilated


def is_a_plane(problem: Problem) -> bool:
    """Whether it is a volume without need: volumes are transposed to channels first and back."""
    return problem.images == "NHWC" and reshaped.planes(problem)


def is_hidden_by_tiles(problem: Problem) -> bool:
    """Whether a gradient looks like a forward convolution, because a window that tiles the input
    has more places than the result. It is transposed, or computed with its zeros."""
    if problem.images != "NHWC" or problem.geometry.rank > 2 or problem.groups != 1:
        return False
    if problem.role == "kernel_gradient":
        # the image that is the smaller one: the result's, or in a transposed convolution x
        images = {"x": problem.window, "kernel": problem.space}
        image = images.get(reshaped.tiles(problem) or "")
        return image is not None and all(
            size <= places for size, places in zip(image, problem.out_space, strict=True)
        )
    return reshaped.tiles(problem) == "out" and count(problem.window) > count(problem.space)


def is_hidden_by_a_dilation(problem: Problem) -> bool:
    """Whether it is the kernel's gradient of a convolution with one dilated axis. It is computed as
    a forward convolution, with transposes."""
    of_kernel = problem.images == "NHWC" and problem.role == "kernel_gradient"
    return of_kernel and reshaped.accepts(problem) is None and reshaped.rows(problem) > 0


def is_hidden_by_zeros(problem: Problem) -> bool:
    """Whether it is the kernel's gradient of a transposed convolution. It is computed as a forward
    convolution, with transposes."""
    of_kernel = problem.images == "NHWC" and problem.role == "kernel_gradient"
    return of_kernel and is_dilated(problem)


def is_padded_evenly_for_free(problem: Problem) -> bool:
    """Whether equal padding of both sides gives the same outputs, and no other. Unequal padding is
    a copy of the input."""
    uneven = any(low != high for low, high in problem.geometry.padding)
    if problem.role != "forward" or not uneven or symmetric.accepts(problem) is not None:
        return False
    return all(axis.before == axis.after == 0 for axis in symmetric.even(problem))


def is_copied(problem: Problem) -> bool:
    """Whether the input of a depthwise convolution is copied first: it is padded on one side more
    than on the other, has zeros between its elements, or XLA prefers another order of its axes,
    which is channels last for planes and channels first for volumes."""
    if problem.role == "kernel_gradient" or not problem.images:
        return False
    if problem.groups == 1 or (problem.i, problem.o) != (1, 1):
        return False
    if count(problem.window) > at.TAPS_IN_ONE_PASS.value:
        return False
    uneven = any(low != high for low, high in problem.geometry.padding)
    preferred = "NCHW" if problem.geometry.rank == 3 else "NHWC"
    return uneven or is_dilated(problem) or problem.images != preferred
