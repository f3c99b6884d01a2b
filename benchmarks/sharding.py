"""Print what a training step takes on each device when a volume is split over n; see `--help`.

    python -m benchmarks sharding [--size 64] [--devices 1 2 4 8]

The step is that of `examples/volume.py` (the 3-D U-Net of `convjax.models`, forward and backward,
and Adam), one volume, split by depth over simulated CPU devices. Temporaries are XLA's
(`memory_analysis`): of one device. The loss and the gradients are compared with one device's.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

MOST = 8
_COUNT = f"--xla_force_host_platform_device_count={MOST}"
if _COUNT not in os.environ.get("XLA_FLAGS", ""):  # as in the tests
    os.environ["XLA_FLAGS"] = f"{_COUNT} {os.environ.get('XLA_FLAGS', '')}".strip()
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import AxisType, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

from benchmarks.harness import command  # noqa: E402
from examples import volume  # noqa: E402

COLLECTIVES = ("collective-permute", "all-reduce", "all-gather", "all-to-all")


def compiled(settings: volume.Settings, devices: int) -> tuple[Any, Any, Any]:
    """The step for so many devices, the first state, and a batch."""
    kinds = (AxisType.Auto,) * 2
    mesh = jax.make_mesh(
        (1, devices), ("data", "depth"), axis_types=kinds, devices=jax.devices()[:devices]
    )
    sharding = NamedSharding(mesh, P("data", "depth"))
    initial, step = volume.programs(settings, mesh)
    state = initial()
    batch = volume.batch_of(settings, 0, sharding)
    return step.lower(state, *batch).compile(), state, batch


def measured(settings: volume.Settings, devices: int) -> dict[str, Any]:
    """The compiled step's temporaries, what it moves, its loss and its gradients."""
    program, state, batch = compiled(settings, devices)
    text = program.as_text()
    state, loss = program(state, *batch)
    (adam, *_) = state.optimizer  # whose first moments are a tenth of the first gradients
    return {
        "devices": devices,
        "temporaries": program.memory_analysis().temp_size_in_bytes,
        "loss": float(loss),
        "gradients": [np.asarray(leaf) for leaf in jax.tree.leaves(adam.mu)],
        **{name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES},
    }


def distance(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The norm of the difference over that of theirs, of all arrays together."""
    difference = sum(float(np.sum((a - b) ** 2)) for a, b in zip(ours, theirs, strict=True))
    return (difference / sum(float(np.sum(b**2)) for b in theirs)) ** 0.5


def table(settings: volume.Settings, counts: list[int]) -> list[str]:
    """The lines of the table, in Markdown."""
    lines = [
        "| devices | temporaries per device, MiB | times n, MiB | halos | sums | gathers "
        "| loss differs by | gradients differ by |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    one: dict[str, Any] = {}
    for count in counts:
        found = measured(settings, count)
        one = one or found
        mib = found["temporaries"] / 2**20
        gathers = found["all-gather"] + found["all-to-all"]
        loss = abs(found["loss"] / one["loss"] - 1)
        gradients = distance(found["gradients"], one["gradients"])
        lines.append(
            f"| {count} | {mib:.1f} | {mib * count:.0f} | {found['collective-permute']} "
            f"| {found['all-reduce']} | {gathers} | {loss:.0e} | {gradients:.0e} |"
        )
    return lines


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = command.parser("sharding", __doc__)
    parser.add_argument("--size", type=int, default=64, help="extent of the volume (default 64)")
    parser.add_argument("--features", type=int, default=8, help="first channels (default 8)")
    parser.add_argument("--levels", type=int, default=2, help="halvings (default 2)")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args(words)
    settings = volume.Settings(
        size=options.size, batch=1, features=options.features, levels=options.levels
    )
    print(
        f"UNet3D(features={settings.features}, levels={settings.levels}), one volume of "
        f"{settings.size}^3, float32, jax {jax.__version__}:\n",
        flush=True,
    )
    print("\n".join(table(settings, options.devices)))
    return 0
