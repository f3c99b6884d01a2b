"""Flax NNX modules: one for every kind of convolution, and drop-ins for Flax's own two."""

try:
    import flax as _flax  # noqa: F401
except ImportError as error:
    raise ImportError(
        "convjax.nn needs Flax: install it with `pip install 'convjax[flax]'`."
    ) from error

from convjax._core.public import public_class
from convjax.nn.causal import CausalConv, CausalConvTranspose, CausalState
from convjax.nn.drop_ins import Conv, ConvTranspose
from convjax.nn.grouped import (
    ChannelShuffle,
    DepthwiseConv,
    GroupedConv,
    PointwiseGroupedConv,
    ShuffledGroupedConv,
)
from convjax.nn.layer import Layer
from convjax.nn.plain import DilatedConv, PointwiseConv
from convjax.nn.separable import DepthwiseSeparableConv, FlattenedConv, SpatiallySeparableConv
from convjax.nn.upsample import ResizeConv, SubpixelConv

__all__ = [
    "CausalConv",
    "CausalConvTranspose",
    "CausalState",
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
