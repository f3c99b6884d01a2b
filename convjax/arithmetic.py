"""Sizes: Dumoulin and Visin's relations 1-15, output sizes in general, and receptive fields.

All functions take integers. The relations use the paper's letters along one spatial axis:
`i` input, `k` kernel, `s` stride, `p` zeros on either side, `d` dilation. The relations of the
transposed convolution (8 to 14) take the `i` that enters it (the paper's i'), and the k, s and p
of the convolution that it transposes.

Source: V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning, 2016,
    https://arxiv.org/abs/1603.07285
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypedDict, Unpack, overload

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

P = ParamSpec("P")

public = public_with(k=checks.axis)

# ---- the paper's relations -------------------------------------------------------------------


class _Letters(NamedTuple):
    """What the general relation of a convolution, or of its transpose, is asked.

    `p` may be the paper's word for a padding that follows from k: "half" or "full".
    """

    i: Any
    k: Any
    s: Any = 1
    p: Any = 0
    d: Any = 1
    a: Any = 0


def _size(function: str, letters: _Letters) -> int:
    """Of a convolution: relation 15, of which 1 to 7 are cases."""
    i, k, s, p, d, _ = _checked(function, letters)
    k_hat = dilated(k, d)
    if k_hat > i + 2 * p:
        checks.fail(function, "k", k, f"spans {k_hat} and must fit the padded input ({i + 2 * p})")
    return (i + 2 * p - k_hat) // s + 1


def _transposed_size(function: str, letters: _Letters) -> int:
    """Of a transposed convolution: relation 14, of which 8 to 13 are cases."""
    i, k, s, p, _, a = _checked(function, letters)
    if a >= s:
        checks.fail(function, "a", a, f"must be less than `s` (={s}), of which it is a remainder")
    size = s * (i - 1) + a + k - 2 * p
    if size < 1:
        checks.fail(function, "p", p, f"crops everything: the result would have extent {size}")
    return size


def _checked(function: str, letters: _Letters) -> _Letters:
    """`letters` as integers in their ranges."""
    i, k, s, p, d, a = letters
    k = checks.integer(function, "k", k, minimum=1)
    if p == "half" and k % 2 == 0:
        checks.fail(function, "k", k, "must be odd, for half padding to be the same on both sides")
    p = {"half": k // 2, "full": k - 1}[p] if isinstance(p, str) else p
    return _Letters(
        i=checks.integer(function, "i", i, minimum=1),
        k=k,
        s=checks.integer(function, "s", s, minimum=1),
        p=checks.integer(function, "p", p, minimum=0),
        d=checks.integer(function, "d", d, minimum=1),
        a=checks.integer(function, "a", a, minimum=0),
    )


def _relation(
    number: int,
    general: Callable[[str, _Letters], int],
    case: str,
    formula: str,
    letters: Callable[P, _Letters],
    more: str = "",
) -> Callable[P, int]:
    """The public function of one row.

    Args:
        number: the paper's.
        general: the relation of which it is a case.
        case: what it is about.
        formula: the paper's, for the documentation; `tests/laws/test_arithmetic.py` computes it.
        letters: the case, as the general relation's letters.
        more: the rest of its documentation.
    """
    name = f"relation_{number}"

    def relation(*args: P.args, **options: P.kwargs) -> int:
        return general(name, letters(*args, **options))

    taken = [p.replace(annotation=int) for p in inspect.signature(letters).parameters.values()]
    relation.__name__ = relation.__qualname__ = name
    relation.__doc__ = f"{case}: ``{formula}``.{more}"
    relation.__annotations__ = {**{p.name: int for p in taken}, "return": int}
    relation.__signature__ = inspect.Signature(taken, return_annotation=int)  # type: ignore[attr-defined]
    return public(relation)


relation_1 = _relation(
    1,
    _size,
    "Unit strides, no padding",
    "o = (i - k) + 1",
    lambda i, k: _Letters(i, k),
)
relation_2 = _relation(
    2,
    _size,
    "Unit strides, padding p",
    "o = (i - k) + 2p + 1",
    lambda i, k, p: _Letters(i, k, p=p),
)
relation_3 = _relation(
    3,
    _size,
    'Half ("same") padding, unit strides, odd k',
    "o = i + 2*floor(k/2) - (k - 1) = i",
    lambda i, k: _Letters(i, k, p="half"),
)
relation_4 = _relation(
    4,
    _size,
    "Full padding, unit strides",
    "o = i + 2(k - 1) - (k - 1) = i + (k - 1)",
    lambda i, k: _Letters(i, k, p="full"),
)
relation_5 = _relation(
    5,
    _size,
    "No padding, strides s",
    "o = floor((i - k) / s) + 1",
    lambda i, k, s: _Letters(i, k, s),
)
relation_6 = _relation(
    6,
    _size,
    "Any padding and strides",
    "o = floor((i + 2p - k) / s) + 1",
    lambda i, k, s, p: _Letters(i, k, s, p),
    """

    Example:
        >>> relation_6(i=6, k=3, s=2, p=1), relation_6(i=5, k=3, s=2, p=1)
        (3, 3)
    """,
)
relation_7 = _relation(
    7,
    _size,
    "Pooling, which pads nothing",
    "o = floor((i - k) / s) + 1",
    lambda i, k, s: _Letters(i, k, s),
)
relation_8 = _relation(
    8,
    _transposed_size,
    "Transpose of unit strides, no padding",
    "o = i + (k - 1)",
    lambda i, k: _Letters(i, k),
)
relation_9 = _relation(
    9,
    _transposed_size,
    "Transpose of unit strides, padding p",
    "o = i + (k - 1) - 2p",
    lambda i, k, p: _Letters(i, k, p=p),
)
relation_10 = _relation(
    10,
    _transposed_size,
    "Transpose of half padding, unit strides, odd k",
    "o = i",
    lambda i, k: _Letters(i, k, p="half"),
)
relation_11 = _relation(
    11,
    _transposed_size,
    "Transpose of full padding, unit strides",
    "o = i - (k - 1)",
    lambda i, k: _Letters(i, k, p="full"),
)
relation_12 = _relation(
    12,
    _transposed_size,
    "Transpose of no padding, strides s that divide (its size) - k",
    "o = s(i - 1) + k",
    lambda i, k, s: _Letters(i, k, s),
)
relation_13 = _relation(
    13,
    _transposed_size,
    "Transpose of any padding, strides s that divide (its size) + 2p - k",
    "o = s(i - 1) + k - 2p",
    lambda i, k, s, p: _Letters(i, k, s, p),
)
relation_14 = _relation(
    14,
    _transposed_size,
    "Transpose of any padding and strides",
    "o = s(i - 1) + a + k - 2p",
    lambda i, k, s, p, a: _Letters(i, k, s, p, a=a),
    """

    `a` = ((its size) + 2p - k) mod s is what the strides leave over; so this undoes relation 6.

    Example:
        >>> relation_14(i=relation_6(i=6, k=3, s=2, p=1), k=3, s=2, p=1, a=(6 + 2 - 3) % 2)
        6
    """,
)
relation_15 = _relation(
    15,
    _size,
    "Kernel dilation d",
    "o = floor((i + 2p - k - (k - 1)(d - 1)) / s) + 1",
    lambda i, k, s, p, d: _Letters(i, k, s, p, d),
    """

    Example:
        >>> relation_15(i=7, k=3, s=1, p=0, d=2)
        3
    """,
)

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
