"""The `matmul` lowering: one batched matrix product per tap, or per output, whichever are fewer.

Written with an explicit group axis and slices of the padded input, it needs no gathers when sharded
over batch, groups or channels, and halos alone when sharded over space.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax.geometry import Geometry

partitionable = True

_LIMIT = 64  # products, unrolled; beyond it compilation would take too long


def _count(sizes: tuple[Any, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size if isinstance(size, int) else _LIMIT + 1
    return count


def accepts(problem: Any) -> str | None:
    """Why not, or None."""
    if min(_count(problem.window), _count(problem.out_space)) > _LIMIT:
        return f"both its window {problem.window} and its output have more than {_LIMIT} positions"
    return None


def run(
    x: jax.Array,
    kernel: jax.Array,
    *,
    geometry: Geometry,
    precision: Any,
    preferred_element_type: Any,
) -> jax.Array:
    """x (N, *space, G, I), kernel (*window, G, I, O) -> (N, *out_space, G, O)."""
    rank = geometry.rank
    out_space = geometry.output_space(x.shape[1 : rank + 1], kernel.shape[:rank])
    window = kernel.shape[:rank]
    zero = jnp.zeros((), x.dtype)
    pads = [
        (lo, hi, dilation - 1)
        for (lo, hi), dilation in zip(geometry.padding, geometry.input_dilation, strict=True)
    ]
    x = lax.pad(x, zero, [(0, 0, 0), *pads, (0, 0, 0), (0, 0, 0)])
    if geometry.reversal:
        kernel = lax.rev(kernel, tuple(range(rank)))
    result = preferred_element_type or x.dtype
    accumulator = jnp.promote_types(result, jnp.float32) if result.itemsize == 2 else result

    def patch(start: list[int], steps: tuple[int, ...], sizes: tuple[int, ...]) -> jax.Array:
        limits = [a + (n - 1) * s + 1 for a, n, s in zip(start, sizes, steps, strict=True)]
        ends = (x.shape[0], *limits, *x.shape[-2:])
        return lax.slice(x, (0, *start, 0, 0), ends, (1, *steps, 1, 1))

    def product(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.einsum(spec, a, b, precision=precision, preferred_element_type=accumulator)

    if _count(window) <= _count(out_space):
        total: Any = None
        for tap in np.ndindex(window):
            start = [t * d for t, d in zip(tap, geometry.kernel_dilation, strict=True)]
            term = product(
                "n...gi,gio->n...go", patch(start, geometry.strides, out_space), kernel[tap]
            )
            total = term if total is None else total + term
        return total.astype(result)

    space = "abcdefh"[:rank]
    columns = []
    for position in np.ndindex(out_space):
        start = [o * s for o, s in zip(position, geometry.strides, strict=True)]
        columns.append(
            product(
                f"n{space}gi,{space}gio->ngo",
                patch(start, geometry.kernel_dilation, window),
                kernel,
            )
        )
    y = jnp.stack(columns, axis=1)
    return y.reshape(y.shape[0], *out_space, *y.shape[2:]).astype(result)
