"""Up-sampling by rearrangement: channels become pixels, and sub-pixel convolution."""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax import _checks
from convjax._public import public
from convjax.functional.arguments import operands, sides
from convjax.functional.stages import Stages
from convjax.functional.worker import conv_as


@public
def pixel_shuffle(x: jax.Array, scale: Any, *, dimension_numbers: Any = None) -> jax.Array:
    """Lay r^d channels out as a block of pixels, r along every axis.

    ``out[n, r*p + q, c] = x[n, p, c*r^d + offset(q)]``, where ``offset(q)`` is the row-major offset
    of q in the block. This is PyTorch's order. The inverse is `pixel_unshuffle`.

    Args:
        x: (N, *space, C*r^d).
        scale: r; an int, or one per spatial axis, and their product stands for r^d.
        dimension_numbers: None, or lax's triple, of which the first and the last are used.

    Returns:
        (N, *(space * r), C).

    Raises:
        ValueError: channels that do not divide, a factor below 1.
        TypeError: factors that are not integers.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.pixel_shuffle(jnp.ones((1, 4, 4, 12)), 2).shape
        (1, 8, 8, 3)

    Source: Shi et al., Real-time single image and video super-resolution using an efficient
        sub-pixel convolutional neural network, 2016, https://arxiv.org/abs/1609.05158
    """
    stages = Stages("pixel_shuffle", x, dimension_numbers)
    scales = _checks.ints("pixel_shuffle", "scale", scale, stages.rank, minimum=1)
    if stages.channels % prod(scales):
        _checks.fail(
            "pixel_shuffle",
            "scale",
            scale,
            f"must divide the channels of `x` (={stages.channels}) by its product over the "
            f"spatial axes, {prod(scales)}",
        )
    return stages.in_result_layout(_to_space(stages.x, scales, *stages.where.x))


@public
def pixel_unshuffle(x: jax.Array, scale: Any, *, dimension_numbers: Any = None) -> jax.Array:
    """Undo `pixel_shuffle` with the same `scale`: blocks of r^d pixels become channels.

    ``out[n, p, c*r^d + offset(q)] = x[n, r*p + q, c]``

    Args:
        x: (N, *space, C).
        scale: r; an int, or one per spatial axis; it divides the extents of `x`.
        dimension_numbers: None, or lax's triple, of which the first and the last are used.

    Returns:
        (N, *(space / r), C*r^d).

    Raises:
        ValueError: extents that do not divide, a factor below 1.
        TypeError: factors that are not integers.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.pixel_unshuffle(jnp.ones((1, 8, 8, 3)), 2).shape
        (1, 4, 4, 12)

    Source: Shi et al., 2016, https://arxiv.org/abs/1609.05158
    """
    stages = Stages("pixel_unshuffle", x, dimension_numbers)
    scales = _checks.ints("pixel_unshuffle", "scale", scale, stages.rank, minimum=1)
    space = tuple(stages.x.shape[axis] for axis in stages.where.x[2])
    if any(n % r for n, r in zip(space, scales, strict=True)):
        _checks.fail(
            "pixel_unshuffle", "scale", scale, f"must divide the spatial extents of `x` (={space})"
        )
    return stages.in_result_layout(_to_depth(stages.x, scales, *stages.where.x))


@public
def subpixel_conv(
    x: jax.Array,
    kernel: jax.Array,
    scale: Any,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    kernel_dilation: Any = 1,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    algorithm: Any = None,
) -> jax.Array:
    """Convolve to r^d times the channels, then lay them out in space.

    ``pixel_shuffle(conv(x, kernel, **options), scale)``. It equals a transposed convolution of
    stride r, whose kernel has r*K taps (`convjax.equivalents.subpixel`).

    Args:
        x: (N, *space, I).
        kernel: (*K, I, O*r^d).
        scale: r; an int, or one per spatial axis, and their product stands for r^d.
        strides, padding, padding_mode, kernel_dilation, dimension_numbers, precision,
            preferred_element_type, algorithm: of the convolution; as in `conv`.
        out_sharding: as in `conv`; it speaks of the convolution, before the shuffle.

    Returns:
        (N, *out_space, O); ``out_space = space * r`` by default.

    Raises:
        ValueError: output channels that do not divide; and as `conv`.
        TypeError: as `conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.subpixel_conv(jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 12)), 2).shape
        (1, 8, 8, 3)

    Source: Shi et al., 2016, https://arxiv.org/abs/1609.05158
    """
    x, kernel = operands("subpixel_conv", x, kernel)
    where = sides("subpixel_conv", dimension_numbers, x.ndim)
    scales = _checks.ints("subpixel_conv", "scale", scale, x.ndim - 2, minimum=1)
    out_features = kernel.shape[where.kernel[1]]
    if out_features % prod(scales):
        _checks.fail(
            "subpixel_conv",
            "scale",
            scale,
            f"must divide the output channels of `kernel` (={out_features}) by its product over "
            f"the spatial axes, {prod(scales)}",
        )
    y = conv_as(
        "subpixel_conv",
        x,
        kernel,
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        kernel_dilation=kernel_dilation,
        dimension_numbers=dimension_numbers,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
        algorithm=algorithm,
    )
    return _to_space(y, scales, *where.out)


def _inverse(layout: tuple[int, ...]) -> list[int]:
    return [layout.index(axis) for axis in range(len(layout))]


def _to_space(x: jax.Array, scales: Any, batch: int, channels: int, space: Any) -> jax.Array:
    """`pixel_shuffle` between axes of `x`, whose layout the result keeps."""
    layout, rank = (batch, *space, channels), len(space)
    x = jnp.transpose(x, layout)
    x = x.reshape(*x.shape[:-1], x.shape[-1] // prod(scales), *scales)
    # (N, *space, C, *r) -> (N, s1, r1, s2, r2, ..., C); explicit sharding merges axis by axis
    pairs = [axis for a in range(rank) for axis in (1 + a, 2 + rank + a)]
    x = jnp.transpose(x, (0, *pairs, 1 + rank))
    for axis in range(1, 1 + rank):
        x = lax.collapse(x, axis, axis + 2)
    return jnp.transpose(x, _inverse(layout))


def _to_depth(x: jax.Array, scales: Any, batch: int, channels: int, space: Any) -> jax.Array:
    """`pixel_unshuffle` between axes of `x`, whose layout the result keeps."""
    layout, rank = (batch, *space, channels), len(space)
    x = jnp.transpose(x, layout)
    for axis in reversed(range(1, 1 + rank)):
        factor = scales[axis - 1]
        x = x.reshape(*x.shape[:axis], x.shape[axis] // factor, factor, *x.shape[axis + 1 :])
    # (N, s1, r1, s2, r2, ..., C) -> (N, *space, C, *r)
    x = jnp.transpose(x, (0, *range(1, 2 * rank, 2), 2 * rank + 1, *range(2, 2 * rank + 1, 2)))
    return jnp.transpose(lax.collapse(x, 1 + rank), _inverse(layout))
