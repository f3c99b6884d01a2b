"""ResNeXt: residual blocks of many equal paths, in the paper's three equivalent forms."""

import functools
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from convjax import nn
from convjax._core import checks
from convjax._core.aliases import DTypes
from convjax._core.public import public_with
from convjax.models import parts
from convjax.models.resnet import Bottleneck, ResNet, apply, project

FORMS = ("grouped", "concatenated", "split")


class PathsBottleneck(nnx.Module):
    """A ResNeXt block with its `groups` paths written out one by one (figure 3a and 3b).

    Each path is 1x1, 3x3 on its own few channels. In the form "split" each has a last 1x1 of its
    own, and the results are summed; in "concatenated" the paths are put side by side before one.
    `Bottleneck` is the third form, "grouped", that computes the same.

    Args:
        in_features, mid_features, out_features: channels before, inside (of all paths) and after.
        form: "split" or "concatenated".
        strides: of the block.
        groups: the number of paths, the cardinality.
        stride_in_3x3: True; where the stride is.
        rngs: random streams.
        options: `dtype` and `param_dtype`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import PathsBottleneck
        >>> def maps():
        ...     block = PathsBottleneck(256, 128, 256, form="split", groups=4, rngs=nnx.Rngs(0))
        ...     return block(jnp.ones((1, 56, 56, 256)))
        >>> nnx.eval_shape(maps).shape
        (1, 56, 56, 256)

    Source: S. Xie et al., Aggregated residual transformations for deep neural networks, 2016,
        https://arxiv.org/abs/1611.05431, figure 3.
    """

    def __init__(
        self,
        in_features: int,
        mid_features: int,
        out_features: int,
        *,
        form: str,
        strides: int = 1,
        groups: int = 1,
        stride_in_3x3: bool = True,
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        checks.choice("PathsBottleneck", "form", form, FORMS[1:])
        if not stride_in_3x3:
            rule = "must be True: the paper strides in the 3x3"
            checks.fail("PathsBottleneck", "stride_in_3x3", stride_in_3x3, rule)
        parts.divides("PathsBottleneck", "groups", groups, the_paths=mid_features)
        own: dict[str, Any] = {**options, "rngs": rngs}
        each = mid_features // groups

        def pointwise(i: int, o: int) -> nn.PointwiseConv:
            return nn.PointwiseConv(i, o, use_bias=False, **own)

        def spatial() -> nn.Conv:
            return nn.Conv(each, each, (3, 3), strides, padding=1, use_bias=False, **own)

        paths = range(groups)
        self.reduce = nnx.List(
            [parts.ConvNorm(pointwise(in_features, each), each, **own) for _ in paths]
        )
        self.spatial = nnx.List([parts.ConvNorm(spatial(), each, **own) for _ in paths])
        if form == "split":
            self.expand = nnx.List([pointwise(each, out_features) for _ in paths])
        else:
            self.expand = nnx.List([pointwise(mid_features, out_features)])
        self.norm = nnx.BatchNorm(out_features, momentum=0.9, **own)
        self.shortcut = project(in_features, out_features, strides, **own)
        self.form = form

    def __call__(self, x: jax.Array) -> jax.Array:
        paths = [s(r(x)) for r, s in zip(self.reduce, self.spatial, strict=True)]
        if self.form == "concatenated":
            paths = [jnp.concatenate(paths, axis=-1)]
        total = sum(expand(path) for expand, path in zip(self.expand, paths, strict=True))
        return nnx.relu(self.norm(total) + apply(self.shortcut, x))


def _block(function: str, argument: str, value: Any) -> None:
    if not isinstance(value, (PathsBottleneck, Bottleneck)):
        rule = "must be a bottleneck: `PathsBottleneck` or `Bottleneck`"
        checks.fail_type(function, argument, type(value).__name__, rule)


@public_with(block=_block, grouped=_block)
def tie(block: PathsBottleneck, grouped: Bottleneck) -> None:
    """Give `block` the weights of `grouped`: of every path, its part; both then compute the same.

    Args:
        block: of the same sizes, of either form.
        grouped: where the weights and the moving statistics come from.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import Bottleneck, PathsBottleneck, tie
        >>> def maps():
        ...     grouped = Bottleneck(16, 8, 16, groups=4, rngs=nnx.Rngs(0))
        ...     split = PathsBottleneck(16, 8, 16, form="split", groups=4, rngs=nnx.Rngs(1))
        ...     tie(split, grouped)
        ...     return split(jnp.ones((2, 5, 5, 16)))  # those of grouped
        >>> nnx.eval_shape(maps).shape
        (2, 5, 5, 16)
    """

    def part(module: Any, axis: int, number: int) -> nnx.State:
        count = len(block.reduce)

        def cut(leaf: jax.Array) -> jax.Array:
            own = axis if leaf.ndim > 1 else -1
            return jnp.split(leaf, count, axis=own)[number]

        return jax.tree.map(cut, nnx.state(module))

    for number, (reduce, spatial) in enumerate(zip(block.reduce, block.spatial, strict=True)):
        nnx.update(reduce, part(grouped.reduce, -1, number))
        nnx.update(spatial, part(grouped.spatial, -1, number))
    whole = grouped.expand.conv
    for number, expand in enumerate(block.expand):
        split = block.form == "split"
        nnx.update(expand, part(whole, -2, number) if split else nnx.state(whole))
    nnx.update(block.norm, nnx.state(grouped.expand.norm))
    if block.shortcut is not None:
        nnx.update(block.shortcut, nnx.state(grouped.shortcut))


class ResNeXt(ResNet):
    """ResNeXt: ResNet whose 3x3 convolutions have `cardinality` groups; 32x4d, 50 layers.

    The blocks of stage i have ``cardinality * width * 2**i`` channels inside and hand on
    ``256 * 2**i``.

    Args:
        cardinality: paths of a block.
        width: channels of a path in the first stage, "d" of the paper.
        depths: blocks of each stage.
        classes: outputs.
        features: channels of the stem; stage i hands on ``4 * features * 2**i``.
        form: how blocks are written: "grouped" (figure 3c, fast), or "concatenated" (3b) or "split"
            (3a), equivalent and slower.
        rngs: random streams.
        options: `dtype` and `param_dtype` of every layer.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from convjax.models import ResNeXt
        >>> def scores():
        ...     small = dict(depths=(1, 1), features=4, classes=10)
        ...     model = ResNeXt(cardinality=4, width=2, **small, rngs=nnx.Rngs(0))
        ...     return model(jnp.ones((1, 32, 32, 3)))
        >>> nnx.eval_shape(scores).shape
        (1, 10)

    Source: S. Xie et al., Aggregated residual transformations for deep neural networks, 2016,
        https://arxiv.org/abs/1611.05431, table 1.
    """

    def __init__(
        self,
        *,
        cardinality: int = 32,
        width: int = 4,
        depths: Sequence[int] = (3, 4, 6, 3),
        classes: int = 1000,
        features: int = 64,
        form: str = "grouped",
        rngs: nnx.Rngs,
        **options: Unpack[DTypes],
    ):
        checks.integer("ResNeXt", "cardinality", cardinality, minimum=1)
        checks.integer("ResNeXt", "width", width, minimum=1)
        checks.choice("ResNeXt", "form", form, FORMS)
        paths = functools.partial(PathsBottleneck, form=form)
        super().__init__(
            depths=depths,
            groups=(cardinality,),
            classes=classes,
            features=features,
            mid_features=cardinality * width,
            block=Bottleneck if form == "grouped" else paths,
            rngs=rngs,
            **options,
        )
