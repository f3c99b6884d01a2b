"""Network in Network, and its grouped variants: Deep Roots' root modules."""

from collections.abc import Sequence
from typing import Unpack

import jax
from flax import nnx

from convjax import nn
from convjax._core.aliases import DTypes
from convjax.models import parts

FEATURES = (192, 160, 96, 192, 192, 192, 192, 192)


class NetworkInNetwork(nnx.Module):
    """Network in Network on CIFAR-10, with filter groups in its second and third spatial layers.

    5x5 (1a), 1x1, 1x1 | max-pool | 5x5 (2a), 1x1, 1x1 | average-pool | 3x3 (3a), 1x1, 1x1 | global
    average. A spatial layer with groups, followed by a 1x1 layer that mixes them, is a root module.
    The paper's root-k networks have ``groups2a=k, groups3a=k/2``; 3c has one channel per class.

    Args:
        groups2a, groups3a: filter groups of layers 2a and 3a.
        classes: output channels of the last layer.
        features: output channels of the eight layers before it.
        in_features: channels of the input.
        batch_norm: normalise after every convolution but the last, as Deep Roots does; the original
            has dropout instead.
        dropout: rate after each of the two pools.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Raises:
        ValueError: groups that do not divide the channels.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import NetworkInNetwork
        >>> def scores():
        ...     model = NetworkInNetwork(groups2a=4, groups3a=2, rngs=nnx.Rngs(0))
        ...     return model(jnp.ones((1, 32, 32, 3)))
        >>> nnx.eval_shape(scores).shape
        (1, 10)

    Source: M. Lin, Q. Chen, S. Yan, Network in network, 2013, https://arxiv.org/abs/1312.4400,
        section 3; Y. Ioannou et al., Deep roots, 2017, https://arxiv.org/abs/1605.06489
    """

    def __init__(
        self,
        *,
        groups2a: int = 1,
        groups3a: int = 1,
        classes: int = 10,
        features: Sequence[int] = FEATURES,
        in_features: int = 3,
        batch_norm: bool = False,
        dropout: float = 0.5,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        name = "NetworkInNetwork"
        widths = (in_features, *parts.entries(name, "features", features, 8), classes)
        parts.divides(name, "groups2a", groups2a, layer_1c=widths[3], layer_2a=widths[4])
        parts.divides(name, "groups3a", groups3a, layer_2c=widths[6], layer_3a=widths[7])
        windows = ((5, 5), (1, 1), (1, 1), (5, 5), (1, 1), (1, 1), (3, 3), (1, 1), (1, 1))
        groups = {3: groups2a, 6: groups3a}

        def layer(number: int) -> nnx.Module:
            last = number == 8
            conv = nn.Conv(
                widths[number],
                widths[number + 1],
                windows[number],
                feature_group_count=groups.get(number, 1),
                use_bias=last or not batch_norm,
                kernel_init=parts.HE_NORMAL,
                rngs=rngs,
                **options,
            )
            if last or not batch_norm:
                return conv
            return parts.ConvNorm(conv, widths[number + 1], relu=False, rngs=rngs, **options)

        self.layers = nnx.List([layer(number) for number in range(9)])
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for number, layer in enumerate(self.layers):
            if number == 3:
                x = self.dropout(parts.ceil_pool(nnx.max_pool, x))
            elif number == 6:
                x = parts.ceil_pool(nnx.avg_pool, x, count_include_pad=False)
                x = self.dropout(x)
            x = nnx.relu(layer(x))
        return parts.global_average(x)
