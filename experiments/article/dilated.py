"""Dilated convolution and receptive fields: section 7 of the article."""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import convjax
from convjax.draw.charts import Theme, frame, matrix
from experiments.page.figures import chart
from experiments.page.report import Picture, Section
from experiments.run.measure import difference, integers, macs, out_shape
from experiments.run.settings import Settings

SIDE = 21  # of the pictures; odd, so that there is a centre


def run(settings: Settings) -> Section:
    """Run the experiment."""
    section = Section(
        "dilated",
        "7 · Dilated convolution and what it sees",
        "Receptive fields are measured, not derived: the gradient of the middle output with "
        "respect to the input is not zero exactly where the output looks.",
    )
    for part in settings.track(PARTS):
        part(section, settings)
    return section


def definition(section: Section, settings: Settings) -> None:
    """Zeros between the taps."""
    x, k = integers(settings.seed, 1, 13, 12, 2), integers(settings.seed + 1, 3, 3, 2, 4)
    section.identity(
        "l = 1 is the standard convolution",
        "equal",
        difference(convjax.dilated_conv(x, k, 1), convjax.conv(x, k)),
        0,
    )
    section.exact(
        "l − 1 spaces are inserted between the kernel elements: extent of a 3-tap kernel, l = 1, "
        "2, 4",
        [3, 5, 9],
        [convjax.equivalents.dilated(k, step).shape[0] for step in (1, 2, 4)],
    )
    section.identity(
        "The definition: a sum of F(s)·k(t) over s + l·t = p (true convolution; l = 3)",
        "equal",
        difference(convjax.convolve(x, k, kernel_dilation=3, padding="VALID"), _defined(x, k, 3)),
        0,
    )


def fields(section: Section, settings: Settings) -> None:
    """One layer, and three stacked ones."""
    single = [extent(seen((step,))) for step in (1, 2, 3, 4)]
    stacked = [extent(seen((1, 2, 4)[: depth + 1])) for depth in range(3)]
    section.exact("Receptive field for l = 1", 3, single[0])
    section.exact(
        "“It is 7×7 for l = 2”",
        7,
        single[1],
        "One 3×3 layer of dilation l sees l(k−1)+1: 5 for l = 2. The article's 7 is that of two "
        "layers stacked, l = 1 then 2.",
    )
    section.exact(
        "“The receptive field increases to 15×15 for l = 3”",
        15,
        single[2],
        "One layer sees 7 for l = 3. 15 is what three stacked layers see, and the third has l = 4, "
        "as the article's own figure says.",
    )
    section.exact(
        "Stacked with l = 1, 2, 4: receptive fields after each layer", [3, 7, 15], stacked
    )
    dots = int((seen((2,)) > 0).sum())
    drawn = out_shape(
        lambda x, k: convjax.dilated_conv(x, k, 2, padding="VALID"), (1, 5, 5, 1), (3, 3, 1, 1)
    )
    section.exact(
        "“The 3×3 red dots indicate that the output image is with 3×3 pixels”: output of the field "
        "that the dots span (l = 2: 5×5)",
        [3, 3],
        drawn[1:3],
        f"The dots are the {dots} taps of the kernel, and one output reads them all.",
    )
    costs = [
        macs(lambda x, k, step=step: convjax.dilated_conv(x, k, step), (1, 32, 32, 1), (3, 3, 1, 1))
        for step in (1, 2, 4)
    ]
    section.exact(
        "“Without adding additional costs”: multiplications of the same 9 weights (l = 1, 2, 4)",
        [costs[0]] * 3,
        costs,
    )
    doubling = [1, 2, 4, 8, 16, 32]
    sizes = [
        convjax.arithmetic.receptive_field([(3, 1, d) for d in doubling[: n + 1]]).size
        for n in range(6)
    ]
    measured = [extent(seen_line(doubling[: n + 1])) for n in range(6)]
    section.exact(
        "Stacked, the field grows exponentially, 2ⁿ⁺¹ − 1 after n layers of l = 1, 2, 4, …, while "
        "parameters grow linearly",
        [2 ** (n + 2) - 1 for n in range(6)],
        measured,
    )
    section.exact("… and `receptive_field` computes the same", measured, sizes)
    _pictures(section)


PARTS = (definition, fields)


def seen(dilations: tuple[int, ...]) -> np.ndarray:
    """Weight of every input pixel in the middle output of stacked 3 x 3 layers of ones, by grad."""

    def middle(x: jax.Array) -> jax.Array:
        y = x[None, :, :, None]
        for step in dilations:
            y = convjax.dilated_conv(y, jnp.ones((3, 3, 1, 1)), step)
        return y[0, SIDE // 2, SIDE // 2, 0]

    return np.asarray(jax.grad(middle)(jnp.zeros((SIDE, SIDE))))


def seen_line(dilations: list[int]) -> np.ndarray:
    """The same on a line of 257."""

    def middle(x: jax.Array) -> jax.Array:
        y = x[None, :, None]
        for step in dilations:
            y = convjax.dilated_conv(y, jnp.ones((3, 1, 1)), step)
        return y[0, 128, 0]

    return np.asarray(jax.grad(middle)(jnp.zeros(257)))


def extent(field: np.ndarray) -> int:
    """From the first to the last input that counts, along the first axis."""
    places = np.flatnonzero(field if field.ndim == 1 else field.any(axis=1))
    return int(places[-1] - places[0] + 1)


def _defined(x: jax.Array, k: jax.Array, step: int) -> np.ndarray:
    """Dilated convolution without padding, from its definition, in numpy: s = p - l*t."""
    image, kernel = np.asarray(x), np.asarray(k)
    height, width = (n - 2 * step for n in x.shape[1:3])
    total = np.zeros((x.shape[0], height, width, k.shape[-1]))
    for i in range(3):
        for j in range(3):
            top, left = (2 - i) * step, (2 - j) * step
            window = image[:, top : top + height, left : left + width]
            total += window @ kernel[i, j]
    return total


def field_panel(label: str, dilations: tuple[int, ...]) -> Picture:
    """What the middle output of stacked layers sees, the receptive field framed."""
    field = seen(dilations)
    size = extent(field)

    def draw(axes: Axes, theme: Theme) -> None:
        matrix(axes, theme, field, limits=(0, max(field.max(), 1.6)))
        first = (SIDE - size) // 2
        frame(axes, theme, first, first, size, size)

    return chart(f"{label}: {size}×{size}", draw, 270, 270)


def _pictures(section: Section) -> None:
    section.figure(
        "One layer: nine places, further and further apart",
        "Which input pixels one output reads, by `jax.grad`. Always nine, whatever the dilation: "
        "the view widens and the cost stays. The frame is the receptive field, 3, 5 and 9 wide.",
        [field_panel(f"l = {step}", (step,)) for step in (1, 2, 4)],
    )
    section.figure(
        "Stacked layers: 3, 7, 15",
        "The same for layers on top of each other; darker pixels (brighter on a dark page) are "
        "reached by more paths. Only the stack sees 7×7 and 15×15, and it sees them without gaps.",
        [
            field_panel("l = 1", (1,)),
            field_panel("l = 1, then 2", (1, 2)),
            field_panel("l = 1, 2, then 4", (1, 2, 4)),
        ],
    )
