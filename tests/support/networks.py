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


def quick(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` compiled, in half the time: it is to run a few times on little."""
    on_cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    return jax.jit(fn, compiler_options=options)


def built(constructor, *arguments, seed=0, **options):
    """A module with weights, compiled in one piece, from the generator that compiles fastest."""

    def build():
        return constructor(*arguments, rngs=nnx.Rngs(jax.random.key(seed, impl="rbg")), **options)

    graph, _ = nnx.split(nnx.eval_shape(build))
    return nnx.merge(graph, quick(lambda: nnx.state(build()))())


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


@dataclasses.dataclass
class Small:
    """A small network, its batch (inputs, targets), and the loss between result and target."""

    name: str
    options: dict[str, Any]
    batch: Callable[[], tuple[Any, Any]]
    loss: Callable[[jax.Array, Any], jax.Array] = cross_entropy
    rate: float = 1e-2

    @functools.cached_property
    def weights(self) -> nnx.State:
        return nnx.state(built(NETWORKS[self.name].constructor, **self.options))

    def build(self, **more: Any) -> Any:
        """The network, always with the same weights."""
        constructor = NETWORKS[self.name].constructor
        options = {**self.options, **more}
        model = nnx.eval_shape(lambda: constructor(**options, rngs=nnx.Rngs(0)))
        weights = jax.tree.map(lambda leaf: leaf, self.weights)  # new variables, to be changed
        return nnx.merge(nnx.graphdef(model), weights)


_CLASSES: dict[str, Any] = {"classes": 2}
_RESIDUAL = {**_CLASSES, "depths": (1, 1), "features": 4}
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
            {**_CLASSES, "width": 1 / 16, "modules": ("3a",), "dropout": 0.0},
            classify(32),
        ),
        Small("resnet50", _RESIDUAL, classify(16)),
        Small("resnext50", {**_RESIDUAL, "cardinality": 4, "width": 2}, classify(16)),
        Small(
            "mobilenet_v1",
            {**_CLASSES, "width": 0.25, "layers": ((1, 64), (2, 64))},
            classify(32),
        ),
        Small(
            "xception", {**_CLASSES, "width": 1 / 32, "entry": (128,), "middle": 1}, classify(19)
        ),
        Small("shufflenet_v1", {**_CLASSES, "width": 0.25, "depths": (2,)}, classify(32)),
        Small("context", {"channels": 3}, sharpen, squares, rate=3e-4),
        Small(
            "atrous_head",
            {**_CLASSES, "in_features": 3, "features": 8, "rates": (1, 2), "scale": 1},
            bright,
        ),
        Small("flattened", {**_CLASSES, "features": (4, 8)}, classify(16)),
        Small(
            "unet3d",
            {**_CLASSES, "in_features": 1, "features": 2, "levels": 1},
            volumes,
        ),
        Small("autoencoder", {"features": (8, 16)}, rebuild, squares),
    )
}


Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def update(small: Small, wrap: Wrap = lambda f: f) -> Callable[..., jax.Array]:
    """A training step: it changes model and optimiser, and returns the loss before."""

    def run(model: Any, optimizer: nnx.Optimizer, x: Any, target: Any) -> jax.Array:
        def loss(model: Any) -> jax.Array:
            return small.loss(wrap(lambda m, x: m(x))(model, x), target)

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    return run


def losses(
    small: Small,
    model: Any,
    step: Callable[..., jax.Array],
    steps: int = 3,
    method: Any = optax.adam,
) -> list[float]:
    """The loss before each step, and after the last."""
    optimizer = nnx.Optimizer(model, method(small.rate), wrt=nnx.Param)
    model.train()
    batch = small.batch()
    return [float(step(model, optimizer, *batch)) for _ in range(steps + 1)]


def quick_step(small: Small) -> Callable[..., jax.Array]:
    """`update`, compiled by `quick`."""
    step = update(small)
    compiled: dict[Any, Any] = {}

    def run(model: Any, optimizer: nnx.Optimizer, x: Any, target: Any) -> jax.Array:
        graph, state = nnx.split((model, optimizer))

        def pure(state: nnx.State, x: Any, target: Any) -> tuple[jax.Array, nnx.State]:
            both = nnx.merge(graph, state)
            return step(*both, x, target), nnx.state(both)

        if "pure" not in compiled:
            compiled["pure"] = quick(pure)
        value, state = compiled["pure"](state, x, target)
        nnx.update((model, optimizer), state)
        return value

    return run
