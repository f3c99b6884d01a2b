"""Flax's conventions for convolutions as functions: its padding, its transposed convolution.

`conv` and `conv_transpose` compute what ``flax.nnx.Conv`` and ``flax.nnx.ConvTranspose`` do with
their kernels, on channels-last arrays with one batch axis. Flax itself is not needed.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax import _functional, equivalents
from convjax._core import checks
from convjax._core import padding as paddings
from convjax._core.aliases import (
    Algorithm,
    ArrayLike,
    FlaxPadding,
    Ints,
    PaddingMode,
    Precision,
    ResultType,
    Sharding,
)
from convjax._core.geometry import Pair, dilated
from convjax._core.options import takes
from convjax._core.public import public_with
from convjax._core.symbolic import certainly
from convjax._core.transposed_sizes import check_causal_mode
from convjax._functional.prepare import Names, conv_recipe, spatial_steps
from convjax._operation.boundary_modes import extend
from convjax.lax import conv_general_dilated as _ours


class FlaxOptions(TypedDict, total=False):
    """The options of both functions, where None for strides or dilations means 1."""

    strides: Ints | None
    padding: FlaxPadding
    padding_mode: PaddingMode
    kernel_dilation: Ints | None
    feature_group_count: int
    precision: Precision
    preferred_element_type: ResultType
    out_sharding: Sharding
    algorithm: Algorithm


class ConvOptions(FlaxOptions, total=False):
    """The options of `conv`."""

    input_dilation: Ints | None


class TransposeOptions(FlaxOptions, total=False):
    """The options of `conv_transpose`."""

    output_padding: Ints


BOUNDARIES = {"CIRCULAR": "wrap", "REFLECT": "reflect"}
TRANSPOSED_WORDS = ("SAME", "VALID", "CIRCULAR", "CAUSAL")
CONVENTIONS = ("flax", "adjoint")


public = public_with(
    x=checks.numbers,
    kernel=checks.kernel,
    feature_group_count=checks.positive,
    reach=checks.sequence,
)


@public
@takes(ConvOptions)
def conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    conv_general_dilated: Callable[..., jax.Array] | None = _ours,
    **options: Unpack[ConvOptions],
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
        >>> from convjax._modules import conventions as flax
        >>> flax.conv(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4)), padding="CIRCULAR").shape
        (1, 8, 8, 4)

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html
    """
    function, rank = "conv", kernel.ndim - 2
    given: dict[str, Any] = {**options, **_steps_of(function, options, rank)}
    steps, dilation = given["input_dilation"], given["kernel_dilation"]
    reach = [dilated(k, d) for k, d in zip(kernel.shape, dilation, strict=False)]
    padding, mode = options.get("padding", "SAME"), options.get("padding_mode", "constant")
    x, padding, mode = _boundary(function, x, reach, padding, mode, steps)
    given |= {"padding": padding, "padding_mode": mode}
    if conv_general_dilated is None or conv_general_dilated is _ours:
        return _functional.conv(x, kernel, **given)
    if given.get("algorithm") is not None:
        checks.fail(
            function,
            "algorithm",
            given["algorithm"],
            "speaks of this library's own convolution, and `conv_general_dilated` is another",
            "Drop one of them.",
        )
    x, padding = _extended(function, x, kernel, given)
    # functions written for older versions of Flax take neither of these two
    newer = {name: given.get(name) for name in ("out_sharding", "preferred_element_type")}
    axes = range(1, rank + 1)
    numbers = lax.ConvDimensionNumbers(
        (0, rank + 1, *axes), (rank + 1, rank, *range(rank)), (0, rank + 1, *axes)
    )
    return conv_general_dilated(
        x,
        kernel,
        given["strides"],
        padding,
        lhs_dilation=steps,
        rhs_dilation=dilation,
        dimension_numbers=numbers,
        feature_group_count=given.get("feature_group_count", 1),
        precision=given.get("precision"),
        **{name: value for name, value in newer.items() if value is not None},
    )


@public
@takes(TransposeOptions)
def conv_transpose(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    transpose_kernel: bool = False,
    **options: Unpack[TransposeOptions],
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
        >>> from convjax._modules import conventions as flax
        >>> x, kernel = jnp.ones((1, 5, 5, 8)), jnp.ones((3, 3, 8, 4))
        >>> flax.conv_transpose(x, kernel, strides=2).shape
        (1, 10, 10, 4)

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html
    """
    function, rank = "conv_transpose", kernel.ndim - 2
    given: dict[str, Any] = {**options, **_steps_of(function, options, rank)}
    del given["input_dilation"]
    strides, dilation = given["strides"], given["kernel_dilation"]
    padding, mode = options.get("padding", "SAME"), options.get("padding_mode", "constant")
    reach = [dilated(k, d) for k, d in zip(kernel.shape, dilation, strict=False)]
    output_padding = options.get("output_padding", 0)
    extra = checks.ints(function, "output_padding", output_padding, rank, minimum=0)
    if any(extra) and isinstance(padding, str) and padding != "VALID":
        checks.fail(
            function,
            "output_padding",
            output_padding,
            f"must be 0 under padding {padding!r}, whose extents are n * strides",
            'Give the padding in numbers, or "VALID".',
        )
    check_causal_mode(function, padding, paddings.modes(function, mode, rank))
    circular = padding == "CIRCULAR"
    if circular and mode != "constant":
        _fail_two_words(function, "CIRCULAR", mode)
    if not transpose_kernel:
        kernel = forward_kernel(kernel, options.get("feature_group_count", 1))
    given |= {"padding": forward_padding(padding, reach, strides), "output_padding": extra}
    y = _functional.conv_transpose(x, kernel, **given)
    if circular:
        for axis, (n, s) in enumerate(zip(x.shape[1:-1], strides, strict=True), start=1):
            y = _wound(y, axis, n * s, round_up=transpose_kernel)
    return y


@public
def forward_kernel(kernel: ArrayLike, feature_group_count: int = 1) -> jax.Array:
    """The kernel (*K, O/G, I) of `convjax.conv_transpose` for Flax's (*K, I/G, O).

    Flax's ``transpose_kernel=True`` stores the forward kernel, and needs no conversion. This is its
    own inverse.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax._modules import conventions as flax
        >>> flax.forward_kernel(jnp.ones((3, 3, 8, 4))).shape
        (3, 3, 4, 8)
    """
    return equivalents.transposed(kernel, feature_group_count)


@public
def forward_padding(
    padding: FlaxPadding, reach: Sequence[int], strides: Sequence[int]
) -> tuple[Pair, ...]:
    """The padding of `convjax.conv_transpose` for that of ``flax.nnx.ConvTranspose``.

    Args:
        padding: Flax's: "SAME", "VALID", "CIRCULAR" (before it is wound up), "CAUSAL", or numbers.
        reach: the kernel's extents, dilation included (k̂).
        strides: one per spatial axis.

    Example:
        >>> from convjax._modules import conventions as flax
        >>> flax.forward_padding("SAME", reach=(3, 3), strides=(2, 2))
        ((0, 1), (0, 1))
        >>> flax.forward_padding(1, reach=(3, 3), strides=(2, 2))
        ((1, 1), (1, 1))
    """
    function = "conv_transpose"
    if not isinstance(padding, str):
        pairs = _pairs(function, padding, len(reach))
        return tuple((k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(reach, pairs, strict=True))
    hint = ""
    if padding in ("REFLECT", "SAME_LOWER"):
        hint = 'See `padding_mode` and `convention="adjoint"`.'
    if padding not in TRANSPOSED_WORDS:
        words = ", ".join(f'"{word}"' for word in TRANSPOSED_WORDS)
        checks.fail(function, "padding", padding, f"must be one of {words}, or numbers", hint)
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


def _extended(function: str, x: Any, kernel: Any, given: dict[str, Any]) -> tuple[Any, Any]:
    """x after its boundary modes, and the padding left for a function like lax's."""
    padding, modes = given["padding"], set(np.atleast_1d(given["padding_mode"]))
    if isinstance(padding, str) and padding in ("SAME", "SAME_LOWER", "VALID"):
        if modes == {"constant"}:
            return x, padding
    recipe = conv_recipe(Names(function), x, kernel, given)
    if recipe.extension:
        x = extend(jnp.asarray(x), recipe.extension, recipe.modes, recipe.layout.x.space)
    return x, list(recipe.geometry.padding)


def _fail_two_words(function: str, padding: str, padding_mode: Any) -> None:
    checks.fail(
        function,
        "padding_mode",
        padding_mode,
        f"must be 'constant' under padding {padding!r}, which says what lies beyond the edge",
    )


def _steps_of(function: str, options: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """Strides and dilations, one entry per spatial axis; Flax's None is 1."""
    names = ("strides", "input_dilation", "kernel_dilation")
    given = {name: 1 if options.get(name) is None else options[name] for name in names}
    return dict(zip(names, spatial_steps(function, given, rank), strict=True))


def _pairs(function: str, padding: Any, rank: int) -> tuple[Pair, ...]:
    """Padding in numbers, as Flax spells it: integers and pairs may be mixed."""
    if isinstance(padding, Sequence):
        padding = [(p, p) if checks.is_int(p) else p for p in padding]
    return paddings.pairs(function, padding, rank)
