"""Extents may be symbolic dimensions of ``jax.export``: what integers need beyond operators."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.core import max_dim
from jax.errors import InconclusiveDimensionOperation

__all__ = ["certainly", "max_dim", "product"]


def certainly(relation: Callable[[Any, Any], Any], a: Any, b: Any) -> bool:
    """Whether ``relation(a, b)`` holds (say `operator.gt`); False where symbols leave it open."""
    try:
        return bool(relation(a, b))
    except InconclusiveDimensionOperation:
        return False


def product(sizes: Sequence[Any]) -> Any:
    """Product of extents; 1 of none."""
    result: Any = 1
    for size in sizes:
        result = result * size
    return result
