"""Sections 2 to 4: one channel, many channels, three dimensions, 1 x 1."""

import jax.numpy as jnp
import numpy as np

import convjax
from convjax import draw
from convjax.draw import Drawing
from convjax.draw.boxes import box
from convjax.draw.scene import Item, Path, Rect, Text, fitted
from figures.registry import beside, figure, grey, photograph, pictures

INPUT = np.array(
    [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
)
FILTER = np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]])


@figure("F4", "2.1", moving=True)
def one_channel():
    """A 3×3 filter slides over a 5×5 input; each position gives one number."""
    return draw.arithmetic("dense", (5, 5), 3, padding="VALID", x=INPUT, kernels=FILTER)


@figure("F5", "2.2")
def rgb_planes():
    """The red, green and blue channels of a photograph."""
    photo = photograph()
    named = [("photograph", np.round(photo * 255).astype(np.uint8))]
    named += [
        (f"channel {c}: {n}", grey(photo[..., c], 0, 1))
        for c, n in enumerate(("red", "green", "blue"))
    ]
    return pictures(
        "An image is a layer of three channels", named, "Each channel is one matrix of numbers."
    )


@figure("F6", "2.2")
def words():
    """Layer and filter are on one level; channel and kernel are one level below."""
    items: list[Item] = []
    items += list(box(0, 30, 110, 110, 70, 3, "input"))
    items += list(box(330, 55, 60, 60, 70, 3, "kernel"))
    for x, over, part in (
        (0, "a layer", "its channels (feature maps)"),
        (330, "a filter", "its kernels"),
    ):
        items.append(Text(x, 176, over, "ink", 14, "start", bold=True))
        items.append(Text(x, 196, f"consists of {part}", "quiet", 12, "start"))
        for number in range(3):
            side = 60 if x == 0 else 36
            left = x + number * (side + 10)
            items.append(Rect(left, 216, side, side, f"group-{number}", radius=2))
    items.append(Path(((222, 90), (312, 90)), "arrow", arrow=True))
    items.append(Text(267, 82, "is read by", "quiet", 12))
    items.append(
        Text(
            0,
            312,
            "one kernel per channel: a filter is as deep as the layer that it reads",
            "ink",
            13,
            "start",
        )
    )
    said = "A layer consists of channels, a filter of kernels, one for every channel that it reads."
    return Drawing(fitted("Layer and channels, filter and kernels", said, items))


def _three_channels():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 4, (5, 5, 3))
    kernels = rng.integers(0, 3, (3, 3, 3))
    return x, kernels


@figure("F7", "2.2", moving=True)
def each_channel():
    """Step 1: every kernel of the filter convolves one channel."""
    x, kernels = _three_channels()
    return draw.arithmetic(
        "depthwise", (5, 5), 3, padding="VALID", x=x, kernels=kernels[:, :, None, :]
    )


@figure("F8", "2.2", moving=True)
def sum_of_channels():
    """Step 2: the three maps are added to one."""
    x, kernels = _three_channels()
    maps = convjax.depthwise_conv(
        jnp.asarray(x[None], jnp.float32),
        jnp.asarray(kernels[:, :, None, :], jnp.float32),
        padding="VALID",
    )
    return draw.arithmetic(
        "pointwise",
        (3, 3),
        in_features=3,
        out_features=1,
        x=np.asarray(maps)[0],
        kernels=np.ones((1, 1, 3, 1)),
    )


@figure("F9", "2.2")
def one_filter():
    """One filter as deep as its input moves in two directions and makes one map."""
    options = {"in_features": 3, "out_features": 1, "padding": "VALID"}
    return draw.layer("dense", (7, 7), 3, title="one filter of three kernels", **options)


@figure("F10", "2.2")
def many_filters():
    """Dout filters of Din kernels make Dout channels."""
    options = {"in_features": 3, "out_features": 8, "padding": "VALID"}
    return draw.layer("dense", (7, 7), 3, title="eight filters of three kernels", **options)


@figure("F11", "3", moving=True)
def three_dimensions():
    """A filter that is less deep than the volume moves in three directions."""
    return draw.arithmetic("dense", (3, 4, 4), 2, padding="VALID")


@figure("F12", "4")
def one_by_one():
    """A 1×1 convolution mixes the channels at every pixel, and mixes no pixels."""
    photo = photograph()
    weights = np.array([1.0, -0.5, -0.5])
    kernel = jnp.asarray(weights, jnp.float32).reshape(1, 1, 3, 1)
    out = np.asarray(convjax.pointwise_conv(jnp.asarray(photo[None]), kernel))[0, ..., 0]
    named = [
        ("3 channels", np.round(photo * 255).astype(np.uint8)),
        ("1 channel: red − (green + blue)/2", grey(out)),
    ]
    shown = pictures(
        "The same on a photograph", named, "Red flowers become light, everything else dark."
    )
    boxes = draw.layer("pointwise", (8, 8), in_features=6, out_features=2, title="1×1×6 filters")
    return beside("1×1 convolution", boxes, shown)
