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

_UNROLLED = 64  # products written out; beyond it compilation would take too long
_LOOPED = 4096


def _count(sizes: tuple[Any, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size if isinstance(size, int) else _LOOPED + 1
    return count


def accepts(problem: Any) -> str | None:
    """Why not, or None."""
    if _count(problem.window) <= _UNROLLED or _count(problem.out_space) <= _LOOPED:
        return None
    return (
        f"its window {problem.window} has more than {_UNROLLED} positions, and its output "
        f"{problem.out_space} more than {_LOOPED}"
    )


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
    result = np.dtype(preferred_element_type or x.dtype)
    narrow = jnp.issubdtype(result, jnp.floating) and jnp.finfo(result).bits < 32
    accumulator = np.dtype(np.float32) if narrow else result

    def patch(start: Any, steps: tuple[int, ...], sizes: tuple[int, ...]) -> jax.Array:
        """The elements of x that lie `steps` apart from `start` on, `sizes` of them."""
        reach = [(n - 1) * s + 1 for n, s in zip(sizes, steps, strict=True)]
        block = lax.dynamic_slice(
            x, (0, *start, 0, 0), (x.shape[0], *reach, *x.shape[-2:]), allow_negative_indices=False
        )
        return block[(slice(None), *(slice(None, None, s) for s in steps))]

    def product(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.einsum(spec, a, b, precision=precision, preferred_element_type=accumulator)

    if _count(window) <= min(_count(out_space), _UNROLLED):
        total: Any = None
        for tap in np.ndindex(window):
            start = [t * d for t, d in zip(tap, geometry.kernel_dilation, strict=True)]
            term = product(
                "n...gi,gio->n...go", patch(start, geometry.strides, out_space), kernel[tap]
            )
            total = term if total is None else total + term
        return total.astype(result)

    space = "abcdefh"[:rank]

    def column(start: Any) -> jax.Array:
        """One position of the result, (N, G, O)."""
        inputs = patch(start, geometry.kernel_dilation, window)
        return product(f"n{space}gi,{space}gio->ngo", inputs, kernel)

    starts = np.array(list(np.ndindex(out_space)), np.int32) * np.array(geometry.strides, np.int32)
    if len(starts) <= _UNROLLED:
        y = jnp.stack([column(start.tolist()) for start in starts], axis=1)
    else:
        y = jnp.moveaxis(lax.map(lambda start: column(tuple(start)), starts), 0, 1)
    return y.reshape(y.shape[0], *out_space, *y.shape[2:]).astype(result)
