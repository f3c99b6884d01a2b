"""The `taps` lowering: a sum over taps of shifted inputs times kernel elements, channel by channel.

For groups of one or few channels: the groups are the vector that one multiplication covers, and
XLA fuses the sum into one pass, over the input itself between the borders. A kernel's gradient runs
over the rows of the input and keeps one sum per kernel element.
"""

import functools
import itertools
import math
import operator
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax.geometry import Geometry
from convjax.layout import arranged, moved, restored
from convjax.lowerings.call import Call, Problem, correlates, count
from convjax.lowerings.patches import bordered, padded, piece, pieces, reversed_where
from convjax.sharding import same_varying

apart = True
_CHANNELS = 16  # per group, at most
_UNROLLED = 64  # products written out; more of them are looped over, so that compiling stays quick
_APART = 25  # products for which borders are computed apart: their code is written
_APART_IN_GRADIENTS = 12  # out again, and gradients have enough to compile as it is
_LARGE = (
    1 << 20
)  # bytes of an input beyond which code that spares passes over it is worth compiling
_SUMS = 16  # kernel elements across the lines whose gradients are summed in one pass, at most
_ROWS = 2  # rows of a large input added to these sums at once,
_PRODUCTS = 48  # if they are no more products than this
_CACHE = 1 << 17  # bytes that the sums may take, which with the rows stay in the second-level cache


def accepts(problem: Problem) -> str | None:
    """Why not, or None."""
    inputs = problem.n if correlates(problem) else problem.i
    if max(count((inputs,)), count((problem.o,))) > _CHANNELS:
        return f"it has more than {_CHANNELS} channels per group ({inputs} and {problem.o})"
    if correlates(problem) and math.isinf(count((*problem.window, problem.i))):
        return f"it has a symbolic size among {problem.window} and {problem.i}"
    if math.isinf(count(problem.window)):
        return f"its window {problem.window} has a symbolic size"
    return None


def partitionable(problem: Problem) -> bool:
    """Loops read rows at traced positions, which gathers rows that are sharded."""
    products = count((*problem.window, problem.i))
    return not correlates(problem) and products <= _UNROLLED


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    """The convolution; `x`, `kernel` and the result in the caller's layout."""
    window = call.layout.kernel.sizes(kernel.shape, "space")
    shape = call.out_shape(x, kernel)
    out_space = tuple(shape[axis] for axis in call.layout.out.space)
    if count(window) > count(out_space):
        return _correlate(x, kernel, call, shape)
    roles = "out batch group space" if _groups_first(call) else "out batch space group"
    y = _shift(x, kernel, call, out_space).astype(call.result_type(x))
    return restored(y, call.layout.out, roles, shape)


def _split(axes: tuple[int, ...], limit: int) -> int:
    """From which axis on the product of the extents stays within `limit`."""
    first = len(axes)
    while first > 0 and math.prod(axes[first - 1 :]) <= limit:
        first -= 1
    return first


def _large(x: jax.Array) -> bool:
    return x.dtype.itemsize * count(x.shape) > _LARGE


def _groups_first(call: Call) -> bool:
    """Whether the groups lie before space, where they stay."""
    return () < call.layout.x.group < call.layout.x.space


def _shift(x: jax.Array, kernel: jax.Array, call: Call, out_space: Any) -> jax.Array:
    """(O, N, *out_space, G), or (O, N, G, *out_space): every tap shifts the whole input."""
    geometry = call.geometry
    sums = call.accumulator(x)
    groups_first = _groups_first(call)
    rest = "group space" if groups_first else "space group"
    first = 3 if groups_first else 2
    x = arranged(x, call.layout.x, f"contract batch {rest}")
    window = call.layout.kernel.sizes(kernel.shape, "space")
    # In this order, and not reshaped: XLA reads a product's weights where the caller's kernel lies.
    # Of one channel there is nothing to move.
    channels = (*call.layout.kernel.contract, *call.layout.kernel.out)
    one = not call.partitioned and math.prod(kernel.shape[axis] for axis in channels) == 1
    kernel = arranged(kernel, call.layout.kernel, "space contract out group", one).astype(sums)
    inputs, outputs, groups = kernel.shape[-3:]
    looped = _split(window, _UNROLLED // inputs)
    ones = (1,) * (geometry.rank + 1)
    logical = sums == np.bool_
    times, plus = (lax.bitwise_and, lax.bitwise_or) if logical else (lax.mul, lax.add)

    def met(total: Any, shifted: jax.Array, tap: Any) -> Any:
        """`total`, None for nothing, and what one tap adds to it."""
        shape = (outputs, *shifted.shape[1:])
        # lax's functions, not operators: these take half the time to trace
        for i in range(inputs):
            weights = piece(kernel, 0, (*_reversed_where(tap, window, geometry), i), ones, ones)
            across = (0, 2 if groups_first else len(shape) - 1)
            term = times(
                _spread(lax.slice_in_dim(shifted, i, i + 1), shape, range(len(shape))),
                lax.broadcast_in_dim(lax.reshape(weights, (outputs, groups)), shape, across),
            )
            total = term if total is None else plus(total, term)
        return total

    def unrolled(x: jax.Array, geometry: Geometry, out_space: Any) -> jax.Array:
        total: Any = None
        shifts = pieces(x, geometry, first, window, out_space, call.partitioned)
        for tap, shifted in shifts:
            total = met(total, lax.convert_element_type(shifted, sums), tap)
        return total

    if looped == 0:
        most = _APART if call.role == "forward" else _APART_IN_GRADIENTS
        few = math.prod(window) * inputs * outputs <= most
        if few and _large(x) and not groups_first and not call.partitioned:
            return bordered(x, geometry, first, window, out_space, unrolled)
        return unrolled(x, geometry, out_space)
    x = padded(x, geometry, first).astype(sums)

    trailing = list(np.ndindex(*window[looped:]))

    def added(total: Any, leading: Any) -> Any:
        """`total` and the taps whose first coordinates are `leading`."""
        for others in trailing:
            tap = (*leading, *others)
            starts = [t * d for t, d in zip(tap, geometry.kernel_dilation, strict=True)]
            total = met(total, piece(x, first, starts, geometry.strides, out_space), tap)
        return total, None

    sizes = (groups, *out_space) if groups_first else (*out_space, groups)
    zeros = jnp.zeros((outputs, x.shape[1], *sizes), sums)
    taps = np.array(list(np.ndindex(*window[:looped])), np.int32)
    return lax.scan(added, same_varying(zeros, x, kernel)[0], taps)[0]


def _spread(x: jax.Array, shape: tuple[Any, ...], axes: Iterable[int]) -> jax.Array:
    """`x`, whose axes are these of the result, broadcast to `shape`."""
    return x if x.shape == shape else lax.broadcast_in_dim(x, shape, tuple(axes))


def _correlate(x: jax.Array, kernel: jax.Array, call: Call, shape: Any) -> jax.Array:
    """The result of this `shape`, every element of which is a sum over rows of the window."""
    geometry, rank, axes = call.geometry, call.geometry.rank, call.layout.out
    sums, result_type = call.accumulator(x), call.result_type(x)
    problem = call.problem(x, kernel)
    # Several pairs of channels would read these rows several times, short as they are in memory.
    groups_first = _groups_first(call) and problem.n == problem.o == 1
    rest, first = ("group space", 3) if groups_first else ("space group", 2)
    x = padded(arranged(x, call.layout.x, f"batch contract {rest}"), geometry, first).astype(sums)
    kernel = arranged(kernel, call.layout.kernel, f"out contract {rest}")
    kernel = reversed_where(kernel, geometry, first).astype(sums)
    out_space = tuple(shape[axis] for axis in axes.space)
    inputs, outputs, depth = x.shape[0], *kernel.shape[:2]
    groups = kernel.shape[2 if groups_first else -1]
    window = kernel.shape[first : first + rank]
    steps, strides = geometry.kernel_dilation, geometry.strides
    if rank == 1:  # as two axes, of which the first has one element
        steps, strides, window, out_space = (
            (1, *extents) for extents in (steps, strides, window, out_space)
        )

    # Elements along the kernel's first axis read neighbouring rows of x, in one slice. Those along
    # the other axes are summed at once, or, where they are many, in one pass after another.
    lines, *across = out_space
    looped = _split(tuple(across), _SUMS)
    together = np.array(list(np.ndindex(*across[looped:])), np.int32)
    size = sums.itemsize * inputs * outputs * groups * lines * len(together)
    most = max(1, min(_ROWS if _large(x) else 1, _PRODUCTS // len(together)))

    def with_groups(contracted: Any, space: Any, channels: Any) -> tuple[Any, ...]:
        """What belongs to the contracted axis, to space and to the groups, in their order."""
        space = space[-rank:]
        return (contracted, *((channels, *space) if groups_first else (*space, channels)))

    def summed(leading: Any) -> jax.Array:
        """Sums over the window for the elements at once, (T, N, O, lines and G)."""

        def added(total: Any, position: Any, element: Any, sizes: Any) -> Any:
            """`total`, and the rows that `element` meets at `position` times the kernel's there."""
            at, n, *place = position
            meets = zip((at, *place), steps, (0, *leading, *element), strides, strict=True)
            read = list(itertools.starmap(_met, meets))
            images, *block = sizes
            every, ones = (strides[0], *steps[1:]), (1,) * len(steps)
            rows = piece(
                x,
                1,
                with_groups(n, read, 0),
                with_groups(1, every, 1),
                with_groups(images, (lines, *block), groups),
            )
            weights = piece(
                kernel,
                1,
                with_groups(n, (at, *place), 0),
                with_groups(1, ones, 1),
                with_groups(images, (1, *block), groups),
            )
            return total + rows[None, :, None] * weights[None, None]

        def turn(totals: Any, number: Any, positions: np.ndarray, sizes: Any) -> Any:
            """One element's sums, in place: a slice of the array that is carried."""
            row, which = number
            corner: list[Any] = [which, *[np.int32(0)] * (totals.ndim - 1)]
            within = {"allow_negative_indices": False}
            total = lax.dynamic_slice(totals, corner, (1, *totals.shape[1:]), **within)
            element = _entry(together, which)
            for position in _entry(positions, row):
                total = added(total, position, element, sizes)
            return lax.dynamic_update_slice(totals, total, corner, **within), None

        found: list[jax.Array] = []
        blocks = _rows((window[0], depth, *window[1:]), max(1, _CACHE // size))
        for (_, images, *block), positions in blocks:
            rows = max(r for r in range(1, most + 1) if len(positions) % r == 0)
            positions = positions.reshape(-1, rows, positions.shape[-1])
            sizes = with_groups(images, (lines, *block), groups)
            zeros = jnp.zeros((len(together), inputs, outputs, *sizes), sums)
            turns = np.arange(len(positions) * len(together), dtype=np.int32)
            totals, _ = lax.scan(
                functools.partial(turn, positions=positions, sizes=(images, *block)),
                same_varying(zeros, x, kernel)[0],
                np.divmod(turns, np.int32(len(together))),
            )
            of_block = with_groups(True, (rank == 1, *(True,) * len(block)), False)
            found.append(totals.sum([axis for axis, gone in enumerate(of_block, 3) if gone]))
        return functools.reduce(operator.add, found)

    if looped > 0:
        places = np.array(list(np.ndindex(*across[:looped])), np.int32)
        y = lax.map(lambda place: summed(tuple(place)), places)
    else:
        y = summed(())
    y = y.reshape(*across, *y.shape[1 + int(looped > 0) :])
    # (*across, N, O, lines and G): the lines come before the other spatial axes
    first = len(across) + 2 + int(groups_first) + int(rank > 1)
    order = [*range(len(across), first), *range(len(across)), *range(first, y.ndim)]
    y = moved(y, order, whole=True)
    roles = "batch out group space" if groups_first else "batch out space group"
    return restored(y.astype(result_type), axes, roles, shape, whole=True)


def _reversed_where(tap: tuple[Any, ...], window: Any, geometry: Geometry) -> tuple[Any, ...]:
    """Where a tap's element of the kernel lies."""
    if not geometry.reversal:
        return tap
    return tuple(size - 1 - t for t, size in zip(tap, window, strict=True))


def _entry(table: np.ndarray, index: Any) -> Any:
    """Entry `index`, which may be traced, of a table of integers."""
    if len(table) == 1:
        return table[0].tolist()
    return lax.dynamic_index_in_dim(jnp.asarray(table), index, keepdims=False)


def _met(tap: Any, dilation: int, output: Any, stride: int) -> Any:
    """The element of the padded input that a tap of an output meets."""
    at = tap if dilation == 1 else tap * dilation
    if isinstance(output, int) and output == 0:
        return at
    return at + (output if stride == 1 else output * stride)


def _rows(extents: tuple[int, ...], block: int) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Blocks of at most `block` positions that cover a window of `extents`: sizes, first positions.

    Whole rows, as many together as fit and divide their axis; or parts of rows, of two kinds at
    most: as long as fits, and the rest that these do not fill.
    """
    *others, last = extents
    width = min(block, last)
    whole = max(w for w in range(1, width + 1) if last % w == 0)
    width = whole if 2 * whole > width else width
    fitting = [r for r in range(1, others[-1] + 1) if others[-1] % r == 0 and r * last <= block]
    rows = max(fitting, default=1)
    for length, firsts in ((width, range(0, last - width + 1, width)), (last % width, [-1])):
        if length:
            firsts = [last - length] if firsts == [-1] else firsts
            starts = [range(n) for n in others[:-1]] + [range(0, others[-1], rows)]
            positions = [(*place, f) for place in itertools.product(*starts) for f in firsts]
            yield (*(1,) * (len(others) - 1), rows, length), np.array(positions, np.int32)
