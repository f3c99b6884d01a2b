"""For which extents a padding policy agrees with padding in numbers.

A policy agrees, or not, by the remainder of the input's extent modulo the stride.
"""

from typing import NamedTuple

from convjax._core.geometry import Pair
from convjax._core.padding import policy_pair
from convjax._core.transposed_sizes import transposed_extents

POLICIES = ("SAME", "SAME_LOWER", "VALID", "FULL")


class Agreement(NamedTuple):
    """For which extents of one axis a policy agrees with the layer: remainders by `modulus`.

    Attributes:
        modulus: the stride; 1 for a transposed convolution, which agrees at every size or at none.
        shape: where the output has the same extent.
        equal: where, moreover, every output reads the same inputs.
    """

    modulus: int
    shape: frozenset[int]
    equal: frozenset[int]


def of_conv(policy: str, axis: int, reach: int, stride: int, pair: Pair, _: int) -> Agreement:
    """Output j reads from ``j*stride - lo``; so agreement is one count of outputs, and one lo.

    Both differences depend only on ``n mod stride``: SAME pads ``max(0, k̂ - s + (-n mod s))``.
    """
    shape, equal = set(), set()
    for remainder in range(stride):
        # any size with this remainder that holds the kernel, cropped
        n = remainder + stride * (reach + 1 + max(0, -sum(pair)))
        lo, hi = policy_pair(policy, axis, n, reach, stride)
        if (n + lo + hi - reach) // stride == (n + sum(pair) - reach) // stride:
            shape.add(remainder)
            if lo == pair[0]:
                equal.add(remainder)
    return Agreement(stride, frozenset(shape), frozenset(equal))


def of_transposed(
    policy: str, axis: int, reach: int, stride: int, pair: Pair, extra: int
) -> Agreement:
    """Input j paints from ``j*stride - lo`` on; extents are n*s, or (n-1)*s + k̂ - lo - hi."""
    n = reach + 1
    (ours,), ((lo, _),) = transposed_extents(
        "check_port",
        policy,
        space=(n,),
        window=(reach,),
        strides=(stride,),
        kernel_dilation=(1,),
    )
    theirs = (n - 1) * stride + reach - sum(pair) + extra
    every: frozenset[int] = frozenset({0})
    shape = every if ours == theirs else frozenset[int]()
    return Agreement(1, shape, shape if lo == pair[0] else frozenset())


def everywhere(axes: tuple[Agreement, ...], what: str) -> bool:
    return all(len(getattr(axis, what)) == axis.modulus for axis in axes)


def is_trap(axes: tuple[Agreement, ...]) -> bool:
    """Whether some size gives the layer's shape on every axis, and other numbers."""
    return all(axis.shape for axis in axes) and any(axis.shape > axis.equal for axis in axes)


def where(axes: tuple[Agreement, ...], what: str) -> str:
    """For which extents, in words."""

    def condition(axis: Agreement) -> str:
        remainders = sorted(getattr(axis, what))
        if axis.modulus == 2:
            return f"is {'odd' if remainders[0] else 'even'}"
        return f"modulo {axis.modulus} is {' or '.join(map(str, remainders))}"

    if len({(axis.modulus, getattr(axis, what)) for axis in axes}) == 1:
        return f"where {'the' if len(axes) == 1 else 'every'} extent {condition(axes[0])}"
    some = [(a, axis) for a, axis in enumerate(axes) if len(getattr(axis, what)) < axis.modulus]
    return "where " + " and ".join(f"extent {a} {condition(axis)}" for a, axis in some)
