"""What each kind equals: a dense kernel and a matrix; and a dense kernel's separability.

Dense kernels are channels-last, and exact: sums over channels run at the highest precision.
``kind(x, *kernels, **options) == conv(x, equivalents.kind(*kernels), **options)``. The kinds that
up-sample equal a `conv_transpose` with strides ``scale`` instead.
"""

from collections.abc import Sequence
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core import checks
from convjax._core.aliases import ArrayLike, Ints, ResultType
from convjax._core.public import public_with
from convjax._functional import channel_shuffle as _shuffle
from convjax._functional import pixel_shuffle as _pixel_shuffle
from convjax._functional.upsample import box
from convjax.equivalents._factoring import (
    Separation,
    rank_energy,
    separable_chain,
    separate_kernel,
)
from convjax.equivalents._matrix import conv_matrix

__all__ = [
    "Separation",
    "channel_shuffle",
    "conv_matrix",
    "depthwise",
    "depthwise_separable",
    "dilated",
    "flattened",
    "grouped",
    "hold",
    "pixel_shuffle",
    "rank_energy",
    "resize",
    "resize_conv",
    "separable_chain",
    "separate_kernel",
    "shuffled_grouped",
    "spatially_separable",
    "subpixel",
    "transposed",
]

_EXACT = lax.Precision.HIGHEST

public = public_with(
    kernel=checks.kernel,
    depthwise_kernel=checks.kernel,
    pointwise_kernel=checks.kernel,
    lateral_kernel=checks.kernel,
    kernels=checks.kernels,
    spatial_kernels=checks.kernels,
    groups=checks.positive,
    feature_group_count=checks.positive,
    channels=checks.positive,
    features=checks.positive,
    in_features=checks.positive,
    rank=checks.positive,
    order=checks.natural,
    dtype=checks.dtype,
)


@public
def dilated(kernel: ArrayLike, kernel_dilation: Ints) -> jax.Array:
    """The kernel (*K̂, I, O) of `dilated_conv`: zeros between the taps, K̂ = (K - 1)*d + 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> equivalents.dilated(jnp.ones((3, 3, 2, 4)), 2).shape
        (5, 5, 2, 4)
    """
    rank = kernel.ndim - 2
    steps = checks.ints("dilated", "kernel_dilation", kernel_dilation, rank, minimum=1)
    gaps = [(0, 0, step - 1) for step in steps] + [(0, 0, 0)] * 2
    return lax.pad(kernel, jnp.zeros((), kernel.dtype), gaps)


@public
def transposed(kernel: ArrayLike, feature_group_count: int = 1) -> jax.Array:
    """The kernel (*K, I/G, O) of the `conv` that equals `conv_transpose` with (*K, O/G, I).

    Flipped in space, channels exchanged within each group. That `conv` has ``input_dilation``
    where the transposed one has ``strides``, strides 1, and padding (k̂ - 1 - lo, k̂ - 1 - hi)
    (relation 13): padding "VALID" becomes "FULL".

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> equivalents.transposed(jnp.ones((3, 3, 4, 8))).shape
        (3, 3, 8, 4)
    """
    *window, per_group, channels = kernel.shape
    _check_divides("transposed", "feature_group_count", feature_group_count, channels, "input")
    split = (*window, per_group, feature_group_count, channels // feature_group_count)
    flipped = jnp.flip(kernel, range(len(window))).reshape(split)
    swapped = jnp.swapaxes(flipped, -3, -1)  # (*K, I/G, G, O/G)
    return swapped.reshape(*window, channels // feature_group_count, -1)


@public
def grouped(kernel: ArrayLike, groups: int) -> jax.Array:
    """The block-diagonal kernel (*K, I, O) of `grouped_conv` with (*K, I/G, O).

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> equivalents.grouped(jnp.ones((3, 3, 2, 12)), groups=3).shape
        (3, 3, 6, 12)
    """
    _check_divides("grouped", "groups", groups, kernel.shape[-1], "output")
    return _block_diagonal(kernel, groups)


def _block_diagonal(kernel: ArrayLike, groups: int) -> jax.Array:
    *window, per_group, out = kernel.shape
    blocks = kernel.reshape(*window, 1, per_group, groups, out // groups)
    diagonal = np.eye(groups, dtype=bool)[:, None, :, None]
    return jnp.where(diagonal, blocks, 0).reshape(*window, groups * per_group, out)


@public
def shuffled_grouped(kernel: ArrayLike, groups: int) -> jax.Array:
    """The kernel (*K, I, O) of `shuffled_grouped_conv`: block-diagonal, its outputs interleaved.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> equivalents.shuffled_grouped(jnp.ones((3, 3, 2, 12)), groups=3).shape
        (3, 3, 6, 12)
    """
    _check_divides("shuffled_grouped", "groups", groups, kernel.shape[-1], "output")
    return _shuffle(_block_diagonal(kernel, groups), groups)


@public
def channel_shuffle(
    channels: int, groups: int, rank: int = 2, dtype: ResultType = None
) -> jax.Array:
    """The pointwise kernel (1..., C, C) of `channel_shuffle`: a permutation matrix.

    Example:
        >>> from convjax import equivalents
        >>> equivalents.channel_shuffle(6, groups=3).shape
        (1, 1, 6, 6)
    """
    return _shuffle(jnp.eye(channels, dtype=dtype), groups).reshape(*[1] * rank, channels, channels)


@public
def depthwise(kernel: ArrayLike, in_features: int) -> jax.Array:
    """The kernel (*K, I, I*M) of `depthwise_conv` with (*K, 1, I*M).

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> equivalents.depthwise(jnp.ones((3, 3, 1, 12)), in_features=6).shape
        (3, 3, 6, 12)
    """
    _check_depthwise("depthwise", "kernel", kernel, in_features)
    return _block_diagonal(kernel, in_features)


@public
def depthwise_separable(
    depthwise_kernel: ArrayLike, pointwise_kernel: ArrayLike, in_features: int
) -> jax.Array:
    """The kernel (*K, I, O) of `depthwise_separable_conv` with (*K, 1, I*M) and (1..., I*M, O).

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> kernels = jnp.ones((3, 3, 1, 6)), jnp.ones((1, 1, 6, 128))
        >>> equivalents.depthwise_separable(*kernels, in_features=3).shape
        (3, 3, 3, 128)
    """
    function, given = "depthwise_separable", depthwise_kernel.shape[-1]
    _check_depthwise(function, "depthwise_kernel", depthwise_kernel, in_features)
    _check_window(function, "pointwise_kernel", pointwise_kernel, None)
    _check_channels(function, "pointwise_kernel", pointwise_kernel, given)
    dense = _block_diagonal(depthwise_kernel, in_features)
    return jnp.matmul(dense, pointwise_kernel, precision=_EXACT)


@public
def spatially_separable(kernels: Sequence[ArrayLike]) -> jax.Array:
    """The outer product (K1, K2, ..., I, O) of the kernels of `spatially_separable_conv`.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> equivalents.spatially_separable([jnp.ones((3, 1, 4, 2)), jnp.ones((1, 5, 2, 8))]).shape
        (3, 5, 4, 8)
    """
    dense = jnp.asarray(kernels[0])
    for axis, kernel in enumerate(kernels):
        _check_window("spatially_separable", f"kernels[{axis}]", kernel, axis)
    for axis, kernel in enumerate(kernels[1:], 1):
        _check_channels("spatially_separable", f"kernels[{axis}]", kernel, dense.shape[-1])
        dense = jnp.matmul(dense, kernel, precision=_EXACT)
    return dense


@public
def flattened(lateral_kernel: ArrayLike, spatial_kernels: Sequence[ArrayLike]) -> jax.Array:
    """The kernel (K1, K2, ..., I, F) of `flattened_conv`: F rank-1 filters.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> spatial = [jnp.ones((5, 1, 1, 8)), jnp.ones((1, 3, 1, 8))]
        >>> equivalents.flattened(jnp.ones((1, 1, 4, 8)), spatial).shape
        (5, 3, 4, 8)
    """
    dense = jnp.asarray(lateral_kernel)
    _check_window("flattened", "lateral_kernel", dense, None)
    for axis, kernel in enumerate(spatial_kernels):
        name = f"spatial_kernels[{axis}]"
        _check_window("flattened", name, kernel, axis)
        if kernel.shape[-2:] != (1, dense.shape[-1]):
            rule = f"must have 1 input channel and {dense.shape[-1]} output channels"
            checks.fail("flattened", name, tuple(kernel.shape), rule)
        dense = dense * kernel
    return dense


@public
def hold(
    size: Ints, features: int, *, order: int = 0, rank: int = 2, dtype: ResultType = None
) -> jax.Array:
    """The kernel (*K, C, C) of `hold`, whose `conv` has ``padding_mode="edge"``.

    Example:
        >>> from convjax import equivalents
        >>> equivalents.hold(2, 8, order=1).shape
        (3, 3, 8, 8)
    """
    sizes = checks.ints("hold", "size", size, rank, minimum=1)
    taps = np.ones(())
    for extent in sizes:
        taps = np.multiply.outer(taps, box(extent, order))
    return jnp.asarray(np.multiply.outer(taps, np.eye(features)), dtype)


@public
def resize(scale: Ints, features: int, *, rank: int = 2, dtype: ResultType = None) -> jax.Array:
    """The kernel (*scale, C, C) of the `conv_transpose` that equals nearest-neighbour `resize`.

    ``resize(x, r) == conv_transpose(x, equivalents.resize(r, C), strides=r, padding="VALID")``

    Example:
        >>> from convjax import equivalents
        >>> equivalents.resize(2, 8).shape
        (2, 2, 8, 8)
    """
    scales = checks.ints("resize", "scale", scale, rank, minimum=1)
    return jnp.broadcast_to(jnp.eye(features, dtype=dtype), (*scales, features, features))


@public
def resize_conv(kernel: ArrayLike, scale: Ints, *, kernel_dilation: Ints = 1) -> jax.Array:
    """The kernel (*K̂ + r - 1, O, I) of the `conv_transpose` that equals a nearest `resize_conv`.

    The flipped kernel convolved with a box of r. With strides 1 and constant padding (lo, hi),
    ``resize_conv(x, kernel, r) == conv_transpose(x, this, strides=r, padding=(k̂ - 1 - lo, k̂ - 1 -
    hi))``: "FULL" becomes "VALID".

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> equivalents.resize_conv(jnp.ones((3, 3, 8, 4)), 2).shape
        (4, 4, 4, 8)
    """
    rank = kernel.ndim - 2
    scales = checks.ints("resize_conv", "scale", scale, rank, minimum=1)
    dense = jnp.flip(dilated(kernel, kernel_dilation), range(rank))
    for axis, factor in enumerate(scales):
        before, after = dense.shape[:axis], dense.shape[axis + 1 :]
        gap = jnp.zeros((*before, factor - 1, *after), dense.dtype)
        spread = jnp.concatenate([gap, dense, gap], axis)
        extent = dense.shape[axis] + factor - 1
        dense = sum(
            (lax.slice_in_dim(spread, i, i + extent, axis=axis) for i in range(1, factor)),
            start=lax.slice_in_dim(spread, 0, extent, axis=axis),
        )
    return jnp.swapaxes(dense, -1, -2)


@public
def subpixel(kernel: ArrayLike, scale: Ints) -> jax.Array:
    """The kernel (*(r*K), O, I) of the `conv_transpose` that equals `subpixel_conv`.

    The flipped kernel, its output channels laid out between its taps. With strides 1 and padding
    (lo, hi), ``subpixel_conv(x, kernel, r) == conv_transpose(x, this, strides=r,
    padding=(r*(k - 1 - lo), r*(k - 1 - hi)))``: "FULL" becomes "VALID".

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> equivalents.subpixel(jnp.ones((3, 3, 8, 12)), 2).shape
        (6, 6, 3, 8)
    """
    flipped = jnp.flip(kernel, range(kernel.ndim - 2))
    larger = _pixel_shuffle(jnp.moveaxis(flipped, -2, 0), scale)  # (I, *(r*K), O)
    return jnp.moveaxis(larger, 0, -1)


@public
def pixel_shuffle(
    scale: Ints, features: int, *, rank: int = 2, dtype: ResultType = None
) -> jax.Array:
    """The kernel (*r, C, C*r^d) of the `conv_transpose` that equals `pixel_shuffle` to C channels.

    ``pixel_shuffle(x, r) == conv_transpose(x, this, strides=r, padding="VALID")``

    Example:
        >>> from convjax import equivalents
        >>> equivalents.pixel_shuffle(2, features=3).shape
        (2, 2, 3, 12)
    """
    scales = checks.ints("pixel_shuffle", "scale", scale, rank, minimum=1)
    channels = features * prod(scales)
    identity = jnp.eye(channels, dtype=dtype).reshape(*[1] * rank, channels, channels)
    return subpixel(identity, scales)


# ---- kernels that fit --------------------------------------------------------------------------


def _check_divides(function: str, name: str, groups: int, channels: int, which: str) -> None:
    if channels % groups:
        rule = f"must divide the {which} channels of `kernel` (={channels})"
        checks.fail(function, name, groups, rule)


def _check_depthwise(function: str, name: str, kernel: ArrayLike, in_features: int) -> None:
    *_, per_group, out = kernel.shape
    if per_group != 1 or out % in_features:
        rule = f"must have 1 input channel and a multiple of `in_features` (={in_features}) outputs"
        checks.fail(function, name, tuple(kernel.shape), rule)


def _check_channels(function: str, name: str, kernel: ArrayLike, given: int) -> None:
    if kernel.shape[-2] != given:
        rule = f"must have {given} input channels, as many as the kernel before it gives"
        checks.fail(function, name, tuple(kernel.shape), rule)


def _check_window(function: str, name: str, kernel: ArrayLike, axis: int | None) -> None:
    """Refuse taps beside spatial `axis`; None is a pointwise kernel, which has one tap."""
    if any(extent != 1 for a, extent in enumerate(kernel.shape[:-2]) if a != axis):
        where = "every spatial axis" if axis is None else f"every spatial axis but {axis}"
        checks.fail(function, name, tuple(kernel.shape), f"must have extent 1 on {where}")
