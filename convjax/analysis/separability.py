"""How close kernels are to separable ones."""

import jax
import jax.numpy as jnp

from convjax._core import checks
from convjax._core.public import public_with


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
        >>> from convjax.analysis import rank_energy
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
    if jnp.issubdtype(kernel.dtype, jnp.complexfloating):
        checks.fail_type(function, "kernel", str(kernel.dtype), "must be real")
    kernel = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    values = jnp.linalg.svd(jnp.moveaxis(kernel, (0, 1), (-2, -1)), compute_uv=False)
    # Relative to the largest, squares neither overflow nor vanish.
    largest = values[..., :1]
    kept = jnp.cumsum((values / jnp.where(largest > 0, largest, 1)) ** 2, axis=-1)
    total = kept[..., -1:]
    return jnp.moveaxis(jnp.where(total > 0, kept / jnp.where(total > 0, total, 1), 1), -1, 0)
