"""Small versions of every network, real batches for them, and one training step."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from convjax.models import NETWORKS


def built(constructor, *arguments, seed=0, **options):
    """A module with weights, compiled in one piece, from the generator that compiles fastest."""

    def build():
        return constructor(*arguments, rngs=nnx.Rngs(jax.random.key(seed, impl="rbg")), **options)

    return nnx.jit(build)()


# ---- data that ships inside scikit-image and scikit-learn --------------------------------------


@functools.cache
def patches(size: int, each: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Patches (N, size, size, 3) of two photographs, unit variance, and which one each is from."""
    from skimage import data

    images, labels = [], []
    for label, name in enumerate(("astronaut", "coffee")):
        photo = getattr(data, name)().astype(np.float32) / 255
        corners = np.linspace(0, min(photo.shape[:2]) - 2 * size, each).astype(int)
        # every second pixel: more of the picture in as many pixels
        images += [photo[c : c + 2 * size : 2, c : c + 2 * size : 2] for c in corners]
        labels += [label] * each
    batch = np.stack(images)
    return (batch - batch.mean()) / batch.std(), np.asarray(labels)


@functools.cache
def volumes(count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits, eight 8 x 8 pictures on top of each other, and where the ink is."""
    from sklearn.datasets import load_digits

    images = load_digits().images[: 8 * count].reshape(count, 8, 8, 8, 1).astype(np.float32) / 16
    return images, (images[..., 0] > 0.5).astype(int)


def blurred(x: np.ndarray) -> Any:
    return nnx.avg_pool(jnp.asarray(x), (3, 3), padding="SAME", count_include_pad=False)


def cross_entropy(scores: jax.Array, labels: Any) -> jax.Array:
    scores = scores.astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


def squares(result: jax.Array, target: Any) -> jax.Array:
    return jnp.square(result.astype(jnp.float32) - target).mean()


def classify(size: int) -> Callable[[], tuple[Any, Any]]:
    return lambda: patches(size)


def bright() -> tuple[Any, Any]:
    x, _ = patches(16)
    return x, (x.mean(-1) > 0).astype(int)


def sharpen() -> tuple[Any, Any]:
    x = np.maximum(patches(16)[0], 0)
    return blurred(x), x


def rebuild() -> tuple[Any, Any]:
    x, _ = patches(16)
    return x, x


@dataclasses.dataclass(frozen=True)
class Small:
    """A small network, its batch (inputs, targets), and the loss between result and target."""

    name: str
    options: dict[str, Any]
    batch: Callable[[], tuple[Any, Any]]
    loss: Callable[[jax.Array, Any], jax.Array] = cross_entropy

    def build(self, **more: Any) -> Any:
        return built(NETWORKS[self.name].constructor, **self.options, **more)


_CLASSES: dict[str, Any] = {"classes": 2}
_RESIDUAL = {**_CLASSES, "depths": (1, 1, 1, 1), "features": 4}
SMALL = {
    small.name: small
    for small in (
        Small(
            "nin",
            {
                **_CLASSES,
                "groups2a": 4,
                "groups3a": 2,
                "features": (8,) * 8,
                "dropout": 0.0,
            },
            classify(16),
        ),
        Small(
            "alexnet",
            {**_CLASSES, "features": (8,) * 5, "hidden": 16, "resolution": 67, "dropout": 0.0},
            classify(67),
        ),
        Small(
            "googlenet",
            {**_CLASSES, "width": 1 / 16, "modules": ("3a", "4a", "5a"), "dropout": 0.0},
            classify(32),
        ),
        Small("resnet50", _RESIDUAL, classify(32)),
        Small("resnext50", {**_RESIDUAL, "cardinality": 4, "width": 2}, classify(32)),
        Small(
            "mobilenet_v1",
            {**_CLASSES, "width": 0.25, "layers": ((1, 64), (2, 128), (1, 128))},
            classify(32),
        ),
        Small("xception", {**_CLASSES, "width": 1 / 32, "middle": 1}, classify(43)),
        Small("shufflenet_v1", {**_CLASSES, "width": 0.25, "depths": (2, 1, 1)}, classify(32)),
        Small("context", {"channels": 3}, sharpen, squares),
        Small(
            "atrous_head",
            {**_CLASSES, "in_features": 3, "features": 8, "rates": (1, 2), "scale": 1},
            bright,
        ),
        Small("flattened", {**_CLASSES, "features": (4, 8, 8)}, classify(16)),
        Small(
            "unet3d",
            {**_CLASSES, "in_features": 1, "features": 2, "levels": 1},
            volumes,
        ),
        Small("autoencoder", {"features": (8, 16)}, rebuild, squares),
    )
}


def step(
    loss: Callable[[jax.Array, Any], jax.Array], wrap: Callable[..., Any] = lambda f: f
) -> Any:
    """A training step, compiled: it changes model and optimiser, and returns the loss before."""

    @nnx.jit
    def run(model: Any, optimizer: nnx.Optimizer, x: Any, target: Any) -> jax.Array:
        def of(model: Any) -> jax.Array:
            return loss(wrap(lambda m, x: m(x))(model, x), target)

        value, gradient = nnx.value_and_grad(of)(model)
        optimizer.update(model, gradient)
        return value

    return run
