"""Sections 8 and 9: spatially separable, depthwise separable, flattened."""

import jax.numpy as jnp
import numpy as np

import convjax
from convjax import cost, draw
from convjax.draw import Drawing
from convjax.draw.heat import coloured
from convjax.draw.scene import Item, Rect, fitted
from figures.registry import below, beside, figure, grey, photograph, pictures, plot

SMOOTH, EDGE = np.array([1.0, 2, 1]), np.array([-1.0, 0, 1])
ARTICLE = {"in_features": 3, "padding": "VALID"}


@figure("F26", "8.1")
def sobel():
    """The Sobel kernel is a column times a row, and so are its results."""
    matrices = [
        draw.matrix(SMOOTH[:, None], title="3×1", numbers=True),
        draw.matrix(EDGE[None], title="1×3", numbers=True),
        draw.matrix(np.outer(SMOOTH, EDGE), title="their product", numbers=True),
    ]
    photo = jnp.asarray(photograph().mean(-1)[None, ..., None])
    kernels = [
        jnp.asarray(SMOOTH.reshape(3, 1, 1, 1), jnp.float32),
        jnp.asarray(EDGE.reshape(1, 3, 1, 1), jnp.float32),
    ]
    two = np.asarray(convjax.spatially_separable_conv(photo, kernels))[0, ..., 0]
    whole = jnp.asarray(np.outer(SMOOTH, EDGE)[..., None, None], jnp.float32)
    one = np.asarray(convjax.conv(photo, whole))[0, ..., 0]
    named = [
        ("photograph", grey(np.asarray(photo)[0, ..., 0])),
        ("3×1, then 1×3", coloured(two, True)),
        ("3×3 at once", coloured(one, True)),
    ]
    difference = float(np.abs(two - one).max())
    words = f"Largest difference between the two results: {difference:.1g}."
    shown = pictures("The same edges, with 6 weights or with 9", named, words)
    return beside("Sobel = 3×1 · 1×3", beside("The kernel", *matrices), shown, columns=1)


def _positions(space: tuple[int, int], window: tuple[int, int]) -> list[Item]:
    """A grid, with a dot at the middle of every position of a window."""
    cell = 34.0
    items: list[Item] = [
        Rect(c * cell, r * cell, cell, cell, "input")
        for r in range(space[0])
        for c in range(space[1])
    ]
    for r in range(space[0] - window[0] + 1):
        for c in range(space[1] - window[1] + 1):
            x, y = (c + window[1] / 2) * cell, (r + window[0] / 2) * cell
            items.append(Rect(x - 6, y - 6, 12, 12, "tap", f"p.{r}.{c}", radius=6))
    items.append(Rect(0, 0, window[1] * cell, window[0] * cell, "window"))
    return items


def _counted(space: tuple[int, int], window: tuple[int, int]) -> Drawing:
    x, kernel = (1, *space, 1), (*window, 1, 1)
    macs = cost.conv(x, kernel, padding="VALID").macs
    items = _positions(space, window)
    dots = sum(1 for item in items if isinstance(item, Rect) and item.key)
    taps = window[0] * window[1]
    said = f"{dots} positions × {taps} = {macs} multiplications"
    title = f"{window[0]}×{window[1]} on {space[0]}×{space[1]}"
    return Drawing(fitted(title, said, below(items, said)), details=macs)


@figure("F27", "8.1")
def at_once():
    """9 positions of a 3×3 kernel on a 5×5 image: 81 multiplications."""
    return _counted((5, 5), (3, 3))


@figure("F28", "8.1")
def in_two_steps():
    """15 positions of 3 taps, then 9 positions of 3 taps: 45 + 27 = 72 multiplications."""
    drawn = _counted((5, 5), (3, 1)), _counted((3, 5), (1, 3))
    return beside(
        f"3×1, then 1×3: {drawn[0].details} + {drawn[1].details} = {sum(d.details for d in drawn)}",
        *drawn,
    )


@figure("F29", "8.1")
def ratio_of_spatial():
    """The cost of an m×1 and a 1×m convolution over the cost of the m×m one."""
    sizes = list(range(7, 65))
    curves = [
        (f"m = {m}", sizes, [float(cost.spatially_separable_ratio(n, m)) for n in sizes])
        for m in (3, 5, 7)
    ]
    words = "The curves fall to 2/3, 2/5 and 2/7."
    title = "2/m + (m − 1) / (m (N − m + 1))"
    return plot(title, curves, words, across="image size N", upward="ratio", limits=(0, 1.2))


@figure("F30", "8.2")
def dense_one():
    """7×7×3 to 5×5×1 with one filter."""
    return draw.layer("dense", (7, 7), 3, out_features=1, title="one filter", **ARTICLE)


@figure("F31", "8.2")
def dense_many():
    """7×7×3 to 5×5×128 with 128 filters."""
    return draw.layer("dense", (7, 7), 3, out_features=128, title="128 filters", **ARTICLE)


@figure("F32", "8.2")
def depthwise_step():
    """Step 1: three kernels, one for each channel."""
    return draw.layer("depthwise", (7, 7), 3, title="the depthwise step", **ARTICLE)


@figure("F33", "8.2")
def pointwise_step():
    """Step 2: a 1×1×3 filter makes one map."""
    return draw.layer("pointwise", (5, 5), in_features=3, out_features=1, title="one 1×1 filter")


@figure("F34", "8.2")
def pointwise_steps():
    """Step 2 with 128 filters."""
    return draw.layer("pointwise", (5, 5), in_features=3, out_features=128, title="128 1×1 filters")


@figure("F35", "8.2")
def both_steps():
    """Both steps: 675 + 9,600 multiplications instead of 86,400."""
    return draw.layer("depthwise_separable", (7, 7), 3, out_features=128, **ARTICLE)


@figure("F36", "8.2")
def ratio_of_depthwise():
    """The cost of a depthwise separable convolution over the cost of the dense one."""
    features = list(range(2, 257, 2))
    curves = [
        (f"h = {h}", features, [float(cost.depthwise_separable_ratio(n, h)) for n in features])
        for h in (3, 5, 7)
    ]
    words = "The curves fall to 1/9, 1/25 and 1/49."
    return plot(
        "1/Nc + 1/h²", curves, words, across="output channels Nc", upward="ratio", limits=(0, 0.65)
    )


@figure("F37", "9")
def flattened():
    """A 3-D filter becomes three 1-D filters: across the channels, down, and to the right."""
    options = {"in_features": 3, "out_features": 8, "padding": "VALID"}
    chain = draw.layer("flattened", (7, 7), 3, **options)
    dense = draw.layer("dense", (7, 7), 3, **options)
    return beside("One 3-D filter, or three 1-D filters", dense, chain, columns=1)
