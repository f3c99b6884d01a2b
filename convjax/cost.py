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
from typing import Any, TypedDict, Unpack, get_args

import jax

from convjax._core import checks
from convjax._core import options as _options
from convjax._core.aliases import Extents, Ints, Method, Padding, PaddingMode
from convjax._core.options import takes
from convjax._core.public import Check, public_with
from convjax._core.recipe import Recipe
from convjax._functional import separable
from convjax._functional.prepare import Names, conv_recipe, transpose_recipe
from convjax._functional.stages import Stages
from convjax._functional.subpixel import subpixel_recipe
from convjax._operation.counting import Cost, count_macs

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
    "x": checks.shape,
    "y": checks.shape,
    "kernel": checks.shape,
    "depthwise_kernel": checks.shape,
    "pointwise_kernel": checks.shape,
    "lateral_kernel": checks.shape,
    "kernels": checks.shapes,
    "spatial_kernels": checks.shapes,
    "groups": checks.positive,
    "feature_group_count": checks.positive,
    "itemsize": checks.positive,
    "rank": checks.positive,
    "axis": checks.axis,
    "order": checks.natural,
    "image_size": checks.positive,
    "out_features": checks.positive,
}
public = public_with(**_CHECKS)


class ByteOptions(TypedDict, total=False):
    """The option that every kind has: bytes per element."""

    itemsize: int


class PointwiseOptions(ByteOptions, total=False):
    """The options of kernels that have one tap."""

    strides: Ints


class HoldOptions(PointwiseOptions, total=False):
    """The options of `hold`."""

    padding: Padding
    padding_mode: PaddingMode


class WindowOptions(_options.SpatialOptions, ByteOptions, total=False):
    """The options of kernels that move over space."""


class DepthwiseOptions(_options.DilatedOptions, ByteOptions, total=False):
    """The options of `depthwise_conv`."""


class ConvOptions(_options.DenseOptions, ByteOptions, total=False):
    """The options of `conv`."""


class TransposeOptions(_options.ReversedOptions, ByteOptions, total=False):
    """The options of `conv_transpose`."""


def _operand(shape: Extents) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(_shape(shape), "float32")


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(getattr(x, "shape", x))


def _cost(options: Any, *recipes: Recipe) -> Cost:
    """What the convolutions of `recipes` cost together."""
    itemsize, total = options.get("itemsize", 4), Cost()
    for recipe in recipes:
        macs, useful = count_macs(
            recipe.pairs, recipe.read, recipe.window, recipe.written, recipe.geometry
        )
        moved = sum(map(math.prod, (recipe.x, recipe.kernel, recipe.out_shape)))
        total += Cost(math.prod(recipe.kernel), macs, useful, itemsize * moved)
    return total


@public
@takes(ConvOptions, itemsize=4)
def conv(x: Extents, kernel: Extents, **options: Unpack[ConvOptions]) -> Cost:
    """Cost of ``convjax.conv``: ``N * out * prod(K) * I * O / G`` MACs.

    Args:
        x: shape (N, *space, I).
        kernel: shape (*K, I/G, O).
        options: `strides`, `padding`, `padding_mode`, `input_dilation`, `kernel_dilation` and
            `feature_group_count`, as in the function priced; `itemsize`, bytes per element (4).
            What `padding_mode` copies beyond the edges counts as real input.
    """
    return _cost(options, _recipe("conv", x, kernel, options))


def _recipe(function: str, x: Any, kernel: Any, options: Any, **others: Any) -> Recipe:
    groups = "groups" if "grouped" in function else "feature_group_count"
    form = next((word for word in ("pointwise", "depthwise") if word in function), "")
    names = Names(function, groups=groups, form=form, larger="conv")
    return conv_recipe(names, _operand(x), _operand(kernel), {**options, **others})


@public
@takes(PointwiseOptions, itemsize=4)
def pointwise_conv(x: Extents, kernel: Extents, **options: Unpack[PointwiseOptions]) -> Cost:
    """Cost of ``convjax.pointwise_conv``: ``N * space * I * O`` MACs, ``I * O`` weights."""
    return _cost(options, _recipe("pointwise_conv", x, kernel, options, padding="VALID"))


@public
@takes(HoldOptions, itemsize=4)
def dilated_conv(
    x: Extents, kernel: Extents, kernel_dilation: Ints, **options: Unpack[HoldOptions]
) -> Cost:
    """Cost of ``convjax.dilated_conv``: the cost of `conv`, whatever the dilation."""
    given = {**options, "kernel_dilation": kernel_dilation}
    return _cost(options, _recipe("dilated_conv", x, kernel, given))


@public
@takes(WindowOptions, itemsize=4)
def grouped_conv(
    x: Extents, kernel: Extents, groups: int, **options: Unpack[WindowOptions]
) -> Cost:
    """Cost of ``convjax.grouped_conv``: 1/G of the dense convolution's weights and MACs."""
    return _cost(options, _recipe("grouped_conv", x, kernel, options, feature_group_count=groups))


@public
@takes(PointwiseOptions, itemsize=4)
def pointwise_grouped_conv(
    x: Extents, kernel: Extents, groups: int, **options: Unpack[PointwiseOptions]
) -> Cost:
    """Cost of ``convjax.pointwise_grouped_conv``: ``N * space * I * O / G`` MACs."""
    given = {**options, "padding": "VALID", "feature_group_count": groups}
    return _cost(options, _recipe("pointwise_grouped_conv", x, kernel, given))


@public
@takes(WindowOptions, itemsize=4)
def shuffled_grouped_conv(
    x: Extents, kernel: Extents, groups: int, **options: Unpack[WindowOptions]
) -> Cost:
    """Cost of ``convjax.shuffled_grouped_conv``: the grouped convolution, then a shuffle."""
    given = {**options, "feature_group_count": groups}
    recipe = _recipe("shuffled_grouped_conv", x, kernel, given)
    return _cost(options, recipe) + _moved(options, recipe.out_shape, recipe.out_shape)


def _moved(options: Any, *shapes: Sequence[int]) -> Cost:
    """The cost of reading and writing arrays of these shapes."""
    return Cost(bytes=options.get("itemsize", 4) * sum(map(math.prod, shapes)))


@public
@takes(DepthwiseOptions, itemsize=4)
def depthwise_conv(x: Extents, kernel: Extents, **options: Unpack[DepthwiseOptions]) -> Cost:
    """Cost of ``convjax.depthwise_conv``: ``N * out * prod(K) * I * M`` MACs."""
    return _cost(options, _recipe("depthwise_conv", x, kernel, options))


@public
@takes(TransposeOptions, itemsize=4)
def conv_transpose(y: Extents, kernel: Extents, **options: Unpack[TransposeOptions]) -> Cost:
    """Cost of ``convjax.conv_transpose``: useful MACs as the convolution that it transposes.

    Its MACs are the MACs of the equivalent direct convolution (relation 14) without the zeros that
    strides insert. Every element of `y` meets every tap: ``N * space * prod(K) * I * O / G`` MACs
    where the result is `strides` times as large as `y`, and as many useful MACs where nothing is
    cropped.

    Args:
        y: shape (N, *space, I).
        kernel: shape (*K, O/G, I).
        options: `strides`, `padding`, `padding_mode`, `kernel_dilation`, `feature_group_count`,
            `output_padding` and `output_shape`, as in the function priced; `itemsize`, bytes per
            element (4).

    Example:
        >>> conv_transpose((1, 2, 2, 3), (2, 2, 1, 3), strides=2, padding="VALID").macs
        48
    """
    names = Names("conv_transpose", x="y")
    return _cost(options, transpose_recipe(names, _operand(y), _operand(kernel), options))


@public
@takes(WindowOptions, itemsize=4)
def depthwise_separable_conv(
    x: Extents,
    depthwise_kernel: Extents,
    pointwise_kernel: Extents,
    **options: Unpack[WindowOptions],
) -> Cost:
    """Cost of ``convjax.depthwise_separable_conv``; see `depthwise_separable_ratio`."""
    kernels = _operand(depthwise_kernel), _operand(pointwise_kernel)
    stages, found = separable.depthwise_separable(_operand(x), *kernels, options)
    return _cost(options, *stages.recipes(found, {}))


@public
@takes(WindowOptions, itemsize=4)
def spatially_separable_conv(
    x: Extents, kernels: Sequence[Extents], **options: Unpack[WindowOptions]
) -> Cost:
    """Cost of ``convjax.spatially_separable_conv``; see `spatially_separable_ratio`."""
    operands = [_operand(kernel) for kernel in kernels]
    stages, found = separable.spatially_separable(_operand(x), operands, options)
    return _cost(options, *stages.recipes(found, {}))


@public
@takes(WindowOptions, itemsize=4)
def flattened_conv(
    x: Extents,
    lateral_kernel: Extents,
    spatial_kernels: Sequence[Extents],
    **options: Unpack[WindowOptions],
) -> Cost:
    """Cost of ``convjax.flattened_conv``: ``F * (I + sum(K))`` weights, not ``F * I * prod(K)``."""
    lateral, spatial = _operand(lateral_kernel), [_operand(kernel) for kernel in spatial_kernels]
    stages, found = separable.flattened(_operand(x), lateral, spatial, options)
    return _cost(options, *stages.recipes(found, {}))


@public
def channel_shuffle(x: Extents, groups: int, *, axis: int = -1, itemsize: int = 4) -> Cost:
    """Cost of ``convjax.channel_shuffle`` and its inverse: no MACs, every element moved."""
    shape = _shape(x)
    if shape[axis] % checks.integer("channel_shuffle", "groups", groups, minimum=1):
        rule = f"must divide the channels of `x` (={shape[axis]})"
        checks.fail("channel_shuffle", "groups", groups, rule)
    return Cost(bytes=2 * itemsize * math.prod(shape))


channel_unshuffle = channel_shuffle


@public
def pixel_shuffle(x: Extents, scale: Ints, *, itemsize: int = 4) -> Cost:
    """Cost of ``convjax.pixel_shuffle`` and its inverse: no MACs, every element moved."""
    shape = _shape(x)
    checks.ints("pixel_shuffle", "scale", scale, len(shape) - 2, minimum=1)
    return Cost(bytes=2 * itemsize * math.prod(shape))


pixel_unshuffle = pixel_shuffle


@public
@takes(WindowOptions, itemsize=4)
def subpixel_conv(
    x: Extents, kernel: Extents, scale: Ints, **options: Unpack[WindowOptions]
) -> Cost:
    """Cost of ``convjax.subpixel_conv``: a convolution at low resolution, then a shuffle."""
    recipe = subpixel_recipe(_operand(x), _operand(kernel), scale, options)[0]
    return _cost(options, recipe) + _moved(options, recipe.out_shape, recipe.out_shape)


@public
def resize(x: Extents, scale: Ints, *, method: Method = "nearest", itemsize: int = 4) -> Cost:
    """Cost of ``convjax.resize``: bytes; interpolation is elementwise and counts no MACs."""
    checks.choice("resize", "method", method, get_args(Method))
    return _moved({"itemsize": itemsize}, _shape(x), _larger("resize", x, scale))


@public
@takes(WindowOptions, itemsize=4)
def resize_conv(
    x: Extents,
    kernel: Extents,
    scale: Ints,
    *,
    method: Method = "nearest",
    **options: Unpack[WindowOptions],
) -> Cost:
    """Cost of ``convjax.resize_conv``: a resize, and a convolution at high resolution."""
    larger = _larger("resize_conv", x, scale)
    checks.choice("resize_conv", "method", method, get_args(Method))
    convolution = _cost(options, _recipe("resize_conv", larger, kernel, options))
    return _moved(options, _shape(x), larger) + convolution


@public
@takes(HoldOptions, padding_mode="edge", itemsize=4)
def hold(x: Extents, size: Ints, *, order: int = 0, **options: Unpack[HoldOptions]) -> Cost:
    """Cost of ``convjax.hold``: a depthwise convolution per axis, of no weights."""
    stages = Stages("hold", _operand(x), {})
    sizes = checks.ints("hold", "size", size, stages.rank, minimum=1)
    kernels = []
    for axis, extent in enumerate(sizes):
        window = [1] * stages.rank
        window[axis] = (order + 1) * (extent - 1) + 1
        kernels.append(stages.kernel("size", _operand((*window, 1, stages.channels))))
    depthwise = {"feature_group_count": stages.channels, "padding_mode": "edge", **options}
    found = list(zip(kernels, stages.per_axis(depthwise), strict=True))
    return dataclasses.replace(_cost(options, *stages.recipes(found, {})), params=0)


# ---- the article's ratios --------------------------------------------------------------------


@public
def spatially_separable_ratio(image_size: int, kernel_size: int) -> Fraction:
    """MACs of an m x 1 then 1 x m convolution over those of the m x m one, on an N x N image.

    ``2/m + (m - 1) / (m * (N - m + 1))``, without padding, at unit strides.

    Example:
        >>> spatially_separable_ratio(5, 3)
        Fraction(8, 9)
    """
    m = checks.integer("spatially_separable_ratio", "kernel_size", kernel_size, minimum=1)
    outputs = (
        checks.integer("spatially_separable_ratio", "image_size", image_size, minimum=m) - m + 1
    )
    return Fraction(2, m) + Fraction(m - 1, m * outputs)


@public
def depthwise_separable_ratio(out_features: int, kernel_size: Ints, *, rank: int = 2) -> Fraction:
    """MACs of a depthwise separable convolution (multiplier 1) over those of the dense one.

    ``1/O + 1/prod(K)``: 1/Nc + 1/h^2 for h x h kernels.

    Example:
        >>> depthwise_separable_ratio(128, 3)
        Fraction(137, 1152)
    """
    function = "depthwise_separable_ratio"
    window = checks.ints(function, "kernel_size", kernel_size, rank, minimum=1)
    features = checks.integer(function, "out_features", out_features, minimum=1)
    return Fraction(1, features) + Fraction(1, math.prod(window))


def _larger(function: str, x: Extents, scale: Ints) -> tuple[int, ...]:
    n, *space, channels = _shape(x)
    scales = checks.ints(function, "scale", scale, len(space), minimum=1)
    return (n, *(size * factor for size, factor in zip(space, scales, strict=True)), channels)
