"""A task that needs an exchange between groups of channels: the parity of their features."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.axes import Axes

import convjax
from convjax import nn
from convjax.draw.charts import Theme
from convjax.models import parts
from experiments.page.figures import chart, intervals
from experiments.page.report import Section
from experiments.page.verdicts import above, equal, estimate
from experiments.run.arms import Budget, trained
from experiments.run.data import Dataset, Split
from experiments.run.settings import Settings

ORDERS = ("none", "within groups", "shuffle", "inverse", "random")
OWN = ("none", "shuffle")  # orders in the control, where every group says its own feature
FEATURES = 4  # whose parity is the label, each in a channel and a group of its own
CLOSE = 0.02  # of accuracies


def order_of(name: str, channels: int, groups: int, seed: int = 0) -> np.ndarray:
    """Which channel comes first, second, ...: one of `ORDERS`."""
    places = np.arange(channels)
    rng = np.random.default_rng(seed)
    if name in ("shuffle", "inverse"):
        move = convjax.channel_shuffle if name == "shuffle" else convjax.channel_unshuffle
        with jax.ensure_compile_time_eval():  # modules are built under `jit` too
            return np.asarray(move(jnp.asarray(places), groups))
    if name == "random":
        return rng.permutation(channels)
    if name == "within groups":
        return rng.permuted(places.reshape(groups, -1), axis=1).ravel()
    return places


class GroupAnswers(nnx.Module):
    """Grouped layers, every group of which gives its own answer: (N, groups, 2) scores.

    A grouped 3x3 convolution, the mean over the picture, and grouped 1x1 convolutions; before each
    of those the channels change places as `order` says.
    """

    def __init__(self, order: str, *, width: int = 8, depth: int = 3, rngs: nnx.Rngs) -> None:
        channels = FEATURES * width
        bare: dict[str, Any] = {"use_bias": False, "rngs": rngs}
        first = nn.GroupedConv(FEATURES, channels, (3, 3), FEATURES, **bare)
        self.first = parts.ConvNorm(first, channels, rngs=rngs)
        self.hidden = nnx.List(
            parts.ConvNorm(
                nn.PointwiseGroupedConv(channels, channels, FEATURES, **bare), channels, rngs=rngs
            )
            for _ in range(depth)
        )
        self.last = nn.PointwiseGroupedConv(channels, 2 * FEATURES, FEATURES, rngs=rngs)
        self.order = tuple(order_of(order, channels, FEATURES).tolist())

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.first(x).mean((1, 2), keepdims=True)
        for layer in (*self.hidden, self.last):
            y = layer(y[..., np.array(self.order)])
        return y.reshape(len(x), FEATURES, 2)


def stripes(bits: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Pictures (N, size, size, features): stripes that stand where the bit is 1, and noise."""
    phase = rng.integers(0, 4, (len(bits), 1, bits.shape[1]))
    bright = (np.arange(size)[:, None] + phase) % 4 < 2  # along one axis
    lying, standing = bright[:, :, None], bright[:, None]
    pictures = np.where(bits[:, None, None] == 1, standing, lying) * 2.0 - 1
    return (pictures + rng.normal(0, 0.5, pictures.shape)).astype(np.float32)


def parities(settings: Settings, budget: Budget, seed: int, own: bool = False) -> Dataset:
    """Features and, for every group, the parity of all of them, or with `own` its own feature.

    In the test pictures, what a group sees comes equally often with either parity, pixel for pixel.
    """
    rng = np.random.default_rng((seed, 11))
    bits = rng.integers(0, 2, (budget.train, FEATURES))
    train = Split(stripes(bits, budget.size, rng), _answers(bits, own))
    every = np.array(list(np.ndindex(*(2,) * FEATURES)))
    drawn = -(-budget.test // len(every))
    pairs = [stripes(np.full((drawn, FEATURES), bit), budget.size, rng) for bit in (0, 1)]
    chosen = [np.where(row.astype(bool), pairs[1], pairs[0]) for row in every]
    labels = _answers(np.repeat(every, drawn, 0), own)
    return Dataset("parity", train, Split(np.concatenate(chosen), labels), 2)


def _answers(bits: np.ndarray, own: bool) -> np.ndarray:
    parity = np.repeat(bits.sum(1, keepdims=True) % 2, FEATURES, 1)
    return (bits if own else parity).astype(np.int32)


def measure(
    settings: Settings, budget: Budget, orders: tuple[str, ...], arm: str
) -> np.ndarray | None:
    """The share of right answers of an arm, "parity, ORDER" or "own, ORDER", for every seed."""
    task, order = arm.split(", ")
    compared = {"parity": orders, "own": OWN if len(orders) > len(OWN) else ()}
    if order not in compared[task]:
        return None
    build = functools.partial(_answering, order)
    load = functools.partial(parities, own=task == "own")
    runs = trained(settings, "shuffle", arm, build, budget, load=load)
    return np.array([run.accuracy() for run in runs])


def report(section: Section, settings: Settings, found: dict[str, np.ndarray]) -> None:
    """Claims and a figure, from the share of right answers by arm."""
    claims(section, settings, found)

    def draw(axes: Axes, theme: Theme) -> None:
        intervals(axes, theme, {arm: estimate(values) for arm, values in found.items()})
        axes.axvline(0.5, color=theme.quiet, linestyle=":")
        axes.set(xlabel="share of right answers", xlim=(0.4, 1.03))

    section.figure(
        "A task that needs an exchange between groups",
        "Each group says the parity of the features of all groups (or, in the control, its own "
        "feature); the dotted line is chance. What stays within its group, moved about or not, "
        "cannot be better than a coin. Every order that crosses the groups lets them answer.",
        [chart("Right answers", draw, 420, 300)],
    )


def claims(section: Section, settings: Settings, found: dict[str, np.ndarray]) -> None:
    """From the share of right answers of every network, by arm."""
    for order, words in (
        ("none", "Parity of features in different groups, without a shuffle: exactly half of the "
         "answers are right, whatever is learned"),
        ("within groups", "… null: nor with channels that change places within their groups"),
    ):  # fmt: skip
        if (values := found.get(f"parity, {order}")) is None:
            continue
        section.exact(
            words,
            [0.5] * len(values),
            values.tolist(),
            "A group's answer depends on its own pixels only, and in the test pictures the same "
            "pixels come as often with an odd parity as with an even one. (With a dense layer "
            "over all groups at the end their scores would add up, which is not parity either.)",
        )
    for order, words in (
        ("shuffle", "With a shuffle it is learned"),
        ("inverse", "… with the inverse too"),
        ("random", "… and with a random order"),
    ):
        if f"parity, {order}" not in found:
            continue
        solved = estimate(found[f"parity, {order}"])
        section.finding(
            f"{words} (share of right answers)",
            None,
            *solved,
            above(settings, solved, 0.95, "the share"),
        )
    if "own, none" not in found:
        return
    change = estimate(found["own, shuffle"] - found["own, none"])
    section.finding(
        "… control: where each group has to say its own feature, the shuffle makes no difference",
        0,
        *change,
        equal(settings, change, -CLOSE, CLOSE, "the difference"),
    )


def _answering(order: str, rngs: nnx.Rngs, channels: int, classes: int) -> GroupAnswers:
    return GroupAnswers(order, rngs=rngs)
