"""Loops whose turns XLA on CPU runs on all threads."""

import jax
import jax.numpy as jnp
from jax import lax

from convjax import compiler


def by_all_threads(place: jax.Array) -> jax.Array:
    """`place`, where a turn of a loop is, as what keeps XLA from making the loop one kernel for one
    thread: it makes none where it finds a sort (seen on jaxlib 0.12.0.1)."""
    if not compiler.runs_loops_on_one_thread():
        return place
    return lax.sort(jnp.stack([place, place + 1]), dimension=0)[0]
