"""What `convjax.selftest` runs on a TPU besides the lowerings."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def of_causal(causal_conv: Any) -> tuple[jax.Array, jax.Array]:
    """A packed `causal_conv` with all that surrounds it: by the kernel, and without it."""
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
    found, wanted = (
        jax.jit(functools.partial(causal_conv, algorithm=name, **given))(x, kernel)
        for name in ("pallas", None)
    )
    return found, wanted
