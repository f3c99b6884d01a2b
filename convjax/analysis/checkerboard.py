"""Checkerboards: how unevenly an up-sampling covers its outputs, and how visible that is."""

from collections.abc import Sequence
from functools import reduce
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convjax._core import checks
from convjax._core.aliases import ArrayLike, Ints
from convjax._core.public import public_with

public = public_with(
    kernel=checks.numbers, images=checks.numbers, width=checks.number, input_size=checks.size
)


@public
def overlap_counts(
    kernel_size: Ints | Sequence[tuple[Ints, Ints]],
    strides: Ints | None = None,
    input_size: Ints | None = None,
) -> np.ndarray:
    """How often each output of an uncropped transposed convolution is painted.

    ``count[o] = #{i : 0 <= o - s*i < k}`` along an axis, and the product of the axes' counts in the
    plane; away from the ends ``ceil((k - o mod s) / s)``, which is even where s divides k. For a
    stack, ``overlap_counts([(kernel_size, strides), ...], input_size)``: the number of paths from
    inputs to each output, ``c'[o] = sum_i c[i] * [0 <= o - s*i < k]`` layer by layer.

    Args:
        kernel_size: k; an int, or one per spatial axis. Or the layers of a stack from input to
            output, each a pair (kernel_size, strides); then `input_size` is the second argument.
        strides: s; an int, or one per spatial axis.
        input_size: an int for one spatial axis, or one int per spatial axis.

    Returns:
        Counts (*out_space), int64, ``out_space = (input_size - 1)*s + k`` layer by layer. They
        depend only on sizes: under `jit` they are constants.

    Raises:
        ValueError: an empty stack, layers that are not pairs, sizes below 1.
        TypeError: sizes that are not integers; no `input_size`.

    Example:
        >>> from convjax.analysis import overlap_counts
        >>> overlap_counts(3, 2, 4)
        array([1, 1, 2, 1, 2, 1, 2, 1, 1])
        >>> overlap_counts([(3, 2), (3, 2)], (5, 4)).shape
        (23, 19)

    Source: Odena, Dumoulin & Olah, Deconvolution and checkerboard artifacts, 2016,
        https://distill.pub/2016/deconv-checkerboard
    """
    function = "overlap_counts"
    if strides is None or input_size is None:
        layers: Any = kernel_size
        size: Any = strides if input_size is None else input_size
        pairs = isinstance(layers, Sequence) and all(
            isinstance(layer, Sequence) and len(layer) == 2 for layer in layers
        )
        if not pairs or not layers:
            rule = "must be pairs (kernel_size, strides), one for each layer"
            hint = "For a single layer give `kernel_size`, `strides` and `input_size`."
            checks.fail(function, "layers", layers, rule, hint)
    else:
        layers, size = [(kernel_size, strides)], input_size
    if size is None:
        checks.fail_type(function, "input_size", size, "must be given")
    rank = 1 if checks.is_int(size) else len(tuple(size))
    space = checks.ints(function, "input_size", size, rank, minimum=1)
    windows = [checks.ints(function, "kernel_size", k, rank, minimum=1) for k, _ in layers]
    steps = [checks.ints(function, "strides", s, rank, minimum=1) for _, s in layers]

    def along(axis: int) -> np.ndarray:
        counts = np.ones(space[axis], np.int64)
        for window, step in zip(windows, steps, strict=True):
            stretched = np.zeros((len(counts) - 1) * step[axis] + 1, np.int64)
            stretched[:: step[axis]] = counts
            counts = np.convolve(stretched, np.ones(window[axis], np.int64))
        return counts

    return reduce(np.multiply.outer, map(along, range(rank)))


@public
def phase_gains(kernel: ArrayLike, strides: Ints) -> jax.Array:
    """What a transposed convolution makes of a constant: the sum of its weights in each phase.

    ``gain[phi] = sum_j kernel[phi + s*j]``: outputs ``o mod s = phi`` (before cropping) see these
    taps and no others, so a constant input of 1 gives them, away from the border. All equal: no
    checkerboard on a constant, whatever the kernel's size.

    Args:
        kernel: (*K, O/G, I), or any kernel with spatial axes before its last two, which are kept.
        strides: s; an int, or one per spatial axis. Where s > K, some gains are 0.

    Returns:
        (*strides, O/G, I), of the kernel's dtype.

    Raises:
        ValueError: strides below 1; a kernel without spatial axes.
        TypeError: not an array.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax.analysis import phase_gains
        >>> phase_gains(jnp.ones((3, 3, 4, 8)), 2).shape
        (2, 2, 4, 8)
        >>> phase_gains(jnp.ones((3, 1, 1)), 2).ravel().tolist()
        [2.0, 1.0]

    Source: Sugawara, Shiota & Kiya, Super-resolution using convolutional neural networks without
        any checkerboard artifacts, 2018, https://arxiv.org/abs/1806.02658
    """
    kernel = jnp.asarray(checks.array("phase_gains", "kernel", kernel))
    rank = kernel.ndim - 2
    if rank < 1:
        checks.fail("phase_gains", "kernel", kernel.shape, "must have at least one spatial axis")
    steps = checks.ints("phase_gains", "strides", strides, rank, minimum=1)
    fill = [(0, -size % step) for size, step in zip(kernel.shape, steps, strict=False)]
    padded = jnp.pad(kernel, [*fill, (0, 0), (0, 0)])
    return _by_phase(padded, steps, first=0).sum(axis=range(0, 2 * rank, 2))


@public
def phase_variance_fraction(images: ArrayLike, period: Ints) -> jax.Array:
    """The share of a picture's variance that is one pattern repeated with a fixed period.

    ``Var_phase(mean over the pixels of that phase) / Var(pixels)``, in each channel: 1 for a pure
    checkerboard, whatever its height and offset. White noise has the expectation
    ``nu = (P - 1)/(M - 1)`` (P phases, M pixels), so ``(fraction - nu)/(1 - nu)`` is returned: 0 on
    average for noise, and a little below 0 for pictures that have less.

    Args:
        images: (N, *space, C), real. Cropped at the high ends to a multiple of `period`.
        period: in pixels; an int, or one per spatial axis. At least two periods must fit into
            some axis.

    Returns:
        (N, C), in float32 or wider; 0 for constant images.

    Raises:
        ValueError: a period below 1, larger than the picture, or as large along every axis.
        TypeError: not an array, or complex.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax.analysis import phase_variance_fraction
        >>> board = jnp.indices((8, 8)).sum(0) % 2
        >>> phase_variance_fraction(board[None, :, :, None], 2).tolist()
        [[1.0]]

    Source: analysis of variance over phases; for the pattern, Odena, Dumoulin & Olah,
        Deconvolution and checkerboard artifacts, 2016,
        https://distill.pub/2016/deconv-checkerboard
    """
    function = "phase_variance_fraction"
    images = _images(function, images)
    rank = images.ndim - 2
    steps = checks.ints(function, "period", period, rank, minimum=1)
    repeats = [n // step for n, step in zip(images.shape[1:-1], steps, strict=True)]
    if 0 in repeats or prod(repeats) == 1:
        rule = f"must fit the extents {images.shape[1:-1]} of `images`, and twice on some axis"
        checks.fail(function, "period", period, rule)
    extents = [n * step for n, step in zip(repeats, steps, strict=True)]
    x = _from_first_pixel(images[(slice(None), *(slice(extent) for extent in extents))])
    x = _by_phase(x, steps, first=1)
    axes = tuple(range(1, 2 * rank + 1))
    phases = x.mean(axis=axes[::2], keepdims=True)
    mean = phases.mean(axis=axes, keepdims=True)
    between = ((phases - mean) ** 2).mean(axis=axes)
    total = ((x - mean) ** 2).mean(axis=axes)
    chance = (prod(steps) - 1) / (prod(extents) - 1)
    fraction = between / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, (fraction - chance) / (1 - chance), 0)


@public
def spectral_fraction(images: ArrayLike, period: Ints, *, width: float = 0.06) -> jax.Array:
    """The share of a picture's energy at the frequencies of patterns of a fixed period.

    A pattern of period s has the frequencies ``m/s`` along an axis. In each channel, the energy
    within `width` of these frequencies is divided by the energy of everything but the mean.
    The frequency 0 along all axes is left out. Unlike `phase_variance_fraction`, it also finds a
    checkerboard whose height varies over the picture, even one that changes sign. It also counts
    other contents of the picture near these frequencies. White noise has the share of frequencies
    that are counted: .0264 of 32 x 32 at period 2.

    Args:
        images: (N, *space, C), real. They are taken to go on periodically beyond their borders.
        period: in pixels; an int, or one per spatial axis, at least one of them above 1.
        width: in cycles per pixel, below half of the distance 1/s between such frequencies; those
            of n pixels have a distance of 1/n.

    Returns:
        (N, C), in float32 or wider; 0 for constant images.

    Raises:
        ValueError: a period below 1, or 1 along every axis; a `width` that is negative or joins
            neighbouring frequencies; a picture without any frequency that near.
        TypeError: not an array, or complex.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax.analysis import phase_variance_fraction, spectral_fraction
        >>> board = (-1.0) ** jnp.indices((32, 32)).sum(0)[None, :, :, None]
        >>> turning = board * jnp.cos(jnp.arange(32) * jnp.pi / 16)[:, None, None]
        >>> round(spectral_fraction(turning, 2).item(), 3)
        1.0
        >>> round(phase_variance_fraction(turning, 2).item(), 3)
        -0.003

    Source: discrete Fourier transform; for the pattern, Odena, Dumoulin & Olah,
        Deconvolution and checkerboard artifacts, 2016,
        https://distill.pub/2016/deconv-checkerboard
    """
    function = "spectral_fraction"
    images = _images(function, images)
    rank = images.ndim - 2
    steps = checks.ints(function, "period", period, rank, minimum=1)
    if prod(steps) == 1:
        checks.fail(function, "period", period, "must be above 1 along some axis")
    if not 0 <= width < 0.5 / max(steps):
        rule = f"must be at least 0 and below half of 1/`period` (={0.5 / max(steps):g})"
        checks.fail(function, "width", width, rule)
    counted = _near_multiples(images.shape[1:-1], steps, width)
    if not counted.any():
        rule = f"leaves no frequency of `images` {images.shape[1:-1]} near those of the `period`"
        checks.fail(function, "width", width, rule)
    axes = tuple(range(1, 1 + rank))
    x = _from_first_pixel(images)
    largest = jnp.abs(x).max(axes, keepdims=True)
    x = x / jnp.where(largest > 0, largest, 1)  # so that squares neither overflow nor vanish
    x = x - x.mean(axes, keepdims=True)
    spectrum = reduce(lambda values, axis: jnp.fft.fft(values, axis=axis), axes, x)
    energy = spectrum.real**2 + spectrum.imag**2
    energy = energy.at[(slice(None), *(0,) * rank)].set(0)
    total = energy.sum(axes)
    found = jnp.where(counted[..., None], energy, 0).sum(axes)
    return jnp.where(total > 0, found / jnp.where(total > 0, total, 1), 0)


def _near_multiples(space: Sequence[int], steps: Sequence[int], width: float) -> np.ndarray:
    """Which frequencies (*space) lie within `width` of multiples of 1/step that are not all 0."""
    inside, repeats = np.ones(tuple(space), bool), np.zeros(tuple(space), bool)
    for axis, (n, step) in enumerate(zip(space, steps, strict=True)):
        frequencies = np.arange(n) / n
        nearest = np.round(frequencies * step)
        shape = [-1 if a == axis else 1 for a in range(len(space))]
        near = np.abs(frequencies - nearest / step) <= width + 1e-9
        inside &= near.reshape(shape)
        repeats |= (nearest % step != 0).reshape(shape)
    return inside & repeats


def _images(function: str, images: Any) -> jax.Array:
    """`images` as a real array (N, *space, C)."""
    images = jnp.asarray(checks.array(function, "images", images))
    if images.ndim < 3:
        checks.fail(function, "images", images.shape, "must be (N, *space, C)")
    if jnp.issubdtype(images.dtype, jnp.complexfloating):
        checks.fail_type(function, "images", str(images.dtype), "must be real")
    return images


def _from_first_pixel(images: jax.Array) -> jax.Array:
    """Less the first pixel: a constant is exactly 0, and large offsets cost no digits."""
    x = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    return x - x[(slice(None), *(slice(1),) * (x.ndim - 2))]


def _by_phase(x: jax.Array, steps: Sequence[int], first: int) -> jax.Array:
    """Every spatial axis n, from axis `first` on, as the two axes (n // step, step)."""
    last = first + len(steps)
    split = [
        size for n, step in zip(x.shape[first:], steps, strict=False) for size in (n // step, step)
    ]
    return x.reshape(*x.shape[:first], *split, *x.shape[last:])
