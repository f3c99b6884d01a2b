"""Xception: depthwise separable convolutions with residual connections."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
from flax import nnx

from convjax import nn
from convjax._core.aliases import DTypes
from convjax.models import parts
from convjax.models.resnet import apply, project

_NORM: dict[str, Any] = {"momentum": 0.99, "epsilon": 1e-3}  # Keras's


class XceptionBlock(nnx.Module):
    """Separable convolutions, each after a ReLU, then a max-pool; added to a projected input.

    Args:
        in_features: channels of the input.
        features: output channels of each separable convolution.
        pool: whether a 3x3/2 max-pool follows, and a 1x1/2 convolution projects the input. Without,
            the input is added as it is.
        first_relu: whether a ReLU comes before the first separable convolution.
        rngs: random streams.
        options: `dtype` and `param_dtype`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import XceptionBlock
        >>> def maps():
        ...     return XceptionBlock(64, (128, 128), rngs=nnx.Rngs(0))(jnp.ones((1, 147, 147, 64)))
        >>> nnx.eval_shape(maps).shape
        (1, 74, 74, 128)

    Source: F. Chollet, Xception: deep learning with depthwise separable convolutions, 2017,
        https://arxiv.org/abs/1610.02357, figure 5.
    """

    def __init__(
        self,
        in_features: int,
        features: Sequence[int],
        *,
        pool: bool = True,
        first_relu: bool = True,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        own: dict[str, Any] = {**options, "rngs": rngs}
        self.stages = nnx.List(
            [
                separable(i, o, **own)
                for i, o in zip((in_features, *features), features, strict=False)
            ]
        )
        strides = 2 if pool else 1
        self.shortcut = project(in_features, features[-1], strides, **own)
        self.pool = pool
        self.first_relu = first_relu

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for number, stage in enumerate(self.stages):
            y = stage(nnx.relu(y) if number or self.first_relu else y)
        return (parts.max_pool(y) if self.pool else y) + apply(self.shortcut, x)


def separable(
    in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Unpack[DTypes]
) -> parts.ConvNorm:
    """3x3 depthwise, then pointwise with nothing in between, and batch normalisation."""
    own: dict[str, Any] = {**options, "rngs": rngs}
    conv = nn.DepthwiseSeparableConv(in_features, out_features, (3, 3), use_bias=False, **own)
    return parts.ConvNorm(conv, out_features, relu=False, **_NORM, **own)


class Xception(nnx.Module):
    """Xception: entry flow (three blocks), middle flow (eight), exit flow; 36 convolutions.

    Args:
        classes: outputs.
        width: multiplies every number of channels, rounded down (1 in the paper).
        entry: output channels of the entry flow's blocks; the last are the middle flow's.
        middle: blocks of the middle flow.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Raises:
        ValueError: a width that is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import Xception
        >>> def scores():
        ...     return Xception(middle=1, rngs=nnx.Rngs(0))(jnp.ones((1, 299, 299, 3)))
        >>> nnx.eval_shape(scores).shape
        (1, 1000)

    Source: F. Chollet, Xception: deep learning with depthwise separable convolutions, 2017,
        https://arxiv.org/abs/1610.02357, figure 5.
    """

    def __init__(
        self,
        *,
        classes: int = 1000,
        width: float = 1.0,
        entry: Sequence[int] = (128, 256, 728),
        middle: int = 8,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        parts.positive("Xception", "width", width)
        own: dict[str, Any] = {**options, "rngs": rngs}

        def of(features: int) -> int:
            return parts.scaled(features, width)

        def full(fan_in: int, features: int, strides: int) -> parts.ConvNorm:
            conv = nn.Conv(
                fan_in, features, (3, 3), strides, padding="VALID", use_bias=False, **own
            )
            return parts.ConvNorm(conv, features, **_NORM, **own)

        self.stem = nnx.List([full(3, of(32), 2), full(of(32), of(64), 1)])
        features = of(64)
        blocks: list[nnx.Module] = []
        for channels in parts.entries("Xception", "entry", entry):
            row = (of(channels),) * 2
            blocks.append(XceptionBlock(features, row, first_relu=bool(blocks), **own))
            features = of(channels)
        for _ in range(middle):
            blocks.append(XceptionBlock(features, (features,) * 3, pool=False, **own))
        blocks.append(XceptionBlock(features, (features, of(1024)), **own))
        self.blocks = nnx.List(blocks)
        tail = (of(1024), of(1536), of(2048))
        self.tail = nnx.List([separable(i, o, **own) for i, o in zip(tail, tail[1:], strict=False)])
        self.classifier = nnx.Linear(tail[-1], classes, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in (*self.stem, *self.blocks):
            x = layer(x)
        for layer in self.tail:
            x = nnx.relu(layer(x))
        return self.classifier(parts.global_average(x))
