"""A convolutional auto-encoder with a choice of up-sampling."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
from flax import nnx

import convjax
from convjax import initializers, nn
from convjax._core import checks
from convjax._core.aliases import DTypes
from convjax.models import parts

UPSAMPLINGS = ("transposed", "transposed_hold", "subpixel", "nearest", "bilinear")


class AutoEncoder(nnx.Module):
    """Strided convolutions down, as many up-sampling layers up, ReLU between; linear at the end.

    Which up-sampling draws checkerboards, and which does not, is the article's section 6.1:

    - "transposed": transposed convolutions of stride 2;
    - "transposed_hold": each followed by a 2x2 moving average, that cancels what repeats every two
      pixels (Kinoshita & Kiya 2020, https://arxiv.org/abs/2002.02117);
    - "subpixel": a convolution, then a pixel shuffle, beginning as nearest-neighbour up-sampling
      (ICNR; Aitken et al. 2017, https://arxiv.org/abs/1707.02937);
    - "nearest", "bilinear": enlarge, then convolve (Odena, Dumoulin & Olah 2016).

    Args:
        upsampling: one of the above.
        features: output channels of the layers down; each halves the extents.
        in_features: channels of the images, and of what is made of them.
        kernel_size: of every layer.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Raises:
        ValueError: another up-sampling.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import AutoEncoder
        >>> def images():
        ...     model = AutoEncoder(upsampling="subpixel", rngs=nnx.Rngs(0))
        ...     return model(jnp.ones((1, 64, 64, 3)))
        >>> nnx.eval_shape(images).shape
        (1, 64, 64, 3)

    Source: A. Odena, V. Dumoulin, C. Olah, Deconvolution and checkerboard artifacts, 2016,
        https://distill.pub/2016/deconv-checkerboard
    """

    def __init__(
        self,
        *,
        upsampling: str = "nearest",
        features: Sequence[int] = (32, 64, 128),
        in_features: int = 3,
        kernel_size: int = 3,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        name = "AutoEncoder"
        self.upsampling = checks.choice(name, "upsampling", upsampling, UPSAMPLINGS)
        widths = (in_features, *parts.entries(name, "features", features))
        window = checks.ints(name, "kernel_size", kernel_size, 2, minimum=1)
        own: dict[str, Any] = {**options, "rngs": rngs}

        def up(fan_in: int, out: int) -> nnx.Module:
            if upsampling.startswith("transposed"):
                return nn.ConvTranspose(fan_in, out, window, 2, convention="adjoint", **own)
            if upsampling == "subpixel":
                return nn.SubpixelConv(
                    fan_in, out, window, 2, kernel_init=initializers.icnr(2), **own
                )
            return nn.ResizeConv(fan_in, out, window, 2, **{**own, "method": upsampling})

        pairs = list(zip(widths, widths[1:], strict=False))
        hidden = {**own, "kernel_init": parts.HE_NORMAL}
        self.encoder = nnx.List([nn.Conv(i, o, window, 2, **hidden) for i, o in pairs])
        self.decoder = nnx.List([up(o, i) for i, o in reversed(pairs)])

    def encode(self, x: jax.Array) -> jax.Array:
        """The code of images: (N, H, W, C) to (N, H / 2**n, W / 2**n, features[-1])."""
        for layer in self.encoder:
            x = nnx.relu(layer(x))
        return x

    def decode(self, code: jax.Array) -> jax.Array:
        """Images from their code."""
        y = code
        for number, layer in enumerate(self.decoder):
            y = layer(nnx.relu(y) if number else y)
            if self.upsampling == "transposed_hold":
                y = convjax.hold(y, 2)
        return y

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.decode(self.encode(x))
