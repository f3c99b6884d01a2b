"""Checkerboards in training: four times the resolution, with every way to enlarge."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import convjax
from convjax import initializers
from convjax.analysis import phase_variance_fraction
from convjax.draw.charts import Theme
from experiments.page.figures import chart, photo, pixels
from experiments.page.report import Section
from experiments.page.verdicts import above, below, estimate
from experiments.run import data
from experiments.run.arms import keeping
from experiments.run.settings import Settings
from experiments.run.training import Schedule, Task, Trained, beginning, outputs, train

SIDE, SCALE, BORDER = 64, 4, 8  # of the pictures; the border is left out of every measurement
FLOOR = 1e-4  # of the curves, whose axis is logarithmic
Params = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Of a profile: seeds, channels, pictures for training and for testing, and steps."""

    seeds: int
    width: int
    train: int
    test: int
    steps: int
    batch_size: int = 16


PLANS = {
    "smoke": Plan(1, 4, 16, 8, 2, 8),
    "quick": Plan(3, 16, 500, 40, 250),
    "standard": Plan(4, 24, 1_500, 60, 600),
    "full": Plan(5, 64, 20_000, 500, 20_000, 64),
}


class Arm(NamedTuple):
    """One way to double height and width: `enlarge` with a kernel of `shape(inside, out)`."""

    label: str
    shape: Callable[[int, int], tuple[int, ...]]
    enlarge: Callable[[jax.Array, jax.Array], jax.Array]
    initial: Callable[..., jax.Array]


def _transposed(size: int, held: bool = False) -> Arm:
    def enlarge(x: jax.Array, kernel: jax.Array) -> jax.Array:
        y = convjax.conv_transpose(x, kernel, strides=2, padding_mode="constant")
        return convjax.hold(y, 2) if held else y

    def initial(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        taps = size**2 / 4 * shape[-1]  # that meet in one output, on average
        return jnp.sqrt(2 / taps) * jax.random.normal(key, shape)

    label = f"transposed {size}×{size}" + ", then hold" * held
    return Arm(label, lambda inside, out: (size, size, out, inside), enlarge, initial)


def _subpixel(initial: Any, label: str) -> Arm:
    return Arm(
        label,
        lambda inside, out: (3, 3, inside, 4 * out),
        lambda x, kernel: convjax.subpixel_conv(x, kernel, 2, padding_mode="edge"),
        initial,
    )


def _resized(method: Literal["nearest", "bilinear"]) -> Arm:
    return Arm(
        f"resize ({method}), then convolve",
        lambda inside, out: (3, 3, inside, out),
        lambda x, k: convjax.resize_conv(x, k, 2, method=method, padding_mode="edge"),
        initializers.he_normal(),
    )


ARMS = {
    "transposed3": _transposed(3),
    "transposed4": _transposed(4),
    "transposed5": _transposed(5),
    "hold": _transposed(3, held=True),
    "subpixel": _subpixel(initializers.he_normal(), "sub-pixel, random"),
    "icnr": _subpixel(initializers.icnr(2, initializers.he_normal()), "sub-pixel, ICNR"),
    "nearest": _resized("nearest"),
    "bilinear": _resized("bilinear"),
}


def super_resolve(params: Params, model: Any, small: jax.Array, arm: Arm) -> jax.Array:
    """Pictures of four times the height and width: two convolutions, then twice twice."""
    y = small
    for name in ("first", "second"):
        y = convjax.conv(y, params[name], padding_mode="edge") + params[f"{name}_bias"]
        y = jax.nn.relu(y)
    y = jax.nn.relu(arm.enlarge(y, params["up"]) + params["up_bias"])
    return arm.enlarge(y, params["last"]) + params["last_bias"]


@functools.cache
def task_of(name: str, width: int) -> tuple[Task, Callable[..., jax.Array]]:
    """The task of an arm, and its network."""
    arm = ARMS[name]

    def initial(key: jax.Array) -> tuple[Params, Any]:
        first, second, up, last = jax.random.split(key, 4)
        normal = initializers.he_normal()
        kernels = {
            "first": normal(first, (3, 3, 3, width)),
            "second": normal(second, (3, 3, width, width)),
            "up": arm.initial(up, arm.shape(width, width)),
            "last": 0.5 * arm.initial(last, arm.shape(width, 3)),
        }
        sizes = {"first": width, "second": width, "up": width, "last": 3}
        biases = {f"{layer}_bias": jnp.zeros(size) for layer, size in sizes.items()}
        return kernels | biases, ()

    def network(params: Params, model: Any, small: jax.Array) -> jax.Array:
        return super_resolve(params, model, small, arm)

    def loss(params: Params, model: Any, batch: jax.Array, key: jax.Array) -> tuple[Any, Any]:
        error = network(params, model, reduced(batch)) - batch
        return (error**2).mean(), model

    return Task(initial, loss), network


def reduced(images: Any) -> Any:
    """A quarter of the height and width: means of 4 x 4 pixels."""
    n, height, width, channels = images.shape
    split = images.reshape(n, height // SCALE, SCALE, width // SCALE, SCALE, channels)
    return split.mean((2, 4))


def artifact(images: np.ndarray, period: int) -> float:
    """Mean phase-variance fraction away from the border."""
    inner = images[:, BORDER:-BORDER, BORDER:-BORDER]
    return float(_fraction(jnp.asarray(inner), period).mean())


_fraction = jax.jit(phase_variance_fraction, static_argnums=1)


def most_contrast(images: np.ndarray) -> int:
    """Which picture is shown: one on which there is something to see."""
    return int(images.std((1, 2, 3)).argmax())


class Result(NamedTuple):
    """One run: its log, and pictures of one place before and after."""

    lines: list[dict[str, Any]]
    before: np.ndarray
    after: np.ndarray


def super_resolution(section: Section, settings: Settings, plan: Plan) -> None:
    """Train every arm with every seed; compare error and artifact."""
    found: dict[str, list[Result]] = {name: [] for name in ARMS}
    truth = {}
    for name, results in found.items():
        for seed in settings.seeds(plan.seeds):
            images = _pictures(plan, seed)
            truth[seed] = images[1]
            results.append(_train(settings, plan, name, seed, *images))
    base = {p: np.array([artifact(t, p) for t in truth.values()]) for p in (2, 4)}
    _claims(section, settings, found, base)
    _figures(section, settings, plan, found, next(iter(truth.values())), base[4].mean())


def _pictures(plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray]:
    found = data.photos10(SIDE, plan.train, plan.test, seed)
    return found.train.images - 0.5, found.test.images - 0.5


def _train(
    settings: Settings, plan: Plan, name: str, seed: int, images: np.ndarray, test: np.ndarray
) -> Result:
    task, network = task_of(name, plan.width)
    small = reduced(test)

    def made_of(params: Params, model: Any) -> np.ndarray:
        return outputs(network, small, plan.test, params, model)

    def measure(params: Params, model: Any) -> dict[str, float]:
        made = made_of(params, model)
        inner = (made - test)[:, BORDER:-BORDER, BORDER:-BORDER]
        return {
            "error": float((inner**2).mean()),
            "artifact2": artifact(made, 2),
            "artifact4": artifact(made, 4),
        }

    trained: Trained = train(
        task,
        images,
        _optimizer(plan.steps),
        Schedule(plan.steps, plan.batch_size, max(1, plan.steps // 8), max(1, plan.steps // 4)),
        seed=seed,
        name=f"super-resolution, {ARMS[name].label}, seed {seed}",
        measure=measure,
        keeping=keeping(settings, "super_resolution", f"{name}-seed{seed}", plan),
    )
    before, after = made_of(*beginning(task, seed)), made_of(trained.params, trained.model)
    shown = most_contrast(test)
    return Result(trained.lines, before[shown], after[shown])


@functools.cache
def _optimizer(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(2e-3, steps))


def _at(found: list[Result], key: str, line: int) -> np.ndarray:
    return np.array([result.lines[line][key] for result in found])


def _claims(
    section: Section,
    settings: Settings,
    found: dict[str, list[Result]],
    base: dict[int, np.ndarray],
) -> None:
    def compare(claim: str, more: str, less: str, line: int, why: str = "") -> None:
        gap = estimate(_at(found[more], "artifact4", line) - _at(found[less], "artifact4", line))
        section.finding(claim, None, *gap, above(settings, gap, what="the difference"), why)

    for name in ("transposed3", "transposed4", "transposed5", "subpixel"):
        compare(
            f"Super-resolution before training: {ARMS[name].label} has more checkerboard "
            "(fraction at period 4) than resize (nearest), then convolve",
            name,
            "nearest",
            0,
        )
    compare("… hold lowers it (3×3 without, less with)", "transposed3", "hold", 0)
    compare("… ICNR lowers it (sub-pixel without, less with)", "subpixel", "icnr", 0)
    for name in ("transposed3", "transposed4", "transposed5", "subpixel", "icnr"):
        compare(
            f"After training: {ARMS[name].label} still has more than resize (nearest)",
            name,
            "nearest",
            -1,
            "“Even overlap often learns kernels that cause similar artifacts.” (Distill)"
            if name == "transposed4"
            else "",
        )
    for name, results in found.items():
        extra = estimate(_at(results, "artifact4", -1) - base[4])
        section.finding(
            f"After training, {ARMS[name].label}: artifact beyond that of the true pictures",
            None,
            *extra,
            above(settings, extra, what="the excess") if "transposed" in name
            else below(settings, extra, 0.005, "the excess"),
            f"The true pictures have {base[4].mean():.4f}.",
        )  # fmt: skip
    errors = {name: _at(results, "error", -1) for name, results in found.items()}
    better = estimate(errors["bilinear"] - errors["nearest"])
    section.finding(
        "Resize, then convolve: nearest does better than bilinear, which “had difficulty” (mean "
        "squared error, bilinear less nearest)",
        None,
        *better,
        above(settings, better, what="the difference"),
        "Said of generative networks; here of super-resolution.",
    )
    lost = estimate(errors["nearest"] - errors["transposed3"])
    section.finding(
        "The cure costs no accuracy: mean squared error of nearest less that of transposed 3×3",
        None,
        *lost,
        below(settings, lost, what="the difference"),
    )


def _figures(
    section: Section,
    settings: Settings,
    plan: Plan,
    found: dict[str, list[Result]],
    truth: np.ndarray,
    natural: float,
) -> None:
    def curves(key: str) -> Callable[[Axes, Theme], None]:
        def draw(axes: Axes, theme: Theme) -> None:
            styles = ("-", "--", ":")
            for number, (name, results) in enumerate(found.items()):
                steps = [line["step"] for line in results[0].lines]
                values = np.mean([[ln[key] for ln in r.lines] for r in results], axis=0)
                colour, style = theme.cycle[number % 3], styles[number // 3]
                axes.plot(steps, np.maximum(values, FLOOR), style, color=colour,
                          label=ARMS[name].label)  # fmt: skip
            axes.set(yscale="log", xlabel="step")
            axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.45, -0.14))

        return draw

    section.figure(
        "Super-resolution by four, during training",
        f"Means over the seeds ({plan.seeds}). First the phase-variance fraction at period 4 of "
        f"what the network draws for test pictures, less chance (below {FLOOR:g} it is drawn "
        f"there; the true pictures have {natural:.4f}); then its mean squared error.",
        [
            chart("Checkerboard", curves("artifact4"), 440, 420),
            chart("Mean squared error", curves("error"), 440, 420),
        ],
    )
    index = most_contrast(truth)
    shown = [
        photo("true", truth[index] + 0.5, 256),
        pixels("given", reduced(truth[index : index + 1])[0] + 0.5, 256),
    ]
    section.figure(
        "What the networks draw",
        "For every way to enlarge, one test picture before and after training; each number "
        "is the phase-variance fraction at period 4 over all test pictures. Before training the "
        "contrast is stretched.",
        shown
        + [
            pixels(
                f"{ARMS[name].label}, {when}: {results[0].lines[line]['artifact4']:.3f}",
                _stretched(image) if when == "before" else image + 0.5,
                256,
            )
            for name, results in found.items()
            for when, image, line in (
                ("before", results[0].before, 0),
                ("after", results[0].after, -1),
            )
        ],
    )


def _stretched(image: np.ndarray) -> np.ndarray:
    inner = image[BORDER:-BORDER, BORDER:-BORDER]
    return 0.5 + 0.2 * (image - inner.mean()) / (inner.std() + 1e-9)
