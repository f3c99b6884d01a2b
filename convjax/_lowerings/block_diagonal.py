"""The `block_diagonal` lowering: neighbouring groups become one, with zeros off its diagonal.

A matrix unit is 128 or 256 channels wide. A group of few channels leaves most of it idle. Several
groups together, a *block*, fill it: their kernels become one, block-diagonal over channels. Every
block is one dense convolution, which reads its channels of the input, and writes its channels of
the result into place.

It multiplies as many more pairs as a block has groups, most of them by zero. There are two forms:

- the kernel is written out. Its zeros meet the inputs of all groups of the block, and 0 * Inf is
  NaN. One number that is not finite makes all results of the block that read it NaN or infinite.
  So one channel of each block shows whether there is any, and of it as many results as together
  read every input. If there is one, the result is computed again: one group at a time, with
  zeros in place of the inputs of the block's others.
- the result is written out: every group meets the kernels of all groups of its block, and the
  diagonal is read from what comes out. The rest is thrown away, and a NaN in it, too. This form
  suits results that are smaller than the operands, as the gradients of kernels are.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core.layout import Axes, Layout, arranged, restored
from convjax._lowerings.lowering import Lowering, never
from convjax._lowerings.problem import Call, Problem, count, is_product
from convjax._sharding.sharding import same_varying

# Channels of one block, at most. The matrix unit is 128 wide on TPU v4 and v5e, 256 on v6e and 7x.
# By XLA's estimates for v5e and v6e (libtpu 0.0.50) windows take the fewest cycles in blocks of up
# to 128 channels on both, products in one block.
_WIDTH = 128
_OF_PRODUCTS = 512
_BLOCKS = 16  # at most: each is compiled
_APART = 8  # outputs from one that is looked at to the next, at most
_LARGEST = 1 << 23  # elements that are written out, at most


def accepts(problem: Problem) -> str | None:
    if not isinstance(problem.groups, int):
        return f"the number of its groups ({problem.groups}) is symbolic"
    if problem.groups == 1:
        return "it has one group"
    blocks = problem.groups // together(problem)
    if blocks > _BLOCKS:
        return f"its groups fill {blocks} blocks, and {_BLOCKS} are written out at most"
    return None


def together(problem: Problem) -> int:
    """How many groups one block has: a divisor of their number."""
    largest = _LARGEST // max(1, written_out(problem))
    width = _OF_PRODUCTS if is_product(problem) else _WIDTH
    most = max(1, min(largest, width // channels(problem)))
    return max(b for b in range(1, problem.groups + 1) if problem.groups % b == 0 and b <= most)


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
    written = _result_written_out if _by_result(call.problem) else _kernel_written_out
    return written(x, kernel, call, together(call.problem))


def _channels(call: Call) -> Callable[[int], Any]:
    """``arange``. On a TPU its numbers are constants: XLA would compute them in every run, and what
    is made of them. Where XLA asks a callback to split the operation, there must be no constants.
    """
    return np.arange if call.target.platform == "tpu" else jnp.arange


def _diagonal(call: Call, groups: int, size: int, channels: int) -> Any:
    """(size, 1, groups * channels): in which rows of its block each column has its own group."""
    numbers = _channels(call)
    column = numbers(groups * channels) // channels % size
    return (numbers(size)[:, None] == column[None])[:, None]


def _where(mask: Any, x: jax.Array, otherwise: jax.Array) -> jax.Array:
    """``jnp.where`` of a mask over the last axes of `x`."""
    return jnp.where(mask.reshape((1,) * (x.ndim - mask.ndim) + mask.shape), x, otherwise)


def _cut(x: jax.Array, block: int, blocks: int) -> jax.Array:
    """Of the last axis, in which groups lie one after another, the part of one block."""
    size = x.shape[-1] // blocks
    return lax.slice_in_dim(x, block * size, (block + 1) * size, axis=-1)


# ---- the kernel is written out -----------------------------------------------------------------


def _kernel_written_out(x: jax.Array, kernel: jax.Array, call: Call, size: int) -> jax.Array:
    layout, shape = call.layout, call.out_shape(x, kernel)
    rank, groups = call.geometry.rank, call.problem.groups
    dense, order = _dense(layout, rank)
    kernel = arranged(kernel, layout.kernel, order)
    x = arranged(x, layout.x, "batch space group contract")
    x = x.reshape(*x.shape[:-2], -1)
    *window, rows, _, columns = kernel.shape
    outputs = rows if order.endswith("contract") else columns

    kernel = kernel.reshape(*window, 1, rows, groups * columns)
    kernel = _where(_diagonal(call, groups, size, columns), kernel, jnp.zeros((), kernel.dtype))
    kernel = kernel.reshape(*window, size * rows, groups * columns)
    blocks = groups // size

    of_block = functools.partial(call.again, layout=dense, geometry=call.geometry, role="forward")
    parts = [of_block(_cut(x, b, blocks), _cut(kernel, b, blocks)) for b in range(blocks)]
    if call.target.platform == "tpu":
        y = _put_together(parts, groups * outputs, x, kernel)
    else:
        y = jnp.concatenate(parts, -1)
    if size > 1 and jnp.issubdtype(y.dtype, jnp.inexact):
        # XLA adds a whole result up with the convolution, but not one that is put together.
        some = y if blocks == 1 else y[:, *_reading_all(call.problem), :: size * outputs]
        finite = jnp.isfinite(jnp.sum(some, dtype=call.accumulator(x)))
        by_groups = functools.partial(_one_group_at_a_time, of_block, _channels(call), groups, size)
        y = lax.cond(finite, lambda x, kernel, y: y, by_groups, x, kernel, y)
    y = y.reshape(*y.shape[:-1], groups, outputs)
    return restored(y, layout.out, "batch space group out", shape)


def _reading_all(problem: Problem) -> tuple[slice, ...]:
    """Every so many outputs along each axis: together they read all inputs that any reads."""
    geometry = problem.geometry
    return tuple(
        steps(
            *(problem.space[axis], problem.window[axis], problem.out_space[axis]),
            *(geometry.strides[axis], geometry.kernel_dilation[axis]),
            *(geometry.input_dilation[axis], geometry.padding[axis][0]),
        )
        for axis in range(geometry.rank)
    )


def steps(
    size: Any, window: Any, out: Any, stride: int, dilation: int, spread: int, low: Any
) -> slice:
    known = all(isinstance(number, int) for number in (size, window, out, low))
    if not known or out * window > _LARGEST:
        return slice(None)
    taps = np.arange(window) * dilation - low

    def read(outputs: np.ndarray) -> np.ndarray:
        """Whether each input, with the zeros between inputs, is read by any of these."""
        places = np.add.outer(outputs * stride, taps)
        found = np.zeros((size - 1) * spread + 1, bool)
        found[places[(places >= 0) & (places < found.size)]] = True
        return found[::spread]

    everything = np.arange(out)
    for step in range(min(_APART, window, out), 1, -1):
        for start in range(step):
            if np.array_equal(read(everything[start::step]), read(everything)):
                return slice(start, None, step)
    return slice(None)


def _dense(layout: Layout, rank: int) -> tuple[Layout, str]:
    """The layout of one block's convolution, and the order of the kernel's axes: that of its two
    kinds of channels stays as it is, so that nothing moves that need not."""
    kept = layout.kernel.contract[-1:] <= layout.kernel.out[-1:]
    order = "space contract group out" if kept else "space out group contract"
    contract, out = (rank, rank + 1) if kept else (rank + 1, rank)
    space, window = tuple(range(1, rank + 1)), tuple(range(rank))
    return Layout(
        x=Axes(batch=(0,), contract=(rank + 1,), space=space),
        kernel=Axes(contract=(contract,), out=(out,), space=window),
        out=Axes(batch=(0,), out=(rank + 1,), space=space),
    ), order


def _put_together(parts: Iterable[jax.Array], channels: int, *operands: jax.Array) -> jax.Array:
    """Side by side along the last axis. Each is written into place by the convolution that computes
    it, where XLA for TPU would concatenate them in a pass over all."""
    first, *others = parts
    if not others:
        return first
    y = lax.empty((*first.shape[:-1], channels), first.dtype)
    y = same_varying(y, *operands)[0]
    for number, part in enumerate((first, *others)):
        y = lax.dynamic_update_slice_in_dim(y, part, number * part.shape[-1], axis=-1)
    return y


def _one_group_at_a_time(
    of_block: Callable[..., jax.Array],
    numbers: Callable[[int], Any],
    groups: int,
    size: int,
    x: jax.Array,
    kernel: jax.Array,
    y: jax.Array,
) -> jax.Array:
    """The same result: in each turn zeros are in place of the inputs of the block's other groups.

    A loop over all groups holds one more convolution, of a block's shape: XLA for TPU compiles that
    in less time than one of a group's.
    """
    blocks = groups // size

    def turn(group: jax.Array, y: jax.Array) -> jax.Array:
        def cut(array: jax.Array) -> jax.Array:
            width = array.shape[-1] // blocks
            return lax.dynamic_slice_in_dim(array, group // size * width, width, axis=-1)

        def of_it(array: jax.Array) -> Any:
            width = array.shape[-1]
            return numbers(width) // (width // size) == group % size

        inputs, before = cut(x), cut(y)
        inputs = _where(of_it(inputs), inputs, jnp.zeros((), x.dtype))
        # What is fused with it would be compiled as long again.
        of_group = lax.optimization_barrier(
            of_block(*lax.optimization_barrier((inputs, cut(kernel))))
        )
        after = _where(of_it(before), of_group, before)
        start = group // size * after.shape[-1]
        return lax.dynamic_update_slice_in_dim(y, after, start, axis=-1)

    return lax.fori_loop(0, groups, turn, y)


# ---- the result is written out -----------------------------------------------------------------


def _result_written_out(x: jax.Array, kernel: jax.Array, call: Call, size: int) -> jax.Array:
    layout, shape = call.layout, call.out_shape(x, kernel)
    rank, groups = call.geometry.rank, call.problem.groups
    x = arranged(x, layout.x, "contract space group batch")
    kernel = arranged(kernel, layout.kernel, "contract space group out")
    batch, outputs = x.shape[-1], kernel.shape[-1]
    x, kernel = (a.reshape(*a.shape[:-2], -1) for a in (x, kernel))
    blocks = groups // size
    diagonal = _diagonal(call, size, size, outputs)
    parts = []
    for block in range(blocks):
        y = call.again(
            _cut(x, block, blocks),
            _cut(kernel, block, blocks),
            layout=_correlating(rank),
            geometry=call.geometry,
            role="kernel_gradient",
        )
        y = y.reshape(*y.shape[:-2], size, batch, size * outputs)
        parts.append(_where(diagonal, y, jnp.zeros((), y.dtype)).sum(-3, dtype=y.dtype))
    y = jnp.concatenate(parts, -1)
    y = y.reshape(*y.shape[:-1], groups, outputs)
    return restored(y, layout.out, "space batch group out", shape)


def _correlating(rank: int) -> Layout:
    """x (I, *space, N), kernel (I, *window, O) -> (*out_space, N, O)."""
    space, last = tuple(range(1, rank + 1)), (rank + 1,)
    return Layout(
        x=Axes(contract=(0,), batch=last, space=space),
        kernel=Axes(contract=(0,), out=last, space=space),
        out=Axes(batch=(rank,), out=last, space=tuple(range(rank))),
    )


LOWERING = Lowering("block_diagonal", run, accepts, never)
