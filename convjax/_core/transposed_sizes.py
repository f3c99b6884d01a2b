"""Extents of transposed convolutions, and the padding of the convolution that shrinks them back."""

import operator
from typing import Any

from convjax._core import checks
from convjax._core import padding as paddings
from convjax._core.geometry import Pair, dilated
from convjax._core.symbolic import certainly

Extents = tuple[Any, ...]


def transposed_extents(
    function: str,
    padding: Any,
    *,
    space: Extents,
    window: Extents,
    strides: tuple[int, ...],
    kernel_dilation: tuple[int, ...],
    output_padding: Any = 0,
    output_shape: Any = None,
) -> tuple[Extents, tuple[Pair, ...]]:
    """Extents of the result for an input of extents `space`, and what is cropped from each side.

    The pairs are the padding of the forward convolution, which maps the result's extents to
    `space`. They crop what that convolution pads, except under "CAUSAL": a transposed convolution
    that is causal keeps the start of what its inputs paint, and crops the end.
    """
    rank = len(space)
    extra = checks.ints(function, "output_padding", output_padding, rank, minimum=0)
    out = None
    if output_shape is not None:
        if any(extra):
            checks.fail(
                function,
                "output_padding",
                output_padding,
                "must be 0 where `output_shape` is given: each fixes the extents",
            )
        out = checks.ints(function, "output_shape", output_shape, rank, minimum=0)
    multiples = _multiples(function, padding)
    if out is None and multiples and any(extra):
        checks.fail(
            function,
            "output_padding",
            output_padding,
            f"must be 0 under padding {padding!r}, whose extents are n * strides",
            "Give `output_shape`, or the padding in numbers.",
        )
    k_hat = tuple(dilated(k, d) for k, d in zip(window, kernel_dilation, strict=True))

    def resolve(extents: Any) -> tuple[Pair, ...]:
        pairs = paddings.resolve(
            function,
            padding,
            space=extents,
            window=window,
            strides=strides,
            input_dilation=(1,) * rank,
            kernel_dilation=kernel_dilation,
        )
        if isinstance(padding, str) and padding == "CAUSAL":
            painted = (space[0] - 1) * strides[0] + k_hat[0]
            pairs = ((0, painted - extents[0]), *pairs[1:])
        return pairs

    if out is None:
        # SAME pads so that the forward output is ceil(u / s): u = n*s. Otherwise relation 14.
        multiple = tuple(n * s for n, s in zip(space, strides, strict=True))
        pairs = resolve(multiple)
        _check_output_padding(function, extra, strides, pairs)
        if multiples:
            return multiple, pairs
        out = tuple(
            (n - 1) * s + k - lo - hi + a
            for n, s, k, (lo, hi), a in zip(space, strides, k_hat, pairs, extra, strict=True)
        )
        if any(certainly(operator.lt, u, 0) for u in out) and 0 in space:
            out = tuple(max(u, 0) for u in out)
        elif any(certainly(operator.le, u, 0) for u in out) and 0 not in space:
            checks.fail(
                function,
                "padding",
                padding,
                f"crops everything: the result would have extents {out}",
                "Crop less, or give a larger kernel.",
            )
        return out, pairs

    pairs = resolve(out)
    for axis, (n, s, u) in enumerate(zip(space, strides, out, strict=True)):
        shortest = 1 if multiples else k_hat[axis] - sum(pairs[axis])
        if (u - shortest) // s + 1 != n:
            least = (n - 1) * s + shortest
            checks.fail(
                function,
                "output_shape",
                output_shape,
                f"must be an extent that `conv` would map to {n} on spatial axis {axis}: "
                f"{least} to {least + s - 1}",
            )
    return out, pairs


def check_causal_mode(function: str, padding: Any, modes: tuple[str, ...]) -> None:
    """Refuse boundary modes that would fold what is painted beyond the end back onto the past."""
    if isinstance(padding, str) and padding == "CAUSAL" and modes[0] != "constant":
        checks.fail(
            function,
            "padding_mode",
            modes[0],
            "must be 'constant' on the first spatial axis under padding 'CAUSAL': the others add "
            "what lies beyond the end to earlier outputs",
            "Give the padding in (low, high) pairs for the adjoint of a causal convolution.",
        )


def _multiples(function: str, padding: Any) -> bool:
    """Whether `padding` is a word under which the extents are n * strides."""
    if not isinstance(padding, str):
        return False
    word = checks.choice(function, "padding", padding, paddings.POLICIES)
    return word in ("SAME", "SAME_LOWER", "CAUSAL")


def _check_output_padding(
    function: str, extra: tuple[int, ...], strides: tuple[int, ...], pairs: tuple[Pair, ...]
) -> None:
    for axis, (a, s, (lo, hi)) in enumerate(zip(extra, strides, pairs, strict=True)):
        if a >= s and a > 0:
            checks.fail(
                function,
                "output_padding",
                a,
                f"must be less than `strides` (={s}) on spatial axis {axis}: `conv` loses no more",
                f"For a longer result crop less: a padding pair of ({lo}, {hi - a}) on that axis.",
            )
