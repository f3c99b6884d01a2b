"""Checkerboards in gradients: random discriminators, whose first layer has a stride or none.

In Distill's words the gradient of a discriminator with a strided first layer has "strong frequency
2 artifacts", and with a regular convolution there "very mild" ones. The pattern need not have one
height all over the picture, so the spectral fraction is measured beside that of the phases.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from convjax.analysis import spectral_fraction
from experiments.findings.checkerboard.generators import spread, uncorrected
from experiments.page.figures import pixels
from experiments.page.report import Section
from experiments.page.verdicts import above, below, equal, estimate
from experiments.run import data
from experiments.run.settings import Settings

SIZE, IMAGES = 28, 16  # Distill's pictures of gradients are 28 x 28; so many photographs for each
WIDTHS = (3, 32, 64, 64)
COUNTS = {"smoke": 3, "quick": 20, "standard": 100, "full": 200}  # of discriminators
SLOPE = 0.2  # of the rectifier, below 0


class Arm(NamedTuple):
    """Strides of the three layers, and whether a moving average goes before each strided one."""

    label: str
    strides: tuple[int, int, int]
    held: bool = False


ARMS = {
    "strided": Arm("strides 2, 2, 2", (2, 2, 2)),
    "first": Arm("strides 1, 2, 2", (1, 2, 2)),
    "plain": Arm("strides 1, 1, 1", (1, 1, 1)),
    "hold": Arm("hold, then strides 2, 2, 2", (2, 2, 2), held=True),
}
# Smallest and largest of Distill's pictures, of trained discriminators: phases, spectrum.
PUBLISHED = {
    "strided": ((0.004, 0.022), (0.021, 0.066)),
    "first": ((0.002, 0.009), (0.0095, 0.020)),
}
CLOSE = 0.01  # to noise
METRICS = ("phase-variance fraction", "spectral fraction")


def numbers(seed: int, index: int) -> list[np.ndarray]:
    """The weights of one discriminator, by He: three layers of 3 x 3, and the score's."""
    rng = np.random.default_rng((seed, index, 28))
    pairs = zip(WIDTHS, WIDTHS[1:], strict=False)
    layers = [np.sqrt(2 / (9 * i)) * rng.normal(size=(3, 3, i, o)) for i, o in pairs]
    return [w.astype(np.float32) for w in (*layers, rng.normal(size=WIDTHS[-1]))]


def gradient(weights: Sequence[jax.Array], images: jax.Array, arm: Arm) -> jax.Array:
    """Of the score of every picture, by the picture."""

    def score(y: jax.Array) -> jax.Array:
        for kernel, stride in zip(weights[:3], arm.strides, strict=True):
            if arm.held and stride > 1:
                y = convjax.hold(y, stride)
            y = convjax.conv(y, kernel, strides=stride)
            y = jnp.where(y > 0, y, SLOPE * y)
        return (y.mean((1, 2)) @ weights[3]).sum()

    return jax.grad(score)(images)


@functools.partial(jax.jit, static_argnums=2)
def _measures(
    weights: Sequence[jax.Array], images: jax.Array, arm: Arm
) -> tuple[jax.Array, jax.Array]:
    """`METRICS` of every picture's gradient (N, 2), and the first gradient."""
    found = gradient(weights, images, arm)
    return jnp.stack([uncorrected(found, 2), spectral_fraction(found, 2)], -1).mean(1), found[0]


def random_discriminators(section: Section, settings: Settings) -> None:
    """Gradients of strided and of plain convolutions, by both metrics at period 2."""
    drawn = [numbers(settings.seed, index) for index in range(COUNTS[settings.profile])]
    photos = data.standardised(data.photos10(SIZE, IMAGES, 0, settings.seed)).train.images
    measured = {
        name: [_measures(weights, photos, arm) for weights in drawn] for name, arm in ARMS.items()
    }
    found = {  # (discriminators, pictures, metrics)
        name: np.stack([numbers_ for numbers_, _ in each]) for name, each in measured.items()
    }
    noise = 3 / (SIZE**2 - 1), _of_noise()
    for column, metric in enumerate(METRICS):
        each = {name: values[..., column].mean(1) for name, values in found.items()}
        more = estimate(each["strided"] - each["plain"])
        section.finding(
            f"The gradient of a strided discriminator is a checkerboard: {metric} at period 2, "
            "three layers of stride 2 less three of stride 1",
            None,
            *more,
            above(settings, more, what="the difference"),
            f"{len(drawn)} random networks, 3×3 kernels: {each['strided'].mean():.3f} and "
            f"{each['plain'].mean():.3f}.",
        )
        null = estimate(each["plain"] - noise[column])
        section.finding(
            f"… control: without strides it is noise ({metric}, less that of white noise, "
            f"{noise[column]:.4f})",
            None,
            *null,
            equal(settings, null, -CLOSE, CLOSE, "the difference"),
        )
        low, high = PUBLISHED["strided"][column]
        spread(
            section,
            settings,
            f"… {metric} of single gradients, strides 2, 2, 2 (2.5th and 97.5th percentile)",
            (low, high),
            found["strided"][..., column],
            "The article's values are of Distill's pictures, whose networks were trained.",
        )
        milder = estimate(each["first"] - each["strided"])
        section.finding(
            f"A regular convolution in the first layer alone leaves only “very mild” artifacts: "
            f"{metric}, strides 1, 2, 2 less strides 2, 2, 2",
            round(float(np.mean(PUBLISHED["first"][column]) - (low + high) / 2), 4),
            *milder,
            below(settings, milder, what="the difference"),
            "The article's value is that of the middles of both ranges of Distill's pictures. Its "
            f"networks were trained; these are not ({each['first'].mean():.3f}): the "
            "second layer's stride, at full resolution, paints with period 2 as well, and what "
            "the strided network paints with periods 4 and 8 is not counted here.",
        )
        cured = estimate(each["hold"] - each["strided"])
        section.finding(
            f"… `hold` before every strided layer lowers it ({metric}, with it less without)",
            None,
            *cured,
            below(settings, cured, what="the difference"),
        )
    section.figure(
        "Gradients of random discriminators",
        "By one photograph of 28×28 pixels, averaged over its colours. Strides leave a grid in it, "
        "whose strength changes from place to place.",
        [
            pixels(arm.label, _shown(measured[name][0][1]), 224, signed=True)
            for name, arm in ARMS.items()
        ],
    )


def _shown(found: jax.Array) -> np.ndarray:
    values = np.asarray(found).mean(-1)
    limit = np.percentile(np.abs(values), 98)
    return np.clip(values / limit, -1, 1)


def _of_noise() -> float:
    """The share of frequencies that the spectral fraction counts."""
    dot = np.zeros((1, SIZE, SIZE, 1), np.float32)
    dot[0, 0, 0] = 1  # has all frequencies alike
    return float(spectral_fraction(jnp.asarray(dot), 2)[0, 0])
