"""The port checker: which call equals a PyTorch convolution, and which only has its output shape.

PyTorch pads by numbers, the same at both ends. "SAME" pads by what the size and the stride leave
over. Where both give one output shape, they may still read the input at different offsets: nothing
fails, and all numbers differ. A policy agrees, or not, by the remainder of the input's extent
modulo the stride, so a finite table answers for every size.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

from convjax._core import checks
from convjax._core.aliases import Ints
from convjax._core.geometry import Pair, dilated
from convjax._core.public import public_with
from convjax.interop.agreement import (
    POLICIES,
    Agreement,
    everywhere,
    is_trap,
    of_conv,
    of_transposed,
    where,
)
from convjax.interop.flax_layer import flaxs_arguments
from convjax.interop.layers import is_convolution
from convjax.interop.torch_layer import MODES, arguments_of, in_pairs, written

EQUAL, TRAP, OTHER_SHAPE = "equal", "trap", "other shape"


@dataclasses.dataclass(frozen=True)
class Port:
    """What reproduces a PyTorch layer; printed, it is a report.

    Attributes:
        layer: the layer, as PyTorch writes it.
        function: "conv" or "conv_transpose".
        options: its keyword arguments; with them it equals the layer for every input size.
        flax: the arguments of Flax's `Conv` or `ConvTranspose` that equal the layer, or None.
        flax_note: what to do if Flax has no such arguments, else "".
        agreements: per padding policy, where it agrees, one `Agreement` per spatial axis.
        input_size: the extents asked about, or None for all.
        weight: the expression that makes the kernel from ``weight``.
        before: what is done to the layer's input that this does not look at, else "".
    """

    layer: str
    function: str
    options: dict[str, Any]
    flax: dict[str, Any] | None
    flax_note: str
    agreements: dict[str, tuple[Agreement, ...]]
    input_size: tuple[int, ...] | None
    weight: str
    before: str = ""

    def verdict(self, policy: str, input_size: Any) -> str:
        """Whether ``padding=policy`` is "equal" to the layer at this size, of an "other shape", or
        a "trap": the same shape, other numbers."""
        axes = self.agreements[checks.choice("verdict", "policy", policy, POLICIES)]
        sizes = checks.ints("verdict", "input_size", input_size, len(axes), minimum=1)
        remainders = [n % axis.modulus for n, axis in zip(sizes, axes, strict=True)]
        if all(r in axis.equal for r, axis in zip(remainders, axes, strict=True)):
            return EQUAL
        if all(r in axis.shape for r, axis in zip(remainders, axes, strict=True)):
            return TRAP
        return OTHER_SHAPE

    @property
    def equal(self) -> tuple[str, ...]:
        """The policies that equal the layer: at the size asked about, or at every size."""
        if self.input_size is not None:
            return tuple(p for p in POLICIES if self.verdict(p, self.input_size) == EQUAL)
        return tuple(p for p in POLICIES if everywhere(self.agreements[p], "equal"))

    @property
    def traps(self) -> tuple[str, ...]:
        """The policies with the layer's output shape and other numbers: at the size asked about,
        or at some size."""
        if self.input_size is not None:
            return tuple(p for p in POLICIES if self.verdict(p, self.input_size) == TRAP)
        return tuple(p for p in POLICIES if is_trap(self.agreements[p]))

    def __str__(self) -> str:
        operand = "y" if self.function == "conv_transpose" else "x"
        lines = [
            self.layer,
            *([f"  before   {self.before}"] if self.before else []),
            f"  kernel   {self.weight}",
            f"  convjax  {self.function}({operand}, kernel, {arguments_of(self.options)})",
        ]
        if self.flax is None:
            lines.append(f"  flax     {self.flax_note}")
        else:
            name = "ConvTranspose" if self.function == "conv_transpose" else "Conv"
            lines.append(f"  flax     {name}(..., {arguments_of(self.flax)})")
        for policy in POLICIES:
            lines.append(f"  padding={policy!r}: {self._sentence(policy)}")
        return "\n".join(lines)

    def _sentence(self, policy: str) -> str:
        axes = self.agreements[policy]
        if self.input_size is not None:
            shown = " x ".join(map(str, self.input_size))
            return {
                EQUAL: f"equal at {shown}",
                TRAP: f"NOT equal at {shown}, though the output has the same shape",
                OTHER_SHAPE: f"another output shape at {shown}",
            }[self.verdict(policy, self.input_size)]
        if not all(axis.shape for axis in axes):
            return "another output shape"
        if everywhere(axes, "equal"):
            return "equal, for every input size"
        shape = "" if everywhere(axes, "shape") else f" {where(axes, 'shape')}"
        if not all(axis.equal for axis in axes):
            return f"NOT equal, though the output has the same shape{shape}"
        text = f"equal {where(axes, 'equal')}"
        if is_trap(axes):
            text += f"; NOT equal otherwise, though the output has the same shape{shape}"
        return text


@public_with(transposed=checks.flag)
def check_port(
    kernel_size: Ints,
    *,
    rank: int | None = None,
    stride: Ints = 1,
    padding: Ints | Sequence[Sequence[int]] | Literal["same", "valid"] = 0,
    dilation: Ints = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    transposed: bool = False,
    output_padding: Ints = 0,
    input_size: Ints | None = None,
) -> Port:
    """The call that equals a PyTorch layer, and the padding policies that do, at which sizes.

    Args:
        kernel_size: one int per spatial axis, or an int with `rank`.
        rank: the number of spatial axes; needed where `kernel_size` is an int.
        stride, padding, dilation, groups, padding_mode: PyTorch's arguments of the layer; `padding`
            is an int, one per axis, "same" or "valid"; or (low, high) pairs in the order of the
            axes: what ``F.pad`` (which begins with the last axis) or a ``ZeroPad2d`` adds before
            the layer, by `padding_mode`; of a transposed layer, what is cut off its result.
        transposed: whether it is a ``ConvTranspose``.
        output_padding: PyTorch's, for a transposed layer.
        input_size: extents of the layer's input (one int for all axes), or None for every size.

    Returns:
        A `Port`: `options` for ``convjax.conv`` or ``convjax.conv_transpose``, exact at every size;
        the arguments for Flax's layer, where it can; which policies are `equal` and which are
        `traps`. Print it to read it.

    Raises:
        ValueError: arguments that PyTorch refuses; an int `kernel_size` without `rank`.
        TypeError: not integers.

    Example:
        >>> from convjax import interop
        >>> print(interop.check_port((3, 3), stride=2, padding=1))
        Conv2d(kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
          kernel   weight.transpose(2, 3, 1, 0)
          convjax  conv(x, kernel, strides=(2, 2), padding=((1, 1), (1, 1)))
          flax     Conv(..., kernel_size=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
          padding='SAME': equal where every extent is odd; NOT equal otherwise, though the output
            has the same shape
          padding='SAME_LOWER': equal, for every input size
          padding='VALID': another output shape
          padding='FULL': another output shape
        >>> port = interop.check_port((3, 3), stride=2, padding=1, input_size=224)
        >>> port.equal, port.traps
        (('SAME_LOWER',), ('SAME',))
        >>> down = interop.check_port((3, 3), stride=2, padding=((0, 1), (0, 1)), input_size=64)
        >>> print(down.layer, down.equal)  # F.pad(x, (0, 1, 0, 1)), as in diffusion models
        ZeroPad2d((0, 1, 0, 1)), Conv2d(kernel_size=(3, 3), stride=(2, 2), padding=(0, 0)) ('SAME',)
        >>> up = interop.check_port(
        ...     (3, 3), stride=2, padding=1, output_padding=1, transposed=True)
        >>> up.flax["padding"], up.equal, up.traps
        (((1, 2), (1, 2)), ('SAME_LOWER',), ('SAME',))

    Source: PyTorch's documentation of ``Conv2d`` and ``ConvTranspose2d``,
        https://docs.pytorch.org/docs/stable/nn.html
    """
    function = "check_port"
    if rank is None:
        if checks.is_int(kernel_size) or not hasattr(kernel_size, "__len__"):
            rule = "must have one entry per spatial axis where `rank` is not given"
            hint = f"Write ({kernel_size}, {kernel_size}) or give `rank=2` for a Conv2d."
            checks.fail(function, "kernel_size", kernel_size, rule, hint)
        rank = len(kernel_size)
    rank = checks.integer(function, "rank", rank, minimum=1)
    window = checks.ints(function, "kernel_size", kernel_size, rank, minimum=1)
    strides = checks.ints(function, "stride", stride, rank, minimum=1)
    steps = checks.ints(function, "dilation", dilation, rank, minimum=1)
    extra = checks.ints(function, "output_padding", output_padding, rank, minimum=0)
    groups = checks.integer(function, "groups", groups, minimum=1)
    mode = MODES[checks.choice(function, "padding_mode", padding_mode, tuple(MODES))]
    reach = tuple(dilated(k, d) for k, d in zip(window, steps, strict=True))
    pairs = _pairs(function, padding, rank, reach, strides, transposed)
    _check_transposed(function, transposed, padding_mode, extra, strides, steps)

    options: dict[str, Any] = {"strides": strides, "padding": pairs}
    find: Callable[..., Agreement] = of_conv
    if transposed:
        find = of_transposed
        # PyTorch's output_padding may reach the stride, under dilation: there, crop less instead.
        kept = tuple(a if a < s else 0 for a, s in zip(extra, strides, strict=True))
        options["padding"] = tuple(
            (lo, hi - (a - b)) for (lo, hi), a, b in zip(pairs, extra, kept, strict=True)
        )
        if any(kept):
            options["output_padding"] = kept
    if mode != "constant":
        options["padding_mode"] = mode
    if any(d > 1 for d in steps):
        options["kernel_dilation"] = steps
    if groups > 1:
        options["feature_group_count"] = groups

    sizes = None
    if input_size is not None:
        sizes = checks.ints(function, "input_size", input_size, rank, minimum=1)
        _check_size(function, sizes, reach, strides, pairs, extra, transposed, padding_mode)
    axes = list(zip(reach, strides, pairs, extra, strict=True))
    agreements = {p: tuple(find(p, a, *axis) for a, axis in enumerate(axes)) for p in POLICIES}
    flax, note = flaxs_arguments(window, reach, pairs, extra, options, transposed)
    return Port(
        layer=written(window, strides, padding, extra, steps, groups, padding_mode, transposed),
        function="conv_transpose" if transposed else "conv",
        options=options,
        flax=flax,
        flax_note=note,
        agreements=agreements,
        input_size=sizes,
        weight=f"weight.transpose({', '.join(map(str, (*range(2, 2 + rank), 1, 0)))})",
    )


@public_with(transposed=checks.flag)
def check_layer(layer: object, *, input_size: Ints | None = None) -> Port:
    """`check_port` of a PyTorch layer: a ``Conv1d`` to ``ConvTranspose3d``.

    Args:
        layer: the layer; its options are read from its attributes.
        input_size: as for `check_port`.

    Returns:
        A `Port`.

    Raises:
        TypeError: not a convolution of PyTorch.
        ValueError: as `check_port`.

    Example:
        >>> from types import SimpleNamespace
        >>> from convjax import interop
        >>> layer = SimpleNamespace(  # stands for torch.nn.Conv1d(4, 8, 4, stride=2, padding=1)
        ...     kernel_size=(4,), stride=(2,), padding=(1,), dilation=(1,), groups=1,
        ...     padding_mode="zeros", transposed=False, output_padding=(0,))
        >>> interop.check_layer(layer, input_size=16).equal
        ('SAME', 'SAME_LOWER')
    """
    if not is_convolution(layer):
        rule = "must be a convolution of PyTorch (Conv1d to ConvTranspose3d)"
        checks.fail_type("check_layer", "layer", type(layer).__name__, rule)
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    options = {name: getattr(layer, name) for name in (*names, "transposed", "output_padding")}
    return check_port(**options, input_size=input_size)


def _pairs(
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


def _check_transposed(
    function: str,
    transposed: bool,
    padding_mode: str,
    extra: tuple[int, ...],
    strides: tuple[int, ...],
    steps: tuple[int, ...],
) -> None:
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


def _check_size(
    function: str,
    sizes: tuple[int, ...],
    reach: tuple[int, ...],
    strides: tuple[int, ...],
    pairs: tuple[Pair, ...],
    extra: tuple[int, ...],
    transposed: bool,
    padding_mode: str,
) -> None:
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
