"""Run a convolution by its lowering, and the smaller convolutions that lowerings are made of."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax._symbolic import product
from convjax.geometry import Geometry
from convjax.layout import Axes, Layout
from convjax.lowerings import LOWERINGS, select
from convjax.lowerings.call import Call, out_shape, problem_of
from convjax.lowerings.unfused import unfused
from convjax.sharding import same_varying


def execute(
    x: jax.Array,
    kernel: jax.Array,
    *,
    layout: Layout,
    geometry: Geometry,
    role: str,
    precision: Any,
    preferred_element_type: Any,
    platform: str,
    split_by_xla: bool,
    choice: select.Choice | None = None,
    part: bool = False,
) -> jax.Array:
    """The convolution by the lowering of `choice`, or by the one that is selected for it.

    Lowerings call this again for the smaller convolutions that they are made of: `part` says so.
    """
    shape = out_shape(x, kernel, layout, geometry)
    if 0 in (*x.shape, *kernel.shape, *shape):  # an empty sum
        return same_varying(jnp.zeros(shape, preferred_element_type or x.dtype), x, kernel)[0]
    problem = problem_of(x, kernel, layout, geometry, role)
    if choice is None:
        choice = select.select(problem, platform, split_by_xla)
    again = functools.partial(
        execute,
        precision=precision,
        preferred_element_type=preferred_element_type,
        platform=platform,
        split_by_xla=split_by_xla,
        part=True,
    )
    if layout.x.group and problem.groups == 1:  # which lowerings for one group do not expect
        x = lax.squeeze(x, layout.x.group)
        kernel = lax.squeeze(kernel, layout.kernel.group)
        layout = layout.ungrouped()
    types = (precision, preferred_element_type)
    call = Call(layout, geometry, role, *types, again, split_by_xla, platform)
    lowering = LOWERINGS[choice.name]
    run = functools.partial(lowering.run, call=call)
    if call.on_one_cpu and not part and lowering.apart(problem):
        y = unfused(lambda x, kernel: _plain(run(x, kernel), layout.out, role))(x, kernel)
    else:
        y = run(x, kernel)
    return y if y.shape == shape else lax.reshape(y, shape)


def _plain(y: jax.Array, axes: Axes, role: str) -> jax.Array:
    """`y` without the axes that XLA would order anew after the call, which is a full copy.

    Neighbouring axes of groups and channels become one axis. All axes of a kernel's gradient become
    one.
    """
    if role == "kernel_gradient":
        return lax.reshape(y, (product(y.shape),))
    channels = (*axes.group, *axes.out)
    joined: list[Any] = []
    for axis, size in enumerate(y.shape):
        if axis in channels and axis - 1 in channels:
            joined[-1] *= size
        else:
            joined.append(size)
    return lax.reshape(y, joined)
