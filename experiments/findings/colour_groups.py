"""Two filter groups: do filters before them sort into colour and grey? (10, AlexNet's figure 3)

The second convolution has two groups, so each half of the first one's filters is read by one of
them. Nothing else tells the halves apart.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from matplotlib.axes import Axes

from convjax import nn
from convjax.draw.charts import Theme
from experiments.page.figures import chart, errors, pixels
from experiments.page.report import Picture, Section
from experiments.page.verdicts import above, equal, estimate
from experiments.run import experiment
from experiments.run.arms import Budget, Trained, trained
from experiments.run.settings import Settings
from experiments.run.stacks import HE, Normalised, Stack, kernels

ARMS = {"two groups": 2, "one group": 1}
# Of every convolution: extent, stride, whether it has groups, and the max-pool after it.
LAYERS = ((7, 2, False, 2), (5, 1, True, 2), (3, 1, False, 1), (3, 1, True, 1))
DRAWS = 1_000  # of random halves
RANDOM_CLOSE = 0.01  # of the chroma fraction of random filters
CLOSE = 0.02  # of accuracy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Budget):
    """What a profile does.

    Attributes:
        features: channels after every convolution of `LAYERS`, or of the first few.
    """

    features: tuple[int, ...]


PLANS = {
    "smoke": Plan(1, 16, 32, 16, 1, 16, 0.05, features=(8, 4)),
    "quick": Plan(2, 32, 1_000, 500, 3, 64, 0.05, features=(24, 32, 48, 48)),
    "standard": Plan(5, 32, 3_000, 1_000, 8, 64, 0.05, features=(24, 32, 48, 48)),
    "full": Plan(10, 32, 50_000, 10_000, 100, 128, 0.1, features=(48, 128, 192, 192)),
}
EXPECTED = {
    "standard": "10 networks: about 4 minutes on one core, below 2 GB of memory.",
    "full": "20 networks of 100 epochs of CIFAR-10, at most 21 million multiply-accumulates a "
    "picture: 1.1e16 floating-point operations, 15 to 45 minutes on one H100 (from the operations "
    "at 5 to 15 TFLOP/s, not measured), below 10 GB of memory.",
}
PARTS = tuple(ARMS)


class Measured(NamedTuple):
    """One network: its accuracy, and the first layer's filters (7, 7, 3, O) before and after."""

    seed: int
    accuracy: float
    before: np.ndarray
    after: np.ndarray


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _measure(settings: Settings, plan: Plan, part: str) -> list[Measured]:
    build = functools.partial(network, plan.features, ARMS[part])
    runs = trained(settings, "colour_groups", part.replace(" ", "-"), build, plan)
    return [measure(run) for run in runs]


def _report(settings: Settings, plan: Plan, found: dict[str, list[Measured]]) -> Section:
    return section(settings, found, plan.words(settings))


def network(
    features: Sequence[int], groups: int, rngs: nnx.Rngs, channels: int, classes: int
) -> Stack:
    """AlexNet's beginning, small: the second and the fourth convolution have groups."""
    layers = []
    sizes = zip((channels, *features), features, LAYERS, strict=False)
    for i, o, (extent, strides, grouped, pool) in sizes:
        own: dict[str, Any] = {"use_bias": False, "kernel_init": HE, "rngs": rngs}
        window, own["strides"] = (extent, extent), strides
        conv: nnx.Module = (
            nn.GroupedConv(i, o, window, groups, **own)
            if grouped and groups > 1
            else nn.Conv(i, o, window, **own)
        )
        layers.append(Normalised(conv, o, pool=pool, rngs=rngs))
    return Stack(layers, features[-1], classes, rngs=rngs)


def measure(run: Trained) -> Measured:
    """One network."""
    before, _ = run.beginning()
    return Measured(
        run.seed,
        run.accuracy(),
        *(np.asarray(kernels(params)[0]) for params in (before, run.params)),
    )


# ---- the metric ------------------------------------------------------------------------------


def chroma(filters: np.ndarray) -> np.ndarray:
    """The share of every filter's energy that is not the same in all channels, (O,).

    0 for a filter that reads grey alone, 1 for one that a grey picture leaves at zero, and 2/3 on
    average for random weights of three channels.
    """
    grey = filters.mean(axis=2, keepdims=True)
    return ((filters - grey) ** 2).sum((0, 1, 2)) / (filters**2).sum((0, 1, 2))


def separation(values: np.ndarray) -> np.ndarray:
    """How far the halves of the last axis are apart: 2 |AUC - 1/2|.

    AUC is the chance that a value of the first half exceeds one of the second; so 1 if all do or
    none does, 0 if the halves are alike in this.
    """
    first, second = np.split(values, 2, axis=-1)
    return np.abs(np.sign(first[..., :, None] - second[..., None, :]).mean((-2, -1)))


def random_halves(values: np.ndarray, seed: int) -> np.ndarray:
    """`separation` of random halves of the same values, (DRAWS,)."""
    drawn = np.random.default_rng(seed).permuted(np.tile(values, (DRAWS, 1)), axis=1)
    return separation(drawn)


# ---- claims and figures ----------------------------------------------------------------------


def section(settings: Settings, found: Mapping[str, Sequence[Measured]], setting: str) -> Section:
    """The section of the page."""
    page = Section(
        "colour_groups",
        "10 · Two groups: colour filters and grey filters",
        "AlexNet's second layer has two groups, and the article shows that its first layer's "
        "filters sort themselves by group: one half grey, the other coloured. A filter's chroma "
        "fraction is the share of its energy that differs between the colour channels; the halves "
        "are as far apart as 2 |AUC − 1/2| says, 1 for complete separation. Any two halves of a "
        "few filters differ somewhat, so random halves of the same filters are the null; the same "
        "network without groups, and the networks before training, are the controls. Filters act "
        f"on standardised pictures. {setting}",
    )
    drawn = np.random.default_rng(settings.seed).normal(size=(7, 7, 3, 10_000))
    page.identity(
        "Check: the mean chroma fraction of random filters is 2/3",
        "2/3",
        abs(float(chroma(drawn).mean()) - 2 / 3),
        RANDOM_CLOSE,
    )
    two, one = found["two groups"], found["one group"]
    apart = _separations(two)
    null = np.array([random_halves(chroma(m.after), m.seed) for m in two])
    beyond = int((apart > np.quantile(null, 0.95, axis=1)).sum())
    gained = estimate(apart - null.mean(1))
    page.finding(
        f"Two groups: the halves of the first layer differ in colour (separation less the mean of "
        f"random halves; {apart.mean():.2f} and {null.mean():.2f})",
        None,
        *gained,
        above(settings, gained, what="the difference"),
        f"Above 95 % of random halves in {beyond} of {len(two)} networks. AlexNet's authors saw it "
        "in every run (reported, not verified here).",
    )
    gained = estimate(apart - np.quantile(null, 0.975, axis=1))
    page.finding(
        "… null: above the 97.5th percentile of random halves (difference)",
        None,
        *gained,
        above(settings, gained, what="the difference"),
    )
    for others, words in (
        (_separations(one), "control: above the same network with one group"),
        (_separations(two, "before"), "control: above the same networks before training"),
    ):
        gained = estimate(apart - others)
        page.finding(
            f"… {words} (difference; {others.mean():.2f})",
            None,
            *gained,
            above(settings, gained, what="the difference"),
        )
    spread = np.array([[chroma(f).std() for f in (m.after, m.before)] for m in (*two, *one)])
    gained = estimate(spread[:, 0] - spread[:, 1])
    page.finding(
        f"With or without groups, training makes filters greyer or more coloured than random ones "
        f"(spread of the chroma fraction, difference; {spread[:, 0].mean():.2f} and "
        f"{spread[:, 1].mean():.2f})",
        None,
        *gained,
        above(settings, gained, what="the difference"),
        "Without this there would be nothing to sort.",
    )
    change = estimate([a.accuracy - b.accuracy for a, b in zip(two, one, strict=True)])
    words = " and ".join(f"{np.mean([m.accuracy for m in each]):.1%}" for each in (two, one))
    page.finding(
        f"Two groups: about the accuracy of one (difference; {words})",
        None,
        *change,
        equal(settings, change, -CLOSE, CLOSE, "the difference"),
    )
    _figures(page, found, null)
    return page


def _separations(found: Sequence[Measured], when: str = "after") -> np.ndarray:
    return np.array([float(separation(chroma(getattr(m, when)))) for m in found])


def mosaic(filters: np.ndarray) -> np.ndarray:
    """The filters as one picture: the first half above the second, each from grey to coloured."""
    height, width, _, count = filters.shape
    half, columns = count // 2, max(1, min(6, count // 4))
    rows = -(-half // columns)
    gap = 3  # between the halves
    values = chroma(filters)
    sheet = np.full((2 * rows * (height + 1) + gap, columns * (width + 1), 3), 0.85)
    for part in range(2):
        order = part * half + np.argsort(values[part * half : (part + 1) * half])
        for place, number in enumerate(order):
            top = (place // columns + part * rows) * (height + 1) + part * gap
            left = place % columns * (width + 1)
            shown = filters[..., number] / (2 * np.abs(filters[..., number]).max()) + 0.5
            sheet[top : top + height, left : left + width] = shown
    return sheet


def _figures(page: Section, found: Mapping[str, Sequence[Measured]], null: np.ndarray) -> None:
    two, one = found["two groups"], found["one group"]

    def panel(words: str, measured: Measured, when: str) -> Picture:
        filters = getattr(measured, when)
        apart = float(separation(chroma(filters)))
        sheet = mosaic(filters if filters.shape[2] == 3 else filters.repeat(3, axis=2))
        return pixels(f"{words}: {apart:.2f}", sheet, 240)

    page.figure(
        "The first layer's filters",
        "Above the gap the filters that the first group reads, below it those of the second, each "
        "from grey to coloured; mid grey is a weight of zero. The numbers are the separation of "
        "the halves. Without groups the halves mean nothing: what they differ by is chance.",
        [
            panel("two groups, trained", two[0], "after"),
            panel("one group, trained", one[0], "after"),
            panel("before training", two[0], "before"),
        ],
    )

    def fractions(axes: Axes, theme: Theme) -> None:
        for measured in two:
            for part, values in enumerate(np.split(chroma(measured.after), 2)):
                x = measured.seed - two[0].seed + 0.3 * part - 0.15
                colour = (theme.one, theme.two)[part]
                axes.plot(np.full(len(values), x), values, "o", color=colour, markersize=3.5,
                          alpha=0.8)  # fmt: skip
        axes.set(xlabel="network", ylabel="chroma fraction", ylim=(0, 1),
                 xticks=range(len(two)))  # fmt: skip

    def separations(axes: Axes, theme: Theme) -> None:
        rows = {
            "two groups": _separations(two),
            "one group": _separations(one),
            "untrained": _separations(two, "before"),
        }
        low, high = np.quantile(null, [0.025, 0.975])
        axes.axhspan(low, high, color=theme.quiet, alpha=0.35, label="random halves")
        for x, values in enumerate(rows.values()):
            axes.plot(np.full(len(values), x - 0.12), values, "o", color=theme.one, markersize=3.5)
            errors(axes, [x + 0.12], [estimate(values)], color=theme.two)
        axes.set(xticks=range(3), ylabel="separation", ylim=(0, 1), xlim=(-0.5, 2.5))
        axes.set_xticklabels(list(rows))
        axes.legend(loc="upper right")

    page.figure(
        "Chroma of the two halves, and how far they are apart",
        "Left, every filter of the networks with two groups, the halves side by side in two "
        "colours. Right, the separation of every network and its 95 % interval; the band holds "
        "95 % of random halves.",
        [
            chart("Chroma fractions", fractions, 380, 280),
            chart("Separation of the halves", separations, 340, 280),
        ],
    )
