"""Time depthwise causal convolution with bias and SiLU against PyTorch; see `--help`.

    python -m benchmarks causal [--batch N] [--steps T] [--channels C] [--taps K ...]

Forward and training (the gradients of input, kernel and bias) of whole rows and of rows with five
packed sequences, against PyTorch's `conv1d` with `silu` on whole rows; and one step of generation
against the dispatch of an addition. Printed are medians of interleaved rounds. Without PyTorch, or
where its numbers differ, nothing is timed. Exit status: 0, 1 where they differ, 2 without PyTorch.
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from benchmarks.harness import command, timing

TOLERANCE = 1e-4  # relative to the largest value
PACKED = 5


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = command.parser("causal", __doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2048)
    parser.add_argument("--channels", type=int, default=1024)
    parser.add_argument("--taps", type=int, nargs="+", default=[2, 3, 4, 8])
    parser.add_argument("--rounds", type=int, default=9)
    command.add_busy(parser)
    options = parser.parse_args(words)
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not there: pip install -e '.[peers]'", file=sys.stderr)
        return 2
    for taps in options.taps:
        shape = (options.batch, options.steps, options.channels)
        contenders, error = rows(shape, taps)
        if not error <= TOLERANCE:
            print(f"{taps} taps: results differ by {error:.1e} of the largest", file=sys.stderr)
            return 1
        medians = _medians(contenders, options.rounds, options.busy)
        for role in ("forward", "training"):
            torch = medians[f"PyTorch, {role}"]
            print(
                f"{taps} taps, {role}: "
                f"whole {medians[f'whole, {role}'] / torch:.2f}, "
                f"packed {medians[f'packed, {role}'] / torch:.2f} of PyTorch's {torch * 1e3:.2f} ms"
            )
    medians = _medians(step(options.batch, options.channels), options.rounds, options.busy)
    beyond = (medians["step"] - medians["addition"]) * 1e6
    print(f"one step: {beyond:.1f} us beyond the dispatch of an addition")
    return 0


def _medians(
    programs: dict[str, Callable[[], Any]], rounds: int, busy_cores: int
) -> dict[str, float]:
    """Seconds of a call of each."""
    samples = command.timed(programs, rounds, busy_cores=busy_cores)
    return {name: timing.median(seconds) for name, seconds in samples.items()}


def rows(shape: tuple[int, int, int], taps: int) -> tuple[dict[str, Callable[[], Any]], float]:
    """What is timed on rows of this shape, and how far the results of the two libraries differ."""
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(0)
    batch, steps, channels = shape
    x, weights = rng.standard_normal((2, *shape), np.float32)
    kernel = rng.standard_normal((taps, 1, channels), np.float32) / taps
    bias = rng.standard_normal(channels, np.float32)
    ids = jnp.asarray(np.broadcast_to(np.arange(steps) * PACKED // steps, (batch, steps)))
    ours = [jnp.asarray(a) for a in (x, kernel, bias)]

    def causal(x: jax.Array, kernel: jax.Array, bias: jax.Array, **given: Any) -> jax.Array:
        y: jax.Array = convjax.causal_conv(
            x, kernel, bias=bias, activation="silu", feature_group_count=channels, **given
        )
        return y

    def packed(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return causal(x, kernel, bias, segment_ids=ids)

    contenders: dict[str, Callable[[], Any]] = {}
    for name, function in (("whole", causal), ("packed", packed)):
        forward = jax.jit(function)
        train = jax.jit(lambda *a, f=function: jax.vjp(f, *a[:3])[1](a[3]))
        contenders[f"{name}, forward"] = lambda f=forward: f(*ours)  # type: ignore[misc]
        contenders[f"{name}, training"] = lambda f=train: f(*ours, weights)  # type: ignore[misc]

    theirs = [
        torch.tensor(np.ascontiguousarray(a)).requires_grad_()
        for a in (x.swapaxes(1, 2), kernel.transpose(2, 1, 0), bias)
    ]
    cotangent = torch.tensor(np.ascontiguousarray(weights.swapaxes(1, 2)))

    def forward_of_torch() -> Any:
        y = functional.conv1d(*theirs, padding=taps - 1, groups=channels)
        return functional.silu(y[..., :steps])

    def without_gradient() -> Any:
        with torch.no_grad():
            return forward_of_torch()

    def train_torch() -> Any:
        return torch.autograd.grad(forward_of_torch(), theirs, cotangent)

    contenders["PyTorch, forward"] = without_gradient
    contenders["PyTorch, training"] = train_torch
    pairs = [(contenders["whole, forward"](), without_gradient().numpy().swapaxes(1, 2))]
    found = train_torch()
    layouts = ((0, 2, 1), (2, 1, 0), (0,))
    wanted = [g.numpy().transpose(axes) for g, axes in zip(found, layouts, strict=True)]
    pairs += list(zip(contenders["whole, training"](), wanted, strict=True))
    return contenders, command.difference(*zip(*pairs, strict=True))


def step(batch: int, channels: int) -> dict[str, Callable[[], Any]]:
    """A step of generation, the state donated, and an addition with as many operands."""
    x, kernel = jnp.ones((batch, channels)), jnp.ones((4, 1, channels))
    bias = jnp.ones(channels)
    held = {name: jnp.zeros((batch, 3, channels)) for name in ("step", "addition")}

    def causal(x: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        return convjax.causal_step(
            x, kernel, state, bias=bias, activation="silu", feature_group_count=channels
        )

    programs = {
        "step": jax.jit(causal, donate_argnums=1),
        "addition": jax.jit(lambda x, state: (x + 1, state), donate_argnums=1),
    }

    def call(name: str) -> jax.Array:
        y, held[name] = programs[name](x, held[name])
        return y

    return {"step": lambda: call("step"), "addition": lambda: call("addition")}
