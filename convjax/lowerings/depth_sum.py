"""The `depth_sum` lowering: every tap of the window's first axis gives channels, which are added.

For one rank less, as `depth_fold`, but results are folded where that folds inputs: the input is
read as it is, or, with a stride, in as many parts as the stride is long. Fewer bytes move where the
results are smaller than what they are computed from.
"""

import functools
import math
import operator

import jax
import jax.numpy as jnp
from jax import lax

from convjax.geometry import Geometry
from convjax.layout import arranged, canonical, restored
from convjax.lowerings.call import Call, Problem, count
from convjax.lowerings.patches import cropped, reversed_where

_TAPS = 16  # in depth, at most: each is a term of the sum


def accepts(problem: Problem) -> str | None:
    """Why not, or None."""
    geometry = problem.geometry
    if geometry.rank < 2:
        return f"it has fewer than two spatial axes ({geometry.rank})"
    if problem.groups != 1:
        return f"it has groups ({problem.groups})"
    if geometry.input_dilation[0] != 1:
        return f"its input is dilated in depth ({geometry.input_dilation[0]})"
    if count(problem.window[:1]) > _TAPS:
        return f"its window is more than {_TAPS} deep ({problem.window[0]})"
    if math.inf in (count(problem.space[:1]), count(problem.out_space[:1])):
        return f"it has a symbolic depth among {problem.space} and {problem.out_space}"
    return None


def partitionable(problem: Problem) -> bool:
    """Depths join the batch, wherever they were."""
    return False


def elements_moved(problem: Problem) -> float:
    """Elements written before they are added: results, and with a stride the input in parts."""
    (stride, *_), (depth, *plane) = problem.geometry.strides, problem.space
    results = -(-depth // stride) * count((problem.window[0], *problem.out_space[1:], problem.o))
    return problem.n * (results + (stride > 1) * count((depth, *plane, problem.i)))


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    """The convolution; `x`, `kernel` and the result in the caller's layout."""
    layout, shape = call.layout, call.out_shape(x, kernel)
    x, geometry = cropped(
        arranged(x, layout.x, "batch space contract", whole=True), call.geometry, 1
    )
    kernel = arranged(kernel, layout.kernel, "space contract out", whole=True)
    depth, flat = geometry.along(slice(1)), geometry.along(slice(1, None))
    kernel = reversed_where(kernel, depth, 0)
    outputs = shape[layout.out.space[0]]
    terms: list[jax.Array] = []
    for residue, taps in _classes(kernel.shape[0], depth).items():
        terms += _terms(x, kernel, residue, taps, call, depth, flat, outputs)
    y = functools.reduce(operator.add, terms).astype(call.result_type(x))
    return restored(y, layout.out, "batch space out", shape, whole=True)


def _classes(taps: int, depth: Geometry) -> dict[int, list[int]]:
    """Taps by the residue, modulo the stride, of the depths that they read."""
    (stride,), (dilation,), ((low, _),) = depth.strides, depth.kernel_dilation, depth.padding
    found: dict[int, list[int]] = {}
    for tap in range(taps):
        found.setdefault((tap * dilation - low) % stride, []).append(tap)
    return found


def _terms(
    x: jax.Array,
    kernel: jax.Array,
    residue: int,
    taps: list[int],
    call: Call,
    depth: Geometry,
    flat: Geometry,
    outputs: int,
) -> list[jax.Array]:
    """What `taps`, which read the depths of one residue, add to (N, outputs, *space, O)."""
    (stride,), (dilation,), ((low, _),) = depth.strides, depth.kernel_dilation, depth.padding
    read = lax.slice_in_dim(x, residue, None, stride, axis=1) if stride > 1 else x
    images, channels = read.shape[1], kernel.shape[-1]
    kernels = jnp.concatenate([kernel[tap] for tap in taps], axis=-1)
    y = call.convolve(
        read.reshape(-1, *read.shape[2:]),
        kernels,
        layout=canonical(flat.rank).ungrouped(),
        geometry=flat,
        role="forward",
        preferred_element_type=call.accumulator(x),
    )
    y = y.reshape(-1, images, *y.shape[1:])
    terms = []
    for place, tap in enumerate(taps):
        # Output o reads image o + first: those before the first image and after the last are zero.
        first = (tap * dilation - low - residue) // stride
        before = min(outputs, max(0, -first))
        inside = max(0, min(outputs, images - first) - before)
        start = first + before if inside else 0
        term = lax.slice_in_dim(y, start, start + inside, axis=1)
        term = lax.slice_in_dim(term, place * channels, (place + 1) * channels, axis=-1)
        sides = [(0, 0, 0)] * term.ndim
        sides[1] = (before, outputs - before - inside, 0)
        terms.append(lax.pad(term, jnp.zeros((), term.dtype), sides) if any(sides[1]) else term)
    return terms
