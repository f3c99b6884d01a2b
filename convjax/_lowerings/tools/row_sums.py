"""The gradient of a kernel of few channels: sums over the rows of the input, one row at a time.

One sum is kept per kernel element and stays in the cache, while a loop reads the rows.
"""

import functools
import itertools
import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core.layout import arranged, moved, restored
from convjax._lowerings.problem import Call, count, is_large
from convjax._lowerings.tools.slices import looped_over, padded, piece, reversed_where
from convjax._sharding.sharding import same_varying

_SUMS = 16  # kernel elements across the lines whose gradients are summed in one pass, at most
_ROWS = 2  # rows of a large input added to these sums at once,
_PRODUCTS = 48  # if they are no more products than this
# Elements of a kernel, for each group. Where they are more, groups that come first are moved last,
# which costs as much as a few elements. Then a vector has several groups, and not a part of a short
# row. On 0.10.2 and 0.12.0.1 (AVX2) gradients of 5x5 to 9x9 took 2 to 5 times as long without.
_FEW = 16
_CACHE = 1 << 17  # bytes that the sums may take, which with the rows stay in the second-level cache


def kernel_gradient_by_rows(x: jax.Array, kernel: jax.Array, call: Call, shape: Any) -> jax.Array:
    """The result of this `shape`, every element of which is a sum over rows of the window."""
    geometry, rank, axes = call.geometry, call.geometry.rank, call.layout.out
    sums, result_type = call.accumulator(x), call.result_type(x)
    problem = call.problem
    # Several pairs of channels would read these rows several times, short as they are in memory.
    few = rank == 1 or count(problem.out_space) <= _FEW
    groups_first = call.groups_first and problem.n == problem.o == 1 and few
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
    looped = looped_over(tuple(across), _SUMS)
    unrolled = np.array(list(np.ndindex(*across[looped:])), np.int32)
    size = sums.itemsize * inputs * outputs * groups * lines * len(unrolled)
    most = max(
        1,
        min(_ROWS if is_large(x) else 1, _PRODUCTS // len(unrolled)),
    )

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
            element = _entry(unrolled, which)
            for position in _entry(positions, row):
                total = added(total, position, element, sizes)
            return lax.dynamic_update_slice(totals, total, corner, **within), None

        found: list[jax.Array] = []
        blocks = _blocks((window[0], depth, *window[1:]), max(1, _CACHE // size))
        for (_, images, *block), positions in blocks:
            rows = max(r for r in range(1, most + 1) if len(positions) % r == 0)
            positions = positions.reshape(-1, rows, positions.shape[-1])
            sizes = with_groups(images, (lines, *block), groups)
            zeros = jnp.zeros((len(unrolled), inputs, outputs, *sizes), sums)
            turns = np.arange(len(positions) * len(unrolled), dtype=np.int32)
            # One kernel for one thread on jaxlib 0.12, which is as fast: the input's gradient runs
            # on the others.
            totals, _ = lax.scan(
                functools.partial(turn, positions=positions, sizes=(images, *block)),
                same_varying(zeros, x, kernel)[0],
                np.divmod(turns, np.int32(len(unrolled))),
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


def _blocks(extents: tuple[int, ...], block: int) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
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
