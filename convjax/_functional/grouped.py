"""Convolutions whose channels are split into groups, and the shuffle that mixes the groups."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp

from convjax._core import checks
from convjax._core.aliases import ArrayLike
from convjax._core.options import DepthwiseOptions, PointwiseOptions, WindowOptions, takes
from convjax._core.public import public
from convjax._core.recipe import Recipe
from convjax._functional.prepare import Names, conv_recipe
from convjax._operation.grouping import apply


@public
@takes(WindowOptions)
def grouped_conv(
    x: ArrayLike, kernel: ArrayLike, groups: int, **options: Unpack[WindowOptions]
) -> jax.Array:
    """Convolution in `groups` separate paths: each maps its own I/G channels to its own O/G.

    ``out[n, p, g*O/G + o] = sum_{t, i} x[n, p + t, g*I/G + i] * kernel[t, i, g*O/G + o]``. This is
    a dense convolution with a block-diagonal kernel. It has 1/G of the dense convolution's weights
    and multiplications.

    Args:
        x: (N, *space, I).
        kernel: (*K, I/G, O).
        groups: G; it divides I and O, and the groups are contiguous.
        strides, padding, padding_mode, kernel_dilation, dimension_numbers, precision,
            preferred_element_type, out_sharding, algorithm: as in `conv`.

    Returns:
        (N, *out_space, O).

    Raises:
        ValueError: `groups` does not divide the channels; and as `conv`.
        TypeError: as `conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.grouped_conv(jnp.ones((1, 7, 7, 6)), jnp.ones((3, 3, 2, 12)), groups=3).shape
        (1, 7, 7, 12)

    Source: Krizhevsky, Sutskever & Hinton, ImageNet classification with deep convolutional neural
        networks, 2012, https://papers.nips.cc/paper/4824
    """
    return apply(_grouped_recipe("grouped_conv", x, kernel, groups, options), x, kernel)


@public
@takes(PointwiseOptions)
def pointwise_grouped_conv(
    x: ArrayLike, kernel: ArrayLike, groups: int, **options: Unpack[PointwiseOptions]
) -> jax.Array:
    """Grouped convolution whose kernel has extent 1: a matrix per group, applied at every pixel.

    ``out[n, p, g*O/G + o] = sum_i x[n, p*strides, g*I/G + i] * kernel[0, i, g*O/G + o]``

    Args:
        x: (N, *space, I).
        kernel: (1..., I/G, O).
        groups: G; it divides I and O, and the groups are contiguous.
        strides, dimension_numbers, precision, preferred_element_type, out_sharding, algorithm: as
            in `conv`.

    Returns:
        (N, *ceil(space / strides), O).

    Raises:
        ValueError: a kernel that is not pointwise; and as `grouped_conv`.
        TypeError: as `conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.pointwise_grouped_conv(jnp.ones((1, 7, 7, 6)), jnp.ones((1, 1, 3, 8)), 2).shape
        (1, 7, 7, 8)

    Source: Zhang et al., ShuffleNet, 2017, https://arxiv.org/abs/1707.01083
    """
    function, form = "pointwise_grouped_conv", "pointwise"
    names = Names(function, groups="groups", form=form, larger="grouped_conv")
    given = {**options, "padding": "VALID", "feature_group_count": groups}
    return apply(conv_recipe(names, x, kernel, given), x, kernel)


@public
@takes(WindowOptions)
def shuffled_grouped_conv(
    x: ArrayLike, kernel: ArrayLike, groups: int, **options: Unpack[WindowOptions]
) -> jax.Array:
    """Grouped convolution, then a channel shuffle, so that the next groups see every group.

    ``channel_shuffle(grouped_conv(x, kernel, groups), groups)``

    Args:
        x: (N, *space, I).
        kernel: (*K, I/G, O).
        groups: G, of the convolution and of the shuffle.
        strides, padding, padding_mode, kernel_dilation, dimension_numbers, precision,
            preferred_element_type, algorithm: as in `conv`.
        out_sharding: as in `conv`; the sharding of the convolution, before the shuffle.

    Returns:
        (N, *out_space, O).

    Raises:
        ValueError, TypeError: as `grouped_conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.shuffled_grouped_conv(jnp.ones((1, 7, 7, 6)), jnp.ones((3, 3, 2, 6)), 3).shape
        (1, 7, 7, 6)

    Source: Zhang et al., ShuffleNet, 2017, https://arxiv.org/abs/1707.01083
    """
    recipe = _grouped_recipe("shuffled_grouped_conv", x, kernel, groups, options)
    return channel_shuffle(apply(recipe, x, kernel), groups, axis=recipe.layout.out.out[0])


def _grouped_recipe(function: str, x: Any, kernel: Any, groups: Any, options: Any) -> Recipe:
    names = Names(function, groups="groups")
    return conv_recipe(names, x, kernel, {**options, "feature_group_count": groups})


@public
@takes(DepthwiseOptions)
def depthwise_conv(
    x: ArrayLike, kernel: ArrayLike, **options: Unpack[DepthwiseOptions]
) -> jax.Array:
    """Convolution of each channel on its own, with M kernels per channel.

    ``out[n, p, i*M + m] = sum_t x[n, p + t, i] * kernel[t, 0, i*M + m]``

    With ``padding="CAUSAL"`` an output does not depend on the inputs after it. On one CPU it is the
    same to the last bit however long `x` is, for M up to 16 and up to 64 taps. Gradients, and
    results on other devices, are the same up to rounding.

    Args:
        x: (N, *space, I).
        kernel: (*K, 1, I*M); M is the channel multiplier.
        strides, padding, padding_mode, input_dilation, kernel_dilation, dimension_numbers,
            precision, preferred_element_type, out_sharding, algorithm: as in `conv`.

    Returns:
        (N, *out_space, I*M).

    Raises:
        ValueError: a kernel of another form, such as TensorFlow's (*K, I, M); and as `conv`.
        TypeError: as `conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.depthwise_conv(jnp.ones((1, 7, 7, 3)), jnp.ones((3, 3, 1, 6))).shape
        (1, 7, 7, 6)

    Source: Chollet, Xception, 2017, https://arxiv.org/abs/1610.02357
    """
    names = Names("depthwise_conv", form="depthwise")
    return apply(conv_recipe(names, x, kernel, options), x, kernel)


@public
def channel_shuffle(x: ArrayLike, groups: int, *, axis: int = -1) -> jax.Array:
    """Interleave the channels of `groups` contiguous groups.

    ``out[j*G + g] = x[g*n + j]``: the channels are written in `groups` rows of n and read by
    columns. Six channels in three groups, 1 2 | 3 4 | 5 6, become 1 3 5 2 4 6. The inverse is
    `channel_unshuffle`.

    Args:
        x: any array with channels along `axis`.
        groups: G; it divides the channels.
        axis: where the channels are; the last axis by default.

    Returns:
        An array like `x`, its channels permuted.

    Raises:
        ValueError: `groups` does not divide the channels, or there is no such axis.
        TypeError: `x` is not an array, or `groups` not an integer.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> print(convjax.channel_shuffle(jnp.array([1, 2, 3, 4, 5, 6]), groups=3))
        [1 3 5 2 4 6]

    Source: Zhang et al., ShuffleNet, 2017, https://arxiv.org/abs/1707.01083
    """
    return _shuffle("channel_shuffle", x, groups, axis, inverse=False)


@public
def channel_unshuffle(x: ArrayLike, groups: int, *, axis: int = -1) -> jax.Array:
    """Undo `channel_shuffle` with the same `groups`: ``out[g*n + j] = x[j*G + g]``.

    Args:
        x: any array with channels along `axis`.
        groups: G, as given to `channel_shuffle`; it divides the channels.
        axis: where the channels are; the last axis by default.

    Returns:
        An array like `x`, its channels permuted.

    Raises:
        ValueError, TypeError: as `channel_shuffle`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> print(convjax.channel_unshuffle(jnp.array([1, 3, 5, 2, 4, 6]), groups=3))
        [1 2 3 4 5 6]

    Source: Zhang et al., ShuffleNet, 2017, https://arxiv.org/abs/1707.01083
    """
    return _shuffle("channel_unshuffle", x, groups, axis, inverse=True)


def _shuffle(function: str, x: Any, groups: Any, axis: Any, *, inverse: bool) -> jax.Array:
    x = jnp.asarray(checks.array(function, "x", x))
    groups = checks.integer(function, "groups", groups, minimum=1)
    place = checks.integer(function, "axis", axis)
    if not -x.ndim <= place < x.ndim:
        checks.fail(function, "axis", place, f"must be an axis of `x`, which has {x.ndim} axes")
    place %= x.ndim
    channels = x.shape[place]
    if channels % groups:
        checks.fail(function, "groups", groups, f"must divide the channels of `x` (={channels})")
    rows = (channels // groups, groups) if inverse else (groups, channels // groups)
    split = x.reshape(*x.shape[:place], *rows, *x.shape[place + 1 :])
    return jnp.swapaxes(split, place, place + 1).reshape(x.shape)
