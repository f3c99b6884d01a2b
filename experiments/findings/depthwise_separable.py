"""Depthwise separable against full convolution: accuracy against cost, counted and timed (8.2)."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from matplotlib.axes import Axes

import convjax
from convjax import nn
from convjax.draw.charts import Theme
from convjax.models import Counts, MobileNetV1, counts_of
from experiments.page.figures import chart, errors
from experiments.page.report import Section
from experiments.page.verdicts import Estimate, above, below, equal, estimate
from experiments.run import experiment
from experiments.run.arms import Budget, Trained, pictures, shown, trained
from experiments.run.measure import milliseconds
from experiments.run.settings import Settings
from experiments.run.stacks import HE, Normalised, Stack

ARMS = {
    "full": "full 3×3",
    "separable": "separable",
    "relu": "separable, ReLU between",
    "wide": "separable, widened",
    "pointwise": "1×1 only",
}
TIMED = ("full", "separable", "wide")
CLOSE = 0.02  # of accuracy
STRIDES = (1, 1, 2, 1, 2)  # of the stem and of the four blocks
# Reported accuracies on ImageNet, not verified here.
MOBILENET, XCEPTION = round(0.706 - 0.717, 3), round(0.790 - 0.782, 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Budget):
    """What a profile does.

    Attributes:
        features: channels after the stem and after every block.
        rounds: of timing.
        arms: what is trained.
        passes: what is timed.
        grey: whether the pictures have no colour, so that networks must look at shapes.
    """

    features: tuple[int, ...]
    rounds: int
    arms: tuple[str, ...] = tuple(ARMS)
    passes: tuple[str, ...] = ("inference", "training step")
    grey: bool = True


SMALL, LARGE = (12, 24, 24, 32, 32), (64, 128, 128, 256, 256)
PLANS = {
    "smoke": Plan(1, 16, 32, 16, 1, 16, 0.05, features=(4, 4), rounds=1,
                  arms=("full", "separable"), passes=("inference",)),
    "quick": Plan(2, 16, 800, 500, 2, 64, 0.05, features=SMALL, rounds=3,
                  arms=("full", "separable", "wide"), passes=("inference",)),
    "standard": Plan(5, 16, 3_000, 1_000, 6, 64, 0.05, features=SMALL, rounds=15),
    "full": Plan(5, 32, 50_000, 10_000, 60, 128, 0.1, features=LARGE, rounds=30, grey=False),
}  # fmt: skip
PARTS = tuple(ARMS)


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _measure(settings: Settings, plan: Plan, part: str) -> list[Trained] | None:
    if part not in plan.arms:
        return None
    build = functools.partial(network, plan, part)
    load = functools.partial(pictures, grey=plan.grey)
    return list(trained(settings, "depthwise_separable", part, build, plan, load=load))


def _report(settings: Settings, plan: Plan, found: dict[str, list[Trained]]) -> Section:
    page = Section(
        "depthwise_separable",
        "8.2 · Depthwise separable convolution: what it saves and what it costs",
        "A depthwise separable layer multiplies 1/N + 1/h² as often as a full one. What becomes of "
        "accuracy, and of time? Networks of a 3×3 stem and four blocks: full 3×3 convolutions; "
        "depthwise 3×3 then 1×1, batch normalisation after both and ReLU after the second; the "
        "same with ReLU after the first too, as MobileNet has it (Xception does not); and widened "
        "until it has as many parameters as the full network. The control has 1×1 convolutions "
        f"only: it shows what channels do alone. {shown(plan.grey)}{plan.words(settings)}",
    )
    times = timed(found, plan)
    accuracy = {arm: np.array([run.accuracy() for run in runs]) for arm, runs in found.items()}
    counts = {arm: runs[0].counts() for arm, runs in found.items()}
    untrained = np.array(
        [r.classifier.accuracy(*r.beginning(), r.dataset.test) for r in found["separable"]]
    )
    published(page)
    claims(page, settings, accuracy, untrained, counts, times)
    figures(page, accuracy, counts, times)
    return page


def network(plan: Plan, arm: str, rngs: nnx.Rngs, channels: int, classes: int) -> Stack:
    """The network of an arm."""
    features = plan.features
    if arm == "wide":
        features = widened(features, channels, classes)
    return stack(features, arm, rngs, channels, classes)


def stack(features: Sequence[int], arm: str, rngs: nnx.Rngs, channels: int, classes: int) -> Stack:
    """A stem and blocks with these channels."""
    own: dict[str, Any] = {"use_bias": False, "rngs": rngs}
    stem = nn.Conv(channels, features[0], (3, 3), STRIDES[0], kernel_init=HE, **own)
    stages = [Normalised(stem, features[0], rngs=rngs)]
    for i, o, strides in zip(features, features[1:], STRIDES[1:], strict=False):
        if arm == "full":
            conv: nnx.Module = nn.Conv(i, o, (3, 3), strides, kernel_init=HE, **own)
        elif arm == "pointwise":
            conv = nn.PointwiseConv(i, o, strides=strides, kernel_init=HE, **own)
        else:
            depthwise = nn.DepthwiseConv(i, (3, 3), strides=strides, **own)
            stages.append(Normalised(depthwise, i, relu=arm == "relu", rngs=rngs))
            conv = nn.PointwiseConv(i, o, kernel_init=HE, **own)
        stages.append(Normalised(conv, o, rngs=rngs))
    return Stack(stages, features[-1], classes, rngs=rngs)


@functools.cache
def widened(features: tuple[int, ...], channels: int, classes: int) -> tuple[int, ...]:
    """Channels with which the separable network comes closest to the full one's parameters."""

    def parameters(features: Sequence[int], arm: str) -> int:
        module = nnx.eval_shape(lambda: stack(features, arm, nnx.Rngs(0), channels, classes))
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))

    def scaled(eighths: int) -> tuple[int, ...]:
        return tuple(n * eighths // 8 for n in features)

    target = parameters(features, "full")
    low, high = 8, 32  # times 1/8: a separable layer never has a ninth of a full one's weights
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(scaled(middle), "wide") < target else (low, middle)
    return min(scaled(low), scaled(high), key=lambda found: abs(parameters(found, "wide") - target))


# ---- time ------------------------------------------------------------------------------------


def timed(found: Mapping[str, list[Trained]], plan: Plan) -> dict[str, dict[str, np.ndarray]]:
    """Milliseconds of every round, for each pass and arm, on one batch of training pictures."""
    runs = {arm: found[arm][0] for arm in TIMED if arm in found}
    return {
        each: milliseconds(
            {arm: _program(run, plan, each) for arm, run in runs.items()}, plan.rounds
        )
        for each in plan.passes
    }


def _program(run: Trained, plan: Plan, each: str) -> Callable[[], Any]:
    """One pass of a network, compiled, on one batch that is on the device already."""
    batch = jax.tree.map(lambda a: jax.numpy.asarray(a[: plan.batch_size]), run.dataset.train)
    key = jax.random.key(0)

    def inference(params: Any, model: Any) -> jax.Array:
        return run.network.apply(params, model, batch.images)

    def training(params: Any, model: Any) -> Any:
        return jax.grad(run.classifier.loss, has_aux=True)(params, model, batch, key)

    options: Any = convjax.compiler_options(jax.default_backend())
    chosen: Callable[..., Any] = inference if each == "inference" else training
    program = jax.jit(chosen, compiler_options=options)
    return lambda: program(run.params, run.model)


# ---- claims and figures ----------------------------------------------------------------------


def published(page: Section) -> None:
    """MobileNet's table 4, from the network itself."""
    millions = []
    for full in (True, False):
        model = nnx.eval_shape(lambda full=full: MobileNetV1(full_conv=full, rngs=nnx.Rngs(0)))
        counts = counts_of(model, (1, 224, 224, 3))
        macs = counts.conv_macs if full else counts.macs()
        millions.append([round(macs / 1e6), round(counts.parameters() / 1e6, 1)])
    page.exact(
        "MobileNet at its published size, full and separable: millions of multiply-accumulates, "
        "millions of parameters",
        [[4866, 29.3], [569, 4.2]],
        millions,
        "The paper counts the dense layer's multiply-accumulates in the second row only.",
    )


def claims(
    page: Section,
    settings: Settings,
    accuracy: Mapping[str, np.ndarray],
    untrained: np.ndarray,
    counts: Mapping[str, Counts],
    times: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """What was trained, then what was timed."""

    def less(arm: str, other: str) -> tuple[Estimate, str]:
        words = f"{accuracy[arm].mean():.1%} and {accuracy[other].mean():.1%}"
        return estimate(accuracy[arm] - accuracy[other]), words

    change, words = less("separable", "full")
    saved = counts["full"].macs() / counts["separable"].macs()
    page.finding(
        f"Separable for full, same width: about the same accuracy (difference; {words}, at "
        f"{saved:.1f} times fewer multiplications)",
        MOBILENET,
        *change,
        equal(settings, change, -CLOSE, CLOSE, "the difference"),
        "The article's value is MobileNet's on ImageNet at 8.6 times fewer, reported, not verified "
        "here.",
    )
    if "pointwise" in accuracy:
        change, words = less("separable", "pointwise")
        page.finding(
            f"… control: above the same network with 1×1 convolutions only (difference; {words})",
            None,
            *change,
            above(settings, change, what="the difference"),
            "What the depthwise stage is for: all the rest of the separable network is 1×1.",
        )
    change = estimate(accuracy["separable"] - untrained)
    page.finding(
        f"… null: above the same networks before training (difference; they have "
        f"{untrained.mean():.1%})",
        None,
        *change,
        above(settings, change, what="the difference"),
    )
    if "wide" in accuracy:
        change, words = less("wide", "full")
        sizes = [counts[arm].parameters() for arm in ("wide", "full")]
        page.finding(
            f"Separable, widened to the parameters of full: higher accuracy (difference; {words}, "
            f"{sizes[0]:,} and {sizes[1]:,} parameters)",
            XCEPTION,
            *change,
            above(settings, change, what="the difference"),
            "The article's value is Xception's over Inception v3 on ImageNet, reported, not "
            "verified here.",
        )
    if "relu" in accuracy:
        change, words = less("separable", "relu")
        page.finding(
            f"No ReLU between depthwise and pointwise is better (difference; {words})",
            None,
            *change,
            above(settings, change, what="the difference"),
            "Xception's report; MobileNet has a ReLU there.",
        )
    for each, found in times.items():
        ratio = estimate(found["full"] / found["separable"])
        page.finding(
            f"Time of one {each} falls by less than the multiplications do (full by separable; "
            f"multiplications {saved:.2f})",
            None,
            *ratio,
            below(settings, ratio, round(saved, 2), "the ratio of times"),
            _milliseconds(found) + " A depthwise stage reads and writes as much as a full one, and "
            "multiplies little in between.",
        )
        if "wide" in found:
            ratio = estimate(found["wide"] / found["full"])
            more = counts["wide"].macs() / counts["full"].macs()
            page.finding(
                f"… and at equal parameters and {more:.2f} of the multiplications, one {each} of "
                "the separable network takes longer (separable, widened, by full)",
                None,
                *ratio,
                above(settings, ratio, 1, "the ratio of times"),
            )


def _milliseconds(found: Mapping[str, np.ndarray]) -> str:
    each = (
        f"{ARMS[arm]} {np.median(t):.3g} ({t.min():.3g} to {t.max():.3g})"
        for arm, t in found.items()
    )
    rounds = len(next(iter(found.values())))
    return (
        f"Medians in ms and their range, of {rounds} interleaved rounds: "
        f"{'; '.join(each)}."
    )


def figures(
    page: Section,
    accuracy: Mapping[str, np.ndarray],
    counts: Mapping[str, Counts],
    times: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Accuracy against every cost, and how much each of these falls."""
    costs = {
        "multiply-accumulates, millions": {a: c.macs() / 1e6 for a, c in counts.items()},
        "parameters, thousands": {a: c.parameters() / 1e3 for a, c in counts.items()},
        **{
            f"{each}, ms": {a: float(np.median(t)) for a, t in found.items()}
            for each, found in times.items()
        },
    }
    page.figure(
        "Accuracy against what it costs",
        "Test accuracy with its 95 % interval over the seeds. Left is cheaper, up is better: the "
        "separable network moves far to the left in multiplications and parameters, and less far "
        "in time. Widened, it costs what the full one costs in the first two, and more in time.",
        [chart(name.partition(",")[0].capitalize(), _scatter(accuracy, cost, name), 340, 280)
         for name, cost in costs.items()],
        [(ARMS[arm], f"{c.parameters():,} parameters, {c.macs():,} MACs, accuracy "
                     f"{accuracy[arm].mean():.1%}") for arm, c in counts.items()],
    )  # fmt: skip
    saved = {
        name.partition(",")[0]: cost["full"] / cost["separable"] for name, cost in costs.items()
    }

    def draw(axes: Axes, theme: Theme) -> None:
        colours = [theme.one, theme.one, theme.two, theme.two]
        axes.barh(list(saved), list(saved.values()), color=colours[: len(saved)])
        for row, value in enumerate(saved.values()):
            axes.text(value, row, f" {value:.1f}×", va="center", fontsize=9)
        axes.axvline(1, color=theme.quiet, linewidth=1)
        axes.invert_yaxis()
        axes.set(xlabel="full by separable, same width", xlim=(0, 1.2 * max(saved.values())))

    page.figure(
        "What separating saves",
        "Counted savings in blue, measured ones in orange, of the same two networks: savings in "
        "multiplications are no savings in time. The times are those of the machine that made this "
        "page; another one has others.",
        [chart("Full by separable", draw, 380, 200)],
    )


def _scatter(
    accuracy: Mapping[str, np.ndarray], cost: Mapping[str, float], name: str
) -> Callable[[Axes, Theme], None]:
    marks = dict(zip(ARMS, "osD^v", strict=True))

    def draw(axes: Axes, theme: Theme) -> None:
        colours = dict(zip(ARMS, (theme.one, theme.two, theme.three, theme.two, theme.quiet),
                           strict=True))  # fmt: skip
        for arm, x in cost.items():
            style = {"marker": marks[arm], "color": colours[arm], "linestyle": "none"}
            errors(axes, [x], [estimate(accuracy[arm])], label=ARMS[arm], markersize=6, **style)
        axes.set(xlabel=name, ylabel="test accuracy", xlim=(0, 1.12 * max(cost.values())))
        axes.legend(loc="lower right", fontsize=8)

    return draw


EXPECTED = {
    "standard": "25 networks and their times: about 6 minutes on one core, below 2 GB of memory.",
    "full": "25 networks of 60 epochs of CIFAR-10, the two largest arms of 230 million "
    "multiply-accumulates a picture: 4.5e16 floating-point operations, 1 to 3 hours on one H100 "
    "(from the operations at 5 to 15 TFLOP/s, not measured), below 10 GB of memory.",
}
