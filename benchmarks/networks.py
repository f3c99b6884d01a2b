"""Time a network's training step against the same network with Flax's convolutions; see `--help`.

    python -m benchmarks networks [NAME key=value ...] [--batch N]

Both take `--steps` steps of SGD from the same parameters on the same images, and their losses must
agree, or nothing is timed: from the initial parameters in 64 bits, and in 32 bits from those that
`--warmup` steps (momentum 0.9, rate 0.02) lead to. At initialisation 32 bits would compare chaos:
gradients of a network that is normalised by batches grow from layer to layer there (Yang et al., A
mean field theory of batch normalization, 2019, https://arxiv.org/abs/1902.08129), and a single unit
that rounding sends to the other side of ReLU moves them by up to a hundredth. How far both are from
the 64-bit losses then is printed. The steps are timed in 32 bits, interleaved; results go to
`benchmarks/results/networks/NAME-DEVICE-jax-VERSION.json`.
Exit status: 0, or 1 where the losses differ, or 2 where the network cannot be compared.
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import skimage.data
from flax import nnx

from benchmarks.harness import command, timing
from convjax import models, nn
from convjax.nn.layer import Layer

TOLERANCES = {"64 bits": 1e-9, "32 bits, warmed up": 1e-4}  # of the losses, relative
BATCHES = 10
WARM_LR = 0.02
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "retina", "rocket")
DEFAULT = ("mobilenet_v1", "width=0.25", "resolution=96")
SAME = {"strides", "padding", "kernel_dilation", "use_bias"}
GROUPS: dict[Any, Callable[[Any], int]] = {
    nn.Conv: lambda layer: layer.feature_group_count,
    nn.PointwiseConv: lambda layer: 1,
    nn.DilatedConv: lambda layer: 1,
    nn.GroupedConv: lambda layer: layer.groups,
    nn.PointwiseGroupedConv: lambda layer: layer.groups,
    nn.DepthwiseConv: lambda layer: layer.in_features,
}


Batch = tuple[jax.Array, jax.Array]
Trainers = dict[str, "Trainer"]


class Incomparable(Exception):
    """A module for which Flax has no counterpart."""


def flaxs(layer: Any) -> nnx.Conv:
    """Flax's module with the kernel and bias of one of ours."""
    if type(layer) not in GROUPS:
        raise Incomparable(f"Flax has no {type(layer).__name__}")
    twin = nnx.Conv(
        layer.in_features,
        layer.out_features,
        layer.kernel.shape[:-2],
        feature_group_count=GROUPS[type(layer)](layer),
        param_dtype=layer.kernel.dtype,
        rngs=nnx.Rngs(0),
        **{name: getattr(layer, name) for name in SAME if hasattr(layer, name)},
    )
    twin.kernel[...] = layer.kernel[...]
    if layer.bias is not None and twin.bias is not None:
        twin.bias[...] = layer.bias[...]
    return twin


def with_flax(model: nnx.Module) -> nnx.Module:
    """A copy of the network with Flax's module in the place of every convolution of ours."""
    model = nnx.clone(model)
    for _, module in list(nnx.iter_modules(model)):
        for name, value in list(vars(module).items()):
            if isinstance(value, Layer):
                setattr(module, name, flaxs(value))
    return model


def doubled(model: nnx.Module, twin: nnx.Module) -> nnx.Module:
    """`twin`, the network built in 64 bits, with the numbers of `model`; inside `enable_x64`."""

    def double(a: jax.Array) -> jax.Array:
        return a.astype(jnp.float64) if a.dtype == jnp.float32 else a

    nnx.update(twin, jax.tree.map(double, nnx.state(model, nnx.Not(nnx.RngState))))
    return twin


class Trainer:
    """Calls take a training step each and return its loss.

    They go through the batches in turn. The form is Flax's functional one: `nnx.jit` would add the
    same milliseconds of Python to either side.
    """

    def __init__(
        self, model: nnx.Module, batches: Sequence[Batch], method: optax.GradientTransformation
    ) -> None:
        definition, state = nnx.split((model, nnx.Optimizer(model, method, wrt=nnx.Param)))
        self.batches, self.definition, self.done = batches, definition, 0
        self.state = jax.tree.map(jnp.copy, state)  # a step gives its buffers away

        @functools.partial(jax.jit, donate_argnums=0)
        def step(state: Any, x: jax.Array, labels: jax.Array) -> Any:
            model, optimizer = nnx.merge(definition, state)

            def loss(model: Any) -> jax.Array:
                scores = model(x)
                return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

            value, gradients = nnx.value_and_grad(loss)(model)
            optimizer.update(model, gradients)
            return nnx.state((model, optimizer)), value

        self.step = step

    def __call__(self) -> jax.Array:
        batch = self.batches[self.done % len(self.batches)]
        self.state, value = self.step(self.state, *batch)
        self.done += 1
        return value

    def model(self) -> nnx.Module:
        """The network as it is now."""
        return nnx.merge(self.definition, jax.tree.map(jnp.copy, self.state))[0]


def trainers(model: nnx.Module, batches: Sequence[Batch], lr: float) -> Trainers:
    """Of the network, and of the same with Flax's convolutions."""
    models = {"convjax": model, "flax": with_flax(model)}
    return {name: Trainer(each, batches, optax.sgd(lr)) for name, each in models.items()}


def losses(both: Trainers, steps: int) -> dict[str, list[float]]:
    return {name: [float(each()) for _ in range(steps)] for name, each in both.items()}


def apart(some: Sequence[float], others: Sequence[float]) -> float:
    """The largest relative difference."""
    return max(abs(a - b) / abs(b) for a, b in zip(some, others, strict=True))


def data(shape: Sequence[int], number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of images from -1 to 1 and their classes.

    Patches of five photographs, whose numbers are the classes, or, where these do not fit the
    network, noise.
    """
    rng = np.random.default_rng(0)
    size, *extents = shape
    photos = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    smallest = [min(photo.shape[axis] for photo in photos) for axis in range(2)]
    real = (
        len(shape) == 4
        and shape[-1] == 3
        and list(np.minimum(smallest, extents[:2])) == extents[:2]
    )

    def image(label: int) -> np.ndarray:
        if not real:
            return rng.standard_normal(extents)
        photo = photos[label]
        top, left = (rng.integers(0, photo.shape[i] - extents[i] + 1) for i in range(2))
        return photo[top : top + extents[0], left : left + extents[1]] / 127.5 - 1

    labels = [rng.integers(0, len(photos), size) for _ in range(number)]
    return [(np.stack([image(label) for label in each]), each) for each in labels]


def parser() -> argparse.ArgumentParser:
    p = command.parser("networks", __doc__)
    p.add_argument("name", nargs="?", default=DEFAULT[0], help="a network of `convjax.models`")
    p.add_argument("options", nargs="*", help="key=value, as for `python -m convjax.models`")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--steps", type=int, default=5, help="whose losses are compared")
    p.add_argument("--warmup", type=int, default=100, help="steps before 32 bits are compared")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--lr", type=float, default=0.001)
    command.add_busy(p)
    p.add_argument("--out", type=pathlib.Path, default=command.RESULTS / "networks")
    return p


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = parser().parse_args(words)
    words = arguments.options or (DEFAULT[1:] if arguments.name == DEFAULT[0] else ())
    if arguments.name not in models.NETWORKS:
        print(f"{arguments.name} is none of {', '.join(models.NETWORKS)}", file=sys.stderr)
        return 2
    network = models.NETWORKS[arguments.name]
    try:
        options = network.read(words)
    except ValueError as why:
        print(why, file=sys.stderr)
        return 2
    shape = (arguments.batch, *network.shape(options)[1:])
    own = {key: value for key, value in options.items() if key in network.arguments}

    def build(**dtype: Any) -> nnx.Module:
        return network.constructor(**own, **dtype, rngs=nnx.Rngs(0))

    ours, lr, found = build(), arguments.lr, {}
    drawn = data(shape, BATCHES)
    batches = [(jnp.asarray(x, jnp.float32), jnp.asarray(y)) for x, y in drawn]
    try:
        with jax.enable_x64(True):
            twin = doubled(ours, build(param_dtype=jnp.float64))
            exact_batches = [(x.astype(jnp.float64), y) for x, y in batches]
            found["64 bits"] = losses(trainers(twin, exact_batches, lr), arguments.steps)
        found["32 bits"] = losses(trainers(ours, batches, lr), arguments.steps)
        warm = Trainer(ours, batches, optax.sgd(WARM_LR, momentum=0.9))
        for _ in range(arguments.warmup):
            warm()
        both = trainers(warm.model(), batches, lr)
        found["32 bits, warmed up"] = losses(both, arguments.steps)
    except Incomparable as why:
        print(f"{arguments.name} cannot be compared: {why}", file=sys.stderr)
        return 2
    exact = found["64 bits"]["flax"]
    for when, each in found.items():
        print(f"losses, {when}: relative difference {apart(each['convjax'], each['flax']):.1e}")
        for name, values in each.items():
            far = f" ({apart(values, exact):.1e} from 64 bits)" if when == "32 bits" else ""
            print(f"  {name:8} {' '.join(f'{value:.7f}' for value in values)}{far}")
    errors = {when: apart(each["convjax"], each["flax"]) for when, each in found.items()}
    for when, tolerance in TOLERANCES.items():
        if not errors[when] <= tolerance:
            print(f"{when}: apart by more than {tolerance:.0e}: not timed", file=sys.stderr)
            return 1
    samples = command.timed(both, arguments.rounds, busy_cores=arguments.busy)
    ratio = timing.paired_ratio(samples, "flax", "convjax")
    ms = command.milliseconds(samples)
    print(f"training step, medians [ms]: {ms}; flax/convjax {ratio:.2f}")
    report = {
        "network": arguments.name, "options": list(words), "shape": list(shape),
        "losses": found, "relative differences": errors,
        "ms": ms, "flax/convjax": round(ratio, 3), "rounds": len(samples["flax"]),
    }  # fmt: skip
    command.write(
        arguments.out, report, sizes="usual", of=arguments.name, busy_cores=arguments.busy
    )
    return 0
