"""The convolutions that measure each threshold, and the lowerings that compete for them.

`MEASURED` lists them by threshold. `tune_select.py` times them.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

GROUPED = ("taps", "per_group")
VOLUMES = ("depth_sum", "depth_fold", "direct")
PLANES = ("direct", "spread_rows", "depth_sum", "depth_fold")
UNEVEN = (*GROUPED, "direct")
PRODUCTS = ("per_group", "matmul")
DEPTHWISE = ("taps", "direct")
SUMS = ("direct", "depth_sum")
SPREAD = ("channels_last", "spread_rows")
IN_A_ROW = ("channels_last", "batch_as_space")


FIRST = ("NCHW", "HWIO", "NCHW")


class Case(NamedTuple):
    """One convolution, or the gradient of its kernel, and what is compared with the threshold."""

    size: float
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    options: dict[str, Any] = {}  # noqa: RUF012
    role: str = "forward"
    dtype: str = "float32"


def plane(
    i: int, o: int, n: int = 8, space: int = 28, window: tuple[int, int] = (3, 3)
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (n, space, space, i), (*window, i, o)


def _of_32_groups(i: int, o: int) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    return (8, 28, 28, 32 * i), (3, 3, i, 32 * o), {"feature_group_count": 32}


def few_pairs() -> Iterator[Case]:
    for i, o in ((8, 2), (8, 4), (8, 8), (8, 16)):
        yield Case(i * o, *_of_32_groups(i, o))


def few_pairs_in_gradients() -> Iterator[Case]:
    for i, o in ((4, 8), (8, 8), (8, 16), (16, 16)):
        yield Case(i * o, *_of_32_groups(i, o), "kernel_gradient")


def pairs_per_group() -> Iterator[Case]:
    for groups in (2, 4, 8, 16):
        options = {"feature_group_count": groups}
        x, kernel = (8, 28, 28, 4 * groups), (3, 3, 4, 4 * groups)
        yield Case(16 / groups, x, kernel, options, "kernel_gradient")


def few_pairs_beside_onednn() -> Iterator[Case]:
    for i, o in ((4, 3), (4, 6), (6, 8), (8, 12)):
        yield Case(i * o, *_of_32_groups(i, o), "kernel_gradient")


def pairs_per_example() -> Iterator[Case]:
    for i, o in ((16, 16), (16, 32), (32, 32), (32, 64)):
        options = {"feature_group_count": 8}
        yield Case(i * o, (1, 28, 28, 8 * i), (3, 3, i, 8 * o), options, "kernel_gradient")


def cotangent_of_a_group() -> Iterator[Case]:
    for extent, c in ((10, 32), (14, 24), (28, 24), (28, 32), (40, 32)):
        x, kernel, options = (
            (8, extent, extent, 8 * c),
            (3, 3, c, 8 * c),
            {"feature_group_count": 8},
        )
        yield Case(extent * extent * c, x, kernel, options, "kernel_gradient")


def written_for_a_call() -> Iterator[Case]:
    for k, groups, channels in ((1, 4, 32), (3, 8, 16), (3, 4, 24), (3, 4, 32), (5, 8, 16)):
        x, kernel = (8, 28, 28, groups * channels), (k, k, channels, groups * channels)
        written = k * k * groups * groups * channels * channels
        options = {"feature_group_count": groups}
        yield Case(written / (groups - 1), x, kernel, options, dtype="bfloat16")
    for k, channels in ((5, 24), (5, 32)):
        x, kernel = (4, 28, 28, 3 * channels), (k, k, channels, 3 * channels)
        options = {"feature_group_count": 3}
        written = 9 * k * k * channels * channels
        yield Case(written / 2, x, kernel, options, dtype="bfloat16")


def few_uneven_pairs() -> Iterator[Case]:
    for c in (5, 7, 10, 14):
        options = {"feature_group_count": 32}
        yield Case(c * c, (8, 28, 28, 32 * c), (3, 3, c, 32 * c), options)


def uneven_channels() -> Iterator[Case]:
    for c in (5, 10, 20, 44):
        options = {"feature_group_count": 8}
        yield Case(c, (8, 28, 28, 8 * c), (3, 3, c, 8 * c), options)


def uneven_strided_channels() -> Iterator[Case]:
    for c in (10, 22, 44, 90):
        options = {"feature_group_count": 8, "strides": 2}
        yield Case(c, (8, 28, 28, 8 * c), (3, 3, c, 8 * c), options)


def groups_written_out() -> Iterator[Case]:
    for groups in (4, 8, 16, 32):
        options = {"feature_group_count": groups}
        yield Case(groups, (8, 28, 28, 16 * groups), (1, 1, 16, 16 * groups), options)


def little_cut_off() -> Iterator[Case]:
    for depth in (22, 12, 6, 4):
        x, kernel = (4, depth, 28, 28, 16), (3, 3, 3, 16, 8)
        yield Case(depth / (depth - 2), x, kernel, {"padding": "VALID"})


def worth_summing() -> Iterator[Case]:
    for space in (30, 43, 60, 85):
        yield Case(space**2 * 9 * 64, *plane(64, 16, 1, space))


def few_outputs() -> Iterator[Case]:
    for o in (16, 32, 64, 128):
        yield Case(3 * o / 96, *plane(96, o, 32))


def few_small_outputs() -> Iterator[Case]:
    for i, o in ((32, 16), (32, 32), (16, 32), (8, 32)):
        yield Case(3 * o / i, *plane(i, o))


def small_results() -> Iterator[Case]:
    for n in (31, 63, 128, 192):
        yield Case(n * 28 * 28 * 3 * 28, *plane(64, 28, n))


def small_channels() -> Iterator[Case]:
    for o, n in ((16, 8), (32, 8), (64, 4), (128, 2)):
        yield Case(o, *plane(o * 3 // 2, o, n))


def fewest_outputs() -> Iterator[Case]:
    for o in (4, 8, 16, 32):
        yield Case(o, *plane(96, o))


def gathered_fast() -> Iterator[Case]:
    for i in (8, 16, 32, 64):
        yield Case(i, *plane(i, 64))


def gathered_fast_in_gradients() -> Iterator[Case]:
    for n in (4, 8, 16, 32):
        yield Case(n, *plane(32, 32, n), {}, "kernel_gradient")
        yield Case(n, *plane(32, 32, n), {"strides": 2}, "kernel_gradient")


def few_channels() -> Iterator[Case]:
    for i in (4, 8, 16, 32):
        yield Case(i, *plane(i, 64))
    for n in (4, 8, 16, 32):
        yield Case(n, *plane(32, 64, n), {"strides": 2}, "kernel_gradient")


def few_products() -> Iterator[Case]:
    for i, k in ((3, 2), (3, 3), (6, 3), (3, 6)):
        yield Case(i * k * k, *plane(i, 64, window=(k, k)))


def few_copies() -> Iterator[Case]:
    for rows in (4, 8, 16, 32):
        yield Case(rows, *plane(4, 64, 4, 56, (rows, 3)))


def few_copies_for_ynnpack() -> Iterator[Case]:
    for rows in (2, 3, 6, 12):
        x, kernel = plane(32, 64, 4, 56, (rows, 3))
        yield Case(rows, x, kernel, {"strides": 2}, "kernel_gradient")


def many_taps() -> Iterator[Case]:
    for window in ((3, 4), (5, 5), (7, 7), (10, 10)):
        for space, c in ((56, 96), (14, 384)):
            options = {"feature_group_count": c}
            yield Case(math.prod(window), (8, space, space, c), (*window, 1, c), options)


def many_strided_taps() -> Iterator[Case]:
    for window in ((3, 8), (7, 7), (10, 10)):
        for space, c in ((56, 96), (28, 192)):
            options = {"feature_group_count": c, "strides": 2}
            yield Case(math.prod(window), (8, space, space, c), (*window, 1, c), options)


def many_taps_of_halves() -> Iterator[Case]:
    for window, strides in (
        *(((1, 3), 1), ((2, 2), 1), ((2, 3), 1)),
        *(((3, 3), 1), ((3, 3), 2), ((3, 6), 1)),
    ):
        for space, c in ((56, 96), (14, 384)):
            x, kernel = (8, space, space, c), (*window, 1, c)
            options = {"feature_group_count": c, "strides": strides}
            yield Case(math.prod(window), x, kernel, options, dtype="float16")


def many_taps_of_channels_first() -> Iterator[Case]:
    for window, strides in (((3, 8), 1), ((7, 7), 1), ((10, 10), 1), ((7, 7), 2), ((10, 10), 2)):
        for space, c in ((56, 96), (28, 192)):
            options = {"feature_group_count": c, "strides": strides, "dimension_numbers": FIRST}
            yield Case(math.prod(window), (8, c, space, space), (*window, 1, c), options)


def few_products_of_channels_first() -> Iterator[Case]:
    for c, window in ((4, (2, 2)), (4, (3, 3)), (4, (5, 5)), (8, (3, 3))):
        options = {"feature_group_count": 32, "dimension_numbers": FIRST}
        yield Case(math.prod(window) * c * c, (4, 32 * c, 28, 28), (*window, c, 32 * c), options)


def _dilated(windows: Iterable[tuple[tuple[int, int], tuple[int, int]]]) -> Iterator[Case]:
    for window, dilation in windows:
        options = {"feature_group_count": 96, "kernel_dilation": dilation}
        padding = (window[-1] - 1) * dilation[-1] // 2
        yield Case(padding, (4, 28, 28, 96), (*window, 1, 96), options)


def little_padding() -> Iterator[Case]:
    yield from _dilated([((4, 7), (2, 1)), ((5, 5), (2, 2)), ((7, 7), (2, 2)), ((7, 7), (3, 3))])


def little_padding_in_512_bits() -> Iterator[Case]:
    yield from _dilated([((5, 5), (2, 2)), ((7, 7), (2, 2)), ((7, 7), (3, 3)), ((7, 8), (1, 2))])


def few_products_for_onednn() -> Iterator[Case]:
    for c, window in ((2, (3, 3)), (4, (2, 2)), (4, (3, 3)), (4, (4, 4))):
        options = {"feature_group_count": 32}
        yield Case(math.prod(window) * c * c, (8, 28, 28, 32 * c), (*window, c, 32 * c), options)


def many_positions() -> Iterator[Case]:
    for space in (40, 56, 64):
        yield Case(space**2, *plane(64, 64, 8, space), {}, "kernel_gradient")


def too_many_positions() -> Iterator[Case]:
    for space in (56, 64, 80, 112):
        yield Case(space**2, *plane(64, 64, 8, space), {}, "kernel_gradient")


def few_outputs_for_onednn() -> Iterator[Case]:
    for o in (4, 8, 16, 32):
        yield Case(o, *plane(64, o, 8, 56))
        yield Case(o, *plane(64, o, 8, 56), dtype="float16")
        yield Case(o, (4, 16, 16, 16, 32), (3, 3, 3, 32, o), dtype="bfloat16")


def few_channels_in_a_row() -> Iterator[Case]:
    for c in (4, 8, 16, 32):
        for n, space, strides in ((8, 28, 1), (2, 28, 1), (8, 56, 2)):
            x, kernel = plane(c, 64, n, space)
            yield Case(c, x, kernel, {"strides": strides}, "kernel_gradient")


def few_examples_for_amx() -> Iterator[Case]:
    for n in (1, 2, 4, 8):
        for c, space in ((64, 53), (128, 29)):  # which cannot be cut into blocks
            yield Case(n, *plane(c, c, n, space), {}, "kernel_gradient", "bfloat16")


def large_kernel_for_amx() -> Iterator[Case]:
    for taps in (4, 8, 15, 31):
        for n in (8, 16):
            x, kernel = plane(48, 64, n, 28, (taps, taps))
            yield Case(taps, x, kernel, {}, "kernel_gradient", "bfloat16")


def many_products() -> Iterator[Case]:
    for rows in (64, 128, 256, 512):
        for i, o in ((256, 256), (512, 128), (1024, 64)):
            x, kernel = (1, 8, rows // 8, i), (1, 1, i, o)
            yield Case(rows * i * o, x, kernel, {})
            yield Case(rows * i * o, x, kernel, {}, "kernel_gradient", "bfloat16")


def _tiled_rows(rows: int) -> dict[str, Any]:
    """The options that make rows of a result of every row of the input."""
    return {"input_dilation": (rows, 1), "padding": ((rows - 1, rows - 1), (0, 0))}


def kernel_of_tiled_rows() -> Iterator[Case]:
    for i, o in ((128, 256), (256, 256), (256, 512), (512, 512), (512, 1024)):
        for rows, columns in ((4, 8), (2, 16)):
            x, kernel = (8, 16, columns, i), (rows, 1, i, 4 * o // rows)
            yield Case(4 * i * o, x, kernel, _tiled_rows(rows))


def inputs_of_tiled_rows() -> Iterator[Case]:
    for i in (64, 128, 256, 512):
        for rows, o in ((2, 32), (3, 48), (4, 16)):
            x, kernel = (8, 16, 16, i), (rows, 1, i, o)
            yield Case(i, x, kernel, _tiled_rows(rows), dtype="bfloat16")


def wide_lines() -> Iterator[Case]:
    for o in (64, 128, 256, 512):
        yield Case(o, (8, 2048, 64), (5, 64, o), {}, "kernel_gradient")


def few_colours() -> Iterator[Case]:
    for c in (4, 8, 16, 32):
        yield Case(c, *plane(c, 64, 4, 112, (7, 7)), {"strides": 2}, "kernel_gradient")


def few_outputs_of_few_examples() -> Iterator[Case]:
    for o in (12, 24, 48, 96):
        yield Case(o, *plane(128, o, 7), {}, "kernel_gradient")


# The thresholds of programs that are compiled with oneDNN.
WITH_ONEDNN = (
    *("MANY_TAPS", "FEW_PRODUCTS_FOR_ONEDNN", "MANY_POSITIONS", "TOO_MANY_POSITIONS"),
    *("FEW_OUTPUTS_FOR_ONEDNN", "WIDE_LINES", "MANY_STRIDED_TAPS", "LITTLE_PADDING"),
    *("FEW_PAIRS_BESIDE_ONEDNN", "PAIRS_PER_EXAMPLE"),
    *("FEW_CHANNELS_IN_A_ROW", "FEW_EXAMPLES_FOR_AMX", "LARGE_KERNEL_FOR_AMX"),
    *("COTANGENT_OF_A_GROUP", "WRITTEN_FOR_A_CALL"),
    *("LITTLE_PADDING_IN_512_BITS", "MANY_PRODUCTS"),
    *("KERNEL_OF_TILED_ROWS", "INPUTS_OF_TILED_ROWS"),
    *("MANY_TAPS_OF_HALVES", "MANY_TAPS_OF_CHANNELS_FIRST", "FEW_PRODUCTS_OF_CHANNELS_FIRST"),
)

# The convolutions of each threshold, and the lowerings that compete for them.
MEASURED = {
    "FEW_PAIRS": (few_pairs, GROUPED),
    "FEW_PAIRS_IN_GRADIENTS": (few_pairs_in_gradients, GROUPED),
    "PAIRS_PER_GROUP": (pairs_per_group, GROUPED),
    "FEW_PAIRS_BESIDE_ONEDNN": (few_pairs_beside_onednn, (*GROUPED, "channels_last")),
    "FEW_OUTPUTS_OF_FEW_EXAMPLES": (few_outputs_of_few_examples, PLANES),
    "PAIRS_PER_EXAMPLE": (pairs_per_example, (*GROUPED, "channels_last")),
    "LITTLE_PADDING": (little_padding, DEPTHWISE),
    "LITTLE_PADDING_IN_512_BITS": (little_padding_in_512_bits, DEPTHWISE),
    "MANY_TAPS_OF_HALVES": (many_taps_of_halves, ("taps", "channels_last")),
    "MANY_TAPS_OF_CHANNELS_FIRST": (many_taps_of_channels_first, ("taps", "channels_last")),
    "FEW_PRODUCTS_OF_CHANNELS_FIRST": (
        few_products_of_channels_first,
        ("taps", "per_group", "channels_last"),
    ),
    "MANY_STRIDED_TAPS": (many_strided_taps, DEPTHWISE),
    "FEW_UNEVEN_PAIRS": (few_uneven_pairs, UNEVEN),
    "UNEVEN_CHANNELS": (uneven_channels, UNEVEN),
    "UNEVEN_STRIDED_CHANNELS": (uneven_strided_channels, UNEVEN),
    "FEW_COLOURS": (few_colours, PLANES),
    "MANY_TAPS": (many_taps, DEPTHWISE),
    "FEW_PRODUCTS_FOR_ONEDNN": (few_products_for_onednn, DEPTHWISE),
    "MANY_POSITIONS": (many_positions, SPREAD),
    "TOO_MANY_POSITIONS": (too_many_positions, SPREAD),
    "FEW_OUTPUTS_FOR_ONEDNN": (few_outputs_for_onednn, SUMS),
    "WIDE_LINES": (wide_lines, (*SPREAD, "batch_as_space")),
    "KERNEL_OF_TILED_ROWS": (kernel_of_tiled_rows, ("polyphase", "reshaped")),
    "INPUTS_OF_TILED_ROWS": (inputs_of_tiled_rows, ("polyphase", "reshaped")),
    "MANY_PRODUCTS": (many_products, ("direct", "matmul", "batch_as_space")),
    "FEW_CHANNELS_IN_A_ROW": (few_channels_in_a_row, (*IN_A_ROW, "spread_rows", "depth_fold")),
    "LARGE_KERNEL_FOR_AMX": (large_kernel_for_amx, IN_A_ROW),
    "COTANGENT_OF_A_GROUP": (cotangent_of_a_group, ("per_group", "channels_last")),
    "FEW_EXAMPLES_FOR_AMX": (few_examples_for_amx, IN_A_ROW),
    "WRITTEN_FOR_A_CALL": (written_for_a_call, ("per_group", "block_diagonal")),
    "GROUPS_WRITTEN_OUT": (groups_written_out, PRODUCTS),
    "LITTLE_CUT_OFF": (little_cut_off, VOLUMES),
    "WORTH_SUMMING": (worth_summing, PLANES),
    "FEW_OUTPUTS": (few_outputs, PLANES),
    "FEW_SMALL_OUTPUTS": (few_small_outputs, PLANES),
    "SMALL_RESULTS": (small_results, PLANES),
    "SMALL_CHANNELS": (small_channels, PLANES),
    "FEWEST_OUTPUTS": (fewest_outputs, PLANES),
    "GATHERED_FAST": (gathered_fast, PLANES),
    "GATHERED_FAST_IN_GRADIENTS": (gathered_fast_in_gradients, PLANES),
    "FEW_CHANNELS": (few_channels, PLANES),
    "FEW_PRODUCTS": (few_products, PLANES),
    "FEW_COPIES": (few_copies, PLANES),
    "FEW_COPIES_FOR_YNNPACK": (few_copies_for_ynnpack, PLANES),
}
