"""1x1 convolutions as reductions: Inception modules with them and without, counted and trained."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from matplotlib.axes import Axes

from convjax import nn
from convjax.draw.charts import Theme
from convjax.models import GoogLeNet, Inception, counts_of, parts
from convjax.models.googlenet import MODULES
from experiments.page.figures import chart, intervals
from experiments.page.report import Section
from experiments.page.verdicts import above, equal, estimate
from experiments.run import experiment
from experiments.run.arms import Budget, Trained, trained
from experiments.run.measure import milliseconds
from experiments.run.settings import Settings
from experiments.run.training import outputs

INPUTS = (192, 256, 480, 512, 512, 512, 528, 832, 832)  # channels into each module of GoogLeNet
EXTENTS = (28, 28, 14, 14, 14, 14, 14, 7, 7)
ARMS = {"reduced": (True, 1.0), "naive": (False, 1.0), "naive, narrow": (False, 0.5)}
ROUNDS = 9  # of timing
CLOSE = 0.02  # of accuracies


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Budget):
    """What a profile does.

    Attributes:
        width: multiplies GoogLeNet's channels.
        modules: which of its modules the networks have.
        arms: which are trained.
    """

    width: float = 1 / 8
    modules: tuple[str, ...] = ("3a", "3b", "4a")
    arms: tuple[str, ...] = tuple(ARMS)


PLANS = {
    "smoke": Plan(seeds=1, size=16, train=32, test=32, epochs=1, batch_size=16, rate=0.05,
                  width=1 / 24, modules=("3b",), arms=("reduced", "naive")),
    "quick": Plan(seeds=2, size=16, train=640, test=500, epochs=2, batch_size=32, rate=0.05),
    "standard": Plan(seeds=3, size=16, train=1_600, test=1_000, epochs=4, batch_size=32,
                     rate=0.05),
    "full": Plan(seeds=3, size=32, train=50_000, test=10_000, epochs=60, batch_size=128,
                 rate=0.1, width=1 / 2),
}  # fmt: skip
EXPECTED = {
    "standard": "9 networks, minutes on one core, below 2 GB of memory.",
    "full": "9 networks of 60 epochs of CIFAR-10: 1.5e16 floating-point operations, 15 to 50 "
    "minutes on one H100 (from the operations at 5 to 15 TFLOP/s, not measured), below 20 GB of "
    "memory.",
}
PARTS = tuple(ARMS)


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _measure(settings: Settings, plan: Plan, part: str) -> list[Trained] | None:
    if part not in plan.arms:
        return None
    reductions, narrower = ARMS[part]
    build = functools.partial(SmallInception, reductions, plan.width * narrower, plan.modules)
    return list(trained(settings, "reductions", part, build, plan))


def _report(settings: Settings, plan: Plan, found: dict[str, list[Trained]]) -> Section:
    section = Section(
        "reductions",
        "4 · What 1×1 convolutions save",
        "GoogLeNet's modules put 1×1 convolutions before their 3×3 and 5×5 ones, and after their "
        "pool, to make the input narrow. First the counts of GoogLeNet with and without these; "
        "then small networks of such modules, trained: with reductions, without them (the "
        "naive module), and without them but narrow enough to cost the same. "
        f"{plan.words(settings)}",
    )
    _counts(section)
    accuracy = {arm: np.array([run.accuracy() for run in runs]) for arm, runs in found.items()}
    macs = {arm: runs[0].counts().macs() for arm, runs in found.items()}
    classes = found["reduced"][0].dataset.classes
    untrained = [
        run.classifier.accuracy(*run.beginning(), run.dataset.test) - 1 / classes
        for run in found["reduced"]
    ]
    milliseconds = timed({arm: runs[0] for arm, runs in found.items()})
    trained_claims(section, settings, accuracy, macs, milliseconds, np.array(untrained))
    _figure(section, found, accuracy, milliseconds)
    return section


# ---- counts ----------------------------------------------------------------------------------


def arithmetic(inputs: int, row: Sequence[int], reductions: bool) -> int:
    """Weights of an Inception module, from its row of table 1: what a reader would add up."""
    one, reduce3, three, reduce5, five, projection = row
    if reductions:
        narrow = inputs * (one + reduce3 + reduce5 + projection)
        return narrow + 9 * reduce3 * three + 25 * reduce5 * five
    return inputs * (one + 9 * three + 25 * five)


def module_macs(reductions: bool) -> list[int]:
    """Multiply-accumulates of GoogLeNet's modules, each alone on its own input, as counted."""
    found = []
    for inputs, extent, row in zip(INPUTS, EXTENTS, MODULES.values(), strict=True):
        build = functools.partial(Inception, inputs, row, reductions=reductions)
        module = nnx.eval_shape(lambda build=build: build(rngs=nnx.Rngs(0)))
        found.append(counts_of(module, (1, extent, extent, inputs)).macs())
    return found


def _counts(section: Section) -> None:
    networks = {
        name: nnx.eval_shape(lambda options=options: GoogLeNet(**options, rngs=nnx.Rngs(0)))
        for name, options in {
            "torchvision": {"batch_norm": True, "large": 3},
            "reduced": {},
            "naive": {"reductions": False},
        }.items()
    }
    counts = {name: counts_of(network, (1, 224, 224, 3)) for name, network in networks.items()}
    section.exact(
        "GoogLeNet as torchvision has it (3×3 in the place of 5×5): parameters, and 10⁹ "
        "multiply-accumulates",
        [6_624_904, 1.498],
        [counts["torchvision"].parameters(), round(counts["torchvision"].macs() / 1e9, 3)],
    )
    words = {True: "with reductions", False: "without"}
    macs = {reductions: module_macs(reductions) for reductions in words}
    for reductions, word in words.items():
        section.exact(
            f"Multiply-accumulates of the nine modules {word}, counted, beside the sums of the "
            "sizes in table 1",
            [
                arithmetic(inputs, row, reductions) * extent**2
                for inputs, extent, row in zip(INPUTS, EXTENTS, MODULES.values(), strict=True)
            ],
            macs[reductions],
        )
    widths, features = [], INPUTS[0]
    for one, _, three, _, five, _ in MODULES.values():
        features += one + three + five
        widths.append(features)
    section.exact(
        "Without reductions a module hands on its whole input besides: channels after each",
        widths,
        [module.out_features for module in networks["naive"].modules.values()],
        f"With them: {', '.join(str(m.out_features) for m in networks['reduced'].modules.values())}"
        f". So the whole network needs {counts['naive'].macs():,} multiply-accumulates in the "
        f"place of {counts['reduced'].macs():,}, and {counts['naive'].parameters():,} parameters "
        f"in the place of {counts['reduced'].parameters():,}.",
    )

    def draw(axes: Axes, theme: Theme) -> None:
        places = np.arange(len(MODULES))
        for shift, (reductions, colour) in enumerate(((True, theme.one), (False, theme.two))):
            values = np.array(macs[reductions]) / 1e6
            axes.bar(places + 0.4 * shift, values, 0.38, color=colour, label=words[reductions])
        axes.set_xticks(places + 0.2, list(MODULES))
        axes.set(xlabel="module of GoogLeNet", ylabel="million multiply-accumulates")
        axes.legend()

    ratios = np.array(macs[False]) / np.array(macs[True])
    section.figure(
        "What the reductions save, module by module",
        "Multiply-accumulates of each of GoogLeNet's modules on the input that it has in GoogLeNet."
        f" The naive modules cost {ratios.min():.1f} to {ratios.max():.1f} times as much, before "
        "counting that they would also receive wider inputs.",
        [chart("Cost of the modules", draw, 420, 270)],
    )


# ---- trained ---------------------------------------------------------------------------------


class SmallInception(nnx.Module):
    """A 3x3/2 convolution, some of GoogLeNet's modules, and one dense layer.

    Its pool is before 4a, as in GoogLeNet.
    """

    def __init__(
        self, reductions: bool, width: float, modules: Sequence[str],
        rngs: nnx.Rngs, channels: int, classes: int,
    ) -> None:  # fmt: skip
        features = parts.scaled(INPUTS[0], width)
        stem = nn.Conv(channels, features, (3, 3), 2, use_bias=False, rngs=rngs)
        self.stem = parts.ConvNorm(stem, features, rngs=rngs)
        blocks = {}
        for name in modules:
            row = [parts.scaled(number, width) for number in MODULES[name]]
            blocks[name] = Inception(
                features, row, reductions=reductions, batch_norm=True, rngs=rngs
            )
            features = blocks[name].out_features
        self.modules = nnx.Dict(blocks)
        self.classifier = nnx.Linear(features, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.stem(x)
        for name, module in self.modules.items():
            y = module(parts.max_pool(y) if name == "4a" else y)
        return self.classifier(parts.global_average(y))


def timed(runs: dict[str, Trained], batch: int = 250) -> dict[str, np.ndarray]:
    """Milliseconds for one batch of test pictures, in interleaved rounds."""

    def program(run: Trained) -> Callable[[], Any]:
        images = run.dataset.test.images[:batch]
        return lambda: outputs(run.network.apply, images, batch, run.params, run.model)

    return milliseconds({arm: program(run) for arm, run in runs.items()}, ROUNDS)


def trained_claims(
    section: Section,
    settings: Settings,
    accuracy: dict[str, np.ndarray],
    macs: dict[str, int],
    milliseconds: dict[str, np.ndarray],
    untrained: np.ndarray,
) -> None:
    """From every network's accuracy, and each arm's cost and time."""
    ratio = macs["naive"] / macs["reduced"]
    means = {arm: f"{values.mean():.1%}" for arm, values in accuracy.items()}
    section.exact(
        "The network with reductions has 2 to 5 times fewer multiply-accumulates than the naive "
        "one",
        True,
        2 <= ratio <= 5,
        f"{macs['reduced']:,} and {macs['naive']:,}: {ratio:.2f} times.",
    )
    change = estimate(accuracy["reduced"] - accuracy["naive"])
    section.finding(
        f"… at about the accuracy of the naive network (difference; {means['reduced']} and "
        f"{means['naive']})",
        None,
        *change,
        equal(settings, change, -CLOSE, CLOSE, "the difference"),
    )
    if "naive, narrow" in accuracy:
        section.exact(
            "… control: a naive network, narrow enough to cost the same within a tenth",
            True,
            abs(macs["naive, narrow"] / macs["reduced"] - 1) <= 0.1,
            f"{macs['naive, narrow']:,} and {macs['reduced']:,}.",
        )
        better = estimate(accuracy["reduced"] - accuracy["naive, narrow"])
        section.finding(
            f"… is less accurate than the one with reductions (difference; it has "
            f"{means['naive, narrow']})",
            None,
            *better,
            above(settings, better, what="the difference"),
        )
    chance = estimate(untrained)
    section.finding(
        "… null: the network with reductions is at chance before training (accuracy less chance)",
        0,
        *chance,
        equal(settings, chance, -0.05, 0.05, "the difference"),
    )
    faster = estimate(milliseconds["naive"] / milliseconds["reduced"])
    section.finding(
        f"Multiply-accumulates are not time: by how much the naive network takes longer, of "
        f"{ratio:.2f} times the multiply-accumulates (measured on this machine, {ROUNDS} rounds)",
        None,
        *faster,
        above(settings, faster, 1, "the ratio of times"),
        "The interval is over rounds, not over seeds.",
    )


def _figure(
    section: Section,
    found: dict[str, list[Trained]],
    accuracy: dict[str, np.ndarray],
    milliseconds: dict[str, np.ndarray],
) -> None:
    def accuracies(axes: Axes, theme: Theme) -> None:
        intervals(axes, theme, {arm: estimate(values) for arm, values in accuracy.items()})
        axes.set(xlabel="test accuracy")

    def times(axes: Axes, theme: Theme) -> None:
        intervals(axes, theme, {arm: estimate(values) for arm, values in milliseconds.items()})
        axes.set(xlabel="milliseconds for a batch", xlim=(0, None))

    section.figure(
        "Accuracy and time of small networks",
        "Test accuracy with its 95 % interval over the seeds, and the time of a batch of test "
        "pictures with its interval over the rounds.",
        [chart("Accuracy", accuracies, 380, 200), chart("Time", times, 380, 200)],
        [
            (arm, f"{counts.parameters():,} parameters, {counts.macs():,} MACs")
            for arm, runs in found.items()
            for counts in (runs[0].counts(),)
        ],
    )
