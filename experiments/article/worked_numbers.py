"""Spatially separable, depthwise separable and flattened convolution: sections 8 and 9."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import convjax
from convjax.draw.charts import Theme, matrix
from experiments.page.figures import chart
from experiments.page.report import Section
from experiments.run.measure import difference, filters, image, integers, macs, out_shape, weights
from experiments.run.settings import Settings

SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]


def run(settings: Settings) -> Section:
    """Run the experiment."""
    section = Section(
        "worked_numbers",
        "8–9 · Separable convolutions, multiplication by multiplication",
        "Multiplications are counted by walking the program that would run (`convjax.cost_of`): "
        "no formula of the article is used on our side.",
    )
    for part in settings.track(PARTS):
        part(section, settings)
    return section


def spatially_separable(section: Section, settings: Settings) -> None:
    """Section 8.1: 81 against 72, and the general ratio, which is misprinted."""
    factors, energy = convjax.equivalents.separate_kernel(filters(SOBEL))
    column, row = (np.asarray(f)[..., 0, 0] for f in factors)
    section.identity(
        "The Sobel kernel is a 3×1 kernel times a 1×3 kernel",
        "equal",
        difference(column * row, SOBEL),
        1e-5,
    )
    x = image(integers(settings.seed, 5, 5))
    section.identity(
        "3×1, then 1×3 computes what the 3×3 kernel computes",
        "equal",
        difference(
            convjax.spatially_separable_conv(
                x, [filters([[1], [2], [1]]), filters([[-1, 0, 1]])], padding="VALID"
            ),
            convjax.conv(x, filters(SOBEL), padding="VALID"),
        ),
        0,
    )
    section.exact("Parameters: 6 instead of 9", [6, 9], [weights((3, 1), (1, 3)), weights((3, 3))])
    dense, (first, second) = _dense_macs(5, 3), _split_macs(5, 3)
    section.exact("5×5 image, 3×3 kernel: multiplications", 81, dense)
    section.exact("3×1 step: positions", 15, first // 3)
    section.exact("3×1 step: multiplications", 45, first)
    section.exact("1×3 step: multiplications", 27, second)
    section.exact("Both steps", 72, first + second)
    for n, m in ((5, 3), (32, 5), (224, 7)):
        ours = sum(_split_macs(n, m)) / _dense_macs(n, m)
        printed = (2 * n - 2) * (n - 2) * m / ((n - 2) ** 2 * m**2)
        section.near(
            f"Ratio by the printed formula (2N−2)(N−2)m / ((N−2)²m²), N = {n}, m = {m}",
            round(printed, 5),
            ours,
            5e-6,
            ""
            if m == 3
            else "An m×m kernel has N−m+1 positions a side, and N−2 only if m = 3. Right: 2/m + "
            f"(m−1)/(m(N−m+1)) = {float(convjax.cost.spatially_separable_ratio(n, m)):.5f}.",
        )
    large = 4096
    for m in (3, 5, 7):
        section.near(
            f"N ≫ m: the ratio becomes 2/{m} (N = {large:,})",
            round(2 / m, 5),
            sum(_split_macs(large, m)) / _dense_macs(large, m),
            1e-3,
        )
    random = np.random.default_rng(settings.seed).normal(size=(3, 3, 1, 1000))
    kept = np.asarray(convjax.equivalents.separate_kernel(jnp.asarray(random, jnp.float32)).energy)
    section.exact(
        "“Not all kernels can be divided into two smaller kernels”: of 1,000 random 3×3 kernels, "
        "how many split without loss (energy kept > 0.9999)",
        0,
        int((kept > 0.9999).sum()),
        f"The best split keeps {kept.mean():.0%} of a random kernel's energy on average.",
    )
    _sobel_figure(section, settings, column, row, dense, first, second)


def depthwise_separable(section: Section, settings: Settings) -> None:
    """Section 8.2: 86,400 against 10,275."""
    x, kernel = (1, 7, 7, 3), (3, 3, 3, 128)
    stages = [(3, 3, 1, 3), (1, 1, 3, 128)]
    dense = macs(_valid(convjax.conv), x, kernel)
    depthwise = macs(_valid(convjax.depthwise_conv), x, stages[0])
    pointwise = macs(convjax.pointwise_conv, (1, 5, 5, 3), stages[1])
    both = macs(_valid(convjax.depthwise_separable_conv), x, *stages)
    shape = out_shape(_valid(convjax.depthwise_separable_conv), x, *stages)
    middle = out_shape(_valid(convjax.depthwise_conv), x, stages[0])
    section.exact("Depthwise step: 7×7×3 becomes 5×5×3", [5, 5, 3], middle[1:])
    section.exact(
        "Both steps: 7×7×3 becomes 5×5×128, as in one convolution", [5, 5, 128], shape[1:]
    )
    section.exact("One convolution: multiplications", 86_400, dense)
    section.exact("Depthwise step: multiplications", 675, depthwise)
    section.exact("Pointwise step: multiplications", 9_600, pointwise)
    section.exact("Depthwise separable: multiplications", 10_275, both)
    section.near("“Only about 12 % of the cost”", 0.12, both / dense, 0.005)
    section.near(
        "Ratio in general: 1/Nc + 1/h² (Nc = 128, h = 3)",
        round(1 / 128 + 1 / 9, 6),
        both / dense,
        1e-6,
        "The formula's picture is lost from the text; this is what its two cost formulas give.",
    )
    for h, paper in ((3, 9), (5, 25)):
        ratios = {}
        for filters_ in (128, 100_000):
            operands = (1, 16, 16, 3), (h, h, 1, 3), (1, 1, 3, filters_)
            whole = macs(_valid(convjax.conv), operands[0], (h, h, 3, filters_))
            split = macs(_valid(convjax.depthwise_separable_conv), *operands)
            ratios[filters_] = whole / split
        section.near(
            f"{h}×{h} filters: {paper} times more multiplications, if Nc ≫ h² (Nc = 100,000)",
            paper,
            ratios[100_000],
            0.01,
        )
        section.near(
            "… at the example's Nc = 128",
            paper,
            ratios[128],
            0.01,
            "A limit: 1/(1/Nc + 1/h²) is less than h² for every Nc.",
        )
    odd = macs(_valid(convjax.depthwise_separable_conv), (1, 9, 9, 3), (3, 3, 1, 3), stages[1])
    section.exact(
        "“Nc kernels of size h×h×D, where h is even”: is the formula (h·h + Nc)·D·(H−h+1)² wrong "
        "for the odd h = 3 (H = 9, D = 3, Nc = 128)?",
        True,
        odd != (3 * 3 + 128) * 3 * (9 - 3 + 1) ** 2,
        "The condition is irrelevant without padding, and odd sizes are the usual choice.",
    )
    section.exact(
        "“Depthwise separable convolutions reduce the number of parameters”: fewer than in one "
        "convolution",
        True,
        weights(*stages) < weights(kernel),
        f"{weights(*stages):,} instead of {weights(kernel):,} in this example.",
    )
    _ratio_figure(section)


def flattened(section: Section, settings: Settings) -> None:
    """Section 9: rank-1 filters."""
    x = integers(settings.seed, 1, 9, 8, 6)
    lateral = integers(settings.seed + 1, 1, 1, 6, 4)
    spatial = [integers(settings.seed + 2, 5, 1, 1, 4), integers(settings.seed + 3, 1, 3, 1, 4)]
    filter_bank = convjax.equivalents.flattened(lateral, spatial)
    section.identity(
        "A rank-1 filter separates into three 1-D filters: across channels, down, along",
        "equal",
        difference(convjax.flattened_conv(x, lateral, spatial), convjax.conv(x, filter_bank)),
        0,
        "“Two rank-1 filters” in the article: a rank-1 filter is the outer product of vectors.",
    )
    full, chain = (5, 5, 96, 128), [(1, 1, 96, 128), (5, 1, 1, 128), (1, 5, 1, 128)]
    section.exact(
        "“Significant reduction of parameters”: 5×5, 96 to 128 channels, full and flattened once, "
        "FCXY and F(C+X+Y)",
        [128 * 96 * 25, 128 * (96 + 5 + 5)],
        [weights(full), weights(*chain)],
    )


PARTS = (spatially_separable, depthwise_separable, flattened)


def _valid(function: Any) -> Any:
    return lambda *operands: function(*operands, padding="VALID")


def _dense_macs(n: int, m: int) -> int:
    return macs(_valid(convjax.conv), (1, n, n, 1), (m, m, 1, 1))


def _split_macs(n: int, m: int) -> tuple[int, int]:
    """Multiplications of the m x 1 step and of the 1 x m step on an n x n image."""

    def both(x: jax.Array, column: jax.Array, row: jax.Array) -> jax.Array:
        return convjax.spatially_separable_conv(x, [column, row], padding="VALID")

    operands = (1, n, n, 1), (m, 1, 1, 1), (1, m, 1, 1)
    total = macs(both, *operands)
    first = macs(_valid(convjax.conv), operands[0], operands[1])
    return first, total - first


def _sobel_figure(
    section: Section,
    settings: Settings,
    column: np.ndarray,
    row: np.ndarray,
    dense: int,
    first: int,
    second: int,
) -> None:
    def product(axes: Axes, theme: Theme) -> None:
        look: dict[str, Any] = {
            "numbers": True,
            "limits": (-2.0, 2.0),
            "cmap": "RdBu_r",
            "size": 12,
        }
        matrix(axes, theme, np.round(column, 4) + 0.0, top=0, **look)
        matrix(axes, theme, np.round(row, 4) + 0.0, left=2, top=1, **look)
        matrix(axes, theme, np.round(column * row, 4) + 0.0, left=6.5, **look)
        for at, sign in ((1, "×"), (5.6, "=")):
            axes.text(at, 1, sign, ha="center", va="center", fontsize=16)
        axes.set(xlim=(-0.6, 9.1), ylim=(2.6, -0.6))

    def dots(*steps: tuple[int, int, float]) -> Any:
        def draw(axes: Axes, theme: Theme) -> None:
            left = 0.0
            for (rows, columns, _), colour in zip(steps, theme.cycle, strict=False):
                y, x = np.mgrid[0:rows, 0:columns]
                matrix(axes, theme, np.zeros((rows + 2 * (rows < 5), 5)), left=left, limits=(0, 9))
                axes.scatter(x.ravel() + left + (5 - columns) / 2, y.ravel() + 1, s=60, c=colour)
                left += 6
            axes.set(xlim=(-0.6, left - 1.4), ylim=(4.6, -0.6))

        return draw

    section.figure(
        "The Sobel kernel in two halves",
        "First the two factors that `separate_kernel` finds, and their product, the kernel. Then "
        "a dot for every position of the kernel. The 3×3 kernel sits at 9 positions "
        "and multiplies 9 numbers at each; the 3×1 kernel sits at 15 positions and the 1×3 kernel "
        "at 9, with only 3 multiplications each.",
        [
            chart("smooth down × differentiate along", product, 380, 160),
            chart(f"3×3: {dense // 9} positions × 9 = {dense}", dots((3, 3, 9)), 190, 190),
            chart(
                f"3×1, then 1×3: {first // 3} × 3 + {second // 3} × 3 = {first + second}",
                dots((3, 5, 3), (3, 3, 3)),
                380,
                190,
            ),
        ],
    )


def _ratio_figure(section: Section) -> None:
    def spatial(axes: Axes, theme: Theme) -> None:
        for m, colour in zip((3, 5, 7), theme.cycle, strict=True):
            sizes = np.unique(np.geomspace(m, 512, 24).astype(int))
            ours = [sum(_split_macs(int(n), m)) / _dense_macs(int(n), m) for n in sizes]
            printed = [(2 * n - 2) / ((n - 2) * m) for n in sizes]
            axes.plot(sizes, ours, color=colour, label=f"m = {m}, counted")
            axes.plot(sizes, printed, color=colour, linestyle=":")
            axes.axhline(2 / m, color=colour, linewidth=0.7, alpha=0.6)
        axes.plot([], [], color=theme.ink, linestyle=":", label="article's formula")
        axes.set(xscale="log", xlabel="image size N", ylim=(0, 1.6), ylabel="ratio")
        axes.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
        axes.minorticks_off()
        axes.legend()

    def depthwise(axes: Axes, theme: Theme) -> None:
        for h, colour in zip((3, 5, 7), theme.cycle, strict=True):
            outputs = np.unique(np.geomspace(1, 1024, 24).astype(int))
            ratio = [
                macs(
                    _valid(convjax.depthwise_separable_conv),
                    (1, 16, 16, 3),
                    (h, h, 1, 3),
                    (1, 1, 3, int(n)),
                )
                / macs(_valid(convjax.conv), (1, 16, 16, 3), (h, h, 3, int(n)))
                for n in outputs
            ]
            axes.plot(outputs, ratio, color=colour, label=f"h = {h}")
            axes.axhline(1 / h**2, color=colour, linewidth=0.7, alpha=0.6)
        axes.set(xscale="log", yscale="log", xlabel="output channels Nc", ylabel="ratio")
        axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
        axes.set_yticks([0.02, 0.1, 0.5, 1], ["2 %", "10 %", "50 %", "100 %"])
        axes.minorticks_off()
        axes.legend()

    section.figure(
        "How much the two separable convolutions save",
        "Multiplications relative to one dense convolution, counted. First: the spatially "
        "separable one falls to 2/m (thin lines) as the image grows; the article's formula "
        "(dotted) is right for m = 3 only. Second: the depthwise separable one falls to 1/h² as "
        "the output channels grow; with one output channel it costs more than the dense one.",
        [
            chart("Spatially separable / dense", spatial, 440, 300),
            chart("Depthwise separable / dense", depthwise, 440, 300),
        ],
    )
