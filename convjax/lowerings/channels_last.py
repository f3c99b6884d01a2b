"""The `channels_last` lowering: lax's convolution on operands moved to NHWC and HWIO first.

XLA's fast convolution on CPU knows only this order. XLA moves operands there by itself, but only in
the outermost computation. In the body of a loop (``scan``) it would compute any other order, and so
every gradient of a kernel, one element at a time. Negative padding is cropped first: on jaxlib
0.10.2 XLA's fast convolution reads beyond an input that is cropped before and padded after.
"""

import jax

from convjax.layout import arranged, canonical, restored
from convjax.lowerings import direct
from convjax.lowerings.call import Call, Problem
from convjax.lowerings.patches import cropped


def accepts(problem: Problem) -> str | None:
    """Why not, or None: lax accepts every geometry."""
    return None


def apart(problem: Problem) -> bool:
    """No: it is one call of lax's convolution, which XLA does not repeat."""
    return False


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    """The convolution; `x`, `kernel` and the result in the caller's layout."""
    layout, shape = call.layout, call.out_shape(x, kernel)
    grouped = canonical(call.geometry.rank)
    if layout.x.group:
        x_roles, k_roles = "batch space group contract", "space group contract out"
        inner, out_roles = grouped, "batch space group out"
    else:
        x_roles, k_roles = "batch space contract", "space contract out"
        inner, out_roles = grouped.ungrouped(), "batch space out"
    x, geometry = cropped(arranged(x, layout.x, x_roles), call.geometry, 1)
    y = direct.run(
        x,
        arranged(kernel, layout.kernel, k_roles),
        call._replace(layout=inner, geometry=geometry, role="forward"),
    )
    return restored(y, layout.out, out_roles, shape)
