"""The gradient of a kernel of few channels: sums over the rows of the input, one row at a time.

One sum is kept per kernel element and stays in the cache, while a loop reads the rows.
"""

import functools
import itertools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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

_MANY = 64  # groups that fill vectors by themselves: with one pair of channels they stay an axis
_INT32 = 1 << 31

_Block = tuple[tuple[int, ...], np.ndarray]  # its extents, and its first positions


class _Plan(NamedTuple):
    """What every sum of one gradient is computed from. Spatial extents are of two axes or more.

    Attributes:
        x: the padded input, (N, C, *space, G), or with the groups before the space.
        kernel: the gradient of the result, its window, in the same order.
        groups_first: whether the groups lie before the space.
        rank: how many spatial axes the two arrays have.
        strides, steps: the elements of x between two kernel elements, and between two positions.
        lines: the kernel's extent on its first axis. Its elements along that axis read neighbouring
            rows of x, in one slice.
        unrolled: the elements across the lines that are summed in one pass, (T, axes).
        wide: the number of groups where rows and groups are one axis, so that a vector has several
            columns if the groups are few; else 0.
    """

    x: jax.Array
    kernel: jax.Array
    groups_first: bool
    rank: int
    strides: tuple[int, ...]
    steps: tuple[int, ...]
    lines: int
    unrolled: np.ndarray
    wide: int

    @property
    def groups(self) -> int:
        return self.kernel.shape[2 if self.groups_first else -1]

    def ordered(self, contracted: Any, space: Any, channels: Any) -> tuple[Any, ...]:
        """What belongs to the contracted axis, to space and to the groups, in the arrays' order."""
        space = space[-self.rank :]
        if self.wide:
            return (contracted, *space)
        return (contracted, *((channels, *space) if self.groups_first else (*space, channels)))


def kernel_gradient_by_rows(x: jax.Array, kernel: jax.Array, call: Call, shape: Any) -> jax.Array:
    """The result of this `shape`, every element of which is a sum over rows of the window."""
    geometry, rank, axes = call.geometry, call.geometry.rank, call.layout.out
    sums, result_type = call.accumulator(x), call.result_type(x)
    problem, limits = call.problem, call.limits
    # Several pairs of channels would read these rows several times, short as they are in memory.
    few = rank == 1 or count(problem.out_space) <= _FEW
    groups_first = call.groups_first and problem.n == problem.o == 1 and few
    rest, first = ("group space", 3) if groups_first else ("space group", 2)
    x = padded(arranged(x, call.layout.x, f"batch contract {rest}"), geometry, first).astype(sums)
    kernel = arranged(kernel, call.layout.kernel, f"out contract {rest}")
    kernel = reversed_where(kernel, geometry, first).astype(sums)
    out_space = tuple(shape[axis] for axis in axes.space)
    window = kernel.shape[first : first + rank]
    steps, strides = geometry.kernel_dilation, geometry.strides
    if rank == 1:  # as two axes, of which the first has one element
        steps, strides, window, out_space = (
            (1, *extents) for extents in (steps, strides, window, out_space)
        )

    # The elements across the lines are summed at once, or, where they are many, in one pass after
    # another.
    lines, *across = out_space
    looped = looped_over(tuple(across), _SUMS)
    unrolled = np.array(list(np.ndindex(*across[looped:])), np.int32)
    groups = kernel.shape[2 if groups_first else -1]
    size = sums.itemsize * x.shape[0] * kernel.shape[0] * groups * lines * len(unrolled)
    extents = (window[0], kernel.shape[1], *window[1:])
    blocks = list(_blocks(extents, max(1, limits.cache // size)))
    wide = 0
    one_of_many = problem.n == problem.o == 1 and count((groups,)) >= _MANY
    are_int32 = count((window[-1], groups)) < _INT32 // 2  # the places along such a row
    if not groups_first and not one_of_many and steps[-1] == 1 and are_int32:
        wide = groups
        x, kernel = (a.reshape(*a.shape[:-2], -1) for a in (x, kernel))
        strides = (*strides[:-1], strides[-1] * wide)
        blocks = [_widened(block, wide) for block in blocks]
    plan = _Plan(x, kernel, groups_first, rank, strides, steps, lines, unrolled, wide)
    most = max(1, min(_ROWS if is_large(x, limits) else 1, _PRODUCTS // len(unrolled)))

    if looped > 0:
        places = np.array(list(np.ndindex(*across[:looped])), np.int32)
        y = lax.map(lambda place: _summed(plan, tuple(place), blocks, most), places)
    else:
        y = _summed(plan, (), blocks, most)
    y = y.reshape(*across, *y.shape[1 + int(looped > 0) :])
    # (*across, N, O, lines and G): the lines come before the other spatial axes
    first = len(across) + 2 + int(groups_first) + int(rank > 1)
    order = [*range(len(across), first), *range(len(across)), *range(first, y.ndim)]
    y = moved(y, order, whole=True)
    roles = "batch out group space" if groups_first else "batch out space group"
    return restored(y.astype(result_type), axes, roles, shape, whole=True)


def _summed(plan: _Plan, leading: tuple[Any, ...], blocks: Sequence[_Block], most: int) -> Any:
    """Sums over the window, block by block, for the elements that `leading` begins.

    They are (T, N, O, lines and G). At most `most` rows are added to them at once.
    """
    x, kernel, many = plan.x, plan.kernel, len(plan.unrolled)
    found: list[jax.Array] = []
    for (_, images, *block), positions in blocks:
        rows = max(r for r in range(1, most + 1) if len(positions) % r == 0)
        positions = positions.reshape(-1, rows, positions.shape[-1])
        sizes = plan.ordered(images, (plan.lines, *block), plan.groups)
        zeros = jnp.zeros((many, x.shape[0], kernel.shape[0], *sizes), x.dtype)
        turns = np.arange(len(positions) * many, dtype=np.int32)
        # One kernel for one thread on jaxlib 0.12, which is as fast: the input's gradient runs on
        # the others.
        totals, _ = lax.scan(
            functools.partial(_turn, plan, leading, positions, (images, *block)),
            same_varying(zeros, x, kernel)[0],
            np.divmod(turns, np.int32(many)),
        )
        if plan.wide:
            totals = totals.reshape(*totals.shape[:-1], -1, plan.wide)
        of_block = plan._replace(wide=0).ordered(
            True, (plan.rank == 1, *(True,) * len(block)), False
        )
        found.append(totals.sum([axis for axis, gone in enumerate(of_block, 3) if gone]))
    return functools.reduce(operator.add, found)


def _turn(
    plan: _Plan,
    leading: tuple[Any, ...],
    positions: np.ndarray,
    sizes: tuple[int, ...],
    totals: jax.Array,
    number: tuple[Any, Any],
) -> tuple[jax.Array, None]:
    """One element's sums, in place: a slice of the array that is carried.

    `number` says which positions are added, and to which of the elements that are summed at once.
    """
    row, which = number
    corner: list[Any] = [which, *[np.int32(0)] * (totals.ndim - 1)]
    within = {"allow_negative_indices": False}
    total = lax.dynamic_slice(totals, corner, (1, *totals.shape[1:]), **within)
    element = (0, *leading, *_entry(plan.unrolled, which))
    for position in _entry(positions, row):
        total = _added(plan, total, position, element, sizes)
    return lax.dynamic_update_slice(totals, total, corner, **within), None


def _added(plan: _Plan, total: Any, position: Any, element: Any, sizes: Any) -> Any:
    """`total`, and x where kernel `element` meets the window at `position`, times the window."""
    at, n, *place = position
    images, *block = sizes
    meets = zip((at, *place), plan.steps, element, plan.strides, strict=True)
    every, ones = (plan.strides[0], *plan.steps[1:]), (1,) * len(plan.steps)
    rows = piece(
        plan.x,
        1,
        plan.ordered(n, list(itertools.starmap(_met, meets)), 0),
        plan.ordered(1, every, 1),
        plan.ordered(images, (plan.lines, *block), plan.groups),
    )
    weights = piece(
        plan.kernel,
        1,
        plan.ordered(n, (at, *place), 0),
        plan.ordered(1, ones, 1),
        plan.ordered(images, (1, *block), plan.groups),
    )
    return total + rows[None, :, None] * weights[None, None]


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


def _widened(block: _Block, wide: int) -> _Block:
    """A block on whose last axis each element is as many."""
    (*extents, last), positions = block
    return (*extents, last * wide), positions * np.array([*[1] * len(extents), wide], np.int32)


def _blocks(extents: tuple[int, ...], block: int) -> Iterator[_Block]:
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
