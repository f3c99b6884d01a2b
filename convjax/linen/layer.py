"""What linen modules share: they create their parameters and apply their row of the table."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen
from flax.linen import dtypes

from convjax import _modules, initializers
from convjax._core.aliases import (
    Algorithm,
    DType,
    Initializers,
    Ints,
    Mask,
    Padding,
    PaddingMode,
    Precision,
    Promote,
    ResultType,
)

KERNEL_INIT = initializers.lecun_normal()
BIAS_INIT = linen.initializers.zeros_init()


def convolution(module: Any, inputs: jax.Array, **given: Any) -> jax.Array:
    """Apply the convolution of a linen module, within the module's compact call.

    `given` are options of the row's function that are not attributes of the module.
    """
    plan, inputs, values = prepared(module, inputs)
    return plan.apply(inputs, values, **given)


def prepared(module: Any, inputs: jax.Array) -> tuple[_modules.Plan, jax.Array, dict[str, Any]]:
    """The plan of a linen module that has a row, and inputs and parameters of one dtype."""
    plan = _modules.plan(module.row, module, inputs.shape[-1], getattr(module, "features", None))
    plan.check(inputs)
    shapes: dict[str, Any] = {**plan.kernels, **plan.biases}
    values: list[Any] = []
    for name, shape in shapes.items():
        init, default = (
            (module.kernel_init, KERNEL_INIT)
            if name in plan.kernels
            else (module.bias_init, BIAS_INIT)
        )
        init = _modules.per_parameter(init, name, shapes, default)
        values.append(module.param(name, init, shape, module.param_dtype))
    masked = plan.masked(dict(zip(shapes, values, strict=True)), module.mask)
    values = list(masked.values())
    without_bias = [] if "bias" in shapes else [None]
    inputs, *values = module.promote_dtype(inputs, *values, *without_bias, dtype=module.dtype)
    return plan, inputs, dict(zip([*shapes, "bias"], values, strict=False))


class Layer(linen.Module, kw_only=True):
    """A convolution with parameters: the base of the modules here, which say what it computes.

    Attributes:
        use_bias: whether a bias (features,) is added to the result.
        mask: an array of the kernel's shape, by which the kernel is multiplied; for a kind with
            several kernels, a mapping from their names to masks.
        dtype: dtype of the computation; by default that of inputs and parameters together.
        param_dtype: dtype of the parameters.
        precision, preferred_element_type, algorithm: as in `convjax.conv`.
        kernel_init: initialiser of the kernels; those of `convjax.initializers` know every kind's
            fans. A mapping from parameter names gives each kernel its own.
        bias_init: the same for the biases.
        promote_dtype: Flax's, or a function like it.
    """

    row: ClassVar[str]

    use_bias: bool = True
    mask: Mask = None
    dtype: ResultType = None
    param_dtype: DType = jnp.float32
    precision: Precision = None
    preferred_element_type: ResultType = None
    algorithm: Algorithm = None
    kernel_init: Initializers = KERNEL_INIT
    bias_init: Initializers = BIAS_INIT
    promote_dtype: Promote = dtypes.promote_dtype

    @linen.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """The convolution of `inputs` (*batch axes, *space, channels)."""
        return convolution(self, inputs)


class Spatial(Layer, kw_only=True):
    """A `Layer` with a window that moves over space.

    Attributes:
        strides, padding, padding_mode, kernel_dilation: as in `convjax.conv`.
    """

    strides: Ints = 1
    padding: Padding = "SAME"
    padding_mode: PaddingMode = "constant"
    kernel_dilation: Ints = 1
