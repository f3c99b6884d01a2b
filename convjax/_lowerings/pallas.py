"""The `pallas` lowering: kernels for TPU that compute depthwise convolutions in one pass over x.

It is for two dimensions or one, bfloat16 and float32. It runs where `algorithm` asks for it: nobody
has timed it on a TPU. On CPU the kernels are interpreted, for tests.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core.geometry import Geometry
from convjax._core.layout import arranged, restored
from convjax._lowerings.lowering import Lowering, never
from convjax._lowerings.problem import Call, Problem, count
from convjax._lowerings.target import Target
from convjax._sharding.sharding import varying

WINDOW = 7  # elements along each of two axes, at most
LINE = 8  # elements along the only axis, at most
_STEP = 2  # stride, or dilation of the input, at most
_PAIRS = 16  # of channels within a group, at most


def accepts(problem: Problem) -> str | None:
    geometry = problem.geometry
    sizes = (problem.n, problem.groups, problem.i, problem.o, *problem.space, *problem.window)
    if math.isinf(count((*sizes, *problem.out_space))):
        return "it has a symbolic size, and its kernels are made for certain sizes"
    if geometry.rank not in (1, 2):
        return f"it has {geometry.rank} spatial axes, and the kernels have one or two"
    if problem.dtype not in (jnp.bfloat16, jnp.float32):
        return f"its dtype is {problem.dtype}, and the kernels take bfloat16 and float32"
    gradient = problem.role == "kernel_gradient"
    inner, outer = (problem.n, problem.o) if gradient else (problem.i, problem.o)
    if problem.groups == 1 or inner * outer > _PAIRS:
        return "it is not depthwise: the kernels have one channel per group"
    window = problem.out_space if gradient else problem.window
    most = LINE if geometry.rank == 1 else WINDOW
    if max(window) > most:
        return f"its window {window} has more than {most} elements along an axis"
    if gradient and (any(d > 1 for d in geometry.input_dilation) or geometry.reversal):
        return "it is the gradient of a kernel under a dilated input"
    strides = geometry.kernel_dilation if gradient else geometry.strides
    for stride, spread in zip(strides, geometry.input_dilation, strict=True):
        if max(stride, spread) > _STEP or (stride > 1 and spread > 1):
            return f"it has a stride, or a dilation of the input, of more than {_STEP}"
    return _tiles_refused(problem, strides)


def _tiles_refused(problem: Problem, strides: tuple[int, ...]) -> str | None:
    """Why no piece of it fits into a TPU's VMEM, or None."""
    from convjax._lowerings.pallas_kernels import tiles

    gradient = problem.role == "kernel_gradient"
    dilation = problem.geometry.strides if gradient else problem.geometry.kernel_dilation
    window, out = problem.window, problem.out_space
    if gradient:
        window, out = out, window
    steps = {"strides": strides, "dilation": dilation}
    rows, columns = _lines(problem.geometry, problem.space, window, out, **steps)
    try:
        tiles.tiles(rows, columns, 1, tiles.LANES, 4)
    except ValueError as error:
        return str(error)
    return None


def run(x: jax.Array, kernel: jax.Array, call: Call) -> jax.Array:
    if _interpret(call) and (varying(x) or varying(kernel)):
        raise ValueError(
            "algorithm 'pallas' is interpreted on a CPU, which JAX cannot do where `jax.shard_map` "
            "checks types. Give it `check_vma=False`."
        )
    shape = call.out_shape(x, kernel)
    made = _kernel_gradient if call.role == "kernel_gradient" else _convolution
    return made(x, kernel, call, shape)


def _interpret(call: Call) -> bool:
    return call.target.platform == "cpu"


def _lines(geometry: Geometry, space: Any, window: Any, out: Any, **steps: Any) -> list[Any]:
    """(rows, columns); one dimension is columns of one row."""
    from convjax._lowerings.pallas_kernels import tiles

    found = [
        tiles.line(
            space[axis],
            window[axis],
            out[axis],
            stride=steps["strides"][axis],
            spread=geometry.input_dilation[axis],
            dilation=steps["dilation"][axis],
            low=geometry.padding[axis][0],
            reversal=geometry.reversal,
        )
        for axis in range(geometry.rank)
    ]
    return found if geometry.rank == 2 else [tiles.line(1, 1, 1), *found]


def _planes(x: jax.Array, rank: int) -> jax.Array:
    """(N, H, W, channels) of (N, *space, a, b, c), the last three of which are channels."""
    n, *sizes = x.shape
    space = sizes[:rank] if rank == 2 else [1, *sizes[:rank]]
    return lax.reshape(x, (n, *space, math.prod(sizes[rank:])))


def _convolution(x: jax.Array, kernel: jax.Array, call: Call, shape: Any) -> jax.Array:
    """Forward, and the gradient of the input: sums over the inputs of a group, one usually."""
    from convjax._lowerings.pallas_kernels import depthwise

    geometry, layout = call.geometry, call.layout
    x = arranged(x, layout.x, "batch space contract group")
    weights = arranged(kernel, layout.kernel, "space contract out group")
    rank = geometry.rank
    space, window = x.shape[1 : rank + 1], weights.shape[:rank]
    i, o, groups = weights.shape[rank:]
    out_space = tuple(shape[axis] for axis in layout.out.space)
    rows, columns = _lines(
        geometry,
        space,
        window,
        out_space,
        strides=geometry.strides,
        dilation=geometry.kernel_dilation,
    )
    if o > 1:
        x = jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], o, groups))
    weights = weights.astype(jnp.float32).reshape(math.prod(window), i * o * groups)
    result = call.result_type(x)
    dtype = result if i == 1 else jnp.float32
    y = depthwise.correlate(_planes(x, rank), weights, rows, columns, dtype, _interpret(call))
    y = y.reshape(y.shape[0], *out_space, i, o, groups).sum(rank + 1) if i > 1 else y
    return restored(y.astype(result), layout.out, "batch space out group", shape)


def _kernel_gradient(x: jax.Array, cotangent: jax.Array, call: Call, shape: Any) -> jax.Array:
    """x (examples contracted, I in its batch) with the cotangent as its window."""
    from convjax._lowerings.pallas_kernels import depthwise

    geometry, layout = call.geometry, call.layout
    x = arranged(x, layout.x, "contract space batch group")
    ct = arranged(cotangent, layout.kernel, "contract space out group")
    rank = geometry.rank
    i, o, groups = x.shape[-2], ct.shape[-2], x.shape[-1]
    space, steps = x.shape[1 : rank + 1], ct.shape[1 : rank + 1]
    window = tuple(shape[axis] for axis in layout.out.space)
    rows, columns = _lines(
        geometry, space, window, steps, strides=geometry.kernel_dilation, dilation=geometry.strides
    )
    if o > 1:
        x = jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], o, groups))
    if i > 1:
        ct = jnp.broadcast_to(ct[..., None, :, :], (*ct.shape[:-2], i, o, groups))
    sums = depthwise.kernel_gradient(
        _planes(x, rank), _planes(ct, rank), rows, columns, _interpret(call)
    )
    sums = sums.astype(call.result_type(x)).reshape(*window, i, o, groups)
    return restored(sums, layout.out, "space batch out group", shape)


def offer(problem: Problem, target: Target) -> str:
    """What `explain` says of it on a TPU where it accepts the problem, or ""."""
    if target.platform != "tpu" or LOWERING.refusal(problem, target) is not None:
        return ""
    return '; a kernel is available by `algorithm="pallas"`: compiled for v5e and v6e, never timed'


# A kernel is one call, which XLA does not repeat. On a CPU it is interpreted, for tests.
LOWERING = Lowering(
    "pallas", run, accepts, never, platforms=frozenset({"tpu", "cpu"}), one_device=True
)
