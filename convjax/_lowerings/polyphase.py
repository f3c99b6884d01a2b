"""The `polyphase` lowering: a dilated input's convolution without the zeros between its elements.

Outputs whose distance is a period read input elements under the same taps. Each such phase is a
convolution of the input as it is with a part of the kernel, and the phases interleave. Where the
parts of the kernel have one size, the phases are channels of one convolution.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.geometry import Geometry, dilated
from convjax._core.layout import arranged, canonical, restored
from convjax._lowerings.lowering import Chosen, Lowering
from convjax._lowerings.problem import Call, Problem, count
from convjax._lowerings.tools.slices import cropped, cropped_space, padded, reversed_where
from convjax._sharding.sharding import same_varying

_PHASES = 64
_WASTE = 1.5  # times the outputs that are needed, at most, where all phases are one convolution


class Phase(NamedTuple):
    """On one axis: outputs of one residue, and the taps that reach input elements there."""

    tap: int  # the first of the kernel's taps; the next ones follow at a distance of `tap_step`
    tap_step: int
    taps: int
    first: int  # the input element that output 0 of the phase and the first tap meet
    stride: int
    dilation: int
    input_dilation: int = 1  # other than 1 on an axis that is left as it is


def period(stride: int, input_dilation: int) -> int:
    """After how many outputs the same taps meet input elements again."""
    return input_dilation // math.gcd(stride, input_dilation)


def phases(
    taps: int, stride: int, low: int, input_dilation: int, kernel_dilation: int
) -> list[Phase]:
    """The phases of one axis.

    Output ``o`` and tap ``t`` meet the input at ``(o*s + t*d - low) / e`` where ``e`` divides it.
    """
    s, e, d = stride, input_dilation, kernel_dilation
    step = e // math.gcd(d, e)
    found = []
    for residue in range(period(s, e)):
        start = residue * s - low
        tap = next((t for t in range(step) if (start + t * d) % e == 0), taps)
        found.append(
            Phase(
                tap=min(tap, taps),
                tap_step=step,
                taps=max(0, -(-(taps - tap) // step)),
                first=(start + tap * d) // e,
                stride=s * period(s, e) // e,
                dilation=step * d // e,
            )
        )
    return found


def accepts(problem: Problem) -> str | None:
    geometry = problem.geometry
    if all(dilation == 1 for dilation in geometry.input_dilation):
        return "its input is not dilated"
    if math.inf in map(count, (problem.window, problem.space, problem.out_space)):
        return f"it has a symbolic size among {problem.space} and {problem.window}"
    number = _number(geometry)
    if number <= _PHASES:
        return None
    if problem.groups == 1 and _alike(problem.window, geometry, problem.out_space):
        return None
    return f"it has more than {_PHASES} phases ({number}), which differ in their taps"


def isolated(problem: Problem, chosen: Chosen) -> bool:
    """Whether XLA would repeat the phases for every reader of the result.

    It would where they are sums: of taps in groups, of results in volumes and where `depth_sum` is
    chosen for a phase. For a kernel's gradient, the copy of the input would be made in the forward
    pass.
    """
    if problem.role == "kernel_gradient" or problem.groups != 1 or problem.geometry.rank == 3:
        return True
    return any(chosen(phase) == "depth_sum" for phase in _problems(problem))


def _problems(problem: Problem) -> Iterator[Problem]:
    """What is asked of the lowerings for the phases of a convolution in one group."""
    geometry = problem.geometry
    if _alike(problem.window, geometry, problem.out_space):
        axes = _extents(problem.window, geometry, problem.out_space)
        of_phases = [(_all_phases(axes, problem.space), [extent.taps for extent in axes])]
        lengths = [extent.length for extent in axes]
        channels = problem.o * math.prod(geometry.input_dilation)
    else:
        found = _phases_of(problem.window, geometry)
        lengths = _lengths(found, problem.out_space)
        of_phases = [
            (_geometry(phase, problem.space, lengths), [axis.taps for axis in phase])
            for phase in itertools.product(*found)
            if all(axis.taps for axis in phase)
        ]
        channels = problem.o
    for part, taps in of_phases:
        starts, ends, part = cropped_space(problem.space, part)
        yield problem._replace(
            o=channels,
            space=tuple(end - start for start, end in zip(starts, ends, strict=True)),
            window=tuple(taps),
            out_space=tuple(lengths),
            geometry=part,
            role="forward",
            channels_last=True,
        )


def _number(geometry: Geometry) -> int:
    """How many phases there are."""
    return math.prod(map(period, geometry.strides, geometry.input_dilation))


def _widest(pairs: list[tuple[int, int]]) -> tuple[int, int]:
    """The padding on one axis that covers all of `pairs`."""
    return max([0, *(low for low, _ in pairs)]), max([0, *(high for _, high in pairs)])


def _only_padding(padding: list[tuple[int, int]]) -> Geometry:
    ones = (1,) * len(padding)
    return Geometry(ones, tuple(padding), ones, ones)


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    layout, geometry, shape = call.layout, call.geometry, call.out_shape(x, kernel)
    out_space = tuple(shape[axis] for axis in layout.out.space)
    group = "group " if layout.x.group else ""
    x = arranged(x, layout.x, f"batch space {group}contract")
    kernel = arranged(kernel, layout.kernel, f"space {group}contract out")
    kernel = reversed_where(kernel, geometry, 0, hidden=call.target.onednn)
    alike = not group and not call.is_split_by_xla and _alike(kernel.shape, geometry, out_space)
    y = (_phases_as_channels if alike else _phase_by_phase)(x, kernel, call, out_space)
    if y is None:  # every tap falls between elements of the input
        return same_varying(jnp.zeros(shape, call.result_type(x)), x, kernel)[0]
    return restored(y, layout.out, f"batch space {group}out", shape)


class Extent(NamedTuple):
    """The phases of one axis with stride 1 and input dilation e.

    Output ``e*m + low - r`` reads input ``m + a`` under tap ``e*a + r``, for a phase r below e.

    Attributes:
        first: the least m of all outputs.
        length: how many m cover all outputs.
        taps: how many a there are; the same number for every phase.
    """

    first: int
    length: int
    taps: int


def _extent(window: int, low: int, input_dilation: int, out: int) -> Extent:
    first, last = -(low // input_dilation), -((low + 1 - out) // input_dilation)
    return Extent(first, last - first + 1, window // input_dilation)


def _extents(window: Sequence[int], geometry: Geometry, out_space: Sequence[int]) -> list[Extent]:
    lows = [low for low, _ in geometry.padding]
    return list(map(_extent, window, lows, geometry.input_dilation, out_space))


def _all_phases(axes: Sequence[Extent], space: Sequence[int]) -> Geometry:
    """The geometry of the convolution of which all phases are channels."""
    return _only_padding([
        (-axis.first, axis.first + axis.length - 1 + axis.taps - size)
        for axis, size in zip(axes, space, strict=False)
    ])  # fmt: skip


def _alike(window: Sequence[int], geometry: Geometry, out_space: Sequence[int]) -> bool:
    """Whether all phases have the same taps and are about as long.

    Taps of zero would make them alike, but turn an Inf that they meet into a NaN.
    """
    if any(step != 1 for step in (*geometry.strides, *geometry.kernel_dilation)):
        return False
    axes = list(zip(window, geometry.input_dilation, out_space, strict=False))
    if any(taps % e != 0 for taps, e, _ in axes):
        return False
    lengths = [extent.length for extent in _extents(window, geometry, out_space)]
    computed = math.prod(n * e for n, (_, e, _) in zip(lengths, axes, strict=True))
    return computed <= _WASTE * math.prod(out_space)


def _phases_as_channels(x: jax.Array, kernel: jax.Array, call: Call, out_space: Any) -> jax.Array:
    """(N, *out_space, O): phases as channels of one convolution, which are then interleaved."""
    rank, periods = call.geometry.rank, call.geometry.input_dilation
    axes = _extents(kernel.shape[:rank], call.geometry, out_space)
    kernel = _cut_into_phases(kernel, [extent.taps for extent in axes], periods)
    x, geometry = cropped(x, _all_phases(axes, x.shape[1:]), 1)
    y = call.again(x, kernel, layout=canonical(rank).ungrouped(), geometry=geometry, role="forward")
    y = y.reshape(*y.shape[: rank + 1], *periods, -1)
    y = _interleaved(y, 0, range(1, rank + 1), range(rank + 1, 2 * rank + 1))
    starts = [e - 1 - low % e for e, (low, _) in zip(periods, call.geometry.padding, strict=True)]
    ends = [start + out for start, out in zip(starts, out_space, strict=True)]
    return lax.slice(y, [0, *starts, 0], [y.shape[0], *ends, y.shape[-1]])


def _cut_into_phases(kernel: jax.Array, taps: Sequence[int], periods: Sequence[int]) -> jax.Array:
    """(*taps, I, phases and O) of (*window, I, O), the last phase of every axis first."""
    rank = len(taps)
    pairs = itertools.chain.from_iterable(zip(taps, periods, strict=True))
    kernel = kernel.reshape(*pairs, *kernel.shape[rank:])
    kernel = lax.rev(kernel, range(1, 2 * rank, 2))
    order = [*range(0, 2 * rank, 2), 2 * rank, *range(1, 2 * rank, 2), 2 * rank + 1]
    return lax.transpose(kernel, order).reshape(*taps, kernel.shape[-2], -1)


def _interleaved(
    y: jax.Array, batch: int, lengths: Sequence[int], periods: Sequence[int]
) -> jax.Array:
    """(N, *space, ...): on each spatial axis the phases that lie on two axes of `y`, in turn."""
    pairs = list(itertools.chain.from_iterable(zip(lengths, periods, strict=True)))
    rest = [axis for axis in range(y.ndim) if axis not in (batch, *pairs)]
    space = [y.shape[a] * y.shape[b] for a, b in zip(lengths, periods, strict=True)]
    y = lax.transpose(y, [batch, *pairs, *rest])
    return y.reshape(y.shape[0], *space, *y.shape[1 + len(pairs) :])


Phases = Sequence[Phase]  # one of each axis


def _phases_of(window: Sequence[int], geometry: Geometry) -> list[list[Phase]]:
    """The phases of every axis."""
    # A volume's planes first: depths of one phase of them are summed before phases interleave.
    planes_first = geometry.rank == 3 and any(e > 1 for e in geometry.input_dilation[1:])
    axes = []
    for axis in range(geometry.rank):
        s, (low, _) = geometry.strides[axis], geometry.padding[axis]
        e, d = geometry.input_dilation[axis], geometry.kernel_dilation[axis]
        if axis == 0 and planes_first:
            axes.append([Phase(0, 1, window[axis], -low, s, d, e)])
        else:
            axes.append(phases(window[axis], s, low, e, d))
    return axes


def _lengths(axes: Sequence[Phases], out_space: Sequence[int]) -> list[int]:
    """How many outputs a phase has on every axis."""
    return [-(-out // len(found)) for out, found in zip(out_space, axes, strict=True)]


def _needed(phase: Phase, length: int, size: int) -> tuple[int, int]:
    """How many elements before and after the input, `size` long, the outputs of a phase read."""
    reach = (length - 1) * phase.stride + (phase.taps - 1) * phase.dilation + 1
    return -phase.first, phase.first + reach - dilated(size, phase.input_dilation)


def _geometry(
    chosen: Phases, space: Sequence[int], lengths: Sequence[int], margins: Any = None
) -> Geometry:
    """The geometry of one phase on an input that has these `margins` already."""
    pads = list(map(_needed, chosen, lengths, space))
    if margins is not None:
        pads = [
            (low - before, high - after)
            for (low, high), (before, after) in zip(pads, margins, strict=True)
        ]
    return Geometry(
        strides=tuple(phase.stride for phase in chosen),
        padding=tuple(pads),
        input_dilation=tuple(phase.input_dilation for phase in chosen),
        kernel_dilation=tuple(phase.dilation for phase in chosen),
    )


def _phase_by_phase(
    x: jax.Array, kernel: jax.Array, call: Call, out_space: Any
) -> jax.Array | None:
    """(N, *out_space, G, O): a convolution for every phase; None where none has a tap."""
    rank = call.geometry.rank
    inner = canonical(rank)
    if not call.layout.x.group:
        inner = inner.ungrouped()
    axes = _phases_of(kernel.shape[:rank], call.geometry)
    periods, lengths = [len(found) for found in axes], _lengths(axes, out_space)
    space = x.shape[1 : rank + 1]

    margins = [(0, 0)] * rank
    if call.layout.x.group and not call.is_split_by_xla:
        # Groups are convolved by taps, which would pad the input once for every phase.
        margins = [
            _widest([
                _needed(phase, length, size)
                for phase in found
                if phase.taps and phase.input_dilation == 1
            ])
            for found, length, size in zip(axes, lengths, space, strict=True)
        ]  # fmt: skip
        x = padded(x, _only_padding(margins), 1)

    def convolved(chosen: Phases) -> jax.Array:
        inside, phase = cropped(x, _geometry(chosen, space, lengths, margins), 1)
        part = kernel[tuple(slice(p.tap, None, p.tap_step) for p in chosen)]
        return call.again(inside, part, layout=inner, geometry=phase, role="forward")

    parts = [
        convolved(chosen) if all(phase.taps for phase in chosen) else None
        for chosen in itertools.product(*axes)
    ]
    known = next((part for part in parts if part is not None), None)
    if known is None:
        return None
    y = jnp.stack([jnp.zeros_like(known) if part is None else part for part in parts])
    y = y.reshape(*periods, *known.shape)
    y = _interleaved(y, rank, range(rank + 1, 2 * rank + 1), range(rank))
    return y[(slice(None), *(slice(out) for out in out_space))]


LOWERING = Lowering("polyphase", run, accepts, isolated)
