"""A segmentation head of parallel dilated (atrous) convolutions, as DeepLab's."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
from flax import nnx

import convjax
from convjax import nn
from convjax._core import checks
from convjax._core.aliases import DTypes
from convjax.models import parts


class AtrousHead(nnx.Module):
    """Atrous spatial pyramid pooling: one 3x3, 1x1, 1x1 branch per dilation, summed, enlarged.

    The input is the features of a network of stride 8 (VGG-16 in the paper). The result is scores
    at the resolution of the image. ``rates=(12,)`` is DeepLab-LargeFOV, ``(2, 4, 8, 12)`` is
    ASPP-S, and the default is ASPP-L.

    Args:
        in_features: channels of the input.
        features: channels inside a branch, of fc6 and fc7.
        classes: channels of the result.
        rates: dilation of each branch.
        scale: how much the sum of the branches is enlarged, bilinearly.
        dropout: rate after fc6 and fc7.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import AtrousHead
        >>> def scores():
        ...     return AtrousHead(rngs=nnx.Rngs(0))(jnp.ones((1, 41, 41, 512)))
        >>> nnx.eval_shape(scores).shape
        (1, 328, 328, 21)

    Source: L.-C. Chen et al., DeepLab: semantic image segmentation with deep convolutional nets,
        atrous convolution, and fully connected CRFs, 2016, https://arxiv.org/abs/1606.00915
    """

    def __init__(
        self,
        *,
        in_features: int = 512,
        features: int = 1024,
        classes: int = 21,
        rates: Sequence[int] = (6, 12, 18, 24),
        scale: int = 8,
        dropout: float = 0.5,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        rates = parts.entries("AtrousHead", "rates", rates)
        self.scale = checks.integer("AtrousHead", "scale", scale, minimum=1)
        own: dict[str, Any] = {**options, "rngs": rngs}
        hidden = {**own, "kernel_init": parts.HE_NORMAL}
        self.fc6 = nnx.List(
            [nn.DilatedConv(in_features, features, (3, 3), rate, **hidden) for rate in rates]
        )
        self.fc7 = nnx.List([nn.PointwiseConv(features, features, **hidden) for _ in rates])
        self.fc8 = nnx.List([nn.PointwiseConv(features, classes, **own) for _ in rates])
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        total: Any = 0
        for fc6, fc7, fc8 in zip(self.fc6, self.fc7, self.fc8, strict=True):
            y = self.dropout(nnx.relu(fc6(x)))
            y = self.dropout(nnx.relu(fc7(y)))
            total = total + fc8(y)
        return convjax.resize(total, self.scale, method="bilinear")
