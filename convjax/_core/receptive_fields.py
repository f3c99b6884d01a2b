"""Receptive fields of stacks: convolutions and poolings, transposed convolutions, enlargements."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import lcm
from typing import Any, NamedTuple

from convjax._core import checks
from convjax._core.aliases import Ints
from convjax._core.geometry import Pair
from convjax._core.padding import pairs
from convjax._core.public import public_with

METHODS = ("nearest", "bilinear")


class ReceptiveField(NamedTuple):
    """Output ``o`` sees the `size` input elements from ``start + o*jump`` on, along each axis.

    Ints, or one per spatial axis. Elements before 0 or beyond the input are padding; `size` counts
    first to last, gaps that dilation leaves included. Where layers enlarge, `jump` may be a
    fraction, and outputs differ: see `receptive_field`.
    """

    size: Any
    jump: Any
    start: Any


class _Layer(NamedTuple):
    """A layer along one axis.

    Attributes:
        jump: its inputs per output.
        before: the positions of its input that an output sees, from the output's position.
    """

    jump: Fraction
    before: Callable[[int], Iterable[int]]


#: Of one layer: a word or none, then integers, and what else the layer has.
LayerRow = Sequence[str | int | Sequence[int] | Sequence[Sequence[int]]]


@public_with(layers=checks.iterable)
def receptive_field(layers: Iterable[LayerRow], *, output: Ints | None = None) -> ReceptiveField:
    """Receptive field of one output of a stack of convolutions, poolings and enlargements.

    ``size += (k - 1)*d*jump``, ``start -= lo*jump``, then ``jump *= s``, layer by layer, where no
    layer enlarges. Through a transposed convolution output ``o`` sees the inputs ``p`` with ``o =
    p*s + t*d - lo`` for a tap ``t``. How many these are depends on ``o``, with a period: `size` is
    that of the outputs that see most, unless `output` says which one is meant.

    Args:
        layers: from input to output, each ``(kernel_size, strides, kernel_dilation, padding)``, of
            which everything after `kernel_size` may be left out (1, 1 and 0); or ``("transposed",
            kernel_size, strides, kernel_dilation, padding)``, with the padding that
            `convjax.conv_transpose` takes; or ``("resize", scale, method)``, method being
            "nearest" (which may be left out; a pixel shuffle is one, too) or "bilinear". Each
            entry is one int or one per spatial axis; `padding` also pairs (low, high).
        output: the position of an output, one int or one per spatial axis; None is any output.

    Returns:
        A `ReceptiveField`: `size`, `jump` (the stack's stride: inputs per output) and `start`; ints
        if every entry of every layer was one, else tuples. `start` is the first element that
        `output` sees, or for None that output 0 sees; `jump` is a ``Fraction`` if it is not whole.
        An output that sees nothing (strides above the kernel leave such) has size and start 0.

    Raises:
        ValueError: values out of range, layers of different ranks, words that are no layer.

    Example:
        >>> [receptive_field([(3, 1, 1), (3, 1, 2), (3, 1, 4)][:depth]).size for depth in (1, 2, 3)]
        [3, 7, 15]
        >>> receptive_field([(7, 2, 1, 3), (3, 2, 1, 1)])
        ReceptiveField(size=11, jump=4, start=-5)
        >>> receptive_field([(3, 1, 1, 1), (2, 2), (3, 1, 1, 1), ("transposed", 2, 2)])
        ReceptiveField(size=8, jump=1, start=-3)
        >>> receptive_field([("transposed", 4, 2, 1, 1), (3, 1, 1, 1)], output=5)
        ReceptiveField(size=3, jump=Fraction(1, 2), start=1)

    Source: A. Araujo, W. Norris, J. Sim, Computing receptive fields of convolutional neural
        networks, Distill, 2019, https://distill.pub/2019/computing-receptive-fields
    """
    function = "receptive_field"
    rows = [_row(function, layer) for layer in layers]
    entries = [e for _, row in rows for e in row if not (checks.is_int(e) or isinstance(e, str))]
    rank = len(tuple(entries[0])) if entries else 1
    if output is not None:
        if not isinstance(output, int):
            rank = rank if entries else len(tuple(output))
            entries = [*entries, output]
        output = checks.ints(function, "output", output, rank, minimum=0)
    stack = [_along_axes(function, kind, row, rank) for kind, row in rows]
    found = [
        _field([layer[axis] for layer in stack], None if output is None else output[axis])
        for axis in range(rank)
    ]
    field = ReceptiveField(*zip(*found, strict=True)) if found else ReceptiveField((), (), ())
    return field if entries else ReceptiveField(*(values[0] for values in field))


def _field(layers: list[_Layer], output: int | None) -> tuple[int, Any, int]:
    """Size, jump and start along one axis."""
    jump, period = Fraction(1), 1
    for layer in reversed(layers):  # a period of outputs is a whole number of places everywhere
        jump *= layer.jump
        period = lcm(period, jump.denominator)
    whole = int(jump) if jump.denominator == 1 else jump
    if output is not None:
        size, start = _extent(layers, output)
        return size, whole, start
    size = max(_extent(layers, place)[0] for place in range(period))
    return size, whole, _extent(layers, 0)[1]


def _extent(layers: list[_Layer], output: int) -> tuple[int, int]:
    """The extent from the first to the last position that an output sees, and the first."""
    places = {output}
    for depth in reversed(range(len(layers))):
        places = {place for after in places for place in layers[depth].before(after)}
        if places and all(layer.jump >= 1 for layer in layers[:depth]):
            places = {min(places), max(places)}  # what lies between them no longer matters
    return (max(places) - min(places) + 1, min(places)) if places else (0, 0)


# ---- layers ------------------------------------------------------------------------------------


def _row(function: str, layer: Any) -> tuple[str, tuple[Any, ...]]:
    """A layer's kind and its entries, those left out included."""
    kind, row = "conv", tuple(layer) if isinstance(layer, Sequence) else ()
    if row and isinstance(row[0], str) and not isinstance(layer, str):
        kind, row = row[0], row[1:]
    defaults = {"conv": (1, 1, 0), "transposed": (1, 1, 0), "resize": ("nearest",)}.get(kind)
    if isinstance(layer, str) or defaults is None or not 0 <= len(row) - 1 <= len(defaults):
        rule = (
            "must be (kernel_size, strides, kernel_dilation, padding), or the first few, or "
            '("transposed", ...) with these, or ("resize", scale, method)'
        )
        checks.fail(function, "layer", layer, rule)
    return kind, (*row, *defaults[len(row) - 1 :])


def _along_axes(function: str, kind: str, row: tuple[Any, ...], rank: int) -> list[_Layer]:
    if kind == "resize":
        scale, method = row
        scales = checks.ints(function, "scale", scale, rank, minimum=1)
        checks.choice(function, "method", method, METHODS)
        return [_resize(s, method) for s in scales]
    kernel_size, strides, kernel_dilation, padding = row
    make = _transposed if kind == "transposed" else _conv
    axes = zip(
        checks.ints(function, "kernel_size", kernel_size, rank, minimum=1),
        checks.ints(function, "strides", strides, rank, minimum=1),
        checks.ints(function, "kernel_dilation", kernel_dilation, rank, minimum=1),
        pairs(function, padding, rank),
        strict=True,
    )
    return [make(*axis) for axis in axes]


def _conv(k: int, s: int, d: int, pair: Pair) -> _Layer:
    """Output ``o``, tap ``t`` reads place ``o*s + t*d - lo``."""
    lo, span = pair[0], k * d
    return _Layer(Fraction(s), lambda o: range(o * s - lo, o * s - lo + span, d))


def _transposed(k: int, s: int, d: int, pair: Pair) -> _Layer:
    """Place ``p``, tap ``t`` paints output ``p*s + t*d - lo``."""
    lo, span = pair[0], k * d

    def before(o: int) -> list[int]:
        return [p // s for p in range(o + lo, o + lo - span, -d) if p % s == 0]

    return _Layer(Fraction(1, s), before)


def _resize(scale: int, method: str) -> _Layer:
    """Half-pixel centres: output ``o`` lies at ``(o + 1/2)/scale - 1/2``, or in place o//scale."""

    def before(o: int) -> tuple[int, ...]:
        if method == "nearest":
            return (o // scale,)
        here, between = divmod(2 * o + 1 - scale, 2 * scale)
        return (here, here + 1) if between else (here,)

    return _Layer(Fraction(1, scale), before)
