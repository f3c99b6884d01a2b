"""What every kind of convolution costs, computed from shapes: parameters, MACs and bytes.

Each function has the name and the arguments of the kind it prices, with shapes in place of arrays
(anything that has a `.shape` will do), channels-last, and returns a `Cost`. A multiply-accumulate
(MAC) is one multiplication and one addition; FLOPs, where both are counted, are twice the MACs.

Example:
    >>> from convjax import cost
    >>> x = (1, 7, 7, 3)
    >>> cost.conv(x, (3, 3, 3, 128), padding="VALID").macs
    86400
    >>> cost.depthwise_separable_conv(x, (3, 3, 1, 3), (1, 1, 3, 128), padding="VALID").macs
    10275
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from convjax import _checks
from convjax import padding as paddings
from convjax._public import Check, public_with
from convjax.counting import (
    Cost,
    Shape,
    chain_cost,
    conv_cost,
    count_macs,
    extended,
    shape_of,
    shapes_of,
    split,
)
from convjax.geometry import Geometry
from convjax.transposed_sizes import check_causal_mode, transposed_extents

__all__ = [
    "Cost",
    "channel_shuffle",
    "conv",
    "conv_transpose",
    "depthwise_conv",
    "depthwise_separable_conv",
    "depthwise_separable_ratio",
    "dilated_conv",
    "flattened_conv",
    "grouped_conv",
    "hold",
    "pixel_shuffle",
    "pointwise_conv",
    "pointwise_grouped_conv",
    "resize",
    "resize_conv",
    "shuffled_grouped_conv",
    "spatially_separable_conv",
    "spatially_separable_ratio",
    "subpixel_conv",
]

_CHECKS: dict[str, Check] = {
    "x": _checks.shape,
    "y": _checks.shape,
    "kernel": _checks.shape,
    "depthwise_kernel": _checks.shape,
    "pointwise_kernel": _checks.shape,
    "lateral_kernel": _checks.shape,
    "kernels": _checks.shapes,
    "spatial_kernels": _checks.shapes,
    "groups": _checks.positive,
    "feature_group_count": _checks.positive,
    "itemsize": _checks.positive,
    "rank": _checks.positive,
    "axis": _checks.axis,
    "order": _checks.natural,
    "image_size": _checks.positive,
    "out_features": _checks.positive,
}
public = public_with(**_CHECKS)
public_convolution = public_with(conv_cost, **_CHECKS)


@public_convolution
def conv(x: Any, kernel: Any, **options: Any) -> Cost:
    """Cost of ``convjax.conv``: ``N * out * prod(K) * I * O / G`` MACs.

    Args:
        x: shape (N, *space, I).
        kernel: shape (*K, I/G, O).
        options: `strides`, `padding`, `padding_mode`, `input_dilation`, `kernel_dilation` and
            `feature_group_count`, as in the function priced; `itemsize`, bytes per element (4).
            What `padding_mode` copies beyond the edges counts as real input.
    """
    return conv_cost("conv", x, kernel, **options)[0]


@public_convolution
def pointwise_conv(x: Any, kernel: Any, **options: Any) -> Cost:
    """Cost of ``convjax.pointwise_conv``: ``N * space * I * O`` MACs, ``I * O`` weights."""
    return conv_cost("pointwise_conv", x, kernel, **options)[0]


@public_convolution
def dilated_conv(x: Any, kernel: Any, kernel_dilation: Any, **options: Any) -> Cost:
    """Cost of ``convjax.dilated_conv``: the cost of `conv`, whatever the dilation."""
    return conv_cost("dilated_conv", x, kernel, kernel_dilation=kernel_dilation, **options)[0]


@public_convolution
def grouped_conv(x: Any, kernel: Any, groups: int, **options: Any) -> Cost:
    """Cost of ``convjax.grouped_conv``: 1/G of the dense convolution's weights and MACs."""
    return conv_cost("grouped_conv", x, kernel, feature_group_count=groups, **options)[0]


@public_convolution
def pointwise_grouped_conv(x: Any, kernel: Any, groups: int, **options: Any) -> Cost:
    """Cost of ``convjax.pointwise_grouped_conv``: ``N * space * I * O / G`` MACs."""
    return conv_cost("pointwise_grouped_conv", x, kernel, feature_group_count=groups, **options)[0]


@public_convolution
def shuffled_grouped_conv(
    x: Any, kernel: Any, groups: int, *, itemsize: int = 4, **options: Any
) -> Cost:
    """Cost of ``convjax.shuffled_grouped_conv``: the grouped convolution, then a shuffle."""
    options |= {"feature_group_count": groups, "itemsize": itemsize}
    cost, shape = conv_cost("shuffled_grouped_conv", x, kernel, **options)
    return cost + channel_shuffle(shape, groups, itemsize=itemsize)


@public_convolution
def depthwise_conv(x: Any, kernel: Any, **options: Any) -> Cost:
    """Cost of ``convjax.depthwise_conv``: ``N * out * prod(K) * I * M`` MACs."""
    groups = shape_of(x)[-1]
    return conv_cost("depthwise_conv", x, kernel, feature_group_count=groups, **options)[0]


@public
def conv_transpose(
    y: Any,
    kernel: Any,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    kernel_dilation: Any = 1,
    feature_group_count: int = 1,
    output_padding: Any = 0,
    output_shape: Any = None,
    itemsize: int = 4,
) -> Cost:
    """Cost of ``convjax.conv_transpose``: useful MACs as the convolution that it transposes.

    Its MACs are the MACs of the equivalent direct convolution (relation 14) without the zeros that
    strides insert. Every element of `y` meets every tap: ``N * space * prod(K) * I * O / G`` MACs
    where the result is `strides` times as large as `y`, and as many useful MACs where nothing is
    cropped.

    Args:
        y: shape (N, *space, I).
        kernel: shape (*K, O/G, I).
        strides, padding, padding_mode, kernel_dilation, feature_group_count, output_padding,
            output_shape: as in the function priced.
        itemsize: bytes per element.

    Example:
        >>> conv_transpose((1, 2, 2, 3), (2, 2, 1, 3), strides=2, padding="VALID").macs
        48
    """
    function = "conv_transpose"
    y, kernel = shapes_of(function, y, kernel)
    n, *space, i = y
    *window, per_group, _ = kernel
    rank = len(window)
    s = _checks.ints(function, "strides", strides, rank, minimum=1)
    d = _checks.ints(function, "kernel_dilation", kernel_dilation, rank, minimum=1)
    check_causal_mode(function, padding, paddings.modes(function, padding_mode, rank))
    out, sides = transposed_extents(
        function,
        padding,
        space=tuple(space),
        window=tuple(window),
        strides=s,
        kernel_dilation=d,
        output_padding=output_padding,
        output_shape=output_shape,
    )
    written, sides = extended(function, out, sides, padding_mode)
    geometry = Geometry(s, sides, (1,) * rank, d).input_gradient(written, tuple(window))
    macs, useful = count_macs(n * i * per_group, space, window, written, geometry)
    result = (n, *out, per_group * feature_group_count)
    moved = itemsize * sum(map(math.prod, (y, kernel, result)))
    return Cost(math.prod(kernel), macs, useful, moved)


@public_convolution
def depthwise_separable_conv(
    x: Any, depthwise_kernel: Any, pointwise_kernel: Any, *, itemsize: int = 4, **options: Any
) -> Cost:
    """Cost of ``convjax.depthwise_separable_conv``; see `depthwise_separable_ratio`."""
    options["feature_group_count"] = shape_of(x)[-1]
    stages = [(depthwise_kernel, options), (pointwise_kernel, {})]
    return chain_cost("depthwise_separable_conv", x, stages, itemsize)


@public_convolution
def spatially_separable_conv(
    x: Any, kernels: Sequence[Any], *, itemsize: int = 4, **options: Any
) -> Cost:
    """Cost of ``convjax.spatially_separable_conv``; see `spatially_separable_ratio`."""
    function = "spatially_separable_conv"
    stages = zip(kernels, split(function, len(shape_of(x)) - 2, **options), strict=True)
    return chain_cost(function, x, list(stages), itemsize)


@public_convolution
def flattened_conv(
    x: Any,
    lateral_kernel: Any,
    spatial_kernels: Sequence[Any],
    *,
    itemsize: int = 4,
    **options: Any,
) -> Cost:
    """Cost of ``convjax.flattened_conv``: ``F * (I + sum(K))`` weights, not ``F * I * prod(K)``."""
    function = "flattened_conv"
    filters = {"feature_group_count": shape_of(lateral_kernel)[-1]}
    own = split(function, len(shape_of(x)) - 2, **options)
    spatial = [(k, {**o, **filters}) for k, o in zip(spatial_kernels, own, strict=True)]
    return chain_cost(function, x, [(lateral_kernel, {}), *spatial], itemsize)


@public
def channel_shuffle(x: Any, groups: int, *, axis: int = -1, itemsize: int = 4) -> Cost:
    """Cost of ``convjax.channel_shuffle`` and its inverse: no MACs, every element moved."""
    shape = shape_of(x)
    if shape[axis] % _checks.integer("channel_shuffle", "groups", groups, minimum=1):
        rule = f"must divide the channels of `x` (={shape[axis]})"
        _checks.fail("channel_shuffle", "groups", groups, rule)
    return Cost(bytes=2 * itemsize * math.prod(shape))


channel_unshuffle = channel_shuffle


@public
def pixel_shuffle(x: Any, scale: Any, *, itemsize: int = 4) -> Cost:
    """Cost of ``convjax.pixel_shuffle`` and its inverse: no MACs, every element moved."""
    shape = shape_of(x)
    _checks.ints("pixel_shuffle", "scale", scale, len(shape) - 2, minimum=1)
    return Cost(bytes=2 * itemsize * math.prod(shape))


pixel_unshuffle = pixel_shuffle


@public_convolution
def subpixel_conv(x: Any, kernel: Any, scale: Any, *, itemsize: int = 4, **options: Any) -> Cost:
    """Cost of ``convjax.subpixel_conv``: a convolution at low resolution, then a shuffle."""
    cost, shape = conv_cost("subpixel_conv", x, kernel, itemsize=itemsize, **options)
    return cost + pixel_shuffle(shape, scale, itemsize=itemsize)


@public
def resize(x: Any, scale: Any, *, method: str = "nearest", itemsize: int = 4) -> Cost:
    """Cost of ``convjax.resize``: bytes; interpolation is elementwise and counts no MACs."""
    shape, larger = shape_of(x), _larger("resize", x, scale)
    _checks.choice("resize", "method", method, ("nearest", "bilinear"))
    return Cost(bytes=itemsize * (math.prod(shape) + math.prod(larger)))


@public_convolution
def resize_conv(
    x: Any, kernel: Any, scale: Any, *, method: str = "nearest", itemsize: int = 4, **options: Any
) -> Cost:
    """Cost of ``convjax.resize_conv``: a resize, and a convolution at high resolution."""
    larger = _larger("resize_conv", x, scale)
    cost, _ = conv_cost("resize_conv", larger, kernel, itemsize=itemsize, **options)
    return resize(x, scale, method=method, itemsize=itemsize) + cost


@public_convolution
def hold(
    x: Any,
    size: Any,
    *,
    order: int = 0,
    padding_mode: Any = "edge",
    itemsize: int = 4,
    **options: Any,
) -> Cost:
    """Cost of ``convjax.hold``: a depthwise convolution per axis, of no weights."""
    shape = shape_of(x)
    rank, channels = len(shape) - 2, shape[-1]
    sizes = _checks.ints("hold", "size", size, rank, minimum=1)
    options |= {"padding_mode": padding_mode, "feature_group_count": channels}
    kernels = []
    for axis, extent in enumerate(sizes):
        window = [1] * rank
        window[axis] = (order + 1) * (extent - 1) + 1
        kernels.append((*window, 1, channels))
    stages = zip(kernels, split("hold", rank, **options), strict=True)
    return dataclasses.replace(chain_cost("hold", x, list(stages), itemsize), params=0)


# ---- the article's ratios --------------------------------------------------------------------


@public
def spatially_separable_ratio(image_size: int, kernel_size: int) -> Fraction:
    """MACs of an m x 1 then 1 x m convolution over those of the m x m one, on an N x N image.

    ``2/m + (m - 1) / (m * (N - m + 1))``, without padding, at unit strides.

    Example:
        >>> spatially_separable_ratio(5, 3)
        Fraction(8, 9)
    """
    m = _checks.integer("spatially_separable_ratio", "kernel_size", kernel_size, minimum=1)
    outputs = (
        _checks.integer("spatially_separable_ratio", "image_size", image_size, minimum=m) - m + 1
    )
    return Fraction(2, m) + Fraction(m - 1, m * outputs)


@public
def depthwise_separable_ratio(out_features: int, kernel_size: Any, *, rank: int = 2) -> Fraction:
    """MACs of a depthwise separable convolution (multiplier 1) over those of the dense one.

    ``1/O + 1/prod(K)``: 1/Nc + 1/h^2 for h x h kernels.

    Example:
        >>> depthwise_separable_ratio(128, 3)
        Fraction(137, 1152)
    """
    function = "depthwise_separable_ratio"
    window = _checks.ints(function, "kernel_size", kernel_size, rank, minimum=1)
    features = _checks.integer(function, "out_features", out_features, minimum=1)
    return Fraction(1, features) + Fraction(1, math.prod(window))


def _larger(function: str, x: Any, scale: Any) -> Shape:
    n, *space, channels = shape_of(x)
    scales = _checks.ints(function, "scale", scale, len(space), minimum=1)
    return (n, *(size * factor for size, factor in zip(space, scales, strict=True)), channels)
