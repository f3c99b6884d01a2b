"""Filter groups and how filters of neighbouring layers depend on each other: section 10's figure.

The figure is Deep Roots': the covariance between the responses of layer conv2c and of layer conv3a
of a Network in Network, whitened. Here with its controls: the same networks before training, and
random permutations of the channels.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import convjax
from convjax.analysis import block_scores, interlayer_covariance
from convjax.models import NetworkInNetwork, counts_of
from experiments import data, groups_report
from experiments.groups_report import GROUPS, SCORED, Measured
from experiments.networks import Classifier, Network, Recorded, crop_and_mirror
from experiments.report import Section
from experiments.settings import Settings
from experiments.training import Keeping, Schedule, beginning, outputs, train

MAPS = ("whitened", "raw", "pearson")
NARROW = (64, 48, 32, 64, 64, 64, 64, 64)
WIDE = (192, 160, 96, 192, 192, 192, 192, 192)
CONV2C, CONV3A = 5, 6  # among the nine layers
DRAWS = 200  # of permutations


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a profile does.

    Attributes:
        seeds: how many networks of every kind.
        features: of the network, but for the classes.
        size: of the pictures.
        train, test: how many of them.
        epochs, batch_size, rate: of training: gradient descent with momentum .9 and weight decay
            5e-4, whose rate is divided by ten after half and three quarters of the steps.
        sampled: how many training pictures give the responses of a map; every pixel is a sample.
        groups: of conv3a.
        augment: crops and mirrors, as in Deep Roots.
    """

    seeds: int
    features: tuple[int, ...]
    size: int
    train: int
    test: int
    epochs: int
    batch_size: int
    rate: float
    sampled: int
    groups: tuple[int, ...] = GROUPS
    augment: bool = False

    @property
    def steps(self) -> int:
        return max(1, self.train // self.batch_size * self.epochs)


PLANS = {
    "smoke": Plan(1, (8, 8, 8, 8, 8, 8, 8, 8), 16, 32, 16, 1, 16, 0.05, 32, (1, 2)),
    "quick": Plan(2, NARROW, 16, 2_000, 1_000, 6, 64, 0.05, 500),
    "standard": Plan(5, NARROW, 16, 6_000, 2_000, 10, 64, 0.05, 1_500),
    "full": Plan(3, WIDE, 32, 50_000, 10_000, 100, 128, 0.1, 5_000, augment=True),
}
EXPECTED = {
    "standard": "25 networks, about 40 minutes on two cores, below 2 GB of memory.",
    "full": "15 networks of 100 epochs of CIFAR-10: 5.7e16 floating-point operations, 1 to 3 hours "
    "on one H100 (from the operations at 5 to 15 TFLOP/s, not measured), below 20 GB of memory.",
}
PARTS = (*(f"{g} groups" for g in GROUPS), "report")


def run(settings: Settings) -> Section:
    """Run the experiment."""
    plan = PLANS[settings.profile]
    measured: list[Measured] = []
    for part in settings.track(PARTS):
        if part != "report":
            groups = int(part.split()[0])
            if groups in plan.groups:
                measured += _measure(settings, plan, groups)
        else:
            section = groups_report.section(settings, measured, _setting(settings, plan))
    return section


def grouping(groups: int) -> dict[str, Any]:
    """Options of the network: conv2a has twice the groups of conv3a (root-2g), or none has any."""
    return {"groups2a": 2 * groups if groups > 1 else 1, "groups3a": groups}


def responses(network: Network, params: Any, model: Any, images: jax.Array) -> Any:
    """What conv2c and conv3a return for pictures, after ReLU, at the same places.

    conv3a sees half the extents, so each of its pixels stands for 2 x 2 of conv2c's. Batch
    normalisation takes the statistics of these pictures, before training and after: a new network
    has no others.
    """
    module = network.merged(params, model, training=True)
    recorded = [Recorded(module.layers[number]) for number in (CONV2C, CONV3A)]
    module.layers[CONV2C], module.layers[CONV3A] = recorded
    module(images)
    first, second = (nnx.relu(layer.response[...]) for layer in recorded)
    return first, convjax.resize(second, first.shape[1] // second.shape[1])


def maps(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """The matrices between the channels of two layers, from responses (N, H, W, C)."""
    a, b = (jnp.asarray(r.reshape(-1, r.shape[-1])) for r in (first, second))
    found = _covariances(a, b)
    return {name: np.asarray(matrix) for name, matrix in zip(MAPS, found, strict=True)}


@jax.jit
def _covariances(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
    raw = interlayer_covariance(a, b, whiten=False)
    deviations = (x.std(0, ddof=1) for x in (a, b))
    left, right = (jnp.where(d > 0, 1 / jnp.where(d > 0, d, 1), 0) for d in deviations)
    return interlayer_covariance(a, b), raw, left[:, None] * raw * right


def permuted(matrix: np.ndarray, groups: int, seed: int) -> np.ndarray:
    """The scores N of `matrix` with its rows and its columns in random orders."""
    return np.asarray(_permuted(jnp.asarray(matrix), groups, seed))


@functools.partial(jax.jit, static_argnums=1)
def _permuted(matrix: jax.Array, groups: int, seed: jax.Array) -> jax.Array:
    def one(key: jax.Array) -> jax.Array:
        rows, columns = (
            jax.random.permutation(k, n)
            for k, n in zip(jax.random.split(key), matrix.shape, strict=True)
        )
        return block_scores(matrix[rows][:, columns], groups).N

    return jax.vmap(one)(jax.random.split(jax.random.key(seed), DRAWS))


def _measure(settings: Settings, plan: Plan, groups: int) -> list[Measured]:
    """Networks with so many groups, one for every seed."""
    found = []
    classifier: Classifier | None = None
    for seed in settings.seeds(plan.seeds):
        dataset = data.standardised(
            data.load(settings.data, size=plan.size, train=plan.train, test=plan.test, seed=seed)
        )
        channels = dataset.train.images.shape[-1]
        if classifier is None:
            network = _network(plan, groups, channels, dataset.classes)
            classifier = Classifier(network, crop_and_mirror if plan.augment else None)
            optimizer = _optimizer(plan)
            recorded = _Recorder(network)
        steps = plan.steps
        trained = train(
            classifier.task,
            dataset.train,
            optimizer,
            Schedule(steps, plan.batch_size, max(1, steps // 10), max(1, steps // 5)),
            seed=seed,
            name=f"filter_groups, {groups} groups, seed {seed}",
            keeping=Keeping(
                settings.runs and settings.runs / "filter_groups" / f"groups{groups}-seed{seed}",
                settings.resume,
                settings.bars,
                dataclasses.asdict(plan),
            ),
        )
        numbers = trained.params, trained.model
        images = dataset.train.images[: plan.sampled]
        counts = counts_of(network.abstract(), (1, *images.shape[1:]))
        after = maps(*outputs(recorded, images, 250, *numbers))
        found.append(
            Measured(
                groups,
                seed,
                before=maps(*outputs(recorded, images, 250, *beginning(classifier.task, seed))),
                after=after,
                null={
                    g: permuted(after["whitened"], g, seed)
                    for g in (SCORED if groups == 1 else (groups,))
                    if all(n % g == 0 for n in after["whitened"].shape)
                },
                accuracy=classifier.accuracy(*numbers, dataset.test),
                train_accuracy=classifier.accuracy(*numbers, dataset.train),
                parameters=counts.parameters("deep_roots"),
                macs=counts.macs("deep_roots"),
            )
        )
    return found


def _network(plan: Plan, groups: int, channels: int, classes: int) -> Network:
    return Network(
        lambda rngs: NetworkInNetwork(
            **grouping(groups),
            features=plan.features,
            in_features=channels,
            classes=classes,
            batch_norm=True,
            dropout=0.0,
            rngs=rngs,
        )
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Recorder:
    """`responses` of one network, as one function that is compiled once."""

    network: Network

    def __call__(self, params: Any, model: Any, images: jax.Array) -> Any:
        return responses(self.network, params, model, images)


def _optimizer(plan: Plan) -> optax.GradientTransformation:
    falling = {plan.steps // 2: 0.1, plan.steps * 3 // 4: 0.1} if plan.steps > 3 else {}
    rate = optax.piecewise_constant_schedule(plan.rate, falling)
    return optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rate, momentum=0.9))


def _setting(settings: Settings, plan: Plan) -> str:
    """The conditions, in words."""
    seeds = ", ".join(map(str, settings.seeds(plan.seeds)))
    return (
        f"Networks in Network with {', '.join(map(str, plan.features))} channels on "
        f"{data.data_name(settings.data)} ({plan.size}×{plan.size}; {plan.train:,} training and "
        f"{plan.test:,} test pictures), {plan.epochs} epochs in batches of {plan.batch_size}; "
        f"seeds {seeds}. Maps are of {plan.sampled:,} training pictures, every pixel a sample."
    )
