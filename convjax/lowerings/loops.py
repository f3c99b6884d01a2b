"""Loops whose iterations XLA on CPU runs on all threads."""

import jax
import jax.numpy as jnp
from jax import lax

from convjax import compiler


def by_all_threads(place: jax.Array) -> jax.Array:
    """`place`, the index of a loop's iteration, unchanged.

    jaxlib 0.12 compiles a small ``while`` loop into one kernel that runs on one thread
    (small_while_loop_hoisting_pass.cc), unless the loop's body contains a sort (seen on jaxlib
    0.12.0.1). So the index passes through a sort of two elements, which costs nothing.
    """
    if not compiler.runs_loops_on_one_thread():
        return place
    return lax.sort(jnp.stack([place, place + 1]), dimension=0)[0]
