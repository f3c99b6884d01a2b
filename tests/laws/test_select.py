"""Law "choice": tables of problems, targets and the lowerings that they get, written out.

There is a case on either side of every rule and threshold: `test_the_tables_see_every_rule` takes
each away and moves each, and some row must notice.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
from problems import (
    CHANNELS,
    CROPPED,
    DEEP,
    DEEP_TILES,
    DEPTHWISE,
    GRADIENT,
    GRADIENT_OF_A_VOLUME,
    LINE,
    SHORT,
    SHORT_GRADIENT,
    STRIDED,
    TARGETS,
    TILED_KERNEL,
    TILED_OUTPUT,
    TILED_RESULTS,
    TILES,
    problem,
)

from convjax._lowerings import LOWERINGS, rules, select, thresholds
from convjax._lowerings.target import Target

ONE_CPU = ("0.10", "0.12", "0.12 avx512", "no ynnpack")

HALF = {"dtype": np.dtype(jnp.bfloat16)}
FIRST = {"images": "NCHW", "channels_last": False}
DILATED = {"window": (7, 7), "kernel_dilation": (2, 2)}
NONE = ((0, 0), (0, 0))

# What every CPU does, whatever its jaxlib and vectors.
ANY_CPU = [
    ({}, "direct"),
    ({"channels_last": False}, "channels_last"),
    (CROPPED, "channels_last"),  # lax reads beyond the input
    (CROPPED | {"input_dilation": (2, 1)}, "polyphase"),
    ({"input_dilation": (2, 2)}, "polyphase"),
    (GRADIENT | {"input_dilation": (2, 2)}, "commuted"),
    (GRADIENT | {"input_dilation": (2, 2), "groups": 64, "i": 1, "o": 4}, "commuted"),
    (GRADIENT | {"input_dilation": (2, 2), "kernel_dilation": (2, 1)}, "polyphase"),
    ({"input_dilation": (9, 9)}, "direct"),  # 81 phases, of one tap or none
    ({"input_dilation": (2, 2), "groups": 8, "i": 4, "o": 4}, "polyphase"),
    ({"input_dilation": (2, 2), "groups": 8, "i": 8, "o": 5}, "per_group"),
    ({"input_dilation": (2, 2), "groups": 8, "i": 3, "o": 16}, "polyphase"),
    ({"input_dilation": (2, 2), "groups": 8, "i": 5, "o": 10}, "per_group"),
    ({"input_dilation": (2, 2), "groups": 8, "i": 17, "o": 1}, "per_group"),
    ({"input_dilation": (2, 2), "groups": 8, "i": 8, "o": 5, "window": (1, 1)}, "polyphase"),
    (TILES, "direct"),
    (TILED_RESULTS, "patchify"),
    (TILED_RESULTS | {"n": 4, "o": 4}, "patchify"),
    (TILED_RESULTS | {"kernel_dilation": (4, 3)}, "direct"),
    (TILED_OUTPUT, "polyphase"),
    (TILED_OUTPUT | {"padding": ((3, 3), (3, 3))}, "reshaped"),
    (TILED_OUTPUT | {"padding": ((3, 3), (3, 3)), "groups": 8, "i": 4, "o": 4}, "polyphase"),
    (TILED_OUTPUT | {"window": (9, 9), "input_dilation": (9, 9)}, "polyphase"),
    (TILED_KERNEL, "patchify"),
    (TILED_KERNEL | {"out_space": (2, 3)}, "polyphase"),
    (TILED_KERNEL | {"window": (55, 56)}, "polyphase"),  # some of it is cropped
    (DEEP_TILES, "patchify"),
    (TILED_RESULTS | {"groups": 64, "n": 4, "o": 4}, "taps"),
    ({"window": (1, 1)}, "matmul"),
    (CHANNELS | {"window": (1, 1)}, "matmul"),
    (GRADIENT, "direct"),
    (GRADIENT | {"out_space": (1, 1)}, "matmul"),
    (DEPTHWISE, "taps"),
    (DEPTHWISE | {"i": 4, "o": 8}, "taps"),
    (DEPTHWISE | {"i": 8, "o": 4}, "taps"),
    (DEPTHWISE | {"i": 8, "o": 5}, "per_group"),
    (DEPTHWISE | {"i": 7, "o": 7}, "taps"),  # no multiple of eight
    (DEPTHWISE | {"i": 12, "o": 12}, "per_group"),
    (DEPTHWISE | {"i": 24, "o": 24} | STRIDED, "per_group"),
    (DEPTHWISE | {"i": 8, "o": 8} | STRIDED, "per_group"),
    (DEPTHWISE | {"i": 17}, "per_group"),
    (DEPTHWISE | GRADIENT | {"n": 8, "o": 8}, "taps"),
    (DEPTHWISE | GRADIENT | {"n": 5, "o": 13}, "per_group"),
    (DEPTHWISE | GRADIENT | {"n": 17, "o": 1}, "per_group"),
    (GRADIENT | {"groups": 5, "n": 4, "o": 5}, "taps"),
    (GRADIENT | {"groups": 5, "n": 3, "o": 7}, "per_group"),
    (DEEP | GRADIENT_OF_A_VOLUME | {"groups": 64, "n": 8, "o": 4}, "taps"),
    (DEEP | GRADIENT_OF_A_VOLUME | {"groups": 64, "n": 3, "o": 11}, "per_group"),
    (DEEP | GRADIENT_OF_A_VOLUME | {"groups": 3, "n": 4, "o": 4}, "per_group"),
    ({"groups": 8, "window": (1, 1)}, "per_group"),
    ({"groups": 8, "window": (1, 1), "i": 3, "o": 11}, "per_group"),
    ({"groups": 9, "window": (1, 1)}, "matmul"),
    ({"groups": 2}, "per_group"),
    (LINE | {"groups": 2}, "per_group"),
    (LINE | {"groups": 2, "strides": (2,)}, "channels_last"),
    (LINE | {"groups": 2, "strides": (2,), "dtype": np.dtype("float64")}, "per_group"),
    (LINE | {"groups": 2, "strides": (2,), "window": (1,)}, "per_group"),
    (LINE | {"groups": 2, "strides": (2,), "role": "kernel_gradient"}, "per_group"),
    (CHANNELS | {"groups": 2}, "per_group"),
    (DEEP | {"groups": 2}, "per_group"),
    (LINE | CHANNELS, "direct"),
    (DEEP | GRADIENT_OF_A_VOLUME, "depth_fold"),
    (DEEP | {"i": 4, "o": 16}, "depth_fold"),
    (DEEP, "depth_sum"),
    # a dilated depth: that of the phases of a transposed volume
    (DEEP | {"input_dilation": (2, 1, 1), "out_space": (16, 8, 8), "o": 4}, "depth_sum"),
    (DEEP | {"input_dilation": (2, 2, 1), "out_space": (16, 16, 8), "o": 4}, "polyphase"),
    (DEEP | {"input_dilation": (2, 1, 1), "out_space": (16, 8, 8), "i": 4, "o": 64}, "polyphase"),
    # five depths are computed for four that are kept, or more
    (DEEP | {"space": (10, 8, 8), "out_space": (8, 8, 8), "o": 4}, "depth_sum"),
    (DEEP | {"space": (11, 8, 8), "out_space": (8, 8, 8), "o": 4}, "depth_fold"),
]

# What depends on what XLA does to planes: 0.10; 0.12; 0.12 with 512 bits; without YNNPACK.
SPREAD = "spread_rows"
PLANES = [
    (CHANNELS, SPREAD, "direct", "direct", "direct"),
    ({"i": 16, "o": 17}, SPREAD, "direct", "direct", "direct"),
    ({"i": 15, "o": 17}, "direct", "direct", "direct", "direct"),
    ({"i": 17, "o": 15, "n": 128}, "direct", "direct", "direct", "direct"),
    ({"i": 17, "o": 16, "n": 128}, SPREAD, "direct", "direct", "direct"),
    ({"i": 16, "o": 16}, "direct", "direct", "direct", "direct"),  # not YNNPACK's
    (CHANNELS | {"dtype": np.dtype("float64")}, *["direct"] * 4),
    (CHANNELS | {"dtype": np.dtype("int32")}, *["direct"] * 4),
    (CHANNELS | {"dtype": np.dtype(jnp.bfloat16)}, SPREAD, "direct", "direct", "direct"),
    (CHANNELS | STRIDED, SPREAD, "direct", "direct", "direct"),
    (CHANNELS | {"out_space": (24, 28)}, SPREAD, "direct", "direct", "direct"),
    # few outputs: results of three rows of taps are no more than the inputs
    (CHANNELS | {"o": 21}, *["depth_sum"] * 4),
    (CHANNELS | {"o": 21, "n": 128}, *["depth_sum"] * 4),
    (CHANNELS | {"o": 22, "n": 128}, SPREAD, "direct", "direct", "direct"),
    (CHANNELS | {"o": 22}, *["depth_sum"] * 4),  # results are small
    ({"i": 32, "o": 32, "n": 8}, *["depth_sum"] * 4),  # three times the inputs
    ({"i": 31, "o": 32, "n": 8}, SPREAD, "direct", "direct", "direct"),
    ({"i": 48, "o": 33}, SPREAD, "direct", "direct", "direct"),
    (CHANNELS | {"o": 33}, SPREAD, "direct", "direct", "direct"),
    (CHANNELS | {"o": 8}, *["depth_sum"] * 4),
    (CHANNELS | {"o": 7}, "depth_sum", "direct", "direct", "depth_sum"),
    (CHANNELS | {"o": 21, "kernel_dilation": (2, 2)}, *["depth_sum"] * 4),
    (CHANNELS | {"o": 21, "dtype": np.dtype("float64")}, *["depth_sum"] * 4),
    (CHANNELS | {"o": 21, "dtype": np.dtype("int32")}, *["direct"] * 4),
    (CHANNELS | {"o": 21, "dtype": np.dtype(jnp.bfloat16)}, SPREAD, *["direct"] * 3),
    (CHANNELS | {"o": 21, "window": (1, 3)}, SPREAD, "direct", "direct", "direct"),
    (CHANNELS | {"o": 21} | STRIDED, SPREAD, "direct", "direct", "direct"),
    (CHANNELS | {"o": 21, "out_space": (18, 28)}, SPREAD, "direct", "direct", "direct"),
    ({"n": 128, "i": 20, "o": 15}, *["direct"] * 4),
    # 8 * 16 * 16 * 9 * i inputs are gathered, or a few more
    ({"i": 56, "o": 9, "space": (16, 16), "out_space": (16, 16)}, *["direct"] * 4),
    ({"i": 57, "o": 9, "space": (16, 16), "out_space": (16, 16)}, *["depth_sum"] * 4),
    # 4 M numbers are written, or more: n * 28 * 28 * 3 * 28
    (CHANNELS | {"o": 28, "n": 63}, *["depth_sum"] * 4),
    (CHANNELS | {"o": 28, "n": 64}, SPREAD, "direct", "direct", "direct"),
    # few channels
    ({"i": 4, "o": 64}, "depth_fold", "direct", "direct", "direct"),
    ({"i": 8, "o": 64}, "direct", "direct", "direct", "direct"),
    ({"i": 7, "o": 256} | STRIDED, "depth_fold", "direct", "direct", "direct"),
    ({"i": 3, "o": 64}, *["direct"] * 4),
    ({"i": 7, "o": 64, "window": (2, 2)}, "depth_fold", "direct", "direct", "direct"),
    ({"i": 7, "o": 64, "window": (1, 4)}, "depth_fold", "direct", "direct", "direct"),
    ({"i": 3, "o": 64} | STRIDED, *["direct"] * 4),
    (CHANNELS | {"i": 3, "window": (8, 3)}, "depth_fold", "direct", "direct", "direct"),
    (CHANNELS | {"i": 3, "window": (9, 3)}, *["direct"] * 4),
    # gradients of kernels
    (CHANNELS | GRADIENT, SPREAD, SPREAD, "direct", "direct"),
    (CHANNELS | GRADIENT | {"kernel_dilation": (2, 2)}, SPREAD, SPREAD, SPREAD, "direct"),
    ({"i": 8, "o": 17} | GRADIENT, SPREAD, SPREAD, "direct", "direct"),
    ({"i": 7, "o": 64} | GRADIENT, "depth_fold", "depth_fold", "direct", "depth_fold"),
    ({"i": 7, "o": 25} | GRADIENT, "depth_fold", "depth_fold", "direct", "depth_fold"),
    ({"i": 7, "o": 24} | GRADIENT, "depth_fold", "direct", "direct", "depth_fold"),
    (
        {"i": 7, "o": 64, "kernel_dilation": (2, 2)} | GRADIENT,
        *["depth_fold"] * 4,
    ),
    (
        {"i": 7, "o": 64, "n": 9, "kernel_dilation": (2, 2)} | GRADIENT | {"out_space": (4, 3)},
        "depth_fold", "direct", "direct", "depth_fold",
    ),
    ({"i": 7, "o": 64, "n": 9} | GRADIENT | {"out_space": (8, 3)}, "depth_fold", *["direct"] * 2,
     "depth_fold"),
    ({"i": 7, "o": 64} | GRADIENT | {"out_space": (9, 3)}, *["direct"] * 4),
    ({"i": 7, "o": 16} | GRADIENT, *["direct"] * 4),
    # of few colours
    ({"i": 7, "o": 64, "n": 8, "kernel_dilation": (2, 2)} | GRADIENT | {"out_space": (8, 3)},
     *["depth_fold"] * 4),
    ({"i": 7, "o": 64, "n": 9, "kernel_dilation": (2, 2)} | GRADIENT | {"out_space": (8, 3)},
     "depth_fold", "direct", "direct", "depth_fold"),
]  # fmt: skip

# Groups whose channels are no multiple of eight, by jaxlib.
UNEVEN = [
    (DEPTHWISE | {"i": 5, "o": 10}, "per_group", *["channels_last"] * 3),
    (DEPTHWISE | {"i": 10, "o": 10}, "per_group", *["channels_last"] * 3),
    (DEPTHWISE | {"i": 11, "o": 10}, *["per_group"] * 4),
    (DEPTHWISE | {"i": 22, "o": 22} | STRIDED, "per_group", *["channels_last"] * 3),
    (DEPTHWISE | {"i": 23, "o": 22} | STRIDED, *["per_group"] * 4),
    (DEPTHWISE | {"i": 10, "o": 10, "window": (1, 1)}, *["matmul"] * 4),
    (DEPTHWISE | {"i": 10, "o": 10} | GRADIENT, *["per_group"] * 4),
]

LARGE_TILES = GRADIENT | {
    "space": (224, 224), "padding": ((0, 0), (0, 0)), "kernel_dilation": (16, 16),
    "window": (14, 14), "out_space": (16, 16),
}  # fmt: skip
LARGE_TILED_OUTPUT = {
    "role": "input_gradient", "window": (16, 16), "input_dilation": (16, 16),
    "padding": ((15, 15), (15, 15)), "out_space": (240, 256),
}  # fmt: skip
GRADIENT_OF_A_DILATED_LINE = {
    "role": "kernel_gradient", "window": (28,), "out_space": (3,), "strides": (4,),
    "padding": ((4, 4),),
}  # fmt: skip

LARGE = {"space": (56, 56), "window": (56, 56), "out_space": (3, 3), "role": "kernel_gradient"}
POINTWISE = CHANNELS | {"window": (1, 1), "padding": NONE}
SMALL, LARGER = {"o": 20}, {"o": 21}  # 8,028,160 and 8,429,568 products of a 1x1 convolution
WHOLE = CHANNELS | {
    "role": "kernel_gradient", "window": (28, 28), "out_space": (1, 1), "padding": NONE
}  # fmt: skip
PRIME = GRADIENT | {"space": (29, 29), "window": (29, 29)}  # not cut into blocks
LINE_GRADIENT = {
    "role": "kernel_gradient", "window": (28,), "out_space": (3,), "channels_last": False
}  # fmt: skip

ONE_NUMBER = {"window": (28, 28), "out_space": (1, 1), "padding": NONE}
ONE_COLUMN = {
    "i": 1, "window": (1, 28), "strides": (1, 2), "padding": NONE, "out_space": (28, 1),
}  # fmt: skip
FLOAT16 = {"dtype": np.dtype("float16")}
ROWS_OF_TILES = {
    "window": (2, 1), "input_dilation": (2, 1), "padding": ((1, 1), (0, 0)), "out_space": (56, 28),
}  # fmt: skip
PAIR = {"groups": 2, "i": 37, "o": 37}  # 49,284 elements are written out, for one call

# What is split over devices, other platforms, and processors with AMX.
ELSEWHERE = [
    (CHANNELS, "amx", "direct"),
    (CHANNELS | GRADIENT, "amx", "spread_rows"),
    (CHANNELS | GRADIENT, "onednn amx", "batch_as_space"),
    (CHANNELS | GRADIENT, "onednn 512", "batch_as_space"),
    (CHANNELS | LARGE, "onednn amx", "batch_as_space"),
    (CHANNELS | GRADIENT | {"n": 7}, "onednn amx", "spread_rows"),
    (CHANNELS | GRADIENT | {"n": 8}, "onednn amx", "batch_as_space"),
    (CHANNELS | GRADIENT | {"i": 1, "n": 32}, "onednn amx", "batch_as_space"),
    (CHANNELS | LARGE | {"i": 1, "n": 32}, "onednn amx", "depth_fold"),
    (CHANNELS | LARGE | {"i": 1, "n": 32, "window": (55, 57)}, "onednn amx", "batch_as_space"),
    (CHANNELS | GRADIENT | {"n": 9, "out_space": (9, 9)}, "onednn amx", "batch_as_space"),
    (CHANNELS | GRADIENT | {"n": 9, "out_space": (9, 10)}, "onednn amx", "spread_rows"),
    (CHANNELS | GRADIENT | HALF | {"n": 9, "out_space": (9, 8)}, "onednn amx", "batch_as_space"),
    (CHANNELS | GRADIENT | HALF | {"n": 9, "out_space": (8, 9)}, "onednn amx", "channels_last"),
    ({"groups": 2, "n": 32, "o": 10, "i": 8} | GRADIENT, "onednn 512", "channels_last"),
    (GRADIENT | {"groups": 2, "i": 8, "window": (20, 20), "o": 20}, "onednn 512", "per_group"),
    ({"groups": 2, "n": 127, "o": 8, "i": 8} | GRADIENT, "onednn 512", "channels_last"),
    (DEPTHWISE | DILATED | {"padding": ((0, 0), (0, 6))}, "onednn 512", "direct"),
    (DEPTHWISE | DILATED | {"padding": ((0, 0), (7, 0))}, "onednn 512", "taps"),
    (CHANNELS | GRADIENT | HALF, "onednn amx", "batch_as_space"),
    (CHANNELS | GRADIENT | HALF | {"i": 4, "n": 32}, "onednn amx", "batch_as_space"),
    (CHANNELS | PRIME | HALF | {"i": 4, "n": 32}, "onednn amx", "batch_as_space"),
    (CHANNELS | PRIME | HALF | {"i": 3, "n": 32}, "onednn amx", "channels_last"),
    (CHANNELS | GRADIENT | HALF | {"i": 1, "n": 32}, "onednn amx", "batch_as_space"),  # in blocks
    (CHANNELS | GRADIENT | FLOAT16, "onednn amx", "batch_as_space"),
    (DEEP | {"o": 8} | HALF, "onednn amx", "direct"),
    (DEEP | {"o": 8} | HALF, "onednn 512", "depth_sum"),
    (DEEP | {"o": 8} | FLOAT16, "onednn amx", "depth_sum"),
    (CHANNELS | {"o": 8} | FLOAT16, "onednn amx", "depth_sum"),
    (CHANNELS | {"o": 8} | FLOAT16, "onednn 512", "direct"),
    (CHANNELS | {"o": 8} | HALF, "onednn amx", "direct"),
    (ROWS_OF_TILES, "onednn", "reshaped"),
    (ROWS_OF_TILES, "0.12", "polyphase"),
    (ROWS_OF_TILES | {"images": "NCHW"}, "onednn", "polyphase"),
    (ROWS_OF_TILES | {"o": 8}, "onednn", "polyphase"),
    (ROWS_OF_TILES | {"groups": 2, "i": 32}, "onednn", "polyphase"),
    (ROWS_OF_TILES | {"i": 400, "o": 500}, "onednn", "reshaped"),  # 400,000 elements
    (ROWS_OF_TILES | {"i": 400, "o": 501}, "onednn", "polyphase"),
    (ROWS_OF_TILES | {"i": 128} | HALF, "onednn amx", "reshaped"),
    (ROWS_OF_TILES | {"i": 129} | HALF, "onednn amx", "polyphase"),
    (ROWS_OF_TILES | {"i": 129} | FLOAT16, "onednn amx", "reshaped"),
    (PAIR | HALF, "onednn amx", "block_diagonal"),
    (PAIR | HALF | {"role": "input_gradient"}, "onednn amx", "block_diagonal"),
    (PAIR | HALF | {"o": 38}, "onednn amx", "per_group"),  # 50,616
    (PAIR | HALF | {"window": (1, 1), "o": 220}, "onednn amx", "block_diagonal"),
    (PAIR | HALF | {"window": (1, 1), "i": 220, "o": 257}, "onednn amx", "per_group"),
    (PAIR | HALF | {"input_dilation": (2, 2)}, "onednn amx", "per_group"),
    (PAIR | HALF, "onednn 512", "per_group"),
    (PAIR, "onednn amx", "direct"),
    (DEPTHWISE | HALF, "onednn amx", "taps"),
    (DEPTHWISE | HALF | {"i": 2}, "onednn amx", "block_diagonal"),
    (PAIR | GRADIENT | HALF, "onednn amx", "per_group"),
    (PAIR | FLOAT16, "onednn amx", "channels_last"),
    (PAIR | FLOAT16, "onednn 512", "per_group"),
    (PAIR | FLOAT16 | {"input_dilation": (2, 2)}, "onednn amx", "per_group"),
    (DEPTHWISE | FLOAT16, "onednn amx", "channels_last"),
    (DEPTHWISE | FLOAT16 | {"window": (2, 4)}, "onednn amx", "taps"),
    (DEPTHWISE | FLOAT16 | FIRST, "onednn amx", "taps"),
    ({"groups": 2, "n": 32, "o": 10, "i": 8} | GRADIENT | FLOAT16, "onednn amx", "channels_last"),
    ({"groups": 2, "n": 32, "o": 11, "i": 8} | GRADIENT | FLOAT16, "onednn amx", "per_group"),
    (CHANNELS | GRADIENT | HALF | {"kernel_dilation": (2, 2)}, "onednn amx", "batch_as_space"),
    # the layer is dilated, and 16 bits would be computed in float32
    (CHANNELS | GRADIENT | HALF | {"strides": (2, 2)}, "onednn amx", "channels_last"),
    (CHANNELS | GRADIENT | {"strides": (2, 2)}, "onednn amx", "batch_as_space"),
    (CHANNELS | LINE | LINE_GRADIENT | HALF, "onednn amx", "batch_as_space"),
    (POINTWISE | SMALL, "onednn amx", "direct"),
    (POINTWISE | LARGER, "onednn amx", "matmul"),
    (POINTWISE | LARGER, "onednn", "matmul"),
    (POINTWISE | LARGER | FIRST, "onednn", "channels_last"),
    (POINTWISE | LARGER | {"strides": (2, 2)}, "onednn", "direct"),
    (POINTWISE | LARGER | {"padding": ((0, 0), (0, 1))}, "onednn", "direct"),
    (POINTWISE | LARGER | FLOAT16, "onednn amx", "direct"),
    (POINTWISE | LARGER | HALF, "onednn 512", "direct"),
    (POINTWISE | LARGER | HALF, "onednn amx", "matmul"),
    (POINTWISE | SMALL | HALF, "onednn amx", "direct"),
    (POINTWISE | SMALL | HALF | {"role": "input_gradient"}, "onednn amx", "channels_last"),
    (POINTWISE | LARGER | HALF | {"role": "input_gradient"}, "onednn amx", "matmul"),
    (POINTWISE | HALF | {"role": "input_gradient"}, "onednn 512", "matmul"),
    (POINTWISE | {"role": "input_gradient"}, "onednn amx", "matmul"),
    (POINTWISE | HALF | {"role": "input_gradient"}, "amx", "matmul"),
    (WHOLE | SMALL | HALF, "onednn amx", "batch_as_space"),
    (WHOLE | SMALL | HALF | {"n": 7}, "onednn amx", "matmul"),
    (WHOLE | LARGER | HALF, "onednn amx", "matmul"),
    (WHOLE | HALF | {"kernel_dilation": (2, 2), "space": (55, 55)}, "onednn amx", "matmul"),
    (WHOLE | HALF, "onednn 512", "matmul"),
    (WHOLE, "onednn amx", "matmul"),
    (CHANNELS | LINE | LINE_GRADIENT, "onednn 512", "batch_as_space"),
    (CHANNELS | LINE | LINE_GRADIENT, "onednn", "channels_last"),
    (CHANNELS | LINE | LINE_GRADIENT | {"o": 127}, "onednn 512", "batch_as_space"),
    (CHANNELS | LINE | LINE_GRADIENT | {"o": 128}, "onednn 512", "spread_rows"),
    (CHANNELS | LINE | LINE_GRADIENT | FLOAT16, "onednn 512", "channels_last"),
    (
        CHANNELS | LINE | LINE_GRADIENT | {"kernel_dilation": (2,), "space": (56,)},
        *("onednn 512", "channels_last"),
    ),
    (CHANNELS | LINE | LINE_GRADIENT | {"i": 9}, "onednn 512", "batch_as_space"),
    (CHANNELS | LINE | LINE_GRADIENT | {"i": 9, "n": 7}, "onednn 512", "channels_last"),
    (CHANNELS | LINE | LINE_GRADIENT | HALF | {"n": 7}, "onednn amx", "channels_last"),
    (CHANNELS | DEEP | GRADIENT_OF_A_VOLUME | HALF, "onednn amx", "depth_fold"),
    (CHANNELS | GRADIENT | HALF | {"role": "forward"}, "onednn amx", "batch_as_space"),
    # XLA splits it: only what it splits rightly, without gathering groups
    ({"channels_last": False}, "xla", "direct"),
    ({"input_dilation": (2, 2)}, "xla", "direct"),
    (CROPPED, "xla", "channels_last"),
    ({"dtype": np.dtype(jnp.bfloat16)}, "xla", "direct"),
    ({"dtype": np.dtype(jnp.bfloat16)}, "xla onednn", "channels_last"),  # parts of unknown sizes
    (ONE_NUMBER, "xla onednn", "matmul"),
    (ONE_NUMBER, "xla", "direct"),
    (ONE_NUMBER | {"out_space": (1, 2)}, "xla onednn", "direct"),
    (ONE_COLUMN, "onednn 512", "channels_last"),
    (ONE_COLUMN | {"i": 2}, "onednn 512", "direct"),
    (ONE_COLUMN | {"strides": (2, 1)}, "onednn 512", "direct"),
    (ONE_COLUMN | {"out_space": (28, 2)}, "onednn 512", "direct"),
    ({}, "xla onednn", "direct"),
    (DEPTHWISE, "xla", "taps"),
    (DEPTHWISE | {"i": 4, "o": 8}, "xla", "taps"),
    (DEPTHWISE | {"i": 17, "o": 1}, "xla", "matmul"),
    (DEPTHWISE | {"i": 8, "o": 5}, "xla", "matmul"),
    (DEPTHWISE | GRADIENT, "xla", "matmul"),
    (DEPTHWISE | GRADIENT | {"n": 1}, "xla", "matmul"),
    (DEPTHWISE | GRADIENT | {"n": 1, "out_space": (99, 99)}, "xla", "taps"),  # too many products
    (GRADIENT, "xla", "direct"),
    (DEPTHWISE | GRADIENT, "tpus", "matmul"),
    # neither matmul nor taps accepts it
    (
        GRADIENT | {"groups": 4, "i": 32, "o": 32, "space": (92, 92), "out_space": (65, 65)},
        "tpus",
        "per_group",
    ),
    (DEPTHWISE, "tpus", "direct"),
    (GRADIENT, "tpus", "direct"),
    # other platforms
    (DEPTHWISE, "cuda", "direct"),
    (CHANNELS, "cuda", "direct"),
    # GPU: depthwise kernels of few elements for each group, along one axis
    (SHORT, "cuda", "taps"),
    (SHORT, "rocm", "taps"),
    (SHORT, "cudas", "direct"),
    (SHORT | {"window": (16,)}, "cuda", "taps"),
    (SHORT | {"window": (17,)}, "cuda", "direct"),
    (SHORT | {"window": (8,), "o": 2}, "cuda", "taps"),
    (SHORT | {"window": (8,), "o": 3}, "cuda", "direct"),
    (SHORT | {"i": 2}, "cuda", "direct"),
    (SHORT | {"groups": 1}, "cuda", "direct"),
    (SHORT | {"role": "input_gradient", "input_dilation": (2,)}, "cuda", "taps"),
    (SHORT_GRADIENT, "cuda", "stacked_sum"),
    (SHORT_GRADIENT, "rocm", "stacked_sum"),
    (SHORT_GRADIENT, "cudas", "matmul"),
    (SHORT_GRADIENT | {"out_space": (16,)}, "cuda", "stacked_sum"),
    (SHORT_GRADIENT | {"out_space": (17,)}, "cuda", "direct"),
    (SHORT_GRADIENT | {"o": 4}, "cuda", "stacked_sum"),
    (SHORT_GRADIENT | {"o": 5}, "cuda", "direct"),
    (SHORT_GRADIENT | {"n": 2}, "cuda", "direct"),
    (DEPTHWISE | GRADIENT | {"n": 1}, "cuda", "direct"),
    # TPU: groups of few channels become blocks
    (DEPTHWISE | HALF, "tpu", "direct"),
    (DEPTHWISE | HALF | {"i": 2}, "tpu", "block_diagonal"),
    (HALF | {"groups": 2, "i": 128, "o": 96}, "tpu", "block_diagonal"),
    (HALF | {"groups": 2, "i": 129, "o": 96}, "tpu", "direct"),
    (HALF | {"groups": 32, "i": 64, "o": 64}, "tpu", "block_diagonal"),  # 16 blocks
    (HALF | {"groups": 34, "i": 64, "o": 64}, "tpu", "direct"),
    (HALF | {"groups": 2, "window": (1, 1), "i": 64, "o": 256}, "tpu", "block_diagonal"),
    (HALF | {"groups": 2, "window": (1, 1), "i": 64, "o": 257}, "tpu", "direct"),
    (GRADIENT | HALF | {"groups": 4, "n": 32, "o": 32}, "tpu", "block_diagonal"),
    (GRADIENT | HALF | {"groups": 4, "n": 33, "o": 32}, "tpu", "direct"),
    (GRADIENT | HALF | {"groups": 4, "n": 8, "o": 8, "out_space": (1, 1)}, "tpu", "block_diagonal"),
    (
        GRADIENT | HALF | {"groups": 4, "n": 32, "o": 32, "out_space": (1, 1)},
        *("tpu", "block_diagonal"),
    ),
    (GRADIENT | HALF | {"groups": 4, "n": 33, "o": 32, "out_space": (1, 1)}, "tpu", "direct"),
    (GRADIENT | HALF | {"groups": 64, "n": 1, "o": 1}, "tpu", "direct"),
    # in 32 bits, if the inputs are many, the groups narrow, or one block has all
    ({"groups": 11, "i": 87, "o": 87}, "tpu", "block_diagonal"),
    ({"groups": 11, "i": 86, "o": 86}, "tpu", "direct"),
    ({"groups": 11, "i": 87, "o": 87, "strides": (2, 2)}, "tpu", "direct"),
    ({"groups": 32, "i": 16, "o": 16}, "tpu", "block_diagonal"),
    ({"groups": 32, "i": 16, "o": 17}, "tpu", "direct"),
    ({"groups": 2, "i": 64, "o": 64}, "tpu", "block_diagonal"),
    ({"groups": 3, "window": (1, 1), "i": 64, "o": 128}, "tpu", "block_diagonal"),
    ({"groups": 5, "window": (1, 1), "i": 64, "o": 77}, "tpu", "direct"),
    (GRADIENT | {"groups": 16, "n": 32, "o": 32}, "tpu", "block_diagonal"),
    (GRADIENT | {"groups": 4, "n": 32, "o": 32}, "tpu", "direct"),
    ({"groups": 4}, "tpus", "direct"),
    ({"input_dilation": (2, 2)}, "rocm", "direct"),
    # GPU: what XLA would copy, transpose, or fill up with zeros before it calls cuDNN
    (DEEP | {"window": (1, 3, 3), "padding": ((0, 0), (1, 1), (1, 1))}, "cuda", "reshaped"),
    (DEEP | {"window": (1, 3, 3), "padding": ((0, 0), (1, 1), (1, 1))}, "rocm", "reshaped"),
    (DEEP | {"window": (3, 1, 1), "padding": ((1, 1), (0, 0), (0, 0))}, "cuda", "reshaped"),
    (DEEP | {"window": (3, 3, 1), "padding": ((1, 1), (1, 1), (0, 0))}, "cuda", "direct"),
    (DEEP | {"window": (1, 3, 3), "images": "NCHW"}, "cuda", "direct"),
    (DEEP, "cuda", "direct"),
    (TILES, "cuda", "direct"),
    (LARGE_TILES, "cuda", "reshaped"),
    (LARGE_TILES | {"window": (17, 14), "space": (272, 224)}, "cuda", "direct"),
    (LARGE_TILES | {"images": "NCHW"}, "cuda", "direct"),
    (LARGE_TILED_OUTPUT | {"space": (15, 16)}, "cuda", "reshaped"),
    (LARGE_TILED_OUTPUT | {"space": (16, 16), "out_space": (256, 256)}, "cuda", "direct"),
    (LINE | GRADIENT_OF_A_DILATED_LINE, "cuda", "reshaped"),
    (LINE | GRADIENT_OF_A_DILATED_LINE | {"padding": ((3, 3),)}, "cuda", "direct"),
    (GRADIENT | {"input_dilation": (2, 2)}, "cuda", "commuted"),
    (GRADIENT | DEPTHWISE | {"input_dilation": (2, 2)}, "rocm", "commuted"),
    (GRADIENT | {"groups": 2, "input_dilation": (2, 2)} | HALF, "onednn amx", "commuted"),
    (GRADIENT | {"input_dilation": (2, 2), "images": ""}, "cuda", "direct"),
    (STRIDED | {"padding": ((1, 0), (1, 1))}, "cuda", "symmetric"),
    (STRIDED | {"padding": ((1, 0), (1, 1))}, "tpu", "direct"),
    (STRIDED | {"padding": ((0, 1), (1, 1))}, "cuda", "direct"),
    (DEPTHWISE | STRIDED | {"padding": ((0, 1), (1, 1))}, "cuda", "taps"),
    (DEPTHWISE | {"input_dilation": (2, 2)}, "rocm", "taps"),
    (DEPTHWISE | {"padding": ((0, 2), (1, 1)), "o": 2}, "cuda", "direct"),
    (DEPTHWISE | {"images": "NCHW"}, "cuda", "taps"),
    (DEPTHWISE | DEEP | {"images": "NCHW"}, "cuda", "direct"),
    (DEPTHWISE | DEEP, "cuda", "taps"),
    (DEPTHWISE | {"window": (32, 1), "padding": ((31, 0), (0, 0))}, "cuda", "taps"),
    (DEPTHWISE | {"window": (33, 1), "padding": ((32, 0), (0, 0))}, "cuda", "direct"),
]

# One CPU, compiled with oneDNN: as any CPU but for these.
ONEDNN = [
    ({}, "direct"),
    # 16-bit numbers that oneDNN computes wrongly: few channels, an even number of them, and rows of
    # the window of 32 numbers and more; rare geometry
    (HALF | {"i": 8, "window": (3, 4)}, "channels_last"),
    (HALF | {"i": 8, "window": (4, 3)}, "channels_last"),
    ({"i": 8, "window": (3, 4), "dtype": np.dtype("float16")}, "direct"),
    ({"strides": (2, 1), "dtype": np.dtype("float16")}, "channels_last"),
    (HALF | {"i": 7, "window": (3, 32)}, "direct"),
    (HALF | {"i": 8, "window": (3, 5)}, "direct"),
    (HALF | {"i": 14, "window": (3, 16)}, "channels_last"),
    (HALF | {"i": 16, "window": (3, 16)}, "direct"),
    ({"i": 8, "window": (3, 4)}, "direct"),
    (HALF | {"strides": (2, 1)}, "channels_last"),
    (HALF | {"window": (3, 1), "kernel_dilation": (1, 2), "padding": NONE}, "channels_last"),
    (HALF | {"window": (3, 1), "kernel_dilation": (2, 1), "padding": NONE}, "direct"),
    (HALF | {"window": (3, 1), "padding": ((1, 1), (0, 1))}, "channels_last"),
    (HALF | {"padding": ((2, 2), (3, 1)), "kernel_dilation": (1, 1)}, "channels_last"),
    (HALF | {"padding": ((2, 2), (3, 1)), "kernel_dilation": (1, 2)}, "direct"),
    (HALF | STRIDED, "direct"),
    (HALF | STRIDED | {"kernel_dilation": (2, 2)}, "channels_last"),
    (HALF | {"out_space": (28, 1)}, "channels_last"),
    (HALF | {"out_space": (1, 28)}, "direct"),
    ({"strides": (2, 1)}, "direct"),
    (CHANNELS, "direct"),
    (CHANNELS | {"o": 8}, "depth_sum"),  # few outputs
    (CHANNELS | {"o": 3}, "depth_sum"),
    (CHANNELS | {"o": 9}, "direct"),
    (CHANNELS | {"o": 8, "dtype": np.dtype(jnp.bfloat16)}, "direct"),
    (CHANNELS | {"o": 8, "window": (1, 3)}, "direct"),
    (CHANNELS | STRIDED, "direct"),
    ({"dtype": np.dtype("int32")}, "direct"),
    (CHANNELS | {"o": 21, "dtype": np.dtype("float64")}, "depth_sum"),
    (LINE, "direct"),
    (DEEP, "direct"),
    (DEEP | {"o": 8}, "depth_sum"),
    (DEEP | {"o": 9}, "direct"),
    (DEEP | {"i": 1, "o": 8}, "direct"),
    (DEEP | {"dtype": np.dtype("float64")}, "depth_sum"),
    (DEEP | {"dtype": np.dtype(jnp.bfloat16)}, "direct"),
    (DEEP | HALF | {"space": (1, 28, 28)}, "channels_last"),  # one plane, under several
    (DEEP | HALF | {"space": (2, 28, 28)}, "direct"),
    (
        DEEP | HALF | {"space": (1, 28, 28), "window": (1, 3, 3), "padding": (*NONE, (1, 1))},
        "direct",
    ),
    (DEEP | {"padding": ((-1, 2), (1, 1), (1, 1))}, "channels_last"),
    ({"channels_last": False, "role": "input_gradient"}, "channels_last"),
    (CHANNELS | {"o": 21, "channels_last": False, "role": "input_gradient"}, "channels_last"),
    (CROPPED, "channels_last"),
    ({"input_dilation": (2, 2)}, "polyphase"),
    (TILES, "direct"),
    (TILED_RESULTS, "patchify"),
    (
        TILED_RESULTS | {"window": (4, 4), "kernel_dilation": (7, 7), "out_space": (7, 7)},
        "patchify",
    ),
    (TILED_KERNEL, "patchify"),
    (DEEP_TILES, "direct"),
    (DEEP_TILES | {"dtype": np.dtype("float64")}, "patchify"),
    (DEEP_TILES | {"groups": 2}, "patchify"),
    ({"window": (1, 1)}, "direct"),
    ({"window": (1, 1), "role": "input_gradient"}, "matmul"),
    (GRADIENT | {"out_space": (1, 1)}, "matmul"),
    # groups
    (DEPTHWISE, "taps"),
    (DEPTHWISE | {"window": (4, 6)}, "taps"),
    (DEPTHWISE | {"window": (5, 5)}, "direct"),
    (DEPTHWISE | {"window": (6, 8)} | STRIDED, "taps"),
    (DEPTHWISE | {"window": (5, 5), "kernel_dilation": (2, 1)}, "direct"),
    (DEPTHWISE | DILATED | {"padding": ((9, 9), (4, 4))}, "direct"),
    (DEPTHWISE | DILATED | {"padding": ((0, 0), (0, 5))}, "taps"),
    (DEPTHWISE | DEEP | {"kernel_dilation": (1, 1, 2)}, "taps"),
    ({"groups": 2, "kernel_dilation": (2, 2), "padding": ((9, 9), (9, 9))}, "direct"),
    (DEPTHWISE | {"window": (7, 7)} | STRIDED, "direct"),
    (DEPTHWISE | {"window": (5, 5), "o": 2}, "taps"),
    (DEPTHWISE | {"window": (5, 5), "dtype": np.dtype(jnp.bfloat16)}, "taps"),
    (DEPTHWISE | {"window": (5, 5), "channels_last": False}, "channels_last"),
    (DEPTHWISE | FIRST | {"window": (6, 8)}, "taps"),
    (DEPTHWISE | FIRST | {"window": (7, 7)}, "channels_last"),
    (DEPTHWISE | FIRST | {"window": (6, 8)} | STRIDED, "taps"),
    (DEPTHWISE | FIRST | {"window": (7, 7)} | STRIDED, "channels_last"),
    (DEPTHWISE | FIRST | DILATED | {"padding": ((0, 0), (0, 5))}, "taps"),
    (DEPTHWISE | FIRST | {"window": (7, 7), "o": 2}, "taps"),
    (DEPTHWISE | DEEP, "direct"),
    (DEPTHWISE | LINE | {"space": (64,), "out_space": (64,), "window": (49,)}, "taps"),
    (DEPTHWISE | {"i": 4, "o": 4}, "direct"),
    (DEPTHWISE | {"i": 4, "o": 1}, "taps"),
    (DEPTHWISE | {"i": 4, "o": 4, "window": (2, 2)}, "taps"),
    (DEPTHWISE | {"i": 5, "o": 13, "window": (1, 1)}, "direct"),
    (DEPTHWISE | {"i": 4, "o": 4} | STRIDED, "direct"),
    (DEPTHWISE | {"i": 4, "o": 4, "channels_last": False}, "channels_last"),
    (DEPTHWISE | FIRST | {"i": 4, "o": 4}, "taps"),
    (DEPTHWISE | FIRST | {"i": 5, "o": 29, "window": (1, 1)}, "channels_last"),
    (DEPTHWISE | FIRST | {"i": 4, "o": 4} | STRIDED, "channels_last"),
    (FIRST | {"groups": 2}, "channels_last"),
    (DEPTHWISE | {"i": 4, "o": 4, "images": "", "channels_last": False}, "channels_last"),
    (DEPTHWISE | {"i": 4, "o": 4, "input_dilation": (2, 2)}, "polyphase"),
    ({"groups": 8, "input_dilation": (2, 2)}, "polyphase"),
    ({"groups": 8, "input_dilation": (2, 2), "dtype": np.dtype(jnp.bfloat16)}, "per_group"),
    ({"groups": 2}, "direct"),
    ({"groups": 2, "window": (1, 1)}, "direct"),
    ({"groups": 2, "dtype": np.dtype(jnp.bfloat16)}, "per_group"),
    ({"groups": 2} | STRIDED, "direct"),
    (DEEP | {"groups": 2}, "direct"),
    (DEPTHWISE | GRADIENT | {"n": 4, "o": 6}, "taps"),
    (DEPTHWISE | GRADIENT | {"n": 5, "o": 5}, "channels_last"),
    ({"groups": 2, "n": 32, "o": 32, "i": 2} | GRADIENT, "channels_last"),
    ({"groups": 2, "n": 27, "o": 38, "i": 2} | GRADIENT, "per_group"),
    ({"groups": 2, "input_dilation": (2, 2)} | GRADIENT, "commuted"),
    (
        {"groups": 2, "input_dilation": (2, 2), "dtype": np.dtype(jnp.bfloat16)} | GRADIENT,
        "per_group",
    ),
    ({"groups": 2, "dtype": np.dtype(jnp.bfloat16)} | GRADIENT, "per_group"),
    (DEEP | GRADIENT_OF_A_VOLUME | {"groups": 2}, "per_group"),
    (GRADIENT | {"groups": 2, "out_space": (1, 1)}, "per_group"),
    # gradients of kernels
    (CHANNELS | LARGE, "channels_last"),
    (CHANNELS | LARGE | {"window": (55, 57), "space": (55, 57)}, "spread_rows"),
    (CHANNELS | LARGE | {"window": (56, 57)}, "spread_rows"),  # longer than the input
    (CHANNELS | LARGE | {"window": (64, 64), "space": (64, 64)}, "channels_last"),
    (CHANNELS | LARGE | {"window": (64, 65), "space": (64, 65)}, "spread_rows"),
    (CHANNELS | LARGE | {"i": 1}, "depth_fold"),
    (CHANNELS | LARGE | {"dtype": np.dtype("float64")}, "direct"),
    (CHANNELS | LARGE | {"kernel_dilation": (2, 2)}, "spread_rows"),
    (CHANNELS | GRADIENT, "spread_rows"),
    (DEEP | GRADIENT_OF_A_VOLUME, "depth_fold"),
    (GRADIENT | {"input_dilation": (2, 2)}, "commuted"),
    (GRADIENT | {"input_dilation": (2, 2), "kernel_dilation": (2, 2)}, "polyphase"),
    (GRADIENT | {"input_dilation": (2, 2), "dtype": np.dtype("float64")}, "commuted"),
    (GRADIENT | DEPTHWISE | {"input_dilation": (2, 2)}, "commuted"),
    (LINE | LINE_GRADIENT | {"o": 128}, "spread_rows"),
    (LINE | LINE_GRADIENT | {"o": 127}, "channels_last"),
    (LINE | LINE_GRADIENT | {"o": 127, "window": (29,)}, "spread_rows"),
    (LINE | LINE_GRADIENT | {"o": 128, "kernel_dilation": (2,), "space": (56,)}, "channels_last"),
]

TABLE = [
    *((changes, "onednn", wanted) for changes, wanted in ONEDNN),
    *((changes, where, wanted) for changes, wanted in ANY_CPU for where in ONE_CPU),
    *(
        (changes, where, wanted)
        for changes, *row in (*PLANES, *UNEVEN)
        for where, wanted in zip(ONE_CPU, row, strict=True)
    ),
    *ELSEWHERE,
]


@pytest.mark.parametrize("changes, where, wanted", TABLE)
def test_select(changes, where, wanted):
    choice = select.select(problem(**changes), TARGETS[where])
    assert choice.name == wanted and choice.rule
    assert choice.runner_up != choice.name
    assert choice.runner_up or wanted == "direct"


# ---- the tables can fail -----------------------------------------------------------------------


def agrees():
    """Whether the rules as they stand give the whole table."""
    return all(
        select.select(problem(**changes), TARGETS[where]).name == wanted
        for changes, where, wanted in TABLE
    )


def test_the_tables_see_every_rule(monkeypatch):
    assert agrees()
    unseen = []
    for part in ("FAST", "TUNED"):
        for rule in getattr(rules, part):
            left = tuple(other for other in getattr(rules, part) if other is not rule)
            if part == "FAST" and rule.lowering is None:
                continue  # its exceptions are seen one by one
            with monkeypatch.context() as patch:
                patch.setattr(rules, part, left)
                if part == "FAST":  # exceptions stay
                    kept = [r._replace(lowering=None) if r is rule else r for r in rules.FAST]
                    patch.setattr(rules, part, (*left, *(r for r in kept if r not in left)))
                if agrees():
                    unseen.append(rule.name)
    assert not unseen


@pytest.mark.parametrize("name", thresholds.THRESHOLDS)
@pytest.mark.parametrize("side", ["lower", "higher"])
def test_the_tables_see_every_threshold(monkeypatch, name, side):
    threshold = thresholds.THRESHOLDS[name]
    step = 1 if isinstance(threshold.value, int) else 0.125
    large = threshold.value >= 1000
    lower, higher = threshold.value - step, threshold.value + step
    if large:
        lower, higher = 0.94 * threshold.value, 1.06 * threshold.value
    moved = dataclasses.replace(threshold, value=lower if side == "lower" else higher)
    monkeypatch.setattr(thresholds, name, moved)
    assert not agrees()


@pytest.mark.parametrize("guard", rules.CORRECT, ids=lambda guard: guard.name)
def test_guards_do_not_depend_on_preferences(monkeypatch, guard):
    """Without a single preference nothing that is wrong is chosen."""
    monkeypatch.setattr(rules, "FAST", ())
    monkeypatch.setattr(rules, "TUNED", ())
    monkeypatch.setattr(rules, "CORRECT", (guard,))
    replaced = 0
    for changes, where, _ in TABLE:
        asked, target = problem(**changes), TARGETS[where]
        name = select.select(asked, target).name
        if guard.where(target) and guard.holds(asked):
            assert name in guard.instead and name not in guard.wrong
            replaced += 1
        else:
            assert name == "direct"
    assert replaced


def test_rules_name_lowerings_and_rules():
    names = {rule.name for rule in rules.FAST}
    assert len(names) == len(rules.FAST)
    for rule in rules.FAST:
        assert rule.lowering is None or (rule.lowering in LOWERINGS and rule.why)
        assert rule.lowering or any(tuned.within == rule.name for tuned in rules.TUNED)
    for tuned in rules.TUNED:
        assert tuned.within in names and tuned.lowering in LOWERINGS and tuned.why
    for guard in rules.CORRECT:
        assert {*guard.wrong, *guard.instead} <= set(LOWERINGS)


def test_the_choice_reads_nothing_but_its_arguments(monkeypatch):
    """The same on another machine, with other flags."""
    before = [select.select(problem(**changes), TARGETS[where]) for changes, where, _ in TABLE]
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
    after = [select.select(problem(**changes), TARGETS[where]) for changes, where, _ in TABLE]
    assert before == after


# ---- words -------------------------------------------------------------------------------------


def test_what_was_not_measured_is_said():
    choice = select.select(problem(), Target.of("METAL"))
    assert choice.rule == "lax's own convolution: nothing else was measured on METAL"
    for platform in ("cuda", "rocm"):
        on_gpu = select.select(problem(), Target.of(platform))
        assert "compiled for an H200" in on_gpu.rule and on_gpu.rule.endswith(f"on {platform}")
    compiled = select.select(problem(), Target.of("tpu"))
    assert compiled.rule.endswith("fewer cycles by XLA's estimate for a tpu")
    measured = select.select(problem(), Target.of("cpu"))
    assert measured.rule == "lax's own convolution: nothing was measured to be faster on a cpu"


def test_symbolic_sizes_are_more_than_any_threshold():
    assert math.inf > max(threshold.value for threshold in thresholds.THRESHOLDS.values())


# What one device of several computes of a volume: rows of neighbours in place of padding.
WITH_HALO = {"space": (10, 8, 8), "padding": ((0, 0), (1, 1), (1, 1))}


@pytest.mark.parametrize(
    "changes, halo, algorithm, wanted",
    [
        (DEEP, WITH_HALO, None, "depth_sum"),  # as a whole `depth_fold`, for nothing is padded
        (DEEP, WITH_HALO, "depth_fold", "depth_fold"),
        (DEEP, WITH_HALO, ("direct", None, None), "direct"),
        (DEEP | GRADIENT_OF_A_VOLUME, WITH_HALO, None, "depth_fold"),
        (DEEP | GRADIENT_OF_A_VOLUME, WITH_HALO, ("direct", None, None), "depth_fold"),
        # The part alone would have another result: what the device computes decides.
        (DEEP | {"out_space": (6, 8, 8)}, WITH_HALO | {"out_space": (8, 8, 8)}, None, "depth_fold"),
        (DEPTHWISE, {}, None, "taps"),
        ({}, {}, None, "direct"),
        # What is chosen for the part alone would be wrong for what the device computes.
        ({}, CROPPED, None, "channels_last"),
        # The caller's lowering refuses what the device computes.
        (DEEP | {"window": (17, 3, 3)}, {}, "depth_sum", "depth_fold"),
    ],
)
def test_a_part_gets_what_one_device_would_get(changes, halo, algorithm, wanted):
    alone, actual = problem(**changes), problem(**changes | halo)
    assert select.of_part(alone, actual, algorithm, TARGETS["0.12"]).name == wanted
    if algorithm is None:
        assert select.of_part(alone, actual, algorithm, TARGETS["cuda"]).name == "direct"
