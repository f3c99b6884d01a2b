"""A convolution layer of PyTorch: the arguments that it takes, and how PyTorch writes it."""

from typing import Any

from convjax._core import checks
from convjax._core.geometry import Pair

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_MODULES = ("ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad")
PADS = dict(zip(MODES, _MODULES, strict=True))  # PyTorch's modules that pad before a layer


def in_pairs(padding: Any) -> bool:
    """Whether `padding` is a sequence that holds sequences."""
    if isinstance(padding, str) or not hasattr(padding, "__len__"):
        return False
    return any(hasattr(entry, "__len__") for entry in padding)


# ---- what it takes -----------------------------------------------------------------------------


def pairs_of(
    function: str,
    padding: Any,
    rank: int,
    reach: tuple[int, ...],
    strides: tuple[int, ...],
    transposed: bool,
) -> tuple[Pair, ...]:
    """PyTorch's `padding` as pairs: "same" puts the odd one high."""
    if in_pairs(padding):
        pairs = _checked_pairs(function, padding, rank)
        if transposed and min(map(min, pairs)) < 0:
            rule = "must not be negative for a transposed layer, off whose result it is cut"
            checks.fail(function, "padding", padding, rule, "See `output_padding`.")
        return pairs
    if not isinstance(padding, str):
        numbers = checks.ints(function, "padding", padding, rank, minimum=0)
        return tuple((p, p) for p in numbers)
    checks.choice(function, "padding", padding, ("same", "valid"))
    if transposed:
        rule = "must be numbers for a transposed layer: PyTorch has no words there"
        checks.fail(function, "padding", padding, rule)
    if padding == "valid":
        return ((0, 0),) * rank
    if any(s > 1 for s in strides):
        rule = 'must not be "same" with a stride above 1: PyTorch refuses it'
        checks.fail(function, "padding", padding, rule)
    return tuple(((k - 1) // 2, k // 2) for k in reach)


def _checked_pairs(function: str, padding: Any, rank: int) -> tuple[Pair, ...]:
    pairs = [tuple(entry) if hasattr(entry, "__len__") else () for entry in padding]
    if len(pairs) != rank or any(
        len(pair) != 2 or not all(map(checks.is_int, pair)) for pair in pairs
    ):
        rule = f'must be an integer, {rank} integers, "same", "valid", or {rank} (low, high) pairs'
        hint = "Pairs are in the order of the axes; those of `F.pad` begin with the last axis."
        checks.fail(function, "padding", padding, rule, hint)
    return tuple((int(pair[0]), int(pair[1])) for pair in pairs)


def check_transposed(
    function: str,
    transposed: bool,
    padding_mode: str,
    extra: tuple[int, ...],
    strides: tuple[int, ...],
    steps: tuple[int, ...],
) -> None:
    """Refuse what PyTorch refuses of a transposed layer, and of a layer that is not."""
    if not transposed:
        if any(extra):
            rule = "must be 0 where the layer is not transposed"
            checks.fail(function, "output_padding", extra, rule)
        return
    if padding_mode != "zeros":
        rule = 'must be "zeros" for a transposed layer: PyTorch has no other there'
        checks.fail(function, "padding_mode", padding_mode, rule)
    if any(a >= max(s, d) for a, s, d in zip(extra, strides, steps, strict=True)):
        rule = f"must be less than the stride {strides} or the dilation {steps}"
        checks.fail(function, "output_padding", extra, rule)


def check_size(
    function: str,
    sizes: tuple[int, ...],
    reach: tuple[int, ...],
    strides: tuple[int, ...],
    pairs: tuple[Pair, ...],
    extra: tuple[int, ...],
    transposed: bool,
    padding_mode: str,
) -> None:
    """Refuse an input that PyTorch refuses, or makes nothing of."""
    for n, k, s, (lo, hi), a in zip(sizes, reach, strides, pairs, extra, strict=True):
        if transposed:
            if (n - 1) * s + k - lo - hi + a < 1:
                checks.fail(function, "input_size", sizes, "gives an empty output in PyTorch")
            continue
        if n + lo + hi < k:
            rule = f"must, padded, hold the kernel, which reaches over {k}"
            checks.fail(function, "input_size", sizes, rule)
        limit = {"reflect": n - 1, "circular": n}.get(padding_mode, max(lo, hi))
        if max(lo, hi) > limit:
            rule = f"is too small for {(lo, hi)} of padding_mode {padding_mode!r}"
            checks.fail(function, "input_size", sizes, rule)


# ---- how it is written --------------------------------------------------------------------------


def written(
    window: tuple[int, ...],
    strides: tuple[int, ...],
    padding: Any,
    extra: tuple[int, ...],
    steps: tuple[int, ...],
    groups: int,
    padding_mode: str,
    transposed: bool,
) -> str:
    """The layer as PyTorch writes it; pairs are a padding before it, or a cut after it."""
    rank, before, after = len(window), "", ""
    if in_pairs(padding):
        flat = tuple(side for pair in reversed(padding) for side in pair)
        if all(lo == hi >= 0 for lo, hi in padding):
            padding = tuple(lo for lo, _ in padding)
        elif transposed:
            padding, after = 0, f", cropped by {tuple(map(tuple, padding))}"
        else:
            padding, before = 0, f"{PADS[padding_mode]}{rank}d({flat}), "
            padding_mode = "zeros"
    padding = padding if isinstance(padding, str) else checks.ints("", "padding", padding, rank)
    shown = {"kernel_size": window, "stride": strides, "padding": padding}
    others = {
        "output_padding": (extra, (0,) * rank),
        "dilation": (steps, (1,) * rank),
        "groups": (groups, 1),
        "padding_mode": (padding_mode, "zeros"),
    }
    shown |= {name: value for name, (value, default) in others.items() if value != default}
    return f"{before}Conv{'Transpose' if transposed else ''}{rank}d({arguments_of(shown)}){after}"


def arguments_of(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
