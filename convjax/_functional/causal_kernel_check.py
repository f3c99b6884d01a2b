"""The check of the causal kernel that `convjax.selftest` runs on a TPU."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convjax._functional import causal_conv


def of_causal() -> tuple[jax.Array, jax.Array]:
    """A packed causal convolution with all that surrounds it: by the kernel, and without it."""
    rng = np.random.default_rng(4)

    def integers(*shape: int) -> jax.Array:
        return jnp.asarray(rng.integers(-3, 4, shape), jnp.float32)

    x, kernel = integers(2, 1000, 256), integers(4, 1, 256)
    given: dict[str, Any] = {
        "bias": integers(256),
        "state": integers(2, 3, 256),
        "segment_ids": jnp.asarray(np.sort(rng.integers(0, 9, (2, 1000)), 1)),
        "activation": "relu",
        "feature_group_count": 256,
    }
    by_kernel = functools.partial(causal_conv, algorithm="pallas", **given)
    by_default = functools.partial(causal_conv, **given)
    return jax.jit(by_kernel)(x, kernel), jax.jit(by_default)(x, kernel)
