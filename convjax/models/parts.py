"""What several networks share: convolution with normalisation, pools, response normalisation."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from convjax import initializers
from convjax._core import checks

HE_NORMAL = initializers.he_normal()


class ConvNorm(nnx.Module):
    """A convolution, batch normalisation, and ReLU unless ``relu=False``.

    Args:
        conv: a module of `convjax.nn` without biases; the normalisation has biases.
        features: its output channels.
        relu: whether ReLU follows.
        momentum, epsilon: of `flax.nnx.BatchNorm`; the defaults are PyTorch's.
        rngs: random streams.
        options: `dtype` and `param_dtype`.
    """

    def __init__(
        self,
        conv: Callable[[jax.Array], jax.Array],
        features: int,
        *,
        relu: bool = True,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        self.conv = conv
        self.norm = nnx.BatchNorm(
            features, momentum=momentum, epsilon=epsilon, rngs=rngs, **options
        )
        self.relu = relu

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm(self.conv(x))
        return nnx.relu(y) if self.relu else y


def ceil_pool(
    pool: Callable[..., jax.Array], x: jax.Array, size: int = 3, stride: int = 2, **options: Any
) -> jax.Array:
    """Caffe's pooling: a window that begins inside counts: ``ceil((n - size)/stride) + 1``."""
    space = x.shape[1:-1]
    sides = [ceil_padding(n, size, stride) for n in space]
    window, strides = (size,) * len(space), (stride,) * len(space)
    return pool(x, window, strides=strides, padding=sides, **options)


def ceil_padding(extent: int, size: int = 3, stride: int = 2) -> tuple[int, int]:
    """What `ceil_pool` adds, at the end, to an axis of this extent."""
    return (0, max(size - extent, (size - extent) % stride))


def max_pool(x: jax.Array, size: int = 3, stride: int = 2, padding: Any = "SAME") -> jax.Array:
    """`flax.nnx.max_pool` with the same window and stride along every axis."""
    rank = x.ndim - 2
    return nnx.max_pool(x, (size,) * rank, strides=(stride,) * rank, padding=padding)


def global_average(x: jax.Array) -> jax.Array:
    """(N, *space, C) to (N, C)."""
    return x.mean(axis=tuple(range(1, x.ndim - 1)))


def local_response_norm(
    x: jax.Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> jax.Array:
    """``x / (1 + alpha * mean(x**2))**beta``, the mean over `size` neighbouring channels (Caffe's).

    Channels beyond the first and the last count as zeros.
    """
    squares = jnp.square(x.astype(jnp.float32))[..., None]
    window = (1,) * (x.ndim - 2) + (size,)
    means = nnx.avg_pool(squares, window, padding="SAME")[..., 0]
    return x * ((1 + alpha * means) ** -beta).astype(x.dtype)


def scaled(features: int, width: float, minimum: int = 1) -> int:
    """`features` times a width multiplier, rounded down, at least `minimum`."""
    return max(int(features * width), minimum)


def positive(function: str, argument: str, value: Any) -> float:
    """`value`, if it is a finite number above 0."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        checks.fail(function, argument, value, "must be a number above 0")
    return value


def entries(
    function: str, argument: str, value: Sequence[int], count: int | None = None
) -> tuple[int, ...]:
    """`value` as a tuple of `count` integers of at least 1; by default of one or more."""
    several = tuple(value)
    if count is None and not several:
        checks.fail(function, argument, several, "must have at least one entry")
    numbers = [checks.integer(function, argument, n, minimum=1) for n in several]
    if count not in (None, len(numbers)):
        checks.fail(function, argument, several, f"must have {count} entries, not {len(numbers)}")
    return tuple(numbers)


def divides(function: str, argument: str, groups: int, **features: int) -> None:
    """Fail unless `groups` divides each of the named numbers of channels."""
    checks.integer(function, argument, groups, minimum=1)
    for name, number in features.items():
        if number % groups:
            rule = f"must divide the channels of {name} (={number})"
            whole = math.gcd(*features.values())
            possible = [g for g in range(1, whole + 1) if whole % g == 0]
            hint = f"These do: {', '.join(map(str, possible))}."
            checks.fail(function, argument, groups, rule, hint)
