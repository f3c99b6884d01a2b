"""The `spread_rows` lowering: lax's convolution on an input dilated by two, with twice the steps.

jaxlib gives a dense two-dimensional convolution on CPU to YNNPACK, which is slower here than Eigen.
(`convjax.compiler_options` is the other way to avoid it.) YNNPACK does not take convolutions of
dilated inputs. With twice the stride, padding and dilation, no tap reads a zero between rows:
output ``o`` and tap ``t`` read row ``(2*o*s + 2*t*d - 2*low) / 2``, the row that they read without
the dilation. Nothing is copied, and no product is added.

oneDNN takes no dilated input either. So this also keeps a convolution with one axis from oneDNN.
"""

import dataclasses

import jax

from convjax._core.layout import arranged, canonical, restored
from convjax._lowerings import direct
from convjax._lowerings.lowering import Lowering, never
from convjax._lowerings.problem import Call, Problem
from convjax._lowerings.tools.slices import cropped


def accepts(problem: Problem) -> str | None:
    geometry = problem.geometry
    if geometry.rank not in (1, 2):
        return f"it has {geometry.rank} spatial axes, not one or two"
    if problem.groups != 1:
        return f"it has groups ({problem.groups})"
    return None


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    layout, shape = call.layout, call.out_shape(x, kernel)
    inner = canonical(call.geometry.rank).ungrouped()
    x, geometry = cropped(arranged(x, layout.x, "batch space contract"), call.geometry, 1)
    kernel = arranged(kernel, layout.kernel, "space contract out")

    def spread(of_axes: tuple[int, ...]) -> tuple[int, ...]:
        return (2 * of_axes[0], *of_axes[1:])

    (low, high), *others = geometry.padding
    geometry = dataclasses.replace(
        geometry,
        strides=spread(geometry.strides),
        padding=((2 * low, 2 * high), *others),
        input_dilation=spread(geometry.input_dilation),
        kernel_dilation=spread(geometry.kernel_dilation),
    )
    y = direct.convolution(
        x,
        kernel,
        geometry=geometry,
        layout=inner,
        precision=call.precision,
        preferred_element_type=call.preferred_element_type,
    )
    return restored(y, layout.out, "batch space out", shape)


LOWERING = Lowering("spread_rows", run, accepts, never)
