"""The matrix of a convolution, dense or sparse, placed entry by entry from index arithmetic."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from convjax._core import checks
from convjax._core.aliases import ArrayLike, Ints
from convjax._core.layout import layout_of
from convjax._core.options import MatrixOptions, takes
from convjax._core.public import public_with
from convjax._core.recipe import Recipe
from convjax._functional.prepare import Names, resolved

if TYPE_CHECKING:
    from jax.experimental.sparse import BCOO


@public_with(kernel=checks.kernel, sparse=checks.flag)
@takes(MatrixOptions)
def conv_matrix(
    kernel: ArrayLike, space: Ints, *, sparse: bool = False, **options: Unpack[MatrixOptions]
) -> "jax.Array | BCOO":
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
    names, kernel = Names("conv_matrix"), jnp.asarray(kernel)
    layout = layout_of(names.function, options.get("dimension_numbers"), kernel.ndim)
    extents = checks.ints(names.function, "space", space, kernel.ndim - 2, minimum=0)
    groups = options.get("feature_group_count", 1)
    groups = checks.integer(names.function, names.groups, groups, minimum=1)
    (per_group,) = layout.kernel.sizes(kernel.shape, "contract")
    (out,) = layout.kernel.sizes(kernel.shape, "out")

    # One example x: its recipe says whether it fits, and what comes out.
    sizes = dict(zip(layout.x.space, extents, strict=True)) | {
        layout.x.contract[0]: per_group * groups
    }
    x = tuple(sizes.get(axis, 1) for axis in range(kernel.ndim))
    recipe = resolved(names, layout, x, kernel.shape, kernel.dtype, options)
    y = recipe.out_shape

    # Offsets (in flattened y, kernel and x) of the entries of one axis; all axes: all their sums.
    y_step, k_step, x_step = _steps(y), _steps(kernel.shape), _steps(x)
    i, o = (index.ravel() for index in np.indices((per_group, out)))
    source = o // max(out // groups, 1) * per_group + i
    offsets = np.stack(
        [
            o * y_step[layout.out.out[0]],
            i * k_step[layout.kernel.contract[0]] + o * k_step[layout.kernel.out[0]],
            source * x_step[layout.x.contract[0]],
        ]
    )
    geometry = recipe.geometry
    axes = zip(layout.out.space, layout.kernel.space, layout.x.space, strict=True)
    for axis, (o_axis, k_axis, x_axis) in enumerate(axes):
        o, t = (index.ravel() for index in np.indices((y[o_axis], kernel.shape[k_axis])))
        places = o * geometry.strides[axis] + t * geometry.kernel_dilation[axis]
        source = _line(recipe, axis)[places]
        entry = np.stack([o * y_step[o_axis], t * k_step[k_axis], source * x_step[x_axis]])
        entry = entry[:, source >= 0]
        offsets = (entry[:, :, None] + offsets[:, None, :]).reshape(3, -1)

    shape = prod(y), prod(x)
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
    """The distance in the flattened array between neighbours along each axis."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _line(recipe: Recipe, axis: int) -> np.ndarray:
    """Which input lies at each position of the dilated, padded axis; -1: none."""
    step, n = recipe.geometry.input_dilation[axis], recipe.layout.x.sizes(recipe.x, "space")[axis]
    line = np.full(max((n - 1) * step + 1, 0), -1)
    line[::step] = np.arange(n)
    if recipe.extension and recipe.modes[axis] != "constant":
        mode: Any = recipe.modes[axis]
        line = np.pad(line, recipe.extension[axis], mode=mode)
    lo, hi = recipe.geometry.padding[axis]
    line = np.pad(line, (max(lo, 0), max(hi, 0)), constant_values=-1)
    return line[max(-lo, 0) : len(line) - max(-hi, 0)]
