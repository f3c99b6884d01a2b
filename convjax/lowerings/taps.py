"""The `taps` lowering: a sum over taps of shifted inputs times kernel elements, channel by channel.

For groups of one or few channels: the groups are the vector that one multiplication covers, and
XLA fuses the sum into one pass, over the input itself between the borders. A kernel's gradient runs
over the rows of the input and keeps one sum per kernel element.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax.geometry import Geometry
from convjax.layout import Axes, arranged, restored
from convjax.lowerings.call import Call, Problem, correlates, count
from convjax.lowerings.patches import bordered, padded, piece, pieces, reversed_where
from convjax.lowerings.unfused import unfused
from convjax.sharding import same_varying

_CHANNELS = 16  # per group, at most
_UNROLLED = 64  # products written out; more of them are looped over, so that compiling stays quick
_APART = 25  # products for which borders are computed apart: their code is written
_APART_IN_GRADIENTS = 12  # out again, and gradients have enough to compile as it is
_SUMS = 16  # kernel elements whose gradients are summed in one pass over the rows: no more, or
_AXIS = 32  # those of the kernel's last axis, if they are no more than this
_ROWS = 2  # rows added to these sums at once,
_PRODUCTS = 48  # if they are no more products than this
_CACHE = 1 << 18  # bytes that the sums may take, so that they stay in the second-level cache


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
        y = _correlate(x, kernel, call, out_space).astype(call.result_type(x))
        return restored(y, call.layout.out, "space batch out group", shape)
    roles = "out batch group space" if _groups_first(call) else "out batch space group"

    def shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
        y = _shift(x, kernel, call, out_space).astype(call.result_type(x))
        # With its channels in one axis XLA must put them in order here, in the loop of the sum.
        return restored(y, call.layout.out, roles, shape).reshape(_joined(call.layout.out, shape))

    if call.platform == "cpu" and not call.partitioned and not call.part:
        return unfused(shifted, x, kernel).reshape(shape)
    return shifted(x, kernel).reshape(shape)


def _joined(axes: Axes, shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """`shape` with neighbouring axes of groups and channels as one."""
    channels = (*axes.group, *axes.out)
    joined: list[Any] = []
    for axis, size in enumerate(shape):
        if axis in channels and axis - 1 in channels:
            joined[-1] *= size
        else:
            joined.append(size)
    return tuple(joined)


def _split(axes: tuple[int, ...], limit: int) -> int:
    """From which axis on the product of the extents stays within `limit`."""
    first = len(axes)
    while first > 0 and math.prod(axes[first - 1 :]) <= limit:
        first -= 1
    return first


def _groups_first(call: Call) -> bool:
    """Whether the groups lie before space, where they stay."""
    return () < call.layout.x.group < call.layout.x.space


def _shift(x: jax.Array, kernel: jax.Array, call: Call, out_space: Any) -> jax.Array:
    """(O, N, *out_space, G), or (O, N, G, *out_space): every tap shifts the whole input."""
    geometry, rank = call.geometry, call.geometry.rank
    sums = call.accumulator(x)
    groups_first = _groups_first(call)
    rest = "group space" if groups_first else "space group"
    first = 3 if groups_first else 2
    x = arranged(x, call.layout.x, f"contract batch {rest}")
    kernel = arranged(kernel, call.layout.kernel, "space contract out group")
    kernel = reversed_where(kernel, geometry, 0).astype(sums)
    window, (inputs, outputs, groups) = kernel.shape[:rank], kernel.shape[rank:]
    weight_shape = (groups, *(1,) * rank) if groups_first else (*(1,) * rank, groups)
    looped = _split(window, _UNROLLED // inputs)

    def met(total: Any, shifted: jax.Array, tap: Any) -> Any:
        """`total` and what one tap adds to it."""
        weights = piece(kernel, 0, tap, (1,) * rank, (1,) * rank)
        for i in range(inputs):
            weight = weights[(0,) * rank][i].reshape(outputs, 1, *weight_shape)
            total = total + shifted[i][None] * weight
        return total

    def unrolled(x: jax.Array, geometry: Geometry, out_space: Any) -> jax.Array:
        total: Any = jnp.zeros((), sums)
        for tap, shifted in pieces(x, geometry, first, window, out_space, call.partitioned):
            total = met(total, shifted.astype(sums), tap)
        return total

    if looped == 0:
        most = _APART if call.role == "forward" else _APART_IN_GRADIENTS
        apart = math.prod(window) * inputs * outputs <= most
        if apart and not groups_first and not call.partitioned:
            return bordered(x, geometry, first, window, out_space, unrolled)
        return unrolled(x, geometry, out_space)
    x = padded(x, geometry, first).astype(sums)

    def added(total: Any, leading: Any) -> Any:
        """`total` and the taps whose first coordinates are `leading`."""
        for trailing in np.ndindex(*window[looped:]):
            tap = (*leading, *trailing)
            starts = [t * d for t, d in zip(tap, geometry.kernel_dilation, strict=True)]
            total = met(total, piece(x, first, starts, geometry.strides, out_space), tap)
        return total

    sizes = (groups, *out_space) if groups_first else (*out_space, groups)
    zeros = jnp.zeros((outputs, x.shape[1], *sizes), sums)
    taps = np.array(list(np.ndindex(*window[:looped])), np.int32)
    total, _ = lax.scan(
        lambda total, tap: (added(total, tuple(tap)), None),
        same_varying(zeros, x, kernel)[0],
        taps,
    )
    return total


def _correlate(x: jax.Array, kernel: jax.Array, call: Call, out_space: Any) -> jax.Array:
    """(*out_space, N, O, G): every element of the result is a sum over rows of the window."""
    geometry, rank = call.geometry, call.geometry.rank
    sums = call.accumulator(x)
    x = padded(arranged(x, call.layout.x, "batch contract space group"), geometry, 2).astype(sums)
    kernel = arranged(kernel, call.layout.kernel, "out contract space group")
    kernel = reversed_where(kernel, geometry, 2).astype(sums)
    (outputs, depth, *window, groups), inputs = kernel.shape, x.shape[0]

    # One pass sums the elements with the same first coordinates, all others at once.
    first = _split(out_space, _SUMS)
    if first == rank and out_space[-1] <= _AXIS:
        first = rank - 1
    together = list(np.ndindex(*out_space[first:]))
    size = sums.itemsize * inputs * outputs * groups * len(together)
    block = max(1, _CACHE // size)

    def summed(leading: Any) -> jax.Array:
        """Sums over the window, (elements in one pass, N, O, G)."""

        def added(total: jax.Array, element: Any, position: Any, sizes: Any) -> jax.Array:
            n, *place = position
            starts = [
                r * s + t * d
                for r, s, t, d in zip(
                    (*leading, *element), geometry.strides, place, geometry.kernel_dilation,
                    strict=True,
                )
            ]  # fmt: skip
            row = piece(x, 1, (n, *starts), (1, *geometry.kernel_dilation), sizes)
            weights = piece(kernel, 1, (n, *place), (1,) * (rank + 1), sizes)
            return total + row[:, None] * weights[None]

        result: Any = 0
        for sizes, positions in _rows((depth, *window), block):
            most = max(1, min(_ROWS, _PRODUCTS // len(together)))
            rows = max(r for r in range(1, most + 1) if len(positions) % r == 0)

            def step(totals: list[Any], positions: Any, sizes: Any = sizes) -> Any:
                for position in positions:
                    totals = [
                        added(total, element, tuple(position), sizes)
                        for total, element in zip(totals, together, strict=True)
                    ]
                return totals, None

            zeros = jnp.zeros((inputs, outputs, *sizes, groups), sums)
            totals, _ = lax.scan(
                step,
                [same_varying(zeros, x, kernel)[0]] * len(together),
                positions.reshape(-1, rows, positions.shape[-1]),
            )
            result = result + jnp.stack(totals).sum(tuple(range(3, zeros.ndim)))
        return result

    if first == 0:
        y = summed(())
    else:
        leading = np.array(list(np.ndindex(*out_space[:first])), np.int32)
        y = lax.map(lambda row: summed(tuple(row)), leading)
    return y.reshape(*out_space, inputs, outputs, groups)


def _rows(extents: tuple[int, ...], block: int) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Blocks of at most `block` positions that cover a window of `extents`: sizes, first positions.

    Whole rows, as many together as fit and divide their axis; or parts of rows, of two kinds at
    most: as long as fits, and the rest that these do not fill.
    """
    *others, last = extents
    width = min(block, last)
    fitting = [r for r in range(1, others[-1] + 1) if others[-1] % r == 0 and r * last <= block]
    rows = max(fitting, default=1)
    for length, firsts in ((width, range(0, last - width + 1, width)), (last % width, [-1])):
        if length:
            firsts = [last - length] if firsts == [-1] else firsts
            starts = [range(n) for n in others[:-1]] + [range(0, others[-1], rows)]
            positions = [(*place, f) for place in itertools.product(*starts) for f in firsts]
            yield (*(1,) * (len(others) - 1), rows, length), np.array(positions, np.int32)
