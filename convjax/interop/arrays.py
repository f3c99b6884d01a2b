"""Arrays of any framework as numpy's."""

from typing import Any

import numpy as np

from convjax._core import checks

#: The frameworks that `kernel_from` and `kernel_to` know.
FRAMEWORKS = ("torch", "tensorflow", "keras", "equinox", "haiku", "flax", "lax")


def checked(function: str, argument: str, value: Any) -> np.ndarray:
    """`value` as a numpy array: one of numpy, JAX or a tensor of PyTorch or Keras."""
    checks.array(function, argument, value)
    return to_numpy(value)


def to_numpy(value: Any) -> np.ndarray:
    """An array of any framework as numpy's, without rounding."""
    if hasattr(value, "detach"):  # PyTorch: off the graph and the device
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # which PyTorch does not hand to numpy
            return value.float().numpy().astype(np.dtype("bfloat16"))
        return value.numpy()
    return np.asarray(value)
