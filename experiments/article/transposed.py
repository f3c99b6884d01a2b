"""Transposed convolution, its matrix, and overlap: section 6 of the article."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import convjax
from convjax.draw.charts import Theme, bars, frame, matrix
from experiments.page.figures import chart
from experiments.page.report import Picture, Section
from experiments.run.measure import call, difference, filters, image, integers, out_shape
from experiments.run.settings import Settings


def run(settings: Settings) -> Section:
    """Run the experiment."""
    section = Section(
        "transposed",
        "6 · Transposed convolution and uneven overlap",
        "A transposed convolution is a convolution's matrix, transposed. It restores the shape of "
        "the input, not its values, and where kernel and stride do not match it paints some "
        "pixels more often than others.",
    )
    for part in settings.track(PARTS):
        part(section, settings)
    return section


def sizes(section: Section, settings: Settings) -> None:
    """2 x 2 to 4 x 4, and to 5 x 5, as direct convolutions too."""
    kernel = integers(settings.seed, 3, 3, 1, 1)
    small = integers(settings.seed + 1, 1, 2, 2, 1)
    for strides, paper, words in (
        (1, [4, 4], "3×3 kernel over a 2×2 input padded by 2"),
        (2, [5, 5], "… with 1 zero inserted between the inputs"),
    ):
        large = convjax.conv_transpose(small, kernel, strides=strides, padding="VALID")
        direct = convjax.conv(
            small, jnp.flip(kernel, (0, 1)), input_dilation=strides, padding=((2, 2), (2, 2))
        )
        section.exact(f"{words}: output size", paper, large.shape[1:3])
        section.identity(
            f"“Always possible to implement with a direct convolution” (to {paper[0]}×{paper[1]})",
            "equal",
            difference(large, direct),
            0,
            "" if strides == 2 else "The kernel must be flipped (and its channels exchanged).",
        )
    wrong = cases = 0
    for i in range(1, 13):
        for k in range(1, 6):
            for s in range(1, 5):
                for p in range(k):
                    if i + 2 * p >= k:
                        cases += 1
                        wrong += not _round_trip(i, k, s, p)
    section.exact(
        f"Relationships 13 and 14: the transposed size s(i'−1) + a + k − 2p gives i back, in all "
        f"{cases:,} cases with i ≤ 12, k ≤ 5, s ≤ 4, p < k: cases that differ",
        0,
        wrong,
    )
    section.figure(
        "Painting: every input leaves a copy of the kernel",
        "A 2×2 input and the 3×3 kernel of ones. Each input paints its value onto a 3×3 patch of "
        "the output (the outlined one belongs to the last input); where patches overlap they add. "
        "At stride 1 the patches are one pixel apart and the output is 4×4; at stride 2 they are "
        "two apart, and it is 5×5.",
        [
            _painting(strides, upto)
            for strides, upto in ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4))
        ],
    )


def matrices(section: Section, settings: Settings) -> None:
    """C is 4 x 16; its transpose is no inverse."""
    kernel = filters(np.arange(1, 10).reshape(3, 3))
    c = np.asarray(convjax.equivalents.conv_matrix(kernel, 4, padding="VALID"))
    large, small = integers(settings.seed + 1, 1, 4, 4, 1), integers(settings.seed + 2, 1, 2, 2, 1)
    section.exact("C, the matrix of a 3×3 convolution of 4×4, is 4×16", [4, 16], c.shape)
    section.exact("C is sparse: entries that are not zero", 36, int((c != 0).sum()))
    by_jacobian = jax.jacobian(
        lambda x: convjax.conv(x.reshape(1, 4, 4, 1), kernel, padding="VALID").ravel()
    )(jnp.zeros(16))
    section.identity("C is the Jacobian of the convolution", "equal", difference(c, by_jacobian), 0)
    down = convjax.conv(large, kernel, padding="VALID")
    section.identity(
        "C × Large = Small", "equal", difference(c @ np.asarray(large).ravel(), down.ravel()), 0
    )
    up = convjax.conv_transpose(small, kernel, padding="VALID")
    section.identity(
        "Cᵀ × Small has the size of Large: it is the transposed convolution",
        "equal",
        difference(c.T @ np.asarray(small).ravel(), up.ravel()),
        0,
    )
    section.identity(
        "“Multiplication of a matrix with its transposed matrix gives an unit matrix”: CᵀC = 1",
        "equal",
        difference(c.T @ c, np.eye(16)),
        0,
        f"CᵀC is 16×16 of rank {np.linalg.matrix_rank(c.T @ c)}: it cannot be the unit matrix. "
        "Transposed convolution restores the shape, not the values.",
    )
    back = np.asarray(convjax.conv_transpose(down, kernel, padding="VALID"))
    section.identity(
        "… hence Cᵀ × Small = Large (down, then up again gives the image back)",
        "equal",
        difference(back, large),
        0,
        "What does hold is the next row.",
    )
    pairing = float(jnp.vdot(down, small)), float(jnp.vdot(large, up))
    section.identity(
        "Cᵀ is the adjoint: ⟨C x, y⟩ = ⟨x, Cᵀ y⟩", "equal", abs(pairing[0] - pairing[1]), 0
    )

    def shown(values: np.ndarray) -> Any:
        return lambda axes, theme: matrix(axes, theme, values, numbers=len(values) < 5, size=6.5)

    section.figure(
        "The matrix C, and why its transpose is not its inverse",
        "The 3×3 kernel 1 2 3, 4 5 6, 7 8 9 on a 4×4 image. Each row of C is one position of the "
        "kernel, flattened: the 9 weights move to the right from row to row. If CᵀC were the unit "
        "matrix, the last picture would be a diagonal line on an empty ground. CCᵀ is no unit "
        "matrix either: a kernel is not of length 1, and neighbouring windows overlap.",
        [
            chart("C, 4×16", shown(c), 440, 140),
            chart("CCᵀ, 4×4", shown(c @ c.T), 170, 170),
            chart("Cᵀ, 16×4", shown(c.T), 90, 290),
            chart("CᵀC, 16×16", shown(c.T @ c), 290, 290),
        ],
    )


def overlap(section: Section, settings: Settings) -> None:
    """How many inputs paint each output, on a line and in the plane."""
    for k, s, paper in (
        (2, 1, [2]),
        (3, 1, [3]),
        (2, 2, [1, 1]),
        (4, 2, [2, 2]),
        (3, 2, [2, 1]),
        (5, 2, [3, 2]),
    ):
        even = "even" if len(set(paper)) == 1 else "uneven"
        section.exact(
            f"Stride {s}, filter size {k}: overlap is {even} (inputs per output, one period)",
            paper,
            _interior(painted(k, s, 16), s),
        )
    cases = [(k, s) for k in range(1, 7) for s in range(1, 4) if k >= s]
    wrong = sum((len(set(_interior(painted(k, s, 16), s))) > 1) != (k % s != 0) for k, s in cases)
    section.exact(
        "Overlap is uneven exactly when the filter size is not divisible by the stride (k ≤ 6, "
        "s ≤ 3): cases that differ",
        0,
        wrong,
        "Proved for constant kernels. A learned or random kernel whose size is divisible by the "
        "stride can still favour some pixels: see the photograph's `transposed` figure.",
    )
    for k in (3, 5):
        line = painted(k, 2, 12)
        plane = painted_plane(k, 2, 12)
        inner = slice(k, -k)
        ratio = line[inner].max() / line[inner].min()
        squared = plane[inner, inner].max() / plane[inner, inner].min()
        section.near(
            f"“In two dimensions the unevenness gets squared” (size {k}, stride 2: {ratio:g} "
            "in one dimension)",
            ratio**2,
            squared,
            1e-6,
        )

    def line_chart(k: int, s: int) -> Picture:
        counts = painted(k, s, 6)

        def draw(axes: Axes, theme: Theme) -> None:
            uneven = len(set(_interior(counts, s))) > 1
            bars(axes, theme, counts, theme.two if uneven else theme.one)

        return chart(f"size {k}, stride {s}", draw, 340, 150)

    section.figure(
        "Overlap on a line",
        "How many of 6 inputs paint each output pixel. Away from the ends, blue ones are even; the "
        "orange ones alternate, because the size is not divisible by the stride. No choice of "
        "border cuts that away.",
        [line_chart(k, s) for k, s in ((2, 1), (3, 1), (2, 2), (4, 2), (3, 2), (5, 2))],
    )

    def plane_chart(values: np.ndarray) -> Any:
        return lambda axes, theme: matrix(axes, theme, values, numbers=True, size=7)

    section.figure(
        "Overlap in the plane",
        "A transposed convolution with a kernel of ones on a 5×5 input of ones: the output is the "
        "number of inputs that paint each pixel. Size 3 at stride 2 makes a checkerboard of 4, 2 "
        "and 1; size 4 is even inside.",
        [
            chart("size 3, stride 2", plane_chart(painted_plane(3, 2, 5)), 270, 270),
            chart("size 4, stride 2", plane_chart(painted_plane(4, 2, 5)), 270, 270),
            chart("size 5, stride 2", plane_chart(painted_plane(5, 2, 5)), 270, 270),
        ],
    )


def remedies(section: Section, settings: Settings) -> None:
    """What the article says helps."""
    key = jax.random.key(settings.seed)
    flat = jnp.ones((1, 12, 12, 1))

    def unevenness(y: jax.Array, s: int = 2) -> float:
        inner = np.asarray(y)[:, 8:-8, 8:-8]
        phases = inner.reshape(inner.shape[0], inner.shape[1] // s, s, inner.shape[2] // s, s, -1)
        means = phases.mean(axis=(1, 3))
        return float((means.max(axis=(1, 2)) - means.min(axis=(1, 2))).max())

    ones = [convjax.conv_transpose(flat, jnp.ones((k, k, 1, 1)), strides=2) for k in (4, 3)]
    section.identity(
        "Remedy 1: a filter size divisible by the stride (4 and 2) avoids the overlap issue for a "
        "kernel of ones",
        "even",
        unevenness(ones[0]),
        1e-6,
        what="spread of a flat area",
    )
    kernel = jax.random.normal(key, (4, 4, 1, 1))
    section.identity(
        "… and for a random kernel",
        "even",
        unevenness(convjax.conv_transpose(flat, kernel, strides=2)),
        1e-6,
        "Not enough: the sums of the weights that reach each of the 4 phases must be equal, which "
        "even overlap alone does not give.",
        what="spread of a flat area",
    )
    smoothed = convjax.conv(ones[1], jax.random.normal(key, (3, 3, 1, 1)), padding="VALID")
    section.exact(
        "Remedy 2: a last layer of stride 1 “helps, but artifacts can still leak through” (after "
        "size 3, stride 2): do some remain?",
        True,
        unevenness(smoothed[:, 1:-1, 1:-1]) > 1e-3,
        f"Spread of a flat area: {unevenness(ones[1]):.3g} before.",
    )
    for method in ("nearest", "bilinear"):
        section.identity(
            f"Remedy 3: resize ({method}), then convolve, avoids the checkerboard for any kernel",
            "even",
            unevenness(
                call(
                    convjax.resize_conv,
                    flat,
                    jax.random.normal(key, (3, 3, 1, 1)),
                    2,
                    method=method,
                )
            ),
            1e-6,
            what="spread of a flat area",
        )


PARTS = (sizes, matrices, overlap, remedies)


def painted(k: int, s: int, n: int) -> np.ndarray:
    """How many of n inputs reach each output of a transposed convolution of size k, stride s."""
    ones = jnp.ones((1, n, 1)), jnp.ones((k, 1, 1))
    counts = call(convjax.conv_transpose, *ones, strides=s, padding="VALID")
    return np.asarray(counts)[0, :, 0].astype(int)


def painted_plane(k: int, s: int, n: int) -> np.ndarray:
    """The same on a square."""
    ones = image(np.ones((n, n))), filters(np.ones((k, k)))
    counts = call(convjax.conv_transpose, *ones, strides=s, padding="VALID")
    return np.asarray(counts)[0, ..., 0].astype(int)


def _interior(counts: np.ndarray, s: int) -> list[int]:
    """One period of the counts far from both ends, starting at phase 0."""
    start = len(counts) // 2 // s * s
    return [int(count) for count in counts[start : start + s]]


def _round_trip(i: int, k: int, s: int, p: int) -> bool:
    """Whether the transposed convolution leads from conv's output size back to i."""
    kernel = (k, 1, 1)
    options: dict[str, Any] = {"strides": s, "padding": p}
    small = out_shape(lambda x, w: convjax.conv(x, w, **options), (1, i, 1), kernel)
    left_over = (i + 2 * p - k) % s
    large = out_shape(
        lambda y, w: convjax.conv_transpose(y, w, output_padding=left_over, **options),
        small,
        kernel,
    )
    return large[1] == i == s * (small[1] - 1) + left_over + k - 2 * p


def _painting(strides: int, upto: int) -> Picture:
    """The output after the first `upto` of four inputs have been painted."""
    values = np.array([[1.0, 2], [3, 4]])
    seen = np.where(np.arange(4).reshape(2, 2) < upto, values, 0)
    result = np.asarray(
        convjax.conv_transpose(
            image(seen), filters(np.ones((3, 3))), strides=strides, padding="VALID"
        )
    )[0, ..., 0]
    row, column = divmod(upto - 1, 2)

    def draw(axes: Axes, theme: Theme) -> None:
        look: dict[str, Any] = {"numbers": True, "limits": (0.0, 12.0), "size": 11}
        matrix(axes, theme, values, top=1, **look)
        matrix(axes, theme, result, left=3, **look)
        frame(axes, theme, row + 1, column, 1, 1)
        frame(axes, theme, row * strides, column * strides + 3, 3, 3)
        axes.set(xlim=(-0.7, 7.7), ylim=(4.7, -0.7))

    words = ("first input", "first two", "", "all four")[upto - 1]
    return chart(f"stride {strides}, {words}", draw, 300, 190)
