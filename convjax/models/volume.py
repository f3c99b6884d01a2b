"""A 3-D encoder-decoder for volumes."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from convjax import nn
from convjax._core import checks
from convjax._core.aliases import DTypes
from convjax.models import parts


class UNet3D(nnx.Module):
    """3-D U-Net: pairs of 3x3x3 convolutions, max-pools down, transposed convolutions up.

    On the way up, each resolution also receives the features that it had on the way down. Channels
    double before each pool, so that no layer is a bottleneck.

    Args:
        in_features, classes: channels of the input and of the result.
        features: channels of the first convolution.
        levels: how many times extents halve.
        padding: "SAME" (every extent a multiple of ``2**levels``), or the paper's "VALID", whose
            result is smaller than the input and which crops what it hands across.
        batch_norm: normalise after every 3x3x3 convolution, which keeps its biases.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Raises:
        ValueError: another padding.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import UNet3D
        >>> def scores():
        ...     model = UNet3D(padding="VALID", rngs=nnx.Rngs(0))
        ...     return model(jnp.ones((1, 132, 132, 116, 3)))
        >>> nnx.eval_shape(scores).shape
        (1, 44, 44, 28, 3)

    Source: O. Cicek et al., 3D U-Net: learning dense volumetric segmentation from sparse
        annotation, 2016, https://arxiv.org/abs/1606.06650, figure 2.
    """

    def __init__(
        self,
        *,
        in_features: int = 3,
        classes: int = 3,
        features: int = 32,
        levels: int = 3,
        padding: str = "SAME",
        batch_norm: bool = True,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        checks.choice("UNet3D", "padding", padding, ("SAME", "VALID"))
        checks.integer("UNet3D", "levels", levels, minimum=0)
        own: dict[str, Any] = {**options, "rngs": rngs}
        adjoint = {**own, "convention": "adjoint"}

        def stage(fan_in: int, out: int) -> nnx.Module:
            hidden = {**own, "kernel_init": parts.HE_NORMAL, "padding": padding}
            conv = nn.Conv(fan_in, out, (3, 3, 3), **hidden)
            return parts.ConvNorm(conv, out, **own) if batch_norm else conv

        down, up, ups, channels = [], [], [], in_features
        for level in range(levels + 1):
            half, whole = features * 2**level, features * 2 ** (level + 1)
            down.append(nnx.List([stage(channels, half), stage(half, whole)]))
            channels = whole
        for level in reversed(range(levels)):
            whole = features * 2 ** (level + 1)
            ups.append(
                nn.ConvTranspose(channels, channels, (2, 2, 2), 2, use_bias=False, **adjoint)
            )
            up.append(nnx.List([stage(channels + whole, whole), stage(whole, whole)]))
            channels = whole
        self.down, self.ups, self.up = nnx.List(down), nnx.List(ups), nnx.List(up)
        self.last = nn.PointwiseConv(channels, classes, rank=3, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        across = []
        for level, stages in enumerate(self.down):
            if level:
                across.append(x)
                x = parts.max_pool(x, 2, 2, "VALID")
            for stage in stages:
                x = nnx.relu(stage(x))
        for enlarge, stages in zip(self.ups, self.up, strict=True):
            x = enlarge(x)
            x = jnp.concatenate([_cropped(across.pop(), x.shape), x], axis=-1)
            for stage in stages:
                x = nnx.relu(stage(x))
        return self.last(x)


def _cropped(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The middle of `x`, of the spatial extents of `shape`."""
    starts = [(n - m) // 2 for n, m in zip(x.shape[1:-1], shape[1:-1], strict=True)]
    window = [slice(s, s + m) for s, m in zip(starts, shape[1:-1], strict=True)]
    return x[(slice(None), *window)]
