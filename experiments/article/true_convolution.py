"""Convolution and cross-correlation: sections 1 and 2 of the article."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import convjax
from convjax.draw.charts import Theme, frame, matrix
from experiments.page.figures import chart, pixels
from experiments.page.report import Picture, Section
from experiments.run.measure import difference, filters, image, integers, out_shape
from experiments.run.settings import Settings

INPUT = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
KERNEL = [[0, 1, 2], [2, 2, 0], [0, 1, 2]]
# The article names the kernel; input and output are those of the animation it shows, from
# Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016.
OUTPUT = [[12, 12, 17], [10, 17, 19], [9, 6, 14]]
# Two signals in one dimension: a box, and a filter that drops slowly.
F = np.r_[np.zeros(4), np.ones(12), np.zeros(4)]
G = np.linspace(1, 0.1, 10)


def run(settings: Settings) -> Section:
    """Run the experiment."""
    section = Section(
        "true_convolution",
        "1–2 · Convolution, cross-correlation, and one filter at work",
        "Signal processing flips the filter before sliding it; deep learning does not. The "
        "library has both: `convolve` flips, `conv` (also called `correlate`) does not.",
    )
    for part in settings.track(PARTS):
        part(section, settings)
    return section


def sliding(section: Section, settings: Settings) -> None:
    """The reversed filter slides over the signal; the area under the product is the result."""
    step, width = 0.05, 20
    box = np.ones(width)
    triangle = _line(convjax.convolve, box * step, box, "FULL")
    section.identity(
        "Convolution is the integral of f times the reversed, shifted g (checked on sampled "
        "signals against `numpy.convolve`)",
        "definition",
        difference(_line(convjax.convolve, F, G, "FULL"), np.convolve(F, G)),
        1e-5,
    )
    section.near(
        "“The area of the intersection between f and reversed g”: two unit boxes make a triangle "
        "whose peak is the area of one box",
        1.0,
        float(triangle.max()),
        1e-5,
        "For other shapes it is the area under the product f·g, which is what is computed.",
    )
    signals = {
        "`convolve`: g reversed": _line(convjax.convolve, F, G, "FULL"),
        "`correlate`: g as it is": _line(convjax.correlate, F, G, "FULL"),
    }

    def operands(axes: Axes, theme: Theme) -> None:
        axes.fill_between(np.arange(len(F)), F, step="mid", color=theme.one, alpha=0.35)
        axes.step(np.arange(len(F)), F, where="mid", color=theme.one, label="f, the signal")
        at = np.arange(len(G)) + len(F) + 4
        axes.fill_between(at, G, step="mid", color=theme.two, alpha=0.35)
        axes.step(at, G, where="mid", color=theme.two, label="g, the filter")
        axes.set(xticks=[], yticks=[0, 1], ylim=(0, 1.45))
        axes.legend(loc="upper center", ncols=2)

    def result(name: str) -> Any:
        def draw(axes: Axes, theme: Theme) -> None:
            axes.step(np.arange(len(signals[name])), signals[name], where="mid", color=theme.three)
            axes.fill_between(
                np.arange(len(signals[name])),
                signals[name],
                step="mid",
                color=theme.three,
                alpha=0.3,
            )
            axes.set(xlabel="shift", ylim=(0, max(s.max() for s in signals.values()) * 1.1))

        return draw

    section.figure(
        "The same two signals, with and without the flip",
        "A box f and a filter g that drops slowly. Convolution jumps up and then falls slowly, "
        "like g itself: g is what one impulse would turn into. Cross-correlation is its mirror "
        "image here, because the box is symmetric.",
        [chart("The two signals", operands, 340, 230)]
        + [chart(name, result(name), 340, 230) for name in signals],
    )


def flip(section: Section, settings: Settings) -> None:
    """The relation between the two, on integers, so that every equality is exact."""
    x, k = integers(settings.seed, 2, 9, 7, 3), integers(settings.seed + 1, 3, 5, 3, 4)
    section.identity(
        "Convolution = cross-correlation with the flipped filter",
        "equal",
        difference(convjax.convolve(x, k), convjax.correlate(x, jnp.flip(k, (0, 1)))),
        0,
    )
    section.identity(
        "“In deep learning, the filters in convolution are not reversed”: `conv` is `correlate`",
        "equal",
        difference(convjax.conv(x, k), convjax.correlate(x, k)),
        0,
    )
    a, b = np.asarray(integers(settings.seed, 9)), np.asarray(integers(settings.seed + 1, 4))
    section.identity(
        "True convolution commutes: f ∗ g = g ∗ f",
        "equal",
        difference(_line(convjax.convolve, a, b, "FULL"), _line(convjax.convolve, b, a, "FULL")),
        0,
    )
    section.identity(
        "Cross-correlation does not commute: exchanging f and g reverses the result",
        "reversed",
        difference(
            _line(convjax.correlate, a, b, "FULL"), _line(convjax.correlate, b, a, "FULL")[::-1]
        ),
        0,
        "Not in the article: the flip is what buys commutativity.",
    )
    stamp = np.array([[1.0, 1, 1], [1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]])
    dot = np.zeros((9, 9))
    dot[4, 4] = 1
    stamped = {
        "One bright pixel": dot,
        "The filter": np.pad(stamp, ((2, 2), (3, 3))),
        "`convolve`: a copy of the filter": convjax.convolve(image(dot), filters(stamp))[0, ..., 0],
        "`conv`: the filter upside down": convjax.conv(image(dot), filters(stamp))[0, ..., 0],
    }
    section.figure(
        "What one bright pixel turns into",
        "True convolution stamps the filter onto every pixel, so the letter stays readable. "
        "`conv` asks instead how well each place looks like the filter; drawn as a picture, that "
        "is the filter turned by half a turn.",
        [pixels(label, values, 200) for label, values in stamped.items()],
    )


def learned(section: Section, settings: Settings) -> None:
    """Filters learned by `conv` from targets made by `convolve` are the flipped ones."""
    key = jax.random.key(settings.seed)
    x = jax.random.normal(key, (4, 12, 12, 1))
    k = jax.random.normal(jax.random.fold_in(key, 1), (3, 3, 1, 8))  # eight filters at once
    target = convjax.convolve(x, k)

    def loss(guess: jax.Array) -> jax.Array:
        return jnp.mean((convjax.conv(x, guess) - target) ** 2, (0, 1, 2)).sum()

    def descend(guess: jax.Array, _: None) -> tuple[jax.Array, None]:
        return guess - 0.2 * jax.grad(loss)(guess), None

    found, _ = jax.jit(lambda start: jax.lax.scan(descend, start, None, 200))(jnp.zeros_like(k))
    flipped, same = (cosines(found, kernel) for kernel in (jnp.flip(k, (0, 1)), k))
    section.identity(
        "“No need to reverse the filter before training”: gradient descent on targets made by "
        "true convolution learns the reversed filters (8 random ones, 3×3)",
        "reversed g",
        difference(found, jnp.flip(k, (0, 1))),
        1e-3,
    )
    section.near(
        "… cosine of the learned filter and the reversed one (the lowest of 8)",
        1.0,
        float(flipped.min()),
        1e-5,
    )
    section.exact(
        "… control: is any of them the filter as it was (cosine above .99)?",
        False,
        bool((same > 0.99).any()),
        f"The cosines are {same.min():.2f} to {same.max():.2f}, {same.mean():.2f} on average.",
    )


def cosines(one: Any, other: Any) -> np.ndarray:
    """Between the filters of two kernels (*K, I, O): O cosines."""
    a, b = (np.asarray(kernel, float).reshape(-1, kernel.shape[-1]) for kernel in (one, other))
    return (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))


def golden(section: Section, settings: Settings) -> None:
    """The 3 x 3 filter on the 5 x 5 input, window by window."""
    result = np.asarray(convjax.conv(image(INPUT), filters(KERNEL), padding="VALID"))[0, ..., 0]
    section.exact(
        "The 3×3 filter [[0,1,2],[2,2,0],[0,1,2]] on the 5×5 input", OUTPUT, result.astype(int)
    )
    inputs, kernel = np.array(INPUT), np.array(KERNEL)

    def step(row: int, column: int) -> Picture:
        window = inputs[row : row + 3, column : column + 3]
        terms = [f"{a}·{b}" for a, b in zip(window.ravel(), kernel.ravel(), strict=True) if a * b]
        past = np.arange(9).reshape(3, 3) <= 3 * row + column

        def draw(axes: Axes, theme: Theme) -> None:
            look: dict[str, Any] = {"numbers": True, "limits": (0, 25), "size": 12}
            matrix(axes, theme, inputs, **look)
            matrix(axes, theme, np.where(past, result, np.nan), left=6, top=1, **look)
            frame(axes, theme, row, column, 3, 3)
            frame(axes, theme, row + 1, column + 6, 1, 1)
            axes.set(xlim=(-0.6, 8.6), ylim=(4.6, -0.6))

        return chart(f"{' + '.join(terms)} = {result[row, column]:g}", draw, 340, 200)

    section.figure(
        "One window, one number",
        "The 3×3 window slides over the 5×5 input on the left; the numbers under it are multiplied "
        "by those of the filter [[0,1,2],[2,2,0],[0,1,2]] and added up to one number on the right. "
        "Three of the nine steps; products that are zero are left out of the sums.",
        [step(0, 0), step(0, 1), step(2, 2)],
    )


def channels(section: Section, settings: Settings) -> None:
    """Many channels: convolve each with its own kernel, and add."""
    x, k = integers(settings.seed, 1, 5, 5, 3), integers(settings.seed + 1, 3, 3, 3, 1)
    one_by_one = [
        convjax.conv(x[..., c : c + 1], k[:, :, c : c + 1], padding="VALID") for c in range(3)
    ]
    whole = convjax.conv(x, k, padding="VALID")
    section.exact("A 3×3×3 filter on a 5×5×3 layer gives 3×3×1", [3, 3, 1], whole.shape[1:])
    section.identity(
        "Three single-channel convolutions, summed, equal the 3-channel convolution",
        "equal",
        difference(sum(one_by_one), whole),
        0,
    )
    section.exact(
        "A 3×3 filter moves to 5 positions horizontally and 5 vertically (7×7 input)",
        [5, 5],
        out_shape(lambda x, k: convjax.conv(x, k, padding="VALID"), (1, 7, 7, 3), k)[1:3],
        "The sentence belongs to a figure of a 7×7 input; the 5×5 input just before it has 3.",
    )
    many = out_shape(convjax.conv, (1, 5, 5, 3), (3, 3, 3, 64))
    section.exact("Dout filters of Din kernels each give Dout channels (Dout = 64)", 64, many[-1])


def equivariance(section: Section, settings: Settings) -> None:
    """A shifted picture gives a shifted result, not the same one."""
    x, k = integers(settings.seed, 1, 12, 12, 1), integers(settings.seed + 1, 3, 3, 1, 1)
    shift = (2, 3)
    shifted = jnp.roll(x, shift, (1, 2))
    here, there = (
        np.asarray(convjax.conv(image, k, padding_mode="wrap")) for image in (x, shifted)
    )
    section.identity(
        "Convolution is “translation invariant”: shifting the input leaves the output as it is",
        "equal",
        difference(here, there),
        0,
        "It is translation equivariant: the output shifts with the input (next row). Invariance "
        "needs pooling on top.",
    )
    section.identity(
        "Translation equivariance: shift, then convolve = convolve, then shift",
        "equal",
        difference(np.roll(here, shift, (1, 2)), there),
        0,
        "Exact with wrapped edges; with padding by zeros it holds away from the border.",
    )


PARTS = (sliding, flip, learned, golden, channels, equivariance)


def _line(function: Any, x: Any, kernel: Any, padding: str) -> np.ndarray:
    """A function of the library on two plain vectors."""
    x, kernel = (jnp.asarray(v, jnp.float32) for v in (x, kernel))
    return np.asarray(function(x[None, :, None], kernel[:, None, None], padding=padding))[0, :, 0]
