"""Strips of outputs whose windows lie on the padding in the same way: no padding is written."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax import lax

from convjax._core.geometry import Geometry
from convjax._lowerings.tools.slices import known, piece


class Strip(NamedTuple):
    """Outputs ``begin <= o < end`` on one axis, each of which meets the input with these taps, and
    padding with the others."""

    begin: int
    end: int
    taps: list[int]


def strips(geometry: Geometry, space: Sequence[Any], window: Sequence[Any]) -> list[list[Strip]]:
    """The strips of every axis, in order; none at all where a size is symbolic, or the input is
    dilated."""
    out_space = geometry.output_space(tuple(space), tuple(window))
    if not known(geometry, space, window) or any(d != 1 for d in geometry.input_dilation):
        return []
    return [
        _of_axis(geometry.along(slice(axis, axis + 1)), *sizes)
        for axis, sizes in enumerate(zip(space, window, out_space, strict=True))
    ]


def _of_axis(geometry: Geometry, size: int, taps: int, outputs: int) -> list[Strip]:
    (stride,), (dilation,), ((low, _),) = (
        geometry.strides, geometry.kernel_dilation, geometry.padding
    )  # fmt: skip

    def from_where(element: int, tap: int) -> int:
        """The first output that meets an element no earlier than this one."""
        return min(max(0, -(-(element + low - tap * dilation) // stride)), outputs)

    spans = [(from_where(0, tap), from_where(size, tap)) for tap in range(taps)]
    bounds = sorted({0, outputs, *itertools.chain.from_iterable(spans)})
    return [
        Strip(begin, end, [tap for tap, (first, last) in enumerate(spans) if first <= begin < last])
        for begin, end in itertools.pairwise(bounds)
    ]


def pieces_of(
    x: jax.Array, geometry: Geometry, first: int, region: Sequence[Strip]
) -> Iterator[tuple[tuple[int, ...], jax.Array]]:
    """Every tap that meets the input for the outputs of a strip on each axis, and what it meets of
    `x`, whose spatial axes start at `first`."""
    sizes = [strip.end - strip.begin for strip in region]
    lows = [low for low, _ in geometry.padding]
    steps = geometry.kernel_dilation
    corner = [
        strip.begin * stride - low
        for strip, stride, low in zip(region, geometry.strides, lows, strict=True)
    ]
    for tap in itertools.product(*(strip.taps for strip in region)):
        starts = [at + t * step for at, t, step in zip(corner, tap, steps, strict=True)]
        yield tap, piece(x, first, starts, geometry.strides, sizes)


def joined(parts: Sequence[jax.Array], first: int, axes: Sequence[Sequence[Strip]]) -> jax.Array:
    """The whole of which `parts` are one for every combination of strips, the last axis fastest."""
    for axis in reversed(range(len(axes))):
        number = len(axes[axis])
        rows = [parts[i : i + number] for i in range(0, len(parts), number)]
        parts = [row[0] if number == 1 else lax.concatenate(row, first + axis) for row in rows]
    (whole,) = parts
    return whole
