"""Drop-ins for ``flax.linen.Conv`` and ``flax.linen.ConvTranspose``: their arguments, and more."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen
from flax.linen import dtypes

from convjax import initializers
from convjax._core.aliases import (
    Algorithm,
    ArrayLike,
    Convention,
    ConvGeneralDilated,
    DType,
    FlaxPadding,
    Initializer,
    Ints,
    PaddingMode,
    Precision,
    Promote,
    ResultType,
)
from convjax.lax import conv_general_dilated as ours
from convjax.linen.layer import BIAS_INIT, convolution

KERNEL_INIT = initializers.drop_in()


class Conv(linen.Module):
    """Convolution with all of ``flax.linen.Conv``'s arguments, numbers and initial values.

    See `convjax.nn.Conv`: an integer `kernel_size` means one spatial axis, and raises for images.

    Attributes:
        features: channels of the result.
        kernel_size: one extent per spatial axis; an int means one axis.
        strides, input_dilation, kernel_dilation: an int, or one per spatial axis; None is 1.
        padding: any of `convjax.conv`'s and of Flax's, such as "CIRCULAR".
        feature_group_count: G.
        use_bias: whether a bias (features,) is added to the result.
        mask: an array of the kernel's shape, by which the kernel is multiplied.
        dtype: dtype of the computation; by default that of inputs and parameters together.
        param_dtype: dtype of the parameters.
        precision: as in `convjax.conv`.
        kernel_init, bias_init: initialisers of the parameters.
        promote_dtype: Flax's, or a function like it.
        conv_general_dilated, conv_general_dilated_cls: a function like lax's that convolves instead
            of this library, or what makes one.
        padding_mode, preferred_element_type, algorithm: as in `convjax.conv`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.Conv(4, (3, 3), strides=2, padding="CIRCULAR")
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((5, 2, 8, 8, 3)))[0].shape
        (5, 2, 4, 4, 4)
    """

    row = "Conv"

    features: int
    kernel_size: Ints
    strides: Ints | None = 1
    padding: FlaxPadding = "SAME"
    input_dilation: Ints | None = 1
    kernel_dilation: Ints | None = 1
    feature_group_count: int = 1
    use_bias: bool = True
    mask: ArrayLike | None = None
    dtype: ResultType = None
    param_dtype: DType = jnp.float32
    precision: Precision = None
    kernel_init: Initializer = KERNEL_INIT
    bias_init: Initializer = BIAS_INIT
    promote_dtype: Promote = dtypes.promote_dtype
    conv_general_dilated: ConvGeneralDilated | None = None
    conv_general_dilated_cls: Callable[[], ConvGeneralDilated] | None = None
    padding_mode: PaddingMode = dataclasses.field(default="constant", kw_only=True)
    preferred_element_type: ResultType = dataclasses.field(default=None, kw_only=True)
    algorithm: Algorithm = dataclasses.field(default=None, kw_only=True)

    @linen.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """The convolution of `inputs` (*batch axes, *space, channels)."""
        function = self.conv_general_dilated or ours
        if self.conv_general_dilated_cls is not None:
            function = self.conv_general_dilated_cls()
        return convolution(self, inputs, conv_general_dilated=function)


class ConvTranspose(linen.Module):
    """Transposed convolution with all of ``flax.linen.ConvTranspose``'s arguments and numbers.

    See `convjax.nn.ConvTranspose` for the two conventions and the initial values.

    Attributes:
        features: channels of the result.
        kernel_size: one extent per spatial axis; an int means one axis.
        strides, kernel_dilation: an int, or one per spatial axis; None is 1.
        padding: in the words and numbers of the convention. In both "CAUSAL" looks back: along the
            first spatial axis there are ``n * strides`` outputs, and output ``t`` sees the inputs
            up to ``t // strides``; it crops only the end, as decoders of sound do.
        use_bias: whether a bias (features,) is added to the result.
        mask: an array of the kernel's shape, by which the kernel is multiplied.
        dtype: dtype of the computation; by default that of inputs and parameters together.
        param_dtype: dtype of the parameters.
        precision, preferred_element_type: as in `convjax.conv`.
        kernel_init, bias_init: initialisers of the parameters.
        transpose_kernel: take the kernel of the convolution that is transposed.
        promote_dtype: Flax's, or a function like it.
        feature_group_count: G.
        output_padding: extra extent at the high end, less than `strides`.
        padding_mode: the mode of the convolution that is transposed.
        convention: "flax" or "adjoint".
        algorithm: as in `convjax.conv`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.ConvTranspose(4, (3, 3), strides=2)
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 5, 5, 8)))[0].shape
        (1, 10, 10, 4)
    """

    row = "ConvTranspose"

    features: int
    kernel_size: Ints
    strides: Ints | None = None
    padding: FlaxPadding = "SAME"
    kernel_dilation: Ints | None = None
    use_bias: bool = True
    mask: ArrayLike | None = None
    dtype: ResultType = None
    param_dtype: DType = jnp.float32
    precision: Precision = None
    kernel_init: Initializer = KERNEL_INIT
    bias_init: Initializer = BIAS_INIT
    transpose_kernel: bool = False
    promote_dtype: Promote = dtypes.promote_dtype
    preferred_element_type: ResultType = None
    feature_group_count: int = dataclasses.field(default=1, kw_only=True)
    output_padding: Ints = dataclasses.field(default=0, kw_only=True)
    padding_mode: PaddingMode = dataclasses.field(default="constant", kw_only=True)
    convention: Convention = dataclasses.field(default="flax", kw_only=True)
    algorithm: Algorithm = dataclasses.field(default=None, kw_only=True)

    @linen.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """The transposed convolution of `inputs` (*batch axes, *space, channels)."""
        return convolution(self, inputs)
