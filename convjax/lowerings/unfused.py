"""Results as arrays of their own, where XLA would compute them again for each of their readers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from convjax.sharding import same_varying


def unfused(
    function: Callable[[jax.Array, jax.Array], jax.Array],
    result: jax.ShapeDtypeStruct,
    x: jax.Array,
    kernel: jax.Array,
) -> jax.Array:
    """``function(x, kernel)``, a `result`, which XLA on CPU computes once and writes out.

    A sum of products is cheap in its eyes: it copies such a sum into every fusion that reads it, as
    normalisation reads a convolution for its mean, its variance and its result (seen on jaxlib
    0.10.2 and 0.12.0: twice as long and more, and the temporary memory of several results). A
    barrier on the result did not stop it. What stands in a branch stays there, and whether this one
    is taken XLA knows only when it runs. So copies that are made in it live no longer than it runs:
    outside, those of a gradient are made as soon as the input is there, in the forward pass.
    """

    def never(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return same_varying(jnp.zeros(result.shape, result.dtype), x, kernel)[0]

    return lax.cond(lax.optimization_barrier(jnp.bool_(True)), function, never, x, kernel)
