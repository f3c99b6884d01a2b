"""The `extra_row` lowering: lax's convolution with more rows than its input has, cut off again.

jaxlib 0.10 gives a dense two-dimensional convolution on CPU to YNNPACK, which takes up to twice as
long as Eigen does (`convjax.compiler_options` is the other way out). It leaves alone those whose
output is larger than their input.
"""

import dataclasses

import jax
from jax import lax

from convjax.layout import arranged, canonical, restored
from convjax.lowerings import direct
from convjax.lowerings.call import Call, Problem, count
from convjax.lowerings.patches import cropped


def accepts(problem: Problem) -> str | None:
    """Why not, or None."""
    geometry = problem.geometry
    if geometry.rank != 2:
        return f"it has {geometry.rank} spatial axes, not two"
    if problem.groups != 1:
        return f"it has groups ({problem.groups})"
    if any(dilation != 1 for dilation in geometry.input_dilation):
        return "its input is dilated"
    if float("inf") in (count(problem.space), count(problem.out_space)):
        return f"it has a symbolic size among {problem.space}"
    return None


def partitionable(problem: Problem) -> bool:
    """A row more than the devices divide would move all of them."""
    return False


def extra(rows: int, out_rows: int) -> int:
    """How many rows more make an output of `out_rows` larger than an input of `rows`."""
    return max(0, rows + 1 - out_rows)


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    """The convolution; `x`, `kernel` and the result in the caller's layout."""
    layout, shape = call.layout, call.out_shape(x, kernel)
    inner = canonical(2).ungrouped()
    x, geometry = cropped(arranged(x, layout.x, "batch space contract"), call.geometry, 1)
    kernel = arranged(kernel, layout.kernel, "space contract out")
    rows = shape[layout.out.space[0]]
    more = extra(x.shape[1], rows) * geometry.strides[0]
    (low, high), *others = geometry.padding
    geometry = dataclasses.replace(geometry, padding=((low, high + more), *others))
    y = direct.run(x, kernel, call._replace(layout=inner, geometry=geometry, role="forward"))
    y = lax.slice_in_dim(y, 0, rows, axis=1)
    return restored(y, layout.out, "batch space out", shape)
