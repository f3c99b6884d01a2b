"""Section 5: convolution arithmetic."""

from convjax import arithmetic, draw
from figures.registry import figure, plot


@figure("F13", "5", moving=True)
def same():
    """Kernel 3, stride 1, padding 1: the output is as large as the input."""
    return draw.arithmetic("dense", (5, 5), 3, strides=1, padding=1)


@figure("F14", "5")
def output_size():
    """The size of the output over the size of the input, by relation 6."""
    sizes = list(range(3, 21))
    rows = [(3, 1, 0), (3, 1, 1), (3, 2, 1), (4, 2, 1)]
    curves = [
        (
            f"k={k} s={s} p={p}",
            sizes,
            [arithmetic.relation_6(i, k, s, p) if i + 2 * p >= k else 0 for i in sizes],
        )
        for k, s, p in rows
    ]
    words = "Stride 2 halves: steps of width two, so that several inputs share one output size."
    return plot(
        "o = ⌊(i + 2p − k) / s⌋ + 1",
        curves,
        words,
        across="input size i",
        upward="output size o",
        points=True,
    )
