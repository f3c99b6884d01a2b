"""The small networks of the comparisons: convolutions one after the other, then a dense layer."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from convjax import initializers

HE = initializers.he_normal()


class Normalised(nnx.Module):
    """A convolution without biases, batch normalisation, and then, if wanted, ReLU and a max-pool.

    Args:
        conv: a module of `convjax.nn`.
        features: its output channels.
        relu: whether ReLU follows.
        pool: extent and stride of a max-pool; 1 is none.
        rngs: random streams.
    """

    def __init__(
        self,
        conv: Callable[[jax.Array], jax.Array],
        features: int,
        *,
        relu: bool = True,
        pool: int = 1,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = conv
        self.norm = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)
        self.relu, self.pool = relu, pool

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm(self.conv(x))
        y = nnx.relu(y) if self.relu else y
        window = (self.pool, self.pool)
        return nnx.max_pool(y, window, strides=window) if self.pool > 1 else y


class Stack(nnx.Module):
    """Stages, the mean over the picture, and a dense layer.

    Args:
        stages: modules.
        features: channels after the last one.
        classes: outputs.
        rngs: random streams.
    """

    def __init__(
        self, stages: Sequence[nnx.Module], features: int, classes: int, *, rngs: nnx.Rngs
    ) -> None:
        self.stages = nnx.List(stages)
        self.classifier = nnx.Linear(features, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for stage in self.stages:
            x = stage(x)
        return self.classifier(x.mean(axis=(1, 2)))


def kernels(params: Any) -> list[jax.Array]:
    """The spatial kernels (K, K, I, O) of a network's parameters, layer by layer."""
    return [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 4]


def replaced(params: Any, change: Callable[[int, jax.Array], Any]) -> Any:
    """The parameters with ``change(layer, kernel)`` in the place of every spatial kernel."""
    leaves, tree = jax.tree.flatten(params)
    layers = iter(range(len(leaves)))
    return jax.tree.unflatten(
        tree, [change(next(layers), leaf) if leaf.ndim == 4 else leaf for leaf in leaves]
    )
