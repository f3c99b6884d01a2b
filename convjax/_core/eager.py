"""Calls outside ``jit``, compiled as one: several operations, dispatched one by one, cost more."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from convjax._core import declared

# Where a jaxpr is being made it must hold the operations, not a call of them. Newer versions of jax
# have `jax.Inline`, and take True for something later.
_INLINE: Any = jax.Inline.JAX_EARLY if hasattr(jax, "Inline") else True


def compiled(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function` of arrays, compiled when it is called with known ones.

    It is compiled with the options that are declared there, if any are.
    """
    usual = jax.jit(function, inline=_INLINE)

    @functools.lru_cache(maxsize=8)
    def under(options: declared.Options) -> declared.Outermost:
        return declared.Outermost(function, lambda: options, inline=_INLINE)

    def call(*arrays: Any) -> jax.Array:
        options = declared.now()
        result: jax.Array = (usual if options is None else under(options))(*arrays)
        return result

    return call


def are_known(*arrays: Any) -> bool:
    """Whether the arrays hold numbers, and are not traced."""
    return not any(isinstance(array, jax.core.Tracer) for array in arrays)


def once(make: Callable[..., Any], *key: Any, x: Any, kernel: Any, options: Any) -> Any:
    """``make(*key, x, kernel, options)`` for known shapes `x` and `kernel` and known options.

    It is made once for the same shapes and options, as JAX is configured now: options may mean
    something else under another configuration, or under another mesh.
    """
    if options.get("out_sharding") is None and _INTEGERS.issuperset(map(type, (*x, *kernel))):
        try:
            known = Options(options)
        except TypeError:  # an option that has no hash
            return make(*key, x, kernel, options)
        config: Any = jax.config
        now = config.jax_default_matmul_precision, config.jax_enable_x64
        return _once(make, key, x, kernel, known, now)
    return make(*key, x, kernel, options)


_INTEGERS = frozenset({int})


@functools.lru_cache(maxsize=4096)
def _once(make: Callable[..., Any], key: Any, x: Any, kernel: Any, known: Any, now: Any) -> Any:
    return make(*key, x, kernel, known.given)


class Options:
    """The options of a call, equal to those of the same types and values: a key of a cache.

    Making one raises a ``TypeError`` where a value has no hash, or one that outlives its values.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.key = _typed(tuple(given.items()))
        self.hash = hash(self.key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Options) and self.key == other.key


def _typed(value: Any) -> Any:
    """`value` with every type in it: 1, 1.0 and True are not one option, nor are (1,) and [1]."""
    if isinstance(value, (list, tuple)):
        return type(value), *map(_typed, value)
    if hasattr(type(value), "__iter__") and not isinstance(value, str):
        raise TypeError(f"{value!r} may hold other values later, under the same hash")
    return type(value), value


def kept(value: Any) -> Any:
    """`value` with copies of the lists in it, which their owner may change."""
    if type(value) in (list, tuple):
        return type(value)(map(kept, value))
    return list(value) if isinstance(value, list) else value
