"""The rows of the table: one layer each.

A `causal` row is ``causal_conv`` with a bias and SiLU; the kernel is there a pair of it and a bias.

`fitted` rows are those from which rules were found. The others were chosen before, and compiled
after.
"""

import math
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One layer: x (N, *space, I), kernel (*K, I/G, O), and what is computed of them."""

    name: str
    kind: str  # "grouped", "pointwise grouped" or another
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: int = 1
    groups: int = 1
    dilation: int = 1
    padding: str = "SAME"
    transposed: bool = False
    causal: bool = False
    fitted: bool = True

    @property
    def rank(self) -> int:
        return len(self.kernel) - 2

    @property
    def numbers(self) -> tuple[str, str, str]:
        space = "DHW"[-self.rank :]
        return f"N{space}C", f"{space}IO", f"N{space}C"


def _square(kind: str, size: tuple[int, int, int], window: int, groups: int, **more: Any) -> Row:
    n, extent, channels = size
    name = f"{kind} {window}x{window}, {groups} groups, {n}x{extent}x{extent}x{channels}"
    kernel = (window, window, channels // groups, channels)
    return Row(name, kind, (n, extent, extent, channels), kernel, groups=groups, **more)


def _causal(taps: int, **more: Any) -> Row:
    name = f"causal_conv with bias and SiLU, {taps} taps"
    name += "".join(f", {option} {value}" for option, value in more.items())
    x, kernel = (8, 2048, 2048), (taps, 1, 2048)
    return Row(name, "depthwise", x, kernel, groups=2048, padding="CAUSAL", causal=True, **more)


ROWS = (
    _square("grouped", (32, 28, 128), 3, 4),
    _square("grouped", (32, 28, 256), 3, 32),
    _square("grouped", (32, 14, 512), 3, 8),
    _square("grouped", (32, 56, 64), 3, 2),
    _square("pointwise grouped", (32, 28, 240), 1, 3),
    _square("pointwise grouped", (32, 14, 512), 1, 8),
    _square("pointwise grouped", (32, 28, 256), 1, 8),
    _square("grouped", (16, 28, 512), 3, 32, fitted=False),
    _square("grouped", (32, 14, 192), 3, 6, fitted=False),
    _square("grouped", (32, 28, 64), 3, 8, fitted=False),
    _square("pointwise grouped", (16, 28, 384), 1, 4, fitted=False),
    _square("pointwise grouped", (32, 56, 64), 1, 4, fitted=False),
    _square("depthwise", (32, 56, 128), 3, 128),
    Row("dense 3x3", "dense", (32, 28, 28, 128), (3, 3, 128, 128)),
    Row("dense 3x3, stride 2", "dense", (32, 56, 56, 64), (3, 3, 64, 128), strides=2),
    Row("3-D 3x3x3, 32 channels", "volume", (2, 32, 32, 32, 32), (3, 3, 3, 32, 32)),
    Row("3-D 3x3x3, 16 channels", "volume", (2, 48, 48, 48, 16), (3, 3, 3, 16, 16), fitted=False),
    Row(
        "causal depthwise, 4 taps",
        "depthwise",
        (8, 2048, 1024),
        (4, 1, 1024),
        groups=1024,
        padding="CAUSAL",
    ),
    *(_causal(taps) for taps in (2, 3, 4, 8)),
    _causal(4, dilation=2),
    _causal(4, strides=2),
    Row(
        "transposed 4x4, stride 2",
        "transposed",
        (16, 28, 28, 64),
        (4, 4, 64, 64),
        strides=2,
        transposed=True,
    ),
    Row("patchify 16x16", "patchify", (32, 224, 224, 3), (16, 16, 3, 256), 16, padding="VALID"),
    Row(
        "depthwise 3x3, dilated 2",
        "depthwise",
        (16, 56, 56, 128),
        (3, 3, 1, 128),
        groups=128,
        dilation=2,
    ),
    *(
        # What XLA for GPUs copies, transposes, or fills up with zeros.
        Row(
            "dense 3x3, stride 2, SAME_LOWER",
            "dense",
            (32, 56, 56, 64),
            (3, 3, 64, 128),
            2,
            padding="SAME_LOWER",
        ),
        Row("7x7, stride 2, of colours", "dense", (32, 224, 224, 3), (7, 7, 3, 64), 2),
        Row("causal, 3 taps", "causal", (8, 2048, 512), (3, 512, 512), padding="CAUSAL"),
        Row("3 taps, dilated 4", "dilated", (8, 2048, 512), (3, 512, 512), dilation=4),
        Row("dense 3x3, dilated 2", "dilated", (16, 56, 56, 64), (3, 3, 64, 64), dilation=2),
        Row(
            "depthwise 3 taps, dilated 4",
            "depthwise",
            (8, 2048, 512),
            (3, 1, 512),
            groups=512,
            dilation=4,
        ),
        Row(
            "depthwise 3x3, stride 2", "depthwise", (32, 56, 56, 128), (3, 3, 1, 128), 2, groups=128
        ),
        Row(
            "depthwise 7x7, stride 2", "depthwise", (32, 56, 56, 128), (7, 7, 1, 128), 2, groups=128
        ),
        Row(
            "grouped 3x3, 4 groups, stride 2",
            "grouped strided",
            (32, 56, 56, 128),
            (3, 3, 32, 128),
            2,
            groups=4,
        ),
        Row(
            "transposed 3x3, stride 2",
            "transposed",
            (16, 28, 28, 64),
            (3, 3, 64, 64),
            2,
            transposed=True,
        ),
        Row(
            "transposed 16 taps, stride 8",
            "transposed",
            (16, 1024, 64),
            (16, 64, 64),
            8,
            transposed=True,
        ),
        Row(
            "transposed 2x2x2, stride 2",
            "transposed",
            (2, 16, 16, 16, 32),
            (2, 2, 2, 32, 32),
            2,
            transposed=True,
        ),
        Row(
            "patches of 400 samples", "patchify", (8, 16000, 1), (400, 1, 512), 400, padding="VALID"
        ),
        Row("3-D 1x3x3", "volume", (2, 16, 32, 32, 32), (1, 3, 3, 32, 32)),
        Row("3-D 3x1x1", "volume", (2, 16, 32, 32, 32), (3, 1, 1, 32, 32)),
        Row("3-D 1x1x1", "volume", (2, 16, 32, 32, 32), (1, 1, 1, 32, 32)),
        Row("3-D depthwise 3x3x3", "depthwise", (2, 32, 32, 32, 64), (3, 3, 3, 1, 64), groups=64),
        Row("3-D 3x3x1", "volume", (2, 16, 32, 32, 32), (3, 3, 1, 32, 32), fitted=False),
        Row(
            "patchify 32x32",
            "patchify",
            (32, 224, 224, 3),
            (32, 32, 3, 256),
            32,
            padding="VALID",
            fitted=False,
        ),
        Row(
            "depthwise 5x5, stride 2",
            "depthwise",
            (32, 28, 28, 240),
            (5, 5, 1, 240),
            2,
            groups=240,
            fitted=False,
        ),
        Row(
            "transposed 4x4x4, stride 2",
            "transposed",
            (2, 16, 16, 16, 32),
            (4, 4, 4, 32, 32),
            2,
            transposed=True,
            fitted=False,
        ),
        Row(
            "5 taps, dilated 8", "dilated", (8, 4096, 256), (5, 256, 256), dilation=8, fitted=False
        ),
    ),
)


def by_lax(row: Row) -> Any:
    """What a user of lax writes."""
    import jax
    from jax import lax

    if row.transposed:
        return lambda x, k: lax.conv_transpose(
            x, k, (row.strides,) * row.rank, row.padding, dimension_numbers=row.numbers
        )
    padding: Any = row.padding
    if padding == "CAUSAL":
        padding = [((row.kernel[0] - 1) * row.dilation, 0)]

    def convolved(x: Any, kernel: Any) -> Any:
        return lax.conv_general_dilated(
            x,
            kernel,
            (row.strides,) * row.rank,
            padding,
            rhs_dilation=(row.dilation,) * row.rank,
            dimension_numbers=row.numbers,
            feature_group_count=row.groups,
        )

    if row.causal:
        return lambda x, pair: jax.nn.silu(convolved(x, pair[0]) + pair[1])
    return convolved


def by_convjax(row: Row, algorithm: Any = None) -> Any:
    """The same by this library."""
    import convjax

    options = {"strides": row.strides, "padding": row.padding, "algorithm": algorithm}
    if row.transposed:
        return lambda x, k: convjax.conv_transpose(x, k, **options)
    if row.causal:
        del options["padding"]
        options |= {"kernel_dilation": row.dilation, "feature_group_count": row.groups}
        return lambda x, pair: convjax.causal_conv(
            x, pair[0], bias=pair[1], activation="silu", **options
        )
    return lambda x, k: convjax.conv(
        x, k, kernel_dilation=row.dilation, feature_group_count=row.groups, **options
    )


PROGRAMS = ("forward", "training", "input gradient", "kernel gradient")


def program(forward: Any, name: str) -> Any:
    """A function of x, kernel and cotangent; "training" is the result and both gradients."""
    import jax

    def step(x: Any, kernel: Any, cotangent: Any) -> Any:
        if name == "forward":
            return forward(x, kernel)
        if name == "input gradient":
            return jax.vjp(lambda x: forward(x, kernel), x)[1](cotangent)
        if name == "kernel gradient":
            return jax.vjp(lambda kernel: forward(x, kernel), kernel)[1](cotangent)
        y, pull = jax.vjp(forward, x, kernel)
        return y, *pull(cotangent)

    return step


def floor(arrays: Any) -> int:
    """Bytes of these arrays: each is read, or written, at least once."""
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
