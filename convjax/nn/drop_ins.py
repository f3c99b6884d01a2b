"""Drop-ins for ``flax.nnx.Conv`` and ``flax.nnx.ConvTranspose``: their arguments, and more."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

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
from convjax.nn.layer import BIAS_INIT, NONE, Layer

KERNEL_INIT = initializers.drop_in()


class Conv(Layer):
    """Convolution with all of ``flax.nnx.Conv``'s arguments, numbers and initial values.

    See `convjax.conv`; the words for padding are those of `flax.nnx.Conv`. An integer
    `kernel_size` means one spatial axis, and raises for images, which Flax convolves along one of
    their axes only.

    Args:
        in_features, out_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis.
        strides, input_dilation, kernel_dilation: an int, or one per spatial axis; None is 1.
        padding: any of `convjax.conv`'s and of Flax's: "SAME", "VALID", "CIRCULAR", "REFLECT",
            "CAUSAL", ...
        feature_group_count: G.
        use_bias: whether a bias (out_features,) is added to the result.
        mask: an array of the kernel's shape, by which the kernel is multiplied.
        dtype: dtype of the computation; by default that of inputs and parameters together.
        param_dtype: dtype of the parameters.
        precision, preferred_element_type: as in `convjax.conv`.
        kernel_init, bias_init: initialisers of the parameters.
        conv_general_dilated: a function like lax's that convolves instead of this library.
        promote_dtype: Flax's, or a function like it.
        rngs: NNX's random number generators; their "params" stream gives the initial values.
        kernel_metadata, bias_metadata: metadata of the parameters, such as their sharding.
        padding_mode, algorithm: as in `convjax.conv`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.Conv(3, 4, (3, 3), strides=2, padding="CIRCULAR", rngs=flax_nnx.Rngs(0))
        >>> layer.kernel.shape, layer(jnp.ones((5, 2, 8, 8, 3))).shape
        ((3, 3, 3, 4), (5, 2, 4, 4, 4))

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html
    """

    row = "Conv"
    kernel: nnx.Param[Any]

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        strides: Ints | None = 1,
        *,
        padding: FlaxPadding = "SAME",
        input_dilation: Ints | None = 1,
        kernel_dilation: Ints | None = 1,
        feature_group_count: int = 1,
        use_bias: bool = True,
        mask: ArrayLike | None = None,
        dtype: ResultType = None,
        param_dtype: DType = jnp.float32,
        precision: Precision = None,
        kernel_init: Initializer = KERNEL_INIT,
        bias_init: Initializer = BIAS_INIT,
        conv_general_dilated: ConvGeneralDilated = ours,
        promote_dtype: Promote = dtypes.promote_dtype,
        preferred_element_type: ResultType = None,
        rngs: nnx.Rngs,
        kernel_metadata: Mapping[str, object] = NONE,
        bias_metadata: Mapping[str, object] = NONE,
        padding_mode: PaddingMode = "constant",
        algorithm: Algorithm = None,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            {"kernel_size": kernel_size},
            mask=mask,
            strides=strides,
            padding=padding,
            padding_mode=padding_mode,
            input_dilation=input_dilation,
            kernel_dilation=kernel_dilation,
            feature_group_count=feature_group_count,
            conv_general_dilated=conv_general_dilated,
            use_bias=use_bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            preferred_element_type=preferred_element_type,
            algorithm=algorithm,
            kernel_init=kernel_init,
            bias_init=bias_init,
            promote_dtype=promote_dtype,
            rngs=rngs,
            kernel_metadata=kernel_metadata,
            bias_metadata=bias_metadata,
        )

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """The kernel's shape."""
        return self.kernel.shape


class ConvTranspose(Layer):
    """Transposed convolution with all of ``flax.nnx.ConvTranspose``'s arguments and numbers.

    With ``convention="flax"`` it is `flax.nnx.ConvTranspose`: the kernel is
    (*K, I/G, O), or with `transpose_kernel` (*K, O/G, I), and padding in numbers surrounds the
    input. With ``convention="adjoint"`` it is `convjax.conv_transpose`, the adjoint of a
    convolution with the same options, whose kernel (*K, O/G, I) and `padding` it takes.

    Initial values are Flax's from the same `rngs` where Flax reads the fan off the right axis. It
    does not with ``transpose_kernel=True`` or in groups: there, and with "adjoint", the variance of
    the result is that of the input. ``kernel_init=convjax.initializers.lecun_normal()`` gives that
    everywhere, strides included, and ``kernel_init=jax.nn.initializers.lecun_normal()`` Flax's
    values.

    Args:
        in_features, out_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis.
        strides, kernel_dilation: an int, or one per spatial axis; None is 1.
        padding: in the words and numbers of the convention. In both "CAUSAL" looks back: along the
            first spatial axis there are ``n * strides`` outputs, and output ``t`` sees the inputs
            up to ``t // strides``; it crops only the end, as decoders of sound do.
        use_bias: whether a bias (out_features,) is added to the result.
        mask: an array of the kernel's shape, by which the kernel is multiplied.
        dtype: dtype of the computation; by default that of inputs and parameters together.
        param_dtype: dtype of the parameters.
        precision, preferred_element_type: as in `convjax.conv`.
        kernel_init, bias_init: initialisers of the parameters.
        transpose_kernel: take the kernel of the convolution that is transposed.
        promote_dtype: Flax's, or a function like it.
        rngs: NNX's random number generators; their "params" stream gives the initial values.
        kernel_metadata, bias_metadata: metadata of the parameters, such as their sharding.
        feature_group_count: G.
        output_padding: extra extent at the high end, less than `strides`.
        padding_mode: the mode of the convolution that is transposed.
        convention: "flax" or "adjoint".
        algorithm: as in `convjax.conv`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.ConvTranspose(8, 4, (3, 3), strides=2, rngs=flax_nnx.Rngs(0))
        >>> layer.kernel.shape, layer(jnp.ones((1, 5, 5, 8))).shape
        ((3, 3, 8, 4), (1, 10, 10, 4))

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html
    """

    row = "ConvTranspose"
    kernel: nnx.Param[Any]

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        strides: Ints | None = None,
        *,
        padding: FlaxPadding = "SAME",
        kernel_dilation: Ints | None = None,
        use_bias: bool = True,
        mask: ArrayLike | None = None,
        dtype: ResultType = None,
        param_dtype: DType = jnp.float32,
        precision: Precision = None,
        kernel_init: Initializer = KERNEL_INIT,
        bias_init: Initializer = BIAS_INIT,
        transpose_kernel: bool = False,
        promote_dtype: Promote = dtypes.promote_dtype,
        preferred_element_type: ResultType = None,
        rngs: nnx.Rngs,
        kernel_metadata: Mapping[str, object] = NONE,
        bias_metadata: Mapping[str, object] = NONE,
        feature_group_count: int = 1,
        output_padding: Ints = 0,
        padding_mode: PaddingMode = "constant",
        convention: Convention = "flax",
        algorithm: Algorithm = None,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            {"kernel_size": kernel_size},
            mask=mask,
            strides=strides,
            padding=padding,
            padding_mode=padding_mode,
            kernel_dilation=kernel_dilation,
            feature_group_count=feature_group_count,
            output_padding=output_padding,
            transpose_kernel=transpose_kernel,
            convention=convention,
            use_bias=use_bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            preferred_element_type=preferred_element_type,
            algorithm=algorithm,
            kernel_init=kernel_init,
            bias_init=bias_init,
            promote_dtype=promote_dtype,
            rngs=rngs,
            kernel_metadata=kernel_metadata,
            bias_metadata=bias_metadata,
        )

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """The kernel's shape."""
        return self.kernel.shape
