"""The `polyphase` lowering: a dilated input's convolution without the zeros between its elements.

Outputs that lie a period apart meet the same taps on input elements. Each such phase is a
convolution of the input as it is with a part of the kernel, and the phases interleave.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax.geometry import Geometry
from convjax.layout import arranged, canonical, restored
from convjax.lowerings.call import Call, Problem, count
from convjax.lowerings.patches import cropped, padded, reversed_where
from convjax.sharding import same_varying

_PHASES = 64


class Phase(NamedTuple):
    """On one axis: outputs of one residue, and the taps that reach input elements there."""

    tap: int  # the first of the kernel's taps, `tap_step` apart from the next
    tap_step: int
    taps: int
    first: int  # the input element that output 0 of the phase and the first tap meet
    stride: int
    dilation: int


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
    """Why not, or None."""
    geometry = problem.geometry
    if all(dilation == 1 for dilation in geometry.input_dilation):
        return "its input is not dilated"
    if math.inf in map(count, (problem.window, problem.space, problem.out_space)):
        return f"it has a symbolic size among {problem.space} and {problem.window}"
    periods = math.prod(map(period, geometry.strides, geometry.input_dilation))
    return None if periods <= _PHASES else f"it has more than {_PHASES} phases ({periods})"


def partitionable(problem: Problem) -> bool:
    """Phases are strided slices; they interleave as the minor part of an axis, where they lie."""
    return True


def _widest(pairs: list[tuple[int, int]]) -> tuple[int, int]:
    """The padding on one axis that covers all of `pairs`."""
    return max([0, *(low for low, _ in pairs)]), max([0, *(high for _, high in pairs)])


def _padding_alone(padding: list[tuple[int, int]]) -> Geometry:
    ones = (1,) * len(padding)
    return Geometry(ones, tuple(padding), ones, ones)


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    """The convolution; `x`, `kernel` and the result in the caller's layout."""
    layout, geometry, rank = call.layout, call.geometry, call.geometry.rank
    shape = call.out_shape(x, kernel)
    out_space = [shape[axis] for axis in layout.out.space]
    inner, group = canonical(rank), "group "
    if not layout.x.group:
        inner, group = inner.ungrouped(), ""
    x = arranged(x, layout.x, f"batch space {group}contract")
    kernel = arranged(kernel, layout.kernel, f"space {group}contract out")
    kernel = reversed_where(kernel, geometry, 0)

    axes = [
        phases(kernel.shape[a], geometry.strides[a], geometry.padding[a][0],
               geometry.input_dilation[a], geometry.kernel_dilation[a])
        for a in range(rank)
    ]  # fmt: skip
    periods = [len(found) for found in axes]
    lengths = [-(-out // step) for out, step in zip(out_space, periods, strict=True)]

    def needed(phase: Phase, axis: int) -> tuple[int, int]:
        """How many elements before and after the input the phase reads."""
        reach = (lengths[axis] - 1) * phase.stride + (phase.taps - 1) * phase.dilation + 1
        return -phase.first, phase.first + reach - space[axis]

    space = x.shape[1 : rank + 1]
    margins = [(0, 0)] * rank
    if group and not call.partitioned:
        # Groups are convolved by taps, which would pad the input once for every phase.
        margins = [_widest([needed(p, a) for p in axes[a] if p.taps]) for a in range(rank)]
        x = padded(x, _padding_alone(margins), 1)

    def convolved(chosen: list[Phase]) -> jax.Array:
        part = kernel[tuple(slice(p.tap, None, p.tap_step) for p in chosen)]
        padding = [
            (low - before, high - after)
            for (low, high), (before, after) in zip(
                map(needed, chosen, range(rank)), margins, strict=True
            )
        ]
        inside, geometry = cropped(x, _padding_alone(padding), 1)
        return call.convolve(
            inside,
            part,
            layout=inner,
            geometry=Geometry(
                strides=tuple(phase.stride for phase in chosen),
                padding=geometry.padding,
                input_dilation=(1,) * rank,
                kernel_dilation=tuple(phase.dilation for phase in chosen),
            ),
            role="forward",
        )

    parts: list[jax.Array | None] = []
    for index in np.ndindex(*periods):
        chosen = [found[i] for found, i in zip(axes, index, strict=True)]
        parts.append(None if any(phase.taps == 0 for phase in chosen) else convolved(chosen))
    known = next((part for part in parts if part is not None), None)
    if known is None:  # every tap falls between elements of the input
        return same_varying(jnp.zeros(shape, call.result_type(x)), x, kernel)[0]
    y = jnp.stack([jnp.zeros_like(known) if part is None else part for part in parts])
    y = y.reshape(*periods, *known.shape)
    # (*periods, N, *lengths, channels) -> (N, length, period, ..., channels)
    order = [rank] + [axis for a in range(rank) for axis in (rank + 1 + a, a)]
    y = lax.transpose(y, [*order, *range(2 * rank + 1, y.ndim)])
    extents = [n * p for n, p in zip(lengths, periods, strict=True)]
    y = y.reshape(known.shape[0], *extents, *known.shape[rank + 1 :])
    y = y[(slice(None), *(slice(out) for out in out_space))]
    return restored(y, layout.out, f"batch space {group}out", shape)
