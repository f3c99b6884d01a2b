"""The table of modules: which kind each applies, what its parameters are called, and their fans.

Functions and kernel shapes come from the table of kinds. The functions of the two drop-ins are
Flax's conventions.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax

from convjax import _functional
from convjax._core import checks
from convjax._core.aliases import Convention
from convjax._core.options import CausalLayerOptions, CausalTransposeLayerOptions, takes
from convjax._modules import conventions
from convjax.initializers import KernelShape, kernel_shape, resized, transposed_kernel_shape
from convjax.kinds import KINDS, Kind
from convjax.kinds._sizes import Shape, Sizes

NUMERICS = ("precision", "preferred_element_type", "algorithm")


@dataclasses.dataclass(frozen=True)
class LayerSizes(Sizes):
    """`Sizes` of a layer, with the options on which its fans depend."""

    groups: int = 1
    strides: Shape = (1,)
    method: str = "nearest"
    transpose_kernel: bool = False
    convention: str = "flax"

    @property
    def forward_kernel(self) -> bool:
        """Whether a transposed convolution holds the kernel (*K, O/G, I) of the forward one."""
        return self.transpose_kernel or self.convention == "adjoint"


Fans = Callable[[Sequence[Shape], LayerSizes], Sequence[KernelShape]]


@dataclasses.dataclass(frozen=True)
class Row:
    """What a module is, in every API.

    Attributes:
        kind: function, kernel shapes, and the function's positional arguments.
        fans: the kernels' shapes with their fans.
        kernels: the names of the kernels.
        stage_biases: the names of the biases of the stages before the last.
        out_features: channels of the result.
    """

    kind: Kind
    fans: Fans
    kernels: Callable[[LayerSizes], Sequence[str]] = lambda s: ("kernel",)
    stage_biases: Callable[[LayerSizes], Sequence[str]] = lambda s: ()
    out_features: Callable[[LayerSizes], int] = lambda s: s.out_features

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """The function's own keyword options with their defaults; not those that all share."""
        shared = {"dimension_numbers", "out_sharding", "output_shape", *NUMERICS}
        found = inspect.signature(self.kind.function).parameters.values()
        return {
            p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY and p.name not in shared
        }


# ---- fans ------------------------------------------------------------------------------------


def _grouped(shapes: Sequence[Shape], s: LayerSizes) -> list[KernelShape]:
    return [kernel_shape(shape, groups=s.groups, strides=s.strides) for shape in shapes]


def _depthwise(shapes: Sequence[Shape], s: LayerSizes) -> list[KernelShape]:
    return [kernel_shape(shape, groups=s.in_features, strides=s.strides) for shape in shapes]


def _depthwise_separable(shapes: Sequence[Shape], s: LayerSizes) -> list[KernelShape]:
    return [*_depthwise(shapes[:1], s), kernel_shape(shapes[1])]


def _per_axis(shapes: Sequence[Shape], s: LayerSizes, groups: int = 1) -> list[KernelShape]:
    steps = [(step,) for step in s.strides]
    pairs = zip(shapes, steps, strict=True)
    return [kernel_shape(shape, groups=groups, strides=step) for shape, step in pairs]


def _flattened(shapes: Sequence[Shape], s: LayerSizes) -> list[KernelShape]:
    return [kernel_shape(shapes[0]), *_per_axis(shapes[1:], s, s.out_features)]


def _resized(shapes: Sequence[Shape], s: LayerSizes) -> list[KernelShape]:
    scale = checks.ints("ResizeConv", "scale", s.scale, s.rank, minimum=1)
    return [resized(shape, scale, s.method) for shape in _grouped(shapes, s)]


def _transposed(shapes: Sequence[Shape], s: LayerSizes) -> list[KernelShape]:
    (shape,) = shapes
    forward = (*s.kernel_size, s.out_features // s.groups, s.in_features)
    fans = transposed_kernel_shape(forward, groups=s.groups, strides=s.strides)
    # Flax reads I off axis -2: it is there unless the kernel is a forward or a grouped one
    drop_in = not s.forward_kernel and s.groups == 1
    return [KernelShape(shape, fan_in=fans.fan_in, fan_out=fans.fan_out, drop_in=drop_in)]


# ---- the table -------------------------------------------------------------------------------


@takes(conventions.TransposeOptions)
def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    *,
    convention: Convention = "flax",
    transpose_kernel: bool = False,
    **options: Unpack[conventions.TransposeOptions],
) -> jax.Array:
    """The transposed convolution of either `convention`: Flax's, or the adjoint of `conv`."""
    if convention == "adjoint":
        given: dict[str, Any] = {name: v for name, v in options.items() if v is not None}
        return _functional.conv_transpose(x, kernel, **given)
    return conventions.conv_transpose(x, kernel, transpose_kernel=transpose_kernel, **options)


@takes(CausalLayerOptions)
def causal_conv(x: jax.Array, kernel: jax.Array, **options: Unpack[CausalLayerOptions]) -> Any:
    """`convjax.causal_conv`, of whose options a layer holds those of the signature."""
    given: dict[str, Any] = {**options}
    return _functional.causal_conv(x, kernel, **given)


@takes(CausalTransposeLayerOptions)
def causal_conv_transpose(
    y: jax.Array, kernel: jax.Array, **options: Unpack[CausalTransposeLayerOptions]
) -> Any:
    """`convjax.causal_conv_transpose`, of whose options a layer holds those of the signature."""
    strides = options.get("strides", 1)
    (strides,) = checks.ints("CausalConvTranspose", "strides", strides, 1, minimum=1)
    given: dict[str, Any] = {**options, "strides": strides}
    return _functional.causal_conv_transpose(y, kernel, **given)


def _transposed_shapes(s: Any) -> list[Shape]:
    if s.forward_kernel:
        return [(*s.kernel_size, s.out_features // s.groups, s.in_features)]
    return [(*s.kernel_size, s.in_features // s.groups, s.out_features)]


def _flattened_kernels(s: Sizes) -> list[str]:
    return ["lateral_kernel", *(f"spatial_kernel_{axis}" for axis in range(s.rank))]


ROWS: dict[str, Row] = {
    "Conv": Row(
        dataclasses.replace(
            KINDS["dense"], function=conventions.conv, shapes=KINDS["grouped"].shapes
        ),
        _grouped,
    ),
    "ConvTranspose": Row(
        dataclasses.replace(
            KINDS["transposed"], function=conv_transpose, shapes=_transposed_shapes
        ),
        _transposed,
    ),
    "CausalConv": Row(
        dataclasses.replace(KINDS["dense"], function=causal_conv, shapes=KINDS["grouped"].shapes),
        _grouped,
    ),
    "CausalConvTranspose": Row(
        dataclasses.replace(
            KINDS["transposed"], function=causal_conv_transpose, shapes=_transposed_shapes
        ),
        _transposed,
    ),
    "PointwiseConv": Row(KINDS["pointwise"], _grouped),
    "DilatedConv": Row(KINDS["dilated"], _grouped),
    "GroupedConv": Row(KINDS["grouped"], _grouped),
    "ShuffledGroupedConv": Row(KINDS["shuffled_grouped"], _grouped),
    "PointwiseGroupedConv": Row(KINDS["pointwise_grouped"], _grouped),
    "DepthwiseConv": Row(
        KINDS["depthwise"],
        _depthwise,
        out_features=lambda s: s.in_features * s.channel_multiplier,
    ),
    "DepthwiseSeparableConv": Row(
        KINDS["depthwise_separable"],
        _depthwise_separable,
        kernels=lambda s: ("depthwise_kernel", "pointwise_kernel"),
    ),
    "SpatiallySeparableConv": Row(
        KINDS["spatially_separable"],
        _per_axis,
        kernels=lambda s: [f"kernel_{axis}" for axis in range(s.rank)],
    ),
    "FlattenedConv": Row(
        KINDS["flattened"],
        _flattened,
        kernels=_flattened_kernels,
        stage_biases=lambda s: [
            name.replace("kernel", "bias") for name in _flattened_kernels(s)[:-1]
        ],
    ),
    "ResizeConv": Row(KINDS["resize"], _resized),
    "SubpixelConv": Row(KINDS["subpixel"], _grouped),
}
