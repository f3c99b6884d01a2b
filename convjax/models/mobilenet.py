"""MobileNet v1, with its width multiplier, and the version with full convolutions."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
from flax import nnx

from convjax import nn
from convjax._core.aliases import DTypes
from convjax.models import parts

# (stride of the 3x3, output channels) of the layers after the first. The paper's table 1 prints
# stride 2 for the last too, which its own 7 x 7 result contradicts.
LAYERS = (
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    *((1, 512),) * 5,
    (2, 1024),
    (1, 1024),
)


class MobileNetV1(nnx.Module):
    """MobileNet v1: a 3x3/2 convolution, thirteen depthwise separable layers, one dense layer.

    Batch normalisation and ReLU follow the depthwise and the pointwise convolution of each layer.
    Any image extents fit: the paper's resolution multiplier changes nothing in the network.

    Args:
        width: the width multiplier alpha: every number of channels becomes
            ``max(int(width * channels), 8)``, as in TensorFlow's slim.
        full_conv: full 3x3 convolutions instead of depthwise separable ones (table 4's baseline).
        classes: outputs.
        layers: (stride, output channels) of every layer after the first.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Raises:
        ValueError: a width that is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import MobileNetV1
        >>> def scores():
        ...     return MobileNetV1(width=0.25, rngs=nnx.Rngs(0))(jnp.ones((1, 96, 96, 3)))
        >>> nnx.eval_shape(scores).shape
        (1, 1000)

    Source: A. Howard et al., MobileNets: efficient convolutional neural networks for mobile vision
        applications, 2017, https://arxiv.org/abs/1704.04861, table 1.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        full_conv: bool = False,
        classes: int = 1000,
        layers: Sequence[tuple[int, int]] = LAYERS,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        parts.positive("MobileNetV1", "width", width)
        own: dict[str, Any] = {**options, "rngs": rngs}
        bare = {**own, "use_bias": False}

        def normed(conv: nnx.Module, features: int) -> parts.ConvNorm:
            return parts.ConvNorm(conv, features, momentum=0.99, epsilon=1e-3, **own)

        features = parts.scaled(32, width, 8)
        stages = [normed(nn.Conv(3, features, (3, 3), 2, **bare), features)]
        for strides, channels in layers:
            out = parts.scaled(channels, width, 8)
            if full_conv:
                stages.append(normed(nn.Conv(features, out, (3, 3), strides, **bare), out))
            else:
                depthwise = nn.DepthwiseConv(features, (3, 3), strides=strides, **bare)
                stages.append(normed(depthwise, features))
                stages.append(normed(nn.PointwiseConv(features, out, **bare), out))
            features = out
        self.stages = nnx.List(stages)
        self.classifier = nnx.Linear(features, classes, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        for stage in self.stages:
            x = stage(x)
        return self.classifier(parts.global_average(x))
