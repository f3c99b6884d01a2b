"""AlexNet with filter groups."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
from flax import nnx

from convjax import nn
from convjax._core import checks
from convjax._core.aliases import DTypes
from convjax.arithmetic import conv_output_size
from convjax.models import parts

FEATURES = (96, 256, 384, 384, 256)
ONE_TOWER = (64, 192, 384, 256, 256)


class AlexNet(nnx.Module):
    """AlexNet: five convolutions, of which conv2, conv4 and conv5 have filter groups, three dense.

    The original split its channels over two GPUs that exchanged them at conv3 only, which two
    groups reproduce (Caffe's definition, of 227 x 227 pixels). "One weird trick" (2014), which
    torchvision has, is ``features=ONE_TOWER, groups=1, padding=2, resolution=224,
    response_norm=False``.

    Args:
        groups: filter groups of conv2, conv4 and conv5.
        classes: outputs.
        resolution: height and width of the images; conv1's result is what the dense layers fit.
        features: output channels of the five convolutions.
        hidden: units of each of the two hidden dense layers.
        padding: of conv1; 0 in Caffe.
        response_norm: local response normalisation after conv1 and conv2.
        dropout: rate before each hidden dense layer.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Raises:
        ValueError: groups that do not divide the channels, images that are too small.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import AlexNet
        >>> def scores():
        ...     return AlexNet(groups=2, rngs=nnx.Rngs(0))(jnp.ones((1, 227, 227, 3)))
        >>> nnx.eval_shape(scores).shape
        (1, 1000)

    Source: A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet classification with deep convolutional
        neural networks, 2012, https://papers.nips.cc/paper/4824, section 3.5 and figure 2.
    """

    def __init__(
        self,
        *,
        groups: int = 2,
        classes: int = 1000,
        resolution: int = 227,
        features: Sequence[int] = FEATURES,
        hidden: int = 4096,
        padding: int = 0,
        response_norm: bool = True,
        dropout: float = 0.5,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        name = "AlexNet"
        f1, f2, f3, f4, f5 = parts.entries(name, "features", features, 5)
        parts.divides(name, "groups", groups, conv1=f1, conv2=f2, conv3=f3, conv4=f4, conv5=f5)
        checks.integer(name, "padding", padding, minimum=0)
        smallest = 67 - 2 * padding
        checks.integer(name, "resolution", resolution, minimum=smallest)

        def conv(fan_in: int, out: int, size: int, groups: int = 1, **own: Any) -> nn.Conv:
            own |= {"feature_group_count": groups, "kernel_init": parts.HE_NORMAL}
            return nn.Conv(fan_in, out, (size, size), **own, rngs=rngs, **options)

        self.convs = nnx.List(
            [
                conv(3, f1, 11, strides=4, padding=padding),
                conv(f1, f2, 5, groups),
                conv(f2, f3, 3),
                conv(f3, f4, 3, groups),
                conv(f4, f5, 3, groups),
            ]
        )
        extent = conv_output_size(resolution, 11, strides=4, padding=padding)
        for _ in range(3):
            sides = [parts.ceil_padding(extent)]
            extent = conv_output_size(extent, 3, strides=2, padding=sides)
        widths = (extent * extent * f5, hidden, hidden, classes)
        self.dense = nnx.List(
            [
                nnx.Linear(i, o, rngs=rngs, kernel_init=parts.HE_NORMAL, **options)
                for i, o in zip(widths, widths[1:], strict=False)
            ]
        )
        self.response_norm = response_norm
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for number, conv in enumerate(self.convs, 1):
            x = nnx.relu(conv(x))
            if number <= 2 and self.response_norm:
                x = parts.local_response_norm(x)
            if number in (1, 2, 5):
                x = parts.ceil_pool(nnx.max_pool, x)
        x = x.reshape(len(x), -1)
        *hidden, classifier = self.dense
        for dense in hidden:
            x = nnx.relu(dense(self.dropout(x)))
        return classifier(x)
