"""The `patchify` lowering: one matrix product where windows tile the input without overlap or gap.

The kernel is as large as the stride, as in the first layer of a vision transformer. The kernel's
gradient reads the input's tiles again. For a transposed convolution, it reads the cotangent's
tiles. (Where the output is made of tiles, `polyphase` has one phase for every element of a tile,
which is the same product.)
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.layout import arranged, restored
from convjax._lowerings.lowering import Lowering, always
from convjax._lowerings.problem import Call, Problem, count
from convjax._lowerings.tools.slices import reversed_where

_LETTERS = ("ABCDEF", "abcdef")  # of the tiles, and of the elements in a tile


def tiled(problem: Problem) -> str | None:
    """What is made of tiles: the input, of windows ("windows") or of results ("results"), or the
    kernel, of results, one for every element of the input ("kernel"). None where windows overlap or
    leave gaps."""
    geometry = problem.geometry
    axes = list(
        zip(
            problem.window,
            problem.out_space,
            geometry.strides,
            geometry.input_dilation,
            geometry.kernel_dilation,
            strict=True,
        )
    )
    if all((s, e, d) == (k, 1, 1) for k, _, s, e, d in axes):
        return "windows"
    if all((s, e, d) == (1, 1, o) for _, o, s, e, d in axes):
        return "results"
    lows = [low for low, _ in geometry.padding]
    whole = zip(axes, problem.space, lows, strict=True)
    if all((s, e, d, k, low) == (1, o, 1, o * n, o - 1) for (k, o, s, e, d), n, low in whole):
        return "kernel"
    return None


def accepts(problem: Problem) -> str | None:
    if float("inf") in (count(problem.space), count(problem.window), count(problem.out_space)):
        return f"it has a symbolic size among {problem.space} and {problem.window}"
    if not 1 <= problem.geometry.rank <= len(_LETTERS[0]) or tiled(problem) is None:
        return f"its windows ({problem.window}) do not tile the input: strides and window differ"
    return None


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    layout, geometry, rank = call.layout, call.geometry, call.geometry.rank
    shape, result = call.out_shape(x, kernel), call.result_type(x)
    out_space = tuple(shape[axis] for axis in layout.out.space)
    problem = call.problem
    made = tiled(problem)
    x = arranged(x, layout.x, "batch space group contract")
    kernel = arranged(kernel, layout.kernel, "space group contract out")
    kernel = reversed_where(kernel, geometry, 0)
    window = kernel.shape[:rank]

    tiles, inner = (letters[:rank] for letters in _LETTERS)
    both = "".join(map("".join, zip(tiles, inner, strict=True)))
    lows = [low for low, _ in geometry.padding]
    if made == "windows":
        x = _cut(x, 1, lows, out_space, window)
        spec = f"n{both}gi,{inner}gio->n{tiles}go"
    elif made == "results":
        x = _cut(x, 1, lows, window, out_space)
        spec = f"n{both}gi,{tiles}gio->n{inner}go"
    else:
        # Output o meets element p of the input with tap e*p + e - 1 - o.
        kernel = _cut(kernel, 0, [0] * rank, problem.space, out_space)
        spec = f"n{tiles}gi,{both}gio->n{inner}go"
    if not layout.x.group:
        x, kernel, spec = x.squeeze(-2), kernel.squeeze(-3), spec.replace("g", "")
    y = call.product(spec, x, kernel, is_result=True).astype(result)
    if made == "kernel":
        y = lax.rev(y, tuple(range(1, 1 + rank)))
    roles = "batch space group out" if layout.x.group else "batch space out"
    return restored(y, layout.out, roles, shape)


def _cut(x: jax.Array, first: int, lows: Any, tiles: Any, sizes: Any) -> jax.Array:
    """`x`, its spatial axes from `first` on padded or cropped to whole tiles and cut into them.

    Every spatial axis becomes two, of tiles and of their elements.
    """
    rank = len(tiles)
    config = [(0, 0, 0)] * x.ndim
    pairs: list[int] = []
    for axis, (low, tile, size) in enumerate(zip(lows, tiles, sizes, strict=True), first):
        config[axis] = (low, tile * size - x.shape[axis] - low, 0)
        pairs += [tile, size]
    x = lax.pad(x, jnp.zeros((), x.dtype), config)
    return x.reshape(*x.shape[:first], *pairs, *x.shape[first + rank :])


LOWERING = Lowering("patchify", run, accepts, always)
