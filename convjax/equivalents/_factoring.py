"""From a dense kernel to factors: how separable it is, and the closest separable kernels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core import checks
from convjax._core.aliases import ArrayLike, Ints
from convjax._core.public import public_with

_EXACT = lax.Precision.HIGHEST


class Separation(NamedTuple):
    """What `separate_kernel` finds: ``prod(factors)`` is the closest rank-1 kernel."""

    factors: tuple[jax.Array, ...]
    energy: jax.Array


@public_with(kernel=checks.numbers)
def separate_kernel(kernel: ArrayLike, *, sweeps: int = 30) -> Separation:
    """The best rank-1 approximation of every spatial filter of a kernel, one factor per axis.

    ``kernel[t, u, i, o] ~ factors[0][t, 0, i, o] * factors[1][0, u, i, o]``, with the least squared
    error; `energy` is the fraction ``||approximation||^2 / ||filter||^2`` that it keeps. Along one
    axis every filter is itself; on two the best is the first term of the singular value
    decomposition. On three or more the leading vectors of one axis after the other are improved by
    alternating least squares: exact for rank-1 filters, else a local optimum.
    The scale is in the first factor; in the others the largest element is 1 (or, in the last, -1).

    Args:
        kernel: (*K, I, O), real. Of one channel, or depthwise (I = 1), the factors are the kernels
            of `spatially_separable_conv` and `flattened_conv` as they are.
        sweeps: how many alternations, on three or more axes.

    Returns:
        ``(factors, energy)``: one (1, ..., K, ..., 1, I, O) per spatial axis, and (I, O).

    Raises:
        ValueError: a kernel without spatial axes.
        TypeError: not an array, or complex.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> sobel = jnp.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).reshape(3, 3, 1, 1)
        >>> (smooth, slope), energy = equivalents.separate_kernel(sobel)
        >>> smooth.shape, slope.shape, energy.shape
        ((3, 1, 1, 1), (1, 3, 1, 1), (1, 1))

    Source: Rigamonti et al., Learning separable filters, 2013, https://doi.org/10.1109/CVPR.2013.355;
        De Lathauwer, De Moor & Vandewalle, On the best rank-1 approximation of higher-order
        tensors, 2000, https://doi.org/10.1137/S0895479898346995
    """
    kernel = _real_kernel("separate_kernel", kernel)
    window = kernel.shape[:-2]
    axes = range(len(window))
    filters = jnp.moveaxis(kernel, (-2, -1), (0, 1))
    letters = "abcdefgh"[: len(window)]

    def along(axis: int | None, vectors: Sequence[jax.Array]) -> jax.Array:
        """The filters contracted with the vectors of every axis but `axis`."""
        others = [a for a in axes if a != axis]
        spec = ",".join([f"io{letters}", *(f"io{letters[a]}" for a in others)])
        left = "" if axis is None else letters[axis]
        vectors = [vectors[a] for a in others]
        return jnp.einsum(f"{spec}->io{left}", filters, *vectors, precision=_EXACT)

    def begin() -> list[jax.Array]:
        """A first guess, one axis after the other: the leading singular vector of the remainder.

        The remainder is what contracting with the vectors before it leaves. Vectors that are found
        independently need not belong together if singular values are equal.
        """
        vectors: list[jax.Array] = []
        rest = filters
        for axis in axes[:-1]:
            matrix = rest.reshape(*filters.shape[:2], window[axis], -1)
            vectors.append(jnp.linalg.svd(matrix, full_matrices=False)[0][..., 0])
            rest = jnp.einsum("iok,iokr->ior", vectors[-1], matrix, precision=_EXACT)
        square = (rest**2).sum(axis=-1, keepdims=True)
        scaled = rest / jnp.sqrt(jnp.where(square > 0, square, 1))
        first = jnp.eye(1, window[-1], dtype=rest.dtype)[0]
        return [*vectors, jnp.where(square > 0, scaled, first)]

    def sweep(_: Any, vectors: list[jax.Array]) -> list[jax.Array]:
        for axis in axes:
            vector = along(axis, vectors)
            norm = jnp.linalg.norm(vector, axis=-1, keepdims=True)
            vectors[axis] = jnp.where(
                norm > 0, vector / jnp.where(norm > 0, norm, 1), vectors[axis]
            )
        return vectors

    found = begin()
    if len(window) > 2:
        found = lax.fori_loop(0, sweeps, sweep, found)
    scale = along(None, found)  # (I, O)
    total = (filters**2).sum(axis=tuple(2 + a for a in axes))
    energy = _fraction(scale**2, total)

    peaks = [_peak(vector) for vector in found]
    for axis in axes[1:]:
        scale = scale * peaks[axis]
        found[axis] = found[axis] / peaks[axis][..., None]
    sign = jnp.where(scale * peaks[0] < 0, -1, 1) if len(window) > 1 else jnp.ones_like(scale)
    found[0] = found[0] * (sign * scale)[..., None]
    if len(window) > 1:
        found[-1] = found[-1] * sign[..., None]
    factors = [
        jnp.moveaxis(vector, -1, 0).reshape(
            *(window[axis] if a == axis else 1 for a in axes), *kernel.shape[-2:]
        )
        for axis, vector in enumerate(found)
    ]
    return Separation(tuple(factors), energy)


@public_with(kernel=checks.numbers)
def separable_chain(kernel: ArrayLike, mid_features: Ints) -> Separation:
    """Kernels for `spatially_separable_conv` that come closest to a dense kernel, and their energy.

    ``sum_m kernels[0][t, 0, i, m] * kernels[1][0, u, m, o] ~ kernel[t, u, i, o]``: the truncated
    singular value decomposition between one axis and the next (a tensor train). On two axes it is
    the best chain with `mid_features` channels between, and exact where these reach
    ``min(K1*I, K2*O)``.

    Args:
        kernel: (*K, I, O), real.
        mid_features: channels between two stages, at most; an int, or one for every pair of
            neighbouring axes.

    Returns:
        ``(factors, energy)``: the kernels (K1, 1, I, M), (1, K2, M, O), and the fraction of the
        whole kernel's squared norm that they keep, a scalar.

    Raises:
        ValueError: `mid_features` below 1; a kernel without spatial axes.
        TypeError: not an array, or complex.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import equivalents
        >>> kernels, energy = equivalents.separable_chain(jnp.ones((3, 5, 4, 8)), mid_features=2)
        >>> kernels[0].shape, kernels[1].shape
        ((3, 1, 4, 2), (1, 5, 2, 8))

    Source: Jaderberg, Vedaldi & Zisserman, Speeding up convolutional neural networks with low rank
        expansions, 2014, https://arxiv.org/abs/1405.3866; Oseledets, Tensor-train decomposition,
        2011, https://doi.org/10.1137/090752286
    """
    kernel = _real_kernel("separable_chain", kernel)
    *window, features, out = kernel.shape
    rank = len(window)
    limits = checks.ints("separable_chain", "mid_features", mid_features, rank - 1, minimum=1)
    rest = jnp.moveaxis(kernel, -2, 0)  # (I, K1, K2, ..., O)
    factors = []
    for axis, limit in enumerate(limits):
        matrix = rest.reshape(features * window[axis], -1)
        u, s, v = jnp.linalg.svd(matrix, full_matrices=False)
        middle = min(limit, len(s))
        factors.append(u[:, :middle].reshape(features, window[axis], middle))
        rest = s[:middle, None] * v[:middle]
        features = middle
    factors.append(rest.reshape(features, window[-1], out))
    total = (kernel**2).sum()
    energy = _fraction((rest**2).sum(), total)
    shapes = [[k if a == axis else 1 for a in range(rank)] for axis, k in enumerate(window)]
    kernels = [
        jnp.moveaxis(factor, 0, 1).reshape(*shape, factor.shape[0], factor.shape[2])
        for factor, shape in zip(factors, shapes, strict=True)
    ]
    return Separation(tuple(kernels), energy)


@public_with(kernel=checks.numbers)
def rank_energy(kernel: jax.Array) -> jax.Array:
    """The energy of every spatial filter that its best approximations of rank 1, 2, ... keep.

    ``energy[r - 1] = (sigma_1^2 + ... + sigma_r^2) / sum(sigma^2)``, with the singular values of
    ``kernel[:, :, i, o]``. A filter of rank 1 is spatially separable. For independent Gaussian
    weights the first two are .747 and .971 on average for 3x3, .547 and .823 for 5x5.

    Args:
        kernel: (K1, K2, I, O), real.

    Returns:
        (min(K1, K2), I, O), rising to 1; all 1 for filters of zeros, which lose nothing.

    Raises:
        ValueError: a kernel that has not two spatial axes.
        TypeError: not an array, or complex.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax.equivalents import rank_energy
        >>> rank_energy(jnp.ones((3, 5, 8, 16))).shape
        (3, 8, 16)
        >>> rank_energy(jnp.eye(2).reshape(2, 2, 1, 1)).ravel().tolist()
        [0.5, 1.0]

    Source: Rigamonti, Sironi, Lepetit & Fua, Learning separable filters, 2013,
        https://doi.org/10.1109/CVPR.2013.355
    """
    function = "rank_energy"
    kernel = jnp.asarray(checks.array(function, "kernel", kernel))
    if kernel.ndim != 4 or 0 in kernel.shape[:2]:
        hint = "Of a kernel with three spatial axes, give the planes: `kernel[0]`, `kernel[1]`, ..."
        checks.fail(function, "kernel", kernel.shape, "must be (K1, K2, I, O)", hint)
    kernel = _real_kernel(function, kernel)
    values = jnp.linalg.svd(jnp.moveaxis(kernel, (0, 1), (-2, -1)), compute_uv=False)
    # Relative to the largest, squares neither overflow nor vanish.
    largest = values[..., :1]
    kept = jnp.cumsum((values / jnp.where(largest > 0, largest, 1)) ** 2, axis=-1)
    total = kept[..., -1:]
    return jnp.moveaxis(jnp.where(total > 0, kept / jnp.where(total > 0, total, 1), 1), -1, 0)


def _real_kernel(function: str, kernel: Any) -> jax.Array:
    """`kernel` in a floating dtype of 32 bits or more."""
    kernel = jnp.asarray(checks.array(function, "kernel", kernel))
    if kernel.ndim < 3:
        checks.fail(function, "kernel", kernel.shape, "must have at least one spatial axis")
    if jnp.issubdtype(kernel.dtype, jnp.complexfloating):
        checks.fail_type(function, "kernel", str(kernel.dtype), "must be real")
    return kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))


def _fraction(kept: jax.Array, total: jax.Array) -> jax.Array:
    """``kept / total``, at most 1, and 1 where there is nothing to keep."""
    return jnp.where(total > 0, jnp.minimum(kept / jnp.where(total > 0, total, 1), 1), 1)


def _peak(vectors: jax.Array) -> jax.Array:
    """The element of largest magnitude along the last axis, with its sign."""
    place = jnp.argmax(jnp.abs(vectors), axis=-1, keepdims=True)
    return jnp.take_along_axis(vectors, place, axis=-1)[..., 0]
