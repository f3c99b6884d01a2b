"""Measuring: integer-valued operands, shapes, counts, Jacobians, times."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from benchmarks.harness.timing import Timed, interleaved


def integers(seed: int, *shape: int, low: int = -4, high: int = 5) -> jax.Array:
    """Random integers low..high-1 as float32: sums of their products are exact in any order."""
    drawn = np.random.default_rng(seed).integers(low, high, size=shape)
    return jnp.asarray(drawn, jnp.float32)


def image(rows: Any) -> jax.Array:
    """A matrix as one picture of one channel, (1, H, W, 1)."""
    return jnp.asarray(rows, jnp.float32)[None, :, :, None]


def filters(rows: Any) -> jax.Array:
    """A matrix as a kernel from one channel to one channel, (K1, K2, 1, 1)."""
    return jnp.asarray(rows, jnp.float32)[:, :, None, None]


def size(shape: Sequence[int]) -> jax.ShapeDtypeStruct:
    """An array of this shape that has no values, for what only needs shapes."""
    return jax.ShapeDtypeStruct(tuple(shape), jnp.float32)


def call(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """``function(*operands, **options)`` as one compiled program; only arrays are traced."""
    leaves, tree = jax.tree.flatten(operands)
    arrays = [leaf for leaf in leaves if isinstance(leaf, (jax.Array, np.ndarray))]
    rest = tuple(None if isinstance(x, (jax.Array, np.ndarray)) else x for x in leaves)
    return _program(function, tree, rest, tuple(options.items()))(*arrays)


@functools.cache
def _program(function: Any, tree: Any, rest: Any, options: Any) -> Callable[..., Any]:
    """The compiled `function` of the arrays that belong where `rest` has None."""

    def program(*arrays: jax.Array) -> Any:
        following = iter(arrays)
        operands = [next(following) if leaf is None else leaf for leaf in rest]
        return function(*jax.tree.unflatten(tree, operands), **dict(options))

    return jax.jit(program)


def macs(function: Callable[..., Any], *operands: Any) -> int:
    """Multiplications counted in the program of `function`; operands are arrays or shapes."""
    sizes = (size(o) if isinstance(o, tuple) else size(o.shape) for o in operands)
    return int(convjax.cost_of(function, *sizes).macs)


def out_shape(function: Callable[..., Any], *operands: Any) -> tuple[int, ...]:
    """Shape of what `function` returns; operands are arrays or shapes."""
    sizes = (size(o) if isinstance(o, tuple) else size(o.shape) for o in operands)
    return jax.eval_shape(function, *sizes).shape


def weights(*shapes: Sequence[int]) -> int:
    """Parameters of kernels of these shapes."""
    return sum(int(np.prod(shape)) for shape in shapes)


def difference(a: Any, b: Any) -> float:
    """The largest absolute difference; infinite if the shapes differ."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max(initial=0)) if a.shape == b.shape else float("inf")


def channel_reach(function: Callable[[jax.Array], jax.Array], channels: int) -> np.ndarray:
    """Which output channel depends on which input channel, (O, I) of 0 and 1: the Jacobian's zeros.

    `function` maps (1, 1, 1, channels) to (1, 1, 1, O).
    """
    jacobian = jax.jacobian(lambda x: function(x[None, None, None])[0, 0, 0])(jnp.ones(channels))
    return (np.asarray(jacobian) != 0).astype(int)


def milliseconds(programs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of every program in every round; the rounds are interleaved.

    Whatever slows the machine slows all programs. The first call, which compiles, is left out.
    """
    contenders = {name: Timed(call, jax.block_until_ready) for name, call in programs.items()}
    return {name: 1e3 * np.array(each) for name, each in interleaved(contenders, rounds).items()}
