"""Every kind as one dense convolution, for the law that each kind equals one.

``form(x, kernels, sizes, **options)``, with the `Sizes` of `convjax.kinds`, computes what the kind
does, by `conv` or `conv_transpose` with the kernel that `convjax.equivalents` gives.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from convjax import _functional, equivalents
from convjax._core.geometry import dilated
from convjax._functional.prepare import Names, conv_recipe, transpose_recipe

Kernels = Sequence[jax.Array]


def conv_with(kernel_of: Callable[[Kernels, Any], jax.Array]) -> Callable[..., jax.Array]:
    """The form of a kind that equals `conv` with ``kernel_of(kernels, sizes)``."""

    def form(x: jax.Array, kernels: Kernels, sizes: Any, **options: Any) -> jax.Array:
        return _functional.conv(x, kernel_of(kernels, sizes), **options)

    return form


def transposed(x: jax.Array, kernels: Kernels, sizes: Any, **options: Any) -> jax.Array:
    """`conv_transpose` as one `conv` with ``input_dilation=strides`` (relation 14)."""
    (kernel,) = kernels
    recipe = transpose_recipe(Names("transposed", x="y"), x, kernel, options)
    geometry = recipe.geometry
    return _functional.conv(
        x,
        equivalents.transposed(kernel),
        padding=geometry.padding,
        input_dilation=geometry.input_dilation,
        kernel_dilation=geometry.kernel_dilation,
    )


def resize_conv(x: jax.Array, kernels: Kernels, sizes: Any, **options: Any) -> jax.Array:
    """Nearest-neighbour `resize_conv` as one `conv_transpose`."""
    (kernel,), r = kernels, sizes.scale
    dilation = options.get("kernel_dilation", 1)
    larger = (x.shape[0], *(n * r for n in x.shape[1:-1]), x.shape[-1])
    axes = _axes(kernel, larger, **options)
    return _functional.conv_transpose(
        x,
        equivalents.resize_conv(kernel, r, kernel_dilation=dilation),
        strides=r,
        padding=[(k_hat - 1 - lo, k_hat - 1 - hi) for k_hat, lo, hi in axes],
    )


def subpixel(x: jax.Array, kernels: Kernels, sizes: Any, **options: Any) -> jax.Array:
    """`subpixel_conv` as one `conv_transpose`."""
    (kernel,), r = kernels, sizes.scale
    axes = _axes(kernel, x.shape, **options)
    return _functional.conv_transpose(
        x,
        equivalents.subpixel(kernel, r),
        strides=r,
        padding=[(r * (k - 1 - lo), r * (k - 1 - hi)) for k, lo, hi in axes],
    )


def pixel_shuffle(x: jax.Array, kernels: Kernels, sizes: Any) -> jax.Array:
    """`pixel_shuffle` as one `conv_transpose`."""
    r, rank = sizes.scale, sizes.rank
    kernel = equivalents.pixel_shuffle(r, sizes.out_features, rank=rank, dtype=x.dtype)
    return _functional.conv_transpose(x, kernel, strides=r, padding="VALID")


def hold(
    x: jax.Array, kernels: Kernels, sizes: Any, *, order: int = 0, **options: Any
) -> jax.Array:
    """`hold` as one `conv`, whose edges continue."""
    size, features, rank = sizes.scale, sizes.in_features, sizes.rank
    kernel = equivalents.hold(size, features, order=order, rank=rank, dtype=x.dtype)
    return _functional.conv(x, kernel, **{"padding_mode": "edge", **options})


def _axes(kernel: jax.Array, shape: Sequence[int], **options: Any) -> list[tuple[int, int, int]]:
    """Per spatial axis: the extent of the dilated kernel, and the padding in numbers.

    `shape` is the shape of what the kernel is convolved with.
    """
    x = jax.ShapeDtypeStruct(shape, kernel.dtype)
    recipe = conv_recipe(Names("dense_forms"), x, kernel, options)
    steps, pairs = recipe.geometry.kernel_dilation, recipe.geometry.padding
    return [
        (dilated(k, step), lo, hi)
        for k, step, (lo, hi) in zip(recipe.window, steps, pairs, strict=True)
    ]
