"""The `channels_last` lowering: lax's convolution on operands moved to NHWC and HWIO first.

XLA's fast convolution on CPU knows only this order. XLA moves operands there by itself, but only in
the outermost computation. In the body of a loop (``scan``) it would compute any other order, and so
every gradient of a kernel, one element at a time. Negative padding is cropped first: on jaxlib
0.10.2 XLA's fast convolution reads beyond an input that is cropped before and padded after.
"""

import dataclasses

import jax
from jax import lax

from convjax._core.layout import arranged, canonical, restored
from convjax._lowerings import direct
from convjax._lowerings.lowering import Lowering, anything, never
from convjax._lowerings.problem import Call
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
    if call.target.onednn and geometry.reversal:  # XLA gives oneDNN no kernel that it sees reversed
        kernel = lax.optimization_barrier(reversed_where(kernel, geometry, 0))
        geometry = dataclasses.replace(geometry, reversal=False)
    y = direct.convolution(
        x,
        kernel,
        geometry=geometry,
        layout=inner,
        precision=call.precision,
        preferred_element_type=call.preferred_element_type,
    )
    return restored(y, layout.out, out_roles, shape)


LOWERING = Lowering("channels_last", run, anything, never)
