"""Where a lowering computes wrong numbers, and what runs in its place: `CORRECT` of `rules`.

`tests/laws/test_guards.py` shows each wrong number.
"""

from convjax._lowerings import onednn_faults
from convjax._lowerings.problem import window_exceeds_output
from convjax._lowerings.rule import (
    Guard,
    on_cpu,
    on_one_cpu,
    on_one_cpu_with_onednn,
    split_by_xla,
    split_by_xla_with_onednn,
)
from convjax._lowerings.tools.slices import crops

_LAX = ("direct", "channels_last")  # lowerings that are one call of lax's convolution

CORRECT = (
    Guard(
        "a cropped input is read beyond its end",  # seen on jaxlib 0.10.2, not on 0.12.0
        on_cpu,
        lambda p: p.groups == 1 and any(crops(p.geometry)),
        wrong=("direct",),
        instead=("channels_last",),
        why="XLA's convolution on a CPU reads beyond an input that is cropped before and padded "
        "after, so the input is cropped first",
    ),
    Guard(
        "the gradient of a grouped kernel is counted too often",  # seen on jaxlib 0.10.2 and 0.12.0
        split_by_xla,
        lambda p: p.groups != 1 and p.role == "kernel_gradient",
        wrong=_LAX,
        instead=("matmul", "taps", "per_group"),
        why="XLA's partitioner counts the gradient of a grouped kernel too often on meshes of "
        "several axes; matrix products are split rightly",
    ),
    Guard(
        "a NaN crosses from group to group",  # seen on jaxlib 0.10.2 and 0.12.0
        on_one_cpu,
        lambda p: p.groups != 1 and window_exceeds_output(p),
        wrong=("direct",),
        instead=("per_group", "matmul"),
        why="XLA's gradient of a grouped kernel on a CPU mixes the groups, and carries a NaN of "
        "one group into the others",
    ),
    Guard(
        "oneDNN is wrong",  # seen on jaxlib 0.12.0 on processors with AVX-512 and AMX
        on_one_cpu_with_onednn,
        lambda p: bool(onednn_faults.remedy(p)),
        wrong=("direct",),
        instead=("channels_last",),
        why="oneDNN computes some convolutions wrongly on processors with AVX-512 or AMX, so it "
        "gets zeros, no stride, or float32",
    ),
    Guard(
        "oneDNN is wrong for a part",  # the same
        split_by_xla_with_onednn,
        lambda p: bool(onednn_faults.remedy(p, split=True)),
        wrong=("direct",),
        instead=("channels_last",),
        why="oneDNN computes some convolutions of 16-bit numbers wrongly on processors with AMX, "
        "and XLA's split decides which, so it is computed in float32",
    ),
    Guard(
        "oneDNN is wrong for one number of a part",  # the same, with AVX-512
        split_by_xla_with_onednn,
        onednn_faults.may_be_one_number,
        wrong=_LAX,
        instead=("matmul",),
        why="oneDNN computes a convolution with one result of every example wrongly on processors "
        "with AVX-512, and XLA's split decides how many outputs a part has; it computes a product "
        "of matrices rightly",
    ),
)
