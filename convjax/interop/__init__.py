"""From and to other frameworks: kernels, whole state dicts, and which padding ports a layer.

Numpy only: no framework is imported here, and arrays of all of them are accepted.
"""

from convjax.interop.kernels import (
    FRAMEWORKS,
    bias_from,
    bias_to,
    from_depth_to_space,
    kernel_from,
    kernel_to,
    to_depth_to_space,
)

__all__ = [
    "FRAMEWORKS",
    "bias_from",
    "bias_to",
    "from_depth_to_space",
    "kernel_from",
    "kernel_to",
    "to_depth_to_space",
]
