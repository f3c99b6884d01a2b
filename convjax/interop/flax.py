"""Flax's conventions for convolutions as functions: its padding, its transposed convolution.

`conv` and `conv_transpose` compute what ``flax.nnx.Conv`` and ``flax.nnx.ConvTranspose`` do with
their kernels, on channels-last arrays with one batch axis. Flax itself is not needed.
"""

import operator
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax import _checks, equivalents, functional
from convjax import padding as paddings
from convjax._public import public_with
from convjax._symbolic import certainly
from convjax.extension import extend
from convjax.geometry import Pair, dilated
from convjax.lax import conv_general_dilated as _ours
from convjax.transposed_sizes import check_causal_mode

BOUNDARIES = {"CIRCULAR": "wrap", "REFLECT": "reflect"}
TRANSPOSED_WORDS = ("SAME", "VALID", "CIRCULAR", "CAUSAL")
CONVENTIONS = ("flax", "adjoint")


public = public_with(
    x=_checks.numbers,
    kernel=_checks.kernel,
    feature_group_count=_checks.positive,
    reach=_checks.sequence,
)


@public
def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    input_dilation: Any = 1,
    kernel_dilation: Any = 1,
    feature_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    algorithm: Any = None,
    conv_general_dilated: Callable[..., jax.Array] | None = _ours,
) -> jax.Array:
    """The convolution of ``flax.nnx.Conv``: `convjax.conv` with Flax's words for padding.

    Args:
        x: (N, *space, I).
        kernel: (*K, I/G, O).
        strides, input_dilation, kernel_dilation: as in `convjax.conv`; None is 1.
        padding: as in `convjax.conv`, or "CIRCULAR" or "REFLECT": ``(k̂ - 1) // 2`` elements before
            and ``k̂ // 2`` after, periodic or mirrored, however small `x` is. Integers (both sides)
            and pairs may be mixed.
        padding_mode, feature_group_count, precision, preferred_element_type, out_sharding,
            algorithm: as in `convjax.conv`.
        conv_general_dilated: a function with the signature of lax's that convolves instead of this
            library's own.

    Returns:
        (N, *out_space, O).

    Raises:
        ValueError, TypeError: as `convjax.conv`.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax.interop import flax
        >>> flax.conv(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4)), padding="CIRCULAR").shape
        (1, 8, 8, 4)

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html
    """
    function, rank = "conv", kernel.ndim - 2
    dilation = _steps(function, "kernel_dilation", kernel_dilation, rank)
    steps = _steps(function, "input_dilation", input_dilation, rank)
    strides = _steps(function, "strides", strides, rank)
    reach = [dilated(k, d) for k, d in zip(kernel.shape, dilation, strict=False)]
    x, padding, padding_mode = _boundary(function, x, reach, padding, padding_mode, steps)
    options = {
        "feature_group_count": feature_group_count,
        "precision": precision,
    }
    if conv_general_dilated is None or conv_general_dilated is _ours:
        return functional.conv(
            x,
            kernel,
            strides=strides,
            padding=padding,
            padding_mode=padding_mode,
            input_dilation=steps,
            kernel_dilation=dilation,
            preferred_element_type=preferred_element_type,
            out_sharding=out_sharding,
            algorithm=algorithm,
            **options,
        )
    if algorithm is not None:
        _checks.fail(
            function,
            "algorithm",
            algorithm,
            "speaks of this library's own convolution, and `conv_general_dilated` is another",
            "Drop one of them.",
        )
    x, padding = _extended(function, x, kernel, padding, padding_mode, strides, steps, dilation)
    # functions written for older versions of Flax take neither of these two
    given = {"out_sharding": out_sharding, "preferred_element_type": preferred_element_type}
    axes = range(1, rank + 1)
    numbers = lax.ConvDimensionNumbers(
        (0, rank + 1, *axes), (rank + 1, rank, *range(rank)), (0, rank + 1, *axes)
    )
    return conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        lhs_dilation=steps,
        rhs_dilation=dilation,
        dimension_numbers=numbers,
        **options,
        **{name: value for name, value in given.items() if value is not None},
    )


@public
def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    kernel_dilation: Any = 1,
    feature_group_count: int = 1,
    output_padding: Any = 0,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    algorithm: Any = None,
) -> jax.Array:
    """The transposed convolution of ``flax.nnx.ConvTranspose``, grouped and with output padding.

    A convolution of `x` with ``strides - 1`` zeros between its elements. It is
    `convjax.conv_transpose` with `forward_kernel` and `forward_padding`.

    Args:
        x: (N, *space, I).
        kernel: (*K, I/G, O), or (*K, O/G, I) with `transpose_kernel`.
        strides, kernel_dilation: as in `convjax.conv_transpose`; None is 1.
        padding: "SAME" (extents ``n * strides``), "VALID" (all that the kernel touches, and at
            least ``n * strides``), "CIRCULAR" (``n * strides``, periodic), "CAUSAL" (``n *
            strides``; looks back: on the first spatial axis output ``t`` sees the inputs up to
            ``t // strides``, the others are SAME), or integers and (low, high) pairs: zeros around
            the input between whose elements zeros are, so that ``k̂ - 1`` is what "VALID" adds.
        padding_mode: what `convjax.conv` was given whose adjoint this is.
        feature_group_count: G.
        output_padding: extra extent at the high end, less than `strides`; with "VALID" or padding
            in numbers.
        transpose_kernel: the kernel is that of the `conv` whose adjoint this is.
        precision, preferred_element_type, out_sharding, algorithm: as in `convjax.conv`.

    Returns:
        (N, *out_space, O).

    Raises:
        ValueError, TypeError: as `convjax.conv_transpose`.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax.interop import flax
        >>> x, kernel = jnp.ones((1, 5, 5, 8)), jnp.ones((3, 3, 8, 4))
        >>> flax.conv_transpose(x, kernel, strides=2).shape
        (1, 10, 10, 4)

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html
    """
    function, rank = "conv_transpose", kernel.ndim - 2
    strides = _steps(function, "strides", strides, rank)
    dilation = _steps(function, "kernel_dilation", kernel_dilation, rank)
    reach = [dilated(k, d) for k, d in zip(kernel.shape, dilation, strict=False)]
    extra = _checks.ints(function, "output_padding", output_padding, rank, minimum=0)
    if any(extra) and isinstance(padding, str) and padding != "VALID":
        _checks.fail(
            function,
            "output_padding",
            output_padding,
            f"must be 0 under padding {padding!r}, whose extents are n * strides",
            'Give the padding in numbers, or "VALID".',
        )
    check_causal_mode(function, padding, paddings.modes(function, padding_mode, rank))
    circular = padding == "CIRCULAR"
    if circular and padding_mode != "constant":
        _fail_two_words(function, padding, padding_mode)
    if not transpose_kernel:
        kernel = forward_kernel(kernel, feature_group_count)
    y = functional.conv_transpose(
        x,
        kernel,
        strides=strides,
        padding=forward_padding(padding, reach, strides),
        padding_mode=padding_mode,
        kernel_dilation=dilation,
        feature_group_count=feature_group_count,
        output_padding=extra,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
        algorithm=algorithm,
    )
    if circular:
        for axis, (n, s) in enumerate(zip(x.shape[1:-1], strides, strict=True), start=1):
            y = _wound(y, axis, n * s, round_up=transpose_kernel)
    return y


@public
def forward_kernel(kernel: jax.Array, feature_group_count: int = 1) -> jax.Array:
    """The kernel (*K, O/G, I) of `convjax.conv_transpose` for Flax's (*K, I/G, O).

    Flax's ``transpose_kernel=True`` stores the forward kernel, and needs no conversion. This is its
    own inverse.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax.interop import flax
        >>> flax.forward_kernel(jnp.ones((3, 3, 8, 4))).shape
        (3, 3, 4, 8)
    """
    return equivalents.transposed(kernel, feature_group_count)


@public
def forward_padding(padding: Any, reach: Sequence[Any], strides: Sequence[int]) -> tuple[Pair, ...]:
    """The padding of `convjax.conv_transpose` for that of ``flax.nnx.ConvTranspose``.

    Args:
        padding: Flax's: "SAME", "VALID", "CIRCULAR" (before it is wound up), "CAUSAL", or numbers.
        reach: the kernel's extents, dilation included (k̂).
        strides: one per spatial axis.

    Example:
        >>> from convjax.interop import flax
        >>> flax.forward_padding("SAME", reach=(3, 3), strides=(2, 2))
        ((0, 1), (0, 1))
        >>> flax.forward_padding(1, reach=(3, 3), strides=(2, 2))
        ((1, 1), (1, 1))
    """
    function = "conv_transpose"
    if not isinstance(padding, str):
        pairs = _pairs(function, padding, len(reach))
        return tuple((k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(reach, pairs, strict=True))
    mend = ""
    if padding in ("REFLECT", "SAME_LOWER"):
        mend = 'See `padding_mode` and `convention="adjoint"`.'
    if padding not in TRANSPOSED_WORDS:
        words = ", ".join(f'"{word}"' for word in TRANSPOSED_WORDS)
        _checks.fail(function, "padding", padding, f"must be one of {words}, or numbers", mend)
    return tuple(
        _word_pair(padding, axis, k, s)
        for axis, (k, s) in enumerate(zip(reach, strides, strict=True))
    )


def _word_pair(word: str, axis: int, k: Any, s: int) -> Pair:
    """What a word of Flax's transposed convolution crops from (n - 1)*s + k elements."""
    surplus = k - s  # over n * s
    if word in ("VALID", "CIRCULAR"):
        return 0, min(surplus, 0)
    if word == "CAUSAL" and axis == 0:
        return 0, surplus
    if s > k - 1:  # SAME, as lax pads it
        return 0, surplus
    return surplus // 2, surplus - surplus // 2


def _wound(y: jax.Array, axis: int, period: Any, *, round_up: bool) -> jax.Array:
    """`y` wound up to `period` along `axis`; half of what exceeds it lies before the start."""
    n = y.shape[axis]
    surplus = n - period
    before = (surplus + round_up) // 2
    turns = -(-before // period)
    pad = [(0, 0)] * y.ndim
    low = turns * period - before
    pad[axis] = (low, -(low + n) % period)
    y = jnp.pad(y, pad)
    return y.reshape(*y.shape[:axis], -1, period, *y.shape[axis + 1 :]).sum(axis)


def _boundary(
    function: str, x: Any, reach: Any, padding: Any, padding_mode: Any, steps: tuple[int, ...]
) -> tuple[Any, Any, Any]:
    """x, padding and padding_mode for `convjax.conv`, from Flax's."""
    if not isinstance(padding, str):
        return x, _pairs(function, padding, len(reach)), padding_mode
    word = padding.upper()  # as lax reads it
    if word == "CAUSAL" and len(reach) == 1:  # Flax counts before input dilation
        return x, (((reach[0] - 1) * steps[0], 0),), padding_mode
    if word not in BOUNDARIES:
        return x, word, padding_mode
    if padding_mode != "constant":
        _fail_two_words(function, padding, padding_mode)
    mode = BOUNDARIES[word]
    pairs = tuple(((k - 1) // 2, k // 2) for k in reach)
    space = x.shape[1:-1]
    short = any(
        certainly(operator.gt, hi, n - (mode == "reflect"))
        for (_, hi), n in zip(pairs, space, strict=True)
    )
    if not short and prod(steps) == 1:
        return x, pairs, mode
    x = jnp.pad(x, [(0, 0), *pairs, (0, 0)], mode=mode)  # as often as it takes
    return x, ((0, 0),) * len(reach), "constant"


def _extended(
    function: str,
    x: Any,
    kernel: Any,
    padding: Any,
    padding_mode: Any,
    strides: Any,
    steps: Any,
    dilation: Any,
) -> tuple[Any, Any]:
    """x after its boundary modes, and the padding left for a function like lax's."""
    rank = len(strides)
    modes = paddings.modes(function, padding_mode, rank)
    if isinstance(padding, str) and padding in ("SAME", "SAME_LOWER", "VALID"):
        if set(modes) == {"constant"}:
            return x, padding
    pairs = paddings.resolve(
        function,
        padding,
        space=x.shape[1:-1],
        window=kernel.shape[:-2],
        strides=strides,
        input_dilation=steps,
        kernel_dilation=dilation,
    )
    extension, rest = paddings.split_extension(function, pairs, modes, x.shape[1:-1])
    return extend(x, extension, modes, range(1, rank + 1)), list(rest)


def _fail_two_words(function: str, padding: str, padding_mode: Any) -> None:
    _checks.fail(
        function,
        "padding_mode",
        padding_mode,
        f"must be 'constant' under padding {padding!r}, which says what lies beyond the edge",
    )


def _steps(function: str, name: str, value: Any, rank: int) -> tuple[int, ...]:
    return _checks.ints(function, name, 1 if value is None else value, rank, minimum=1)


def _pairs(function: str, padding: Any, rank: int) -> tuple[Pair, ...]:
    """Padding in numbers, as Flax spells it: integers and pairs may be mixed."""
    if isinstance(padding, Sequence):
        padding = [(p, p) if _checks.is_int(p) else p for p in padding]
    return paddings.pairs(function, padding, rank)
