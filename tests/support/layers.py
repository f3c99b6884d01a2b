"""One layer of every kind, with arguments that both APIs take, and what each computes.

What a layer computes is written here with the public functions, not read off the library's table.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import convjax
from convjax import linen, nn
from convjax._modules import conventions

IN, OUT = 6, 12


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer: its class's name, its own arguments, and ``expected(x, parameters, options)``."""

    name: str
    own: dict[str, Any]
    expected: Callable[..., Any]
    rank: int = 2
    spatial: tuple[str, ...] = ("strides", "padding", "padding_mode", "kernel_dilation")
    has_features: bool = True

    def nnx(self, seed: int = 0, **options: Any) -> Any:
        """The NNX layer, its parameters random integers."""
        features = {"out_features": OUT} if self.has_features else {}
        layer = getattr(nn, self.name)(
            in_features=IN,
            **features,
            **self.own,
            **options,
            kernel_init=nnx.initializers.zeros,  # quick to compile
            rngs=nnx.Rngs(0),
        )
        state = nnx.state(layer, nnx.Param)
        nnx.update(layer, integers(state, seed))
        return layer

    def linen(self, **options: Any) -> Any:
        """The linen layer."""
        features = {"features": OUT} if self.has_features else {}
        return getattr(linen, self.name)(**features, **self.own, **options)

    def inputs(self, *lead: int) -> Any:
        shape = (*(lead or (2,)), *(9, 8, 7)[: self.rank], IN)
        return jnp.asarray(np.random.default_rng(1).integers(-3, 4, shape), jnp.float32)


def integers(tree: Any, seed: int) -> Any:
    """`tree` with small random integers for its arrays."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda a: jnp.asarray(rng.integers(-3, 4, a.shape), a.dtype) if a.ndim else a, tree
    )


def pure(layer: Any) -> dict[str, Any]:
    """The parameters of an NNX layer by name."""
    return nnx.to_pure_dict(nnx.state(layer, nnx.Param))


def _flattened_with_biases(x, p, options):
    """One LVH stage with three biases, written out for two axes and SAME."""
    y = convjax.pointwise_conv(x, p["lateral_kernel"]) + p["lateral_bias"]
    s = options.get("strides", 1)
    y = convjax.depthwise_conv(y, p["spatial_kernel_0"], strides=(s, 1)) + p["spatial_bias_0"]
    return convjax.depthwise_conv(y, p["spatial_kernel_1"], strides=(1, s))


CASES = [
    Case(
        "Conv",
        {"kernel_size": (3, 2), "feature_group_count": 2},
        lambda x, p, o: convjax.conv(x, p["kernel"], feature_group_count=2, **o),
    ),
    Case("Conv", {"kernel_size": 3}, lambda x, p, o: convjax.conv(x, p["kernel"], **o), 1),
    Case(
        "Conv",
        {"kernel_size": (3, 1, 2)},
        lambda x, p, o: convjax.conv(x, p["kernel"], **o),
        rank=3,
    ),
    Case(
        "ConvTranspose",
        {"kernel_size": (3, 2), "feature_group_count": 2},
        lambda x, p, o: conventions.conv_transpose(x, p["kernel"], feature_group_count=2, **o),
    ),
    Case(
        "ConvTranspose",
        {"kernel_size": (3, 2), "feature_group_count": 3, "convention": "adjoint"},
        lambda x, p, o: convjax.conv_transpose(x, p["kernel"], feature_group_count=3, **o),
    ),
    Case(
        "PointwiseConv",
        {},
        lambda x, p, o: convjax.pointwise_conv(x, p["kernel"], **o),
        spatial=("strides",),
    ),
    Case(
        "PointwiseConv",
        {"rank": 1},
        lambda x, p, o: convjax.pointwise_conv(x, p["kernel"], **o),
        spatial=("strides",),
        rank=1,
    ),
    Case(
        "DilatedConv",
        {"kernel_size": (3, 2), "kernel_dilation": (2, 3)},
        lambda x, p, o: convjax.dilated_conv(x, p["kernel"], (2, 3), **o),
        spatial=("strides", "padding", "padding_mode"),
    ),
    Case(
        "GroupedConv",
        {"kernel_size": (3, 2), "groups": 3},
        lambda x, p, o: convjax.grouped_conv(x, p["kernel"], 3, **o),
    ),
    Case(
        "ShuffledGroupedConv",
        {"kernel_size": (3, 2), "groups": 3},
        lambda x, p, o: convjax.shuffled_grouped_conv(x, p["kernel"], 3, **o),
    ),
    Case(
        "PointwiseGroupedConv",
        {"groups": 3},
        lambda x, p, o: convjax.pointwise_grouped_conv(x, p["kernel"], 3, **o),
        spatial=("strides",),
    ),
    Case(
        "DepthwiseConv",
        {"kernel_size": (3, 2), "channel_multiplier": 2},
        lambda x, p, o: convjax.depthwise_conv(x, p["kernel"], **o),
        has_features=False,
    ),
    Case(
        "DepthwiseSeparableConv",
        {"kernel_size": (3, 2), "channel_multiplier": 2},
        lambda x, p, o: convjax.depthwise_separable_conv(
            x, p["depthwise_kernel"], p["pointwise_kernel"], **o
        ),
    ),
    Case(
        "SpatiallySeparableConv",
        {"kernel_size": (3, 2), "mid_features": 4},
        lambda x, p, o: convjax.spatially_separable_conv(x, [p["kernel_0"], p["kernel_1"]], **o),
    ),
    Case(
        "SpatiallySeparableConv",
        {"kernel_size": (3, 2, 2), "mid_features": (4, 5)},
        lambda x, p, o: convjax.spatially_separable_conv(
            x, [p["kernel_0"], p["kernel_1"], p["kernel_2"]], **o
        ),
        rank=3,
    ),
    Case(
        "FlattenedConv",
        {"kernel_size": (3, 2)},
        lambda x, p, o: convjax.flattened_conv(
            x, p["lateral_kernel"], [p["spatial_kernel_0"], p["spatial_kernel_1"]], **o
        ),
    ),
    Case(
        "FlattenedConv",
        {"kernel_size": (3, 2), "stage_bias": True},
        _flattened_with_biases,
        spatial=("strides",),
    ),
    Case(
        "ResizeConv",
        {"kernel_size": (3, 2), "scale": (2, 3), "method": "bilinear"},
        lambda x, p, o: convjax.resize_conv(x, p["kernel"], (2, 3), method="bilinear", **o),
    ),
    Case(
        "SubpixelConv",
        {"kernel_size": (3, 2), "scale": (2, 3)},
        lambda x, p, o: convjax.subpixel_conv(x, p["kernel"], (2, 3), **o),
    ),
]
IDS = [f"{case.name}-{number}" for number, case in enumerate(CASES)]
