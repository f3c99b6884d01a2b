"""Run a convolution by its lowering, and the smaller convolutions that lowerings are made of."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.geometry import Geometry
from convjax._core.layout import Axes, Layout
from convjax._core.symbolic import product
from convjax._lowerings import LOWERINGS, select
from convjax._lowerings.problem import Call, out_shape, problem_of
from convjax._lowerings.target import Target
from convjax._lowerings.tools.xla import isolated
from convjax._sharding.sharding import same_varying


def run(
    *arrays: jax.Array,
    made: Callable[..., Sequence[jax.Array]] | None = None,
    layout: Layout,
    geometry: Geometry,
    role: str,
    precision: Any,
    preferred_element_type: Any,
    target: Target,
    choice: select.Choice | None = None,
    inner: bool = False,
) -> jax.Array:
    """The convolution by the lowering of `choice`, or by the one that is selected for it.

    The operands, x and kernel, are the `arrays`, or what ``made(*arrays)`` makes of them: copies
    that it makes live as long as those of the lowering.

    Lowerings call this again for the smaller convolutions that they are made of: these are `inner`,
    and never isolated from what is around them, as the whole is.
    """
    x, kernel = arrays if made is None else jax.eval_shape(made, *arrays)
    shape = out_shape(x, kernel, layout, geometry)
    if 0 in (*x.shape, *kernel.shape, *shape):  # an empty sum
        return same_varying(jnp.zeros(shape, preferred_element_type or x.dtype), x, kernel)[0]
    problem = problem_of(x, kernel, layout, geometry, role)
    if choice is None:
        choice = select.select(problem, target)
    types = (precision, preferred_element_type)
    again = functools.partial(
        run,
        precision=precision,
        preferred_element_type=preferred_element_type,
        target=target,
        inner=True,
    )
    squeezes = layout.x.group and problem.groups == 1  # what lowerings of one group do not expect
    laid = layout.ungrouped() if squeezes else layout
    call = Call(problem, laid, *types, again, target)
    lowering = LOWERINGS[choice.name]

    def chosen(smaller: Any) -> str:
        return select.select(smaller, target).name

    def result(*arrays: jax.Array, nothing: jax.Array | None = None) -> jax.Array:
        x, kernel = arrays if made is None else made(*arrays)
        if squeezes:
            x = lax.squeeze(x, layout.x.group)
            kernel = lax.squeeze(kernel, layout.kernel.group)
        return lowering.run(x, kernel, call._replace(nothing=nothing))

    if target.is_one_cpu and not inner and lowering.isolated(problem, chosen):
        # A sequence equals its chunks and steps to the last bit; planes are up to a seventh faster
        # without. 16-bit products are exact in float32, in which they are summed.
        rounds = geometry.rank == 1 and x.dtype == call.accumulator(x) == jnp.float32
        ordered = role == "forward" and choice.name == "taps" and rounds

        def whole(*operands: jax.Array) -> jax.Array:
            given, nothing = (operands[:-1], operands[-1]) if ordered else (operands, None)
            return _flattened(result(*given, nothing=nothing), laid.out, role)

        zero = [_nothing(arrays)] if ordered else []
        y = isolated(whole)(*arrays, *zero)
    else:
        y = result(*arrays)
    return y if y.shape == shape else lax.reshape(y, shape)


def _nothing(operands: Sequence[jax.Array]) -> jax.Array:
    """Zero, made of an element of each float32 operand in a way that XLA does not see through: a
    constant, which one operand may be, it would carry into the call."""
    number = jnp.uint32(0)
    for x in operands:
        element = lax.slice(x, [0] * x.ndim, [1] * x.ndim)
        number += lax.bitcast_convert_type(element, jnp.uint32).reshape(())
    return number * (number + jnp.uint32(1)) & jnp.uint32(1)  # of two neighbours one is even


def _flattened(y: jax.Array, axes: Axes, role: str) -> jax.Array:
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
