"""The same call in other libraries: for every kind, what computes the same numbers there.

Each piece of code is given `x` and the kernels by the names in `KERNELS`, as numpy arrays in this
library's layout, and leaves its result in `theirs`. `tests/tools/test_docs.py` runs all of them and
compares. A library that has no function for a kind is composed from what it has.
"""

KERNELS = {
    "depthwise_separable": ("depthwise_kernel", "pointwise_kernel"),
    "spatially_separable": ("vertical_kernel", "horizontal_kernel"),
    "flattened": ("lateral_kernel", "vertical_kernel", "horizontal_kernel"),
}

# the arguments after x and before the options
ARGUMENTS = {
    "dilated": "kernel, 2",
    "spatially_separable": "[vertical_kernel, horizontal_kernel]",
    "depthwise_separable": "depthwise_kernel, pointwise_kernel",
    "flattened": "lateral_kernel, [vertical_kernel, horizontal_kernel]",
    "grouped": "kernel, groups=3",
    "channel_shuffle": "3",
    "shuffled_grouped": "kernel, groups=3",
    "pointwise_grouped": "kernel, groups=3",
    "resize": "kernel, 2",
    "pixel_shuffle": "2",
    "subpixel": "kernel, 2",
    "hold": "2",
}

_TORCH = """\
import torch
import torch.nn.functional as F

image = torch.tensor(x).permute(0, 3, 1, 2)  # (N, I, H, W)
"""
_LAX = "from jax import lax\n\n"
_NUMBERS = 'dimension_numbers=("NHWC", "HWIO", "NHWC")'
_NNX = "from flax import nnx\n\n"
_KERAS = "import keras\n\n"


def _weight(kind: str, kernel: str = "kernel", options: str = "", name: str = "weight") -> str:
    return f'{name} = torch.tensor(interop.kernel_to("torch", {kernel}, "{kind}"{options}))\n'


def _lax(kernel: str = "kernel", options: str = "", x: str = "x") -> str:
    return f'lax.conv_general_dilated(\n    {x}, {kernel}, (1, 1), "VALID", {options}{_NUMBERS}\n)'


def _layer(arguments: str, kernel: str = "kernel", name: str = "layer", of: str = "Conv") -> str:
    return (
        f'{name} = nnx.{of}(\n    {arguments}, padding="VALID", use_bias=False, rngs=nnx.Rngs(0)\n)'
        f"\n{name}.kernel[...] = {kernel}\n"
    )


_SHUFFLE = "{0}.reshape(*{0}.shape[:-1], 3, -1).swapaxes(-1, -2).reshape({0}.shape)"
_SHUFFLE_KERAS = (
    "split = keras.ops.reshape({0}, (*{0}.shape[:-1], 3, -1))\n"
    "theirs = keras.ops.reshape(keras.ops.swapaxes(split, -1, -2), {0}.shape)"
)
# pixels, out of channels: (N, H, W, C * r * r) to (N, H * r, W * r, C)
_PIXELS = (
    "n, h, w, c = y.shape\nblocks = y.reshape(n, h, w, c // 4, 2, 2)\n"
    "theirs = blocks.transpose(0, 1, 4, 2, 5, 3).reshape(n, 2 * h, 2 * w, c // 4)"
)
_PIXELS_KERAS = (
    "n, h, w, c = y.shape\nblocks = keras.ops.reshape(y, (n, h, w, c // 4, 2, 2))\n"
    "blocks = keras.ops.transpose(blocks, (0, 1, 4, 2, 5, 3))\n"
    "theirs = keras.ops.reshape(blocks, (n, 2 * h, 2 * w, c // 4))"
)

CALLS: dict[str, dict[str, str]] = {
    "dense": {
        "PyTorch": _TORCH + _weight("dense") + "theirs = F.conv2d(image, weight)",
        "Flax": _NNX + _layer("6, 9, (3, 2)") + "theirs = layer(x)",
        "lax": _LAX + "theirs = " + _lax(),
        "Keras": _KERAS + "theirs = keras.ops.conv(x, kernel)",
    },
    "pointwise": {
        "PyTorch": _TORCH + _weight("pointwise") + "theirs = F.conv2d(image, weight)",
        "Flax": _NNX + _layer("6, 9, (1, 1)") + "theirs = layer(x)",
        "lax": _LAX + "theirs = " + _lax(),
        "Keras": _KERAS + "theirs = keras.ops.conv(x, kernel)",
    },
    "dilated": {
        "PyTorch": _TORCH + _weight("dilated") + "theirs = F.conv2d(image, weight, dilation=2)",
        "Flax": _NNX + _layer("6, 9, (3, 2), kernel_dilation=2") + "theirs = layer(x)",
        "lax": _LAX + "theirs = " + _lax(options="rhs_dilation=(2, 2), "),
        "Keras": _KERAS + "theirs = keras.ops.conv(x, kernel, dilation_rate=2)",
    },
    "transposed": {
        "PyTorch": _TORCH + _weight("transposed") + "theirs = F.conv_transpose2d(image, weight)",
        "Flax": _NNX
        + _layer("6, 9, (3, 2), transpose_kernel=True", of="ConvTranspose")
        + "theirs = layer(x)",
        "lax": _LAX
        + 'theirs = lax.conv_transpose(x, kernel, (1, 1), "VALID", transpose_kernel=True)',
        "Keras": _KERAS + "theirs = keras.ops.conv_transpose(x, kernel, strides=1)",
    },
    "spatially_separable": {
        "PyTorch": _TORCH
        + _weight("dense", "vertical_kernel", name="vertical")
        + _weight("dense", "horizontal_kernel", name="horizontal")
        + "theirs = F.conv2d(F.conv2d(image, vertical), horizontal)",
        "Flax": _NNX
        + _layer("6, 5, (3, 1)", "vertical_kernel", "vertical")
        + _layer("5, 9, (1, 2)", "horizontal_kernel", "horizontal")
        + "theirs = horizontal(vertical(x))",
        "lax": _LAX + f"y = {_lax('vertical_kernel')}\ntheirs = {_lax('horizontal_kernel', x='y')}",
        "Keras": _KERAS
        + "y = keras.ops.conv(x, vertical_kernel)\ntheirs = keras.ops.conv(y, horizontal_kernel)",
    },
    "depthwise": {
        "PyTorch": _TORCH + _weight("depthwise") + "theirs = F.conv2d(image, weight, groups=6)",
        "Flax": _NNX + _layer("6, 12, (3, 2), feature_group_count=6") + "theirs = layer(x)",
        "lax": _LAX + "theirs = " + _lax(options="feature_group_count=6, "),
        "Keras": _KERAS
        + "theirs = keras.ops.depthwise_conv(x, kernel.reshape(3, 2, 6, 2))  # (KH, KW, I, M)",
    },
    "depthwise_separable": {
        "PyTorch": _TORCH
        + _weight("depthwise", "depthwise_kernel", name="depthwise")
        + _weight("pointwise", "pointwise_kernel", name="pointwise")
        + "theirs = F.conv2d(F.conv2d(image, depthwise, groups=6), pointwise)",
        "Flax": _NNX
        + _layer("6, 12, (3, 2), feature_group_count=6", "depthwise_kernel", "depthwise")
        + _layer("12, 9, (1, 1)", "pointwise_kernel", "pointwise")
        + "theirs = pointwise(depthwise(x))",
        "lax": _LAX
        + f"y = {_lax('depthwise_kernel', 'feature_group_count=6, ')}\n"
        + f"theirs = {_lax('pointwise_kernel', x='y')}",
        "Keras": _KERAS
        + "theirs = keras.ops.separable_conv(\n"
        + "    x, depthwise_kernel.reshape(3, 2, 6, 2), pointwise_kernel\n)",
    },
    "flattened": {
        "PyTorch": _TORCH
        + _weight("pointwise", "lateral_kernel", name="lateral")
        + _weight("depthwise", "vertical_kernel", name="vertical")
        + _weight("depthwise", "horizontal_kernel", name="horizontal")
        + "y = F.conv2d(F.conv2d(image, lateral), vertical, groups=9)\n"
        + "theirs = F.conv2d(y, horizontal, groups=9)",
        "Flax": _NNX
        + _layer("6, 9, (1, 1)", "lateral_kernel", "lateral")
        + _layer("9, 9, (3, 1), feature_group_count=9", "vertical_kernel", "vertical")
        + _layer("9, 9, (1, 2), feature_group_count=9", "horizontal_kernel", "horizontal")
        + "theirs = horizontal(vertical(lateral(x)))",
        "lax": _LAX
        + f"y = {_lax('lateral_kernel')}\n"
        + f"y = {_lax('vertical_kernel', 'feature_group_count=9, ', x='y')}\n"
        + f"theirs = {_lax('horizontal_kernel', 'feature_group_count=9, ', x='y')}",
        "Keras": _KERAS
        + "y = keras.ops.conv(x, lateral_kernel)\n"
        + "y = keras.ops.depthwise_conv(y, vertical_kernel.reshape(3, 1, 9, 1))\n"
        + "theirs = keras.ops.depthwise_conv(y, horizontal_kernel.reshape(1, 2, 9, 1))",
    },
    "grouped": {
        "PyTorch": _TORCH
        + _weight("grouped", options=", groups=3")
        + "theirs = F.conv2d(image, weight, groups=3)",
        "Flax": _NNX + _layer("6, 9, (3, 2), feature_group_count=3") + "theirs = layer(x)",
        "lax": _LAX + "theirs = " + _lax(options="feature_group_count=3, "),
        "Keras": _KERAS + "theirs = keras.ops.conv(x, kernel)  # the groups follow from the kernel",
    },
    "channel_shuffle": {
        "PyTorch": _TORCH + "theirs = torch.nn.ChannelShuffle(3)(image)",
        "Flax": "theirs = " + _SHUFFLE.format("x") + "  # Flax has no function for it",
        "lax": "theirs = " + _SHUFFLE.format("x") + "  # lax has no function for it",
        "Keras": _KERAS + _SHUFFLE_KERAS.format("x"),
    },
    "shuffled_grouped": {
        "PyTorch": _TORCH
        + _weight("grouped", options=", groups=3")
        + "theirs = torch.nn.ChannelShuffle(3)(F.conv2d(image, weight, groups=3))",
        "Flax": _NNX
        + _layer("6, 9, (3, 2), feature_group_count=3")
        + "y = layer(x)\ntheirs = "
        + _SHUFFLE.format("y"),
        "lax": _LAX
        + f"y = {_lax(options='feature_group_count=3, ')}\ntheirs = "
        + _SHUFFLE.format("y"),
        "Keras": _KERAS + "y = keras.ops.conv(x, kernel)\n" + _SHUFFLE_KERAS.format("y"),
    },
    "pointwise_grouped": {
        "PyTorch": _TORCH
        + _weight("pointwise_grouped", options=", groups=3")
        + "theirs = F.conv2d(image, weight, groups=3)",
        "Flax": _NNX + _layer("6, 9, (1, 1), feature_group_count=3") + "theirs = layer(x)",
        "lax": _LAX + "theirs = " + _lax(options="feature_group_count=3, "),
        "Keras": _KERAS + "theirs = keras.ops.conv(x, kernel)  # the groups follow from the kernel",
    },
    "resize": {
        "PyTorch": _TORCH
        + _weight("dense")
        + 'theirs = F.conv2d(F.interpolate(image, scale_factor=2, mode="nearest"), weight)',
        "Flax": _NNX
        + _layer("6, 9, (3, 2)")
        + "theirs = layer(x.repeat(2, axis=1).repeat(2, axis=2))",
        "lax": _LAX
        + "y = x.repeat(2, axis=1).repeat(2, axis=2)  # nearest neighbours\n"
        + "theirs = "
        + _lax(x="y"),
        "Keras": _KERAS + "theirs = keras.ops.conv(keras.layers.UpSampling2D(2)(x), kernel)",
    },
    "pixel_shuffle": {
        "PyTorch": _TORCH + "theirs = F.pixel_shuffle(image, 2)",
        "Flax": "y = x  # Flax has no function for it\n" + _PIXELS,
        "lax": "y = x  # lax has no function for it\n" + _PIXELS,
        "Keras": _KERAS + "y = x\n" + _PIXELS_KERAS,
    },
    "subpixel": {
        "PyTorch": _TORCH
        + _weight("dense")
        + "theirs = F.pixel_shuffle(F.conv2d(image, weight), 2)",
        "Flax": _NNX + _layer("6, 36, (3, 2)") + "y = layer(x)\n" + _PIXELS,
        "lax": _LAX + f"y = {_lax()}\n" + _PIXELS,
        "Keras": _KERAS + "y = keras.ops.conv(x, kernel)\n" + _PIXELS_KERAS,
    },
    "hold": {
        "PyTorch": _TORCH + "theirs = F.avg_pool2d(image, 2, stride=1)",
        "Flax": "from flax import nnx\n\n"
        + 'theirs = nnx.avg_pool(x, (2, 2), strides=(1, 1), padding="VALID")',
        "lax": _LAX
        + 'sums = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")\n'
        + "theirs = sums / 4",
        "Keras": _KERAS + "theirs = keras.ops.average_pool(x, 2, strides=1)",
    },
}
