"""GoogLeNet, with the 1x1 reductions of its Inception modules or without them."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from convjax import nn
from convjax._core import checks
from convjax._core.aliases import DTypes
from convjax.models import parts

# Output channels: 1x1 | before 3x3, 3x3 | before 5x5, 5x5 | after the pool.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def _conv(
    in_features: int,
    out_features: int,
    size: int,
    *,
    batch_norm: bool,
    strides: int = 1,
    rngs: nnx.Rngs,
    **options: Unpack[DTypes],
) -> nnx.Module:
    """A convolution that keeps the extents (of odd size), and what comes before its ReLU."""
    conv = nn.Conv(
        in_features,
        out_features,
        (size, size),
        strides,
        padding=size // 2,
        use_bias=not batch_norm,
        kernel_init=parts.HE_NORMAL,
        rngs=rngs,
        **options,
    )
    if not batch_norm:
        return conv
    return parts.ConvNorm(conv, out_features, relu=False, epsilon=1e-3, rngs=rngs, **options)


class Inception(nnx.Module):
    """Four branches side by side: 1x1, 3x3, 5x5, and a 3x3 max-pool.

    With `reductions`, 1x1 convolutions narrow what the 3x3 and the 5x5 see and what the pool
    passes on (figure 2b); without, the naive module (figure 2a) passes all its input on.

    Args:
        in_features: channels of the input.
        features: one row of table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
        reductions: whether the 1x1 reductions and the projection are there.
        large: extent of the largest kernel: 5; torchvision has 3.
        batch_norm: normalise after every convolution, in place of biases.
        rngs: random streams.
        options: `dtype` and `param_dtype`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import Inception
        >>> def maps(**options):
        ...     block = Inception(192, (64, 96, 128, 16, 32, 32), **options, rngs=nnx.Rngs(0))
        ...     return block(jnp.ones((1, 28, 28, 192)))
        >>> nnx.eval_shape(maps).shape
        (1, 28, 28, 256)
        >>> nnx.eval_shape(lambda: maps(reductions=False)).shape
        (1, 28, 28, 416)

    Source: C. Szegedy et al., Going deeper with convolutions, 2014,
        https://arxiv.org/abs/1409.4842, figure 2.
    """

    def __init__(
        self,
        in_features: int,
        features: Sequence[int],
        *,
        reductions: bool = True,
        large: int = 5,
        batch_norm: bool = False,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        row = parts.entries("Inception", "features", features, 6)
        one, reduce3, three, reduce5, five, projection = row
        own: dict[str, Any] = {**options, "batch_norm": batch_norm, "rngs": rngs}

        def branch(reduce: int, out: int, size: int) -> nnx.List:
            if not reductions:
                return nnx.List([_conv(in_features, out, size, **own)])
            stages = [
                _conv(in_features, reduce, 1, **own),
                _conv(reduce, out, size, **own),
            ]
            return nnx.List(stages)

        project = [_conv(in_features, projection, 1, **own)] if reductions else []
        self.branches = nnx.List(
            [
                nnx.List([_conv(in_features, one, 1, **own)]),
                branch(reduce3, three, 3),
                branch(reduce5, five, large),
                nnx.List(project),
            ]
        )
        self.out_features = one + three + five + (projection if reductions else in_features)

    def __call__(self, x: jax.Array) -> jax.Array:
        results = [x, x, x, parts.max_pool(x, 3, 1)]
        for number, branch in enumerate(self.branches):
            for conv in branch:
                results[number] = nnx.relu(conv(results[number]))
        return jnp.concatenate(results, axis=-1)


class GoogLeNet(nnx.Module):
    """GoogLeNet: a stem, nine Inception modules, and one dense layer; no auxiliary classifiers.

    Args:
        reductions: whether the modules have their 1x1 reductions and projections. Without, every
            module hands on its input too, and the network widens from module to module.
        batch_norm: normalise after every convolution, in place of biases and of the stem's local
            response normalisation.
        large: extent of the modules' largest kernel. With ``large=3, batch_norm=True`` the counts
            are those of torchvision, which follows TensorFlow's port.
        classes: outputs.
        width: multiplies every number of channels, rounded down (1 in the paper).
        modules: which of the nine modules there are; the pools stay before 4a and 5a.
        dropout: rate before the classifier.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Example:
        >>> from flax import nnx
        >>> from convjax.models import GoogLeNet
        >>> model = nnx.eval_shape(lambda: GoogLeNet(rngs=nnx.Rngs(0)))
        >>> [block.out_features for block in model.modules.values()]
        [256, 480, 512, 512, 512, 528, 832, 832, 1024]

    Source: C. Szegedy et al., Going deeper with convolutions, 2014,
        https://arxiv.org/abs/1409.4842, table 1.
    """

    def __init__(
        self,
        *,
        reductions: bool = True,
        batch_norm: bool = False,
        large: int = 5,
        classes: int = 1000,
        width: float = 1.0,
        modules: Sequence[str] = tuple(MODULES),
        dropout: float = 0.4,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        parts.positive("GoogLeNet", "width", width)
        own: dict[str, Any] = {**options, "batch_norm": batch_norm, "rngs": rngs}
        narrow, wide = parts.scaled(64, width), parts.scaled(192, width)
        self.stem = nnx.List(
            [
                _conv(3, narrow, 7, strides=2, **own),
                _conv(narrow, narrow, 1, **own),
                _conv(narrow, wide, 3, **own),
            ]
        )
        blocks, features = {}, wide
        for name in modules:
            checks.choice("GoogLeNet", "modules", name, tuple(MODULES))
            row = [parts.scaled(number, width) for number in MODULES[name]]
            block = Inception(features, row, reductions=reductions, large=large, **own)
            blocks[name], features = block, block.out_features
        self.modules = nnx.Dict(blocks)
        self.batch_norm = batch_norm
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.classifier = nnx.Linear(features, classes, rngs=rngs, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        first, reduce, second = self.stem
        normalise = (lambda x: x) if self.batch_norm else parts.local_response_norm
        x = normalise(parts.ceil_pool(nnx.max_pool, nnx.relu(first(x))))
        x = normalise(nnx.relu(second(nnx.relu(reduce(x)))))
        stage = ""
        for name, block in self.modules.items():
            if name[0] != stage:  # before 3a, 4a and 5a
                x, stage = parts.ceil_pool(nnx.max_pool, x), name[0]
            x = block(x)
        return self.classifier(self.dropout(parts.global_average(x)))
