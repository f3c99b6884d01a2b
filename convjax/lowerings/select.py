"""Which lowering a convolution gets, on which platform, and why."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from convjax import compiler
from convjax.lowerings import LOWERINGS, block_diagonal, depth_fold, depth_sum, patchify, per_group, taps
from convjax.lowerings.call import Problem, correlates, count, is_product
from convjax.lowerings.patches import crops

ROLES = ("forward", "input_gradient", "kernel_gradient")


class Choice(NamedTuple):
    """A lowering's name, the rule that chose it, and what would have run without it (or None)."""

    name: str
    rule: str
    runner_up: str | None = None


class Rule(NamedTuple):
    """`lowering` is chosen where `holds`, because of what `why` says."""

    lowering: str
    holds: Callable[[Problem], bool]
    why: str


def _pairs(problem: Problem) -> float:
    """Products per group and tap (or window position): pairs of channels."""
    return count((problem.n if taps.by_rows(problem) else problem.i, problem.o))


# Seen on jaxlib 0.10.2, not on 0.12.0.
_CROPPED = Rule(
    "channels_last",
    lambda p: p.groups == 1 and any(crops(p.geometry)),
    "cpu: XLA's convolution reads beyond an input that is cropped before and padded after",
)


def _tiles(problem: Problem) -> bool:
    """Whether something is made of tiles, and lax is not as fast: it is in a plane of windows."""
    made = patchify.tiled(problem)
    return made is not None and (made != "windows" or problem.geometry.rank > 2)


def _ynnpack(problem: Problem) -> bool:
    """Whether XLA on CPU gives it to YNNPACK, which is slower there than Eigen."""
    if not _dense_plane(problem):
        return False
    if not correlates(problem):
        return compiler.has_slow_ynnpack()
    spread = any(d > 1 for d in problem.geometry.kernel_dilation)
    return compiler.uses_ynnpack() if spread else compiler.has_slow_ynnpack_for_large_windows()


def _dense_plane(problem: Problem) -> bool:
    """Whether XLA on CPU would give it to YNNPACK, whatever its extents, if it has YNNPACK."""
    narrow_float = jnp.issubdtype(problem.dtype, jnp.floating) and problem.dtype.itemsize <= 4
    return (
        problem.groups == 1
        and problem.geometry.rank == 2
        and narrow_float
        and max(count((problem.i,)), count((problem.o,))) > 16
        and all(d == 1 for d in problem.geometry.input_dilation)
    )


def _folded_sooner(problem: Problem) -> bool:
    """Whether it has fewer than 8 input channels (in a kernel's gradient: examples).

    Eigen gathers windows channel by channel, and is slower then than folding one axis of the window
    into channels. This concerns what YNNPACK would compute slowly, and kernels' gradients that
    Eigen computes. Where YNNPACK is fast, it keeps the convolution.
    """
    here = _ynnpack(problem)
    if correlates(problem) and not compiler.uses_ynnpack():
        here = _dense_plane(problem)
    few = count((problem.i,)) < 8 and not _few_products(problem)
    return here and few and _few_copies(problem)


def _gathered_fast(problem: Problem) -> bool:
    """Whether Eigen gathers spread rows fast enough.

    It does where enough channels lie side by side, and enough products use what was gathered.
    """
    return count((problem.o,)) >= 16 and count((problem.i,)) >= (8 if correlates(problem) else 16)


def _few_copies(problem: Problem) -> bool:
    """Whether folding an axis of the window into channels copies the input only a few times."""
    if math.inf in (count(problem.space), count(problem.window)):
        return False
    most = 3 if compiler.has_fast_ynnpack() else 8
    return depth_fold.copies(problem) <= most


def _few_products(problem: Problem) -> bool:
    """Whether an output sums so few products (three colours under 3x3) that copies cost more."""
    return count((*problem.window, problem.i)) <= 27


def _few_outputs(problem: Problem) -> bool:
    """Whether there are few output channels under a large window.

    Few means that ``window[0] * O`` is at most I, or at most 3*I if the results are small. Then one
    convolution with the rows of taps as output channels, and a sum, is cheaper than Eigen's
    convolution: Eigen gathers ``prod(window) * I`` inputs per output, which takes longer than to
    multiply them.
    """
    if not _few_cut_off(problem) or problem.geometry.rank != 2 or problem.geometry.strides[0] != 1:
        return False
    gathered = count((problem.n, *problem.out_space, *problem.window, problem.i))
    wide_float = problem.dtype in (jnp.float32, jnp.float64)  # others XLA widens, or sums by itself
    if not wide_float or not 1 << 20 < gathered < math.inf:
        return False
    fewest = 8 if compiler.has_fast_ynnpack() else 1
    results = problem.window[0] * problem.o
    small = 4 * problem.n * depth_sum.elements_moved(problem) <= 4 << 20 and problem.o <= 32
    return (
        problem.window[0] > 1
        and problem.o >= fewest
        and results <= (3 * problem.i if small else problem.i)
    )


def _few_cut_off(problem: Problem) -> bool:
    """Whether `depth_sum` accepts it, and computes few results that are cut off again."""
    if correlates(problem) or depth_sum.accepts(problem) is not None:
        return False
    (stride, *_), (period, *_) = problem.geometry.strides, problem.geometry.input_dilation
    return 2 * -(-problem.space[0] * period // stride) <= 3 * problem.out_space[0]


def _sooner_summed(problem: Problem) -> bool:
    """Whether adding results of depths moves less than folding depths into inputs."""
    if not _few_cut_off(problem):
        return False
    moved = (depth_sum.elements_moved(problem), depth_fold.elements_moved(problem))
    return moved[0] <= moved[1] < math.inf


_DILATED = Rule(
    "polyphase",
    lambda p: any(d > 1 for d in p.geometry.input_dilation),
    "cpu: lax multiplies the zeros between the elements of a dilated input",
)

# The first rule that holds decides.
_CPU = (
    Rule(
        "patchify",
        lambda p: not is_product(p) and _pairs(p) > 16 and _tiles(p),
        "cpu: what tiles is one matrix product",
    ),
    Rule(
        "per_group",
        lambda p: _DILATED.holds(p) and p.groups != 1 and _pairs(p) > 16 and not is_product(p),
        "cpu: the phases of a dilated input interleave sooner within a group",
    ),
    Rule(
        "depth_sum",
        lambda p: (
            p.geometry.rank == 3
            and p.geometry.input_dilation[1:] == (1, 1)
            and _DILATED.holds(p)
            and _sooner_summed(p)
        ),
        "cpu: the phases of a dilated plane have a fast path, those of a volume have not",
    ),
    _DILATED,
    Rule(
        "taps",
        lambda p: p.groups != 1 and _pairs(p) <= 16,
        "cpu: lax's groups of few channels are computed one element at a time",
    ),
    Rule(
        "per_group",
        lambda p: is_product(p) and p.groups != 1 and count((p.groups,)) <= per_group.WRITTEN_OUT,
        "cpu: a product for all groups moves them before all others, and moves them back",
    ),
    Rule(
        "matmul",
        lambda p: is_product(p),
        "cpu: a window of one element is a matrix product",
    ),
    Rule(
        "per_group",
        lambda p: p.groups != 1,
        "cpu: lax's groups miss the fast path of dense convolutions",
    ),
    Rule(
        "matmul",
        lambda p: p.groups != 1 and correlates(p),
        # Seen on jaxlib 0.10.2 and 0.12.0: a NaN in a cotangent reaches kernels of other groups.
        "cpu: lax's gradient of a grouped kernel mixes the groups, slowly, and a NaN with them",
    ),
    Rule(
        "depth_sum",
        lambda p: p.groups == 1 and p.geometry.rank == 3 and _sooner_summed(p),
        "cpu: two dimensions have a fast path, three have not",
    ),
    Rule(
        "depth_fold",
        lambda p: p.groups == 1 and p.geometry.rank == 3,
        "cpu: two dimensions have a fast path, three have not",
    ),
    Rule(
        "depth_sum",
        _few_outputs,
        "cpu: gathering inputs for every tap takes longer than multiplying them by few outputs",
    ),
    Rule(
        "spread_rows",
        lambda p: _ynnpack(p) and _gathered_fast(p),
        "cpu: YNNPACK's convolutions are slow, and skip those of dilated inputs",
    ),
    Rule(
        "depth_fold",
        _folded_sooner,
        "cpu: of few channels, or examples, two dimensions are slower than one",
    ),
    _CROPPED,
    Rule(
        "channels_last",
        lambda p: p.groups == 1 and not p.channels_last,
        "cpu: the fast path of dense convolutions wants channels last, in loops too",
    ),
)

# A device's part of a volume: its lowering may not take many times the memory of the part. Measured
# by XLA's count on jaxlib 0.10.2 and 0.12.0, a 3x3x3 gradient of (1, 64, 64, 64, 16) over 4 x 2
# devices: 20 MiB a device with `depth_fold`, 12 with these, 8 with lax's own convolution.
_CPU_PART = (
    Rule(
        "depth_sum",
        lambda p: p.groups == 1 and p.geometry.rank == 3 and not correlates(p),
        "cpu, several devices: two dimensions have a fast path, and nothing is copied",
    ),
    Rule(
        "direct",
        lambda p: p.groups == 1 and p.geometry.rank == 3 and correlates(p),
        "cpu, several devices: a faster gradient of a volume's kernel would copy the volume",
    ),
)

# Where XLA splits a convolution over devices. Seen on jaxlib 0.10.2 and 0.12.0 on meshes of several
# axes: lax's gradient of a grouped kernel, with only the batch sharded, is wrong.
_GROUPED_GRADIENT = Rule(
    "matmul",
    lambda p: p.groups != 1 and p.role == "kernel_gradient",
    "several devices: XLA's partitioner miscounts lax's gradient of a grouped kernel",
)
_CPU_SPLIT_BY_XLA = (
    _CROPPED,
    Rule(
        "taps",
        lambda p: p.groups != 1 and _pairs(p) <= 16,
        "cpu, several devices: lax's grouped convolution gathers all groups",
    ),
    Rule(
        "matmul",
        lambda p: p.groups != 1,
        "cpu, several devices: lax's grouped convolution gathers all groups",
    ),
)


def _narrow(problem: Problem) -> int:
    """Channels of a group that XLA for TPU leaves alone with most of the matrix unit."""
    return 32 if problem.role == "kernel_gradient" else 63


# Compiled for TPU v5e and v6e, and not timed: cycles by XLA's estimate (`benchmarks/devices`).
_TPU = (
    Rule(
        "block_diagonal",
        lambda p: is_product(p) and p.role != "kernel_gradient",
        "tpu, compiled only: a product of all groups fills the matrix unit, XLA's groups do not",
    ),
    Rule(
        "block_diagonal",
        lambda p: not is_product(p) and 1 < block_diagonal.channels(p) <= _narrow(p),
        "tpu, compiled only: a group of few channels leaves the matrix unit idle",
    ),
)


def _rules(platform: str, split_by_xla: bool, part: bool) -> tuple[Rule, ...]:
    if part and platform == "cpu":
        return (*_CPU_PART, *_CPU)
    if split_by_xla:
        return (_GROUPED_GRADIENT, *(_CPU_SPLIT_BY_XLA if platform == "cpu" else ()))
    return {"cpu": _CPU, "tpu": _TPU}.get(platform, ())


def select(
    problem: Problem, platform: str, split_by_xla: bool = False, part: bool = False
) -> Choice:
    """The lowering for `problem`.

    Args:
        problem: sizes, geometry, dtype and role of the convolution.
        platform: "cpu", "cuda", "rocm", "tpu", or another that JAX lowers for.
        split_by_xla: whether XLA splits it over devices, and not this library: then only what XLA
            splits rightly is eligible.
        part: whether it is one device's part of a convolution that this library splits.
    """
    found: list[Rule] = [
        rule
        for rule in _rules(platform, split_by_xla, part)
        if rule.holds(problem) and LOWERINGS[rule.lowering].accepts(problem) is None
    ]
    if not found:
        return Choice("direct", f"{platform}: no other lowering is measured to be faster")
    others = (rule.lowering for rule in found if rule.lowering != found[0].lowering)
    return Choice(found[0].lowering, found[0].why, next(others, "direct"))


def forced(
    problem: Problem,
    algorithm: Any,
    platform: str,
    split_by_xla: bool = False,
    part: bool = False,
) -> Choice:
    """The lowering for `problem` under the caller's `algorithm`: None, a name, or a triple.

    A triple names the lowering of the forward operation, the input's gradient and the kernel's
    gradient. A single name is used for the gradients where it accepts them. `part` says that
    the whole problem was accepted, and this is a device's part of it.
    """
    if algorithm is None:
        return select(problem, platform, split_by_xla, part)
    hard = not isinstance(algorithm, str)
    name = algorithm[ROLES.index(problem.role)] if hard else algorithm
    if name is None:
        return select(problem, platform, split_by_xla, part)
    refusal = LOWERINGS[name].accepts(problem)
    if refusal is None:
        unforced = select(problem, platform, split_by_xla, part)
        return Choice(name, "forced by `algorithm`", unforced.name)
    if not part and (hard or problem.role == "forward"):
        raise ValueError(
            f"algorithm {name!r} cannot execute this convolution ({problem.role}): {refusal}"
        )
    return select(problem, platform, split_by_xla, part)
