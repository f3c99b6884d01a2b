"""Section 7: dilated convolution."""

from convjax import draw
from figures.registry import beside, figure


@figure("F23", "7", moving=True)
def standard():
    """The standard convolution: (F ∗ k)(p) = Σ F(s) k(t) over s + t = p."""
    return draw.arithmetic("dense", 9, 3, padding="VALID")


@figure("F24", "7", moving=True)
def dilated():
    """The dilated convolution: the same sum over s + l·t = p, here l = 2."""
    return draw.arithmetic("dilated", 9, 3, kernel_dilation=2, padding="VALID")


@figure("F25", "7")
def fields():
    """Three taps per axis at dilations 1, 2 and 4: single layers span 3, 5, 9; a stack 3, 7, 15."""
    single = [draw.receptive_field([(3, 1, d)], names=[f"dilation {d}, single"]) for d in (1, 2, 4)]
    stack = draw.receptive_field([(3, 1, 1), (3, 1, 2), (3, 1, 4)])
    singles = beside("One layer: nine taps, with more and more distance", *single)
    return beside("Dilation, single and stacked", singles, stack, columns=1)
