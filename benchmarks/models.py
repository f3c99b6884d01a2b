"""Time whole models of other people with and without `convjax.accelerate`; see `--help`.

    python -m benchmarks models [MODEL ...] [--batch N] [--size S]

Each model runs forward, and as a training step (the loss and its gradients), in five ways: with
lax, with lax and oneDNN (where this jaxlib has it), with `convjax.accelerate`, with it under
`convjax.jit` (that is with oneDNN, too), and in PyTorch where torchvision (or a few lines here) has
the same architecture. The JAX programs must agree on the logits, and in training on the loss, or
nothing is timed. How far their gradients are apart is written beside the times: a new network with
batch norms amplifies rounding, so that lax with oneDNN may differ from lax by a tenth.
Times are medians of interleaved rounds; PyTorch's is that of its faster memory format.
Results go to `benchmarks/results/models/DEVICE-jax-VERSION.json`, as soon as a model is done.
Exit status: 0, or 1 where a model differs, or 2 where no model could be built.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from benchmarks.harness import command, models, timing

TOLERANCE = 1e-3  # of logits and losses, relative to their length
ONEDNN = {
    "xla_cpu_experimental_onednn_custom_call": True,
    # YNNPACK would take the convolutions first.
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
}
ROLES = ("forward", "training")


def ways() -> dict[str, tuple[Callable[[Any], Any], dict[str, Any]]]:
    """What is done to a model, and the options that it is compiled with, for each way."""

    def same(function: Any) -> Any:
        return function

    found: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {"lax": (same, {})}
    if jax.version.__version_info__ >= (0, 11):
        found["lax, oneDNN"] = (same, ONEDNN)
    found["convjax"] = (convjax.accelerate, {})
    options = dict(convjax.compiler_options("cpu", onednn=True))

    def declared(function: Any) -> Any:  # as `convjax.jit` does
        return convjax.compiled_with(options)(convjax.accelerate(function))

    found["convjax.jit"] = (declared, options)
    return found


def programs(model: models.Model, x: jax.Array, role: str) -> dict[str, dict[str, Any]]:
    """The compiled program of each way, the seconds it took to compile, and its temporaries."""
    labels = jnp.arange(x.shape[0]) % models.CLASSES

    def loss(params: Any, x: jax.Array) -> jax.Array:
        logits = jax.nn.log_softmax(model.apply(params, x, True))
        return -jnp.take_along_axis(logits, labels[:, None], axis=1).mean()

    def forward(params: Any, x: jax.Array) -> jax.Array:
        return model.apply(params, x, False)

    made = {}
    for way, (change, options) in ways().items():
        function = jax.value_and_grad(change(loss)) if role == "training" else change(forward)
        lowered = jax.jit(function).lower(model.params, x)
        start = time.perf_counter()
        compiled = lowered.compile(options)
        seconds = time.perf_counter() - start
        memory = compiled.memory_analysis()
        made[way] = {
            "call": lambda compiled=compiled: compiled(model.params, x),
            "compile_s": round(seconds, 2),
            "temporaries_mib": round(memory.temp_size_in_bytes / 2**20, 1) if memory else None,
        }
    return made


def difference(found: Any, wanted: Any) -> float:
    """The distance of all results (logits; or loss and gradients), relative to their length."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    lengths = [
        (float(jnp.linalg.norm(jnp.ravel(a - b))), float(jnp.linalg.norm(jnp.ravel(b))))
        for a, b in pairs
    ]
    distance, length = (np.hypot.reduce(values) for values in zip(*lengths, strict=True))
    return float(distance / length)


def measured(
    name: str, x: jax.Array, rounds: int, limit_s: float, busy_cores: int = 0
) -> dict[str, Any]:
    """The report on one model; its key `differs` names the way whose results are not lax's."""
    model = models.MODELS[name](x)
    report: dict[str, Any] = {"differs": None}
    for role in ROLES:
        made = programs(model, x, role)
        wanted = made["lax"]["call"]()
        found = {way: program["call"]() for way, program in made.items()}
        errors = {way: difference(values, wanted) for way, values in found.items()}
        for way, values in found.items():
            error = difference(values[0], wanted[0]) if role == "training" else errors[way]
            if not error <= TOLERANCE:
                return {"differs": f"{way}, {role}, by {error:.1e}"}
        timed = {
            way: timing.Timed(program["call"], jax.block_until_ready)
            for way, program in made.items()
        }
        torch = {
            f"PyTorch {layout}": timing.Timed(call, lambda _: None)
            for layout, call in models.torch_calls(name, x.shape, role).items()
        }
        samples = timing.interleaved(timed | torch, rounds, limit_s=limit_s, busy_cores=busy_cores)
        medians = {way: 1e3 * timing.median(values) for way, values in samples.items()}
        cells = {
            way: {
                "ms": round(medians[way], 2),
                "lax / this": round(timing.paired_ratio(samples, "lax", way), 2),
                "compile_s": program["compile_s"],
                "temporaries_mib": program["temporaries_mib"],
                "difference": errors[way],
            }
            for way, program in made.items()
        }
        if torch:
            best = min(torch, key=lambda layout: medians[layout])
            cells["PyTorch"] = {
                "ms": round(medians[best], 2),
                "lax / this": round(timing.paired_ratio(samples, "lax", best), 2),
                "format": best.removeprefix("PyTorch "),
            }
        report[role] = cells
        for way, cell in cells.items():
            print(f"{name:16} {role:8} {way:17} {cell}", flush=True)
    return report


def parser() -> argparse.ArgumentParser:
    p = command.parser("models", __doc__)
    p.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(models.MODELS))
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--size", type=int, default=128, help="height and width (default 128)")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--limit", type=float, default=30.0, help="seconds for a model and role")
    command.add_busy(p)
    p.add_argument("--out", type=pathlib.Path, default=command.RESULTS / "models")
    return p


def main(words: Sequence[str] | None = None) -> int:
    options = parser().parse_args(words)
    unknown = [name for name in options.models if name not in models.MODELS]
    if unknown:
        print(f"{', '.join(unknown)}: none of {', '.join(models.MODELS)}", file=sys.stderr)
        return 2
    shape = (options.batch, options.size, options.size, 3)
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    report: dict[str, Any] = {"shape": shape, "models": {}, "rounds": options.rounds}
    for name in options.models or models.MODELS:
        try:
            found = measured(name, x, options.rounds, options.limit, options.busy)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        if (differs := found.pop("differs")) is not None:
            print(f"{name}: not the numbers of lax: {differs}", file=sys.stderr)
            return 1
        report["models"][name] = found
        command.write(options.out, report, sizes="usual", busy_cores=options.busy)
    return 0 if report["models"] else 2
