"""The `taps` lowering: a sum over taps of shifted inputs times kernel elements, channel by channel.

It is for groups of one or few channels. One multiplication covers all groups, as a vector, and XLA
fuses the sum into one pass over the input. A kernel's gradient is a sum over its rows (`row_sums`),
except where window and result are long rows of elements: there both are sums over taps.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core.geometry import Geometry
from convjax._core.layout import arranged, restored
from convjax._lowerings.lowering import Lowering, always
from convjax._lowerings.problem import (
    Call,
    Problem,
    count,
    is_large,
    rounded,
    size_in_bytes,
    window_exceeds_output,
)
from convjax._lowerings.tools import row_sums
from convjax._lowerings.tools.slices import looped_over, padded, piece, pieces
from convjax._lowerings.tools.strips import Strip, joined, pieces_of, strips
from convjax._lowerings.tools.xla import isolated, keep_multithreaded
from convjax._sharding.sharding import same_varying

_CHANNELS = 16  # per group, at most
_UNROLLED = 64  # products written out; more of them are looped over, so that compiling stays quick
_A_TURN = 16  # products in one turn of such a loop, at least if there are so many in its last axes
_TURNS = 32  # turns whose sum is added to the whole, if they are many: so it is rounded less often
_LONG = 64  # results of a long row, at least
# Strips write products out again, and each takes longer to compile than a small input to copy:
_BYTES_PER_PRODUCT = 15 << 10  # of a large input, at least
_IN_STRIPS = 400  # products, at most
_IN_STRIPS_OF_GRADIENTS = 100  # which are compiled together with others


def accepts(problem: Problem) -> str | None:
    inputs = problem.n if by_rows(problem) else problem.i
    if max(count((inputs,)), count((problem.o,))) > _CHANNELS:
        return f"it has more than {_CHANNELS} channels per group ({inputs} and {problem.o})"
    sizes = (*problem.window, problem.i, problem.groups)
    if by_rows(problem) and math.isinf(count(sizes)):
        return f"it has a symbolic size among {sizes}"
    if math.isinf(count(problem.window)):
        return f"its window {problem.window} has a symbolic size"
    return None


def by_rows(problem: Problem) -> bool:
    """Whether it sums over the rows of the input, as for the gradient of a kernel.

    Forward, few products are written out even for fewer outputs than taps: so an output is the same
    sum in the same order, whatever the number of outputs, down to the bit.
    """
    few = count((*problem.window, problem.i)) <= _UNROLLED
    return window_exceeds_output(problem) and not (problem.role == "forward" and few)


def _is_long(problem: Problem) -> bool:
    """Whether the taps of a sequence are many, and so are its results.

    Then the results of a channel should lie side by side, and one turn of the loop over the taps
    should have several of them: it reads the sum so far, and writes it again.
    """
    if problem.geometry.rank != 1 or problem.geometry.strides != (1,):
        return False
    products = count((*problem.window, problem.i))
    is_loop = count((problem.i,)) <= _UNROLLED < products
    return is_loop and _LONG <= count(problem.out_space) < math.inf


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    shape = call.out_shape(x, kernel)
    out_space = tuple(shape[axis] for axis in call.layout.out.space)
    is_long = call.target.is_one_cpu and _is_long(call.problem)
    if by_rows(call.problem) and not is_long:
        return row_sums.kernel_gradient_by_rows(x, kernel, call, shape)
    groups_first = is_long or call.groups_first
    summed: Callable[..., jax.Array] = functools.partial(
        _shift, call=call, out_space=out_space, groups_first=groups_first
    )
    several = count(call.layout.kernel.sizes(kernel.shape, "out")) > 1
    if call.target.is_one_cpu and not groups_first and several:
        # Isolated from what arranges weights and results, which XLA would do at every product.
        summed = isolated(summed)
    y = summed(x, _arranged(kernel, call, groups_first).astype(call.accumulator(x)))
    roles = "out batch group space" if groups_first else "batch space out group"
    return restored(y, call.layout.out, roles, shape)


def _shift(
    x: jax.Array, kernel: jax.Array, call: Call, out_space: Any, groups_first: bool
) -> jax.Array:
    """(N, *out_space, O, G), or (O, N, G, *out_space): every tap shifts the whole input.

    `x` is the caller's, `kernel` is arranged for `_Weights`.
    """
    # XLA for GPU fuses no reader into a sum through an axis of one element.
    one = call.target.is_one_gpu and call.problem.i == call.problem.o == 1
    weights = _Weights(kernel, groups_first, call.geometry.reversal, call.nothing, one)
    geometry, rank = call.geometry, call.geometry.rank
    axes = [] if groups_first else _in_strips(x, weights, call)
    # Where groups are last, several channels stay behind them: XLA would copy them to be elsewhere.
    roles, first = "batch space contract group", 1
    if groups_first:
        roles, first = "contract batch group space", 3
    elif weights.inputs > 1:
        roles = "batch space group contract"
    result, x = call.result_type(x), arranged(x, call.layout.x, roles)
    channel = 0 if groups_first else x.ndim - 2
    if one:
        x, first = lax.squeeze(x, (channel,)), first - int(groups_first)
    if axes:
        return _strips_summed(x, first, geometry, weights, axes).astype(result)
    looped = looped_over(weights.window, _UNROLLED // weights.inputs)
    if looped == 0:
        how = {"partitioned": call.is_split_by_xla, "materialized": not _fuses_padding(call)}
        met = pieces(x, geometry, first, weights.window, out_space, **how)
        y: jax.Array = weights.summed((weights.elements(tap), shifted) for tap, shifted in met)
        return (lax.expand_dims(y, (channel,)) if one else y).astype(result)
    x = padded(x, geometry, first).astype(weights.kernel.dtype)
    trailing = list(np.ndindex(*weights.window[looped:]))

    def added(total: jax.Array, some: Any) -> jax.Array:
        """`total` and the taps whose first coordinates are a row of `some`."""
        taps = [(*leading, *others) for leading in some for others in trailing]
        starts = [
            [t * d for t, d in zip(tap, geometry.kernel_dilation, strict=True)] for tap in taps
        ]
        met = (piece(x, first, start, geometry.strides, out_space) for start in starts)
        # A sum of its own, which is small: its products are rounded less than in the whole sum.
        part = weights.summed(zip(map(weights.elements, taps), met, strict=True))
        together: jax.Array = weights.plus(total, part)
        return together

    def turn(total: jax.Array, some: Any) -> tuple[jax.Array, None]:
        if call.target.is_one_cpu and call.target.one_thread_loops:
            some = keep_multithreaded(some)
        return added(total, some), None

    sizes = (*x.shape[:first], *out_space, *x.shape[first + rank :])
    zeros = jnp.zeros(weights.of_results(sizes), weights.kernel.dtype)
    leading = np.array(list(np.ndindex(*weights.window[:looped])), np.int32)
    number = max(1, _A_TURN // (weights.inputs * len(trailing)))
    turns, rest = divmod(len(leading), number)
    zeros = same_varying(zeros, x, kernel)[0]
    y = added(zeros, leading[:rest].tolist()) if rest else zeros
    leading = leading[rest:].reshape(turns, number, looped)
    blocks, more = divmod(turns, _TURNS)
    if more or blocks < 2:
        single = more if blocks > 1 else turns
        y, _ = lax.scan(turn, y, leading[:single])
        leading = leading[single:]

    def block(total: jax.Array, some: Any) -> tuple[jax.Array, None]:
        return weights.plus(total, lax.scan(turn, zeros, some)[0]), None

    if len(leading):
        y, _ = lax.scan(block, y, leading.reshape(blocks, _TURNS, number, looped))
    return (lax.expand_dims(y, (channel,)) if one else y).astype(result)


def _fuses_padding(call: Call) -> bool:
    """Whether XLA fuses the padding into the sum, as that for GPU and for TPU does."""
    on_tpu = call.target.platform == "tpu" and not call.is_split_by_xla
    return call.target.is_one_gpu or on_tpu


def _arranged(kernel: jax.Array, call: Call, groups_first: bool) -> jax.Array:
    """The caller's kernel with as many axes as the results: slices broadcast without a reshape."""
    axes = call.layout.kernel
    # Of one channel there is nothing to move: XLA reads weights where the caller's kernel lies.
    one = math.prod(kernel.shape[axis] for axis in (*axes.contract, *axes.out)) == 1
    roles = "out contract group space" if groups_first else "space contract out group"
    return arranged(kernel, axes, roles, one and not call.is_split_by_xla)


@dataclasses.dataclass(frozen=True)
class _Weights:
    """The kernel in the layout of the products.

    Channels-last: a kernel (*window, I, O, G) for products (N, *space, O, G). Where groups come
    first: a kernel (O, I, G, *window) for products (O, N, G, *space).
    """

    kernel: jax.Array
    groups_first: bool
    reversal: bool
    nothing: Any = None  # of the call
    one: bool = False  # whether products have no axis for O, nor for I, which are 1

    @property
    def window(self) -> tuple[Any, ...]:
        return self.kernel.shape[3:] if self.groups_first else self.kernel.shape[:-3]

    @property
    def inputs(self) -> Any:
        return self.kernel.shape[1 if self.groups_first else -3]

    @property
    def outputs(self) -> Any:
        return self.kernel.shape[0 if self.groups_first else -2]

    @property
    def groups(self) -> Any:
        return self.kernel.shape[2 if self.groups_first else -1]

    # lax's functions, not operators: these take half the time to trace

    @property
    def times(self) -> Callable[..., Any]:
        return lax.bitwise_and if self.kernel.dtype == np.bool_ else lax.mul

    @property
    def plus(self) -> Callable[..., Any]:
        return lax.bitwise_or if self.kernel.dtype == np.bool_ else lax.add

    def elements(self, tap: tuple[Any, ...]) -> list[jax.Array]:
        """The elements of one tap: a slice per input channel, which broadcasts to the products."""
        at = tap
        if self.reversal:
            at = tuple(size - 1 - t for t, size in zip(tap, self.window, strict=True))
        if self.groups_first:
            ones = (1,) * len(at)
            sizes = (1, self.groups, *ones)
            found = [
                piece(self.kernel, 1, (i, 0, *at), (1, 1, *ones), sizes) for i in range(self.inputs)
            ]
        else:
            ones = (1,) * (len(at) + 1)
            found = [piece(self.kernel, 0, (*at, i), ones, ones) for i in range(self.inputs)]
        outputs = 0 if self.groups_first else found[0].ndim - 2
        return [lax.squeeze(element, (outputs,)) for element in found] if self.one else found

    def of_results(self, of_inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The shape of the results for inputs, or pieces of them, of this shape."""
        if self.one:
            return of_inputs
        if self.groups_first:
            return (self.outputs, *of_inputs[1:])
        return (*of_inputs[:-2], self.outputs, self.groups)

    def _channel(self, shifted: jax.Array, i: int) -> jax.Array:
        """Input channel `i` of a piece, its axes as the results', with one element for outputs."""
        if self.inputs == 1:
            return shifted
        if self.groups_first:
            return lax.slice_in_dim(shifted, i, i + 1)
        return lax.expand_dims(lax.index_in_dim(shifted, i, -1, keepdims=False), (-2,))

    def summed(self, met: Iterable[tuple[list[jax.Array], jax.Array]], total: Any = None) -> Any:
        """`total` (None for nothing) and what the taps add. Each tap has its `elements`, and the
        piece of the input that it meets."""
        for elements, shifted in met:
            shape = self.of_results(shifted.shape)
            shifted = lax.convert_element_type(shifted, self.kernel.dtype)
            for i, element in enumerate(elements):
                channel = _spread(self._channel(shifted, i), shape)
                term = self.times(channel, _spread(element, shape))
                term = term if self.nothing is None else rounded(term, self.nothing)
                total = term if total is None else self.plus(total, term)
        return total


def _spread(x: jax.Array, shape: tuple[Any, ...]) -> jax.Array:
    """`x`, whose axes are the last of the result, broadcast to `shape`."""
    if x.shape == shape:
        return x
    return lax.broadcast_in_dim(x, shape, range(len(shape) - x.ndim, len(shape)))


def _in_strips(x: jax.Array, weights: _Weights, call: Call) -> list[list[Strip]]:
    """The strips of every axis by which to sum; none where padding `x` costs less."""
    if call.is_split_by_xla or _fuses_padding(call):
        return []
    axes = strips(call.geometry, call.layout.x.sizes(x.shape, "space"), weights.window)
    products = weights.inputs * math.prod(sum(len(strip.taps) for strip in axis) for axis in axes)
    most = _IN_STRIPS if call.role == "forward" else _IN_STRIPS_OF_GRADIENTS
    # As wide as it is summed: a copy of 16-bit numbers takes no less time.
    wide = jax.ShapeDtypeStruct(x.shape, weights.kernel.dtype)
    worth = size_in_bytes(wide) // _BYTES_PER_PRODUCT
    return axes if is_large(wide) and products <= min(most, worth) else []


def _strips_summed(
    x: jax.Array, first: int, geometry: Geometry, weights: _Weights, axes: list[list[Strip]]
) -> jax.Array:
    """(N, *out_space, O, G), in strips: no padding is written, nor multiplied."""
    regions = list(itertools.product(*axes))
    on_padding = _on_padding(weights, regions)
    elements = {tap: weights.elements(tap) for tap in np.ndindex(*weights.window)}
    parts = []
    for number, region in enumerate(regions):
        total = None
        if any(len(strip.taps) < taps for strip, taps in zip(region, weights.window, strict=True)):
            sizes = [strip.end - strip.begin for strip in region]
            shape = (*x.shape[:first], *sizes, *x.shape[first + len(sizes) :])
            nothing = lax.index_in_dim(on_padding, number, keepdims=False)
            total = _spread(nothing, weights.of_results(shape))
        met = pieces_of(x, geometry, first, region)
        parts.append(weights.summed(((elements[tap], shifted) for tap, shifted in met), total))
    return joined(parts, first, axes)


def _on_padding(weights: _Weights, regions: Sequence[Sequence[Strip]]) -> jax.Array:
    """(regions, O, G): what taps add that meet padding in each region. That is nothing, unless the
    product with zero is a NaN."""
    window = weights.window
    outside = np.array([
        [any(t not in strip.taps for t, strip in zip(tap, region, strict=True))
         for tap in np.ndindex(*window)]
        for region in regions
    ]).reshape(-1, *window, 1, 1, 1)  # fmt: skip
    reduced = range(1, 2 + len(window))
    if weights.reversal:
        outside = np.flip(outside, tuple(reduced[:-1]))
    zero = jnp.zeros((), weights.kernel.dtype)
    products = jnp.where(outside, weights.times(weights.kernel, zero), zero)
    return lax.reduce(products, zero, weights.plus, reduced)


LOWERING = Lowering("taps", run, accepts, always)
