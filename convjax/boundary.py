"""From users' operands to the operation's: channels are split into (group, channel) axes.

The primitive is bound on the split operands, and the channels of its result are merged again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from convjax import _checks, operation
from convjax.eager import are_known, compiled
from convjax.geometry import Geometry
from convjax.layout import Axes, Layout
from convjax.lowerings import LOWERINGS, direct
from convjax.lowerings.problem import problem_of
from convjax.sharding import is_explicit, mesh_size, named_sharding


class Operands(NamedTuple):
    """Axes of x, kernel and result with groups still merged, as users hold them."""

    x: Axes  # batch, contract, space
    kernel: Axes  # contract, out, space
    out: Axes  # batch, out, space


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    axes: Operands,
    groups: int = 1,
    *,
    function: str = "convolution",
    x_groups: str = "contract",
    kernel_groups: str = "out",
    out_sharding: Any = None,
    algorithm: Any = None,
    **params: Any,
) -> jax.Array:
    """Split `groups` off the merged axes, convolve, and merge the result's channels.

    Args:
        axes: one axis each for batch, contract and out.
        function: the public function's name, for errors.
        x_groups: the role of x whose axis the groups lead: "contract", or "batch" (lax's batch
            groups).
        kernel_groups: likewise for the kernel: "out", or "contract" (transposed kinds).
        out_sharding: sharding of the merged result, for explicit mesh axes.
        params: what `bind` takes besides.
    """
    options = (axes, groups, function, x_groups, kernel_groups, out_sharding, algorithm)
    if groups != 1 and are_known(x, kernel):
        try:
            run = _once(*options, **params)
        except TypeError:  # an algorithm or a sharding that has no hash
            pass
        else:
            return run(x, kernel)
    return _convolve(x, kernel, *options, **params)


@functools.lru_cache(maxsize=1024)
def _once(*options: Any, **params: Any) -> Callable[..., jax.Array]:
    return compiled(lambda x, kernel: _convolve(x, kernel, *options, **params))


def _convolve(
    x: jax.Array,
    kernel: jax.Array,
    axes: Operands,
    groups: int,
    function: str,
    x_groups: str,
    kernel_groups: str,
    out_sharding: Any,
    algorithm: Any,
    **params: Any,
) -> jax.Array:
    layout = Layout(*axes)
    merged_sharding = out_sharding = named_sharding(function, out_sharding, x.ndim)
    channel = axes.out.out[0]
    if groups != 1:
        x, x_axes = _split(x, axes.x, x_groups, groups)
        kernel, k_axes = _split(kernel, axes.kernel, kernel_groups, groups)
        layout = Layout(x_axes, k_axes, _split_axes(axes.out, "out"))
        if merged_sharding is not None:
            mesh, spec = merged_sharding.mesh, list(merged_sharding.spec)
            led = groups % mesh_size(mesh, spec[channel]) == 0
            spec[channel : channel + 1] = [spec[channel] if led else None, None]
            out_sharding = NamedSharding(mesh, PartitionSpec(*spec))
    if algorithm == "direct" or (not isinstance(algorithm, str) and algorithm == ("direct",) * 3):
        y = direct.convolution(
            x, kernel, layout=layout, out_sharding=None if groups != 1 else out_sharding, **params
        )
    else:
        _check_accepted(function, algorithm, x, kernel, layout, params["geometry"])
        y = operation.bind(
            x, kernel, layout=layout, out_sharding=out_sharding, algorithm=algorithm, **params
        )
    if groups == 1:
        return y
    shape = (*y.shape[:channel], y.shape[channel] * y.shape[channel + 1], *y.shape[channel + 2 :])
    y = lax.reshape(y, shape)
    return y if merged_sharding is None else jax.reshard(y, merged_sharding)


def _check_accepted(
    function: str, algorithm: Any, x: Any, kernel: Any, layout: Layout, geometry: Geometry
) -> None:
    """Refuse a forced lowering that cannot execute the forward operation, before it is lowered."""
    name = algorithm if algorithm is None or isinstance(algorithm, str) else algorithm[0]
    if name is None:
        return
    refusal = LOWERINGS[name].accepts(problem_of(x, kernel, layout, geometry, "forward"))
    if refusal is not None:
        _checks.fail(
            function,
            "algorithm",
            algorithm,
            f"cannot execute this convolution: {refusal}",
            "Leave the choice to `algorithm=None`.",
        )


def _split_axes(axes: Axes, role: str) -> Axes:
    """`axes` after the single axis of `role` became two: (group, the rest)."""
    (axis,) = getattr(axes, role)
    return axes.inserted("group", axis)


def _split(x: jax.Array, axes: Axes, role: str, groups: int) -> tuple[jax.Array, Axes]:
    """Split the axis of `role` into (groups, the rest), the sharding going to the groups."""
    (axis,) = getattr(axes, role)
    shape = (*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])
    held = jax.typeof(x).sharding
    if is_explicit(held.mesh) and held.spec[axis] is not None:
        spec = list(held.spec)
        if groups % mesh_size(held.mesh, spec[axis]) != 0:
            spec[axis] = None
            x = jax.reshard(x, NamedSharding(held.mesh, PartitionSpec(*spec)))
        spec[axis : axis + 1] = [spec[axis], None]
        x = lax.reshape(x, shape, out_sharding=NamedSharding(held.mesh, PartitionSpec(*spec)))
    else:
        x = lax.reshape(x, shape)
    return x, _split_axes(axes, role)
