"""Time a network's training step against the same network with Flax's convolutions; see `--help`.

    python scripts/benchmark_networks.py [NAME key=value ...] [--batch N]

Both start from the same parameters and take `--steps` steps of SGD on the same images; their losses
must agree, or nothing is timed. Results go to `benchmarks/networks/NAME-DEVICE-jax-VERSION.json`.
Exit status: 0, or 1 where the losses differ, or 2 where the network cannot be compared.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

# Before jax is imported, by the modules below.
from benchmarking import environment

environment.prepare()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from benchmarking import machine, timing  # noqa: E402
from flax import nnx  # noqa: E402

from convjax import models, nn  # noqa: E402
from convjax.nn.layer import Layer  # noqa: E402

TOLERANCE = 1e-4  # of the losses, relative
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


def stepper(model: nnx.Module, batch: tuple[jax.Array, jax.Array], lr: float) -> Any:
    """A function that takes one training step and returns the loss."""
    optimizer = nnx.Optimizer(model, optax.sgd(lr), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
        def loss(model: Any) -> jax.Array:
            scores = model(x)
            return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    return lambda: step(model, optimizer, *batch)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=(__doc__ or "").split(";")[0] + ".")
    p.add_argument("name", nargs="?", default=DEFAULT[0], help="a network of `convjax.models`")
    p.add_argument("options", nargs="*", help="key=value, as for `python -m convjax.models`")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--steps", type=int, default=5, help="whose losses are compared")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--lr", type=float, default=0.01)
    p.add_argument("--out", type=pathlib.Path, default=machine.ROOT / "benchmarks" / "networks")
    return p


def main() -> int:
    arguments = parser().parse_args()
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
    rng = np.random.default_rng(0)
    batch = (
        jnp.asarray(rng.standard_normal(shape), jnp.float32),
        jnp.asarray(rng.integers(0, 10, arguments.batch)),
    )
    ours = network.constructor(**own, rngs=nnx.Rngs(0))
    try:
        steps = {
            "convjax": stepper(ours, batch, arguments.lr),
            "flax": stepper(with_flax(ours), batch, arguments.lr),
        }
    except Incomparable as why:
        print(f"{arguments.name} cannot be compared: {why}", file=sys.stderr)
        return 2
    losses = {name: [float(step()) for _ in range(arguments.steps)] for name, step in steps.items()}
    pairs = list(zip(losses["convjax"], losses["flax"], strict=True))
    error = max(abs(a - b) / abs(b) for a, b in pairs)
    for name, values in losses.items():
        print(f"losses, {name}: {' '.join(f'{value:.6f}' for value in values)}")
    print(f"largest relative difference: {error:.1e}")
    if not error <= TOLERANCE:
        print(f"more than {TOLERANCE:.0e}: not timed", file=sys.stderr)
        return 1
    timed = {name: timing.Timed(step, jax.block_until_ready) for name, step in steps.items()}
    samples = timing.interleaved(timed, arguments.rounds)
    ratio = timing.paired_ratio(samples, "flax", "convjax")
    ms = {name: round(1e3 * timing.median(values), 2) for name, values in samples.items()}
    print(f"training step, medians [ms]: {ms}; flax/convjax {ratio:.2f}")
    found = {
        "network": arguments.name, "options": list(words), "shape": list(shape),
        "losses": losses, "largest relative difference": error,
        "ms": ms, "flax/convjax": round(ratio, 3), "rounds": len(samples["flax"]),
        "commit": machine.commit(), **machine.conditions("float32", {}, "usual"),
    }  # fmt: skip
    path = arguments.out / f"{arguments.name}-{machine.device()}-jax-{jax.__version__}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
