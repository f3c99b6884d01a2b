"""The `direct` lowering: one ``lax.conv_general_dilated``. It accepts every geometry."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.geometry import Geometry
from convjax._core.layout import Layout, Merging
from convjax._core.symbolic import product
from convjax._lowerings.lowering import Lowering, anything, never
from convjax._lowerings.problem import Call

# Read once: a user may put this library's drop-in in its place.
_conv_general_dilated = lax.conv_general_dilated


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    return convolution(
        x,
        kernel,
        geometry=call.geometry,
        layout=call.layout,
        precision=call.precision,
        preferred_element_type=call.preferred_element_type,
        groups_in_batch=call.role == "kernel_gradient",
    )


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    geometry: Geometry,
    layout: Layout,
    precision: Any,
    preferred_element_type: Any,
    groups_in_batch: bool = False,
    out_sharding: Any = None,
) -> jax.Array:
    """The convolution as one call of lax, with group axes merged into channels or batch.

    lax wants groups major in the channels of x (feature groups) or in its batch (batch groups). It
    uses the latter itself for the gradient of a grouped kernel, where the batch of x is I: groups
    and I stay together, and nothing moves.
    """
    axes_x, axes_k, axes_y = layout
    groups = product(axes_x.sizes(x.shape, "group"))
    in_batch = groups_in_batch and bool(axes_x.group)

    batch, contract = axes_x.batch, axes_x.contract
    if in_batch:
        batch = axes_x.group + batch
    else:
        contract = axes_x.group + contract
    merge_x = Merging.of([batch, contract, *((a,) for a in axes_x.space)])
    merge_k = Merging.of(
        [axes_k.group + axes_k.out, axes_k.contract, *((a,) for a in axes_k.space)]
    )
    merge_y = Merging.of([axes_y.batch, axes_y.group + axes_y.out, *((a,) for a in axes_y.space)])

    kernel_shape = kernel.shape
    kernel = merge_k.apply(kernel)
    if geometry.reversal:
        kernel = lax.rev(kernel, merge_k.positions[2:])
    y = _convolve(
        merge_x.apply(x),
        kernel,
        window_strides=geometry.strides,
        padding=geometry.padding,
        lhs_dilation=geometry.input_dilation,
        rhs_dilation=geometry.kernel_dilation,
        dimension_numbers=lax.ConvDimensionNumbers(
            merge_x.positions, merge_k.positions, merge_y.positions
        ),
        feature_group_count=1 if in_batch else groups,
        batch_group_count=groups if in_batch else 1,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )
    space = tuple(y.shape[a] for a in merge_y.positions[2:])
    return merge_y.undo(y, layout.out_shape(x.shape, kernel_shape, space))


def _convolve(x: jax.Array, kernel: jax.Array, **params: Any) -> jax.Array:
    """``lax.conv_general_dilated``, whose padding may depend on symbolic dimensions here.

    lax's function takes only integers as padding; its primitive takes symbolic ones, too.
    """
    if all(isinstance(side, int) for pair in params["padding"] for side in pair):
        return _conv_general_dilated(x, kernel, **params)
    return lax.conv_general_dilated_p.bind(x, kernel, **params)


@functools.lru_cache(maxsize=256)
def _precision(precision: Any, default: Any) -> Any:
    del default  # part of the cache's key: what None means depends on it
    array = jax.ShapeDtypeStruct((1, 1), jnp.float32)
    jaxpr = jax.make_jaxpr(
        lambda x, k: lax.conv_general_dilated(x, k, (), (), precision=precision)
    )(array, array)
    return jaxpr.jaxpr.eqns[0].params["precision"]


def resolve_precision(precision: Any) -> Any:
    """What lax makes of `precision` now: None means ``jax.default_matmul_precision``."""
    if isinstance(precision, list):
        precision = tuple(precision)
    default = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return _precision(precision, default)


LOWERING = Lowering("direct", run, anything, never)
