"""NNX modules of the dense convolution's plain variants."""

from typing import Any, Unpack

from flax import nnx

from convjax._core.aliases import Ints
from convjax.nn.layer import DilatedLayerOptions, Layer, PointwiseLayerOptions, takes


class PointwiseConv(Layer):
    """1x1 convolution, with parameters: see `convjax.pointwise_conv`.

    Args:
        in_features, out_features: channels.
        rank: spatial axes of the inputs.
        strides: steps between outputs; an int, or one per spatial axis.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.PointwiseConv(16, 4, rngs=flax_nnx.Rngs(0))
        >>> layer(jnp.ones((2, 8, 8, 16))).shape
        (2, 8, 8, 4)

    Source: Lin, Chen & Yan, Network in network, 2013, https://arxiv.org/abs/1312.4400
    """

    row = "PointwiseConv"
    kernel: nnx.Param[Any]

    @takes(PointwiseLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rank: int = 2,
        **options: Unpack[PointwiseLayerOptions],
    ) -> None:
        super().__init__(in_features, out_features, {"rank": rank}, **options)


class DilatedConv(Layer):
    """Dilated convolution, with parameters: see `convjax.dilated_conv`.

    Args:
        in_features, out_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis.
        kernel_dilation: distance between taps; an int, or one per spatial axis.
        strides, padding, padding_mode: as in `convjax.conv`.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.DilatedConv(3, 8, (3, 3), 4, padding="VALID", rngs=flax_nnx.Rngs(0))
        >>> layer(jnp.ones((1, 15, 15, 3))).shape
        (1, 7, 7, 8)

    Source: Yu & Koltun, Multi-scale context aggregation by dilated convolutions, 2015,
        https://arxiv.org/abs/1511.07122
    """

    row = "DilatedConv"
    kernel: nnx.Param[Any]

    @takes(DilatedLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        kernel_dilation: Ints,
        **options: Unpack[DilatedLayerOptions],
    ) -> None:
        attributes = {"kernel_size": kernel_size, "kernel_dilation": kernel_dilation}
        super().__init__(in_features, out_features, attributes, **options)
