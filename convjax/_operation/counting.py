"""The cost of a convolution, counted pair by pair of an output and a tap."""

import dataclasses
import math
from collections.abc import Sequence

from convjax._core.geometry import Geometry, dilated


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
