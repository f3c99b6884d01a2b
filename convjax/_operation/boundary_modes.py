"""Boundary modes as a linear map: what lies beyond the edges is copied from inside.

Two primitives, each the adjoint of the other: `extend` copies, `fold` adds what was copied back to
where it came from. They are primitives so that the library splits them over devices by itself.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from convjax._core.geometry import Pair
from convjax._operation.registries import Primitive, linear_rules
from convjax._sharding import distributed
from convjax._sharding.sharding import is_explicit, mesh_size
from convjax._sharding.splits import ExtensionSplit


def extend(
    x: jax.Array, extension: Sequence[Pair], modes: Sequence[str], axes: Sequence[int]
) -> jax.Array:
    """`x` with its spatial `axes` extended by their boundary modes: a linear map."""
    for axis, pair, mode in zip(axes, extension, modes, strict=True):
        if mode != "constant" and pair != (0, 0):
            x = extend_p.bind(x, axis=axis, pair=tuple(pair), mode=mode, out_sharding=None)
    return x


def fold(
    y: jax.Array, extension: Sequence[Pair], modes: Sequence[str], axes: Sequence[int]
) -> jax.Array:
    """The adjoint of `extend`: copies beyond the edges are added back to their origins."""
    for axis, pair, mode in reversed(list(zip(axes, extension, modes, strict=True))):
        if mode != "constant" and pair != (0, 0):
            y = fold_p.bind(y, axis=axis, pair=tuple(pair), mode=mode, out_sharding=None)
    return y


# ---- what lies beyond an edge --------------------------------------------------------------------


def _origins(mode: str, n: Any, pair: Pair) -> list[tuple[Any, Any]]:
    """Where what lies before and behind the edges of `n` elements comes from: first and count."""
    low, high = pair
    return {
        "edge": [(0, 1), (n - 1, 1)],
        "wrap": [(n - low, low), (0, high)],
        "symmetric": [(0, low), (n - high, high)],
        "reflect": [(1, low), (n - 1 - high, high)],
    }[mode]


def _copy(mode: str, axis: int, length: Any) -> Callable[[jax.Array], jax.Array]:
    """What makes of an origin's elements the `length` elements beyond the edge."""
    if mode == "wrap":
        return lambda origin: origin
    if mode == "edge":
        return lambda origin: jnp.broadcast_to(
            origin, (*origin.shape[:axis], length, *origin.shape[axis + 1 :])
        )
    return lambda origin: lax.rev(origin, (axis,))


def _add_up(mode: str, axis: int) -> Callable[[jax.Array], jax.Array]:
    """The adjoint of `_copy`: what of the elements beyond the edge is added to their origin."""
    if mode == "edge":
        return lambda beyond: jnp.sum(beyond, axis, keepdims=True, dtype=beyond.dtype)
    return _copy(mode, axis, None)  # a permutation, and its own inverse


def _extended(x: jax.Array, *, axis: int, pair: Pair, mode: str) -> jax.Array:
    """`extend` on one device."""
    before, after = (
        [_copy(mode, axis, length)(lax.slice_in_dim(x, first, first + count, axis=axis))]
        if not (isinstance(length, int) and length == 0)
        else []
        for length, (first, count) in zip(pair, _origins(mode, x.shape[axis], pair), strict=True)
    )
    return lax.concatenate([*before, x, *after], axis)


def _folded(y: jax.Array, *, axis: int, pair: Pair, mode: str) -> jax.Array:
    """`fold` on one device."""
    low, high = pair
    n = y.shape[axis] - low - high
    x = lax.slice_in_dim(y, low, low + n, axis=axis)
    for begin, length, (first, count) in zip(
        (0, low + n), pair, _origins(mode, n, pair), strict=True
    ):
        if not (isinstance(length, int) and length == 0):
            beyond = lax.slice_in_dim(y, begin, begin + length, axis=axis)
            pads = [(0, 0, 0)] * x.ndim
            pads[axis] = (first, n - first - count, 0)
            x = x + lax.pad(_add_up(mode, axis)(beyond), jnp.zeros((), x.dtype), pads)
    return x


extend_p = Primitive("convjax_extend", linear_rules(_extended))
fold_p = Primitive("convjax_fold", linear_rules(_folded))


# ---- the rules of the primitives -----------------------------------------------------------------


def _abstract(x: Any, *, axis: int, pair: Pair, mode: str, out_sharding: Any, sign: int) -> Any:
    size = x.shape[axis] + sign * (pair[0] + pair[1])
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    if out_sharding is None:
        out_sharding = x.sharding
        if is_explicit(out_sharding.mesh):
            spec = list(out_sharding.spec)
            if spec[axis] is not None and size % mesh_size(out_sharding.mesh, spec[axis]):
                spec[axis] = None
            out_sharding = NamedSharding(out_sharding.mesh, PartitionSpec(*spec))
    return x.update(shape=shape, sharding=out_sharding)


@functools.lru_cache(maxsize=1024)
def _compiled(primitive: Primitive, **params: Any) -> Any:
    return jax.jit(functools.partial(primitive.bind, **params))


def _evaluate(primitive: Primitive, x: Any, **params: Any) -> jax.Array:
    with jax.disable_jit(False):
        y: jax.Array = _compiled(primitive, **params)(x)
    return y


def _transpose(
    ct: Any, x: Any, *, adjoint: Primitive, out_sharding: Any, **params: Any
) -> list[Any]:
    aval = x.aval if ad.is_undefined_primal(x) else jax.typeof(x)
    kept = aval.sharding if is_explicit(aval.sharding.mesh) else None
    return [adjoint.bind(ct, out_sharding=kept, **params)]


def _batch(
    axis_data: Any, operands: Any, axes: Any, *, primitive: Primitive, axis: int,
    out_sharding: Any, **params: Any,
) -> tuple[jax.Array, int | None]:  # fmt: skip
    (x,), (batch,) = operands, axes
    if batch is None:
        return primitive.bind(x, axis=axis, out_sharding=out_sharding, **params), None
    if out_sharding is not None:
        spec = list(out_sharding.spec)
        spec.insert(batch, axis_data.explicit_mesh_axis)
        out_sharding = NamedSharding(out_sharding.mesh, PartitionSpec(*spec))
    axis += axis >= batch
    return primitive.bind(x, axis=axis, out_sharding=out_sharding, **params), batch


def _lower(
    ctx: Any, x: Any, *, platform: str, adjoint: bool, axis: int, pair: Pair, mode: str,
    out_sharding: Any,
) -> Any:  # fmt: skip
    (aval,), (out,) = ctx.avals_in, ctx.avals_out
    place = distributed.Place.of(ctx)
    who = distributed.splitter(ctx, place, platform)
    whole = functools.partial(_folded if adjoint else _extended, axis=axis, pair=pair, mode=mode)

    def split() -> ExtensionSplit:
        n = (out if adjoint else aval).shape[axis]
        beyond = [
            (first, count, _add_up(mode, axis) if adjoint else _copy(mode, axis, length))
            for length, (first, count) in zip(pair, _origins(mode, n, pair), strict=True)
        ]
        return ExtensionSplit(aval, axis, pair, beyond, whole, adjoint)

    description = repr((adjoint, axis, pair, mode))
    return distributed.lower(ctx, (x,), place, who, whole, split, description)


for _primitive, _sign, _other in ((extend_p, 1, fold_p), (fold_p, -1, extend_p)):
    _primitive.def_abstract_eval(functools.partial(_abstract, sign=_sign))
    _primitive.def_impl(functools.partial(_evaluate, _primitive))
    ad.deflinear2(_primitive, functools.partial(_transpose, adjoint=_other))
    batching.fancy_primitive_batchers[_primitive] = functools.partial(_batch, primitive=_primitive)
    for _platform in ("cpu", "cuda", "rocm", "tpu"):
        mlir.register_lowering(
            _primitive,
            functools.partial(_lower, platform=_platform, adjoint=_sign < 0),
            platform=_platform,
        )
    mlir.register_lowering(
        _primitive, functools.partial(_lower, platform="other", adjoint=_sign < 0)
    )
