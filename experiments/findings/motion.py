"""Three-dimensional against two-dimensional convolution: the direction of a moving shape."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.axes import Axes

from convjax import nn
from convjax.draw.charts import Theme
from convjax.models import parts
from experiments.page.figures import chart, intervals, pixels
from experiments.page.report import Section
from experiments.page.verdicts import above, estimate
from experiments.run import experiment
from experiments.run.arms import Budget, Trained, trained
from experiments.run.data import Dataset, Split
from experiments.run.settings import Settings

FRAMES = 7
MIDDLE = FRAMES // 2
VIEWS = ("all", "middle", "shuffled")
CLASSES = ("left", "right", "up", "down")
SHAPES = np.array(
    [
        [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]],
        [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]],
        [[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]],
        [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]],
    ],
    np.float32,
)
# Dimensions, channels, and which frames are shown. 10 and 16 channels have equal parameters;
# with 42 the two-dimensional network has the multiply-accumulates of the other one.
ARMS = {
    "3-D": (3, 10, "all"),
    "2-D": (2, 16, "all"),
    "2-D, wide": (2, 42, "all"),
    "2-D, middle frame": (2, 16, "middle"),
    "2-D, shuffled": (2, 16, "shuffled"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Budget):
    """What a profile does.

    Attributes:
        noise: its standard deviation, of every pixel; a shape has the value 1.
        arms: which are trained.
    """

    noise: float = 1.0
    arms: tuple[str, ...] = tuple(ARMS)


PLANS = {
    "smoke": Plan(seeds=1, size=12, train=32, test=32, epochs=1, batch_size=16, rate=0.05,
                  arms=("3-D", "2-D")),
    "quick": Plan(seeds=2, size=12, train=512, test=512, epochs=4, batch_size=32, rate=0.1,
                  arms=("3-D", "2-D", "2-D, middle frame")),
    "standard": Plan(seeds=3, size=12, train=512, test=768, epochs=8, batch_size=32, rate=0.1),
    "full": Plan(seeds=5, size=32, train=16_384, test=4_096, epochs=20, batch_size=64, rate=0.1,
                 noise=1.5),
}  # fmt: skip
EXPECTED = {
    "standard": "15 networks, minutes on one core, below 2 GB of memory.",
    "full": "25 networks of 330,000 videos of 32×32: 2e14 floating-point operations, minutes on "
    "one H100 (from the operations at 5 to 15 TFLOP/s, not measured), below 10 GB of memory.",
}
PARTS = tuple(ARMS)


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _measure(settings: Settings, plan: Plan, part: str) -> list[Trained] | None:
    if part not in plan.arms:
        return None
    dimensions, width, view = ARMS[part]
    build = functools.partial(MotionNet, dimensions, width)
    load = functools.partial(videos, view=view)
    return list(trained(settings, "motion", part, build, plan, load=load))


def _report(settings: Settings, plan: Plan, found: dict[str, list[Trained]]) -> Section:
    section = Section(
        "motion",
        "3 · Time as a third dimension",
        f"{FRAMES} frames of {plan.size}×{plan.size} pixels show a small shape in noise that moves "
        "left, right, up or down, one or two pixels a frame, and comes in again on the other side. "
        "One network convolves over time and space; the other takes the frames as channels of a "
        "picture, with as many parameters. Control: the middle frame alone, in the place of every "
        "frame, says nothing about the direction; frames in random order say at most whether it is "
        f"along rows or columns. {plan.train:,} training and {plan.test:,} test videos, "
        f"{plan.epochs} epochs, {plan.seeds} seeds.",
    )
    accuracy = {arm: np.array([run.accuracy() for run in runs]) for arm, runs in found.items()}
    untrained = {
        arm: np.array([run.classifier.accuracy(*run.beginning(), run.dataset.test) for run in runs])
        for arm, runs in found.items()
    }
    costs = {arm: runs[0].counts() for arm, runs in found.items()}
    counted = {arm: (c.parameters(), c.macs()) for arm, c in costs.items()}
    claims(section, settings, accuracy, untrained, counted)
    _figures(section, settings, plan, accuracy, counted)
    return section


class MotionNet(nnx.Module):
    """Three convolutions of extent 3, the last two halving height and width, and a dense layer.

    Args:
        dimensions: 3, over time too; or 2, with the frames as channels.
        width: channels of every layer.
        rngs: random streams.
        channels, classes: of the videos (N, time, height, width, channels), and of the result.
    """

    def __init__(
        self, dimensions: int, width: int, rngs: nnx.Rngs, channels: int, classes: int
    ) -> None:
        window = (3,) * dimensions
        halving = (1, 2, 2)[-dimensions:]
        features = channels if dimensions == 3 else channels * FRAMES
        layers = []
        for strides in ((1,) * dimensions, halving, halving):
            conv = nn.Conv(features, width, window, strides, use_bias=False, rngs=rngs)
            layers.append(parts.ConvNorm(conv, width, rngs=rngs))
            features = width
        self.layers = nnx.List(layers)
        self.classifier = nnx.Linear(width, classes, rngs=rngs)
        self.dimensions = dimensions

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.dimensions == 2:
            n, _, height, width, _ = x.shape
            x = jnp.moveaxis(x, 1, -2).reshape(n, height, width, -1)
        for layer in self.layers:
            x = layer(x)
        return self.classifier(parts.global_average(x))


# ---- videos ----------------------------------------------------------------------------------


def videos(settings: Settings, budget: Plan, seed: int, view: str = "all") -> Dataset:
    """Videos (N, time, height, width, 1), as one of `VIEWS` shows them."""
    rng = np.random.default_rng((seed, 3))
    train, test = (
        moving(n // 4, budget.size, budget.noise, view, rng) for n in (budget.train, budget.test)
    )
    return Dataset("motion", train, test, len(CLASSES))


def moving(count: int, size: int, noise: float, view: str, rng: np.random.Generator) -> Split:
    """`count` shapes, each moving in all four directions.

    The four videos of a shape have their middle frame in common, noise and all, and one is the
    other of the same axis backwards. So the middle frame comes equally often with every label, and
    frames without their order equally often with a direction and its opposite.
    """
    shape = SHAPES[rng.integers(0, len(SHAPES), count)]
    places, speeds = rng.integers(0, size, (count, 2)), rng.integers(1, 3, count)
    grain = rng.normal(0, noise, (count, 2, FRAMES, size, size))
    grain[:, 1, MIDDLE] = grain[:, 0, MIDDLE]
    orders = rng.permuted(np.tile(np.arange(FRAMES), (count, 2, 1)), axis=2)
    found = np.zeros((count, 4, FRAMES, size, size), np.float32)
    for n in range(count):
        canvas = np.zeros((size, size), np.float32)
        canvas[:4, :4] = shape[n]
        for axis, step in enumerate(((0, -1), (-1, 0))):  # left, up
            frames = [
                np.roll(canvas, places[n] + (t - MIDDLE) * speeds[n] * np.array(step), (0, 1))
                for t in range(FRAMES)
            ]
            forward = np.stack(frames) + grain[n, axis]
            order = orders[n, axis] if view == "shuffled" else np.arange(FRAMES)
            back = order if view == "shuffled" else order[::-1]
            found[n, 2 * axis], found[n, 2 * axis + 1] = forward[order], forward[back]
    if view == "middle":
        found = np.repeat(found[:, :, MIDDLE : MIDDLE + 1], FRAMES, 2)
    labels = np.tile(np.arange(4, dtype=np.int32), count)
    return Split(found.reshape(-1, *found.shape[2:], 1), labels)


# ---- claims ----------------------------------------------------------------------------------


def claims(
    section: Section,
    settings: Settings,
    accuracy: dict[str, np.ndarray],
    untrained: dict[str, np.ndarray],
    counted: dict[str, tuple[int, int]],
) -> None:
    """From every network's accuracy, trained and untrained, and each arm's (parameters, MACs)."""
    (deep, deep_macs), (flat, flat_macs) = counted["3-D"], counted["2-D"]
    section.exact(
        "Both networks have the same number of parameters, within a hundredth",
        True,
        abs(deep / flat - 1) < 0.01,
        f"{deep:,} and {flat:,}. The 3-D one uses its weights at every time, so it has more "
        f"multiply-accumulates: {deep_macs:,} and {flat_macs:,}.",
    )
    gain = estimate(accuracy["3-D"] - accuracy["2-D"])
    section.finding(
        f"At equal parameters, convolving over time is the more accurate (difference; "
        f"{accuracy['3-D'].mean():.1%} and {accuracy['2-D'].mean():.1%})",
        None,
        *gain,
        above(settings, gain, what="the difference"),
    )
    if "2-D, wide" in accuracy:
        gain = estimate(accuracy["3-D"] - accuracy["2-D, wide"])
        section.finding(
            f"… and at equal multiply-accumulates (difference; the wide 2-D network has "
            f"{accuracy['2-D, wide'].mean():.1%}, and {counted['2-D, wide'][0]:,} parameters)",
            None,
            *gain,
            above(settings, gain, what="the difference"),
        )
    for arm in ("3-D", "2-D"):
        learned = estimate(accuracy[arm] - untrained[arm])
        section.finding(
            f"… control, {arm}: above the same networks before training (difference)",
            None,
            *learned,
            above(settings, learned, what="the difference"),
        )
    if "2-D, middle frame" in accuracy:
        section.exact(
            "… null: from the middle frame alone exactly one video in four is right",
            [0.25] * len(accuracy["2-D, middle frame"]),
            accuracy["2-D, middle frame"].tolist(),
            "The four videos of a test shape have this frame in common, noise and all.",
        )
    if "2-D, shuffled" in accuracy:
        highest = float(accuracy["2-D, shuffled"].max())
        section.identity(
            "… null: from frames in random order at most every second video is right (the largest "
            f"of all networks: {highest:.3f})",
            "at most 1/2",
            max(0.0, highest - 0.5),
            0,
            "A direction and its opposite are the same frames backwards.",
            what="excess over 1/2",
        )


def _figures(
    section: Section,
    settings: Settings,
    plan: Plan,
    accuracy: dict[str, np.ndarray],
    counted: dict[str, tuple[int, int]],
) -> None:
    def strip(view: str) -> np.ndarray:
        rng = np.random.default_rng((settings.seed, 3))
        frames = moving(1, plan.size, plan.noise, view, rng).images[0, ..., 0]
        gap = np.ones((FRAMES, plan.size, 1))
        return np.concatenate([*np.concatenate([(frames + 1) / 3, gap], 2)], 1)[:, :-1]

    def draw(axes: Axes, theme: Theme) -> None:
        intervals(axes, theme, {arm: estimate(values) for arm, values in accuracy.items()})
        axes.axvline(0.25, color=theme.quiet, linestyle=":")
        axes.axvline(0.5, color=theme.quiet, linestyle="--")
        axes.set(xlabel="test accuracy", xlim=(0.2, 1.02))

    words = {"all": "moving left", "middle": "the middle frame alone", "shuffled": "shuffled"}
    section.figure(
        "Which way does it move?",
        "One video as each network sees it, and what is right. The dotted line is chance, the "
        "dashed one what the axis alone would give: with shuffled frames nothing gets beyond it, "
        "with one frame nothing gets beyond chance.",
        [*(pixels(words[view], strip(view), 360) for view in VIEWS),
         chart("Accuracy", draw, 400, 60 + 32 * len(accuracy))],
        [(arm, f"{parameters:,} parameters, {macs:,} MACs")
         for arm, (parameters, macs) in counted.items()],
    )  # fmt: skip
