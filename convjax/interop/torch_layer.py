"""A convolution layer as PyTorch writes it."""

from typing import Any

from convjax._core import checks

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_MODULES = ("ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad")
PADS = dict(zip(MODES, _MODULES, strict=True))  # PyTorch's modules that pad before a layer


def in_pairs(padding: Any) -> bool:
    """Whether `padding` is a sequence that holds sequences."""
    if isinstance(padding, str) or not hasattr(padding, "__len__"):
        return False
    return any(hasattr(entry, "__len__") for entry in padding)


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
