"""Where a window stands on an input: padding, inserted zeros, copies beyond the edge. Integers."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from convjax._core.geometry import Geometry, dilated
from convjax._core.options import DEFAULTS
from convjax._functional.prepare import Names, placed, spatial_steps

REAL, PADDING, INSERTED, COPY, CROPPED = "real", "padding", "inserted", "copy", "cropped"


@dataclasses.dataclass(frozen=True)
class Window:
    """A window of taps that moves over one tensor. One entry per spatial axis everywhere.

    The canvas is the tensor with zeros inserted between its elements and with its padding;
    negative padding crops, and what it crops stays on the canvas.

    Attributes:
        space: extents of the tensor.
        size: taps of the window.
        geometry: strides, padding and dilations.
        modes: what lies beyond the edge.
    """

    space: tuple[int, ...]
    size: tuple[int, ...]
    geometry: Geometry
    modes: tuple[str, ...]

    @property
    def canvas(self) -> tuple[int, ...]:
        """Extents of the canvas."""
        return tuple(len(self.line(axis)) for axis in range(len(self.space)))

    def line(self, axis: int) -> list[tuple[str, int]]:
        """What each place of the canvas's axis is, and the element that it holds; -1 for none."""
        n, hole = self.space[axis], self.geometry.input_dilation[axis]
        lo, hi = self.geometry.padding[axis]
        inside = [
            (REAL, place // hole) if place % hole == 0 else (INSERTED, -1)
            for place in range(dilated(n, hole))
        ]
        before, after = max(lo, 0), max(hi, 0)
        if self.modes[axis] == "constant":
            found = [(PADDING, -1)] * before + inside + [(PADDING, -1)] * after
        else:
            sources = np.pad(np.arange(n), (before, after), mode=self.modes[axis])  # type: ignore[call-overload]
            found = [(COPY, int(source)) for source in sources]
            found[before : before + n] = inside
        for place in [*range(max(-lo, 0)), *range(len(found) - max(-hi, 0), len(found))]:
            found[place] = (CROPPED, found[place][1])
        return found

    def first(self, output: Sequence[int]) -> tuple[int, ...]:
        """The canvas place of the first tap of an output."""
        return tuple(
            o * s + max(-lo, 0)
            for o, s, (lo, _) in zip(
                output, self.geometry.strides, self.geometry.padding, strict=True
            )
        )

    def taps(self, output: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """The canvas places of all taps of an output."""
        steps = self.geometry.kernel_dilation
        yield from itertools.product(
            *(
                range(first, first + (k - 1) * d + 1, d)
                for first, k, d in zip(self.first(output), self.size, steps, strict=True)
            )
        )

    def extent(self) -> tuple[int, ...]:
        """How far the window reaches on the canvas: k̂."""
        steps = self.geometry.kernel_dilation
        return tuple(dilated(k, d) for k, d in zip(self.size, steps, strict=True))

    def place(self, place: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        """What a canvas place is, and the element that it holds.

        One axis on padding makes the place padding, whatever the others are.
        """
        entries = [self.line(axis)[index] for axis, index in enumerate(place)]
        kinds = {kind for kind, _ in entries}
        element = tuple(source for _, source in entries)
        for kind in (CROPPED, PADDING, INSERTED, COPY):
            if kind in kinds:
                return kind, element
        return REAL, element

    def where(self, element: Sequence[int]) -> tuple[int, ...]:
        """The canvas place of an element."""
        return tuple(
            max(lo, 0) + e * hole
            for e, hole, (lo, _) in zip(
                element, self.geometry.input_dilation, self.geometry.padding, strict=True
            )
        )


def window_of(function: str, space: Sequence[int], size: Sequence[int], **options: Any) -> Window:
    """The window of `convjax.conv` with these options, of which some may not move it."""
    space, size = tuple(space), tuple(size)
    given = {**DEFAULTS, **options}
    steps = spatial_steps(function, given, len(space))
    names = Names(function, kernel="kernel_size")
    geometry, extension, modes = placed(names, space, size, given, steps, 0 in space)
    for axis, (low, high) in enumerate(extension):  # the canvas has what the modes fill, too
        lo, hi = geometry.padding[axis]
        geometry = geometry.padded(axis, (lo + low, hi + high))
    return Window(space, size, geometry, modes)


def transposed_window_of(
    function: str,
    space: Sequence[int],
    size: Sequence[int],
    out_space: Sequence[int],
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    kernel_dilation: Any = 1,
    **others: Any,
) -> Window | None:
    """The window of the direct convolution that equals `convjax.conv_transpose`.

    Zeros are inserted between the inputs, the kernel is turned round (relation 14). None where the
    border is not of zeros: then the transpose adds what the border would have copied.
    """
    out_space = tuple(out_space)
    options = {"strides": strides, "padding": padding, "kernel_dilation": kernel_dilation}
    forward = window_of(function, out_space, size, padding_mode=padding_mode, **options)
    if set(forward.modes) != {"constant"}:
        return None
    direct = forward.geometry.input_gradient(out_space, forward.size)
    return Window(tuple(space), forward.size, direct, forward.modes)
