"""Are learned filters separable? Their rank, what is lost without it, and when that matters (8.1).

Networks are trained, and every spatial filter is taken apart by the singular value decomposition.
The claims and figures are in `claims`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import convjax
from convjax import nn
from convjax.analysis import rank_energy
from convjax.equivalents import separate_kernel
from experiments.findings.kernel_rank import claims
from experiments.findings.kernel_rank.claims import Fitted, Measured
from experiments.page.report import Section
from experiments.run import experiment
from experiments.run.arms import Budget, Trained, pictures, shown, trained
from experiments.run.settings import Settings
from experiments.run.stacks import HE, Normalised, Stack, kernels, replaced

ARMS = {"3x3": (3, False), "5x5": (5, False), "separable": (5, True)}  # extent, trained as rank 1
FIT_STEPS, FIT_RATE, STARTS = 600, 0.05, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Budget):
    """What a profile does.

    Attributes:
        features: channels after every layer.
        drawn: how many Gaussian filters of either size give their mean ranks.
        arms: what is trained.
        grey: whether the pictures have no colour, so that networks must look at shapes.
    """

    features: tuple[int, ...]
    drawn: int
    arms: tuple[str, ...] = tuple(ARMS)
    grey: bool = True


PLANS = {
    "smoke": Plan(1, 16, 32, 16, 1, 16, 0.05, features=(4,), drawn=20_000, arms=("3x3",)),
    "quick": Plan(2, 16, 1_000, 500, 3, 64, 0.05, features=(12, 24, 24), drawn=50_000),
    "standard": Plan(5, 16, 3_000, 1_000, 6, 64, 0.05, features=(12, 24, 24), drawn=100_000),
    "full": Plan(
        5, 32, 50_000, 10_000, 60, 128, 0.1, features=(64, 128, 128), drawn=100_000, grey=False
    ),
}
EXPECTED = {
    "standard": "15 networks: about 4 minutes on one core, below 2 GB of memory.",
    "full": "15 networks of 60 epochs of CIFAR-10, at most 84 million multiply-accumulates a "
    "picture: 1.8e16 floating-point operations, 20 to 60 minutes on one H100 (from the operations "
    "at 5 to 15 TFLOP/s, not measured), below 10 GB of memory.",
}
PARTS = (*ARMS, "random filters", "fits")


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _measure(settings: Settings, plan: Plan, part: str) -> Any:
    if part == "random filters":
        return {k: gaussian(k, plan.drawn, settings.seed) for k in (3, 5)}
    if part == "fits":
        return fitted(TARGETS, settings.seed)
    if part not in plan.arms:
        return None
    build = functools.partial(network, plan.features, *ARMS[part])
    load = functools.partial(pictures, grey=plan.grey)
    return [measure(run) for run in trained(settings, "kernel_rank", part, build, plan, load=load)]


def _report(settings: Settings, plan: Plan, found: dict[str, Any]) -> Section:
    random, fits = found.pop("random filters"), found.pop("fits")
    setting = shown(plan.grey) + plan.words(settings)
    return claims.section(settings, found, random, fits, setting)



# ---- networks --------------------------------------------------------------------------------


class RankOneConv(nnx.Module):
    """A convolution whose every spatial filter is a column times a row, and is trained as such.

    Args:
        in_features, out_features: channels.
        extent: of the filters.
        rngs: random streams.
    """

    def __init__(self, in_features: int, out_features: int, extent: int, *, rngs: nnx.Rngs) -> None:
        # Products of two independent weights have the variance of He's initialisation.
        scale = (2 / (extent**2 * in_features)) ** 0.25
        shape = (in_features, out_features)
        self.column = nnx.Param(scale * jax.random.normal(rngs.params(), (extent, 1, *shape)))
        self.row = nnx.Param(scale * jax.random.normal(rngs.params(), (1, extent, *shape)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return convjax.conv(x, self.column[...] * self.row[...])


def network(
    features: Sequence[int],
    extent: int,
    rank_one: bool,
    rngs: nnx.Rngs,
    channels: int,
    classes: int,
) -> Stack:
    """Layers of filters of this extent, a max-pool after all of them but the last."""
    stages = []
    for number, (i, o) in enumerate(zip((channels, *features), features, strict=False), 1):
        conv: nnx.Module = (
            RankOneConv(i, o, extent, rngs=rngs)
            if rank_one
            else nn.Conv(i, o, (extent, extent), use_bias=False, kernel_init=HE, rngs=rngs)
        )
        stages.append(Normalised(conv, o, pool=2 if number < len(features) else 1, rngs=rngs))
    return Stack(stages, features[-1], classes, rngs=rngs)


# ---- what is measured on them ----------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=1)
def truncated(kernel: jax.Array, rank: int) -> jax.Array:
    """Every spatial filter's best approximation of this rank: the first terms of its SVD."""
    rest = kernel
    for _ in range(rank):
        column, row = separate_kernel(rest).factors
        rest = rest - column * row
    return kernel - rest


def shuffled(kernel: Any, seed: int) -> np.ndarray:
    """The same weights, those of every spatial filter in a random order."""
    kernel = np.asarray(kernel)
    taps = kernel.reshape(-1, *kernel.shape[2:])
    return np.random.default_rng(seed).permuted(taps, axis=0).reshape(kernel.shape)


def disturbed(kernel: Any, seed: int) -> np.ndarray:
    """Every spatial filter plus noise as large as what truncation to rank 1 takes from it."""
    kernel = np.asarray(kernel)
    taken = np.linalg.norm(kernel - np.asarray(truncated(kernel, 1)), axis=(0, 1))
    noise = np.random.default_rng(seed).normal(size=kernel.shape)
    return (kernel + taken * noise / np.linalg.norm(noise, axis=(0, 1))).astype(kernel.dtype)


def energies(params: Any, change: Callable[[Any], Any] = lambda kernel: kernel) -> np.ndarray:
    """The energy that ranks 1, 2, ... keep, (layers, ranks): means over a layer's filters."""
    found = [_energy(jnp.asarray(change(kernel))) for kernel in kernels(params)]
    return np.stack([np.asarray(e).mean((1, 2)) for e in found])


_energy = jax.jit(rank_energy)


def measure(run: Trained) -> Measured:
    """One network: its filters before and after, and its accuracy with changed ones."""

    def accuracy(change: Callable[[int, jax.Array], Any]) -> float:
        params = replaced(run.params, change)
        return run.classifier.accuracy(params, run.model, run.dataset.test)

    before, _ = run.beginning()
    layers, extent = len(kernels(run.params)), kernels(run.params)[0].shape[0]
    if kernels(run.params)[0].shape[1] == 1:  # columns and rows: rank 1 as they are
        return Measured(run.seed, run.accuracy(), {}, {}, np.empty((0, 0)), float("nan"))

    def only(layer: int, rank: int) -> float:
        return accuracy(lambda l, k: truncated(k, rank) if l == layer else k)  # noqa: E741

    return Measured(
        run.seed,
        run.accuracy(),
        {
            "trained": energies(run.params),
            "untrained": energies(before),
            "shuffled": energies(run.params, lambda kernel: shuffled(kernel, run.seed)),
        },
        {rank: accuracy(lambda _, k: truncated(k, rank)) for rank in range(1, extent)},  # noqa: B023
        np.array([[only(layer, rank) for rank in (1, 2)] for layer in range(layers)]),
        accuracy(lambda layer, k: disturbed(k, 100 * run.seed + layer)),
    )


def gaussian(extent: int, count: int, seed: int) -> np.ndarray:
    """The mean energy that ranks 1, 2, ... keep of filters of independent Gaussian weights."""
    drawn = np.random.default_rng(seed).normal(size=(extent, extent, 1, count))
    return np.asarray(_energy(jnp.asarray(drawn, jnp.float32))).mean((1, 2))


# ---- when separable filters suffice ----------------------------------------------------------


def _log(extent: int = 5, sigma: float = 1.0) -> np.ndarray:
    """The Laplacian of a Gaussian, of sum 0."""
    at = np.arange(extent) - extent // 2
    square = (at[:, None] ** 2 + at**2) / sigma**2
    found = (square - 2) * np.exp(-square / 2)
    return found - found.mean()


_BLUR = np.exp(-((np.arange(5) - 2) ** 2) / 2)
TARGETS: Mapping[str, np.ndarray] = {
    "Sobel": np.outer([1, 2, 1], [-1, 0, 1]),
    "Gaussian": np.outer(_BLUR, _BLUR),
    "diagonal edge": np.array([[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]),
    "Laplacian of Gaussian": _log(),
    "diagonal line": np.eye(3),
}


class _Fit(NamedTuple):
    column: jax.Array
    row: jax.Array


def fitted(targets: Mapping[str, np.ndarray], seed: int) -> dict[str, Fitted]:
    """Separable filters, trained by examples to do what the targets do.

    The examples are noise with all frequencies in equal strength, so that the error is the squared
    distance of the filters: by theory what the first term of the SVD leaves of the target.
    """
    whole = np.stack([np.pad(t, (5 - len(t)) // 2) / np.linalg.norm(t) for t in targets.values()])
    kernel = jnp.asarray(whole, jnp.float32)[..., None, None]
    errors, fits = _fit(kernel, _flat_noise(seed), jax.random.key(seed))
    left = [1 - separate_kernel(k).energy[0, 0] for k in kernel]
    return {
        name: Fitted(target, np.asarray(column * row)[..., 0, 0], float(error), float(rest))
        for name, target, column, row, error, rest in zip(
            targets, whole, fits.column, fits.row, errors, left, strict=True
        )
    }


def _flat_noise(seed: int, size: int = 16) -> jax.Array:
    """A picture whose spectrum is 1 in absolute value everywhere."""
    spectrum = np.fft.fft2(np.random.default_rng(seed).normal(size=(size, size)))
    picture = size * np.fft.ifft2(spectrum / np.abs(spectrum)).real
    return jnp.asarray(picture, jnp.float32)[None, :, :, None]


@jax.jit
def _fit(kernels: jax.Array, picture: jax.Array, key: jax.Array) -> tuple[jax.Array, _Fit]:
    """The best of a few starts for each of the kernels."""
    optimizer = optax.adam(optax.cosine_decay_schedule(FIT_RATE, FIT_STEPS))

    def one(kernel: jax.Array) -> tuple[jax.Array, _Fit]:
        truth = convjax.conv(picture, kernel, padding_mode="wrap")

        def loss(fit: _Fit) -> jax.Array:
            stages = [fit.column, fit.row]
            made = convjax.spatially_separable_conv(picture, stages, padding_mode="wrap")
            return ((made - truth) ** 2).sum() / (truth**2).sum()

        def start(key: jax.Array) -> tuple[jax.Array, _Fit]:
            first, second = jax.random.split(key)
            column = jax.random.normal(first, (5, 1, 1, 1)) / 2
            fit = _Fit(column, jax.random.normal(second, (1, 5, 1, 1)) / 2)

            def step(_: Any, carry: Any) -> Any:
                fit, state = carry
                updates, state = optimizer.update(jax.grad(loss)(fit), state)
                return optax.apply_updates(fit, updates), state

            fit, _ = jax.lax.fori_loop(0, FIT_STEPS, step, (fit, optimizer.init(fit)))
            return loss(fit), fit

        errors, fits = jax.vmap(start)(jax.random.split(key, STARTS))
        best = jnp.argmin(errors)
        return errors[best], jax.tree.map(lambda each: each[best], fits)

    return jax.lax.map(one, kernels)
