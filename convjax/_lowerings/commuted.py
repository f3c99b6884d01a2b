"""The `commuted` lowering: one convolution of lax whose operands have changed places.

A convolution commutes. With strides s, and dilations e of the input and d of the kernel,

    out[o] = sum over t of x[(o*s + t*d - low) / e] * kernel[t]
           = sum over q of kernel[(p*s + q*e - low') / d] * x[q],   p = O-1-o,  low' = (O-1)*s - low

where only whole indices count. The result comes out in reverse, and the input's dilation becomes
the window's. This matters for the kernel's gradient of a transposed convolution. As lax writes it,
XLA for GPUs writes the dilated input with its zeros, and convolves all of it. With the operands
exchanged it is the kernel's gradient of a strided convolution, and cuDNN has a function for that.
On a CPU it is faster than phases of the dilated input, each of which is copied and summed.
"""

import jax
from jax import lax

from convjax._core.geometry import Geometry, dilated
from convjax._core.layout import Axes, Layout
from convjax._lowerings import channels_last, direct
from convjax._lowerings.lowering import Lowering, anything, for_kernel_gradients
from convjax._lowerings.problem import Call, Problem, is_dilated


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    if call.geometry.reversal:
        kernel = lax.rev(kernel, call.layout.kernel.space)
    exchanged = _exchanged(call)
    layout, geometry = exchanged.layout, exchanged.geometry
    is_cpu = call.target.platform == "cpu"
    if is_cpu and is_dilated(call.problem) and not is_dilated(exchanged.problem):
        # Another convolution, for which lowerings compete.
        y = call.again(kernel, x, layout=layout, geometry=geometry, role=call.role)
    else:
        # In loops XLA gives oneDNN only what has its channels last.
        y = (channels_last if is_cpu else direct).run(kernel, x, exchanged)
    return lax.rev(y, call.layout.out.space)


def _exchanged(call: Call) -> Call:
    """The call with the kernel as the input, and the input as the window."""
    problem = call.problem
    exchanged = problem._replace(
        n=problem.o,
        o=problem.n,
        space=problem.window,
        window=problem.space,
        geometry=_exchanged_geometry(problem),
    )
    return call._replace(problem=exchanged, layout=_exchanged_layout(call.layout))


def _exchanged_geometry(problem: Problem) -> Geometry:
    geometry, padding = problem.geometry, []
    for axis, (low, _) in enumerate(geometry.padding):
        reach = (problem.out_space[axis] - 1) * geometry.strides[axis]
        image = dilated(problem.space[axis], geometry.input_dilation[axis])
        window = dilated(problem.window[axis], geometry.kernel_dilation[axis])
        padding.append((reach - low, image + low - window))
    return Geometry(
        strides=geometry.strides,
        padding=tuple(padding),
        input_dilation=geometry.kernel_dilation,
        kernel_dilation=geometry.input_dilation,
    )


def _exchanged_layout(layout: Layout) -> Layout:
    x, kernel, out = layout
    return Layout(
        x=Axes(batch=kernel.out, group=kernel.group, contract=kernel.contract, space=kernel.space),
        kernel=Axes(group=x.group, contract=x.contract, out=x.batch, space=x.space),
        out=out._replace(batch=out.out, out=out.batch),
    )


LOWERING = Lowering("commuted", run, anything, for_kernel_gradients)
