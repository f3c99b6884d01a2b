"""Flax linen modules: one for every kind of convolution, and drop-ins for Flax's own two."""

try:
    import flax as _flax  # noqa: F401
except ImportError as error:
    raise ImportError(
        "convjax.linen needs Flax: install it with `pip install 'convjax[flax]'`."
    ) from error

from convjax._core.public import public_class
from convjax.linen.causal import CausalConv, CausalConvTranspose
from convjax.linen.drop_ins import Conv, ConvTranspose
from convjax.linen.kinds import (
    ChannelShuffle,
    DepthwiseConv,
    DepthwiseSeparableConv,
    DilatedConv,
    FlattenedConv,
    GroupedConv,
    PointwiseConv,
    PointwiseGroupedConv,
    ResizeConv,
    ShuffledGroupedConv,
    SpatiallySeparableConv,
    SubpixelConv,
)
from convjax.linen.layer import Layer

__all__ = [
    "CausalConv",
    "CausalConvTranspose",
    "ChannelShuffle",
    "Conv",
    "ConvTranspose",
    "DepthwiseConv",
    "DepthwiseSeparableConv",
    "DilatedConv",
    "FlattenedConv",
    "GroupedConv",
    "Layer",
    "PointwiseConv",
    "PointwiseGroupedConv",
    "ResizeConv",
    "ShuffledGroupedConv",
    "SpatiallySeparableConv",
    "SubpixelConv",
]

for _name in __all__:
    public_class(globals()[_name])
