"""Products of matrices on a CPU, without moving the operands.

XLA's `dot_general` over several axes transposes its operands into matrices first (jaxlib 0.10.2 and
0.12.0: a copy of each, one element after another). A product of two matrices contracts either axis
of either operand, and copies nothing.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.symbolic import product
from convjax._lowerings.thresholds import MANY_PRODUCTS


def is_large(spec: str, a: jax.Array, b: jax.Array) -> bool:
    """Whether XLA gives the product to oneDNN, where it has it."""
    operands, _ = spec.split("->")
    sizes = dict(zip(operands.replace(",", ""), a.shape + b.shape, strict=True))
    known = all(isinstance(size, int) for size in sizes.values())
    return known and math.prod(sizes.values()) >= MANY_PRODUCTS.value


def einsum(spec: str, a: jax.Array, b: jax.Array, as_dot: bool = False, **kwargs: Any) -> jax.Array:
    """``jnp.einsum(spec, a, b)``, as a product of two matrices where no operand moves for it."""
    operands, out = spec.split("->")
    left, right = operands.split(",")
    shared = [letter for letter in left if letter in right]
    left_end, right_end = _end(left, shared), _end(right, shared)
    free = [[letter for letter in letters if letter not in shared] for letters in (left, right)]
    if left_end is None or right_end is None or list(out) != free[0] + free[1]:
        return jnp.einsum(spec, a, b, **kwargs)
    sizes = dict(zip(left + right, a.shape + b.shape, strict=True))
    a, b = _matrix(a, len(shared), left_end), _matrix(b, len(shared), right_end)
    if as_dot or (left_end, right_end) != (1, 0) or a.dtype not in (jnp.float32, jnp.float64):
        contracted = (((left_end,), (right_end,)), ((), ()))
        y = lax.dot_general(a, b, contracted, **kwargs)
    else:
        y = _convolved(a, b, **kwargs)
    return y.reshape([sizes[letter] for letter in out])


def _convolved(a: jax.Array, b: jax.Array, **kwargs: Any) -> jax.Array:
    """The product of two matrices as a convolution of one tap.

    XLA makes a dot of it, but after YNNPACK has taken the dots that are there: what is left to
    Eigen takes up to a third less time (jaxlib 0.10.2 and 0.12.0). oneDNN takes it sooner than a
    dot, and is slower for it where it is large.
    """
    axes = ("NWC", "WIO", "NWC")
    y = lax.conv_general_dilated(a[None], b[None], (1,), "VALID", dimension_numbers=axes, **kwargs)
    return lax.squeeze(y, (0,))


def _end(letters: str, shared: list[str]) -> int | None:
    """Which axis of a matrix `shared` are, all of them: the first or the last; else None."""
    if list(letters[: len(shared)]) == shared:
        return 0
    return 1 if list(letters[len(letters) - len(shared) :]) == shared else None


def _matrix(x: jax.Array, shared: int, end: int) -> jax.Array:
    """`x`, the first (`end` is 0) or last (1) `shared` of its axes and the others as one each."""
    first = shared if end == 0 else x.ndim - shared
    return x.reshape(product(x.shape[:first]), product(x.shape[first:]))
