"""The channel shuffle: what it connects, a task that needs it, and what it adds on photographs."""

import dataclasses
from math import comb
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.axes import Axes

import convjax
from convjax import nn
from convjax.analysis import channel_reachability
from convjax.draw.charts import Theme, matrix
from convjax.models import ShuffleUnit, parts
from experiments.findings.shuffle import parity
from experiments.findings.shuffle.parity import FEATURES, ORDERS, OWN, order_of
from experiments.page.figures import chart, intervals
from experiments.page.report import Picture, Section
from experiments.page.verdicts import above, equal, estimate
from experiments.run import experiment
from experiments.run.arms import Budget, Build, Trained, trained
from experiments.run.settings import Settings

GROUPS = (1, 2, 4, 8)
CHANNELS = 64  # of the two layers whose connections are counted
PHOTO_GROUPS = (1, 4, 8)  # of the networks for photographs
PHOTO_ARMS = ("1, plain", *(f"{g}, {word}" for g in (4, 8) for word in ("plain", "shuffled")))


@dataclasses.dataclass(frozen=True)
class PhotoBudget(Budget):
    """How much is trained on photographs, and how large.

    Attributes:
        units: of a network, before and after the pool.
        widths: channels of the networks of 1, 4 and 8 groups, for about equal multiply-accumulates:
            a quarter of them must divide into the groups.
    """

    units: tuple[int, int] = (2, 2)
    widths: tuple[int, int, int] = (96, 176, 224)

    def width(self, groups: int) -> int:
        return self.widths[PHOTO_GROUPS.index(groups)]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a profile does.

    Attributes:
        draws: random permutations between two grouped layers.
        groups: of these layers.
        sizes: channels of layers in 8 groups.
        parity, photos: how much is trained.
        orders: between the groups that say a parity.
        photo_arms: groups (of `PHOTO_GROUPS`), and whether they are shuffled.
    """

    draws: int
    parity: Budget
    photos: PhotoBudget
    orders: tuple[str, ...] = ORDERS
    photo_arms: tuple[str, ...] = PHOTO_ARMS
    groups: tuple[int, ...] = GROUPS
    sizes: tuple[int, ...] = (64, 32, 16)


PLANS = {
    "smoke": Plan(32, Budget(1, 8, 32, 32, 1, 16, 0.1),
                  PhotoBudget(1, 16, 32, 32, 1, 16, 0.05, units=(1, 0)), orders=OWN,
                  photo_arms=("4, shuffled",), groups=(8,), sizes=(16,)),
    "quick": Plan(100, Budget(3, 8, 1_024, 1_024, 20, 64, 0.1),
                  PhotoBudget(2, 16, 1_000, 1_000, 2, 64, 0.1),
                  photo_arms=("8, plain", "8, shuffled")),
    "standard": Plan(100, Budget(5, 8, 1_024, 1_024, 20, 64, 0.1),
                     PhotoBudget(5, 16, 2_000, 1_000, 4, 50, 0.1)),
    "full": Plan(100, Budget(5, 8, 8_192, 4_096, 20, 64, 0.1),
                 PhotoBudget(3, 32, 50_000, 10_000, 100, 128, 0.1, units=(8, 8),
                             widths=(100, 192, 256))),
}  # fmt: skip
EXPECTED = {
    "standard": "35 small networks and 25 on photographs, minutes on one core, below 2 GB of "
    "memory.",
    "full": "15 networks of 100 epochs of CIFAR-10, and 35 small ones: 6.3e15 floating-point "
    "operations, 7 to 20 minutes on one H100 (from the operations at 5 to 15 TFLOP/s, not "
    "measured), below 20 GB of memory.",
}
REACH = {f"{g} groups, reach": g for g in GROUPS}
PARTS = (
    *REACH,
    *(f"parity, {order}" for order in ORDERS),
    *(f"own, {order}" for order in OWN),
    *(f"photographs, {arm}" for arm in PHOTO_ARMS),
)


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _measure(settings: Settings, plan: Plan, part: str) -> Any:
    if part in REACH:
        return shares(settings, plan, REACH[part]) if REACH[part] in plan.groups else None
    task, arm = part.split(", ", 1)
    if task == "photographs":
        if arm not in plan.photo_arms:
            return None
        return list(trained(settings, "shuffle", part, shuffle_net(plan.photos, arm), plan.photos))
    return parity.measure(settings, plan.parity, plan.orders, part)


def _report(settings: Settings, plan: Plan, found: dict[str, Any]) -> Section:
    section = Section(
        "shuffle",
        "11 · What the channel shuffle is for",
        "Grouped layers on top of each other never exchange anything between their groups. First "
        "what two of them connect, by differentiation. Then a task that is impossible without an "
        f"exchange: each of {FEATURES} groups receives one feature (stripes that lie or stand), "
        "and every group has to say the parity of all of them. Last, small ShuffleNets on "
        f"photographs, all of whose 1×1 convolutions are grouped. {plan.photos.words(settings)}",
    )
    _reach(section, settings, plan, [found.pop(part) for part in REACH if part in found])
    photographs = {arm: found.pop(arm) for arm in list(found) if arm.startswith("photographs")}
    parity.report(section, settings, found)
    _photographs(section, settings, plan, photographs)
    return section


# ---- what is connected -----------------------------------------------------------------------


def reach(channels: int, groups: int, orders: list[np.ndarray]) -> np.ndarray:
    """For each order between two grouped 1x1 layers: (I, O), which input reaches which output."""
    shape = (1, 1, channels // groups, channels)
    first, second = (jax.random.normal(key, shape) for key in jax.random.split(jax.random.key(0)))

    def found(order: jax.Array) -> jax.Array:
        def layers(x: jax.Array) -> jax.Array:
            y = convjax.pointwise_grouped_conv(x, first, groups)
            return convjax.pointwise_grouped_conv(y[..., order], second, groups)

        return channel_reachability(layers, (1, 1, 1, channels), draws=2)

    hasty = {"xla_backend_optimization_level": 0}  # compiling takes far longer than running
    options = hasty if jax.default_backend() == "cpu" else None
    program = jax.jit(lambda orders: jax.lax.map(found, orders), compiler_options=options)
    return np.asarray(program(jnp.asarray(orders)))


def expected_reach(channels: int, groups: int) -> float:
    """Of a random order: the chance that some channel of one group comes to another group."""
    n = channels // groups
    return 1 - comb(channels - n, n) / comb(channels, n)


def shares(settings: Settings, plan: Plan, groups: int) -> tuple[dict[str, float], float]:
    """Of all pairs of channels those that two layers connect: by each order, and by random ones."""
    named = [order_of(name, CHANNELS, groups, settings.seed) for name in ORDERS]
    draws = [order_of("random", CHANNELS, groups, seed) for seed in settings.seeds(plan.draws)]
    share = reach(CHANNELS, groups, named + draws).mean((1, 2))
    each = dict(zip(ORDERS, map(float, share), strict=False))
    return each, float(share[len(ORDERS) :].mean())


def _reach(
    section: Section,
    settings: Settings,
    plan: Plan,
    found: list[tuple[dict[str, float], float]],
) -> None:
    shares = {name: [each[name] for each, _ in found] for name in ORDERS}
    words = f"({CHANNELS} channels; g = {', '.join(map(str, plan.groups))})"
    parts_of_all, whole = [1 / g for g in plan.groups], [1] * len(plan.groups)
    section.exact(
        f"Two grouped layers connect 1/g of all pairs of input and output channels {words}",
        parts_of_all,
        shares["none"],
    )
    section.exact(
        "… null: as many when the channels between them change places within their groups",
        parts_of_all,
        shares["within groups"],
    )
    section.exact("… all of them with a channel shuffle between", whole, shares["shuffle"])
    section.exact(
        "… and all with its inverse, which some implementations use in its place",
        whole,
        shares["inverse"],
        "The two differ unless there are as many groups as channels in a group, and connect the "
        "same groups.",
    )
    few = [
        reach(size, 8, [order_of(name, size, 8) for name in ("shuffle", "inverse")]).mean((1, 2))
        for size in plan.sizes
    ]
    section.exact(
        "A group of n = C/g channels cannot reach more than n groups: with n < g a shuffle (or its "
        f"inverse) connects n/g (g = 8, n = {', '.join(str(size // 8) for size in plan.sizes)})",
        [[min(1, size / 64)] * 2 for size in plan.sizes],
        [shares.tolist() for shares in few],
    )
    section.near(
        f"A random order connects fewer: mean of {plan.draws} orders, 8 groups of 8, beside the "
        "chance that some channel of one group comes to another",
        expected_reach(CHANNELS, 8),
        found[-1][1],
        0.03,
    )
    _reach_figure(section, settings)


def _reach_figure(section: Section, settings: Settings) -> None:
    channels, groups = 16, 4
    names = ("none", "shuffle", "inverse", "random")
    orders = [order_of(name, channels, groups, settings.seed) for name in names]

    def panel(label: str, values: np.ndarray) -> Picture:
        share = f"{values.mean():.0%}"
        return chart(f"{label}: {share}", lambda a, t: matrix(a, t, values.T), 230, 230)

    section.figure(
        "Who sees whom through two grouped layers, by what is between them",
        "16 channels in 4 groups; a row for every output channel, a column for every input "
        "channel, filled where the first depends on the second. A shuffle deals the channels of a "
        "group out evenly, one to every group. A random order is not even: it leaves gaps.",
        [panel(n, v) for n, v in zip(names, reach(channels, groups, orders), strict=True)],
    )


# ---- photographs -----------------------------------------------------------------------------


class SmallShuffleNet(nnx.Module):
    """A 3x3/2 convolution, shuffle units, a pool, more units, and one dense layer.

    All units have stride 1, and all their 1x1 convolutions are grouped: those of stride 2 put
    their input beside their result, which moves channels to other groups without any shuffle.
    """

    def __init__(
        self, groups: int, width: int, units: tuple[int, int], shuffled: bool,
        channels: int, classes: int, rngs: nnx.Rngs,
    ) -> None:  # fmt: skip
        stem = nn.Conv(channels, width, (3, 3), 2, use_bias=False, rngs=rngs)
        self.stem = parts.ConvNorm(stem, width, rngs=rngs)
        self.stages = nnx.List(
            nnx.List(ShuffleUnit(width, width, groups=groups, rngs=rngs) for _ in range(number))
            for number in units
        )
        for unit in () if shuffled else [unit for stage in self.stages for unit in stage]:
            unit.shuffle = nn.ChannelShuffle(1)  # which leaves everything in its place
        self.classifier = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.stem(x)
        for number, stage in enumerate(self.stages):
            y = parts.max_pool(y, 2, 2) if number else y
            for unit in stage:
                y = unit(y)
        return self.classifier(parts.global_average(y))


def _photographs(
    section: Section, settings: Settings, plan: Plan, found: dict[str, list[Trained]]
) -> None:
    accuracy = {arm: np.array([run.accuracy() for run in runs]) for arm, runs in found.items()}
    photo_claims(section, settings, accuracy)
    macs = [runs[0].counts().macs() for runs in found.values()]
    section.exact(
        "… at equal cost: the networks' multiply-accumulates differ by less than 8 %",
        True,
        max(macs) < 1.08 * min(macs),
        f"{min(macs):,} to {max(macs):,}; with and without shuffle they are the same.",
    )
    untrained = estimate([_untrained(run) for runs in found.values() for run in runs])
    classes = next(iter(found.values()))[0].dataset.classes
    section.finding(
        "… null: the same networks before training are at chance (accuracy)",
        1 / classes,
        *untrained,
        equal(settings, untrained, 1 / classes - 0.05, 1 / classes + 0.05, "the accuracy"),
    )

    def draw(axes: Axes, theme: Theme) -> None:
        named = {arm.removeprefix("photographs, "): each for arm, each in accuracy.items()}
        intervals(axes, theme, {f"g = {arm}": estimate(each) for arm, each in named.items()})
        axes.set(xlabel="test accuracy")

    section.figure(
        "Small ShuffleNets on photographs, at equal cost",
        "Test accuracy with its 95 % interval over the seeds. More groups afford more channels: "
        f"{', '.join(map(str, plan.photos.widths))}.",
        [chart("Accuracy", draw, 420, 260)],
        [
            (f"g = {arm.removeprefix('photographs, ')}", f"{counts.parameters():,} parameters, "
             f"{counts.macs():,} MACs")
            for arm, runs in found.items() for counts in (runs[0].counts(),)
        ],
    )  # fmt: skip


def photo_claims(section: Section, settings: Settings, found: dict[str, np.ndarray]) -> None:
    """From the accuracy of every network, by arm."""
    gains = {}
    for name in PHOTO_GROUPS:
        plain, shuffled = (
            found.get(f"photographs, {name}, {word}") for word in ("plain", "shuffled")
        )
        if plain is None or shuffled is None:
            continue
        gains[name] = shuffled - plain
        gain = estimate(gains[name])
        section.finding(
            f"Photographs, {name} groups: the shuffle adds accuracy (difference; "
            f"{shuffled.mean():.1%} and {plain.mean():.1%})",
            None,
            *gain,
            above(settings, gain, what="the difference"),
            "ShuffleNet's table 3 is reported to have 1.3 to 5.8 points on ImageNet, more with 8 "
            "groups than with 3 (not verified here).",
        )
    if len(gains) > 1:
        least, most = gains
        more = estimate(gains[most] - gains[least])
        section.finding(
            f"… and more with {most} groups than with {least} (difference of the differences)",
            None,
            *more,
            above(settings, more, what="the difference"),
        )


def shuffle_net(budget: PhotoBudget, arm: str) -> Build:
    """Builds the network of one of `PHOTO_ARMS`."""
    groups, word = arm.split(", ")
    width = budget.width(int(groups))

    def build(rngs: nnx.Rngs, channels: int, classes: int) -> SmallShuffleNet:
        shuffled = word == "shuffled"
        return SmallShuffleNet(int(groups), width, budget.units, shuffled, channels, classes, rngs)

    return build


def _untrained(run: Trained) -> float:
    """Accuracy before training, by the statistics with which batch normalisation begins."""
    return run.classifier.accuracy(*run.beginning(), run.dataset.test)
