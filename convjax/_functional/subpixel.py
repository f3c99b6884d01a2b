"""Up-sampling by rearrangement: channels become pixels, and sub-pixel convolution."""

from collections.abc import Mapping
from math import prod
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core import checks
from convjax._core.aliases import ArrayLike, DimensionNumbers, Ints
from convjax._core.layout import Axes
from convjax._core.options import WindowOptions, takes
from convjax._core.public import public
from convjax._core.recipe import Recipe
from convjax._functional.prepare import Names, conv_recipe
from convjax._functional.stages import Stages
from convjax._operation.grouping import apply


@public
def pixel_shuffle(
    x: ArrayLike, scale: Ints, *, dimension_numbers: DimensionNumbers = None
) -> jax.Array:
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
    function = "pixel_shuffle"
    stages = Stages(function, x, {"dimension_numbers": dimension_numbers})
    scales = checks.ints(function, "scale", scale, stages.rank, minimum=1)
    _check_divides(function, scale, scales, "x", "channels", stages.channels)
    return stages.in_result_layout(_to_space(jnp.asarray(x), scales, stages.layout.x))


@public
def pixel_unshuffle(
    x: ArrayLike, scale: Ints, *, dimension_numbers: DimensionNumbers = None
) -> jax.Array:
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
    function = "pixel_unshuffle"
    stages = Stages(function, x, {"dimension_numbers": dimension_numbers})
    scales = checks.ints(function, "scale", scale, stages.rank, minimum=1)
    space = stages.layout.x.sizes(stages.shape, "space")
    if any(n % r for n, r in zip(space, scales, strict=True)):
        rule = f"must divide the spatial extents of `x` (={space})"
        checks.fail(function, "scale", scale, rule)
    return stages.in_result_layout(_to_depth(jnp.asarray(x), scales, stages.layout.x))


@public
@takes(WindowOptions)
def subpixel_conv(
    x: ArrayLike, kernel: ArrayLike, scale: Ints, **options: Unpack[WindowOptions]
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
        out_sharding: as in `conv`; the sharding of the convolution, before the shuffle.

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
    recipe, scales = subpixel_recipe(x, kernel, scale, options)
    return _to_space(apply(recipe, x, kernel), scales, recipe.layout.out)


def subpixel_recipe(
    x: Any, kernel: Any, scale: Any, options: Mapping[str, Any]
) -> tuple[Recipe, tuple[int, ...]]:
    """The convolution of `subpixel_conv`, and the factor of each spatial axis."""
    function = "subpixel_conv"
    recipe = conv_recipe(Names(function), x, kernel, options)
    scales = checks.ints(function, "scale", scale, len(recipe.window), minimum=1)
    _check_divides(function, scale, scales, "kernel", "output channels", recipe.out_channels)
    return recipe, scales


def _check_divides(
    function: str, scale: Any, scales: Any, operand: str, what: str, channels: int
) -> None:
    if channels % prod(scales):
        checks.fail(
            function,
            "scale",
            scale,
            f"must divide the {what} of `{operand}` (={channels}) by its product over the "
            f"spatial axes, {prod(scales)}",
        )


def _inverse(layout: tuple[int, ...]) -> list[int]:
    return [layout.index(axis) for axis in range(len(layout))]


def _channels_last(axes: Axes) -> tuple[tuple[int, ...], int]:
    """The axes of an operand or a result in the order (N, *space, C), and the rank."""
    return (*axes.batch, *axes.space, *axes.contract, *axes.out), len(axes.space)


def _to_space(x: jax.Array, scales: Any, axes: Axes) -> jax.Array:
    """`pixel_shuffle` between these axes of `x`, whose layout the result keeps."""
    layout, rank = _channels_last(axes)
    x = jnp.transpose(x, layout)
    x = x.reshape(*x.shape[:-1], x.shape[-1] // prod(scales), *scales)
    # (N, *space, C, *r) -> (N, s1, r1, s2, r2, ..., C); explicit sharding merges axis by axis
    pairs = [axis for a in range(rank) for axis in (1 + a, 2 + rank + a)]
    x = jnp.transpose(x, (0, *pairs, 1 + rank))
    for axis in range(1, 1 + rank):
        x = lax.collapse(x, axis, axis + 2)
    return jnp.transpose(x, _inverse(layout))


def _to_depth(x: jax.Array, scales: Any, axes: Axes) -> jax.Array:
    """`pixel_unshuffle` between these axes of `x`, whose layout the result keeps."""
    layout, rank = _channels_last(axes)
    x = jnp.transpose(x, layout)
    for axis in reversed(range(1, 1 + rank)):
        factor = scales[axis - 1]
        x = x.reshape(*x.shape[:axis], x.shape[axis] // factor, factor, *x.shape[axis + 1 :])
    # (N, s1, r1, s2, r2, ..., C) -> (N, *space, C, *r)
    x = jnp.transpose(x, (0, *range(1, 2 * rank, 2), 2 * rank + 1, *range(2, 2 * rank + 1, 2)))
    return jnp.transpose(lax.collapse(x, 1 + rank), _inverse(layout))
