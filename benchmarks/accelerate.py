"""Time a training step of a model of each library with `convjax.accelerate`; see `--help`.

    python -m benchmarks accelerate [LIBRARY ...] [--batch N] [--size S] [--width W]

The model of each library (flax linen, flax nnx, equinox, haiku, keras) has a depthwise, a grouped
and a transposed layer of its own, with ReLUs between them. Loss and gradients must agree to a part
in a thousand, or nothing is timed. Results go to
`benchmarks/results/accelerate/DEVICE-jax-VERSION.json`. Exit status: 0, or 1 where a model
differs, or 2 where no library is there.
"""

import argparse
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from benchmarks.harness import command, timing

# Of loss and gradients, relative to the largest value. lax adds thousands of products one by one in
# 32 bits: its gradient of a grouped kernel was seen 1.2e-4 away from that in 64 bits, ours 2e-7.
TOLERANCE = 1e-3
Apply = Callable[[Any, jax.Array], jax.Array]


def flax_linen(x: jax.Array) -> tuple[Apply, Any]:
    from flax import linen as nn

    width = x.shape[-1]

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.relu(nn.Conv(width, (3, 3), feature_group_count=width)(x))
            x = nn.relu(nn.Conv(2 * width, (3, 3), 2, feature_group_count=4)(x))
            return nn.ConvTranspose(width, (2, 2), (2, 2))(x)

    model: Any = Model()
    return model.apply, model.init(jax.random.key(0), x)


def flax_nnx(x: jax.Array) -> tuple[Apply, Any]:
    from flax import nnx

    width, rngs = x.shape[-1], nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Conv(width, width, (3, 3), feature_group_count=width, rngs=rngs),
        nnx.relu,
        nnx.Conv(width, 2 * width, (3, 3), 2, feature_group_count=4, rngs=rngs),
        nnx.relu,
        nnx.ConvTranspose(2 * width, width, (2, 2), 2, rngs=rngs),
    )
    graph, state = nnx.split(model)
    return lambda state, x: nnx.merge(graph, state)(x), state


def equinox(x: jax.Array) -> tuple[Apply, Any]:
    import equinox as eqx

    width, keys = x.shape[-1], jax.random.split(jax.random.key(0), 3)
    relu = eqx.nn.Lambda(jax.nn.relu)
    layers: list[Any] = [
        eqx.nn.Conv2d(width, width, 3, padding=1, groups=width, key=keys[0]),
        relu,
        eqx.nn.Conv2d(width, 2 * width, 3, 2, padding=1, groups=4, key=keys[1]),
        relu,
        eqx.nn.ConvTranspose2d(2 * width, width, 2, 2, key=keys[2]),
    ]
    params, static = eqx.partition(eqx.nn.Sequential(layers), eqx.is_array)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(eqx.combine(params, static))(jnp.moveaxis(x, -1, 1))

    return apply, params


def haiku(x: jax.Array) -> tuple[Apply, Any]:
    import haiku as hk

    width = x.shape[-1]

    def forward(x: jax.Array) -> jax.Array:
        x = jax.nn.relu(hk.DepthwiseConv2D(1, (3, 3))(x))
        x = jax.nn.relu(hk.Conv2D(2 * width, 3, stride=2, feature_group_count=4)(x))
        return hk.Conv2DTranspose(width, 2, stride=2)(x)

    model: Any = hk.without_apply_rng(hk.transform(forward))
    return model.apply, model.init(jax.random.key(0), x)


def keras(x: jax.Array) -> tuple[Apply, Any]:
    from keras import Sequential, layers

    width = x.shape[-1]
    model = Sequential(
        [
            layers.Input(x.shape[1:]),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.Conv2D(2 * width, 3, 2, groups=4, padding="same", activation="relu"),
            layers.Conv2DTranspose(width, 2, 2, padding="same"),
        ]
    )
    rest = [variable.value for variable in model.non_trainable_variables]
    params = [variable.value for variable in model.trainable_variables]
    return lambda params, x: model.stateless_call(params, rest, x)[0], params


LIBRARIES: dict[str, Callable[[jax.Array], tuple[Apply, Any]]] = {
    "flax_linen": flax_linen,
    "flax_nnx": flax_nnx,
    "equinox": equinox,
    "haiku": haiku,
    "keras": keras,
}


def there(name: str) -> bool:
    return importlib.util.find_spec(name.split("_")[0]) is not None


def steps(apply: Apply, params: Any, x: jax.Array) -> dict[str, Callable[[], Any]]:
    """Loss and gradients of all parameters: of the model as it is, and accelerated."""

    def compiled(apply: Apply) -> Callable[[], Any]:
        step = jax.jit(jax.value_and_grad(lambda params: (apply(params, x) ** 2).mean()))
        program = step.lower(params).compile()
        return lambda: program(params)

    return {"as it is": compiled(apply), "accelerated": compiled(convjax.accelerate(apply))}


def parser() -> argparse.ArgumentParser:
    p = command.parser("accelerate", __doc__)
    p.add_argument("libraries", nargs="*", metavar="LIBRARY", help=", ".join(LIBRARIES))
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--size", type=int, default=56, help="height and width (default 56)")
    p.add_argument("--width", type=int, default=64, help="channels, a multiple of 4 (default 64)")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--limit", type=float, default=30.0, help="seconds per library")
    command.add_busy(p)
    p.add_argument("--out", type=pathlib.Path, default=command.RESULTS / "accelerate")
    return p


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = parser().parse_args(words)
    unknown = [name for name in arguments.libraries if name not in LIBRARIES]
    if unknown:
        print(f"{', '.join(unknown)}: none of {', '.join(LIBRARIES)}", file=sys.stderr)
        return 2
    shape = (arguments.batch, arguments.size, arguments.size, arguments.width)
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    found: dict[str, Any] = {}
    for name in arguments.libraries or LIBRARIES:
        if not there(name):
            print(f"{name} is left out: it is not installed", file=sys.stderr)
            continue
        both = steps(*LIBRARIES[name](x), x)
        error = command.difference(both["accelerated"](), both["as it is"]())
        if not error <= TOLERANCE:
            print(f"{name}: apart by {error:.1e}, more than {TOLERANCE:.0e}", file=sys.stderr)
            return 1
        samples = command.timed(both, arguments.rounds, arguments.limit, arguments.busy)
        ms = command.milliseconds(samples)
        faster = timing.paired_ratio(samples, "as it is", "accelerated")
        found[name] = {"ms": ms, "faster": round(faster, 2), "relative difference": error}
        print(f"{name:10} {ms}, {faster:.1f} times faster, apart by {error:.1e}")
    if not found:
        return 2
    report = {"shape": shape, "libraries": found, "rounds": arguments.rounds}
    command.write(arguments.out, report, sizes="usual", busy_cores=arguments.busy)
    return 0
