"""Checkerboards: overlap, kernels, cures, gradients, random generators, and training.

Section 6.1 of the article follows Odena, Dumoulin & Olah (Distill, 2016). Here its statements are
counted and measured, with the cures that it does not name.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.axes import Axes

import convjax
from convjax import initializers
from convjax.analysis import overlap_counts, phase_gains
from convjax.draw.charts import Theme, bars, matrix
from experiments.findings.checkerboard.discriminators import random_discriminators
from experiments.findings.checkerboard.generators import random_generators
from experiments.findings.checkerboard.search import generator_search
from experiments.findings.checkerboard.upscaling import PLANS, Plan, super_resolution
from experiments.page.figures import chart
from experiments.page.report import Picture, Section
from experiments.run import experiment
from experiments.run.measure import difference
from experiments.run.settings import Settings

EXPECTED = {
    "standard": "32 small networks for super-resolution, and a search over 48 random "
    "generators: about 20 minutes on two cores.",
    "full": "40 networks for super-resolution of 20,000 steps: 1.7e16 floating-point operations, "
    "half an hour to one hour on one H100 (from the operations, not measured), below 8 GB.",
}
ZERO = 1e-6  # what counts as exactly even, relative to the largest value


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _measure(settings: Settings, plan: Plan, part: str) -> Section:
    """The claims and figures of one part."""
    section = Section("checkerboard", part, "")
    if part == TRAINED:
        super_resolution(section, settings, plan)
    else:
        UNTRAINED[part](section, settings)
    return section


def _report(settings: Settings, plan: Plan, found: dict[str, Section]) -> Section:
    section = Section(
        "checkerboard",
        "6.1 · Checkerboards, counted, cured and trained",
        "A transposed convolution paints some pixels more often than others, and its kernel paints "
        "some more strongly. The phase-variance fraction is the share of a picture's variance "
        "that is one pattern repeated with a fixed period: 0 by chance, 1 for a pure checkerboard. "
        "The spectral fraction is the share of its energy near the frequencies of such a pattern, "
        "which may change over the picture.",
    )
    for part in found.values():
        section.claims += part.claims
        section.figures += part.figures
    return section


def overlap(section: Section, settings: Settings) -> None:
    """Overlap by its closed form, in the plane and in stacks."""
    n, wrong, cases = 9, 0, 0
    for k in range(1, 8):
        for s in range(1, 5):
            counts = overlap_counts(k, s, n)
            closed = [
                max(0, min(n - 1, o // s) - max(0, -((k - 1 - o) // s)) + 1)
                for o in range(len(counts))
            ]
            painted = convjax.conv_transpose(
                jnp.ones((1, n, 1)), jnp.ones((k, 1, 1)), strides=s, padding="VALID"
            )
            cases += 1
            wrong += counts.tolist() != closed or difference(counts[: painted.shape[1]],
                                                             painted[0, :, 0]) > 0  # fmt: skip
    section.exact(
        f"Overlap on a line: counted, by the closed form min(n−1, ⌊o/s⌋) − max(0, ⌈(o−k+1)/s⌉) + 1,"
        f" and painted by a kernel of ones ({cases} pairs k ≤ 7, s ≤ 4): pairs that differ",
        0,
        wrong,
    )
    for k, s, paper in ((3, 2, 4), (5, 2, 2.25), (4, 3, 4), (5, 3, 4)):
        inner = overlap_counts((k, k), (s, s), (9, 9))[3 * s : 5 * s, 3 * s : 5 * s]
        section.exact(
            f"In the plane the unevenness is squared: most by fewest, size {k}, stride {s}",
            paper,
            float(inner.max() / inner.min()),
        )
    three = overlap_counts([(3, 2)] * 3, 12)
    section.exact(
        "Stacked layers compound it: three of size 3, stride 2 (inputs per output, one period)",
        [4, 3, 5, 2, 5, 3, 4, 1],
        three[40:48],
    )
    for size in (2, 4):
        damped = overlap_counts([(3, 2), (size, 1)], 12)[8:-8]
        section.exact(
            f"A last layer of stride 1 and even size ({size}) makes size 3, stride 2 flat: "
            "different counts",
            1,
            len(set(damped.tolist())),
        )
    leaked = overlap_counts([(3, 2), (3, 2), (3, 1)], 12)
    section.exact(
        "“Artifacts can still leak through”: twice size 3, stride 2, then size 3, stride 1",
        [6, 8, 6, 7],
        leaked[17:21],
    )
    section.figure(
        "Stacked layers, on a line",
        "Paths from 5 inputs to every output. Two and three layers of size 3 and stride 2 make "
        "patterns of period 4 and 8; a last layer of stride 1 smooths, and an even one flattens.",
        [
            _bars("size 3, stride 2, twice", [(3, 2), (3, 2)]),
            _bars("… three times", [(3, 2)] * 3),
            _bars("size 3, stride 2; size 3, stride 1", [(3, 2), (3, 1)]),
            _bars("size 3, stride 2; size 2, stride 1", [(3, 2), (2, 1)]),
        ],
    )


def kernels(section: Section, settings: Settings) -> None:
    """What kernels make of a constant: constant ones and random ones."""
    for k, s, value in ((3, 2, 0.19), (5, 2, 0.0754), (4, 3, 0.2099), (5, 3, 0.1427)):
        gains = phase_gains(jnp.ones((k, k, 1, 1)), s)
        section.near(
            f"A constant {k}×{k} kernel at stride {s}: variance of the phases by their mean square "
            "(closed form)",
            value,
            _unevenness(gains).item(),
            5e-5,
        )
    even = {
        f"{k}, {s}": _unevenness(phase_gains(jnp.ones((k, k, 1, 1)), s)).item()
        for k, s in ((2, 2), (4, 2), (6, 2), (6, 3), (8, 4))
    }
    section.identity(
        "Remedy 1: sizes divisible by the stride are even for a constant kernel "
        f"(size, stride: {'; '.join(even)})",
        "even",
        max(even.values()),
        ZERO,
        what="variance of the phases",
    )
    shares = []
    for k in (2, 3, 4, 5):
        drawn = jax.random.normal(jax.random.key(settings.seed + k), (k, k, 100, 100))
        gains = phase_gains(drawn, 2)
        shares.append(float(gains.var((0, 1)).sum() / (gains**2).mean((0, 1)).sum()))
    section.near(
        "… and for random kernels it is no remedy: share of a constant's response that is "
        "checkerboard, (s²−1)/s² for every size ≥ s (10,000 kernels 4×4, stride 2)",
        0.75,
        shares[2],
        0.02,
        f"Sizes 2, 3, 4, 5 have {', '.join(f'{share:.3f}' for share in shares)}: 4 is no better "
        "than 3.",
    )
    drawn = jax.random.normal(jax.random.key(settings.seed), (4, 4, 1, 1000))
    spread = np.sort(np.ravel(_unevenness(phase_gains(drawn, 2))))
    section.exact(
        "… no single one of 1,000 random 4×4 kernels is even at stride 2",
        0,
        int((spread <= ZERO).sum()),
        f"The middle 90 % of them have {spread[50]:.2f} to {spread[949]:.2f}.",
    )


def cures(section: Section, settings: Settings) -> None:
    """What is exactly even for any weights: on a constant input, away from the border."""
    keys = jax.random.split(jax.random.key(settings.seed), 8)
    flat = jnp.broadcast_to(jax.random.normal(keys[0], (3,)), (1, 12, 12, 3))
    for k in (3, 4, 5):
        kernel = jax.random.normal(keys[k - 2], (k, k, 4, 3))
        bare = convjax.conv_transpose(flat, kernel, strides=2)
        held = convjax.hold(bare, 2)
        _uneven(section, f"Control: a random {k}×{k} transposed convolution of stride 2", bare)
        section.identity(
            "… and is, followed by `hold` (a 2×2 moving average; Kinoshita & Kiya 2020)",
            "even",
            _phases(held),
            ZERO,
            what="spread",
        )
        section.identity(
            "… or with its weights corrected so that all phases have one sum",
            "even",
            _phases(convjax.conv_transpose(flat, equalised(kernel, 2), strides=2)),
            ZERO,
            "A projection: it can follow every step of training.",
            what="spread",
        )
    for method in ("nearest", "bilinear"):
        y = convjax.resize_conv(
            flat, jax.random.normal(keys[5], (3, 3, 3, 4)), 2, method=method, padding_mode="edge"
        )
        section.identity(
            f"Remedy 3: resize ({method}), then any convolution, is even on a constant",
            "even",
            _phases(y),
            ZERO,
            what="spread",
        )
    random = jax.random.normal(keys[6], (3, 3, 3, 16))
    repeated = initializers.icnr(2)(keys[7], (3, 3, 3, 16))
    _uneven(
        section,
        "Control: a sub-pixel convolution with random weights",
        convjax.subpixel_conv(flat, random, 2),
    )
    section.identity(
        "… and with weights by ICNR it is even",
        "even",
        _phases(convjax.subpixel_conv(flat, repeated, 2)),
        ZERO,
        "At the beginning: training may undo it.",
        what="spread",
    )
    x = jax.random.normal(keys[0], (1, 7, 6, 3))
    enlarged = convjax.resize(convjax.conv(x, repeated[..., ::4]), 2)
    section.identity(
        "Sub-pixel convolution by ICNR = convolution, then nearest-neighbour enlargement",
        "equal",
        difference(convjax.subpixel_conv(x, repeated, 2), enlarged),
        ZERO,
    )


def gradients(section: Section, settings: Settings) -> None:
    """The backward pass of strided convolution and pooling is an up-sampling too."""
    ones = jnp.ones((3, 3, 1, 1))

    def gradient(fn: Callable[[jax.Array], jax.Array], x: Any) -> np.ndarray:
        return np.asarray(jax.grad(lambda x: fn(x).sum())(jnp.asarray(x, jnp.float32)))[0, ..., 0]

    blank = np.zeros((1, 17, 17, 1))
    strided = gradient(lambda x: convjax.conv(x, ones, strides=2, padding="VALID"), blank)
    section.exact(
        "Gradient of a convolution of size 3, stride 2 (constant kernel; two rows of one period)",
        [[4, 2], [2, 1]],
        strided[8:10, 8:10],
        "The overlap of the transposed convolution: it is the backward pass.",
    )
    dense = gradient(lambda x: convjax.conv(x, ones, padding="VALID"), blank)
    section.exact("… and of stride 1: different values inside", 1, len(set(dense[3:-3, 3:-3].flat)))
    picture = jax.random.normal(jax.random.key(settings.seed), (1, 32, 32, 1))

    def pooled(pool: Any, size: int) -> np.ndarray:
        return gradient(lambda x: pool(x, (size, size), strides=(2, 2)), picture)

    section.exact(
        "Gradient of 2×2 max-pooling: share of pixels that get none",
        0.75,
        float((pooled(nnx.max_pool, 2) == 0).mean()),
    )
    hits = pooled(nnx.max_pool, 3)
    section.exact(
        "Gradient of overlapping 3×3 max-pooling at stride 2: fewest and most windows that choose "
        "a pixel",
        [0, 4],
        [int(hits.min()), int(hits.max())],
    )
    average = pooled(nnx.avg_pool, 2)
    section.exact("Gradient of 2×2 average-pooling: different values", 1, len(set(average.flat)))
    key = jax.random.key(settings.seed + 1)
    kernel = jax.random.normal(key, (4, 4, 1, 1))
    bare = gradient(lambda x: convjax.conv(x, kernel, strides=2), picture)
    _uneven(
        section,
        "Gradient of a random 4×4 convolution of stride 2 (of a sum over its outputs)",
        bare[None, ..., None],
    )
    smoothed = gradient(lambda x: convjax.conv(convjax.hold(x, 2), kernel, strides=2), picture)
    section.identity(
        "… and with `hold` before the convolution it is even",
        "even",
        _phases(smoothed[None, ..., None]),
        ZERO,
        what="spread",
    )
    shifted = np.mean(
        [np.roll(bare, shift, (0, 1)) for shift in ((0, 0), (0, 1), (1, 0), (1, 1))], axis=0
    )
    section.identity(
        "… or averaged over random shifts of the picture, as DeepDream does (here all four)",
        "even",
        _phases(shifted[None, ..., None]),
        ZERO,
        what="spread",
    )
    look: dict[str, Any] = {"limits": (0.0, 9.0), "numbers": True, "size": 7}

    def shown(values: np.ndarray) -> Callable[[Axes, Theme], None]:
        return lambda axes, theme: matrix(axes, theme, values[4:12, 4:12], **look)

    section.figure(
        "Gradients of a sum over the outputs",
        "How often each input pixel is read: a constant 3×3 kernel at stride 2 and at stride 1, "
        "and 3×3 max-pooling at stride 2, which chooses few pixels and some of them four times.",
        [
            chart("size 3, stride 2", shown(strided), 270, 270),
            chart("size 3, stride 1", shown(dense), 270, 270),
            chart("3×3 max-pooling, stride 2", shown(hits), 270, 270),
        ],
    )


UNTRAINED: dict[str, Callable[[Section, Settings], None]] = {
    part.__name__: part
    for part in (
        overlap,
        kernels,
        cures,
        gradients,
        random_discriminators,
        random_generators,
        generator_search,
    )
}
TRAINED = "super_resolution"
PARTS = (*UNTRAINED, TRAINED)


def equalised(kernel: jax.Array, strides: int) -> jax.Array:
    """The closest transposed kernel whose phases all have the same sum."""
    gains = phase_gains(kernel, strides)
    taps = phase_gains(jnp.ones_like(kernel), strides)
    missing = (gains.mean((0, 1)) - gains) / taps
    repeats = [-(-n // strides) for n in kernel.shape[:2]]
    return kernel + jnp.tile(missing, (*repeats, 1, 1))[: kernel.shape[0], : kernel.shape[1]]


def _unevenness(gains: jax.Array) -> jax.Array:
    """Variance of the phases by their mean square, for every pair of channels."""
    return gains.var((0, 1)) / (gains**2).mean((0, 1))


def _phases(y: Any) -> float:
    """Largest difference between the four phases of period 2, away from the border, relative."""
    inner = np.asarray(y)[:, 8:-8, 8:-8]
    n, height, width, channels = inner.shape
    phases = inner.reshape(n, height // 2, 2, width // 2, 2, channels)
    spread = phases.max((2, 4)) - phases.min((2, 4))
    return float(spread.max() / np.abs(inner).max())


def _uneven(section: Section, what: str, y: Any) -> None:
    """Add the claim that `y`, made of a constant, is uneven."""
    spread = _phases(y)
    why = f"The phases differ by {spread:.2f} of the largest value."
    section.exact(f"{what}: is it uneven on a constant?", True, spread > 0.01, why)


def _bars(label: str, layers: list[tuple[int, int]]) -> Picture:
    counts = overlap_counts(layers, 5)

    def draw(axes: Axes, theme: Theme) -> None:
        flat = len(set(counts[len(counts) // 2 - 4 : len(counts) // 2 + 4].tolist())) == 1
        bars(axes, theme, counts, theme.one if flat else theme.two)

    return chart(label, draw, 420, 150)
