"""Biases, and the order of the channels that a pixel shuffle reads."""

from math import prod
from typing import Any

import numpy as np

from convjax._core import checks
from convjax._core.aliases import AnyArray, Ints
from convjax._core.public import public
from convjax.interop.arrays import FRAMEWORKS, checked


@public
def bias_from(framework: str, bias: AnyArray) -> np.ndarray:
    """A bias of another framework as ours: one number per output channel, ``(O,)``.

    Args:
        framework: as for `kernel_from`.
        bias: (O,), or with axes of extent 1 after or before it, as Equinox and Haiku's
            channels-first layers have it.

    Returns:
        (O,).

    Raises:
        ValueError: an unknown framework, more than one axis with an extent.
        TypeError: not an array.

    Example:
        >>> import numpy as np
        >>> from convjax import interop
        >>> interop.bias_from("equinox", np.ones((8, 1, 1))).shape
        (8,)
    """
    checks.choice("bias_from", "framework", framework, FRAMEWORKS)
    bias = checked("bias_from", "bias", bias)
    if bias.ndim == 0 or max(bias.shape) != bias.size:
        rule = "must have one number per channel: one axis, and others of extent 1"
        checks.fail("bias_from", "bias", bias.shape, rule)
    return bias.reshape(-1).copy()


@public
def bias_to(framework: str, bias: AnyArray, *, rank: int = 2) -> np.ndarray:
    """Our bias as another framework stores it: ``(O, 1, ...)`` for Equinox, else ``(O,)``.

    Args:
        framework: as for `kernel_from`.
        bias: (O,).
        rank: the number of spatial axes.

    Returns:
        (O,), or for Equinox (O, 1, ..., 1).

    Raises:
        ValueError: an unknown framework, a bias that has not one axis.
        TypeError: not an array.

    Example:
        >>> import numpy as np
        >>> from convjax import interop
        >>> interop.bias_to("equinox", np.ones(8), rank=2).shape
        (8, 1, 1)
    """
    checks.choice("bias_to", "framework", framework, FRAMEWORKS)
    bias = checked("bias_to", "bias", bias)
    rank = checks.integer("bias_to", "rank", rank, minimum=1)
    if bias.ndim != 1:
        checks.fail("bias_to", "bias", bias.shape, "must have one axis, the output channels")
    return bias.reshape(-1, *(1,) * rank * (framework == "equinox")).copy()


@public
def from_depth_to_space(
    array: AnyArray, scale: Ints, *, rank: int = 2, axis: int = -1
) -> np.ndarray:
    """Reorder channels made for TensorFlow's `depth_to_space` to suit `pixel_shuffle`.

    TensorFlow, and Keras with channels last, read channel ``offset*C + c`` where PyTorch and
    convjax read ``c*r^d + offset``. (Keras with channels first has PyTorch's order.)

    Args:
        array: a kernel, a bias or an activation.
        scale: r; an int, or one per spatial axis.
        rank: the number of spatial axes, if `scale` is an int.
        axis: the axis of the C*r^d channels.

    Returns:
        The array, its channels reordered.

    Raises:
        ValueError: channels that r^d does not divide.
        TypeError: not an array, not integers.

    Example:
        >>> import numpy as np
        >>> from convjax import interop
        >>> interop.from_depth_to_space(np.arange(8), 2)
        array([0, 2, 4, 6, 1, 3, 5, 7])
    """
    return reordered("from_depth_to_space", array, scale, rank, axis, space_first=True)


@public
def to_depth_to_space(array: AnyArray, scale: Ints, *, rank: int = 2, axis: int = -1) -> np.ndarray:
    """Reorder channels made for `pixel_shuffle` to suit TensorFlow's `depth_to_space`.

    Args:
        array, scale, rank, axis: as for `from_depth_to_space`, which this undoes.

    Returns:
        The array, its channels reordered.

    Raises:
        ValueError: channels that r^d does not divide.
        TypeError: not an array, not integers.

    Example:
        >>> import numpy as np
        >>> from convjax import interop
        >>> interop.to_depth_to_space(np.arange(8), 2)
        array([0, 4, 1, 5, 2, 6, 3, 7])
    """
    return reordered("to_depth_to_space", array, scale, rank, axis, space_first=False)


def reordered(
    function: str, array: Any, scale: Any, rank: int, axis: int, *, space_first: bool
) -> np.ndarray:
    array = checked(function, "array", array)
    axis = checks.integer(function, "axis", axis)
    if not -array.ndim <= axis < array.ndim:
        checks.fail(function, "axis", axis, f"must be an axis of `array`, which has {array.ndim}")
    rank = checks.integer(function, "rank", rank, minimum=1)
    block = prod(checks.ints(function, "scale", scale, _rank_of(scale, rank), minimum=1))
    channels = array.shape[axis]
    if channels % block:
        rule = f"must divide the channels (={channels}) by its product over the spatial axes"
        checks.fail(function, "scale", scale, f"{rule}, {block}")
    shape = (block, channels // block) if space_first else (channels // block, block)
    order = np.arange(channels).reshape(shape).T.reshape(-1)
    return np.take(array, order, axis=axis)


def _rank_of(scale: Any, rank: int) -> int:
    return rank if checks.is_int(scale) or not hasattr(scale, "__len__") else len(scale)
