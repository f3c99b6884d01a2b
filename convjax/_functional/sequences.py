"""Packed and sharded sequences of a causal convolution."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core import checks
from convjax._core.layout import channels_last
from convjax._functional.causal_plan import Plan
from convjax._functional.prepare import Names, resolved
from convjax._operation.grouping import apply

# ---- packs ---------------------------------------------------------------------------------------


def packed(
    made: Plan, x: jax.Array, kernel: jax.Array, state: Any, ids: jax.Array, left_ids: Any
) -> tuple[jax.Array, jax.Array]:
    """Several sequences in a row: a tap that would cross a boundary reads the left edge instead.

    `left_ids` (N, S) are the ids of `state`; by default each is the id of the first step.
    """
    rows, steps = ids.shape
    before = jnp.broadcast_to(ids[:, :1], (rows, made.held)) if left_ids is None else left_ids
    run = _runs(jnp.concatenate([before, ids], 1))
    if state is None:
        state = made.edge(x, made.held)  # of the first run
    both = jnp.concatenate([state, x], made.axis)
    edges = _first_of_runs(made, both, run) if made.mode == "edge" else None

    def seen(start: int, run_of: jax.Array, edge: Any) -> jax.Array:
        """What lies from `start` on, if it is of the run `run_of`; otherwise `edge`, or zeros."""
        count = run_of.shape[1]
        piece = lax.slice_in_dim(both, start, start + count, axis=made.axis)
        same = run[:, start : start + count] == run_of
        beyond = jnp.zeros((), x.dtype) if edge is None else edge
        return jnp.where(made.of_x(same), piece, beyond)

    here = edges if edges is None else lax.slice_in_dim(edges, made.held, None, axis=made.axis)
    step = made.dilation[made.index]
    taps = [seen(at, run[:, made.held :], here) for at in range(0, made.held, step)]
    taps.append(x)
    y = _summed(made, taps, kernel) if made.ordered else _folded(made, taps, kernel)

    last = jnp.broadcast_to(run[:, -1:], (rows, made.held))
    edge = edges if edges is None else lax.slice_in_dim(edges, -1, None, axis=made.axis)
    return y, seen(steps, last, edge)


def _runs(ids: jax.Array) -> jax.Array:
    """(N, T): how many boundaries lie before every step."""
    changes = (ids[:, 1:] != ids[:, :-1]).astype(jnp.int32)
    return jnp.concatenate([jnp.zeros_like(ids[:, :1], jnp.int32), jnp.cumsum(changes, 1)], 1)


def _first_of_runs(made: Plan, x: jax.Array, run: jax.Array) -> jax.Array:
    """At every step the first input of its run."""
    begins = jnp.concatenate([run[:, :1] == 0, run[:, 1:] != run[:, :-1]], 1)
    place = jnp.where(begins, jnp.arange(run.shape[1])[None], 0)
    return made.at(x, lax.cummax(place, 1))


def _summed(made: Plan, taps: list[jax.Array], kernel: jax.Array) -> jax.Array:
    """The sum of taps in their order: a depthwise kernel along one axis."""
    axes = made.layout.kernel
    kernel = jnp.transpose(kernel, (*axes.space, *axes.contract, *axes.out))
    order = (*made.layout.x.batch, made.axis, *made.layout.x.contract)
    taps = [jnp.transpose(tap, order) for tap in taps]
    preferred = made.numerics["preferred_element_type"]
    return _laid_out(made, _ordered_sum(taps, kernel, preferred))


@functools.partial(jax.jit, static_argnames="preferred")  # one program outside of `jit`, too
def _ordered_sum(taps: list[jax.Array], kernel: jax.Array, preferred: Any) -> jax.Array:
    """(N, T, C*M) of taps (N, T, C) and weights (K, 1, C*M)."""
    result = jnp.dtype(taps[0].dtype if preferred is None else preferred)
    narrow = jnp.issubdtype(result, jnp.floating) and result.itemsize < 4
    sums = jnp.dtype(jnp.float32) if narrow else result
    y: Any = None
    for tap, weights in zip(taps, kernel, strict=True):
        tap = tap.astype(sums)
        weights = weights.reshape(tap.shape[-1], -1).astype(sums)
        if weights.shape[1] == 1:
            term = tap * weights[:, 0]
        else:
            term = (tap[..., None] * weights).reshape(*tap.shape[:2], -1)
        y = term if y is None else y + term
    return y.astype(result)


def _folded(made: Plan, taps: list[jax.Array], kernel: jax.Array) -> jax.Array:
    """The convolution over the other axes, with the taps of the causal one folded into channels."""
    layout, groups = made.layout, made.groups

    def others(values: Any) -> list[Any]:
        return [value for place, value in enumerate(values) if place != made.index]

    order = (*layout.x.batch, made.axis, *others(layout.x.space), *layout.x.contract)
    split = []
    for tap in taps:
        tap = jnp.transpose(tap, order)
        split.append(tap.reshape(*tap.shape[:-1], groups, 1, tap.shape[-1] // groups))
    x = jnp.concatenate(split, -2)
    x = x.reshape(*x.shape[:-3], -1)
    window = layout.kernel.space
    places = (*others(window), window[made.index], *layout.kernel.contract, *layout.kernel.out)
    kernel = jnp.transpose(kernel, places)
    kernel = kernel.reshape(1, *kernel.shape[:-3], -1, kernel.shape[-1])
    options = {
        "strides": (1, *others(made.strides)),
        "padding": ((0, 0), *made.others),
        "padding_mode": ("constant", *others(made.modes)),
        "kernel_dilation": (1, *others(made.dilation)),
        "feature_group_count": groups,
        "algorithm": made.algorithm,
        **made.numerics,
    }
    names, last = Names(made.function), channels_last(x.ndim)
    recipe = resolved(names, last, x.shape, kernel.shape, made.dtype, options)
    return _laid_out(made, apply(recipe, x, kernel))


def _laid_out(made: Plan, y: jax.Array) -> jax.Array:
    """`y` (N, T, *others, O) in the layout of the result."""
    out = made.layout.out
    others = [axis for place, axis in enumerate(out.space) if place != made.index]
    return jnp.moveaxis(y, range(y.ndim), (*out.batch, made.out_axis, *others, *out.out))


# ---- shards --------------------------------------------------------------------------------------


def check_mesh_axis(function: str, argument: str, value: Any) -> None:
    """Refuse what names no mesh axis that is manual here."""
    names = value if isinstance(value, tuple) else (value,)
    if value is None:
        return
    if not names or not all(isinstance(name, str) for name in names):
        checks.fail_type(function, argument, value, "must be a mesh axis's name, or None")
    try:
        lax.axis_index(value)
    except NameError:
        checks.fail(
            function,
            argument,
            value,
            "must be a mesh axis that is manual here",
            "Call it inside `jax.shard_map` over that axis.",
        )


def neighbours(
    made: Plan, x: jax.Array, state: Any, ids: Any, mesh_axis: Any
) -> tuple[jax.Array, Any]:
    """The state of every shard, and its segment ids: the end of the shard before.

    The first shard has the state of the whole sequence.
    """
    shards = lax.axis_size(mesh_axis)
    first = lax.axis_index(mesh_axis) == 0
    onward = [(shard, shard + 1) for shard in range(shards - 1)]
    if state is None:
        state = made.edge(x, made.held)
    if made.held == 0:
        return state, None

    def from_before(end: jax.Array, of_the_first: jax.Array) -> jax.Array:
        return jnp.where(first, of_the_first, lax.ppermute(end, mesh_axis, onward))

    steps = x.shape[made.axis]
    end = lax.slice_in_dim(x, steps - made.held, steps, axis=made.axis)
    left_ids = None
    if ids is not None:
        own = jnp.broadcast_to(ids[:, :1], (ids.shape[0], made.held))
        left_ids = from_before(ids[:, steps - made.held :], own)
    return from_before(end, state), left_ids


def of_the_last(state: jax.Array, mesh_axis: Any) -> jax.Array:
    """The last shard's state, on every shard."""
    last = lax.axis_index(mesh_axis) == lax.axis_size(mesh_axis) - 1
    return lax.psum(jnp.where(last, state, jnp.zeros((), state.dtype)), mesh_axis)
