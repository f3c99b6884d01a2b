"""NNX modules that enlarge: resize-convolution and sub-pixel convolution."""

from typing import Any, Unpack

from flax import nnx

from convjax._core.aliases import Ints
from convjax.nn.layer import Layer, ResizeLayerOptions, SpatialLayerOptions, takes


class ResizeConv(Layer):
    """Resize, then convolve, with parameters: see `convjax.resize_conv`.

    Args:
        in_features, out_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis.
        scale: factor; an int, or one per spatial axis.
        method: "nearest" or "bilinear".
        strides, padding, padding_mode, kernel_dilation: of the convolution.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.ResizeConv(8, 3, (3, 3), 2, padding_mode="edge", rngs=flax_nnx.Rngs(0))
        >>> layer(jnp.ones((1, 4, 4, 8))).shape
        (1, 8, 8, 3)

    Source: Odena, Dumoulin & Olah, Deconvolution and checkerboard artifacts, 2016,
        https://distill.pub/2016/deconv-checkerboard
    """

    row = "ResizeConv"
    kernel: nnx.Param[Any]

    @takes(ResizeLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        scale: Ints,
        **options: Unpack[ResizeLayerOptions],
    ) -> None:
        attributes = {"kernel_size": kernel_size, "scale": scale}
        super().__init__(in_features, out_features, attributes, **options)


class SubpixelConv(Layer):
    """Convolve to r^d times the channels, lay these out in space: see `convjax.subpixel_conv`.

    The bias, one per channel of the result, is added at the end. With ``kernel_init=
    convjax.initializers.icnr(scale)`` the initial layer gives no checkerboard.

    Args:
        in_features, out_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis.
        scale: r; an int, or one per spatial axis.
        strides, padding, padding_mode, kernel_dilation: of the convolution.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import initializers, nn
        >>> init = initializers.icnr(2)
        >>> layer = nn.SubpixelConv(8, 3, (3, 3), 2, kernel_init=init, rngs=flax_nnx.Rngs(0))
        >>> layer.kernel.shape, layer(jnp.ones((1, 4, 4, 8))).shape
        ((3, 3, 8, 12), (1, 8, 8, 3))

    Source: Shi et al., Real-time single image and video super-resolution using an efficient
        sub-pixel convolutional neural network, 2016, https://arxiv.org/abs/1609.05158
    """

    row = "SubpixelConv"
    kernel: nnx.Param[Any]

    @takes(SpatialLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        scale: Ints,
        **options: Unpack[SpatialLayerOptions],
    ) -> None:
        attributes = {"kernel_size": kernel_size, "scale": scale}
        super().__init__(in_features, out_features, attributes, **options)
