"""The kinds of convolution, as pure functions on arrays."""

from convjax._functional.causal import causal_conv, causal_step, init_state
from convjax._functional.causal_transposed import causal_conv_transpose
from convjax._functional.dense import (
    conv,
    conv1d,
    conv2d,
    conv3d,
    convolve,
    correlate,
    dilated_conv,
    pointwise_conv,
)
from convjax._functional.grouped import (
    channel_shuffle,
    channel_unshuffle,
    depthwise_conv,
    grouped_conv,
    pointwise_grouped_conv,
    shuffled_grouped_conv,
)
from convjax._functional.separable import (
    depthwise_separable_conv,
    flattened_conv,
    spatially_separable_conv,
)
from convjax._functional.subpixel import pixel_shuffle, pixel_unshuffle, subpixel_conv
from convjax._functional.transposed import conv_transpose
from convjax._functional.upsample import hold, resize, resize_conv

__all__ = [
    "causal_conv",
    "causal_conv_transpose",
    "causal_step",
    "channel_shuffle",
    "channel_unshuffle",
    "conv",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose",
    "convolve",
    "correlate",
    "depthwise_conv",
    "depthwise_separable_conv",
    "dilated_conv",
    "flattened_conv",
    "grouped_conv",
    "hold",
    "init_state",
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
