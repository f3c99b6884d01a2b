"""ShuffleNet v1: grouped 1x1 convolutions, a channel shuffle, and depthwise 3x3 convolutions."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from convjax import nn
from convjax._core import checks
from convjax._core.aliases import DTypes
from convjax.models import parts

# Output channels of stage 2 by number of groups; each later stage has twice as many.
STAGE_2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
CONV_1 = 24


class ShuffleUnit(nnx.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; added to the input or after it.

    A unit of stride 1 adds its input (figure 2b). One of stride 2 (figure 2c) puts the input,
    average-pooled 3x3/2, before its own result, which has the channels that are missing then.

    Args:
        in_features, out_features: channels before and after; equal at stride 1.
        groups: of both 1x1 convolutions.
        strides: 1 or 2.
        first_groups: of the first 1x1 convolution, where it differs (1 at the head of stage 2).
        rngs: random streams.
        options: `dtype` and `param_dtype`.

    Raises:
        ValueError: groups that do not divide the channels.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import ShuffleUnit
        >>> def maps():
        ...     unit = ShuffleUnit(240, 480, groups=3, strides=2, rngs=nnx.Rngs(0))
        ...     return unit(jnp.ones((1, 28, 28, 240)))
        >>> nnx.eval_shape(maps).shape
        (1, 14, 14, 480)

    Source: X. Zhang et al., ShuffleNet: an extremely efficient convolutional neural network for
        mobile devices, 2017, https://arxiv.org/abs/1707.01083, figure 2.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        groups: int,
        strides: int = 1,
        first_groups: int | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        own: dict[str, Any] = {**options, "rngs": rngs}
        bare = {**own, "use_bias": False}
        first = groups if first_groups is None else first_groups
        mid = out_features // 4
        branch = out_features - in_features if strides > 1 else out_features
        parts.divides("ShuffleUnit", "first_groups", first, input=in_features, bottleneck=mid)
        parts.divides("ShuffleUnit", "groups", groups, bottleneck=mid, branch=branch)
        compress = nn.PointwiseGroupedConv(in_features, mid, first, **bare)
        spatial = nn.DepthwiseConv(mid, (3, 3), strides=strides, padding=1, **bare)
        expand = nn.PointwiseGroupedConv(mid, branch, groups, **bare)
        self.compress = parts.ConvNorm(compress, mid, **own)
        self.shuffle = nn.ChannelShuffle(groups)
        self.spatial = parts.ConvNorm(spatial, mid, relu=False, **own)
        self.expand = parts.ConvNorm(expand, branch, relu=False, **own)
        self.strides = strides

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.expand(self.spatial(self.shuffle(self.compress(x))))
        if self.strides == 1:
            return nnx.relu(x + y)
        steps, sides = (self.strides,) * 2, ((1, 1), (1, 1))
        pooled = nnx.avg_pool(x, (3, 3), strides=steps, padding=sides)
        return nnx.relu(jnp.concatenate([pooled, y], axis=-1))


class ShuffleNetV1(nnx.Module):
    """ShuffleNet v1: a 3x3/2 convolution, a max-pool, (three) stages of units, one dense layer.

    Args:
        groups: of the 1x1 convolutions: 1, 2, 3, 4 or 8, which also sets the channels (table 1).
            The very first 1x1 of stage 2 has one group.
        width: multiplies every number of channels, rounded down; a quarter of what comes out, the
            bottleneck, must divide into groups.
        conv1: channels of the first convolution; by default ``24 * width``, rounded down, then up
            to where what they leave of stage 2 divides into groups. (At half width with 8 groups
            that is 16, as in the authors' code, which has 24 at 1.5.)
        classes: outputs.
        classifier_bias: whether the dense layer has biases.
        depths: units of each stage.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Raises:
        ValueError: another number of groups, or a width whose channels do not divide.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import ShuffleNetV1
        >>> def scores():
        ...     return ShuffleNetV1(groups=3, rngs=nnx.Rngs(0))(jnp.ones((1, 224, 224, 3)))
        >>> nnx.eval_shape(scores).shape
        (1, 1000)

    Source: X. Zhang et al., ShuffleNet: an extremely efficient convolutional neural network for
        mobile devices, 2017, https://arxiv.org/abs/1707.01083, table 1.
    """

    def __init__(
        self,
        *,
        groups: int = 3,
        width: float = 1.0,
        conv1: int | None = None,
        classes: int = 1000,
        classifier_bias: bool = True,
        depths: Sequence[int] = (4, 8, 4),
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        name = "ShuffleNetV1"
        if groups not in STAGE_2:
            rule = f"must be one of {', '.join(map(str, STAGE_2))}"
            checks.fail(name, "groups", groups, rule)
        parts.positive(name, "width", width)
        stage = parts.scaled(STAGE_2[groups], width)
        if not _divides(groups, width):
            rule = f"with {groups} groups gives bottlenecks that do not divide ({stage / 4:g})"
            good = [f"{n / 4:g}" for n in range(1, 9) if _divides(groups, n / 4)]
            checks.fail(name, "width", width, rule, f"These do: {', '.join(good)}.")
        first = parts.scaled(CONV_1, width) if conv1 is None else conv1
        if conv1 is None:
            first += (stage - first) % groups
        elif not 1 <= first < stage or (stage - first) % groups:
            rule = (
                f"must leave of the {stage} channels of stage 2 what divides into {groups} groups"
            )
            checks.fail(name, "conv1", conv1, rule)
        own: dict[str, Any] = {**options, "rngs": rngs}
        conv = nn.Conv(3, first, (3, 3), 2, padding=1, use_bias=False, **own)
        self.stem = parts.ConvNorm(conv, first, **own)
        features = first
        units: list[nnx.Module] = []
        for number, depth in enumerate(parts.entries(name, "depths", depths)):
            out = stage * 2**number
            for unit in range(depth):
                compress = groups if units else 1
                strides = 1 if unit else 2
                made = {"groups": groups, "first_groups": compress, "strides": strides, **own}
                units.append(ShuffleUnit(features, out, **made))
                features = out
        self.units = nnx.List(units)
        self.classifier = nnx.Linear(features, classes, use_bias=classifier_bias, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = parts.max_pool(self.stem(x), padding=((1, 1), (1, 1)))
        for unit in self.units:
            x = unit(x)
        return self.classifier(parts.global_average(x))


def _divides(groups: int, width: float) -> bool:
    """Whether stage 2's bottleneck, and with it those of the later stages, divides into groups."""
    bottleneck, rest = divmod(parts.scaled(STAGE_2[groups], width), 4)
    return bottleneck > 0 and rest == 0 and bottleneck % groups == 0
