"""Filter groups and how filters of neighbouring layers depend on each other: section 10's figure.

The figure is Deep Roots': the covariance between the responses of layer conv2c and of layer conv3a
of a Network in Network, whitened. Here with its controls: the same networks before training, and
random permutations of the channels; and the maps of other pairs of layers, and without ReLU.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import convjax
from convjax.analysis import block_scores, interlayer_covariance
from convjax.models import NetworkInNetwork
from experiments.findings.filter_groups import claims
from experiments.findings.filter_groups.scores import (
    GROUPS,
    MAPS,
    OTHERS,
    SCORED,
    Measured,
    blocks_of,
)
from experiments.page.report import Section
from experiments.run import experiment
from experiments.run.arms import Budget, trained
from experiments.run.networks import Network, Recorded, crop_and_mirror
from experiments.run.settings import Settings
from experiments.run.training import outputs

NARROW = (64, 48, 32, 64, 64, 64, 64, 64)
WIDE = (192, 160, 96, 192, 192, 192, 192, 192)
LAYERS = {"1c": 2, "2a": 3, "2b": 4, "2c": 5, "3a": 6, "3b": 7}  # among the nine, from 0
DRAWS = 200  # of permutations


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Budget):
    """What a profile does.

    Attributes:
        features: of the network, but for the classes.
        sampled: how many training pictures give the responses of a map; every pixel is a sample.
        groups: of conv3a.
        augment: crops and mirrors, as in Deep Roots.
    """

    features: tuple[int, ...]
    sampled: int
    groups: tuple[int, ...] = GROUPS
    augment: bool = False


PLANS = {
    "smoke": Plan(1, 16, 32, 16, 1, 16, 0.05, features=(8,) * 8, sampled=32, groups=(1, 2)),
    "quick": Plan(2, 16, 2_000, 1_000, 4, 64, 0.05, features=NARROW, sampled=500),
    "standard": Plan(5, 16, 6_000, 2_000, 10, 64, 0.05, features=NARROW, sampled=1_500),
    "full": Plan(3, 32, 50_000, 10_000, 100, 128, 0.1, features=WIDE, sampled=5_000, augment=True),
}
EXPECTED = {
    "standard": "25 networks, about 40 minutes on two cores, below 2 GB of memory.",
    "full": "15 networks of 100 epochs of CIFAR-10: 5.7e16 floating-point operations, 1 to 3 hours "
    "on one H100 (from the operations at 5 to 15 TFLOP/s, not measured), below 20 GB of memory.",
}
PARTS = tuple(f"{g} groups" for g in GROUPS)


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _report(settings: Settings, plan: Plan, found: dict[str, list[Measured]]) -> Section:
    measured = [one for each in found.values() for one in each]
    return claims.section(settings, measured, _setting(settings, plan))


def grouping(groups: int) -> dict[str, Any]:
    """Options of the network: conv2a has twice the groups of conv3a (root-2g), or none has any."""
    return {"groups2a": 2 * groups if groups > 1 else 1, "groups3a": groups}


def responses(network: Network, params: Any, model: Any, images: jax.Array) -> dict[str, Any]:
    """What the layers of `LAYERS` return for pictures: convolved and normalised, before ReLU.

    Batch normalisation takes the statistics of these pictures, before training and after: a new
    network has no others.
    """
    module = network.merged(params, model, training=True)
    recorded = {name: Recorded(module.layers[number]) for name, number in LAYERS.items()}
    for name, number in LAYERS.items():
        module.layers[number] = recorded[name]
    module(images)
    return {name: layer.response[...] for name, layer in recorded.items()}


def maps(first: np.ndarray, second: np.ndarray, *, relu: bool = True) -> dict[str, np.ndarray]:
    """The matrices between the channels of two layers.

    Args:
        first, second: responses (N, H, W, C) before ReLU. The second may be of smaller extents:
            each of its pixels then stands for several of the first.
        relu: whether they are taken after ReLU. Deep Roots does not say; its mean responses are
            all positive, as they are after ReLU.
    """
    if relu:
        first, second = np.maximum(first, 0), np.maximum(second, 0)
    return {name: np.asarray(m) for name, m in zip(MAPS, _covariances(first, second), strict=True)}


def every_map(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The maps of one network: conv2c to conv3a in three ways (`MAPS`), and `OTHERS`, whitened."""
    others = {
        name: maps(found[first], found[second], relu=relu)["whitened"]
        for name, (first, second, relu) in OTHERS.items()
    }
    return maps(found["2c"], found["3a"]) | others


@jax.jit
def _covariances(first: jax.Array, second: jax.Array) -> tuple[jax.Array, ...]:
    second = convjax.resize(second, first.shape[1] // second.shape[1])
    a, b = (r.reshape(-1, r.shape[-1]) for r in (first, second))  # every pixel is a sample
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


def _measure(settings: Settings, plan: Plan, part: str) -> list[Measured] | None:
    """Networks with so many groups, one for every seed."""
    groups = int(part.split()[0])
    if groups not in plan.groups:
        return None
    found = []
    recorded: _Recorder | None = None
    build = functools.partial(network_in_network, plan.features, groups)
    augment = crop_and_mirror if plan.augment else None
    for run in trained(settings, "filter_groups", f"groups{groups}", build, plan, augment=augment):
        recorded = recorded or _Recorder(run.network)
        images = run.dataset.train.images[: plan.sampled]
        counts = run.counts()
        after = every_map(outputs(recorded, images, 250, run.params, run.model))
        found.append(
            Measured(
                groups,
                run.seed,
                before=every_map(outputs(recorded, images, 250, *run.beginning())),
                after=after,
                null={
                    g: permuted(after["whitened"], g, run.seed)
                    for g in (SCORED if groups == 1 else (groups,))
                    if all(n % g == 0 for n in after["whitened"].shape)
                },
                null_others={
                    name: permuted(after[name], blocks_of(name, groups), run.seed)
                    for name in (OTHERS if groups > 1 else ())
                },
                accuracy=run.accuracy(),
                train_accuracy=run.train_accuracy(),
                parameters=counts.parameters("deep_roots"),
                macs=counts.macs("deep_roots"),
            )
        )
    return found


def network_in_network(
    features: tuple[int, ...], groups: int, rngs: nnx.Rngs, channels: int, classes: int
) -> NetworkInNetwork:
    """The network of these widths with so many groups in conv3a."""
    return NetworkInNetwork(
        **grouping(groups),
        features=features,
        in_features=channels,
        classes=classes,
        batch_norm=True,
        dropout=0.0,
        rngs=rngs,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Recorder:
    """`responses` of one network, as one function that is compiled once."""

    network: Network

    def __call__(self, params: Any, model: Any, images: jax.Array) -> Any:
        return responses(self.network, params, model, images)


def _setting(settings: Settings, plan: Plan) -> str:
    """The conditions, in words."""
    return (
        f"Networks in Network with {', '.join(map(str, plan.features))} channels on "
        f"{plan.words(settings)} Maps are of {plan.sampled:,} training pictures, every pixel a "
        "sample."
    )
