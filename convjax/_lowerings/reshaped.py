"""The `reshaped` lowering: a convolution of the same numbers with other axes. Nothing moves.

XLA for GPUs calls the function of cuDNN that fits if it recognises a convolution by its sizes, and
keeps channels last for one or two spatial axes only. Where it does not, a reshape helps:

- The last axis, where windows tile it without padding, is cut into tiles. The elements of a tile
  become channels: a window 16x16 with stride 16 on (H, W, 3) is a window 16x1 on (H, W/16, 48).
- On a CPU with oneDNN, where rows of a plane's result are made of tiles, every row of the input
  becomes an image of one row. As much padding as the window reaches makes a tile of results of
  it: (N, H, W) under a window 2x1 becomes (N*H, 2, W), which is (N, H*2, W). Nothing interleaves.
- An only axis with dilation d is cut into rows of d elements: (L, C) becomes (L/d, d, C), and the
  window K becomes Kx1 without a dilation.
- Of three axes, those under a window of one element join the batch (the first), or become one.

For the gradient of a kernel, window and result change places.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
from jax import lax

from convjax._core.geometry import Geometry
from convjax._core.layout import Axes, Layout
from convjax._lowerings.lowering import Lowering, never
from convjax._lowerings.problem import Call, Problem, count

_PLANE = 2  # spatial axes
_KEPT, _SUMMED = "batch", "contract"  # roles of an axis of x under which the window has one place


class View(NamedTuple):
    """A convolution's operands and result, as they are reshaped."""

    x: tuple[int, ...]
    kernel: tuple[int, ...]
    out: tuple[int, ...]
    layout: Layout
    geometry: Geometry


def _viewed(shapes: list[tuple[int, ...]], layout: Layout, geometry: Geometry) -> View:
    x, kernel, out = shapes
    return View(x, kernel, out, layout, geometry)


def accepts(problem: Problem) -> str | None:
    sizes = (*problem.space, *problem.window, *problem.out_space)
    padding = [side for pair in problem.geometry.padding for side in pair]
    if count(sizes) == float("inf") or not all(isinstance(side, int) for side in padding):
        return f"it has a symbolic size among {problem.space} and {problem.window}"
    if tiles(problem) or tiled_rows(problem) or rows(problem) or planes(problem):
        return None
    return (
        f"nothing is gained by a reshape: its window {problem.window} tiles neither the last axis "
        "nor the rows of a plane's result, no single axis is dilated, and no axis of three has a "
        "window of one element"
    )


def tiles(problem: Problem) -> str | None:
    """What is made of tiles on the last axis: "x", of windows or of results; "out", of windows;
    "kernel", of results; or nothing."""
    if problem.geometry.rank == 0:
        return None
    geometry = problem.geometry.along(slice(-1, None))
    (n,), (k,), (o,) = problem.space[-1:], problem.window[-1:], problem.out_space[-1:]
    steps = (*geometry.strides, *geometry.input_dilation, *geometry.kernel_dilation)
    low = geometry.padding[0][0]
    if low == 0 and n == k * o > max(k, o) and steps in ((k, 1, 1), (1, 1, o)):
        return "x"
    if _makes_tiles(n, k, o, geometry):
        return "out"
    if low == o - 1 > 0 and k == n * o > o and steps == (1, o, 1):
        return "kernel"
    return None


def tiled_rows(problem: Problem) -> bool:
    """Whether the rows of a plane's result are made of tiles."""
    if problem.geometry.rank != _PLANE:
        return False
    sizes = (problem.space[0], problem.window[0], problem.out_space[0])
    return _makes_tiles(*sizes, problem.geometry.along(slice(0, 1)))


def _makes_tiles(n: int, k: int, o: int, geometry: Geometry) -> bool:
    """Whether every element of the only axis makes a tile of k results."""
    steps = (*geometry.strides, *geometry.input_dilation, *geometry.kernel_dilation)
    return geometry.padding[0][0] == k - 1 > 0 and o == n * k and steps == (1, k, 1)


def rows(problem: Problem) -> int:
    """How long the rows are into which the only axis is cut; 0 if it is not."""
    geometry = problem.geometry
    if geometry.rank != 1 or geometry.input_dilation != (1,):
        return 0
    (n,), (k,), (o,), ((low, _),) = (*problem[4:7], geometry.padding)
    length = max(*geometry.strides, *geometry.kernel_dilation)
    cut = o if geometry.strides == (1,) else k
    whole = (geometry.strides[0] - 1) * (geometry.kernel_dilation[0] - 1) == 0 and all(
        size % length == 0 for size in (n, cut, low)
    )
    return length if length > 1 and whole else 0


def planes(problem: Problem) -> bool:
    """Whether two of three axes are left."""
    if problem.geometry.rank != _PLANE + 1:
        return False
    roles = _roles(problem.geometry, problem.space, problem.window, problem.out_space)
    return roles[0] is not None or (roles[1] is not None and roles[1] == roles[2])


def _roles(geometry: Geometry, *extents: tuple[Any, ...]) -> list[str | None]:
    """For every axis of x, window and result: `_KEPT` where the window has one element, `_SUMMED`
    where the result has one, None elsewhere, and where steps or padding change anything."""
    found: list[str | None] = []
    for axis, (n, k, o) in enumerate(zip(*extents, strict=True)):
        one = geometry.along(slice(axis, axis + 1))
        plain = (*one.strides, *one.input_dilation, *one.kernel_dilation, *one.padding[0])
        if plain != (1, 1, 1, 0, 0):
            found.append(None)
        else:
            found.append(_KEPT if k == 1 else _SUMMED if o == 1 and k == n else None)
    return found


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    shape, geometry, problem = call.out_shape(x, kernel), call.geometry, call.problem
    made = tiles(problem)
    of_window = (made == "x" and geometry.strides[-1] > 1) or made == "out"
    if of_window and geometry.reversal == (made == "x"):
        # Elements of the window become channels, which lax does not reverse. Elements of a result
        # made of tiles meet those of the window in reverse.
        kernel = lax.rev(kernel, call.layout.kernel.space[-1:])
    view = View(x.shape, kernel.shape, shape, call.layout, geometry)
    if made == "x":
        view = _tiles_of_x(view)
    elif made == "out":
        view = _tiles_of_result(view)
    elif made == "kernel":
        view = _tiles_of_kernel(view)
    elif tiled_rows(problem):
        view = _rows_of_result(view)
    elif length := rows(problem):
        view = _cut_into_rows(view, length)
    if view.geometry.rank > _PLANE:
        view = _plane(view)
    y = call.again(
        x.reshape(view.x),
        kernel.reshape(view.kernel),
        layout=view.layout,
        geometry=view.geometry,
        role=call.role,
    ).reshape(shape)
    if made == "kernel" and not geometry.reversal:
        y = lax.rev(y, call.layout.out.space[-1:])
    return y


def _split(shape: tuple[int, ...], axis: int, sizes: tuple[int, int]) -> tuple[int, ...]:
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def _last(geometry: Geometry) -> Geometry:
    """The geometry with a last axis on which the window has one place."""
    front = geometry.along(slice(0, -1))
    return Geometry(
        (*front.strides, 1),
        (*front.padding, (0, 0)),
        (*front.input_dilation, 1),
        (*front.kernel_dilation, 1),
        geometry.reversal,
    )


def _tiles_of_x(view: View) -> View:
    """The elements of a tile are contracted with those of a window, or result by result."""
    (x, kernel, out), geometry = view.layout, view.geometry
    p, q, r = (axes.space[-1] for axes in view.layout)
    window, results = view.kernel[q], view.out[r]
    if geometry.strides[-1] == window:
        return view._replace(
            x=_split(view.x, p, (results, window)),
            kernel=_split(view.kernel, q, (1, window)),
            layout=Layout(x.inserted("contract", p + 1), kernel.inserted("contract", q + 1), out),
            geometry=_last(geometry),
        )
    return view._replace(
        x=_split(view.x, p, (window, results)),
        out=_split(view.out, r, (1, results)),
        layout=Layout(x.inserted("batch", p + 1), kernel, out.inserted("batch", r + 1)),
        geometry=_last(geometry),
    )


def _tiles_of_result(view: View) -> View:
    x, kernel, out = view.layout
    p, q, r = (axes.space[-1] for axes in view.layout)
    return view._replace(
        kernel=_split(view.kernel, q, (1, view.kernel[q])),
        out=_split(view.out, r, (view.x[p], view.kernel[q])),
        layout=Layout(x, kernel.inserted("out", q + 1), out.inserted("out", r + 1)),
        geometry=_last(view.geometry),
    )


def _rows_of_result(view: View) -> View:
    """A row of the input is an image, with all padding that makes a tile of results of it."""
    x, kernel, out = view.layout
    p, q, r = (axes.space[0] for axes in view.layout)
    rows, window, geometry = view.x[p], view.kernel[q], view.geometry
    return view._replace(
        x=_split(view.x, p, (rows, 1)),
        out=_split(view.out, r, (rows, window)),
        layout=Layout(_images(x, p), kernel, _images(out, r)),
        geometry=dataclasses.replace(
            geometry,
            padding=((window - 1, window - 1), *geometry.padding[1:]),
            input_dilation=(1, *geometry.input_dilation[1:]),
        ),
    )


def _images(axes: Axes, position: int) -> Axes:
    """These axes after a new one appeared at `position`, last in the batch: then nothing moves."""
    axes = axes.inserted("batch", position)
    first, *others = axes.batch
    return axes._replace(batch=(*others, first))


def _tiles_of_kernel(view: View) -> View:
    """Element p of x meets elements of tile p, in reverse."""
    x, kernel, out = view.layout
    p, q, r = (axes.space[-1] for axes in view.layout)
    return view._replace(
        kernel=_split(view.kernel, q, (view.x[p], view.out[r])),
        out=_split(view.out, r, (1, view.out[r])),
        layout=Layout(x, kernel.inserted("out", q + 1), out.inserted("out", r + 1)),
        geometry=_last(view.geometry),
    )


def _cut_into_rows(view: View, length: int) -> View:
    """The dilated axis as two: rows, and elements of a row. The undilated one gets one of 1."""
    p, q, r = (axes.space[0] for axes in view.layout)
    shapes = [view.x, view.kernel, view.out]
    dilated = view.geometry.kernel_dilation[0] > 1  # the window; else its result is strided
    for party, position in enumerate((p, q, r)):
        size, one = shapes[party][position], party == (1 if dilated else 2)
        sizes = (size, 1) if one else (size // length, length)
        shapes[party] = _split(shapes[party], position, sizes)
    n, k, o = (shape[position] for shape, position in zip(shapes, (p, q, r), strict=True))
    low = view.geometry.padding[0][0] // length
    geometry = Geometry(
        (1, 1), ((low, o - 1 + k - n - low), (0, 0)), (1, 1), (1, 1), view.geometry.reversal
    )
    layout = Layout(*(_second(axes) for axes in view.layout))
    return _viewed(shapes, layout, geometry)


def _second(axes: Axes) -> Axes:
    """The axes after the only spatial one became two."""
    (position,) = axes.space
    return axes.inserted("space", position + 1)._replace(space=(position, position + 1))


def _plane(view: View) -> View:
    """Two of three axes, if axes can be merged where they are."""
    x, kernel, out = view.layout
    spaces = (
        x.sizes(view.x, "space"),
        kernel.sizes(view.kernel, "space"),
        out.sizes(view.out, "space"),
    )
    roles = _roles(view.geometry, *spaces)
    if roles[0] == _KEPT:
        return _first_is(view, _KEPT, (0, 2))
    if roles[0] == _SUMMED:
        return _first_is(view, _SUMMED, (0, 1))
    adjacent = all(axes.space[2] == axes.space[1] + 1 for axes in view.layout)
    if roles[1] is None or roles[1] != roles[2] or not adjacent:
        return view
    shapes, layout = [], []
    for shape, axes in zip((view.x, view.kernel, view.out), view.layout, strict=True):
        at = axes.space[1]
        shapes.append((*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]))
        layout.append(_without(axes, at + 1))
    return _viewed(shapes, Layout(*layout), view.geometry.along(slice(0, 2)))


def _first_is(view: View, role: str, parties: tuple[int, int]) -> View:
    """The first spatial axis gets this role in two parties. In the third it has one element."""
    shapes, layout = [view.x, view.kernel, view.out], list(view.layout)
    for party, axes in enumerate(layout):
        at = axes.space[0]
        if party in parties:
            joined = {role: (*getattr(axes, role), at)}
            layout[party] = axes._replace(space=axes.space[1:], **joined)
        else:
            shapes[party] = (*shapes[party][:at], *shapes[party][at + 1 :])
            layout[party] = _without(axes, at)
    return _viewed(shapes, Layout(*layout), view.geometry.along(slice(1, None)))


def _without(axes: Axes, position: int) -> Axes:
    """The axes after the one at `position` is gone."""
    return Axes(*(tuple(a - (a > position) for a in of_role if a != position) for of_role in axes))


LOWERING = Lowering("reshaped", run, accepts, never)
