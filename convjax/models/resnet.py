"""ResNet-50, with the stride in the 3x3 convolution or in the first 1x1, and its root variants."""

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax
from flax import nnx

from convjax import nn
from convjax._core.aliases import DTypes
from convjax.models import parts


def project(
    in_features: int, out_features: int, strides: int, *, rngs: nnx.Rngs, **options: Unpack[DTypes]
) -> parts.ConvNorm | None:
    """The shortcut of a block: None where its input can be added as it is."""
    if in_features == out_features and strides == 1:
        return None
    conv = nn.PointwiseConv(
        in_features, out_features, strides=strides, use_bias=False, rngs=rngs, **options
    )
    return parts.ConvNorm(conv, out_features, relu=False, rngs=rngs, **options)


def apply(shortcut: Callable[[jax.Array], jax.Array] | None, x: jax.Array) -> jax.Array:
    return x if shortcut is None else shortcut(x)


class Bottleneck(nnx.Module):
    """1x1 to few channels, 3x3 (in groups), 1x1 to many, added to the input or to a projection.

    Args:
        in_features, mid_features, out_features: channels before, inside and after.
        strides: of the block.
        groups: filter groups of the 3x3.
        stride_in_3x3: whether the 3x3 strides (torchvision), or the first 1x1 (the original).
        rngs: random streams.
        options: `dtype` and `param_dtype`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import Bottleneck
        >>> def maps():
        ...     block = Bottleneck(256, 128, 512, strides=2, rngs=nnx.Rngs(0))
        ...     return block(jnp.ones((1, 56, 56, 256)))
        >>> nnx.eval_shape(maps).shape
        (1, 28, 28, 512)

    Source: K. He et al., Deep residual learning for image recognition, 2015,
        https://arxiv.org/abs/1512.03385, figure 5.
    """

    def __init__(
        self,
        in_features: int,
        mid_features: int,
        out_features: int,
        *,
        strides: int = 1,
        groups: int = 1,
        stride_in_3x3: bool = True,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        own: dict[str, Any] = {**options, "rngs": rngs}
        before, inside = (1, strides) if stride_in_3x3 else (strides, 1)
        reduce = nn.PointwiseConv(in_features, mid_features, strides=before, use_bias=False, **own)
        spatial = nn.GroupedConv(
            mid_features,
            mid_features,
            (3, 3),
            groups,
            strides=inside,
            padding=1,
            use_bias=False,
            **own,
        )
        expand = nn.PointwiseConv(mid_features, out_features, use_bias=False, **own)
        self.reduce = parts.ConvNorm(reduce, mid_features, **own)
        self.spatial = parts.ConvNorm(spatial, mid_features, **own)
        self.expand = parts.ConvNorm(expand, out_features, relu=False, **own)
        self.shortcut = project(in_features, out_features, strides, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(self.expand(self.spatial(self.reduce(x))) + apply(self.shortcut, x))


class ResNet(nnx.Module):
    """ResNet of bottleneck blocks; ResNet-50 by default.

    7x7/2 convolution, max-pool, four stages of blocks that halve the extents and double the
    channels, global average, dense. Deep Roots' root-16 is ``groups=(16, 8, 4, 2)``, root-64
    ``(64, 32, 16, 8)``, with ``stride_in_3x3=False, stem_bias=True`` as in Caffe's definition.

    Args:
        depths: blocks of each stage; (3, 4, 6, 3) is ResNet-50, (3, 4, 23, 3) ResNet-101.
        groups: filter groups of the 3x3, one number for each stage or one for all.
        stride_in_3x3: whether a stage's first 3x3 strides, or the 1x1 before it.
        classes: outputs.
        features: channels of the stem; stage i hands on ``4 * features * 2**i``.
        mid_features: channels inside the first stage's blocks; `features` by default.
        stem_bias: biases in the first convolution.
        block: ``block(in_features, mid_features, out_features, strides=, groups=, ...)``.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Raises:
        ValueError: groups that do not divide the channels; depths or groups of the wrong length.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import ResNet
        >>> def scores():
        ...     model = ResNet(depths=(1, 1), features=4, classes=10, rngs=nnx.Rngs(0))
        ...     return model(jnp.ones((1, 32, 32, 3)))
        >>> nnx.eval_shape(scores).shape
        (1, 10)

    Source: K. He et al., Deep residual learning for image recognition, 2015,
        https://arxiv.org/abs/1512.03385, table 1; Y. Ioannou et al., Deep roots, 2017,
        https://arxiv.org/abs/1605.06489
    """

    def __init__(
        self,
        *,
        depths: Sequence[int] = (3, 4, 6, 3),
        groups: Sequence[int] = (1,),
        stride_in_3x3: bool = True,
        classes: int = 1000,
        features: int = 64,
        mid_features: int | None = None,
        stem_bias: bool = False,
        block: Callable[..., nnx.Module] = Bottleneck,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        name = type(self).__name__
        depths = parts.entries(name, "depths", depths)
        groups = tuple(groups) * (len(depths) if len(groups) == 1 else 1)
        groups = parts.entries(name, "groups", groups, len(depths))
        first = features if mid_features is None else mid_features
        own: dict[str, Any] = {**options, "rngs": rngs}
        stem = nn.Conv(3, features, (7, 7), 2, padding=3, use_bias=stem_bias, **own)
        self.stem = parts.ConvNorm(stem, features, **own)
        blocks, channels = [], features
        for stage, (depth, count) in enumerate(zip(depths, groups, strict=True)):
            mid, out = first * 2**stage, 4 * features * 2**stage
            parts.divides(name, "groups", count, **{f"stage_{stage + 1}": mid})
            for number in range(depth):
                strides = 2 if stage and not number else 1
                made = {"strides": strides, "groups": count, "stride_in_3x3": stride_in_3x3}
                blocks.append(block(channels, mid, out, **made, **own))
                channels = out
        self.blocks = nnx.List(blocks)
        self.classifier = nnx.Linear(channels, classes, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = parts.max_pool(self.stem(x), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.classifier(parts.global_average(x))
