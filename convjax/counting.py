"""The cost of one convolution or of a chain of them, counted from shapes."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from convjax import _checks
from convjax import padding as paddings
from convjax.arithmetic import conv_output_size
from convjax.geometry import Geometry, dilated

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Costs add: ``cost.conv(...) + cost.conv(...)``, or ``sum(costs, Cost())``.

    Attributes:
        params: weights. (Nothing here has biases.)
        macs: multiply-accumulates. Those on padding count. Those on inserted zeros do not: input
            dilation inserts zeros, and so do the strides of a transposed convolution. Input
            dilation goes on inserting zeros in the padding: there only every `input_dilation`-th
            place counts.
        useful_macs: multiply-accumulates on real input elements. A convolution and both its
            gradients have the same number.
        bytes: every operand is read once and every result is written once, stage by stage.
    """

    params: int = 0
    macs: int = 0
    useful_macs: int = 0
    bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        if not isinstance(other, Cost):
            return NotImplemented
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Cost(*(a + b for a, b in zip(mine, theirs, strict=True)))


def tap_pairs(
    space: int,
    window: int,
    out_space: int,
    *,
    stride: int = 1,
    low: int = 0,
    input_dilation: int = 1,
    kernel_dilation: int = 1,
) -> tuple[int, int]:
    """Pairs (output, tap) along one axis: those on real elements, and those on padding.

    Output o and tap t meet at ``o*stride + t*kernel_dilation - low`` of the dilated input. Only
    multiples of `input_dilation` hold elements: those of the input, and beyond them those of the
    padding. All other positions are inserted zeros, and pairs on them are in neither number.

    Example:
        >>> tap_pairs(5, 3, 5, low=1)  # SAME: one tap of the first and of the last output
        (13, 2)
        >>> tap_pairs(2, 2, 4, low=1, input_dilation=2)  # 2 -> 4, transposed: no tap is on padding
        (4, 0)
    """
    # The two indices play the same part: go through the shorter, count the longer in closed form.
    (step, count), (other, others) = sorted(
        ((stride, out_space), (kernel_dilation, window)), key=lambda pair: -pair[1]
    )
    reach = dilated(space, input_dilation)
    shared = math.gcd(step, input_dilation)
    period = input_dilation // shared
    inverse = pow(step // shared, -1, period) if period > 1 else 0
    real = padded = 0
    for index in range(others):
        offset = index * other - low  # position j*step + offset, for j in range(count)
        if offset % shared:
            continue  # on inserted zeros, every one
        phase = -offset // shared * inverse % period  # j*step = -offset (mod input_dilation)
        first = min(count, max(0, -(offset // step)))
        last = min(count, max(first, -((offset - reach) // step)))
        before, inside, everything = (
            max(0, -((phase - end) // period)) for end in (first, last, count)
        )
        real += inside - before
        padded += everything - (inside - before)
    return real, padded


def count_macs(
    multiplicity: int,
    space: Sequence[int],
    window: Sequence[int],
    out_space: Sequence[int],
    geometry: Geometry,
) -> tuple[int, int]:
    """(macs, useful_macs): `multiplicity` = N*G*I*O times every axis's `tap_pairs`."""
    macs = useful = multiplicity
    for axis in range(len(geometry.strides)):
        real, padded = tap_pairs(
            space[axis],
            window[axis],
            out_space[axis],
            stride=geometry.strides[axis],
            low=geometry.padding[axis][0],
            input_dilation=geometry.input_dilation[axis],
            kernel_dilation=geometry.kernel_dilation[axis],
        )
        useful *= real
        macs *= real + padded
    return macs, useful


def shape_of(x: Any) -> Shape:
    return tuple(getattr(x, "shape", x))


def shapes_of(function: str, x: Any, kernel: Any) -> tuple[Shape, Shape]:
    x, kernel = shape_of(x), shape_of(kernel)
    if len(x) != len(kernel) or len(kernel) < 3:
        rule = f"must have as many axes as `x` (={x}), batch, space and channels"
        _checks.fail(function, "kernel", kernel, rule)
    return x, kernel


def extended(
    function: str, space: Sequence[int], sides: Sequence[paddings.Pair], padding_mode: Any
) -> tuple[Shape, tuple[paddings.Pair, ...]]:
    """The extents that the operation sees, boundary modes having extended them, and its padding."""
    modes = paddings.modes(function, padding_mode, len(space))
    extension, rest = paddings.split_extension(function, sides, modes, space)
    return tuple(n + lo + hi for n, (lo, hi) in zip(space, extension, strict=True)), rest


def conv_cost(
    function: str,
    x: Any,
    kernel: Any,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    input_dilation: Any = 1,
    kernel_dilation: Any = 1,
    feature_group_count: int = 1,
    itemsize: int = 4,
) -> tuple[Cost, Shape]:
    """Cost of one convolution, and the shape of its result."""
    x, kernel = shapes_of(function, x, kernel)
    n, *space, channels = x
    *window, per_group, features = kernel
    rank = len(window)
    groups = _checks.integer(function, "feature_group_count", feature_group_count, minimum=1)
    if per_group * groups != channels or features % groups:
        rule = f"does not fit `x` (={x}) with {groups} feature groups: (*K, I/G, O)"
        _checks.fail(function, "kernel", kernel, rule)
    given = {
        "strides": strides,
        "input_dilation": input_dilation,
        "kernel_dilation": kernel_dilation,
    }
    options: dict[str, Any] = {
        name: _checks.ints(function, name, value, rank, minimum=1) for name, value in given.items()
    }
    out = conv_output_size(space, window, padding=padding, **options)
    sides = paddings.resolve(function, padding, space=space, window=window, **options)
    seen, sides = extended(function, space, sides, padding_mode)
    geometry = Geometry(padding=sides, **options)
    macs, useful = count_macs(n * per_group * features, seen, window, out, geometry)
    result = (n, *out, features)
    moved = itemsize * sum(map(math.prod, (x, kernel, result)))
    return Cost(math.prod(kernel), macs, useful, moved), result


def chain_cost(
    function: str, x: Any, stages: Sequence[tuple[Any, dict[str, Any]]], itemsize: int
) -> Cost:
    """Cost of convolutions one after the other."""
    total, shape = Cost(), shape_of(x)
    for kernel, options in stages:
        cost, shape = conv_cost(function, shape, kernel, **{**options, "itemsize": itemsize})
        total += cost
    return total


def split(
    function: str,
    rank: int,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    kernel_dilation: Any = 1,
    **options: Any,
) -> list[dict[str, Any]]:
    """The options of one convolution as those of one convolution per axis."""
    strides = _checks.ints(function, "strides", strides, rank, minimum=1)
    dilations = _checks.ints(function, "kernel_dilation", kernel_dilation, rank, minimum=1)
    named = isinstance(padding, str)
    sides = padding if named else paddings.pairs(function, padding, rank)

    def only(values: Sequence[Any], axis: int, neutral: Any) -> tuple[Any, ...]:
        return tuple(value if a == axis else neutral for a, value in enumerate(values))

    return [
        {
            **options,
            "strides": only(strides, axis, 1),
            "padding": sides if named else only(sides, axis, (0, 0)),
            "kernel_dilation": only(dilations, axis, 1),
        }
        for axis in range(rank)
    ]
