"""What the modules of `convjax.nn` and `convjax.linen` share: one table, and how a row is applied.

`ROWS` maps a module's name to its row: the kind that it applies, whose function and kernel shapes
are those of `convjax.kinds`, what its parameters are called, and which fans they have. A module is
any object with the options of its row as attributes. Nothing here knows Flax.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import jax

from convjax import _checks, functional
from convjax.functional.stages import split
from convjax.initializers import KernelShape, kernel_shape, resized, transposed_kernel_shape
from convjax.interop import flax
from convjax.kinds import KINDS, Kind, Shape, Sizes

NUMERICS = ("precision", "preferred_element_type", "algorithm")
SIZES = ("groups", "channel_multiplier", "mid_features", "scale", "kernel_dilation", "method")


@dataclasses.dataclass(frozen=True)
class LayerSizes(Sizes):
    """`Sizes` of a layer, with the options on which its fans depend."""

    groups: int = 1
    channel_multiplier: int = 1
    strides: Shape = (1,)
    method: str = "nearest"
    forward_kernel: bool = False


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

    @property
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
    scale = _checks.ints("ResizeConv", "scale", s.scale, s.rank, minimum=1)
    return [resized(shape, scale, s.method) for shape in _grouped(shapes, s)]


def _transposed(shapes: Sequence[Shape], s: LayerSizes) -> list[KernelShape]:
    (shape,) = shapes
    forward = (*s.kernel_size, s.out_features // s.groups, s.in_features)
    fans = transposed_kernel_shape(forward, groups=s.groups, strides=s.strides)
    # Flax reads I off axis -2: it is there unless the kernel is a forward or a grouped one
    drop_in = not s.forward_kernel and s.groups == 1
    return [KernelShape(shape, fan_in=fans.fan_in, fan_out=fans.fan_out, drop_in=drop_in)]


# ---- the table -------------------------------------------------------------------------------


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    *,
    convention: str = "flax",
    transpose_kernel: bool = False,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    kernel_dilation: Any = 1,
    feature_group_count: int = 1,
    output_padding: Any = 0,
    **numerics: Any,
) -> jax.Array:
    """The transposed convolution of either `convention`: Flax's, or the adjoint of `conv`."""
    options = {
        "strides": 1 if strides is None else strides,
        "padding": padding,
        "padding_mode": padding_mode,
        "kernel_dilation": 1 if kernel_dilation is None else kernel_dilation,
        "feature_group_count": feature_group_count,
        "output_padding": output_padding,
        **numerics,
    }
    if convention == "adjoint":
        return functional.conv_transpose(x, kernel, **options)
    return flax.conv_transpose(x, kernel, transpose_kernel=transpose_kernel, **options)


def _transposed_shapes(s: Any) -> list[Shape]:
    if s.forward_kernel:
        return [(*s.kernel_size, s.out_features // s.groups, s.in_features)]
    return [(*s.kernel_size, s.in_features // s.groups, s.out_features)]


def _flattened_kernels(s: Sizes) -> list[str]:
    return ["lateral_kernel", *(f"spatial_kernel_{axis}" for axis in range(s.rank))]


ROWS: dict[str, Row] = {
    "Conv": Row(
        dataclasses.replace(KINDS["dense"], function=flax.conv, shapes=KINDS["grouped"].shapes),
        _grouped,
    ),
    "ConvTranspose": Row(
        dataclasses.replace(
            KINDS["transposed"], function=conv_transpose, shapes=_transposed_shapes
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


# ---- a row's parameters ------------------------------------------------------------------------


def sizes(name: str, module: Any, in_features: Any, out_features: Any = None) -> LayerSizes:
    """The sizes of a module of this name, checked."""
    in_features = _checks.integer(name, "in_features", in_features, minimum=1)
    if hasattr(module, "kernel_size"):
        window = module.kernel_size
        window = tuple(window) if isinstance(window, (tuple, list)) else (window,)
        window = _checks.ints(name, "kernel_size", window, len(window), minimum=1)
        if not window:
            _checks.fail(name, "kernel_size", window, "must have at least one spatial axis")
    else:
        window = (1,) * _checks.integer(name, "rank", module.rank, minimum=1)
    rank = len(window)
    found: dict[str, Any] = {key: getattr(module, key) for key in SIZES if hasattr(module, key)}
    if hasattr(module, "feature_group_count"):
        found["groups"] = module.feature_group_count
    groups_name = "groups" if hasattr(module, "groups") else "feature_group_count"
    groups = _checks.integer(name, groups_name, found.get("groups", 1), minimum=1)
    if "channel_multiplier" in found:
        _checks.integer(name, "channel_multiplier", found["channel_multiplier"], minimum=1)
    if "scale" in found:
        found["scale"] = _checks.ints(name, "scale", found["scale"], rank, minimum=1)
    result = LayerSizes(
        (),
        window,
        in_features=in_features,
        strides=_checks.ints(name, "strides", _one(module.strides), rank, minimum=1),
        forward_kernel=_forward_kernel(name, module),
        **found,
    )
    if out_features is None:
        out_features = ROWS[name].out_features(result)
    out_features = _checks.integer(name, "out_features", out_features, minimum=1)
    for what, channels in (("in_features", in_features), ("out_features", out_features)):
        if channels % groups:
            _checks.fail(name, groups_name, groups, f"must divide `{what}` (={channels})")
    if "mid_features" in found:
        mid = out_features if found["mid_features"] is None else found["mid_features"]
        mid = _checks.ints(name, "mid_features", mid, rank - 1, minimum=1)
        result = dataclasses.replace(result, mid_features=mid)
    return dataclasses.replace(result, out_features=out_features)


def options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a module's function: `given`, and the defaults of the others."""
    known = ROWS[name].options
    if unknown := sorted(given.keys() - known.keys()):
        raise TypeError(
            f"{name}: there is no argument `{unknown[0]}`. Besides what all modules take there are "
            f"{', '.join(f'`{key}`' for key in known)}."
        )
    return known | dict(given)


def frozen(value: Any) -> Any:
    """`value` with tuples for lists, so that it can be hashed."""
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def masked(name: str, kernel: Any, mask: Any) -> Any:
    """`kernel` times `mask`, if there is one."""
    if mask is None:
        return kernel
    if mask.shape != kernel.shape:
        _checks.fail(
            name, "mask", tuple(mask.shape), f"must have the kernel's shape {kernel.shape}"
        )
    return kernel * mask


def _one(value: Any) -> Any:
    return 1 if value is None else value  # as Flax reads it


def _forward_kernel(name: str, module: Any) -> bool:
    if not hasattr(module, "convention"):
        return False
    _checks.choice(name, "convention", module.convention, flax.CONVENTIONS)
    return module.transpose_kernel or module.convention == "adjoint"


def parameters(name: str, module: Any, s: LayerSizes) -> dict[str, Any]:
    """Names and shapes of a module's parameters, kernels before biases.

    A `KernelShape` is a kernel's; the others are biases.
    """
    row = ROWS[name]
    shapes = row.fans(row.kind.shapes(s), s)
    found: dict[str, Any] = dict(zip(row.kernels(s), shapes, strict=True))
    if getattr(module, "stage_bias", False):
        found |= {bias: (s.out_features,) for bias in row.stage_biases(s)}
    if module.use_bias:
        found["bias"] = (s.out_features,)
    return found


def own(value: Any, parameter: str, names: Sequence[str]) -> Any:
    """`value` for one of several parameters: its entry, if `value` maps their names to values."""
    if isinstance(value, Mapping) and value and set(value) <= set(names):
        return value.get(parameter, {})
    return value


# ---- a row applied -----------------------------------------------------------------------------


def check_inputs(name: str, module: Any, s: LayerSizes, x: Any) -> None:
    """Refuse inputs of too few axes or of other channels, and images for an integer window."""
    given = getattr(module, "given_kernel_size", getattr(module, "kernel_size", ()))
    if _checks.is_int(given) and x.ndim > 3:
        k, axes = given, x.ndim - 2
        _checks.fail(
            name,
            "kernel_size",
            k,
            f"means one spatial axis, and `inputs` has {x.ndim} axes",
            f"Give one extent per spatial axis, such as `kernel_size={(k,) * axes}`; `({k},)` "
            "convolves along the last of them only, the others being batch axes.",
        )
    if x.ndim < s.rank + 1:
        _checks.fail(
            name,
            "inputs",
            tuple(x.shape),
            f"must have at least {s.rank + 1} axes: {s.rank} spatial ones and channels",
        )
    if x.shape[-1] != s.in_features:
        mend = ""
        if s.in_features in x.shape[-1 - s.rank - 1 : -1]:
            mend = "They look channels-first: channels come last here."
        _checks.fail(
            name,
            "inputs",
            tuple(x.shape),
            f"must have `in_features` (={s.in_features}) channels on its last axis",
            mend,
        )


def apply(
    name: str,
    module: Any,
    s: LayerSizes,
    x: jax.Array,
    values: Mapping[str, jax.Array | None],
    out_sharding: Any = None,
) -> jax.Array:
    """The module's convolution of `x`, whose leading axes are batch axes, with these parameters."""
    row = ROWS[name]
    lead = x.shape[: x.ndim - s.rank - 1]
    if len(lead) != 1:
        x = x.reshape(prod(lead), *x.shape[len(lead) :])
    options = {key: getattr(module, key) for key in (*row.options, *NUMERICS)}
    if name != "ConvTranspose" and "strides" in options:
        options["strides"] = _one(options["strides"])
    kernels = [values[key] for key in row.kernels(s)]
    if getattr(module, "stage_bias", False):
        biases = [values[key] for key in row.stage_biases(s)]
        y = _flattened_with_biases(x, kernels, biases, s.rank, out_sharding, **options)
    else:
        arguments = row.kind.arguments(kernels, s)
        y = row.kind.function(x, *arguments, out_sharding=out_sharding, **options)
    if values.get("bias") is not None:
        y = y + values["bias"]
    return y if len(lead) == 1 else y.reshape(*lead, *y.shape[1:])


def _flattened_with_biases(
    x: jax.Array,
    kernels: Sequence[Any],
    biases: Sequence[Any],
    rank: int,
    out_sharding: Any,
    *,
    precision: Any,
    preferred_element_type: Any,
    algorithm: Any,
    **spatial: Any,
) -> jax.Array:
    """`flattened_conv` with a bias after every stage but the last."""
    numerics = {
        "precision": precision,
        "preferred_element_type": preferred_element_type,
        "algorithm": algorithm,
    }
    y = functional.pointwise_conv(x, kernels[0], **numerics)
    stages = split("flattened_conv", rank, **spatial)
    for bias, kernel, options in zip(biases, kernels[1:], stages, strict=True):
        y = y + bias
        y = functional.depthwise_conv(
            y,
            kernel.astype(y.dtype),
            **options,
            **numerics,
            out_sharding=out_sharding if kernel is kernels[-1] else None,
        )
    return y
