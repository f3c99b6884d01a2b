"""The options of the public functions: names, types and defaults, once for all of them.

A function takes ``**options: Unpack[SomeOptions]`` and is decorated with ``takes(SomeOptions)``,
which gives it the signature that ``help`` and an editor show.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar, get_type_hints

from convjax._core import aliases

F = TypeVar("F", bound=Callable[..., Any])


class Computed(TypedDict, total=False):
    """The options that say how a convolution is computed, and in which layout."""

    dimension_numbers: aliases.DimensionNumbers
    precision: aliases.Precision
    preferred_element_type: aliases.ResultType
    algorithm: aliases.Algorithm


class Numerics(Computed, total=False):
    """The options of `Computed`, and the one that says how the result is sharded."""

    out_sharding: aliases.Sharding


class PointwiseOptions(Numerics, total=False):
    """The options of kernels that have one tap."""

    strides: aliases.Ints


class HoldOptions(PointwiseOptions, total=False):
    """The options of the fixed filter of `hold`."""

    padding: aliases.Padding
    padding_mode: aliases.PaddingMode


class SpatialOptions(TypedDict, total=False):
    """The options that say which outputs there are, and which inputs each output sees."""

    strides: aliases.Ints
    padding: aliases.Padding
    padding_mode: aliases.PaddingMode
    kernel_dilation: aliases.Ints


class DilatedOptions(SpatialOptions, total=False):
    """The options of `SpatialOptions`, and the dilation of the input."""

    input_dilation: aliases.Ints


class DenseOptions(DilatedOptions, total=False):
    """The options of `DilatedOptions`, and the groups."""

    feature_group_count: int


class ReversedOptions(SpatialOptions, total=False):
    """The options that say which outputs a transposed convolution has."""

    feature_group_count: int
    output_padding: aliases.Ints
    output_shape: aliases.Ints | None


class WindowOptions(SpatialOptions, Numerics, total=False):
    """The options of kernels that move over space."""


class DepthwiseOptions(DilatedOptions, Numerics, total=False):
    """The options of `depthwise_conv`."""


class ConvOptions(DenseOptions, Numerics, total=False):
    """The options of `conv` and its variants."""


class MatrixOptions(DenseOptions, total=False):
    """The options of `equivalents.conv_matrix`."""

    dimension_numbers: aliases.DimensionNumbers


class TransposeOptions(ReversedOptions, Numerics, total=False):
    """The options of `conv_transpose`."""


class CausalLayerOptions(TypedDict, total=False):
    """The options of a causal convolution that a layer holds as attributes."""

    activation: aliases.Activation
    axis: int | None
    strides: aliases.Ints
    output_at: aliases.OutputAt
    padding: aliases.CausalPadding
    padding_mode: aliases.PaddingMode
    kernel_dilation: aliases.Ints
    feature_group_count: int


class CausalOptions(CausalLayerOptions, Numerics, total=False):
    """The options of `causal_conv`."""


class SegmentOptions(TypedDict, total=False):
    """Where the sequences of one chunk begin and end."""

    segment_ids: aliases.ArrayLike | None
    mask: aliases.ArrayLike | None


class SequenceOptions(SegmentOptions, total=False):
    """The arguments of a causal layer's call, except `return_state`."""

    state: aliases.ArrayLike | None
    mesh_axis: aliases.MeshAxis


class CausalCallOptions(CausalOptions, SequenceOptions, total=False):
    """All options of `causal_conv` except `return_state`, which decides the type of the result."""

    bias: aliases.ArrayLike | None


class StepOptions(Computed, total=False):
    """The options of `causal_step`."""

    activation: aliases.Activation
    axis: int | None
    padding: aliases.CausalPadding
    padding_mode: aliases.PaddingMode
    kernel_dilation: aliases.Ints
    feature_group_count: int


class StateOptions(TypedDict, total=False):
    """The options of `init_state`."""

    axis: int | None
    strides: aliases.Ints
    output_at: aliases.OutputAt
    padding_mode: aliases.PaddingMode
    kernel_dilation: aliases.Ints
    dimension_numbers: aliases.DimensionNumbers


class CausalTransposeLayerOptions(TypedDict, total=False):
    """The options of a causal transposed convolution that a layer holds as attributes."""

    activation: aliases.Activation
    strides: int
    kernel_dilation: int
    feature_group_count: int


class CausalTransposeOptions(CausalTransposeLayerOptions, Computed, total=False):
    """The options of `causal_conv_transpose`."""


class CausalTransposeCallOptions(CausalTransposeOptions, total=False):
    """All options of `causal_conv_transpose` except `return_state`."""

    bias: aliases.ArrayLike | None
    state: aliases.ArrayLike | None
    segment_ids: aliases.ArrayLike | None
    mesh_axis: aliases.MeshAxis


#: The default of every option, in the order in which signatures list them.
DEFAULTS: dict[str, Any] = {
    "activation": None,
    "axis": None,
    "strides": 1,
    "output_at": "first",
    "padding": "SAME",
    "padding_mode": "constant",
    "input_dilation": 1,
    "kernel_dilation": 1,
    "feature_group_count": 1,
    "output_padding": 0,
    "output_shape": None,
    "dimension_numbers": None,
    "precision": None,
    "preferred_element_type": None,
    "out_sharding": None,
    "algorithm": None,
}


class Named:
    """A type of `convjax._core.aliases` in a signature: ``help`` prints its name, not its parts."""

    def __init__(self, name: str, type: Any) -> None:
        self.name, self.type = name, type

    def __repr__(self) -> str:
        return self.name


# The aliases that `convjax._core.aliases` declares, and not what it imports.
_NAMES = {
    value: Named(name, value)
    for name, value in vars(aliases).items()
    if name in aliases.__annotations__
}
_NAMES = {
    named.type | None: Named(f"{named.name} | None", named.type | None) for named in _NAMES.values()
} | _NAMES


def _named(annotation: Any) -> Any:
    return _NAMES.get(annotation, annotation)


def takes(tail: type, **others: Any) -> Callable[[F], F]:
    """Show the options of `tail`, a TypedDict, in the signature instead of ``**options``.

    `others` are defaults that differ from those of `DEFAULTS`, or that `DEFAULTS` does not have.
    """
    types, defaults = get_type_hints(tail), {**DEFAULTS, **others}
    options = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_named(types[name])
        )
        for name, default in defaults.items()
        if name in types
    ]

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        before = [
            parameter.replace(annotation=_named(parameter.annotation))
            for parameter in signature.parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*before, *options]
        )
        return function

    return decorate
