"""Drop-ins for the convolutions of ``jax.lax``: the same names, signatures and behaviour.

Each function traces lax's own function, so that lax checks the arguments and fills in defaults.
Then it replaces the ``conv_general_dilated`` inside by this library's operation.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import lax

from convjax._core.eager import Options, are_known, compiled, kept
from convjax._programs.rebind import evaluate

__all__ = [
    "conv",
    "conv_general_dilated",
    "conv_general_dilated_patches",
    "conv_transpose",
    "conv_with_general_padding",
]


def _drop_in(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function` of lax, executed by this library."""
    signature = inspect.signature(function)
    array_names = [name for name in signature.parameters if name in ("lhs", "rhs")]

    def traced(arrays: dict[str, Any], arguments: Mapping[str, Any]) -> jax.Array:
        closed = jax.make_jaxpr(lambda arrays: function(**arrays, **arguments))(arrays)
        (result,) = evaluate(closed, [arrays[name] for name in sorted(arrays)])
        return result

    @functools.lru_cache(maxsize=1024)
    def once(options: Options) -> Callable[..., jax.Array]:
        arguments = {name: kept(value) for name, value in options.given.items()}
        return compiled(lambda arrays: traced(arrays, arguments))

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> jax.Array:
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # lax's own words
        arrays = {name: arguments.pop(name) for name in array_names}
        if not all(hasattr(array, "shape") for array in arrays.values()):
            return function(*args, **kwargs)  # as above
        if not are_known(*arrays.values()):
            return traced(arrays, arguments)
        try:
            run = once(Options(arguments))
        except TypeError:  # an option that cannot be hashed
            return traced(arrays, arguments)
        return run(arrays)

    wrapper.__module__ = __name__  # where `pickle` looks for it
    return wrapper


conv_general_dilated = _drop_in(lax.conv_general_dilated)
conv = _drop_in(lax.conv)
conv_with_general_padding = _drop_in(lax.conv_with_general_padding)
conv_transpose = _drop_in(lax.conv_transpose)
conv_general_dilated_patches = _drop_in(lax.conv_general_dilated_patches)
