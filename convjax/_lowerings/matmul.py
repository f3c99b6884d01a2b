"""The `matmul` lowering: one batched matrix product per tap, or per output, whichever are fewer.

It is written with an explicit group axis and slices of the padded input. So it needs no gathers
when it is sharded over batch, groups or channels, and only halos when it is sharded over space.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core.layout import arranged, restored
from convjax._lowerings.lowering import Chosen, Lowering
from convjax._lowerings.problem import Call, Problem, count, is_matrix_product
from convjax._lowerings.tools.slices import exchanged, padded, piece, pieces, reversed_where

_UNROLLED = 64  # products written out; beyond it compilation would take too long
_LOOPED = 4096
# Products that are added in a row: XLA gives oneDNN the first with all that is added to it, and
# more than 32 end the process (seen on jaxlib 0.12.0.1).
_ADDED = 16
_LETTERS = "abcdefh"  # of spatial axes


def accepts(problem: Problem) -> str | None:
    if count(problem.window) <= _UNROLLED or count(problem.out_space) <= _LOOPED:
        return None
    return (
        f"its window {problem.window} has more than {_UNROLLED} positions, and its output "
        f"{problem.out_space} more than {_LOOPED}"
    )


def isolated(problem: Problem, chosen: Chosen) -> bool:
    """Whether XLA would repeat sums of products for every reader of the result, or copy the
    cotangent for gradients. One product of two matrices it does not repeat, and what follows a
    layer, such as a bias, may join it."""
    return problem.role != "forward" or not is_matrix_product(problem)


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    layout, shape = call.layout, call.out_shape(x, kernel)
    window = layout.kernel.sizes(kernel.shape, "space")
    out_space = tuple(shape[axis] for axis in layout.out.space)
    by_tap = count(window) <= min(count(out_space), _UNROLLED)
    # The gradient of a kernel contracts N: in this order its operands stay where they are.
    moved = call.role == "kernel_gradient" and not by_tap
    if moved:
        x_roles, k_roles = "contract space group batch", "contract space group out"
    else:
        x_roles, k_roles = "batch space group contract", "space group contract out"
        if by_tap and layout.kernel.out < layout.kernel.contract:  # as in the gradient of an input
            k_roles = "space group out contract"
    out_roles = "batch space group out" if by_tap else "space group batch out"
    if not layout.x.group:
        x_roles, k_roles, out_roles = (
            roles.replace(" group", "") for roles in (x_roles, k_roles, out_roles)
        )
    space = _LETTERS[: call.geometry.rank]
    x = arranged(x, layout.x, x_roles)
    kernel = arranged(kernel, layout.kernel, k_roles)
    kernel = reversed_where(kernel, call.geometry, int(moved))
    if by_tap:
        spec = f"n{space}gi,{'goi' if k_roles.endswith('contract') else 'gio'}->n{space}go"
        y = _by_tap(x, kernel, call, out_space, spec)
    else:
        y = _by_position(x, kernel, call, window, out_space, moved)
    return restored(y.astype(call.result_type(x)), layout.out, out_roles, shape)


def _product(spec: str, a: jax.Array, b: jax.Array, call: Call, is_result: bool) -> jax.Array:
    if not call.layout.x.group:
        spec = spec.replace("g", "")
    return call.product(spec, a, b, is_result)


def _by_tap(x: jax.Array, kernel: jax.Array, call: Call, out_space: Any, spec: str) -> jax.Array:
    """(N, *out_space, G, O): a product for every tap."""
    geometry = call.geometry
    total: Any = None
    window = kernel.shape[: geometry.rank]
    taps = pieces(x, geometry, 1, window, out_space, call.is_split_by_xla)
    for number, (tap, inputs) in enumerate(taps):
        term = _product(spec, inputs, kernel[tap], call, is_result=count(window) == 1)
        total = term if total is None else total + term
        if call.target.onednn and number % _ADDED == _ADDED - 1:
            total = lax.optimization_barrier(total)
    return total


def _by_position(
    x: jax.Array, kernel: jax.Array, call: Call, window: Any, out_space: Any, moved: bool
) -> jax.Array:
    """(*out_space, G, N, O): a product for every element of the output."""
    geometry = call.geometry
    space = _LETTERS[: geometry.rank]
    spec = f"i{space}gn,i{space}go->gno" if moved else f"n{space}gi,{space}gio->gno"

    if count(out_space) <= _UNROLLED:
        # An output element meets the window as a tap meets the outputs.
        columns = pieces(x, exchanged(geometry), 1, out_space, window, call.is_split_by_xla)
        y = jnp.stack([_product(spec, inputs, kernel, call, True) for _, inputs in columns])
    else:
        x = padded(x, geometry, 1)
        starts = np.array(list(np.ndindex(*out_space)), np.int32) * np.array(
            geometry.strides, np.int32
        )

        def column(start: jax.Array) -> jax.Array:
            inputs = piece(x, 1, tuple(start), geometry.kernel_dilation, window)
            return _product(spec, inputs, kernel, call, is_result=True)

        y = lax.map(column, starts)
    return y.reshape(*out_space, *y.shape[1:])


LOWERING = Lowering("matmul", run, accepts, isolated)
