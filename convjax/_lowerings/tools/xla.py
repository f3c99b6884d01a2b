"""What XLA on a CPU must not fuse, and loops whose iterations it must run on all threads."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from convjax._core.layout import is_one


def isolated(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function` of arrays, compiled as a call that XLA on CPU may not inline.

    This has three effects.

    1. The result is computed once and written out. XLA on CPU takes a sum of products for cheap and
       repeats it in every fusion that reads it. Batch normalisation reads a convolution three
       times, for its mean, its variance and its result. On jaxlib 0.10.2 and 0.12.0 this took twice
       as long and more, and the temporary memory of several results. A barrier on the result did
       not stop it.
    2. Temporary copies live only while the call runs. Without the call, a gradient's copy of its
       input is made as soon as the input is there, in the forward pass.
    3. Equal calls are compiled once.
    """

    @functools.partial(jax.jit, static_argnames="shapes")
    def isolated_call(*operands: jax.Array, shapes: tuple[tuple[Any, ...], ...]) -> jax.Array:
        with set_xla_metadata(inlineable=None):  # what is in it may be
            return function(*map(lax.reshape, operands, shapes))

    def called(*operands: jax.Array) -> jax.Array:
        squeezed = list(map(_squeezed, operands))
        # Only on the call: XLA would pass it on to what it makes of other operations.
        with set_xla_metadata(inlineable="false"):
            y: jax.Array = isolated_call(*squeezed, shapes=tuple(x.shape for x in operands))
        return y

    return called


def _squeezed(x: jax.Array) -> jax.Array:
    """`x` without axes of one element: XLA would choose where they lie, and copy to where not."""
    return lax.squeeze(x, [axis for axis, size in enumerate(x.shape) if is_one(size)])


def keep_multithreaded(index: jax.Array) -> jax.Array:
    """`index`, the number of a loop's iteration, unchanged.

    Needed where the target has `one_thread_loops`: jaxlib 0.12 compiles a small ``while`` loop into
    one kernel that runs on one thread (small_while_loop_hoisting_pass.cc), unless the loop's body
    contains a sort (seen on jaxlib 0.12.0.1). So the index passes through a sort of two elements,
    which costs nothing.
    """
    return lax.sort(jnp.stack([index, index + 1]), dimension=0)[0]
