"""Where which lowering is right, where it is fast, and where a threshold decides.

There are three lists.

CORRECT  where a lowering computes wrong numbers, and what runs in its place. Never for speed. They
         are in `guards`.
FAST     kinds of convolutions that lax computes slowly, by factors, and what computes them instead.
         The first that holds decides. Those of GPU and TPU are in `accelerators`.
TUNED    exceptions within a kind: a threshold says where another lowering is faster still.

A platform without a row of FAST has lax's own convolution, and `explain` says that nothing was
measured there. `select` puts the lists together.
"""

import math

import numpy as np

from convjax._lowerings import (
    accelerators,
    depth_fold,
    depth_sum,
    groups,
    matmul,
    onednn,
    patchify,
    planes,
    reshaped,
)
from convjax._lowerings import thresholds as at
from convjax._lowerings.guards import CORRECT as CORRECT
from convjax._lowerings.problem import Problem, count, is_dilated, is_product
from convjax._lowerings.rule import (
    Rule,
    Tuned,
    on_one_cpu,
    on_one_cpu_with_amx,
    on_one_cpu_with_onednn,
    on_one_cpu_with_onednn_and_512_bits,
    on_one_cpu_without_amx,
    split_by_xla_on_cpus,
)

# ---- FAST --------------------------------------------------------------------------------------


def _is_volume(problem: Problem) -> bool:
    return problem.groups == 1 and problem.geometry.rank == 3


def _is_made_of_tiles(problem: Problem) -> bool:
    """Whether something is made of tiles, and lax is not as fast: it is in a plane of windows."""
    made = patchify.tiled(problem)
    lax_is_slow = made is not None and (made != "windows" or problem.geometry.rank > 2)
    return lax_is_slow and not is_product(problem)


FAST = (
    Rule("tiles", on_one_cpu, _is_made_of_tiles, None),
    Rule(
        "oneDNN",
        on_one_cpu_with_onednn,
        onednn.is_fast,
        "direct",
        "XLA gives it to oneDNN, which takes it as it is",
    ),
    Rule(
        "dilated input",
        on_one_cpu,
        is_dilated,
        "polyphase",
        "a dilated input (a transposed convolution, or the input gradient of a strided one): "
        "XLA multiplies the zeros between its elements; the phases of the output meet none",
    ),
    Rule(
        "groups in float16, with AMX",
        on_one_cpu_with_amx,
        onednn.is_fast_in_groups_of_halves,
        "channels_last",
        "groups in float16: XLA gives them to oneDNN, and the processor has instructions for them",
    ),
    Rule(
        "groups in bfloat16, with AMX",
        on_one_cpu_with_amx,
        onednn.is_fast_in_blocks,
        "block_diagonal",
        "groups in bfloat16: several at once, in a kernel that is zero between them, are a dense "
        "convolution for the processor's instructions for matrices",
    ),
    Rule(
        "groups",
        on_one_cpu,
        lambda p: p.groups != 1,
        "per_group",
        "groups: XLA on a CPU has no fast path for grouped convolutions; one dense convolution "
        "for each group has",
    ),
    Rule(
        "pointwise by AMX",
        on_one_cpu_with_amx,
        onednn.is_pointwise_for_amx,
        "channels_last",
        "a 1x1 convolution in bfloat16: XLA gives it to oneDNN, which uses the processor's "
        "instructions for matrices; XLA's own products do not",
    ),
    Rule(
        "product by AMX",
        on_one_cpu_with_amx,
        onednn.is_product_for_amx,
        "batch_as_space",
        "the window is the whole input, in bfloat16: as a 1x1 convolution XLA gives the product to "
        "oneDNN, which uses the processor's instructions for matrices",
    ),
    Rule(
        "product",
        on_one_cpu,
        is_product,
        "matmul",
        "the window, or the result, has one element: the convolution is a matrix product",
    ),
    Rule(
        "volume",
        on_one_cpu,
        _is_volume,
        "depth_fold",
        "a volume: XLA on a CPU has a fast path for two spatial axes, not for three; the depths "
        "of the window become input channels",
    ),
    Rule(
        "gradient of a plane's kernel by oneDNN",
        on_one_cpu_with_onednn_and_512_bits,
        onednn.is_fast_in_gradients_of_planes,
        "batch_as_space",
        "the gradient of a dense kernel: with the layer's input channels on an axis of space, "
        "oneDNN computes many results at once",
    ),
    Rule(
        "gradient of a line's kernel by oneDNN",
        on_one_cpu_with_onednn_and_512_bits,
        onednn.is_fast_in_gradients_of_lines,
        "batch_as_space",
        "the gradient of a dense kernel, narrow or of examples that are no multiple of eight: with "
        "the layer's input channels on an axis of space, oneDNN computes many results at once",
    ),
    Rule(
        "gradient of a line's kernel by AMX",
        on_one_cpu_with_amx,
        onednn.is_fast_in_gradients_of_lines_by_amx,
        "batch_as_space",
        "the gradient of a dense kernel in bfloat16: with the layer's input channels on an axis of "
        "space, the processor's instructions compute many results at once",
    ),
    Rule(
        "gradient of a kernel by AMX",
        on_one_cpu_with_amx,
        onednn.is_fast_in_gradients_by_amx,
        "channels_last",
        "the gradient of a dense kernel in 16 bits: XLA gives it to oneDNN, and the processor has "
        "instructions for it",
    ),
    Rule(
        "gradient of a kernel by oneDNN",
        on_one_cpu_without_amx,
        onednn.is_fast_in_gradients,
        "channels_last",
        "the gradient of a dense kernel: XLA gives it to oneDNN",
    ),
    Rule("plane", on_one_cpu, lambda p: p.groups == 1 and p.geometry.rank == 2, None),
    Rule(
        "gradient of a line's kernel, away from oneDNN",
        on_one_cpu_with_onednn,
        onednn.is_slow_for_a_line,
        "spread_rows",
        "the gradient of a dense kernel with one axis: oneDNN takes longer than Eigen; written "
        "with a dilated input it stays with Eigen",
    ),
    Rule(
        "other order of axes",
        on_one_cpu,
        lambda p: p.groups == 1 and not p.channels_last,
        "channels_last",
        "channels are not last: XLA on a CPU has a fast path for channels last only, and moves "
        "axes by itself except in loops",
    ),
    Rule(
        "groups, split by XLA",
        split_by_xla_on_cpus,
        lambda p: p.groups != 1,
        "matmul",
        "groups that XLA splits over several CPUs: it would gather all groups of a grouped "
        "convolution; it gathers none for matrix products",
    ),
    *accelerators.FAST,
)


# ---- TUNED -------------------------------------------------------------------------------------


def _moves_less_in_sums(problem: Problem) -> bool:
    """Whether adding results of depths moves less than folding depths into inputs."""
    if not planes.cuts_off_little(problem):
        return False
    moved = (depth_sum.elements_moved(problem), depth_fold.elements_moved(problem))
    return moved[0] <= moved[1] < math.inf


def _is_gradient_of_transposed(problem: Problem) -> bool:
    """Whether it is the gradient of a transposed convolution's kernel, without a dilation of it."""
    steps = problem.geometry.kernel_dilation
    return problem.role == "kernel_gradient" and all(step == 1 for step in steps)


TUNED = (
    Tuned(
        "plane with few outputs, with oneDNN",
        "oneDNN",
        "depth_sum",
        lambda p, t: (
            onednn.has_few_outputs(p) and p.geometry.rank == 2 and planes.has_few_outputs(p, t)
        ),
        "few output channels: oneDNN fills its vectors with zeros; rows of taps are convolved at "
        "once and added",
    ),
    Tuned(
        "large product, with oneDNN",
        "oneDNN",
        "matmul",
        onednn.is_large_product,
        "a 1x1 convolution: oneDNN takes less time for the same product of matrices",
    ),
    Tuned(
        "volume with few outputs, with oneDNN",
        "oneDNN",
        "depth_sum",
        lambda p, t: onednn.has_few_outputs_in_a_volume(p, t) and _moves_less_in_sums(p),
        "few output channels: oneDNN fills its vectors with zeros; planes are convolved and added",
    ),
    Tuned(
        "gradient of a transposed kernel",
        "dilated input",
        "commuted",
        lambda p, t: (
            _is_gradient_of_transposed(p)
            and (
                p.groups == 1
                or groups.has_few_pairs(p)
                or (t.onednn and (t.amx or p.dtype == np.float32))
            )
        ),
        "the kernel's gradient of a transposed convolution: with its operands exchanged it is that "
        "of a strided one, which meets no zeros either, and copies less",
    ),
    Tuned(
        "gradient of a grouped kernel, with oneDNN",
        "groups",
        "channels_last",
        lambda p, t: t.onednn and onednn.is_fast_in_gradients_of_groups(p, t),
        "the gradient of a grouped kernel: as a grouped convolution, XLA gives it to oneDNN",
    ),
    Tuned(
        "dilated depthwise window, with 256 bits",
        "oneDNN",
        "taps",
        lambda p, t: t.vector_bits < 512 and onednn.has_slow_dilation_in_256_bits(p),
        "a depthwise window with a dilation and much padding: oneDNN has only its reference code",
    ),
    Tuned(
        "oneDNN, of operands in another order",
        "oneDNN",
        "channels_last",
        lambda p, t: not onednn.is_arranged(p),
        "XLA gives it to oneDNN, cropped, its kernel reversed and its channels last",
    ),
    Tuned(
        "tiles of many channels",
        "tiles",
        "patchify",
        lambda p, t: (
            (p.groups == 1 or not groups.has_few_pairs(p)) and not (t.onednn and onednn.tiles(p))
        ),
        "windows that tile the input: the convolution is one matrix product of tiles",
    ),
    Tuned(
        "plane made of tiles",
        "dilated input",
        "reshaped",
        lambda p, t: p.groups == 1 and p.geometry.rank == 2 and reshaped.tiles(p) == "out",
        "a result made of tiles: with the columns of a tile as channels, only its rows interleave",
    ),
    Tuned(
        "rows made of tiles, with oneDNN",
        "dilated input",
        "reshaped",
        lambda p, t: t.onednn and onednn.is_fast_in_rows_of_tiles(p),
        "rows of the result are made of tiles: every row of the input is an image, of which oneDNN "
        "computes all rows of the result where they belong",
    ),
    Tuned(
        "phases of large groups",
        "dilated input",
        "per_group",
        lambda p, t: (
            p.groups != 1
            and not groups.has_few_pairs(p)
            and not is_product(p)
            and not (t.onednn and p.dtype == np.float32)  # which computes every phase at once
        ),
        "a dilated input in groups of many channels: phases interleave faster within a group",
    ),
    Tuned(
        "dilated depth of a volume",
        "dilated input",
        "depth_sum",
        lambda p, t: (
            p.geometry.rank == 3
            and p.geometry.input_dilation[1:] == (1, 1)
            and _moves_less_in_sums(p)
        ),
        "a volume whose depth is dilated: XLA on a CPU has a fast path for its planes, and adding "
        "planes moves less than copying depths",
    ),
    Tuned(
        "groups of few channels",
        "groups",
        "taps",
        lambda p, t: groups.has_few_pairs(p),
        "groups of few channels (depthwise): XLA's grouped convolution on a CPU handles one "
        "element at a time; summing shifted inputs is 10 to 40 times faster",
    ),
    Tuned(
        "product of many groups",
        "groups",
        "matmul",
        lambda p, t: is_product(p) and count((p.groups,)) > at.GROUPS_WRITTEN_OUT.value,
        "the window has one element, in many groups: one matrix product has all groups",
    ),
    Tuned(
        "groups of uneven channels",
        "groups",
        "channels_last",
        lambda p, t: t.faster_groups and groups.is_uneven_and_narrow(p),
        "groups whose channels are no multiple of eight: Eigen gathers them one by one, and XLA's "
        "own loop over channels takes less time",
    ),
    Tuned(
        "strided groups of a line",
        "groups",
        "channels_last",
        lambda p, t: groups.is_strided_line(p) and not is_product(p),
        "a strided convolution in groups with one spatial axis: XLA's own loop over channels takes "
        "less time than a convolution for each group",
    ),
    Tuned(
        "volume with few results",
        "volume",
        "depth_sum",
        lambda p, t: _moves_less_in_sums(p),
        "a volume: XLA on a CPU has a fast path for two spatial axes, not for three; planes are "
        "convolved and added, which moves less than copying depths",
    ),
    Tuned(
        "plane with few outputs",
        "plane",
        "depth_sum",
        planes.has_few_outputs,
        "few output channels: XLA's convolution on a CPU takes longer to gather the inputs under "
        "each window than to multiply them; rows of taps are convolved at once and added",
    ),
    Tuned(
        "plane for which YNNPACK is slow",
        "plane",
        "spread_rows",
        planes.is_gathered_fast,
        "XLA gives this convolution to YNNPACK (or to oneDNN, where options ask for it), which "
        "takes longer than Eigen on this jaxlib; written with a dilated input it stays with Eigen",
    ),
    Tuned(
        "plane with few channels",
        "plane",
        "depth_fold",
        planes.has_few_channels,
        "few channels (in a kernel's gradient: examples): XLA on a CPU gathers windows slowly; "
        "one axis of the window becomes channels",
    ),
    Tuned(
        "groups of few channels, split by XLA",
        "groups, split by XLA",
        "taps",
        lambda p, t: (
            groups.has_few_pairs(p)
            and (p.role != "kernel_gradient" or matmul.accepts(p) is not None)
        ),
        "groups of few channels that XLA splits over several CPUs: it would gather all groups of "
        "a grouped convolution; it gathers none for sums of shifted inputs",
    ),
)
