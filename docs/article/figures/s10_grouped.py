"""Section 10: grouped convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from convjax import analysis, draw
from convjax.draw import Drawing
from convjax.draw.heat import coloured
from convjax.draw.scene import Item, Picture, Rect, Text, fitted
from figures.registry import beside, figure, photograph

ARTICLE = {"in_features": 16, "out_features": 128, "padding": "VALID"}


@figure("F38", "10")
def alexnet():
    """AlexNet as two paths: only conv2, conv4 and conv5 are grouped."""
    from convjax.models import NETWORKS

    row = NETWORKS["alexnet"]
    return draw.network(row.abstract(groups=2), row.shape({}), title="AlexNet, with 2 groups")


@figure("F39", "10")
def no_groups():
    """The usual layer: every filter reads all channels."""
    return draw.layer("dense", (7, 7), 3, title="no groups", **ARTICLE)


@figure("F40", "10")
def two_groups():
    """Two groups: half of the filters read half of the channels, with half of the weights."""
    return draw.layer("grouped", (7, 7), 3, feature_group_count=2, title="two groups", **ARTICLE)


@figure("F41", "10")
def resnext():
    """A ResNeXt block: 1×1 to 128 channels, 3×3 in 32 groups of 4, 1×1 back to 256."""
    shapes = [(1, 1, 256, 128), (3, 3, 4, 128), (1, 1, 128, 256)]
    kernels = [jnp.zeros(shape) for shape in shapes]

    def block(x):
        y = convjax.pointwise_conv(x, kernels[0])
        y = convjax.grouped_conv(y, kernels[1], 32)
        return x + convjax.pointwise_conv(y, kernels[2])

    return draw.layer(block, (1, 14, 14, 256), title="ResNeXt block, 32×4d")


@functools.cache
def responses(groups: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """conv2c and conv3a of an untrained network like NiN, on patches of a photograph."""
    photo = photograph(256)
    corners = np.random.default_rng(seed).integers(0, 240, (160, 2))
    x = jnp.asarray(np.stack([photo[r : r + 16, c : c + 16] for r, c in corners]))
    x = (x - x.mean()) / x.std()
    keys = iter(jax.random.split(jax.random.key(seed), 8))

    def layer(x, size, features, groups=1):
        shape = (size, size, x.shape[-1] // groups, features)
        scale = (2 / (size * size * shape[2])) ** 0.5
        y = convjax.grouped_conv(x, scale * jax.random.normal(next(keys), shape), groups)
        y = (y - y.mean((0, 1, 2))) / (y.std((0, 1, 2)) + 1e-5)
        return jax.nn.relu(y)

    def half(x):
        return x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))

    x = layer(layer(layer(x, 5, 48), 1, 48), 1, 32)
    x = layer(layer(layer(half(x), 5, 64, max(1, 2 * groups if groups > 1 else 1)), 1, 64), 1, 64)
    before = half(x)
    after = layer(before, 3, 64, groups)
    return np.asarray(before).reshape(-1, 64), np.asarray(after).reshape(-1, 64)


def interlayer(groups: int, scored: int) -> Drawing:
    before, after = responses(groups)
    found = np.abs(
        np.asarray(analysis.interlayer_covariance(jnp.asarray(before), jnp.asarray(after)))
    )
    score = float(analysis.block_scores(jnp.asarray(found), scored).N)
    side = 190.0
    image = coloured(found, False)
    items: list[Item] = [Picture(0, 0, side, side, image, f"{groups} groups")]
    for block in range(groups if groups > 1 else 0):
        size = side / groups
        items.append(Rect(block * size, block * size, size, size, "block", radius=0))
    name = f"{groups} groups" if groups > 1 else "no groups"
    items.append(
        Text(
            0,
            side + 20,
            f"N = {round(score, 2) + 0.0:.2f} for {scored} blocks",
            "quiet",
            12,
            "start",
        )
    )
    words = f"{name}: {score:.2f} of what can lie in {scored} blocks does."
    return Drawing(fitted(name, words, items), details=(found, score))


@figure("F42", "10")
def map_without_groups():
    """Whitened responses of two layers, without groups: no blocks. Untrained."""
    return interlayer(1, 8)


@figure("F43", "10")
def maps_with_groups():
    """With 1, 2, 4, 8 and 16 groups the blocks are there before anything is learned."""
    drawn = [interlayer(g, max(g, 2)) for g in (1, 2, 4, 8, 16)]
    return beside("Untrained networks: the wiring makes blocks", *drawn, columns=3)


@functools.cache
def trained(steps: int = 300) -> np.ndarray:
    """The first kernel (7, 7, 3, 24) of a small net whose second layer has two groups.

    It learns which picture a patch is from: one of two photographs, or of the two upside down, with
    red and blue exchanged.
    """
    from sklearn.datasets import load_sample_image

    photos = [
        load_sample_image(name).astype(np.float32) / 255 for name in ("china.jpg", "flower.jpg")
    ]
    photos += [photo[::-1, :, ::-1] for photo in photos]  # upside down, red and blue exchanged
    rng = np.random.default_rng(0)
    keys = jax.random.split(jax.random.key(0), 3)
    weights = [
        0.1 * jax.random.normal(keys[0], (7, 7, 3, 24)),
        0.08 * jax.random.normal(keys[1], (5, 5, 12, 24)),
        0.1 * jax.random.normal(keys[2], (24, 4)),
    ]

    def loss(weights, x, labels):
        y = jax.nn.relu(convjax.conv(x, weights[0], strides=2))
        y = jax.nn.relu(convjax.grouped_conv(y, weights[1], 2, strides=2)).mean((1, 2))
        scores = jax.nn.log_softmax(y @ weights[2])
        return -scores[jnp.arange(len(labels)), labels].mean()

    @jax.jit
    def step(weights, speed, x, labels):
        found = jax.grad(loss)(weights, x, labels)
        speed = jax.tree.map(lambda v, g: 0.9 * v + g, speed, found)
        return jax.tree.map(lambda w, v: w - 0.05 * v, weights, speed), speed

    speed = jax.tree.map(jnp.zeros_like, weights)
    for _ in range(steps):
        labels = rng.integers(0, 4, 32)
        patches = []
        for label in labels:
            row, column = rng.integers(0, 395), rng.integers(0, 600)
            patches.append(photos[label][row : row + 32, column : column + 32] - 0.5)
        weights, speed = step(weights, speed, jnp.asarray(np.stack(patches)), jnp.asarray(labels))
    return np.asarray(weights[0])


@figure("F44", "10")
def two_kinds_of_filters():
    """First-layer filters of a net with two groups, and how much colour each one has."""
    kernel = trained()
    colour = kernel - kernel.mean(2, keepdims=True)
    chroma = (colour**2).sum((0, 1, 2)) / (kernel**2).sum((0, 1, 2))
    halves = chroma[:12], chroma[12:]
    rows = [np.histogram(half, bins=8, range=(0, 1))[0] for half in halves]
    items: list[Item] = []
    for group, row in enumerate(rows):
        for bin_, count in enumerate(row):
            x, tall = bin_ * 34.0 + group * 15, 22.0 * count
            items.append(Rect(x, 150 - tall, 14, tall, "bar" if group == 0 else "bar-2", radius=1))
    items.append(Text(0, 170, "no colour", "quiet", 12, "start"))
    items.append(Text(272, 170, "all colour", "quiet", 12, "end"))
    means = [float(half.mean()) for half in halves]
    said = f"mean share of colour: {means[0]:.2f} (blue bars) and {means[1]:.2f} (orange bars)"
    items.append(Text(0, 194, said, "ink", 13, "start"))
    bars = Drawing(fitted("How many filters have how much colour", said, items), details=means)
    return beside("Filters of two groups", draw.filters(kernel, groups=2, columns=6), bars)
