"""NNX modules of convolutions in groups, and the shuffle between them."""

from typing import Any, Unpack

import jax
from flax import nnx

from convjax import _functional
from convjax._core import checks
from convjax._core.aliases import Ints
from convjax.nn.layer import (
    DepthwiseLayerOptions,
    Layer,
    PointwiseLayerOptions,
    SpatialLayerOptions,
    takes,
)


class GroupedConv(Layer):
    """Convolution in separate groups of channels, with parameters: see `convjax.grouped_conv`.

    Args:
        in_features, out_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis.
        groups: G; it divides both.
        strides, padding, padding_mode, kernel_dilation: as in `convjax.conv`.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.GroupedConv(6, 12, (3, 3), 3, rngs=flax_nnx.Rngs(0))
        >>> layer.kernel.shape, layer(jnp.ones((1, 7, 7, 6))).shape
        ((3, 3, 2, 12), (1, 7, 7, 12))

    Source: Krizhevsky, Sutskever & Hinton, ImageNet classification with deep convolutional neural
        networks, 2012, https://papers.nips.cc/paper/4824
    """

    row = "GroupedConv"
    kernel: nnx.Param[Any]

    @takes(SpatialLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        groups: int,
        **options: Unpack[SpatialLayerOptions],
    ) -> None:
        attributes = {"kernel_size": kernel_size, "groups": groups}
        super().__init__(in_features, out_features, attributes, **options)


class ShuffledGroupedConv(GroupedConv):
    """Grouped convolution and channel shuffle: see `convjax.shuffled_grouped_conv`.

    The bias is added to the result, after the shuffle.

    Args:
        in_features, out_features, kernel_size, groups, strides, padding, padding_mode,
            kernel_dilation: as in `GroupedConv`.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.ShuffledGroupedConv(6, 6, (3, 3), 3, rngs=flax_nnx.Rngs(0))
        >>> layer(jnp.ones((1, 7, 7, 6))).shape
        (1, 7, 7, 6)

    Source: Zhang et al., ShuffleNet, 2017, https://arxiv.org/abs/1707.01083
    """

    row = "ShuffledGroupedConv"


class PointwiseGroupedConv(Layer):
    """1x1 convolution in groups, with parameters: see `convjax.pointwise_grouped_conv`.

    Args:
        in_features, out_features: channels.
        groups: G; it divides both.
        rank: spatial axes of the inputs.
        strides: steps between outputs; an int, or one per spatial axis.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.PointwiseGroupedConv(6, 8, 2, rngs=flax_nnx.Rngs(0))
        >>> layer(jnp.ones((1, 7, 7, 6))).shape
        (1, 7, 7, 8)

    Source: Zhang et al., ShuffleNet, 2017, https://arxiv.org/abs/1707.01083
    """

    row = "PointwiseGroupedConv"
    kernel: nnx.Param[Any]

    @takes(PointwiseLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        groups: int,
        *,
        rank: int = 2,
        **options: Unpack[PointwiseLayerOptions],
    ) -> None:
        super().__init__(in_features, out_features, {"groups": groups, "rank": rank}, **options)


class DepthwiseConv(Layer):
    """Convolution of each channel on its own, with parameters: see `convjax.depthwise_conv`.

    Args:
        in_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis.
        channel_multiplier: M kernels for every channel; ``out_features = in_features * M``.
        strides, padding, padding_mode, input_dilation, kernel_dilation: as in `convjax.conv`.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.DepthwiseConv(3, (3, 3), 2, strides=2, rngs=flax_nnx.Rngs(0))
        >>> layer(jnp.ones((1, 8, 8, 3))).shape
        (1, 4, 4, 6)

    Source: Chollet, Xception, 2017, https://arxiv.org/abs/1610.02357
    """

    row = "DepthwiseConv"
    kernel: nnx.Param[Any]

    @takes(DepthwiseLayerOptions)
    def __init__(
        self,
        in_features: int,
        kernel_size: Ints,
        channel_multiplier: int = 1,
        **options: Unpack[DepthwiseLayerOptions],
    ) -> None:
        attributes = {"kernel_size": kernel_size, "channel_multiplier": channel_multiplier}
        super().__init__(in_features, None, attributes, **options)


class ChannelShuffle(nnx.Module):
    """Interleave the channels of `groups` groups: see `convjax.channel_shuffle`.

    Args:
        groups: G; it divides the channels.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import nn
        >>> print(nn.ChannelShuffle(3)(jnp.array([1, 2, 3, 4, 5, 6])))
        [1 3 5 2 4 6]

    Source: Zhang et al., ShuffleNet, 2017, https://arxiv.org/abs/1707.01083
    """

    def __init__(self, groups: int) -> None:
        self.groups = checks.integer("ChannelShuffle", "groups", groups, minimum=1)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """`inputs`, its last axis shuffled."""
        return _functional.channel_shuffle(inputs, self.groups)
