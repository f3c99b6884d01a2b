"""What all NNX modules with parameters share: they make them, and apply their row of the table."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from convjax import initializers, modules

NONE: Mapping[str, Any] = MappingProxyType({})


class Layer(nnx.Module):
    """A convolution with parameters: the base of the modules here, which say what it computes.

    Args:
        in_features: channels of the inputs.
        out_features: channels of the result; None where they follow.
        own: the arguments of this kind alone, as attributes.
        rngs: NNX's random number generators; their "params" stream gives the initial values.
        use_bias: whether a bias (out_features,) is added to the result.
        dtype: dtype of the computation; by default that of inputs and parameters together.
        param_dtype: dtype of the parameters.
        precision, preferred_element_type, algorithm: as in `convjax.conv`.
        kernel_init: initialiser of the kernels; those of `convjax.initializers` know every kind's
            fans. A mapping from parameter names gives each kernel its own.
        bias_init: initialiser of the biases, likewise.
        promote_dtype: Flax's, or a function like it.
        kernel_metadata, bias_metadata: metadata of the parameters, such as their sharding. A
            mapping from parameter names gives each its own.
        options: options of the kind's function, such as `strides` and `padding`.
    """

    row: ClassVar[str]

    def __init__(
        self,
        in_features: int,
        out_features: int | None,
        own: Mapping[str, Any],
        *,
        rngs: nnx.Rngs,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        preferred_element_type: Any = None,
        algorithm: Any = None,
        kernel_init: Any = initializers.lecun_normal(),  # noqa: B008
        bias_init: Any = nnx.initializers.zeros_init(),  # noqa: B008
        promote_dtype: Callable[..., Any] = dtypes.promote_dtype,
        kernel_metadata: Mapping[str, Any] = NONE,
        bias_metadata: Mapping[str, Any] = NONE,
        **options: Any,
    ) -> None:
        self.use_bias = use_bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.preferred_element_type = preferred_element_type
        self.algorithm = algorithm
        self.promote_dtype = promote_dtype
        for name, value in (own | modules.options(self.row, options)).items():
            setattr(self, name, modules.frozen(value))
        if "kernel_size" in own:
            self.given_kernel_size = self.kernel_size
        found = modules.sizes(self.row, self, in_features, out_features)
        self.in_features, self.out_features = found.in_features, found.out_features
        if "kernel_size" in own:
            self.kernel_size = found.kernel_size
        shapes = modules.parameters(self.row, self, found)
        for name, shape in shapes.items():
            is_kernel = isinstance(shape, initializers.KernelShape)
            init, metadata = (
                modules.own(value, name, shapes)
                for value in (
                    (kernel_init, kernel_metadata) if is_kernel else (bias_init, bias_metadata)
                )
            )
            setattr(self, name, nnx.Param(init(rngs.params(), shape, param_dtype), **metadata))
        if not use_bias:
            self.bias = nnx.data(None)

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """The convolution of `inputs` (*batch axes, *space, in_features).

        Args:
            inputs: any number of leading batch axes, none too.
            out_sharding: sharding of the result, under explicit mesh axes.
        """
        found = modules.sizes(self.row, self, self.in_features, self.out_features)
        modules.check_inputs(self.row, self, found, inputs)
        names = dict.fromkeys([*modules.parameters(self.row, self, found), "bias"])
        held = [getattr(self, name) for name in names]
        values = [None if variable is None else variable[...] for variable in held]
        values[0] = modules.masked(self.row, values[0], getattr(self, "mask", None))
        inputs, *values = self.promote_dtype((inputs, *values), dtype=self.dtype)
        named = dict(zip(names, values, strict=True))
        return modules.apply(self.row, self, found, inputs, named, out_sharding)
