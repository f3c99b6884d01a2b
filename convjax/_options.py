"""The options of the public functions: names, types and defaults, once for all of them.

A function takes ``**options: Unpack[SomeOptions]`` and is decorated with ``takes(SomeOptions)``,
which gives it the signature that ``help`` and an editor show.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar, get_type_hints

from convjax import _types

F = TypeVar("F", bound=Callable[..., Any])


class Computed(TypedDict, total=False):
    """How it is computed, and in which layout."""

    dimension_numbers: _types.DimensionNumbers
    precision: _types.Precision
    preferred_element_type: _types.ResultType
    algorithm: _types.Algorithm


class Numerics(Computed, total=False):
    """The same, and how the result is sharded."""

    out_sharding: _types.Sharding


class PointwiseOptions(Numerics, total=False):
    """Of kernels that have one tap."""

    strides: _types.Ints


class HoldOptions(PointwiseOptions, total=False):
    """Of the fixed filter of `hold`."""

    padding: _types.Padding
    padding_mode: _types.PaddingMode


class SpatialOptions(TypedDict, total=False):
    """Of what moves over space: which outputs there are, and what they see."""

    strides: _types.Ints
    padding: _types.Padding
    padding_mode: _types.PaddingMode
    kernel_dilation: _types.Ints


class WindowOptions(SpatialOptions, Numerics, total=False):
    """Of kernels that move over space."""


class DepthwiseOptions(WindowOptions, total=False):
    """Of `depthwise_conv`."""

    input_dilation: _types.Ints


class ConvOptions(DepthwiseOptions, total=False):
    """Of `conv` and its variants."""

    feature_group_count: int


class MatrixOptions(SpatialOptions, total=False):
    """Of `equivalents.conv_matrix`."""

    input_dilation: _types.Ints
    feature_group_count: int
    dimension_numbers: _types.DimensionNumbers


class TransposeOptions(WindowOptions, total=False):
    """Of `conv_transpose`."""

    feature_group_count: int
    output_padding: _types.Ints
    output_shape: _types.Ints | None


class CausalLayerOptions(TypedDict, total=False):
    """Of causal convolutions: what a layer holds."""

    activation: _types.Activation
    axis: int | None
    strides: _types.Ints
    output_at: _types.OutputAt
    padding: _types.CausalPadding
    padding_mode: _types.PaddingMode
    kernel_dilation: _types.Ints
    feature_group_count: int


class CausalOptions(CausalLayerOptions, Numerics, total=False):
    """Of `causal_conv`."""


class StepOptions(Computed, total=False):
    """Of `causal_step`."""

    activation: _types.Activation
    axis: int | None
    padding: _types.CausalPadding
    padding_mode: _types.PaddingMode
    kernel_dilation: _types.Ints
    feature_group_count: int


class StateOptions(TypedDict, total=False):
    """Of `init_state`."""

    axis: int | None
    strides: _types.Ints
    output_at: _types.OutputAt
    padding_mode: _types.PaddingMode
    kernel_dilation: _types.Ints
    dimension_numbers: _types.DimensionNumbers


class CausalTransposeLayerOptions(TypedDict, total=False):
    """Of causal transposed convolutions: what a layer holds."""

    activation: _types.Activation
    strides: int
    kernel_dilation: int
    feature_group_count: int


class CausalTransposeOptions(CausalTransposeLayerOptions, Computed, total=False):
    """Of `causal_conv_transpose`."""


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
    """A type of `convjax._types` in a signature: ``help`` prints its name, not its parts."""

    def __init__(self, name: str, type: Any) -> None:
        self.name, self.type = name, type

    def __repr__(self) -> str:
        return self.name


# The aliases that `convjax._types` declares, and not what it imports.
_NAMES = {
    value: Named(name, value)
    for name, value in vars(_types).items()
    if name in _types.__annotations__
}


def _named(annotation: Any) -> Any:
    return _NAMES.get(annotation, annotation)


def takes(tail: type, **others: Any) -> Callable[[F], F]:
    """Show the options of `tail`, a TypedDict, in the signature instead of ``**options``.

    `others` are defaults that differ from the defaults of `DEFAULTS`, or that it has not.
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
