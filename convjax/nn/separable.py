"""NNX modules of convolutions in stages, without a non-linearity between the stages."""

from typing import Any, Unpack

from flax import nnx

from convjax._core.aliases import Ints
from convjax.nn.layer import Layer, SpatialLayerOptions, takes


class DepthwiseSeparableConv(Layer):
    """Depthwise, then pointwise convolution: see `convjax.depthwise_separable_conv`.

    Its parameters are `depthwise_kernel`, `pointwise_kernel` and `bias`. If a layer is needed
    between the two stages, use `DepthwiseConv` and `PointwiseConv`.

    Args:
        in_features, out_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis.
        channel_multiplier: M depthwise kernels for every channel.
        strides, padding, padding_mode, kernel_dilation: of the depthwise stage.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.DepthwiseSeparableConv(3, 128, (3, 3), rngs=flax_nnx.Rngs(0))
        >>> layer(jnp.ones((1, 7, 7, 3))).shape
        (1, 7, 7, 128)

    Source: Howard et al., MobileNets, 2017, https://arxiv.org/abs/1704.04861
    """

    row = "DepthwiseSeparableConv"
    depthwise_kernel: nnx.Param[Any]
    pointwise_kernel: nnx.Param[Any]

    @takes(SpatialLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        channel_multiplier: int = 1,
        **options: Unpack[SpatialLayerOptions],
    ) -> None:
        attributes = {"kernel_size": kernel_size, "channel_multiplier": channel_multiplier}
        super().__init__(in_features, out_features, attributes, **options)


class SpatiallySeparableConv(Layer):
    """One convolution per spatial axis: see `convjax.spatially_separable_conv`.

    Its parameters are `kernel_0`, `kernel_1`, ..., one per axis, and `bias`.

    Args:
        in_features, out_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis.
        mid_features: channels between two stages; an int, one for every pair of stages, or None,
            which means `out_features`.
        strides, padding, padding_mode, kernel_dilation: as in `convjax.conv`; each stage gets the
            values for its axis.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.SpatiallySeparableConv(3, 8, (7, 7), 5, rngs=flax_nnx.Rngs(0))
        >>> layer.kernel_1.shape, layer(jnp.ones((1, 9, 9, 3))).shape
        ((1, 7, 5, 8), (1, 9, 9, 8))

    Source: Szegedy et al., Rethinking the Inception architecture, 2015,
        https://arxiv.org/abs/1512.00567
    """

    row = "SpatiallySeparableConv"

    @takes(SpatialLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        mid_features: Ints | None = None,
        **options: Unpack[SpatialLayerOptions],
    ) -> None:
        attributes = {"kernel_size": kernel_size, "mid_features": mid_features}
        super().__init__(in_features, out_features, attributes, **options)


class FlattenedConv(Layer):
    """Lateral convolution, then one along every axis: see `convjax.flattened_conv`.

    Its parameters are `lateral_kernel`, `spatial_kernel_0`, `spatial_kernel_1`, ... and `bias`;
    with `stage_bias` also `lateral_bias`, `spatial_bias_0`, ... for all stages but the last.

    Args:
        in_features, out_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis.
        stage_bias: add a bias after every stage, as the paper does, not only after the last.
        strides, padding, padding_mode, kernel_dilation: as in `convjax.conv`; each spatial stage
            gets the values for its axis.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.FlattenedConv(3, 8, (5, 5), stage_bias=True, rngs=flax_nnx.Rngs(0))
        >>> layer(jnp.ones((1, 9, 9, 3))).shape
        (1, 9, 9, 8)

    Source: Jin, Dundar & Culurciello, Flattened convolutional neural networks for feedforward
        acceleration, 2014, https://arxiv.org/abs/1412.5474
    """

    row = "FlattenedConv"
    lateral_kernel: nnx.Param[Any]

    @takes(SpatialLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        *,
        stage_bias: bool = False,
        **options: Unpack[SpatialLayerOptions],
    ) -> None:
        attributes = {"kernel_size": kernel_size, "stage_bias": stage_bias}
        super().__init__(in_features, out_features, attributes, **options)
