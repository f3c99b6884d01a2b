"""The dilated context module: ever wider views at full resolution."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from convjax import nn
from convjax._core import checks
from convjax._core.aliases import DTypes
from convjax._core.public import public
from convjax.models import parts

DILATIONS = (1, 1, 2, 4, 8, 16, 1)
MULTIPLIERS = (2, 2, 4, 8, 16, 32, 32)


@public
def identity_init(channels: int, stddev: float = 0.0) -> Callable[..., jax.Array]:
    """Initialiser of a layer that passes on what it gets, of the paper's section 3.

    The centre tap from input channel a, of I, to output channel b, of O, is ``channels / O`` where
    ``a * channels // I == b * channels // O``; to all else, normal noise is added. In a chain from
    `channels` to `channels` the copies of a channel then add up to that channel.

    Args:
        channels: of the chain's ends, C.
        stddev: of the noise, in units of ``channels / O``. The copies that a wide layer makes stay
            equal without it.

    Example:
        >>> import jax
        >>> from convjax.models import identity_init
        >>> abs(identity_init(2)(jax.random.key(0), (1, 1, 2, 4)))[0, 0]
        Array([[0.5, 0.5, 0. , 0. ],
               [0. , 0. , 0.5, 0.5]], dtype=float32)

    Source: F. Yu, V. Koltun, Multi-scale context aggregation by dilated convolutions, 2015,
        https://arxiv.org/abs/1511.07122, section 3.
    """

    def init(
        key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None
    ) -> jax.Array:
        *window, fan_in, fan_out = shape
        gain = channels / fan_out
        a, b = jnp.arange(fan_in)[:, None], jnp.arange(fan_out)
        same = a * channels // fan_in == b * channels // fan_out
        centre = tuple(extent // 2 for extent in window)
        noise = stddev * gain * jax.random.normal(key, shape, dtype)
        return noise.at[centre].set(jnp.where(same, gain, noise[centre]).astype(dtype))

    return init


class ContextModule(nnx.Module):
    """Seven 3x3 convolutions of dilations 1, 1, 2, 4, 8, 16, 1, and a 1x1; C maps to C maps.

    An output sees 67 x 67 inputs. ReLU follows all but the last. It begins as the identity: maps
    without negative values pass unchanged.

    Args:
        channels: C, of the input and of the output.
        large: the large module, with 2, 2, 4, 8, 16, 32, 32 times as many channels inside.
        dilations: of the 3x3 layers; ``(1, 1, 2, 4, 8, 16, 32, 64, 1)`` for Cityscapes.
        stddev: of the noise in the initial weights, relative to the weights that carry the input;
            by default 0 in the basic module and 0.01 in the large one.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Raises:
        ValueError: other than seven dilations in the large module.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import ContextModule
        >>> maps = jnp.arange(2.0 * 9 * 9).reshape(1, 9, 9, 2)
        >>> bool((ContextModule(channels=2, rngs=nnx.Rngs(0))(maps) == maps).all())
        True

    Source: F. Yu, V. Koltun, Multi-scale context aggregation by dilated convolutions, 2015,
        https://arxiv.org/abs/1511.07122, table 1.
    """

    def __init__(
        self,
        *,
        channels: int = 21,
        large: bool = False,
        dilations: Sequence[int] = DILATIONS,
        stddev: float | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        name = "ContextModule"
        checks.integer(name, "channels", channels, minimum=1)
        dilations = parts.entries(name, "dilations", dilations)
        multipliers: Sequence[int] = (1,) * len(dilations)
        if large:
            multipliers = MULTIPLIERS
            if len(dilations) != len(MULTIPLIERS):
                checks.fail(name, "dilations", dilations, "must be seven in the large module")
        noise = (0.01 if large else 0.0) if stddev is None else stddev
        kernel_init = identity_init(channels, noise)
        own: dict[str, Any] = {**options, "kernel_init": kernel_init, "rngs": rngs}
        layers, features = [], channels
        for dilation, multiplier in zip(dilations, multipliers, strict=True):
            out = multiplier * channels
            layers.append(nn.DilatedConv(features, out, (3, 3), dilation, **own))
            features = out
        self.layers = nnx.List(layers)
        self.last = nn.PointwiseConv(features, channels, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = functools.reduce(lambda y, layer: nnx.relu(layer(y)), self.layers, x)
        return self.last(hidden)
