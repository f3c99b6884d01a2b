"""The flattened network: rank-1 filters, trained as three one-dimensional convolutions."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
from flax import nnx

from convjax import nn
from convjax._core import checks
from convjax._core.aliases import DTypes
from convjax.models import parts


class FlattenedLayer(nnx.Module):
    """Stages of lateral, vertical and horizontal convolution, with biases after each of them.

    Nothing non-linear is inside. Two stages of F filters on C channels have
    ``F*(C + Y + X) + F*(F + Y + X)`` weights, in place of ``F*C*Y*X``.

    Args:
        in_features, out_features: channels before and after.
        kernel_size: (Y, X).
        stages: how many lateral-vertical-horizontal stages, "l" of the paper: the rank.
        rngs: random streams.
        options: `dtype` and `param_dtype`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import FlattenedLayer
        >>> def maps():
        ...     return FlattenedLayer(96, 128, (5, 5), rngs=nnx.Rngs(0))(jnp.ones((1, 16, 16, 96)))
        >>> nnx.eval_shape(maps).shape
        (1, 16, 16, 128)

    Source: J. Jin, A. Dundar, E. Culurciello, Flattened convolutional neural networks for
        feedforward acceleration, 2014, https://arxiv.org/abs/1412.5474, figure 2.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sequence[int],
        *,
        stages: int = 2,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        checks.integer("FlattenedLayer", "stages", stages, minimum=1)
        own: dict[str, Any] = {**options, "stage_bias": True, "rngs": rngs}
        widths = (in_features, *(out_features,) * stages)
        self.layers = nnx.List(
            [
                nn.FlattenedConv(i, o, kernel_size, **own)
                for i, o in zip(widths, widths[1:], strict=False)
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


class FlattenedNetwork(nnx.Module):
    """Three layers of 5x5 filters on CIFAR-10, the second and third flattened.

    The first layer stays full: on three channels two flattened stages would have more weights, not
    fewer. ReLU and a 2x2 max-pool follow each layer, a global average and a dense layer all of
    them (these last two are this library's choice).

    Args:
        features: filters of each layer.
        stages: lateral-vertical-horizontal stages of a flattened layer.
        full_conv: full convolutions in every layer, the baseline.
        kernel_size: extent of the filters along both axes.
        classes: outputs.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import FlattenedNetwork
        >>> def scores():
        ...     return FlattenedNetwork(rngs=nnx.Rngs(0))(jnp.ones((1, 32, 32, 3)))
        >>> nnx.eval_shape(scores).shape
        (1, 10)

    Source: J. Jin, A. Dundar, E. Culurciello, Flattened convolutional neural networks for
        feedforward acceleration, 2014, https://arxiv.org/abs/1412.5474
    """

    def __init__(
        self,
        *,
        features: Sequence[int] = (96, 128, 256),
        stages: int = 2,
        full_conv: bool = False,
        kernel_size: int = 5,
        classes: int = 10,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        features = parts.entries("FlattenedNetwork", "features", features)
        checks.integer("FlattenedNetwork", "stages", stages, minimum=1)
        window = checks.ints("FlattenedNetwork", "kernel_size", kernel_size, 2, minimum=1)
        own: dict[str, Any] = {**options, "rngs": rngs}
        layers: list[nnx.Module] = []
        for number, (i, o) in enumerate(zip((3, *features), features, strict=False)):
            if full_conv or not number:
                layers.append(nn.Conv(i, o, window, kernel_init=parts.HE_NORMAL, **own))
            else:
                layers.append(FlattenedLayer(i, o, window, stages=stages, **own))
        self.layers = nnx.List(layers)
        self.classifier = nnx.Linear(features[-1], classes, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = parts.max_pool(nnx.relu(layer(x)), 2, 2)
        return self.classifier(parts.global_average(x))
