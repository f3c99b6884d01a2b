"""Execute a recipe: extend or fold, split the channels into (group, channel) axes, bind, merge.

This is the only place where a convolution's arrays are touched before and after the operation.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from convjax._core import declared
from convjax._core.eager import compiled
from convjax._core.layout import Axes
from convjax._core.recipe import Recipe
from convjax._lowerings import direct
from convjax._operation import primitive
from convjax._operation.boundary_modes import extend, fold
from convjax._sharding.sharding import as_operand, divisible, is_explicit, mesh_size


def apply(recipe: Recipe, x: Any, kernel: Any) -> jax.Array:
    """The convolution of `x` and `kernel`, whose shapes and dtypes are those of the recipe."""
    if not isinstance(x, jax.Array):
        x = jnp.asarray(x)
    if not isinstance(kernel, jax.Array):
        kernel = jnp.asarray(kernel)
    if not (isinstance(x, jax.core.Tracer) or isinstance(kernel, jax.core.Tracer)):
        return _once(recipe)(x, kernel)
    return _apply(recipe, x, kernel)


@functools.lru_cache(maxsize=1024)
def _once(recipe: Recipe) -> Callable[..., jax.Array]:
    return compiled(functools.partial(_apply, recipe))


def _apply(recipe: Recipe, x: jax.Array, kernel: jax.Array) -> jax.Array:
    sharding = recipe.out_sharding
    if not recipe.extension:
        return _grouped(recipe, x, kernel, sharding)
    out = recipe.layout.out
    if sharding is None:
        sharding = as_operand(x, kernel, recipe.layout, recipe.out_space)
    if not recipe.folds:
        x = extend(x, recipe.extension, recipe.modes, recipe.layout.x.space)
        return _grouped(recipe, x, kernel, sharding)
    y = _grouped(recipe, x, kernel, divisible(sharding, out.space, recipe.written))
    y = fold(y, recipe.extension, recipe.modes, out.space)
    return y if sharding is None else jax.reshard(y, sharding)


def _grouped(recipe: Recipe, x: jax.Array, kernel: jax.Array, merged_sharding: Any) -> jax.Array:
    """The operation, the channels split into (group, channel) axes before it and merged after."""
    layout, groups, out_sharding = recipe.layout, recipe.groups, merged_sharding
    channel = layout.out.out[0]
    if groups != 1:
        x = _split(x, layout.x, recipe.x_groups, groups)
        kernel = _split(kernel, layout.kernel, recipe.kernel_groups, groups)
        layout = recipe.split_layout
        if merged_sharding is not None:
            mesh, spec = merged_sharding.mesh, list(merged_sharding.spec)
            led = groups % mesh_size(mesh, spec[channel]) == 0
            spec[channel : channel + 1] = [spec[channel] if led else None, None]
            out_sharding = NamedSharding(mesh, PartitionSpec(*spec))
    if recipe.algorithm in ("direct", ("direct",) * 3):
        y = direct.convolution(
            x,
            kernel,
            geometry=recipe.geometry,
            layout=layout,
            precision=recipe.precision,
            preferred_element_type=recipe.result_type,
            out_sharding=None if groups != 1 else out_sharding,
        )
    else:
        y = primitive.bind(
            x,
            kernel,
            geometry=recipe.geometry,
            layout=layout,
            precision=recipe.precision,
            preferred_element_type=recipe.result_type,
            out_sharding=out_sharding,
            algorithm=recipe.algorithm,
            compiled_with=declared.now(),
        )
    if groups == 1:
        return y
    shape = (*y.shape[:channel], y.shape[channel] * y.shape[channel + 1], *y.shape[channel + 2 :])
    y = lax.reshape(y, shape)
    return y if merged_sharding is None else jax.reshard(y, merged_sharding)


def _split(x: jax.Array, axes: Axes, role: str, groups: int) -> jax.Array:
    """Split the axis of `role` into (groups, the rest), the sharding going to the groups."""
    (axis,) = getattr(axes, role)
    shape = (*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])
    held = jax.typeof(x).sharding
    if not held.mesh.empty and is_explicit(held.mesh) and held.spec[axis] is not None:
        spec = list(held.spec)
        if groups % mesh_size(held.mesh, spec[axis]) != 0:
            spec[axis] = None
            x = jax.reshard(x, NamedSharding(held.mesh, PartitionSpec(*spec)))
        spec[axis : axis + 1] = [spec[axis], None]
        return lax.reshape(x, shape, out_sharding=NamedSharding(held.mesh, PartitionSpec(*spec)))
    return lax.reshape(x, shape)
