"""The `batch_as_space` lowering: examples lie side by side on one more axis of space.

    out[n, o] = sum over t and i of x[n, o*s + t*d - low, i] * kernel[t, i]

is the convolution of a single example, with n as its last spatial axis. The window has one element
there. oneDNN multiplies neighbouring results of the last axis together, and reads the kernel again
for the next ones. In the gradient of a 3x3 kernel an example has 3 results on that axis, and the
examples are the input channels of the layer, which are many.
"""

import jax
from jax import lax

from convjax._core.geometry import Geometry
from convjax._core.layout import arranged, canonical, restored
from convjax._lowerings import channels_last
from convjax._lowerings.lowering import Lowering, for_kernel_gradients
from convjax._lowerings.problem import Call, Problem
from convjax._lowerings.tools.slices import cropped

_RANK = 2  # at most: with three axes of space there would be four, which oneDNN does not have


def accepts(problem: Problem) -> str | None:
    if problem.geometry.rank > _RANK:
        return f"it has more than {_RANK} spatial axes ({problem.geometry.rank})"
    return None


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    layout, shape = call.layout, call.out_shape(x, kernel)
    rank = call.geometry.rank
    group, inner = "", canonical(rank + 1).ungrouped()
    if layout.x.group:
        group, inner = "group ", canonical(rank + 1)
    x = lax.expand_dims(arranged(x, layout.x, f"space batch {group}contract"), (0,))
    kernel = lax.expand_dims(arranged(kernel, layout.kernel, f"space {group}contract out"), (rank,))
    x, geometry = cropped(x, _with_one_axis_more(call.geometry), 1)
    y = channels_last.convolved(x, kernel, inner, geometry, call)
    return restored(lax.squeeze(y, (0,)), layout.out, f"space batch {group}out", shape)


def _with_one_axis_more(geometry: Geometry) -> Geometry:
    return Geometry(
        (*geometry.strides, 1),
        (*geometry.padding, (0, 0)),
        (*geometry.input_dilation, 1),
        (*geometry.kernel_dilation, 1),
        geometry.reversal,
    )


LOWERING = Lowering("batch_as_space", run, accepts, for_kernel_gradients)
