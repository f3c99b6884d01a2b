"""Up-sampling: resize, resize-convolution, and the hold that smooths what was up-sampled."""

from functools import reduce
from typing import Any, Unpack, get_args

import jax
import jax.numpy as jnp
import numpy as np

from convjax._core import checks
from convjax._core.aliases import ArrayLike, DimensionNumbers, Ints, Method
from convjax._core.layout import layout_of
from convjax._core.options import HoldOptions, WindowOptions, takes
from convjax._core.public import public
from convjax._functional.prepare import Names, check_operands, resolved
from convjax._functional.stages import Stages
from convjax._operation.grouping import apply

METHODS = get_args(Method)


@public
def resize(
    x: ArrayLike,
    scale: Ints,
    *,
    method: Method = "nearest",
    dimension_numbers: DimensionNumbers = None,
) -> jax.Array:
    """Enlarge by whole factors: nearest neighbour, or (multi)linear with half-pixel centres.

    Output p lies at input ``(p + 1/2)/scale - 1/2``. "nearest" takes the nearest input. "bilinear"
    weighs the two inputs around that place, along every axis. Beyond the edges the edge continues.
    The map is linear.

    Args:
        x: (N, *space, C).
        scale: factor >= 1; an int, or one per spatial axis.
        method: "nearest" or "bilinear".
        dimension_numbers: None, or lax's triple, of which the first and the last are used.

    Returns:
        (N, *(space * scale), C), of `x`'s dtype.

    Raises:
        ValueError: a factor below 1, an unknown method.
        TypeError: factors that are not integers, "bilinear" on integers.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.resize(jnp.ones((1, 4, 5, 3)), 2, method="bilinear").shape
        (1, 8, 10, 3)

    Source: Odena, Dumoulin & Olah, Deconvolution and checkerboard artifacts, 2016,
        https://distill.pub/2016/deconv-checkerboard
    """
    stages = Stages("resize", x, {"dimension_numbers": dimension_numbers})
    x, space = jnp.asarray(x), stages.layout.x.space
    return stages.in_result_layout(_enlarge("resize", x, scale, method, space))


@public
@takes(WindowOptions)
def resize_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    scale: Ints,
    *,
    method: Method = "nearest",
    **options: Unpack[WindowOptions],
) -> jax.Array:
    """Resize, then convolve: up-sampling without the checkerboard of a transposed convolution.

    ``conv(resize(x, scale, method=method), kernel, **options)``. With "nearest" it equals a
    transposed convolution with the kernel of `convjax.equivalents.resize_conv`. A border of zeros
    is visible in the result; ``padding_mode="edge"`` and ``"reflect"`` avoid it.

    Args:
        x: (N, *space, I).
        kernel: (*K, I, O).
        scale: factor >= 1; an int, or one per spatial axis.
        method: "nearest" or "bilinear".
        strides, padding, padding_mode, kernel_dilation, dimension_numbers, precision,
            preferred_element_type, out_sharding, algorithm: of the convolution; as in `conv`.

    Returns:
        (N, *out_space, O); ``out_space = space * scale`` by default.

    Raises:
        ValueError, TypeError: as `resize` and `conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.resize_conv(jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 3)), 2).shape
        (1, 8, 8, 3)

    Source: Odena, Dumoulin & Olah, Deconvolution and checkerboard artifacts, 2016,
        https://distill.pub/2016/deconv-checkerboard
    """
    names = Names("resize_conv")
    dtype = check_operands(names, x, kernel)
    layout = layout_of(names.function, options.get("dimension_numbers"), x.ndim)
    x = _enlarge(names.function, jnp.asarray(x), scale, method, layout.x.space)
    recipe = resolved(names, layout, x.shape, kernel.shape, dtype, options)
    return apply(recipe, x, kernel)


@public
@takes(HoldOptions, padding_mode="edge")
def hold(x: ArrayLike, size: Ints, *, order: int = 0, **options: Unpack[HoldOptions]) -> jax.Array:
    """The fixed smoothing that removes checkerboards: a moving average of `size`, order + 1 times.

    Every channel is convolved with one filter: the box of `size`, convolved `order` times with
    itself, of sum 1. This is a B-spline; for ``order=0`` it is the zero-order hold. After an
    up-sampling by `size`, or before a convolution with that stride, the filter cancels the
    frequencies of the checkerboard. What lies beyond the edge repeats the edge, so a constant stays
    the same constant.

    Args:
        x: (N, *space, C), of a floating dtype.
        size: extent of the box; an int, or one per spatial axis. The filter has
            ``(order + 1)*(size - 1) + 1`` taps.
        order: how often the box is convolved with itself.
        strides, padding, padding_mode, dimension_numbers, precision, preferred_element_type,
            out_sharding, algorithm: as in `conv`, but for the default of `padding_mode`.

    Returns:
        (N, *out_space, C).

    Raises:
        ValueError: a `size` below 1, an `order` below 0; and as `conv`.
        TypeError: integers, whose average is not one; and as `conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.hold(jnp.ones((1, 8, 8, 3)), 2, order=1).shape
        (1, 8, 8, 3)

    Source: Kinoshita & Kiya, Fixed smooth convolutional layer for avoiding checkerboard artifacts
        in CNNs, 2020, https://arxiv.org/abs/2002.02117
    """
    stages = Stages("hold", x, options)
    sizes = checks.ints("hold", "size", size, stages.rank, minimum=1)
    order = checks.integer("hold", "order", order, minimum=0)
    x = jnp.asarray(x)
    _check_inexact("hold", x, "averages")
    if stages.channels == 0:
        checks.fail("hold", "x", tuple(x.shape), "must have at least one channel")
    axes, kernels = stages.layout.kernel, []
    for axis, extent in zip(axes.space, sizes, strict=True):
        shape = [1] * x.ndim
        shape[axis] = -1
        taps = jnp.asarray(box(extent, order), x.dtype).reshape(shape)
        kernels.append(stages.kernel("size", jnp.repeat(taps, stages.channels, axes.out[0])))
    depthwise = {"feature_group_count": stages.channels, "padding_mode": "edge"}
    per_axis = stages.per_axis({**depthwise, **options})
    return stages.run(list(zip(kernels, per_axis, strict=True)), options)


def box(size: int, order: int) -> np.ndarray:
    """The box of `size` convolved `order` times with itself, of sum 1."""
    return reduce(np.convolve, [np.ones(size) / size] * (order + 1))


def _check_inexact(function: str, x: jax.Array, what: str) -> None:
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        checks.fail_type(
            function,
            "x",
            str(x.dtype),
            f"must have a floating dtype: {what} of integers are not integers",
            "Cast it first, for example `x.astype(jnp.float32)`.",
        )


def _enlarge(function: str, x: jax.Array, scale: Any, method: Any, axes: Any) -> jax.Array:
    """`x` resized along `axes`, which are in the order of `scale`."""
    scales = checks.ints(function, "scale", scale, len(axes), minimum=1)
    if checks.choice(function, "method", method, METHODS) == "nearest":
        for axis, factor in zip(axes, scales, strict=True):
            x = jnp.repeat(x, factor, axis=axis)
        return x
    _check_inexact(function, x, "weighted means")
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis, factor in zip(axes, scales, strict=True):
        y = _interpolate(y, factor, axis)
    return y.astype(x.dtype)


def _interpolate(x: jax.Array, factor: int, axis: int) -> jax.Array:
    """Linear interpolation along one axis, phase by phase.

    Output ``factor*i + q`` lies at ``i + t``, ``t = (2*q + 1 - factor) / (2*factor)``: the first
    half of the phases between the element before and i, the second between i and the one after.
    """
    half = factor // 2
    if half == 0:
        return x
    n = x.shape[axis]
    first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, n - 1))
    before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, n - 1, axis=axis)], axis)
    after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, n, axis=axis), last], axis)
    before, here, after = (jnp.expand_dims(a, axis + 1) for a in (before, x, after))
    t = (np.arange(half) * 2 + 1 + factor % 2) / (2 * factor)
    weight = jnp.asarray(t, x.real.dtype).reshape(-1, *[1] * (x.ndim - axis - 1))
    earlier = here + jnp.flip(weight, 0) * (before - here)
    later = here + weight * (after - here)
    phases = [earlier, *[here] * (factor % 2), later]
    shape = (*x.shape[:axis], n * factor, *x.shape[axis + 1 :])
    return jnp.concatenate(phases, axis + 1).reshape(shape)
