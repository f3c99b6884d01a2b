"""What NNX modules share: they create their parameters and apply their row of the table."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from convjax import initializers, modules

NONE: Mapping[str, Any] = MappingProxyType({})
KERNEL_INIT = initializers.lecun_normal()
BIAS_INIT = nnx.initializers.zeros_init()


class Layer(nnx.Module):
    """A convolution with parameters: the base of the modules here, which say what it computes.

    Args:
        in_features: channels of the inputs.
        out_features: channels of the result; None where they follow.
        own: the arguments that only this kind has, as attributes.
        rngs: NNX's random number generators; their "params" stream gives the initial values.
        use_bias: whether a bias (out_features,) is added to the result.
        mask: what the kernel is multiplied by, of its shape; of a kind with several kernels, a
            mapping from their names to masks.
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
    bias: nnx.Param[Any] | None

    def __init__(
        self,
        in_features: int,
        out_features: int | None,
        own: Mapping[str, Any],
        *,
        rngs: nnx.Rngs,
        use_bias: bool = True,
        mask: Any = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        preferred_element_type: Any = None,
        algorithm: Any = None,
        kernel_init: Any = KERNEL_INIT,
        bias_init: Any = BIAS_INIT,
        promote_dtype: Callable[..., Any] = dtypes.promote_dtype,
        kernel_metadata: Mapping[str, Any] = NONE,
        bias_metadata: Mapping[str, Any] = NONE,
        **options: Any,
    ) -> None:
        self.use_bias = use_bias
        self.mask = nnx.data(dict(mask) if isinstance(mask, Mapping) else mask)
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = modules.frozen(precision)
        self.preferred_element_type = preferred_element_type
        self.algorithm = modules.frozen(algorithm)
        self.promote_dtype = promote_dtype
        if "kernel_size" in own:
            own = {**own, "given_kernel_size": own["kernel_size"]}
        for name, value in {**own, **modules.options(self.row, options)}.items():
            setattr(self, name, modules.attribute(name, value))
        plan = modules.plan(self.row, self, in_features, out_features)
        self.in_features, self.out_features = plan.sizes.in_features, plan.sizes.out_features
        if "kernel_size" in own:
            self.kernel_size = plan.sizes.kernel_size
        shapes = {**plan.kernels, **plan.biases}
        for name, shape in shapes.items():
            init, metadata, default = (
                (kernel_init, kernel_metadata, KERNEL_INIT)
                if name in plan.kernels
                else (bias_init, bias_metadata, BIAS_INIT)
            )
            value = modules.own(init, name, shapes, default)(rngs.params(), shape, param_dtype)
            setattr(self, name, nnx.Param(value, **modules.own(metadata, name, shapes, NONE)))
        if not use_bias:
            self.bias = nnx.data(None)

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """The convolution of `inputs` (*batch axes, *space, in_features).

        Args:
            inputs: any number of leading batch axes, none too.
            out_sharding: sharding of the result, under explicit mesh axes.
        """
        plan = modules.plan(self.row, self, self.in_features, self.out_features)
        plan.check(inputs)
        names = dict.fromkeys([*plan.kernels, *plan.biases, "bias"])
        held = [getattr(self, name) for name in names]
        values = [None if variable is None else variable[...] for variable in held]
        masked = plan.masked(dict(zip(names, values, strict=True)), self.mask)
        inputs, *values = self.promote_dtype((inputs, *masked.values()), dtype=self.dtype)
        named = dict(zip(names, values, strict=True))
        return plan.apply(inputs, named, out_sharding=out_sharding)
