"""Calls outside ``jit``, compiled as one: several operations, dispatched one by one, cost more."""

from collections.abc import Callable
from typing import Any

import jax

# Where a jaxpr is being made it must hold the operations, not a call of them. Newer versions of jax
# have `jax.Inline`, and take True for something later.
_INLINE: Any = jax.Inline.JAX_EARLY if hasattr(jax, "Inline") else True


def compiled(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function` of arrays, compiled when it is called with known ones."""
    return jax.jit(function, inline=_INLINE)


def are_known(*arrays: Any) -> bool:
    """Whether the arrays hold numbers, and are not traced."""
    return not any(isinstance(array, jax.core.Tracer) for array in arrays)
