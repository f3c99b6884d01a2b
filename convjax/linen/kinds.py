"""Linen modules of every kind. Each applies the function of `convjax` that its docstring names.

They take what `convjax.linen.Layer` takes. `features` are the channels of the result. The channels
of the inputs are read off the inputs. The `convjax.nn` module of the same name describes the
arguments in more detail.
"""

import dataclasses

import jax
from flax import linen

from convjax import _functional
from convjax._core.aliases import Ints, Method, Padding, PaddingMode
from convjax.linen.layer import Layer, Spatial


class PointwiseConv(Layer):
    """`convjax.pointwise_conv`, with parameters.

    Attributes:
        features: channels of the result.
        rank: spatial axes of the inputs.
        strides: steps between outputs.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.PointwiseConv(4)
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((2, 8, 8, 16)))[0].shape
        (2, 8, 8, 4)
    """

    row = "PointwiseConv"

    features: int
    rank: int = dataclasses.field(default=2, kw_only=True)
    strides: Ints = dataclasses.field(default=1, kw_only=True)


class DilatedConv(Layer):
    """`convjax.dilated_conv`, with parameters.

    Attributes:
        features: channels of the result.
        kernel_size: one extent per spatial axis; an int means one axis.
        kernel_dilation: distance between taps.
        strides, padding, padding_mode: as in `convjax.conv`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.DilatedConv(8, (3, 3), 4, padding="VALID")
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 15, 15, 3)))[0].shape
        (1, 7, 7, 8)
    """

    row = "DilatedConv"

    features: int
    kernel_size: Ints
    kernel_dilation: Ints
    strides: Ints = dataclasses.field(default=1, kw_only=True)
    padding: Padding = dataclasses.field(default="SAME", kw_only=True)
    padding_mode: PaddingMode = dataclasses.field(default="constant", kw_only=True)


class GroupedConv(Spatial):
    """`convjax.grouped_conv`, with parameters.

    Attributes:
        features: channels of the result.
        kernel_size: one extent per spatial axis; an int means one axis.
        groups: G; it divides the channels of inputs and result.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.GroupedConv(12, (3, 3), 3)
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 7, 7, 6)))[0].shape
        (1, 7, 7, 12)
    """

    row = "GroupedConv"

    features: int
    kernel_size: Ints
    groups: int


class ShuffledGroupedConv(GroupedConv):
    """`convjax.shuffled_grouped_conv`, with parameters; the bias is added after the shuffle.

    Attributes:
        features, kernel_size, groups: as in `GroupedConv`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.ShuffledGroupedConv(6, (3, 3), 3)
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 7, 7, 6)))[0].shape
        (1, 7, 7, 6)
    """

    row = "ShuffledGroupedConv"


class PointwiseGroupedConv(Layer):
    """`convjax.pointwise_grouped_conv`, with parameters.

    Attributes:
        features: channels of the result.
        groups: G; it divides the channels of inputs and result.
        rank: spatial axes of the inputs.
        strides: steps between outputs.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.PointwiseGroupedConv(8, 2)
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 7, 7, 6)))[0].shape
        (1, 7, 7, 8)
    """

    row = "PointwiseGroupedConv"

    features: int
    groups: int
    rank: int = dataclasses.field(default=2, kw_only=True)
    strides: Ints = dataclasses.field(default=1, kw_only=True)


class DepthwiseConv(Spatial):
    """`convjax.depthwise_conv`, with parameters.

    Attributes:
        kernel_size: one extent per spatial axis; an int means one axis.
        channel_multiplier: M kernels for every channel of the inputs.
        input_dilation: as in `convjax.conv`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.DepthwiseConv((3, 3), 2)
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 7, 7, 3)))[0].shape
        (1, 7, 7, 6)
    """

    row = "DepthwiseConv"

    kernel_size: Ints
    channel_multiplier: int = 1
    input_dilation: Ints = dataclasses.field(default=1, kw_only=True)


class DepthwiseSeparableConv(Spatial):
    """`convjax.depthwise_separable_conv`, with parameters.

    Attributes:
        features: channels of the result.
        kernel_size: one extent per spatial axis; an int means one axis.
        channel_multiplier: M depthwise kernels for every channel of the inputs.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.DepthwiseSeparableConv(128, (3, 3))
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 7, 7, 3)))[0].shape
        (1, 7, 7, 128)
    """

    row = "DepthwiseSeparableConv"

    features: int
    kernel_size: Ints
    channel_multiplier: int = 1


class SpatiallySeparableConv(Spatial):
    """`convjax.spatially_separable_conv`, with parameters.

    Attributes:
        features: channels of the result.
        kernel_size: one extent per spatial axis; an int means one axis.
        mid_features: channels between two stages; None means `features`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.SpatiallySeparableConv(8, (7, 7), 5)
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 9, 9, 3)))[0].shape
        (1, 9, 9, 8)
    """

    row = "SpatiallySeparableConv"

    features: int
    kernel_size: Ints
    mid_features: Ints | None = None


class FlattenedConv(Spatial):
    """`convjax.flattened_conv`, with parameters.

    Attributes:
        features: channels of the result.
        kernel_size: one extent per spatial axis; an int means one axis.
        stage_bias: add a bias after every stage, not only after the last.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.FlattenedConv(8, (5, 5))
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 9, 9, 3)))[0].shape
        (1, 9, 9, 8)
    """

    row = "FlattenedConv"

    features: int
    kernel_size: Ints
    stage_bias: bool = dataclasses.field(default=False, kw_only=True)


class ResizeConv(Spatial):
    """`convjax.resize_conv`, with parameters.

    Attributes:
        features: channels of the result.
        kernel_size: one extent per spatial axis; an int means one axis.
        scale: factor; an int, or one per spatial axis.
        method: "nearest" or "bilinear".

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.ResizeConv(3, (3, 3), 2)
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 4, 4, 8)))[0].shape
        (1, 8, 8, 3)
    """

    row = "ResizeConv"

    features: int
    kernel_size: Ints
    scale: Ints
    method: Method = dataclasses.field(default="nearest", kw_only=True)


class SubpixelConv(Spatial):
    """`convjax.subpixel_conv`, with parameters; the bias is added at the end.

    Attributes:
        features: channels of the result.
        kernel_size: one extent per spatial axis; an int means one axis.
        scale: r; an int, or one per spatial axis.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> from convjax.initializers import icnr
        >>> layer = linen.SubpixelConv(3, (3, 3), 2, kernel_init=icnr(2))
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 4, 4, 8)))[0].shape
        (1, 8, 8, 3)
    """

    row = "SubpixelConv"

    features: int
    kernel_size: Ints
    scale: Ints


class ChannelShuffle(linen.Module):
    """`convjax.channel_shuffle` as a module.

    Attributes:
        groups: G; it divides the channels.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import linen
        >>> print(linen.ChannelShuffle(3).apply({}, jnp.array([1, 2, 3, 4, 5, 6])))
        [1 3 5 2 4 6]
    """

    groups: int

    @linen.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """`inputs`, its last axis shuffled."""
        return _functional.channel_shuffle(inputs, self.groups)
