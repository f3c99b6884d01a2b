"""Flax NNX networks as the pure functions that the training loop takes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.run.data import Split
from experiments.run.training import Task, outputs

Tree = Any


class Recorded(nnx.Module):
    """A layer that keeps what it returned: `response`."""

    def __init__(self, layer: Callable[[jax.Array], jax.Array]) -> None:
        self.layer = layer

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.layer(x)
        self.response = nnx.Intermediate(y)
        return y


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network apart from its numbers: ``params`` are learned, ``model`` are running statistics.

    Attributes:
        build: makes the module from random streams.
    """

    build: Callable[[nnx.Rngs], nnx.Module]

    def __post_init__(self) -> None:
        module = self.abstract()
        definitions = []
        for mode in (module.train, module.eval):
            mode()
            definitions.append(_split(module)[0])
        object.__setattr__(self, "_definitions", definitions)
        # Dropout's random streams, if there are any; `train` reseeds them at every step.
        rest = jax.jit(lambda: _split(self.build(nnx.Rngs(0)))[3])()
        object.__setattr__(self, "_rest", rest)

    def abstract(self) -> Any:
        """The module with shapes in the place of numbers, for what only counts."""
        return nnx.eval_shape(lambda: self.build(nnx.Rngs(0)))

    def initial(self, key: jax.Array) -> tuple[Tree, Tree]:
        """Parameters and running statistics of a new network."""
        return _split(self.build(nnx.Rngs(key)))[1:3]

    def merged(self, params: Tree, model: Tree, training: bool = False) -> Any:
        """The module with these numbers; with `training`, normalised by each batch's statistics."""
        definition = self._definitions[0 if training else 1]  # type: ignore[attr-defined]
        rest = self._rest  # type: ignore[attr-defined]
        return nnx.merge(definition, params, model, rest, copy=True)

    def train(
        self, params: Tree, model: Tree, images: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """The output in training, and the running statistics after it."""
        module = self.merged(params, model, training=True)
        nnx.reseed(module, default=key)
        y = module(images)
        return y, nnx.state(module, nnx.BatchStat)

    def apply(self, params: Tree, model: Tree, images: jax.Array) -> jax.Array:
        """The output once trained."""
        return self.merged(params, model)(images)


def _split(module: nnx.Module) -> Any:
    """Definition, parameters, running statistics, and the rest."""
    return nnx.split(module, nnx.Param, nnx.BatchStat, ...)


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A network whose outputs are the scores of classes, and how it is trained and tested."""

    network: Network
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None

    @property
    def task(self) -> Task:
        return Task(self.network.initial, self.loss)

    def loss(self, params: Tree, model: Tree, batch: Any, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Cross-entropy."""
        images = self.augment(batch.images, key) if self.augment else batch.images
        scores, model = self.network.train(params, model, images, key)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, batch.labels)
        return losses.mean(), model

    def accuracy(self, params: Tree, model: Tree, split: Split, batch_size: int = 250) -> float:
        """The share of pictures whose class has the highest score."""
        scores = outputs(self.network.apply, split.images, batch_size, params, model)
        return float((np.argmax(scores, -1) == split.labels).mean())


def crop_and_mirror(images: jax.Array, key: jax.Array, margin: int = 4) -> jax.Array:
    """Each picture padded by zeros, cropped back at a random place, and mirrored at random."""
    places, sides = jax.random.split(key)
    n, *shape = images.shape
    padded = jnp.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    corners = jax.random.randint(places, (n, 2), 0, 2 * margin + 1)
    mirrored = jax.random.bernoulli(sides, 0.5, (n,))

    def one(image: jax.Array, corner: jax.Array, mirror: jax.Array) -> jax.Array:
        cropped = jax.lax.dynamic_slice(image, (*corner, 0), shape)
        return jnp.where(mirror, cropped[:, ::-1], cropped)

    return jax.vmap(one)(padded, corners, mirrored)
