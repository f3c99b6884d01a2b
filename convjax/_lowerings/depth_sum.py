"""The `depth_sum` lowering: the taps of the window's first axis become channels, which are added.

It has one rank less, as `depth_fold`, but it folds results where `depth_fold` folds inputs. The
input is read as it is, or, with a stride, in as many parts as the stride is long. Outputs of a
dilated input interleave. Fewer bytes move where the results are smaller than what they are computed
from.
"""

import functools
import math
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.geometry import Geometry
from convjax._core.layout import arranged, canonical, moved, restored
from convjax._lowerings.lowering import Lowering, always
from convjax._lowerings.problem import Call, Problem, count
from convjax._lowerings.tools.slices import cropped, reversed_where

_TAPS = 16  # in depth, at most: each is a term of the sum


class Term(NamedTuple):
    """What one tap adds: to output ``o`` its result for image ``o + first``, if there is one."""

    results: jax.Array  # (N, images, *out_space, O)
    first: int


def accepts(problem: Problem) -> str | None:
    geometry = problem.geometry
    if geometry.rank < 2:
        return f"it has fewer than two spatial axes ({geometry.rank})"
    if problem.groups != 1:
        return f"it has groups ({problem.groups})"
    if geometry.input_dilation[0] != 1 != geometry.strides[0]:
        return "its depth has a stride, and is dilated"
    if count(problem.window[:1]) > _TAPS:
        return f"its window is more than {_TAPS} deep ({problem.window[0]})"
    if math.inf in (count(problem.space[:1]), count(problem.out_space[:1])):
        return f"it has a symbolic depth among {problem.space} and {problem.out_space}"
    return None


def elements_moved(problem: Problem) -> float:
    """Elements of an example that are written before they are added: results, and with a stride the
    input in parts."""
    (stride, *_), (depth, *plane) = problem.geometry.strides, problem.space
    results = -(-depth // stride) * count((problem.window[0], *problem.out_space[1:], problem.o))
    return results + (stride > 1) * count((depth, *plane, problem.i))


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    layout, shape = call.layout, call.out_shape(x, kernel)
    x = arranged(x, layout.x, "batch space contract", whole=True)
    kernel = arranged(kernel, layout.kernel, "space contract out", whole=True)
    x, geometry = cropped(x, call.geometry, 1)
    depth, flat = geometry.along(slice(1)), geometry.along(slice(1, None))
    (stride,), (dilation,), ((low, _),) = depth.strides, depth.kernel_dilation, depth.padding
    (period,) = depth.input_dilation
    kernel = reversed_where(kernel, depth, 0)

    # Output o and tap t meet the depth (o*s + t*d - low) / e: taps whose t*d - low have one residue
    # modulo s read the same depths, outputs of one residue modulo e meet the same taps.
    reads = [tap * dilation - low for tap in range(kernel.shape[0])]
    results: dict[int, jax.Array] = {}
    for residue in range(stride):
        taps = [tap for tap, at in enumerate(reads) if at % stride == residue]
        if taps:
            step = stride // math.gcd(stride, dilation)  # between taps of one residue
            start = min(residue, x.shape[1])
            part = x if stride == 1 else lax.slice_in_dim(x, start, None, stride, axis=1)
            results |= zip(taps, _results(part, kernel[taps[0] :: step], flat, call), strict=True)

    outputs = shape[layout.out.space[0]]
    totals = []
    for residue in range(period):
        terms = [
            Term(results[tap], (residue + at) // (stride * period))
            for tap, at in enumerate(reads)
            if (residue + at) % period == 0
        ]
        totals.append(_total(terms, -(-outputs // period), results[0]))
    y = totals[0] if period == 1 else jnp.stack(totals, 2)
    y = y.reshape(y.shape[0], -1, *results[0].shape[2:])[:, :outputs]
    y = y.astype(call.result_type(x))
    return restored(y, layout.out, "batch space out", shape, whole=True)


def _results(x: jax.Array, kernels: jax.Array, flat: Geometry, call: Call) -> list[jax.Array]:
    """(N, depth, *out_space, O) for each of the kernels: channels of one convolution."""
    taps, *_, channels = kernels.shape
    order = [*range(1, flat.rank + 2), 0, flat.rank + 2]
    y = call.again(
        x.reshape(-1, *x.shape[2:]),
        moved(kernels, order, whole=True).reshape(*kernels.shape[1:-1], taps * channels),
        layout=canonical(flat.rank).ungrouped(),
        geometry=flat,
        role="forward",
        preferred_element_type=call.accumulator(x),
    )
    y = y.reshape(*x.shape[:2], *y.shape[1:])
    return [lax.slice_in_dim(y, i * channels, (i + 1) * channels, axis=-1) for i in range(taps)]


def _total(terms: list[Term], outputs: int, like: jax.Array) -> jax.Array:
    """(N, outputs, *out_space, O): the sum of `terms`."""
    padded = []
    for term in terms:
        images = term.results.shape[1]
        start, end = (min(max(0, at - term.first), outputs) for at in (0, images))
        if end > start:
            inside = lax.slice_in_dim(term.results, start + term.first, end + term.first, axis=1)
            sides = [(0, 0, 0)] * inside.ndim
            sides[1] = (start, outputs - end, 0)
            zero = jnp.zeros((), inside.dtype)
            padded.append(lax.pad(inside, zero, sides) if any(sides[1]) else inside)
    if not padded:
        return jnp.zeros((like.shape[0], outputs, *like.shape[2:]), like.dtype)
    return functools.reduce(operator.add, padded)


LOWERING = Lowering("depth_sum", run, accepts, always)
