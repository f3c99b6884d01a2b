"""The multiply-accumulates of one convolution: how many outputs meet how many taps, and on what."""

import math
from collections.abc import Sequence

from convjax.geometry import Geometry, dilated


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

    Output o and tap t meet at ``o*stride + t*kernel_dilation - low`` of the dilated input; pairs
    that fall between its elements, on inserted zeros, are in neither number.

    Example:
        >>> tap_pairs(5, 3, 5, low=1)  # SAME: one tap of the first and of the last output
        (13, 2)
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
        first = min(count, max(0, -(offset // step)))
        last = min(count, max(first, -((offset - reach) // step)))
        padded += count - (last - first)
        if offset % shared == 0:  # j*step = -offset (mod input_dilation) from `phase` on
            phase = -offset // shared * inverse % period
            real += max(0, -((phase - last) // period)) - max(0, -((phase - first) // period))
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
