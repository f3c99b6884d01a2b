"""Sizes: Dumoulin and Visin's relations 1-15, output sizes in general, and receptive fields.

All functions take integers. The relations use the paper's letters along one spatial axis:
`i` input, `k` kernel, `s` stride, `p` zeros on either side, `d` dilation. The relations of the
transposed convolution (8 to 14) take the `i` that enters it (the paper's i'), and the k, s and p
of the convolution that it transposes.

Source: V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning, 2016,
    https://arxiv.org/abs/1603.07285
"""

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack, overload

from convjax._core import checks
from convjax._core.aliases import Ints, Padding
from convjax._core.geometry import dilated
from convjax._core.options import DEFAULTS, takes
from convjax._core.public import public_with
from convjax._core.receptive_fields import ReceptiveField, receptive_field
from convjax._core.transposed_sizes import transposed_extents
from convjax._functional.prepare import Names, placed, spatial_steps

__all__ = [
    *(f"relation_{number}" for number in range(1, 16)),
    "ReceptiveField",
    "conv_output_size",
    "conv_transpose_output_size",
    "receptive_field",
]

public = public_with(k=checks.axis)

# ---- convolution -----------------------------------------------------------------------------


@public
def relation_1(i: int, k: int) -> int:
    """Unit strides, no padding: ``o = (i - k) + 1``."""
    return _size("relation_1", i, k)


@public
def relation_2(i: int, k: int, p: int) -> int:
    """Unit strides, padding p: ``o = (i - k) + 2p + 1``."""
    return _size("relation_2", i, k, p=p)


@public
def relation_3(i: int, k: int) -> int:
    """Half ("same") padding, unit strides, odd k: ``o = i + 2*floor(k/2) - (k - 1) = i``."""
    return _size("relation_3", i, k, p=_half("relation_3", k))


@public
def relation_4(i: int, k: int) -> int:
    """Full padding, unit strides: ``o = i + 2(k - 1) - (k - 1) = i + (k - 1)``."""
    return _size("relation_4", i, k, p=k - 1)


@public
def relation_5(i: int, k: int, s: int) -> int:
    """No padding, strides s: ``o = floor((i - k) / s) + 1``."""
    return _size("relation_5", i, k, s=s)


@public
def relation_6(i: int, k: int, s: int, p: int) -> int:
    """Any padding and strides: ``o = floor((i + 2p - k) / s) + 1``.

    Example:
        >>> relation_6(i=6, k=3, s=2, p=1), relation_6(i=5, k=3, s=2, p=1)
        (3, 3)
    """
    return _size("relation_6", i, k, s=s, p=p)


@public
def relation_7(i: int, k: int, s: int) -> int:
    """Pooling, which pads nothing: ``o = floor((i - k) / s) + 1``."""
    return _size("relation_7", i, k, s=s)


# ---- transposed convolution ------------------------------------------------------------------


@public
def relation_8(i: int, k: int) -> int:
    """Transpose of unit strides, no padding: ``o = i + (k - 1)``."""
    return _transposed_size("relation_8", i, k)


@public
def relation_9(i: int, k: int, p: int) -> int:
    """Transpose of unit strides, padding p: ``o = i + (k - 1) - 2p``."""
    return _transposed_size("relation_9", i, k, p=p)


@public
def relation_10(i: int, k: int) -> int:
    """Transpose of half padding, unit strides, odd k: ``o = i``."""
    return _transposed_size("relation_10", i, k, p=_half("relation_10", k))


@public
def relation_11(i: int, k: int) -> int:
    """Transpose of full padding, unit strides: ``o = i - (k - 1)``."""
    return _transposed_size("relation_11", i, k, p=k - 1)


@public
def relation_12(i: int, k: int, s: int) -> int:
    """Transpose of no padding, strides s that divide (its size) - k: ``o = s(i - 1) + k``."""
    return _transposed_size("relation_12", i, k, s=s)


@public
def relation_13(i: int, k: int, s: int, p: int) -> int:
    """Transpose of any padding, strides s that divide (its size) + 2p - k.

    ``o = s(i - 1) + k - 2p``
    """
    return _transposed_size("relation_13", i, k, s=s, p=p)


@public
def relation_14(i: int, k: int, s: int, p: int, a: int) -> int:
    """Transpose of any padding and strides: ``o = s(i - 1) + a + k - 2p``.

    `a` = ((its size) + 2p - k) mod s is what the strides leave over; so this undoes relation 6.

    Example:
        >>> relation_14(i=relation_6(i=6, k=3, s=2, p=1), k=3, s=2, p=1, a=(6 + 2 - 3) % 2)
        6
    """
    return _transposed_size("relation_14", i, k, s=s, p=p, a=a)


# ---- dilated convolution ---------------------------------------------------------------------


@public
def relation_15(i: int, k: int, s: int, p: int, d: int) -> int:
    """Kernel dilation d: ``o = floor((i + 2p - k - (k - 1)(d - 1)) / s) + 1``.

    Example:
        >>> relation_15(i=7, k=3, s=1, p=0, d=2)
        3
    """
    return _size("relation_15", i, k, s=s, p=p, d=d)


def _size(function: str, i: int, k: int, *, s: int = 1, p: int = 0, d: int = 1) -> int:
    i, k = _extents(function, i, k, s, p)
    k_hat = dilated(k, checks.integer(function, "d", d, minimum=1))
    if k_hat > i + 2 * p:
        checks.fail(function, "k", k, f"spans {k_hat} and must fit the padded input ({i + 2 * p})")
    return (i + 2 * p - k_hat) // s + 1


def _transposed_size(function: str, i: int, k: int, *, s: int = 1, p: int = 0, a: int = 0) -> int:
    i, k = _extents(function, i, k, s, p)
    if checks.integer(function, "a", a, minimum=0) >= s:
        checks.fail(function, "a", a, f"must be less than `s` (={s}), of which it is a remainder")
    size = s * (i - 1) + a + k - 2 * p
    if size < 1:
        checks.fail(function, "p", p, f"crops everything: the result would have extent {size}")
    return size


def _extents(function: str, i: int, k: int, s: int, p: int) -> tuple[int, int]:
    checks.integer(function, "s", s, minimum=1)
    checks.integer(function, "p", p, minimum=0)
    i = checks.integer(function, "i", i, minimum=1)
    return i, checks.integer(function, "k", k, minimum=1)


def _half(function: str, k: int) -> int:
    if checks.integer(function, "k", k, minimum=1) % 2 == 0:
        checks.fail(function, "k", k, "must be odd, for half padding to be the same on both sides")
    return k // 2


# ---- in general ------------------------------------------------------------------------------


class SizeOptions(TypedDict, total=False):
    """The options of `conv_output_size`."""

    strides: Ints
    padding: Padding
    input_dilation: Ints
    kernel_dilation: Ints


class TransposeSizeOptions(TypedDict, total=False):
    """The options of `conv_transpose_output_size`."""

    strides: Ints
    padding: Padding
    kernel_dilation: Ints
    output_padding: Ints


@overload
def conv_output_size(input_size: int, kernel_size: Ints, **options: Unpack[SizeOptions]) -> int: ...
@overload
def conv_output_size(
    input_size: Sequence[int], kernel_size: Ints, **options: Unpack[SizeOptions]
) -> tuple[int, ...]: ...


@public
@takes(SizeOptions)
def conv_output_size(
    input_size: Ints, kernel_size: Ints, **options: Unpack[SizeOptions]
) -> int | tuple[int, ...]:
    """Spatial extents of ``convjax.conv``'s result: relations 6 and 15, for every padding.

    ``o = floor((î + lo + hi - k̂) / s) + 1``, where ``î`` and ``k̂`` are the dilated extents.

    Args:
        input_size: an int for one spatial axis, or one int per spatial axis.
        kernel_size, strides, input_dilation, kernel_dilation: one int, or one per spatial axis.
        padding: as in ``convjax.conv``.

    Returns:
        An int if `input_size` is one, else a tuple.

    Raises:
        ValueError: a kernel that is larger than the padded input; values out of range.

    Example:
        >>> conv_output_size((224, 224), 7, strides=2, padding=3)
        (112, 112)
        >>> conv_output_size(7, 3, padding="VALID", kernel_dilation=2)
        3
    """
    names = Names("conv_output_size", kernel="kernel_size")
    space, window = _extents_of(names.function, input_size, kernel_size)
    given = {**DEFAULTS, **options}
    steps = spatial_steps(names.function, given, len(space))
    geometry, _, _ = placed(names, space, window, given, steps, 0 in space)
    return _like(input_size, geometry.output_space(space, window))


@overload
def conv_transpose_output_size(
    input_size: int, kernel_size: Ints, **options: Unpack[TransposeSizeOptions]
) -> int: ...
@overload
def conv_transpose_output_size(
    input_size: Sequence[int], kernel_size: Ints, **options: Unpack[TransposeSizeOptions]
) -> tuple[int, ...]: ...


@public
@takes(TransposeSizeOptions)
def conv_transpose_output_size(
    input_size: Ints, kernel_size: Ints, **options: Unpack[TransposeSizeOptions]
) -> int | tuple[int, ...]:
    """Spatial extents of ``convjax.conv_transpose``'s result: relation 14, for every padding.

    ``o = (i - 1)*s + k̂ - lo - hi + output_padding``; ``i*s`` for "SAME", "SAME_LOWER" and
    "CAUSAL", which looks back in time.

    Args:
        input_size: an int for one spatial axis, or one int per spatial axis.
        kernel_size, strides, kernel_dilation: one int, or one per spatial axis.
        padding: as in ``convjax.conv_transpose``: what the forward convolution was given.
        output_padding: one int or one per spatial axis, each less than the stride.

    Returns:
        An int if `input_size` is one, else a tuple.

    Raises:
        ValueError: padding that crops everything; values out of range.

    Example:
        >>> conv_transpose_output_size((2, 2), 3, strides=2, padding="VALID")
        (5, 5)
        >>> conv_transpose_output_size(112, 7, strides=2, padding=3, output_padding=1)
        224
    """
    function = "conv_transpose_output_size"
    space, window = _extents_of(function, input_size, kernel_size)
    given = {**DEFAULTS, **options}
    strides, _, dilation = spatial_steps(function, given, len(space))
    sizes, _ = transposed_extents(
        function,
        given["padding"],
        space=space,
        window=window,
        strides=strides,
        kernel_dilation=dilation,
        output_padding=given["output_padding"],
    )
    return _like(input_size, tuple(max(0, size) for size in sizes))


def _extents_of(
    function: str, input_size: Any, kernel_size: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The two, one entry per spatial axis; `input_size` says how many axes there are."""
    rank = 1 if checks.is_int(input_size) else len(tuple(input_size))
    return (
        checks.ints(function, "input_size", input_size, rank, minimum=0),
        checks.ints(function, "kernel_size", kernel_size, rank, minimum=1),
    )


def _like(input_size: Any, sizes: tuple[int, ...]) -> int | tuple[int, ...]:
    return sizes[0] if checks.is_int(input_size) else sizes
