"""The `channels_last` lowering: lax's convolution on operands moved to NHWC and HWIO first.

XLA's fast convolution on CPU knows only this order. XLA moves operands there by itself, but only in
the outermost computation. In the body of a loop (``scan``) it would compute any other order, and so
every gradient of a kernel, one element at a time. Negative padding is cropped first: on jaxlib
0.10.2 XLA's fast convolution reads beyond an input that is cropped before and padded after.

Where oneDNN would compute wrong numbers (`onednn_faults`), it gets float32, a channel of zeros more
or an output of zeros more, or no stride where the window has one place.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.geometry import Geometry, dilated
from convjax._core.layout import Layout, arranged, canonical, restored
from convjax._lowerings import direct, onednn_faults
from convjax._lowerings.lowering import Lowering, anything, never
from convjax._lowerings.problem import Call, Problem, problem_of
from convjax._lowerings.tools.slices import cropped, reversed_where


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    layout, shape = call.layout, call.out_shape(x, kernel)
    grouped = canonical(call.geometry.rank)
    if layout.x.group:
        x_roles, k_roles = "batch space group contract", "space group contract out"
        inner, out_roles = grouped, "batch space group out"
    else:
        x_roles, k_roles = "batch space contract", "space contract out"
        inner, out_roles = grouped.ungrouped(), "batch space out"
    x, geometry = cropped(arranged(x, layout.x, x_roles), call.geometry, 1)
    kernel = arranged(kernel, layout.kernel, k_roles)
    return restored(convolved(x, kernel, inner, geometry, call), layout.out, out_roles, shape)


def convolved(
    x: jax.Array, kernel: jax.Array, layout: Layout, geometry: Geometry, call: Call
) -> jax.Array:
    """The convolution of a cropped `x` and `kernel` in a canonical layout, by oneDNN where XLA has
    it, and rightly."""
    if call.target.onednn and geometry.reversal:
        kernel = reversed_where(kernel, geometry, 0, hidden=True)
        geometry = dataclasses.replace(geometry, reversal=False)
    narrow, wide, remedy = call.result_type(x), call.preferred_element_type, ""
    if call.target.onednn:
        problem = problem_of(x, kernel, layout, geometry, call.role)
        remedy = onednn_faults.remedy(problem, call.is_split_by_xla)
        if remedy == "float32":
            x, kernel, wide = x.astype(jnp.float32), kernel.astype(jnp.float32), jnp.float32
            remedy = onednn_faults.remedy(problem._replace(dtype=x.dtype), call.is_split_by_xla)
    if remedy == "a channel of zeros":
        x, kernel = _one_longer(x, x.ndim - 1), _one_longer(kernel, kernel.ndim - 2)
    elif remedy == "an output of zeros":
        kernel = _one_longer(kernel, kernel.ndim - 1)
    elif remedy == "no stride":
        x, geometry = _at_one_place(x, problem)
    y = direct.convolution(
        x,
        kernel,
        geometry=geometry,
        layout=layout,
        precision=call.precision,
        preferred_element_type=wide,
    )
    if remedy == "an output of zeros":
        y = lax.slice_in_dim(y, 0, 1, axis=y.ndim - 1)
    return y.astype(narrow)


def _at_one_place(x: jax.Array, problem: Problem) -> tuple[jax.Array, Geometry]:
    """`x` and the geometry without a stride on the last axis, on which the window has one place,
    and without what is behind it."""
    geometry, last = problem.geometry, problem.geometry.rank - 1
    low, high = geometry.padding[last]
    size, reach = problem.space[last], dilated(problem.window[last], geometry.kernel_dilation[last])
    behind = size + low + high - reach
    strides = (*geometry.strides[:last], 1)
    geometry = dataclasses.replace(geometry, strides=strides).padded(last, (low, high - behind))
    return cropped(x, geometry, 1)


def _one_longer(x: jax.Array, axis: int) -> jax.Array:
    """`x` with one more element on an axis, zeros."""
    config = [(0, int(a == axis), 0) for a in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


LOWERING = Lowering("channels_last", run, anything, never)
