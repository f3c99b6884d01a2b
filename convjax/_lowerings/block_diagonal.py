"""The `block_diagonal` lowering: neighbouring groups become one, with zeros off its diagonal.

A matrix unit is 128 or 256 channels wide. A group of few channels leaves most of it idle. Several
groups together fill it: their kernels become one kernel, block-diagonal over channels.

    kernel (*K, G, I, O)  ->  (*K, G/b, b*I, b*O), zero where the two of b differ

It multiplies b times as many pairs, most of them by zero. Two forms compute the same:

- the kernel is written out. Its zeros meet the inputs of all groups of the block, and 0 * Inf is
  NaN. Such a NaN reaches the sum of all results. So where this sum is not finite, lax's own groups
  compute the result again.
- the result is written out: every group meets the kernels of all groups of its block, and the
  diagonal is read from what comes out. The rest is thrown away, and a NaN in it, too. This form
  suits results that are smaller than the operands, as the gradients of kernels are.
"""

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.layout import Axes, Layout, arranged, canonical, restored
from convjax._lowerings import direct
from convjax._lowerings.lowering import Lowering, never
from convjax._lowerings.problem import Call, Problem, count, is_product

# Channels of one block. The matrix unit is 128 wide on TPU v4 and v5e, 256 on v6e and 7x. Which one
# it is, is not known when tracing. By XLA's estimates for v5e and v6e (libtpu 0.0.50) windows
# compute fastest in blocks of exactly 128 there, products in one block.
_WIDTH = 128
_OF_WINDOWS = 256  # if no number of groups has 128 channels: all of them in one block
_OF_PRODUCTS = 512
_LARGEST = 1 << 23  # elements that are written out, at most


def accepts(problem: Problem) -> str | None:
    if not isinstance(problem.groups, int):
        return f"the number of its groups ({problem.groups}) is symbolic"
    if problem.groups == 1:
        return "it has one group"
    if together(problem) == 1:
        return f"a block of two of its groups ({problem.i} to {problem.o} channels) is too large"
    return None


def together(problem: Problem) -> int:
    """How many groups one block has: a divisor of their number; 1 if two are too large."""
    largest = _LARGEST // max(1, written_out(problem))
    one = channels(problem)
    fitting = [b for b in range(problem.groups, 1, -1) if problem.groups % b == 0 and b <= largest]
    if is_product(problem):
        return next((b for b in fitting if b * one <= _OF_PRODUCTS), 1)
    for b in fitting:
        if b * one == _WIDTH or (b == problem.groups and b * one < _WIDTH):
            return b
    if problem.groups in fitting and problem.groups * one <= _OF_WINDOWS:
        return int(problem.groups)
    return next((b for b in fitting if b * one <= _WIDTH), 1)


def channels(problem: Problem) -> float:
    """Of one group: those on the wider side of a block."""
    side = problem.n if _by_result(problem) else problem.i
    return max(count((side,)), count((problem.o,)))


def written_out(problem: Problem) -> float:
    """Elements of what is written out, kernel or result, for one group of every block."""
    kernel = count((*problem.window, problem.groups, problem.i, problem.o))
    result = count((*problem.out_space, problem.groups, problem.n, problem.o))
    return min(kernel, result)


def _by_result(problem: Problem) -> bool:
    """Whether the result is written out, and not the kernel: whichever has fewer elements."""
    kernel = count((*problem.window, problem.i))
    return count((*problem.out_space, problem.n)) < kernel


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    problem = call.problem
    if _by_result(problem):
        return _result_written_out(x, kernel, call, together(problem))
    y = _kernel_written_out(x, kernel, call, together(problem))
    if not jnp.issubdtype(y.dtype, jnp.inexact):
        return y
    finite = jnp.isfinite(jnp.sum(y, dtype=call.accumulator(x)))
    return lax.cond(finite, lambda *_: y, lambda x, k: direct.run(x, k, call), x, kernel)


def _kernel_written_out(x: jax.Array, kernel: jax.Array, call: Call, size: int) -> jax.Array:
    layout, shape = call.layout, call.out_shape(x, kernel)
    x = arranged(x, layout.x, "batch space group contract")
    kernel = arranged(kernel, layout.kernel, "space group contract out")
    *space, groups, inputs = x.shape
    *window, _, _, outputs = kernel.shape
    blocks = groups // size
    kernel = kernel.reshape(*window, blocks, size, inputs, 1, outputs)
    kernel = jnp.where(_diagonal(size), kernel, jnp.zeros((), kernel.dtype))
    y = call.again(
        x.reshape(*space, blocks, size * inputs),
        kernel.reshape(*window, blocks, size * inputs, size * outputs),
        layout=canonical(len(window)),
        geometry=call.geometry,
        role="forward",
    )
    y = y.reshape(*y.shape[:-2], groups, outputs)
    return restored(y, layout.out, "batch space group out", shape)


def _result_written_out(x: jax.Array, kernel: jax.Array, call: Call, size: int) -> jax.Array:
    layout, shape = call.layout, call.out_shape(x, kernel)
    x = arranged(x, layout.x, "contract space group batch")
    kernel = arranged(kernel, layout.kernel, "contract space group out")
    contracted, *space, groups, batch = x.shape
    _, *window, _, outputs = kernel.shape
    blocks = groups // size
    y = call.again(
        x.reshape(contracted, *space, blocks, size * batch),
        kernel.reshape(contracted, *window, blocks, size * outputs),
        layout=_correlating(len(window)),
        geometry=call.geometry,
        role="kernel_gradient",
    )
    out_space = y.shape[: len(window)]
    y = y.reshape(*out_space, blocks, size, batch, size, outputs)
    y = jnp.where(_diagonal(size), y, jnp.zeros((), y.dtype)).sum(-2, dtype=y.dtype)
    y = y.reshape(*out_space, groups, batch, outputs)
    return restored(y, layout.out, "space group batch out", shape)


def _diagonal(size: int) -> jax.Array:
    """(b, 1, b, 1): whether both sides are of one group."""
    return jnp.eye(size, dtype=bool)[:, None, :, None]


def _correlating(rank: int) -> Layout:
    """x (I, *space, G, N), kernel (I, *window, G, O) -> (*out_space, G, N, O)."""
    space = tuple(range(1, rank + 1))
    group, last = (rank + 1,), (rank + 2,)
    return Layout(
        x=Axes(contract=(0,), group=group, batch=last, space=space),
        kernel=Axes(contract=(0,), group=group, out=last, space=space),
        out=Axes(group=(rank,), batch=(rank + 1,), out=(rank + 2,), space=tuple(range(rank))),
    )


LOWERING = Lowering("block_diagonal", run, accepts, never)
