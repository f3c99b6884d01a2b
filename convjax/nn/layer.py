"""What NNX modules share: they create their parameters and apply their row of the table."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Required, TypedDict, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from convjax import _modules, initializers
from convjax._core.aliases import (
    Algorithm,
    DType,
    Initializers,
    Ints,
    Mask,
    Method,
    Padding,
    PaddingMode,
    Precision,
    Promote,
    ResultType,
    Sharding,
)
from convjax._core.options import DilatedOptions, SpatialOptions
from convjax._core.options import takes as functions_takes

NONE: Mapping[str, Any] = MappingProxyType({})
KERNEL_INIT = initializers.lecun_normal()
BIAS_INIT = nnx.initializers.zeros_init()

F = TypeVar("F", bound=Callable[..., Any])


class LayerOptions(TypedDict, total=False):
    """What `Layer` takes in addition to the options of a kind's function."""

    rngs: Required[nnx.Rngs]
    use_bias: bool
    mask: Mask
    dtype: ResultType
    param_dtype: DType
    precision: Precision
    preferred_element_type: ResultType
    algorithm: Algorithm
    kernel_init: Initializers
    bias_init: Initializers
    promote_dtype: Promote
    kernel_metadata: Mapping[str, object]
    bias_metadata: Mapping[str, object]


class PointwiseLayerOptions(LayerOptions, total=False):
    """The options of kernels that have one tap."""

    strides: Ints


class DilatedLayerOptions(PointwiseLayerOptions, total=False):
    """The options of `DilatedConv`, which takes its dilation as an argument."""

    padding: Padding
    padding_mode: PaddingMode


class SpatialLayerOptions(LayerOptions, SpatialOptions, total=False):
    """The options of kernels that move over space."""


class DepthwiseLayerOptions(LayerOptions, DilatedOptions, total=False):
    """The options of `DepthwiseConv`."""


class ResizeLayerOptions(SpatialLayerOptions, total=False):
    """The options of `ResizeConv`."""

    method: Method


def takes(tail: type) -> Callable[[F], F]:
    """Show the options of `tail` in the signature of an ``__init__``."""
    ours = inspect.signature(Layer.__init__).parameters.values()
    defaults = {p.name: p.default for p in ours if p.kind is p.KEYWORD_ONLY}
    return functions_takes(tail, method="nearest", **defaults)


class Layer(nnx.Module):
    """A convolution with parameters: the base of the modules here, which say what it computes.

    Args:
        in_features: channels of the inputs.
        out_features: channels of the result; None where they follow from the other arguments.
        attributes: the arguments that only this kind has, as attributes.
        rngs: NNX's random number generators; their "params" stream gives the initial values.
        use_bias: whether a bias (out_features,) is added to the result.
        mask: an array of the kernel's shape, by which the kernel is multiplied; for a kind with
            several kernels, a mapping from their names to masks.
        dtype: dtype of the computation; by default that of inputs and parameters together.
        param_dtype: dtype of the parameters.
        precision, preferred_element_type, algorithm: as in `convjax.conv`.
        kernel_init: initialiser of the kernels; those of `convjax.initializers` know every kind's
            fans. A mapping from parameter names gives each kernel its own.
        bias_init: the same for the biases.
        promote_dtype: Flax's, or a function like it.
        kernel_metadata, bias_metadata: metadata of the parameters, such as their sharding. A
            mapping from parameter names gives each its own.
        options: options of the kind's function, such as `strides` and `padding`.
    """

    row: ClassVar[str]
    bias: nnx.Param[Any] | None

    def __init__(
        self,
        in_features: int,
        out_features: int | None,
        attributes: Mapping[str, object],
        *,
        rngs: nnx.Rngs,
        use_bias: bool = True,
        mask: Mask = None,
        dtype: ResultType = None,
        param_dtype: DType = jnp.float32,
        precision: Precision = None,
        preferred_element_type: ResultType = None,
        algorithm: Algorithm = None,
        kernel_init: Initializers = KERNEL_INIT,
        bias_init: Initializers = BIAS_INIT,
        promote_dtype: Promote = dtypes.promote_dtype,
        kernel_metadata: Mapping[str, object] = NONE,
        bias_metadata: Mapping[str, object] = NONE,
        **options: object,
    ) -> None:
        self.use_bias = use_bias
        self.mask = nnx.data(dict(mask) if isinstance(mask, Mapping) else mask)
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = _modules.frozen(precision)
        self.preferred_element_type = preferred_element_type
        self.algorithm = _modules.frozen(algorithm)
        self.promote_dtype = promote_dtype
        if "kernel_size" in attributes:
            attributes = {**attributes, "given_kernel_size": attributes["kernel_size"]}
        for name, value in {**attributes, **_modules.options(self.row, options)}.items():
            setattr(self, name, _modules.attribute(name, value))
        plan = _modules.plan(self.row, self, in_features, out_features)
        self.in_features, self.out_features = plan.sizes.in_features, plan.sizes.out_features
        if "kernel_size" in attributes:
            self.kernel_size = plan.sizes.kernel_size
        shapes = {**plan.kernels, **plan.biases}
        for name, shape in shapes.items():
            init, metadata, default = (
                (kernel_init, kernel_metadata, KERNEL_INIT)
                if name in plan.kernels
                else (bias_init, bias_metadata, BIAS_INIT)
            )
            value = _modules.per_parameter(init, name, shapes, default)(
                rngs.params(), shape, param_dtype
            )
            setattr(
                self, name, nnx.Param(value, **_modules.per_parameter(metadata, name, shapes, NONE))
            )
        if not use_bias:
            self.bias = nnx.data(None)

    def __call__(self, inputs: jax.Array, out_sharding: Sharding = None) -> jax.Array:
        """The convolution of `inputs` (*batch axes, *space, in_features).

        Args:
            inputs: any number of leading batch axes, none too.
            out_sharding: sharding of the result, under explicit mesh axes.
        """
        plan = _modules.plan(self.row, self, self.in_features, self.out_features)
        plan.check(inputs)
        names = dict.fromkeys([*plan.kernels, *plan.biases, "bias"])
        held = [getattr(self, name) for name in names]
        values: list[Any] = [None if variable is None else variable[...] for variable in held]
        masked = plan.masked(dict(zip(names, values, strict=True)), self.mask)
        inputs, *values = self.promote_dtype((inputs, *masked.values()), dtype=self.dtype)
        named = dict(zip(names, values, strict=True))
        return plan.apply(inputs, named, out_sharding=out_sharding)
