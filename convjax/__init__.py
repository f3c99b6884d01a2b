"""Convolutions of every kind, as pure functions on arrays, under every JAX transform."""

import importlib
from typing import TYPE_CHECKING, Any

from convjax import lax
from convjax.accelerate import accelerate
from convjax.compiler import compiler_options
from convjax.functional import (
    channel_shuffle,
    channel_unshuffle,
    conv,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose,
    convolve,
    correlate,
    depthwise_conv,
    depthwise_separable_conv,
    dilated_conv,
    flattened_conv,
    grouped_conv,
    hold,
    pixel_shuffle,
    pixel_unshuffle,
    pointwise_conv,
    pointwise_grouped_conv,
    resize,
    resize_conv,
    shuffled_grouped_conv,
    spatially_separable_conv,
    subpixel_conv,
)
from convjax.jaxprs import cost_of, explain
from convjax.lax import conv_general_dilated
from convjax.operation import convs_saveable

__version__ = "0.1.0"

__all__ = [
    "accelerate",
    "analysis",
    "arithmetic",
    "channel_shuffle",
    "channel_unshuffle",
    "compiler_options",
    "conv",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_general_dilated",
    "conv_transpose",
    "convolve",
    "convs_saveable",
    "correlate",
    "cost",
    "cost_of",
    "depthwise_conv",
    "depthwise_separable_conv",
    "dilated_conv",
    "equivalents",
    "explain",
    "flattened_conv",
    "grouped_conv",
    "hold",
    "interop",
    "kinds",
    "lax",
    "pixel_shuffle",
    "pixel_unshuffle",
    "pointwise_conv",
    "pointwise_grouped_conv",
    "resize",
    "resize_conv",
    "shuffled_grouped_conv",
    "spatially_separable_conv",
    "subpixel_conv",
]


# Loaded when they are asked for: `import convjax` has no need of them, or of Flax, and
# ``python -m convjax.kinds`` loads `kinds` once.
_ROOMS = (
    "analysis",
    "arithmetic",
    "cost",
    "equivalents",
    "initializers",
    "interop",
    "kinds",
    "linen",
    "models",
    "nn",
)

if TYPE_CHECKING:
    from convjax import analysis, arithmetic, cost, equivalents, interop, kinds
    from convjax import initializers as initializers
    from convjax import linen as linen
    from convjax import models as models
    from convjax import nn as nn


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"convjax.{name}")
    raise AttributeError(f"module 'convjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
