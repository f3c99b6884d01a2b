"""The matrix of a convolution, dense or sparse, placed entry by entry from index arithmetic."""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convjax import _checks
from convjax import padding as paddings
from convjax._public import public_with
from convjax.functional.arguments import sides
from convjax.functional.worker import conv_as


@public_with(kernel=_checks.kernel, sparse=_checks.flag)
def conv_matrix(
    kernel: jax.Array,
    space: Any,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    input_dilation: Any = 1,
    kernel_dilation: Any = 1,
    feature_group_count: int = 1,
    dimension_numbers: Any = None,
    sparse: bool = False,
) -> Any:
    """The matrix C of a convolution: ``conv(x, kernel)[n].ravel() == C @ x[n].ravel()``.

    Every entry is a sum of kernel elements (one, unless `padding_mode` repeats inputs), placed by
    index arithmetic. ``C.T`` is the matrix of `conv_transpose`: it restores the shape and is not
    the inverse.

    Args:
        kernel: (*K, I/G, O).
        space: extents of x; an int, or one per spatial axis.
        strides, padding, padding_mode, input_dilation, kernel_dilation, feature_group_count,
            dimension_numbers: as in `conv`; rows and columns follow the layouts of y and x.
        sparse: return a ``jax.experimental.sparse.BCOO``, its indices sorted and unique.

    Returns:
        (prod(out_space)*O, prod(space)*I), of the kernel's dtype.

    Raises:
        ValueError, TypeError: as `conv`.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> C = equivalents.conv_matrix(jnp.ones((3, 3, 1, 1)), 4, padding="VALID")
        >>> C.shape, int((C != 0).sum())
        ((4, 16), 36)

    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016, section
        4.1, https://arxiv.org/abs/1603.07285
    """
    options = {
        "strides": strides,
        "padding": padding,
        "padding_mode": padding_mode,
        "input_dilation": input_dilation,
        "kernel_dilation": kernel_dilation,
        "feature_group_count": feature_group_count,
        "dimension_numbers": dimension_numbers,
    }
    kernel = jnp.asarray(_checks.array("conv_matrix", "kernel", kernel))
    rank = kernel.ndim - 2
    where = sides("conv_matrix", dimension_numbers, kernel.ndim)
    space = _checks.ints("conv_matrix", "space", space, rank, minimum=0)
    groups = _checks.integer("conv_matrix", "feature_group_count", feature_group_count, minimum=1)
    per_group, out = kernel.shape[where.kernel[0]], kernel.shape[where.kernel[1]]

    # One example x, of which `conv` itself says whether it fits, and what comes out.
    extents = dict(zip(where.x[2], space, strict=True)) | {where.x[1]: per_group * groups}
    x = jax.ShapeDtypeStruct([extents.get(axis, 1) for axis in range(kernel.ndim)], kernel.dtype)
    y = jax.eval_shape(lambda x, k: conv_as("conv_matrix", x, k, **options), x, kernel)

    # Offsets (in flattened y, kernel and x) of the entries of one axis; all axes: all their sums.
    y_step, k_step, x_step = _steps(y.shape), _steps(kernel.shape), _steps(x.shape)
    i, o = (index.ravel() for index in np.indices((per_group, out)))
    source = o // max(out // groups, 1) * per_group + i
    offsets = np.stack(
        [
            o * y_step[where.out[1]],
            i * k_step[where.kernel[0]] + o * k_step[where.kernel[1]],
            source * x_step[where.x[1]],
        ]
    )
    for axis, line in enumerate(_lines(kernel, space, where.kernel[2], options)):
        o_axis, k_axis, x_axis = where.out[2][axis], where.kernel[2][axis], where.x[2][axis]
        stride = _checks.ints("conv_matrix", "strides", strides, rank)[axis]
        step = _checks.ints("conv_matrix", "kernel_dilation", kernel_dilation, rank)[axis]
        o, t = (index.ravel() for index in np.indices((y.shape[o_axis], kernel.shape[k_axis])))
        source = line[o * stride + t * step]
        entry = np.stack([o * y_step[o_axis], t * k_step[k_axis], source * x_step[x_axis]])
        entry = entry[:, source >= 0]
        offsets = (entry[:, :, None] + offsets[:, None, :]).reshape(3, -1)

    shape = prod(y.shape), prod(x.shape)
    places, inverse = np.unique(offsets[0] * shape[1] + offsets[2], return_inverse=True)
    indices = np.stack(np.divmod(places, max(shape[1], 1)), axis=-1)
    values = kernel.ravel()[offsets[1]]
    entries = jnp.zeros(len(places), kernel.dtype).at[inverse.ravel()].add(values)
    if sparse:
        from jax.experimental import sparse as jsparse  # half a second, and few ask for it

        return jsparse.BCOO(
            (entries, jnp.asarray(indices)), shape=shape, indices_sorted=True, unique_indices=True
        )
    return jnp.zeros(shape, kernel.dtype).at[indices[:, 0], indices[:, 1]].set(entries)


def _steps(shape: Sequence[int]) -> list[int]:
    """How far apart in the flattened array neighbours along each axis are."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _lines(
    kernel: jax.Array, space: tuple[int, ...], window_axes: Sequence[int], options: dict[str, Any]
) -> list[np.ndarray]:
    """Per spatial axis: which input lies at each position of the dilated, padded axis; -1: none."""
    rank = len(space)
    ints = {
        name: _checks.ints("conv_matrix", name, options[name], rank)
        for name in ("strides", "input_dilation", "kernel_dilation")
    }
    pairs = paddings.resolve(
        "conv_matrix",
        options["padding"],
        space=space,
        window=[kernel.shape[axis] for axis in window_axes],
        **ints,
    )
    modes = paddings.modes("conv_matrix", options["padding_mode"], rank)
    lines = []
    for n, step, mode, (lo, hi) in zip(space, ints["input_dilation"], modes, pairs, strict=True):
        line = np.full(max((n - 1) * step + 1, 0), -1)
        line[::step] = np.arange(n)
        beyond: dict[str, Any] = {"mode": mode}
        if mode == "constant":
            beyond["constant_values"] = -1
        line = np.pad(line, (max(lo, 0), max(hi, 0)), **beyond)
        lines.append(line[max(-lo, 0) : len(line) - max(-hi, 0)])
    return lines
