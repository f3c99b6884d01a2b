"""Convolutions of every kind, as pure functions on arrays, under every JAX transform."""

import importlib
from typing import TYPE_CHECKING, Any

from convjax import lax
from convjax._core.version import __version__ as __version__
from convjax._functional import (
    causal_conv,
    causal_conv_transpose,
    causal_step,
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
    init_state,
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
from convjax._lowerings.compiler import compiler_options
from convjax._lowerings.target import Target
from convjax._operation.primitive import convs_saveable
from convjax._programs.accelerate import accelerate
from convjax._programs.cost_of import cost_of
from convjax._programs.explain import explain
from convjax._programs.jit import compiled_with, jit
from convjax._programs.memory import keep_memory
from convjax.lax import conv_general_dilated

__all__ = [
    "Target",
    "accelerate",
    "analysis",
    "arithmetic",
    "causal_conv",
    "causal_conv_transpose",
    "causal_step",
    "channel_shuffle",
    "channel_unshuffle",
    "compiled_with",
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
    "init_state",
    "interop",
    "jit",
    "keep_memory",
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


# Loaded when they are asked for: `import convjax` has no need of them, of Flax or of what draws,
# and ``python -m convjax.kinds`` loads `kinds` once.
_ROOMS = (
    "analysis",
    "arithmetic",
    "cost",
    "draw",
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
    from convjax import draw as draw
    from convjax import initializers as initializers
    from convjax import linen as linen
    from convjax import models as models
    from convjax import nn as nn


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"convjax.{name}")
    raise AttributeError(f"module 'convjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS, *(name for name in globals() if name.startswith("__"))})
