"""What the photograph shows of each kind: kernels chosen so that a reader sees what it does.

A recipe takes the two photographs and returns what is `Shown`. A kind that has none is shown on
random integers.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

import convjax
from convjax.kinds import Kind
from experiments.article.photo.applied import (
    EDGE,
    GREY,
    SEPIA,
    SOBEL,
    Photos,
    Shown,
    applied,
    each,
    gauss,
    positive,
    result,
)
from experiments.page.figures import photo, pixels, response
from experiments.run.measure import call


def dense(photos: Photos) -> Shown:
    bell = np.outer(gauss(7), gauss(7))
    slope = np.outer(gauss(7), np.linspace(-1, 1, 7))
    filters = zip((slope, slope.T, bell), (GREY, GREY, (1.0, 0.0, -1.0)), strict=True)
    kernel = np.stack([k[:, :, None] * np.array(colours) for k, colours in filters], -1)
    example = applied("dense", photos.one, [kernel])
    y = result(example, **EDGE)
    labels = ("right minus left", "below minus above", "red minus blue")
    return Shown(
        example,
        [photo("input: 3 channels", photos.one[0])]
        + [response(f"output {c + 1}: {label}", y[..., c]) for c, label in enumerate(labels)],
        "Three filters, each as deep as the picture: every output channel looks at red, green and "
        "blue through its own 7×7 window and adds everything up to one number per pixel. The first "
        "two find edges, the third finds the orange suit.",
        EDGE,
    )


def pointwise(photos: Photos) -> Shown:
    kernel = np.concatenate([np.array(SEPIA), np.array(GREY)[:, None]], -1)
    example = applied("pointwise", photos.one, [kernel[None, None]])
    y = result(example)
    return Shown(
        example,
        [
            photo("input: 3 channels", photos.one[0]),
            photo("outputs 1–3 as red, green, blue", y[..., :3]),
            photo("output 4: one channel", y[..., 3]),
        ],
        "Every pixel by itself: its three colours are multiplied by a 3×4 matrix. No edge moves "
        "and nothing is blurred, because no pixel sees its neighbours. The last output packs "
        "three channels into one.",
    )


def dilated(photos: Photos) -> Shown:
    kernel = SOBEL[:, :, None, None] * np.array(GREY)[:, None]
    examples = {
        step: applied("dilated", photos.one, [kernel], kernel_dilation=step) for step in (1, 4, 12)
    }
    return Shown(
        examples[4],
        [photo("input", photos.one[0])]
        + [
            response(f"l = {step}: sees {2 * step + 1}×{2 * step + 1}", result(e, **EDGE)[..., 0])
            for step, e in examples.items()
        ],
        "The same nine weights (a Sobel kernel: right minus left), spread further and further "
        "apart. Close together they find fine lines; far apart they compare whole areas, and fine "
        "detail appears twice. The cost is the same.",
        EDGE,
    )


def transposed(photos: Photos) -> Shown:
    x = photos.detail
    spatial = {
        "size 3, all ones": np.ones((3, 3)) * 4 / 9,
        "size 4, bilinear": np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16,
        "size 4, random": positive(4) * 4,
    }
    examples = [applied("transposed", x, [each(k)], out_features=3) for k in spatial.values()]
    return Shown(
        examples[0],
        [
            pixels(f"input, {x.shape[1]}×{x.shape[2]}", x[0], 240),
            *(
                pixels(label, result(example, strides=2), 240)
                for label, example in zip(spatial, examples, strict=True)
            ),
        ],
        "Every pixel of the small picture paints a copy of the kernel, two pixels apart. Size 3 is "
        "not divisible by the stride 2: some pixels are painted once, some twice or four times, "
        "and a checkerboard appears. Size 4 with smooth weights shows none; size 4 with random "
        "weights does, although every pixel is painted four times.",
        {"strides": 2},
    )


def spatially_separable(photos: Photos) -> Shown:
    kernels = [each(gauss(31)[:, None]), each(gauss(31)[None, :])]
    example = applied("spatially_separable", photos.one, kernels)
    half = convjax.conv(photos.one, example.kernels[0], **EDGE)
    return Shown(
        example,
        [
            photo("input", photos.one[0]),
            photo("after the 31×1 kernel", half[0]),
            photo("after the 1×31 kernel too", result(example, **EDGE)),
        ],
        "A round blur of 31×31 pixels in two steps, first up and down, then left and right. After "
        "the first step vertical lines are still sharp. 31 + 31 taps do the work of 961.",
        EDGE,
    )


def depthwise(photos: Photos) -> Shown:
    kernel = np.zeros((21, 21, 1, 3))
    kernel[10, :, 0, 0] = kernel[:, 10, 0, 1] = 1 / 21
    kernel[10, 10, 0, 2] = 1
    example = applied("depthwise", photos.one, [kernel], channel_multiplier=1)
    y = result(example, **EDGE)
    return Shown(
        example,
        [
            photo("input", photos.one[0]),
            photo("red, smeared sideways", y[..., 0]),
            photo("green, smeared up and down", y[..., 1]),
            photo("all three together", y),
        ],
        "Each colour has a kernel of its own, and no colour ever mixes with another: red is "
        "smeared sideways, green up and down, blue is left alone. Together they make coloured "
        "fringes.",
        EDGE,
    )


def depthwise_separable(photos: Photos) -> Shown:
    narrow, wide = np.pad(np.outer(gauss(5), gauss(5)), 6), np.outer(gauss(17), gauss(17))
    bank = np.stack([narrow, wide] * 3, -1)[:, :, None]
    mix = np.array([[g * s for g in GREY for s in (1, -1)], [1, 0, 0, 0, 0, -1]]).T
    example = applied("depthwise_separable", photos.one, [bank, mix[None, None]])
    middle = call(convjax.depthwise_conv, photos.one, example.kernels[0], **EDGE)[0]
    y = result(example, **EDGE)
    return Shown(
        example,
        [
            photo("step 1: red, a little blurred", middle[..., 0]),
            photo("step 1: red, much blurred", middle[..., 1]),
            response("step 2: fine minus coarse", y[..., 0]),
            response("step 2: red minus blue around", y[..., 1]),
        ],
        "First space: every colour is blurred a little and a lot (6 channels, none mixed). Then "
        "channels: 1×1 filters subtract some from others. The first output finds spots and edges "
        "in any colour, the second finds red against a surround without blue.",
        EDGE,
    )


def flattened(photos: Photos) -> Shown:
    lateral = np.array(GREY).reshape(1, 1, 3, 1)
    down, along = gauss(9).reshape(9, 1, 1, 1), np.linspace(-1, 1, 9).reshape(1, 9, 1, 1) / 4
    example = applied("flattened", photos.one, [lateral, down, along])
    first = convjax.pointwise_conv(photos.one, example.kernels[0])
    second = convjax.depthwise_conv(first, example.kernels[1], **EDGE)
    return Shown(
        example,
        [
            photo("input", photos.one[0]),
            photo("1: across the channels", first[0, ..., 0]),
            photo("2: down the columns, 9×1", second[0, ..., 0]),
            response("3: along the rows, 1×9", result(example, **EDGE)[..., 0]),
        ],
        "One filter of 9×9×3 = 243 weights as three lines of 3 + 9 + 9: mix the colours to grey, "
        "smooth downwards, subtract left from right. Only filters of rank 1 can be written like "
        "this; this one finds upright edges.",
        EDGE,
    )


def grouped(photos: Photos) -> Shown:
    x, blur = photos.both, each(np.outer(gauss(9), gauss(9)))
    swap = np.pad(np.eye(3)[[2, 0, 1]][None, None], ((4, 4), (4, 4), (0, 0), (0, 0)))
    example = applied("grouped", x, [np.concatenate([blur, swap], -1)], groups=2)
    y = result(example, **EDGE)
    one_group = jnp.asarray(np.tile(blur, (1, 1, 2, 1)) / 2, jnp.float32)
    return Shown(
        example,
        [
            photo("in, channels 1–3", photos.one[0], 200),
            photo("in, channels 4–6", photos.two[0], 200),
            photo("out, channels 1–3", y[..., :3], 200),
            photo("out, channels 4–6", y[..., 3:], 200),
            photo("for contrast: one group", call(convjax.conv, x, one_group, **EDGE)[0], 200),
        ],
        "Two photographs in one layer of six channels, and two groups. The first group blurs the "
        "portrait and never sees the coffee; the second exchanges the colours of the coffee and "
        "never sees the portrait. With one group, every output may mix both.",
        EDGE,
    )


def channel_shuffle(photos: Photos) -> Shown:
    example = applied("channel_shuffle", photos.both, [], groups=2)
    y = result(example)
    return Shown(
        example,
        [
            photo("in, channels 1–3", photos.one[0]),
            photo("in, channels 4–6", photos.two[0]),
            photo("out, channels 1–3", y[..., :3]),
            photo("out, channels 4–6", y[..., 3:]),
        ],
        "Channels 1 2 3 | 4 5 6 become 1 4 2 | 5 3 6. Nothing is computed and nothing is lost, but "
        "each half now holds channels of both photographs: the next layer's groups see both.",
    )


def shuffled_grouped(photos: Photos) -> Shown:
    spatial = (SOBEL, SOBEL.T, np.pad([[1.0]], 1))
    one = np.stack([k[:, :, None] * np.array(GREY) for k in spatial], -1)
    kernel = np.concatenate([one, one], -1)
    example = applied("shuffled_grouped", photos.both, [kernel], groups=2)
    y = result(example, **EDGE)
    names = [f"{who}, {what}" for what in ("across", "down", "grey") for who in ("face", "cup")]
    return Shown(
        example,
        [
            (photo if name.endswith("grey") else response)(f"{c + 1}: {name}", y[..., c], 160)
            for c, name in enumerate(names)
        ],
        "The six output channels. Each group makes three pictures of its own photograph (edges "
        "across, edges down, grey), and the shuffle deals them out alternately. Channels 1–3, "
        "which the first group of the next layer will read, come from both photographs.",
        EDGE,
    )


def pointwise_grouped(photos: Photos) -> Shown:
    kernel = np.concatenate([np.array(SEPIA), np.eye(3)[::-1]], -1)[None, None]
    example = applied("pointwise_grouped", photos.both, [kernel], groups=2)
    y = result(example)
    return Shown(
        example,
        [
            photo("in, channels 1–3", photos.one[0]),
            photo("in, channels 4–6", photos.two[0]),
            photo("out, channels 1–3", y[..., :3]),
            photo("out, channels 4–6", y[..., 3:]),
        ],
        "A 1×1 convolution in two groups: each photograph gets a 3×3 colour matrix of its own, "
        "9 + 9 weights where one 6×6 matrix has 36. The coffee's exchanges red and blue.",
    )


def resize(photos: Photos) -> Shown:
    x, kernel = photos.detail, each(positive(3))
    example = applied("resize", x, [kernel])
    painted = call(convjax.conv_transpose, x, jnp.asarray(4 * kernel, jnp.float32), strides=2)
    return Shown(
        example,
        [
            pixels(f"input, {x.shape[1]}×{x.shape[2]}", x[0], 240),
            pixels("nearest, then convolve", result(example, **EDGE), 240),
            pixels("bilinear, then convolve", result(example, method="bilinear", **EDGE), 240),
            pixels("for contrast: transposed", painted[0], 240),
        ],
        "Enlarge first, then convolve: every output pixel meets all nine weights of the random "
        "kernel, so that none is favoured. The transposed convolution with the same kernel makes a "
        "checkerboard.",
    )


def pixel_shuffle(photos: Photos) -> Shown:
    x = convjax.pixel_unshuffle(photos.detail, 2)
    example = applied("pixel_shuffle", x, [], out_features=3)
    places = ("top left", "top right", "bottom left", "bottom right")
    return Shown(
        example,
        [
            *(pixels(f"in: {p}", x[0, ..., offset::4], 160) for offset, p in enumerate(places)),
            pixels("out: interleaved", result(example), 240),
        ],
        "Twelve channels of half the size, shown as four small pictures, hold the four pixels of "
        "every 2×2 block. Laid out in space they are the photograph again, exactly: no arithmetic, "
        "only moving.",
    )


def subpixel(photos: Photos) -> Shown:
    x = photos.detail
    # A kernel for each pixel of a 2 x 2 block: a copy of the input, and a little noise.
    free = np.pad([[1.0]], 1) + 0.08 * np.random.default_rng(5).normal(size=(4, 3, 3))
    examples = []
    for bank in (free, free[[0, 0, 0, 0]]):
        kernel = np.stack([k[:, :, None] * colour for colour in np.eye(3) for k in bank], -1)
        examples.append(applied("subpixel", x, [kernel], out_features=3))
    different, equal = (result(example, **EDGE) for example in examples)
    return Shown(
        examples[0],
        [
            pixels(f"input, {x.shape[1]}×{x.shape[2]}", x[0], 240),
            pixels("four different kernels", different, 240),
            pixels("four equal kernels", equal, 240),
        ],
        "A convolution makes four values for every pixel, which are laid out as a 2×2 block. Each "
        "of the four has a kernel of its own; while these differ at random, as before training, "
        "the blocks show. Starting with four equal kernels (“ICNR”) avoids that.",
    )


def hold(photos: Photos) -> Shown:
    ones = jnp.asarray(each(np.ones((3, 3)) * 4 / 9), jnp.float32)
    painted = call(convjax.conv_transpose, photos.detail, ones, strides=2, padding="VALID")
    x = painted[:, 1:-1, 1:-1]
    example = applied("hold", x, [], scale=2)
    return Shown(
        example,
        [
            pixels("input: a checkerboard", x[0], 240),
            pixels("held over 2×2 pixels", result(example), 240),
        ],
        "The input is the result of the transposed convolution of size 3. A moving average as wide "
        "as the stride holds one pixel of each kind, the often and the rarely painted, so that the "
        "checkerboard cancels. It has no weights to learn.",
    )


def unknown(kind: Kind) -> Shown:
    """A kind without a recipe, on random integers."""
    example = kind.example()
    x, y = (np.asarray(a)[0, ..., 0] for a in (example.x, example()))
    return Shown(
        example,
        [
            pixels("input, channel 1", x, 200, signed=True),
            pixels("output, channel 1", y, 200, signed=True),
        ],
        f"{kind.summary[:1].upper()}{kind.summary[1:]}. (Random integers.)",
    )


RECIPES: dict[str, Callable[[Photos], Shown]] = {
    recipe.__name__: recipe
    for recipe in (
        dense,
        pointwise,
        dilated,
        transposed,
        spatially_separable,
        depthwise,
        depthwise_separable,
        flattened,
        grouped,
        channel_shuffle,
        shuffled_grouped,
        pointwise_grouped,
        resize,
        pixel_shuffle,
        subpixel,
        hold,
    )
}
