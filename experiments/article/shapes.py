"""3D convolution, 1x1 convolution and output sizes: sections 3 to 5 of the article."""

import itertools
from typing import Any

import jax.numpy as jnp
from matplotlib.axes import Axes

import convjax
from convjax.draw.charts import Theme
from experiments.page.figures import chart
from experiments.page.report import Picture, Section
from experiments.run.measure import difference, integers, out_shape
from experiments.run.settings import Settings


def run(settings: Settings) -> Section:
    """Run the experiment."""
    section = Section(
        "shapes",
        "3–5 · 3D, 1×1, and output sizes",
        "Shapes are found by tracing the functions of the library: no formula of the article is "
        "used on our side.",
    )
    for part in settings.track(PARTS):
        part(section, settings)
    return section


def three_dimensions(section: Section, settings: Settings) -> None:
    """Section 3: a filter as deep as its input does not move in depth."""
    x, k = integers(settings.seed, 1, 6, 7, 5), integers(settings.seed + 1, 3, 3, 5, 4)
    flat = convjax.conv(x, k, padding="VALID")
    as_volume = jnp.moveaxis(x, -1, 1)[..., None]  # the channels become the depth, one channel
    deep = convjax.conv(as_volume, jnp.moveaxis(k, 2, 0)[:, :, :, None], padding="VALID")
    section.identity(
        "A 3D filter as deep as its input moves in 2 directions only: a 2D convolution",
        "equal",
        difference(deep[:, 0], flat),
        0,
    )
    moving = out_shape(
        lambda x, k: convjax.conv(x, k, padding="VALID"), (1, 9, 8, 8, 1), (3, 3, 3, 1, 1)
    )
    section.exact(
        "With a filter depth smaller than the input's (3 < 9), the output is 3D: its depth is 7",
        [7, 6, 6],
        moving[1:4],
        "The article calls the third axis “channel”. In a real 3D convolution it is depth or time; "
        "there is a channel axis besides, over all of which every filter sums.",
    )


def one_by_one(section: Section, settings: Settings) -> None:
    """Section 4: a matrix at every pixel."""
    x, k = integers(settings.seed, 2, 6, 7, 200), integers(settings.seed + 1, 1, 1, 200, 32)
    result = convjax.pointwise_conv(x, k)
    per_pixel = jnp.matmul(x, k[0, 0], precision="highest")
    section.identity(
        "1×1 convolution = the same matrix applied at every pixel",
        "equal",
        difference(result, per_pixel),
        0,
    )
    section.exact(
        "N filters of 1×1×D take H×W×D to H×W×N (D = 200, N = 32)", [6, 7, 32], result.shape[1:]
    )
    single = out_shape(convjax.pointwise_conv, (1, 6, 7, 200), (1, 1, 200, 1))
    section.exact("One 1×1 filter embeds 200 channels into a single channel", 1, single[-1])
    grey, scale = integers(settings.seed, 1, 6, 7, 1), jnp.full((1, 1, 1, 1), 3.0)
    section.identity(
        "With one channel, 1×1 convolution multiplies every element by a number",
        "equal",
        difference(convjax.pointwise_conv(grey, scale), 3 * grey),
        0,
    )
    small, full = integers(settings.seed, 2, 4, 5, 3), integers(settings.seed + 1, 4, 5, 3, 10)
    layer = small.reshape(2, -1) @ full.reshape(-1, 10)
    section.identity(
        "“There is no such thing as fully-connected layers”: one equals a convolution whose kernel "
        "covers the whole map",
        "equal",
        difference(convjax.conv(small, full, padding="VALID")[:, 0, 0], layer),
        0,
        "LeCun's sentence; the layers after that one are 1×1 convolutions.",
    )


def arithmetic(section: Section, settings: Settings) -> None:
    """Section 5: output sizes."""
    cases = [
        (i, k, s, p)
        for i, k, s, p in itertools.product(range(1, 13), range(1, 6), range(1, 5), range(5))
        if p < k <= i + 2 * p
    ]
    wrong = 0
    for i, k, s, p in cases:
        found = out_shape(
            lambda x, w, s=s, p=p: convjax.conv(x, w, strides=s, padding=p), (1, i, 1), (k, 1, 1)
        )
        wrong += found[1] != (i + 2 * p - k) // s + 1
    section.exact(
        f"Output size ⌊(i + 2p − k)/s⌋ + 1, in all {len(cases):,} cases with i ≤ 12, k ≤ 5, s ≤ 4, "
        "p < k: cases that differ",
        0,
        wrong,
    )
    same = [out_shape(_strided(s, "SAME"), (1, 5, 5, 1), (3, 3, 1, 1))[1] for s in (1, 2)]
    section.exact(
        "“'same' padding keeps the spatial dimensions” (5×5, 3×3 filter, stride 1)", 5, same[0]
    )
    section.exact(
        "… and at stride 2",
        5,
        same[1],
        "'SAME' gives ⌈i/s⌉: the size is kept at stride 1 only.",
    )
    valid = [out_shape(_strided(1, "VALID"), (1, 5, 5, 1), (k, k, 1, 1))[1] for k in (3, 1)]
    section.exact("“'valid': the output size is smaller” (3×3 filter on 5×5)", 3, valid[0])
    section.exact(
        "… for every filter: is the output of a 1×1 filter on 5×5 smaller than 5?",
        True,
        valid[1] < 5,
        "⌈(i − k + 1)/s⌉ equals i for a 1×1 filter at stride 1.",
    )


def sizes(section: Section, settings: Settings) -> None:
    """Output size against input size."""
    inputs = range(3, 13)

    def panel(label: str, cases: dict[str, dict[str, Any]]) -> Picture:
        def draw(axes: Axes, theme: Theme) -> None:
            for (name, options), colour in zip(cases.items(), theme.cycle, strict=True):
                found = [
                    out_shape(
                        lambda x, k, options=options: convjax.conv(x, k, **options),
                        (1, i, 1),
                        (3, 1, 1),
                    )[1]
                    for i in inputs
                ]
                axes.plot(inputs, found, "o-", color=colour, markersize=4, label=name)
            axes.set(xlabel="input size i", ylabel="output size o", ylim=(0, 15), xlim=(2.5, 12.5))
            axes.grid()
            axes.legend(loc="upper left")

        return chart(label, draw, 420, 300)

    section.figure(
        "Output size against input size, for a kernel of 3",
        "First: how the border is treated shifts the size by a constant: “FULL” adds 2, “SAME” "
        "keeps it, “VALID” takes 2 away. Second: a stride divides it. At stride 2 without padding, "
        "inputs of 5 and 6 both give 2: the last pixel of the 6 is never read, which is why the "
        "way back needs the extra number a of relationship 14.",
        [
            panel("stride 1", {p: {"padding": p} for p in ("FULL", "SAME", "VALID")}),
            panel(
                "no padding",
                {f"stride {s}": {"padding": "VALID", "strides": s} for s in (1, 2, 3)},
            ),
        ],
    )


PARTS = (three_dimensions, one_by_one, arithmetic, sizes)


def _strided(strides: int, padding: Any) -> Any:
    return lambda x, k: convjax.conv(x, k, strides=strides, padding=padding)
