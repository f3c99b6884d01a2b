"""The `fft` lowering: a product of Fourier transforms. It is used only when asked for by name.

Its cost does not grow with the kernel. Its error grows with the whole input's norm, and one NaN or
Inf reaches every output of its channel. So no rule chooses it: a convolution would lose its laws
(integers exactly, a NaN only where its taps are, a prefix to the last bit) by the length of its
kernel. `explain` offers it instead.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.layout import arranged, restored
from convjax._lowerings.lowering import Lowering, for_kernel_gradients
from convjax._lowerings.problem import Call, Problem, count
from convjax._lowerings.tools.slices import padded, reversed_where


def accepts(problem: Problem) -> str | None:
    if not jnp.issubdtype(problem.dtype, jnp.inexact):
        return f"its elements ({problem.dtype}) are not floating"
    if not 1 <= problem.geometry.rank <= 3:
        return f"XLA transforms one to three axes, not {problem.geometry.rank}"
    if math.inf in (count(problem.space), count(problem.window)):
        return f"it has a symbolic size among {problem.space} and {problem.window}"
    return None


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    layout, geometry, rank = call.layout, call.geometry, call.geometry.rank
    shape, result = call.out_shape(x, kernel), call.result_type(x)
    out_space = [shape[axis] for axis in layout.out.space]
    sums = call.accumulator(x)
    x = padded(arranged(x, layout.x, "batch group contract space"), geometry, 3).astype(sums)
    kernel = reversed_where(
        arranged(kernel, layout.kernel, "group contract out space"), geometry, 3
    )
    gaps = [(0, 0, dilation - 1) for dilation in geometry.kernel_dilation]
    kernel = lax.pad(kernel.astype(sums), jnp.zeros((), sums), [(0, 0, 0)] * 3 + gaps)

    # Outputs that are read lie within the padded input, where nothing has wrapped around.
    lengths = [max(a, b) for a, b in zip(x.shape[3:], kernel.shape[3:], strict=True)]
    real = not jnp.issubdtype(sums, jnp.complexfloating)
    forward, back = (jnp.fft.rfftn, jnp.fft.irfftn) if real else (jnp.fft.fftn, jnp.fft.ifftn)
    axes = tuple(range(3, 3 + rank))
    # A correlation: the kernel's transform at the opposite frequency.
    spectrum = jnp.conj(forward(jnp.conj(kernel), lengths, axes))
    product = jnp.einsum(
        "ngi...,gio...->ngo...", forward(x, lengths, axes), spectrum, precision="highest"
    )
    y = back(product, lengths, axes)
    ends = [(out - 1) * stride + 1 for out, stride in zip(out_space, geometry.strides, strict=True)]
    y = y[(..., *(slice(0, e, s) for e, s in zip(ends, geometry.strides, strict=True)))]
    return restored(y.astype(result), layout.out, "batch group out space", shape)


# Taps, and results, of a sequence in groups of one channel. `taps` takes as much processor time
# with kernels of 1024 taps, twice as much with 2048, three times with 4096 (4096 results,
# 16 channels, AVX2, jax 0.12.0.1).
_LONG = 2048


def offer(problem: Problem) -> str:
    """What `explain` says of it for a long kernel of a depthwise convolution, or ""."""
    depthwise = problem.groups != 1 and count((problem.i, problem.o)) == 1
    if not depthwise or problem.geometry.rank != 1 or accepts(problem) is not None:
        return ""
    if not _LONG <= min(count(problem.window), count(problem.out_space)) < math.inf:
        return ""
    return (
        '; `algorithm="fft"` takes half the time or less for so long a kernel, with errors of the '
        "size of the whole input, and spreads a NaN over its channel"
    )


LOWERING = Lowering("fft", run, accepts, for_kernel_gradients, exact=False)
