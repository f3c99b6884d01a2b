"""Every error of the kinds: from the function called, in the caller's words, traced or not."""

import jax
import numpy as np
import pytest

import convjax


def a(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


X = a(1, 7, 7, 6)
PAIR = (a(3, 1, 6, 4), a(1, 3, 4, 5))
ERRORS = [
    # groups
    (
        "grouped_conv",
        (X, a(3, 3, 2, 8), 4),
        r"`groups` \(=4\) must divide the channels of `x` \(=6\)",
    ),
    ("grouped_conv", (X, a(3, 3, 2, 8), 3), r"`groups` \(=3\) must divide the output channels"),
    ("grouped_conv", (X, a(3, 3, 6, 9), 3), r"`kernel` \(=\(3, 3, 6, 9\)\) must have 2 input"),
    ("grouped_conv", (X, a(3, 3, 2, 9), 0), r"`groups` \(=0\) must be at least 1"),
    (
        "grouped_conv",
        (a(1, 6, 7, 7), a(3, 3, 2, 9), 3),
        r"`groups` \(=3\) .*`x` looks channels-first",
    ),
    (
        "pointwise_grouped_conv",
        (X, a(3, 1, 2, 9), 3),
        r"`kernel` .*extent 1 .*not \(3, 1\).*use `gr",
    ),
    ("pointwise_grouped_conv", (X, a(1, 1, 2, 9), 4), r"`groups` \(=4\) must divide"),
    ("shuffled_grouped_conv", (X, a(3, 3, 2, 9), 4), r"`groups` \(=4\) must divide"),
    (
        "depthwise_conv",
        (X, a(3, 3, 6, 2)),
        r"`kernel` \(=\(3, 3, 6, 2\)\) must have 1 .*TensorFlow",
    ),
    (
        "depthwise_conv",
        (X, a(3, 3, 1, 8)),
        r"`kernel` .*a multiple of 6 .*as `x` has 6, not 1 and 8",
    ),
    ("depthwise_conv", (a(1, 6, 7, 7), a(3, 3, 1, 6)), "on another axis: see `dimension_numbers`"),
    ("depthwise_conv", (a(7, 7, 6), a(3, 3, 1, 6)), r"`x` .*must have 4 axes.*`jax.vmap`"),
    ("depthwise_conv", (a(7, 6), a(3, 1, 6)), r"`x` \(=\(7, 6\)\) must have 3 axes.*`x\[None\]`"),
    ("channel_shuffle", (X, 4), r"`groups` \(=4\) must divide the channels of `x` \(=6\)"),
    ("channel_shuffle", (X, 0), r"`groups` \(=0\) must be at least 1"),
    ("channel_unshuffle", (X, 5), r"`groups` \(=5\) must divide"),
    # stages
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 6, 1), a(1, 1, 6, 8)),
        r"`depthwise_kernel` \(=\(3, 3",
    ),
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 1, 12), a(1, 1, 6, 8)),
        r"`pointwise_kernel` .*must have 12 input channels, as many as `depthwise_kernel` gives",
    ),
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 1, 6), a(3, 3, 6, 8)),
        r"`pointwise_kernel` \(=\(3, 3, 6, 8\)\) must have extent 1",
    ),
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 1, 6), a(6, 8)),
        r"`pointwise_kernel` .*must have 4 axes",
    ),
    (
        "spatially_separable_conv",
        (X, PAIR[:1]),
        r"`kernels` .*one kernel per spatial axis of `x`, 2",
    ),
    (
        "spatially_separable_conv",
        (X, PAIR[::-1]),
        r"`kernels\[0\]` .*extent 1 .*but 0.*in the order",
    ),
    (
        "spatially_separable_conv",
        (X, (PAIR[0], a(1, 3, 3, 5))),
        r"`kernels\[1\]` .*must have 4 input channels, as many as `kernels\[0\]` gives, not 3",
    ),
    (
        "spatially_separable_conv",
        (X, (a(3, 1, 5, 4), PAIR[1])),
        r"`kernels\[0\]` .*must have 6 input",
    ),
    (
        "spatially_separable_conv",
        (X, (PAIR[0], a(1, 0, 4, 5))),
        r"`kernels\[1\]` .*at least one tap",
    ),
    (
        "flattened_conv",
        (X, a(1, 1, 6, 8), (a(3, 1, 1, 8), a(1, 3, 8, 8))),
        r"`spatial_kernels\[1\]` .*must have 1 input channel and 8 output .*as `lateral_kernel` gi",
    ),
    (
        "flattened_conv",
        (X, a(1, 1, 5, 8), (a(3, 1, 1, 8), a(1, 3, 1, 8))),
        r"`lateral_kernel` .*6 inp",
    ),
    (
        "flattened_conv",
        (X, a(3, 1, 6, 8), (a(3, 1, 1, 8), a(1, 3, 1, 8))),
        r"`lateral_kernel` .*exten",
    ),
    # up-sampling
    ("resize", (X, 0), r"`scale` \(=0\) must be at least 1"),
    ("resize", (X, (2, 2, 2)), r"`scale` .*must have one entry per spatial axis \(2\)"),
    ("resize", (a(7, 6), 2), r"`x` \(=\(7, 6\)\) must have a batch axis"),
    ("resize_conv", (X, a(3, 3, 5, 8), 2), r"`kernel` .*must have 6 input channels"),
    ("resize_conv", (X, a(3, 3, 6, 8), 0), r"`scale` \(=0\) must be at least 1"),
    (
        "pixel_shuffle",
        (X, 2),
        r"`scale` \(=2\) must divide the channels of `x` \(=6\) by its product.*4",
    ),
    ("pixel_shuffle", (X, 0), r"`scale` \(=0\) must be at least 1"),
    (
        "pixel_unshuffle",
        (X, 2),
        r"`scale` \(=2\) must divide the spatial extents of `x` \(=\(7, 7\)\)",
    ),
    (
        "subpixel_conv",
        (X, a(3, 3, 6, 6), 2),
        r"`scale` \(=2\) must divide the output channels .*=6",
    ),
    ("subpixel_conv", (X, a(3, 3, 5, 8), 2), r"`kernel` .*must have 6 input channels"),
    ("hold", (X, 0), r"`size` \(=0\) must be at least 1"),
    ("hold", (a(1, 7, 7, 0), 2), r"`x` .*must have at least one channel"),
]
KEYWORD_ERRORS = [
    (
        "channel_shuffle",
        (X, 2),
        {"axis": 4},
        r"`axis` \(=4\) must be an axis of `x`, which has 4 axes",
    ),
    (
        "depthwise_conv",
        (X, a(9, 1, 1, 6)),
        {"padding": "VALID"},
        r"`kernel` .*larger than the padded",
    ),
    (
        "spatially_separable_conv",
        (X, (PAIR[0], a(1, 9, 4, 5))),
        {"padding": "VALID"},
        r"`kernels\[1\]` \(=\(1, 9\)\) is larger than the padded input on spatial axis 1",
    ),
    ("spatially_separable_conv", (X, PAIR), {"strides": 0}, r"`strides` \(=0\) must be at least 1"),
    ("spatially_separable_conv", (X, PAIR), {"kernel_dilation": -1}, r"`kernel_dilation` \(=-1\)"),
    ("spatially_separable_conv", (X, PAIR), {"padding": "same"}, r"`padding` .*one of .*\"SAME\""),
    ("spatially_separable_conv", (X, PAIR), {"padding": (1, 2, 3)}, r"`padding` \(=\(1, 2, 3\)\)"),
    ("spatially_separable_conv", (X, PAIR), {"padding_mode": "mirror"}, "`padding_mode` .*one of"),
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 1, 6), a(1, 1, 6, 8)),
        {"strides": (1, 0)},
        "`strides`",
    ),
    (
        "resize",
        (X, 2),
        {"method": "cubic"},
        r"`method` \(='cubic'\) must be one of \"nearest\", \"bil",
    ),
    ("resize_conv", (X, a(3, 3, 6, 8), 2), {"method": "NEAREST"}, r"`method` .*mean \"nearest\""),
    (
        "resize_conv",
        (X, a(15, 15, 6, 8), 2),
        {"padding": "VALID"},
        "`kernel` .*larger than the padded",
    ),
    ("hold", (X, 2), {"order": -1}, r"`order` \(=-1\) must be at least 0"),
    ("hold", (X, 9), {"padding": "VALID"}, r"`size` .*larger than the padded input"),
    ("hold", (X, 2), {"dimension_numbers": ("NCHW", "OIHW", "NCHH")}, "`dimension_numbers`"),
]
TYPE_ERRORS = [
    ("grouped_conv", (X, a(3, 3, 2, 9), 3.0), {}, r"`groups` \(=3.0\) must be an integer"),
    ("grouped_conv", (X.tolist(), a(3, 3, 2, 9), 3), {}, "`x` must be an array, not list"),
    ("channel_shuffle", ([1, 2], 2), {}, "`x` must be an array, not list"),
    (
        "spatially_separable_conv",
        (X, PAIR[0]),
        {},
        "`kernels` .*must be a list or tuple of kernels",
    ),
    (
        "spatially_separable_conv",
        (X, (PAIR[0], None)),
        {},
        r"`kernels\[1\]` must be an array, not None",
    ),
    (
        "spatially_separable_conv",
        (X, (PAIR[0], PAIR[1].astype(np.float16))),
        {},
        r"`x` \(float32\) and `kernels\[1\]` \(float16\) must have one dtype",
    ),
    ("flattened_conv", (X, a(1, 1, 6, 8), a(3, 1, 1, 8)), {}, "`spatial_kernels` .*must be a list"),
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 1, 6, dtype=np.int32), a(1, 1, 6, 8)),
        {},
        r"`x` \(float32\) and `depthwise_kernel` \(int32\) .*`depthwise_kernel.astype\(x.dtype\)`",
    ),
    ("resize", (X, 1.5), {}, r"`scale` \(=1.5\) must be an integer"),
    (
        "resize",
        (X.astype(np.int32), 2),
        {"method": "bilinear"},
        "`x` .*int32.* must have a floating",
    ),
    ("pixel_shuffle", (X, "2"), {}, r"`scale` \(='2'\) must be an integer"),
    ("hold", (X.astype(np.int8), 2), {}, "`x` .*int8.* must have a floating dtype: averages"),
    ("hold", (X, 2), {"order": 0.5}, r"`order` \(=0.5\) must be an integer"),
    ("depthwise_conv", (X, a(3, 3, 1, 6)), {"algorithm": 7}, "`algorithm` .*must be None"),
]


@pytest.mark.parametrize(
    ("error", "name", "arguments", "options", "words"),
    [
        *((ValueError, name, arguments, {}, words) for name, arguments, words in ERRORS),
        *((ValueError, *case) for case in KEYWORD_ERRORS),
        *((TypeError, *case) for case in TYPE_ERRORS),
    ],
)
def test_errors(error, name, arguments, options, words):
    """In the caller's words, from the function called, the same when traced."""
    function = getattr(convjax, name)
    leaves, tree = jax.tree.flatten(arguments, is_leaf=lambda leaf: leaf is None)
    where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray)]

    def call(*arrays):
        merged = [*leaves]
        for place, array in zip(where, arrays, strict=True):
            merged[place] = array
        return function(*tree.unflatten(merged), **options)

    arrays = [leaves[place] for place in where]
    for run in (call, jax.jit(call), lambda *arrays: jax.eval_shape(call, *arrays)):
        with pytest.raises(error, match=f"(?s)^{name}: {words}" if words[0] == "`" else words):
            run(*arrays)
