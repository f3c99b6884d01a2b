"""The rows of the benchmark: shapes of operands, and a program that any library can run."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Pair = tuple[int, int]
SLOW = ("depthwise", "grouped", "transposed", "3d")

# Losses of 16-bit results are multiplied by this. The gradients of float16 kernels would exceed
# its largest number, 65504, without it. A power of two rounds nothing.
LOSS_SCALE = {"bfloat16": 1.0, "float16": 2.0**-6}


@dataclasses.dataclass(frozen=True)
class Spec:
    """One convolution; strides and dilation are those of every spatial axis.

    A transposed one has PyTorch's `padding` (what is cropped) and `output_padding`.
    """

    padding: tuple[Pair, ...]
    strides: int = 1
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    output_padding: int = 0


@dataclasses.dataclass(frozen=True)
class Operand:
    """An array that a program takes, channels-last: an activation or a kernel.

    Forward kernels are (*K, I/G, O), transposed ones (*K, O/G, I); `lead` axes come before.
    """

    shape: tuple[int, ...]
    role: str = "kernel"  # "x", "kernel" or "transposed kernel"
    lead: int = 0
    groups: int = 1

    @property
    def fan_in(self) -> int:
        """Products that one output sums: with it, kernels keep the scale of activations."""
        *window, second, last = self.shape[self.lead :]
        return math.prod(window) * (last if self.role == "transposed kernel" else second)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        scale = 1.0 if self.role == "x" else math.sqrt(2 / self.fan_in)
        return (scale * rng.standard_normal(self.shape)).astype(np.float32)


Program = Callable[..., Any]  # program(ops, x, *kernels)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: unique; what `--rows` is matched with.
        family: one of `SLOW`, "dense" or "network".
        section: "main", or what is special about the row.
        program: what is run, over `Ops`; operands follow, x first.
        same_program: the same under SAME padding, for a library that has no padding in numbers,
            where the two differ.
        gradients: of which operands training takes gradients.
        layout: of lax and convjax: channels "last" or "first".
        dtype: fixes it; "" leaves it to the run.
        peers: the only contenders; () leaves it to the run.
        quick: part of `--quick`.
        out_lead: axes of the result before the batch.
    """

    name: str
    family: str
    shape: str
    operands: tuple[Operand, ...]
    program: Program
    same_program: Program | None = None
    section: str = "main"
    gradients: tuple[int, ...] = (0, 1)
    layout: str = "last"
    dtype: str = ""
    peers: tuple[str, ...] = ()
    quick: bool = False
    out_lead: int = 0
    tolerance: float = 1e-4

    @property
    def slow(self) -> bool:
        """Whether the row counts among those that lax is slow at."""
        return self.family in SLOW and self.section == "main"

    def draw(self, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [operand.draw(rng) for operand in self.operands]

    def scaled(self, factor: int) -> "Row":
        """The row with `factor` times the batch."""
        x, *rest = self.operands
        shape = list(x.shape)
        shape[x.lead] *= factor
        operands = (dataclasses.replace(x, shape=tuple(shape)), *rest)
        text = f"{self.shape}, batch x{factor}"
        return dataclasses.replace(self, operands=operands, shape=text)


# ---- one convolution -----------------------------------------------------------------------------


def centred(kernel: Sequence[int], dilation: int = 1) -> tuple[Pair, ...]:
    """PyTorch's padding "same": half of it on each side."""
    totals = [(k - 1) * dilation for k in kernel]
    return tuple((total // 2, total - total // 2) for total in totals)


def same(space: Sequence[int], kernel: Sequence[int], strides: int, dilation: int = 1) -> Any:
    """lax's SAME: as much as ceil(n / strides) outputs need, the odd one at the high end."""
    pairs = []
    for n, k in zip(space, kernel, strict=True):
        total = max(0, (-(-n // strides) - 1) * strides + (k - 1) * dilation + 1 - n)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def one(spec: Spec, ops: Any, x: Any, kernel: Any) -> Any:
    return ops.conv(x, kernel, spec)


def _text(n: int, space: Sequence[int], i: int, o: int) -> str:
    return f"{n}x{'x'.join(map(str, space))} {i}->{o}"


def forward(
    name: str,
    family: str,
    n: int,
    space: tuple[int, ...],
    i: int,
    o: int,
    kernel: tuple[int, ...],
    *,
    strides: int = 1,
    dilation: int = 1,
    groups: int = 1,
    padding: tuple[Pair, ...] | None = None,
    **fields: Any,
) -> Row:
    """A row of one convolution."""
    pairs = centred(kernel, dilation) if padding is None else padding
    spec = Spec(pairs, strides, dilation, groups)
    other = None
    if strides > 1 and padding is None:
        pairs = same(space, kernel, strides, dilation)
        other = functools.partial(one, dataclasses.replace(spec, padding=pairs))
    return Row(
        name=name,
        family=family,
        shape=_text(n, space, i, o),
        operands=(Operand((n, *space, i), "x"), Operand((*kernel, i // groups, o))),
        program=functools.partial(one, spec),
        same_program=other,
        **fields,
    )


def transposed(
    name: str,
    family: str,
    n: int,
    space: tuple[int, ...],
    i: int,
    o: int,
    kernel: tuple[int, ...],
    *,
    strides: int = 2,
    groups: int = 1,
    **fields: Any,
) -> Row:
    """A row of one transposed convolution that enlarges by `strides`, padded as PyTorch does."""
    excess = [k - strides for k in kernel]
    crop = (excess[0] + 1) // 2
    spec = Spec(
        ((crop, crop),) * len(kernel),
        strides,
        groups=groups,
        transposed=True,
        output_padding=2 * crop - excess[0],
    )
    pairs = tuple((e // 2, e - e // 2) for e in excess)
    other = dataclasses.replace(spec, padding=pairs, output_padding=0)
    return Row(
        name=name,
        family=family,
        shape=_text(n, space, i, o),
        operands=(
            Operand((n, *space, i), "x"),
            Operand((*kernel, o // groups, i), "transposed kernel", groups=groups),
        ),
        program=functools.partial(one, spec),
        same_program=None if other == spec else functools.partial(one, other),
        **fields,
    )
