"""What this machine's XLA does, seen in a small program that it compiles."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core import declared

_ONEDNN = "__onednn$convolution"  # what a program calls for a convolution by oneDNN


@functools.lru_cache(maxsize=8)
def calls_onednn(options: declared.Options) -> bool:
    """Whether XLA for CPU knows these options, and gives convolutions to oneDNN under them.

    A 3x3 convolution of 16 channels is compiled, and not run. XLA refuses unknown options.
    """
    return _ONEDNN in _compiled(dict(options))


def _compiled(options: Mapping[str, Any]) -> str:
    """The compiled program of one convolution; "" where it does not compile."""
    x = jax.ShapeDtypeStruct((1, 8, 8, 16), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 16, 16), jnp.float32)
    try:
        with jax.disable_jit(False), jax.default_device(jax.local_devices(backend="cpu")[0]):
            jitted = jax.jit(_convolution, compiler_options=dict(options))
            return jitted.lower(x, kernel).compile().as_text() or ""
    except RuntimeError:  # XLA's errors: no such option; no CPU among the platforms
        return ""


def _convolution(x: Any, kernel: Any) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
