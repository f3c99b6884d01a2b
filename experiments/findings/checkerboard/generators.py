"""Checkerboards before any training: random generators, measured as Distill's pictures were."""

import functools
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from convjax.analysis import phase_variance_fraction, spectral_fraction
from experiments.page.figures import pixels
from experiments.page.report import (
    NOT_REPRODUCED,
    REPRODUCED,
    UNDECIDED,
    Decision,
    Picture,
    Section,
)
from experiments.page.verdicts import above, below, equal, estimate
from experiments.run import data
from experiments.run.settings import Settings

WIDTHS = (128, 64, 32, 3)  # channels at 4x4, 8x8, 16x16 and 32x32
IMAGES = 16  # of each generator: its batch normalisation needs several


METRICS = (
    "phase-variance fraction at period 2",
    "phase-variance fraction at period 4",
    "spectral fraction at period 2",
)


class Published(NamedTuple):
    """Smallest and largest value of the pictures in Distill, for each of `METRICS`."""

    deconvolutions: int
    authors: tuple[tuple[float, float], ...]


# Measured on the pictures that the article of Distill shows, before training, by the same formulas
# and without the correction for chance.
PUBLISHED = {
    "the last two layers": Published(
        2,
        ((0.102, 0.113), (0.301, 0.348), (0.145, 0.158)),
    ),
    "the last layer": Published(
        1,
        ((0.107, 0.194), (0.111, 0.199), (0.29, 0.35)),
    ),
    "no layer": Published(
        0,
        ((0.0008, 0.0009), (0.004, 0.0065), (0.008, 0.008)),
    ),
}
COUNTS = {"smoke": 4, "quick": 40, "standard": 200, "full": 400}  # of generators
LARGEST_PHOTO = 0.02  # more than photographs of this size have by themselves, on average


def printed(authors: tuple[float, float]) -> tuple[float, float]:
    """All that rounds to something in a printed range: half a unit of its last digits more."""
    half = [0.5 * 10.0 ** int(Decimal(str(edge)).as_tuple().exponent) for edge in authors]
    return authors[0] - half[0], authors[1] + half[1]


class Choices(NamedTuple):
    """What the article leaves open about its generator.

    Attributes:
        kernel_size: of every layer.
        slope: of the rectifiers below 0.
        per_picture: normalise every picture by itself, as batches of one do.
        smoothed: a convolution of stride 1 follows the last layer that doubles.
    """

    kernel_size: int = 3
    slope: float = 0.0
    per_picture: bool = False
    smoothed: bool = False


Numbers = tuple[np.ndarray, list[np.ndarray]]


def numbers(seed: int, index: int, choices: Choices) -> Numbers:
    """The 4 x 4 noise and the weights, N(0, 0.02), of one generator."""
    rng = np.random.default_rng((seed, index))
    noise = rng.normal(size=(IMAGES, 4, 4, WIDTHS[0])).astype(np.float32)
    widths = (*WIDTHS[:-1], WIDTHS[-2], WIDTHS[-1]) if choices.smoothed else WIDTHS
    size = (choices.kernel_size,) * 2
    shapes = [(*size, *pair) for pair in zip(widths, widths[1:], strict=False)]
    return noise, [0.02 * rng.normal(size=shape).astype(np.float32) for shape in shapes]


def generator(drawn: Numbers, deconvolutions: int, choices: Choices) -> jax.Array:
    """Pictures (IMAGES, 32, 32, 3) of one random generator.

    From 4 x 4 noise, three layers each double the extents: the last `deconvolutions` of them are
    transposed convolutions of stride 2, the others nearest-neighbour resize-convolutions. A fourth
    one, if there is one, keeps them. Normalisation and a rectifier between the layers, tanh at the
    end.
    """
    noise, weights = drawn
    y = _rectified(jnp.asarray(noise), choices)
    for layer, kernel in enumerate(map(jnp.asarray, weights)):
        if layer == 3:
            y = convjax.conv(y, kernel, padding_mode="reflect")
        elif layer >= 3 - deconvolutions:
            y = convjax.conv_transpose(y, kernel.swapaxes(-1, -2), strides=2)
        else:
            y = convjax.resize_conv(y, kernel, 2, padding_mode="reflect")
        y = _rectified(y, choices) if layer < len(weights) - 1 else jnp.tanh(y)
    return y


def _rectified(y: jax.Array, choices: Choices) -> jax.Array:
    axes = (1, 2) if choices.per_picture else (0, 1, 2)
    y = (y - y.mean(axes, keepdims=True)) / jnp.sqrt(y.var(axes, keepdims=True) + 1e-5)
    return jnp.where(y > 0, y, choices.slope * y)


def uncorrected(images: jax.Array, period: int) -> jax.Array:
    """The phase-variance fraction as it is, chance included: as the published values are."""
    pixels_ = (images.shape[1] // period * period) * (images.shape[2] // period * period)
    chance = (period**2 - 1) / (pixels_ - 1)
    return phase_variance_fraction(images, period) * (1 - chance) + chance


def measures(images: jax.Array) -> jax.Array:
    """`METRICS` of every picture, averaged over its colours: (N, 3)."""
    found = [uncorrected(images, 2), uncorrected(images, 4), spectral_fraction(images, 2)]
    return jnp.stack(found, -1).mean(1)


_of_pictures = jax.jit(measures)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _measures(drawn: Numbers, deconvolutions: int, choices: Choices) -> jax.Array:
    return measures(generator(drawn, deconvolutions, choices))


def fractions(
    seed: int, indices: Iterable[int], deconvolutions: int, choices: Choices
) -> np.ndarray:
    """For every picture of every generator `METRICS`: (generators, IMAGES, 3)."""
    each = [_measures(numbers(seed, i, choices), deconvolutions, choices) for i in indices]
    return np.asarray(each)


def random_generators(section: Section, settings: Settings) -> None:
    """Deconvolution in the last two layers, in the last, and in none."""
    sizes = (3,) if settings.profile == "smoke" else (3, 4, 5)
    indices = range(COUNTS[settings.profile])
    found = {
        (n, k): fractions(settings.seed, indices, n, Choices(k))
        for n in (published.deconvolutions for published in PUBLISHED.values())
        for k in sizes
    }
    for where, published in PUBLISHED.items():
        each = np.stack([found[published.deconvolutions, k] for k in sizes])
        for column, (metric, authors) in enumerate(zip(METRICS, published.authors, strict=True)):
            _against(section, settings, where, metric, authors, each[..., column], sizes)
        _at_once(section, settings, where, published, each)
    photos = jnp.asarray(data.photos10(32, 500, 0, settings.seed).train.images)
    natural = np.asarray(_of_pictures(photos))
    for column, metric in enumerate(METRICS):
        mean = estimate(natural[:, column])
        section.finding(
            f"Control: photographs have next to none by themselves (500 of photos10, 32×32; "
            f"{metric})",
            None,
            *mean,
            below(settings, mean, LARGEST_PHOTO, "the mean"),
        )
    for k in sizes:
        two, one, none = (found[n, k].mean(1) for n in (2, 1, 0))
        _signs(section, settings, k, two, one, none)
    section.figure(
        "Random generators, before any training",
        "Two pictures each, with 3×3 kernels. Deconvolution in the last two layers draws "
        "patterns that repeat every 2 and every 4 pixels, in the last layer every 2; resizing and "
        "then convolving draws none.",
        [picture for where, p in PUBLISHED.items() for picture in _pictures(settings, where, p)],
    )


def _signs(
    section: Section,
    settings: Settings,
    k: int,
    two: np.ndarray,
    one: np.ndarray,
    none: np.ndarray,
) -> None:
    more = estimate(two[:, 1] - two[:, 0])
    section.finding(
        f"Two deconvolutions ({k}×{k}) draw “artifacts of frequency 2 and 4”: fraction at period 4 "
        "less that at period 2",
        None,
        *more,
        above(settings, more, 0.05, "the difference"),
    )
    same = estimate(one[:, 1] - one[:, 0])
    section.finding(
        f"One deconvolution ({k}×{k}) draws “artifacts of frequency 2” only: fraction at period 4 "
        "less that at period 2",
        None,
        *same,
        equal(settings, same, -0.02, 0.02, "the difference"),
    )
    cured = estimate(none[:, :2].max(1))
    section.finding(
        f"No deconvolution ({k}×{k}) draws none: the larger of both fractions, where photographs "
        f"have less than {LARGEST_PHOTO}",
        None,
        *cured,
        equal(settings, cured, 0.0, LARGEST_PHOTO, "the fraction"),
    )
    if k == 4:
        even = estimate(one[:, 0])
        section.finding(
            "Even overlap (kernel 4, stride 2) is no remedy before training: fraction at period 2 "
            "of one deconvolution",
            None,
            *even,
            above(settings, even, LARGEST_PHOTO, "the fraction"),
            "The article's first remedy; an even overlap helps only kernels whose phases have "
            "equal sums.",
        )


def _against(
    section: Section,
    settings: Settings,
    where: str,
    metric: str,
    authors: tuple[float, float],
    values: np.ndarray,
    sizes: tuple[int, ...],
) -> None:
    """The authors' few pictures beside all of ours, (sizes, generators, IMAGES)."""
    means = values.mean((1, 2))
    low, high = authors
    outside = "outside" if np.all((means < low) | (means > high)) else "partly within"
    outside = "within" if np.all((means >= low) & (means <= high)) else outside
    spread(
        section,
        settings,
        f"Before training, deconvolution in {where}: {metric} (2.5th and 97.5th percentile of "
        "single pictures)",
        authors,
        values,
        f"The article's values are those of Distill's own few pictures, by a generator whose "
        f"kernels and widths it does not name. The means of ours lie {outside} that range: "
        f"{_listed(means)} for kernels of {', '.join(map(str, sizes))} "
        f"({values.shape[1]} generators each).",
    )


def spread(
    section: Section,
    settings: Settings,
    claim: str,
    authors: tuple[float, float],
    values: np.ndarray,
    why: str,
) -> None:
    """Claim that the authors' few values could be some of ours, by the spread of ours."""
    low, high = (float(edge) for edge in np.quantile(values, (0.025, 0.975)))
    rule = (
        "reproduced if the published range lies within that of 95 % of single pictures here, not "
        "if the two do not meet"
    )
    if settings.profile == "smoke":
        verdict = UNDECIDED
    elif low <= authors[0] and authors[1] <= high:
        verdict = REPRODUCED
    else:
        verdict = UNDECIDED if low <= authors[1] and authors[0] <= high else NOT_REPRODUCED
    section.finding(claim, list(authors), [low, high], None, Decision(verdict, rule), why)


def _at_once(
    section: Section, settings: Settings, where: str, published: Published, values: np.ndarray
) -> None:
    """Whether single pictures have all published values of this arm, (sizes, generators, ...)."""
    low, high = np.transpose([printed(authors) for authors in published.authors])
    attained = ((low <= values) & (values <= high)).all(-1)
    share = estimate(attained.mean(-1).ravel())
    section.finding(
        f"Before training, deconvolution in {where}: share of single pictures whose three values "
        "lie in the three published ranges at once",
        None,
        *share,
        above(settings, share, 0.0, "the share"),
        f"{attained.sum()} of {attained.size} pictures, by {attained.any(-1).sum()} of "
        f"{attained[..., 0].size} generators: such values occur before training, however typical "
        "their means are. The published ranges are those of a few pictures.",
    )


def _listed(values: Any) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _pictures(settings: Settings, where: str, published: Published) -> list[Picture]:
    choices = Choices()
    images = jax.jit(generator, static_argnums=(1, 2))(
        numbers(settings.seed, 0, choices), published.deconvolutions, choices
    )
    shown = np.asarray(images[:2])
    shown = 0.5 + 0.25 * (shown - shown.mean()) / shown.std()
    return [pixels(f"deconvolution in {where}", image, 164) for image in shown]
