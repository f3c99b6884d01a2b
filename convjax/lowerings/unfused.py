"""Functions that XLA on CPU compiles apart from what surrounds them: as calls that stay calls."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from convjax.layout import is_one


def unfused(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function` of arrays, whose result XLA computes once and writes out.

    A sum of products is cheap in XLA's eyes on CPU: it copies such a sum into every fusion that
    reads it, as normalisation reads a convolution for its mean, its variance and its result (seen
    on jaxlib 0.10.2 and 0.12.0: twice as long and more, and the temporary memory of several
    results). A barrier on the result did not stop it; a call that it may not inline does. So copies
    that are made in it live no longer than it runs: outside, those of a gradient are made as soon
    as the input is there, in the forward pass. And what several calls have in common is compiled
    once.
    """

    @functools.partial(jax.jit, static_argnames="shapes")
    def apart(*operands: jax.Array, shapes: tuple[tuple[Any, ...], ...]) -> jax.Array:
        with set_xla_metadata(inlineable=None):  # what is in it may be
            return function(*map(lax.reshape, operands, shapes))

    def called(*operands: jax.Array) -> jax.Array:
        squeezed = list(map(_squeezed, operands))
        # Of the call alone: XLA hands it on to what it makes of other operations.
        with set_xla_metadata(inlineable="false"):
            y: jax.Array = apart(*squeezed, shapes=tuple(x.shape for x in operands))
        return y

    return called


def _squeezed(x: jax.Array) -> jax.Array:
    """`x` without axes of one element: XLA would choose where they lie, and copy to where not."""
    return lax.squeeze(x, [axis for axis, size in enumerate(x.shape) if is_one(size)])
