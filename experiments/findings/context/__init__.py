"""Dilated context aggregation: what the module sees, a dense task that needs it, and gridding."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from matplotlib.axes import Axes

import convjax
from convjax import nn
from convjax.analysis import empirical_receptive_field
from convjax.draw.charts import Theme
from convjax.models import ContextModule, parts
from convjax.models.context import DILATIONS
from experiments.article.dilated import extent, field_panel, seen
from experiments.findings.context.pictures import COLOURS, NEAR, flags, mean_iou, to_flag
from experiments.page.figures import chart, intervals, pixels
from experiments.page.report import Section
from experiments.page.verdicts import Estimate, above, equal, estimate
from experiments.run import experiment
from experiments.run.arms import Budget, Trained, trained
from experiments.run.measure import difference, integers
from experiments.run.settings import Settings
from experiments.run.training import outputs

REACH = len(DILATIONS)  # pixels to each side that seven undilated 3x3 layers see
CLOSE = 0.02  # of mean intersections over unions
STACKS = {"dilated": DILATIONS, "undilated": (1,) * len(DILATIONS)}
ARMS = (
    *(f"far, {stack}, identity" for stack in STACKS),
    "far, dilated, random",
    *(f"near, {stack}, identity" for stack in STACKS),
)
HUES = np.array([[0.9, 0.55, 0.2], [0.25, 0.6, 0.9], [0.35, 0.75, 0.45], [0.5, 0.5, 0.5]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Budget):
    """What a profile does.

    Attributes:
        channels: of the context module.
        arms: which are trained.
        depths: after how many layers the receptive field is measured.
    """

    channels: int = 8
    arms: tuple[str, ...] = ARMS
    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)

    def optimizer(self) -> optax.GradientTransformation:
        """Adam: these networks have no normalisation."""
        return optax.adam(optax.cosine_decay_schedule(self.rate, self.steps))


PLANS = {
    "smoke": Plan(seeds=1, size=16, train=16, test=6, epochs=1, batch_size=8, rate=1e-2,
                  arms=ARMS[:2], depths=(1, 7)),
    "quick": Plan(seeds=2, size=16, train=512, test=96, epochs=1, batch_size=8, rate=1e-2),
    "standard": Plan(seeds=3, size=16, train=2_048, test=384, epochs=3, batch_size=8, rate=1e-2),
    "full": Plan(seeds=5, size=64, train=16_384, test=3_072, epochs=4, batch_size=16, rate=3e-3,
                 channels=21),
}  # fmt: skip
EXPECTED = {
    "standard": "15 networks, 3 minutes on one core (measured, which others shared), below 2 GB of "
    "memory.",
    "full": "25 networks of 65,000 pictures of 64×64: 1.1e15 floating-point operations, minutes on "
    "one H100 (from the operations at 5 to 15 TFLOP/s, not measured), below 10 GB of memory.",
}
FIELDS = "fields"
PARTS = (FIELDS, *ARMS)


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _measure(settings: Settings, plan: Plan, part: str) -> Any:
    if part == FIELDS:
        return fields(plan.depths)
    if part not in plan.arms:
        return None
    build = functools.partial(_network, plan.channels, part)
    load = functools.partial(flags, near=part.startswith("near"))
    return [Measured.of(run) for run in trained(settings, "context", part, build, plan, load=load)]


def _report(settings: Settings, plan: Plan, found: dict[str, Any]) -> Section:
    section = Section(
        "context",
        "7 · Dilation in use: context for every pixel",
        "Yu and Koltun's context module: seven 3×3 convolutions of dilations 1, 1, 2, 4, 8, 16, 1, "
        "against seven undilated ones with the same parameters. The task has one or two flags, "
        f"single pixels of one of {COLOURS} colours, in a noisy {plan.size}×{plan.size} picture; "
        "every pixel has to get the colour of the flag nearest to it, however far. In the task of "
        f"short range only the pixels up to {NEAR} away do, and all others a fourth class. "
        f"{plan.train:,} training and {plan.test:,} test pictures, {plan.epochs} epochs, "
        f"{plan.seeds} seeds.",
    )
    _fields(section, plan, *found.pop(FIELDS))
    _gridding(section, settings)
    task_claims(section, settings, found)
    _figures(section, found)
    return section


# ---- what it sees ----------------------------------------------------------------------------


def fields(depths: Sequence[int]) -> tuple[list[int], int]:
    """What the middle output sees after so many layers of random weights, and of a new module."""
    fresh = ContextModule(channels=2, rngs=nnx.Rngs(0))
    noisy = ContextModule(channels=2, stddev=1.0, rngs=nnx.Rngs(0))
    side = 71

    @jax.jit
    def sizes() -> tuple[list[jax.Array], jax.Array]:
        def after(depth: int, x: jax.Array) -> jax.Array:
            return functools.reduce(lambda y, layer: nnx.relu(layer(y)), noisy.layers[:depth], x)

        shape = (1, side, side, 2)
        each = [
            empirical_receptive_field(functools.partial(after, depth), shape).size[0]
            for depth in depths
        ]
        return each, empirical_receptive_field(fresh, shape).size[0]

    each, new = sizes()
    return [int(size) for size in each], int(new)


def _fields(section: Section, plan: Plan, each: list[int], new: int) -> None:
    section.exact(
        f"What an output of the context module sees after {', '.join(map(str, plan.depths))} "
        "layers, by the gradient of a module with random weights",
        [(3, 5, 9, 17, 33, 65, 67)[depth - 1] for depth in plan.depths],
        each,
        "As in table 1 of Yu and Koltun.",
    )
    section.exact("… and of a new module, which begins as the identity", 1, new)


# ---- gridding --------------------------------------------------------------------------------


def _gridding(section: Section, settings: Settings) -> None:
    grid, gradual = (seen(steps).astype(int) for steps in ((2, 2, 2), (1, 2, 3)))
    middle = len(grid) // 2
    window = slice(middle - 6, middle + 7)
    line = np.zeros(13, int)
    line[::2] = [1, 3, 6, 7, 6, 3, 1]
    section.identity(
        "Gridding: three layers of dilation 2 reach every second pixel only, by 1, 3, 6, 7, 6, 3, "
        "1 paths along each axis",
        "equal",
        difference(grid[window, window], np.outer(line, line)),
        0,
    )
    section.exact(
        "… so of the 13×13 pixels of their receptive field an output sees 49; with dilations 1, 2, "
        "3, whose field is as wide, it sees",
        [13, 13, 49, 169],
        [extent(grid), extent(gradual), int((grid > 0).sum()), int((gradual > 0).sum())],
    )
    x = integers(settings.seed, 1, 12, 14, 2)
    kernels = [integers(settings.seed + n, 3, 3, 2, 2, low=-2, high=3) for n in (1, 2, 3)]

    def stack(x: jax.Array, dilation: int) -> jax.Array:
        return functools.reduce(lambda y, k: convjax.dilated_conv(y, k, dilation), kernels, x)

    apart = np.zeros(x.shape, np.float32)
    for row, column in np.ndindex(2, 2):
        apart[:, row::2, column::2] = stack(x[:, row::2, column::2], 1)
    section.identity(
        "… and the four sub-pictures of every second pixel never meet: each is convolved by itself",
        "equal",
        difference(stack(x, 2), apart),
        0,
    )
    section.figure(
        "Gridding: the same width, with holes and without",
        "Which pixels one output of three 3×3 layers reads; darker (brighter on a dark page) by "
        "more paths. Equal dilations leave three quarters of the field unseen, and a neighbouring "
        "output sees other pixels altogether. Dilations 1, 2, 3 see all of it.",
        [field_panel("l = 2, 2, 2", (2, 2, 2)), field_panel("l = 1, 2, 3", (1, 2, 3))],
    )


# ---- the task --------------------------------------------------------------------------------


class Labeller(nnx.Module):
    """A 1x1 convolution to maps without negative values, the context module, and 1x1 to classes."""

    def __init__(
        self, dilations: tuple[int, ...], identity: bool, width: int,
        channels: int, classes: int, rngs: nnx.Rngs,
    ) -> None:  # fmt: skip
        self.front = nn.PointwiseConv(channels, width, rngs=rngs)
        self.context = ContextModule(channels=width, dilations=dilations, rngs=rngs)
        layers: list[Any] = [] if identity else [*self.context.layers, self.context.last]
        for layer in layers:
            kernel = layer.kernel
            kernel[...] = parts.HE_NORMAL(rngs.params(), kernel.shape, kernel.dtype)
        self.head = nn.PointwiseConv(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.context(nnx.relu(self.front(x))))


def _network(width: int, arm: str, rngs: nnx.Rngs, channels: int, classes: int) -> Labeller:
    _, stack, init = arm.split(", ")
    return Labeller(STACKS[stack], init == "identity", width, channels, classes, rngs)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One network: mean intersection over union, accuracy where it sees no flag, and by distance.

    `example` is the first test picture of several classes, its labels, and what the network says.
    """

    iou: float
    before: float
    blind: float
    by_distance: np.ndarray
    example: tuple[np.ndarray, ...] = ()

    @classmethod
    def of(cls, run: Trained) -> "Measured":
        images, labels = run.dataset.test
        classes = run.dataset.classes
        found, before = (
            outputs(run.network.apply, images, 64, *numbers).argmax(-1)
            for numbers in ((run.params, run.model), run.beginning())
        )
        steps = to_flag(images)
        shown = int((np.ptp(labels, axis=(1, 2)) > 0).argmax())
        right = found == labels
        curve = [right[steps == n].mean() if (steps == n).any() else np.nan
                 for n in range(images.shape[1])]  # fmt: skip
        return cls(
            mean_iou(found, labels, classes),
            mean_iou(before, labels, classes),
            float(right[steps > REACH].mean()) if (steps > REACH).any() else float("nan"),
            np.array(curve),
            (images[shown], labels[shown], found[shown]),
        )


def task_claims(section: Section, settings: Settings, measured: dict[str, list[Measured]]) -> None:
    """From every network, by arm."""

    def iou(arm: str) -> np.ndarray:
        return np.array([m.iou for m in measured[arm]])

    dilated, plain = iou("far, dilated, identity"), iou("far, undilated, identity")
    gain = estimate(dilated - plain)
    section.finding(
        "Colour of the nearest flag: dilated modules have the higher mean IoU (difference; "
        f"{dilated.mean():.3f} and {plain.mean():.3f})",
        None,
        *gain,
        above(settings, gain, what="the difference"),
        "Yu and Koltun are reported to gain 1.5 points of mean IoU on VOC 2012 by the module (not "
        "verified here); they have no undilated one.",
    )
    blind = [[m.blind for m in runs] for arm, runs in measured.items() if "far, undil" in arm]
    section.near(
        f"… null: where the nearest flag is more than {REACH} pixels away, undilated modules are "
        f"right in one of {COLOURS} cases, whatever they learn (accuracy)",
        1 / COLOURS,
        float(np.mean(blind)),
        2e-3,
        "They see 15×15 pixels, no flag among them, and the test pictures come in all colours.",
    )
    seeing = estimate([m.blind for m in measured["far, dilated, identity"]])
    section.finding(
        "… and dilated ones more often (accuracy there)",
        None,
        *seeing,
        above(settings, seeing, 1 / COLOURS, "the accuracy"),
    )
    learned = estimate([m.iou - m.before for m in measured["far, dilated, identity"]])
    section.finding(
        "… control: above the same modules before training (difference of mean IoU)",
        None,
        *learned,
        above(settings, learned, what="the difference"),
    )
    if set(measured) != set(ARMS):
        return
    change = estimate(iou("near, dilated, identity") - iou("near, undilated, identity"))
    section.finding(
        f"… control: where only pixels up to {NEAR} from a flag get its colour, both have about "
        f"the same mean IoU (difference; {iou('near, dilated, identity').mean():.3f} and "
        f"{iou('near, undilated, identity').mean():.3f})",
        0,
        *change,
        equal(settings, change, -CLOSE, CLOSE, "the difference"),
    )
    init = estimate(iou("far, dilated, identity") - iou("far, dilated, random"))
    section.finding(
        "The identity is a better beginning than random weights (difference of dilated modules' "
        f"mean IoU; {iou('far, dilated, random').mean():.3f} with these)",
        None,
        *init,
        above(settings, init, what="the difference"),
        "Yu and Koltun are reported to have found random beginnings of no use (not verified here).",
    )


def _figures(section: Section, measured: dict[str, list[Measured]]) -> None:
    def curves(axes: Axes, theme: Theme) -> None:
        for stack, colour in zip(STACKS, (theme.two, theme.one), strict=True):
            each = np.array([m.by_distance for m in measured[f"far, {stack}, identity"]])
            axes.plot(each.mean(0), "o-", markersize=3, color=colour, label=stack)
        axes.axhline(1 / COLOURS, color=theme.quiet, linestyle=":")
        axes.axvline(REACH + 0.5, color=theme.quiet, linestyle="--")
        axes.set_xticks(range(0, len(measured["far, dilated, identity"][0].by_distance), 3))
        axes.set(xlabel="pixels to the nearest flag", ylabel="accuracy", ylim=(0, 1.03))
        axes.legend(loc="lower left")

    def ious(axes: Axes, theme: Theme) -> None:
        found: dict[str, Estimate] = {
            arm: estimate([m.iou for m in runs]) for arm, runs in measured.items()
        }
        intervals(axes, theme, found)
        axes.set(xlabel="mean IoU", xlim=(0, 1.03))

    images, labels, said = measured["far, dilated, identity"][0].example
    other: Any = measured["far, undilated, identity"][0].example[2]
    section.figure(
        "The colour of the nearest flag",
        "Flags are single pixels; every pixel gets the colour of the nearest. Within seven pixels "
        "(the dashed line) both modules can see the flag, though few paths lead there from the rim "
        "of an undilated module's view. Beyond, it has nothing to go by, and its accuracy is that "
        "of a guess (dotted).",
        [
            pixels("picture", np.clip(images, 0, 1) @ HUES[:COLOURS], 150),
            pixels("wanted", HUES[labels], 150),
            pixels("dilated", HUES[said], 150),
            pixels("undilated", HUES[other], 150),
            chart("Accuracy by distance", curves, 380, 270),
            chart("Mean IoU", ious, 420, 270),
        ],
    )
