"""Padding: policies, spellings and boundary modes become (low, high) pairs."""

import operator
from collections.abc import Sequence
from typing import Any

from convjax._core import checks
from convjax._core.geometry import Pair, dilated
from convjax._core.symbolic import certainly, max_dim

POLICIES = ("SAME", "SAME_LOWER", "VALID", "FULL", "CAUSAL")
MODES = ("constant", "reflect", "symmetric", "edge", "wrap")  # numpy's words


def same(size: Any, k_hat: Any, stride: int, *, lower: bool = False) -> Pair:
    """The pair that makes the output ``ceil(size / stride)``; the odd one goes high, or low."""
    total = max_dim(0, (-(-size // stride) - 1) * stride + k_hat - size)
    half = total // 2
    return (total - half, half) if lower else (half, total - half)


def policy_pair(policy: str, axis: int, size: Any, k_hat: Any, stride: int) -> Pair:
    """What the word `policy` means on spatial axis `axis`, of this size, kernel and stride."""
    if policy == "VALID":
        return 0, 0
    if policy == "FULL":
        return k_hat - 1, k_hat - 1
    if policy == "CAUSAL" and axis == 0:
        return k_hat - 1, 0
    return same(size, k_hat, stride, lower=policy == "SAME_LOWER")


def resolve(
    function: str,
    padding: Any,
    *,
    space: Sequence[Any],
    window: Sequence[Any],
    strides: Sequence[int],
    input_dilation: Sequence[int],
    kernel_dilation: Sequence[int],
) -> tuple[Pair, ...]:
    """`padding` as one (low, high) pair per spatial axis; negative ones crop.

    Args:
        function: the public function's name, for errors.
        padding: a policy's name, an int, one int per axis (both sides), or nested pairs.
        space: extents of the input; a policy speaks of the input after `input_dilation`.
        window: extents of the kernel.
    """
    if isinstance(padding, str):
        policy = checks.choice(function, "padding", padding, POLICIES)
        return tuple(
            policy_pair(
                policy,
                axis,
                dilated(n, input_dilation[axis]),
                dilated(k, kernel_dilation[axis]),
                strides[axis],
            )
            for axis, (n, k) in enumerate(zip(space, window, strict=True))
        )
    return pairs(function, padding, len(strides))


def pairs(function: str, padding: Any, rank: int) -> tuple[Pair, ...]:
    """`padding` spelled in numbers (see `resolve`) as one pair per axis."""
    if checks.is_int(padding):
        return ((int(padding), int(padding)),) * rank
    forms = f"must be a policy name, an integer, {rank} integers, or {rank} (low, high) pairs"
    try:
        entries = [int(entry) if checks.is_int(entry) else tuple(entry) for entry in tuple(padding)]
    except TypeError:
        checks.fail_type(function, "padding", padding, forms)
    result = []
    for entry in entries:
        pair = (entry, entry) if isinstance(entry, int) else entry
        if len(pair) != 2 or not all(checks.is_int(side) for side in pair):
            checks.fail(function, "padding", padding, forms)
        result.append((int(pair[0]), int(pair[1])))
    if len({isinstance(entry, int) for entry in entries}) > 1:
        checks.fail(function, "padding", padding, forms, "Do not mix integers and pairs.")
    if len(result) != rank:
        hint = ""
        if rank == 1 and len(result) == 2:
            hint = f"For low and high padding of the one axis write `padding=({tuple(entries)},)`."
        checks.fail(function, "padding", padding, forms, hint)
    return tuple(result)


def modes(function: str, padding_mode: Any, rank: int) -> tuple[str, ...]:
    """`padding_mode`, one of numpy's words or one per axis, as one per axis."""
    if isinstance(padding_mode, str):
        padding_mode = (padding_mode,) * rank
    if not isinstance(padding_mode, (tuple, list)):
        checks.fail_type(
            function, "padding_mode", padding_mode, "must be a word, or one word per spatial axis"
        )
    if len(padding_mode) != rank:
        checks.fail(
            function, "padding_mode", padding_mode, f"must have one word per spatial axis ({rank})"
        )
    return tuple(checks.choice(function, "padding_mode", m, MODES) for m in padding_mode)


def split_extension(
    function: str, pairs: Sequence[Pair], modes: Sequence[str], space: Sequence[Any]
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Divide `pairs` into what ``extension.extend`` adds and what is left to the operation.

    Zeros (mode "constant") and crops are left to the operation; extension comes before cropping.
    Sides that a mode cannot fill raise: reflect has n-1 elements to give, symmetric and wrap n.
    """
    extension, rest = [], []
    for axis, ((lo, hi), mode, n) in enumerate(zip(pairs, modes, space, strict=True)):
        if mode == "constant":
            extension.append((0, 0))
            rest.append((lo, hi))
            continue
        limit = {"reflect": n - 1, "symmetric": n, "wrap": n}.get(mode)
        for side in (lo, hi):
            if certainly(operator.eq, n, 0) and side > 0:
                checks.fail(
                    function, "padding_mode", mode, f"cannot extend the empty spatial axis {axis}"
                )
            if limit is not None and certainly(operator.gt, side, limit):
                checks.fail(
                    function,
                    "padding",
                    (lo, hi),
                    f"is longer than padding_mode {mode!r} can fill on spatial axis {axis} "
                    f"of extent {n} (at most {limit})",
                    'Use padding_mode "edge" or "constant", or less padding.',
                )
        positive = max_dim(lo, 0), max_dim(hi, 0)
        extension.append(positive)
        rest.append((lo - positive[0], hi - positive[1]))
    return tuple(extension), tuple(rest)
