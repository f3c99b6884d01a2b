"""What the recipes are made of: the photographs, kernels, and one kind applied."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convjax.kinds import KINDS, Example, Sizes
from experiments.page.report import Picture
from experiments.run.measure import call

GREY = (0.299, 0.587, 0.114)
SEPIA = ((0.39, 0.35, 0.27), (0.77, 0.69, 0.53), (0.19, 0.17, 0.13))  # rows: from R, G, B
EDGE: dict[str, Any] = {"padding_mode": "edge"}  # a picture goes on beyond its edges as at them
SOBEL = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4


class Photos(NamedTuple):
    """Two photographs of the same size, (1, S, S, 3) in 0..1, and a detail of the first."""

    one: jax.Array
    two: jax.Array

    @property
    def both(self) -> jax.Array:
        """Six channels: the colours of the first photograph, then those of the second."""
        return jnp.concatenate([self.one, self.two], -1)

    @property
    def detail(self) -> jax.Array:
        """The face: few enough pixels to be seen one by one."""
        size = self.one.shape[1]
        top, left, side = size * 33 // 128, size * 53 // 128, max(size * 10 // 64, 16)
        return self.one[:, top : top + side, left : left + side]


@dataclasses.dataclass(frozen=True)
class Shown:
    """One kind applied to a photograph: the operands, the pictures and what to notice."""

    example: Example
    pictures: Sequence[Picture]
    caption: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def applied(name: str, x: Any, kernels: Sequence[Any], **sizes: Any) -> Example:
    """The kind `name` with these operands; call the result to run it."""
    kernels = tuple(jnp.asarray(kernel, jnp.float32) for kernel in kernels)
    window = kernels[0].shape[:2] if kernels else (1, 1)
    return Example(
        KINDS[name], x, kernels, Sizes(x.shape[1:3], window, in_features=x.shape[-1], **sizes)
    )


def result(example: Example, **options: Any) -> Any:
    """The kind applied to its operands: the one picture (H, W, C) of the batch."""
    return call(example.kind.function, *example.arguments, **options)[0]


def gauss(size: int) -> np.ndarray:
    """A bell of `size` taps and sum 1."""
    bell = np.exp(-0.5 * (np.arange(size) - (size - 1) / 2) ** 2 / (size / 5) ** 2)
    return bell / bell.sum()


def positive(size: int) -> np.ndarray:
    """A random kernel (size, size) of positive weights and sum 1."""
    weights = np.abs(np.random.default_rng(3).normal(size=(size, size))) + 0.05
    return weights / weights.sum()


def each(spatial: Any, channels: int = 3) -> np.ndarray:
    """The dense kernel (K1, K2, C, C) that applies one spatial kernel to every channel."""
    return np.asarray(spatial)[:, :, None, None] * np.eye(channels)
