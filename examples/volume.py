"""Train a 3-D U-Net on volumes that no single device has to hold.

python -m examples.volume --out runs/volume                        on all devices of this machine
python -m examples.volume --out runs/volume --size 128 --steps 2000 --resume

Examples are split over devices as far as the batch goes, and each volume over the other devices, by
depth. After a stop, --resume goes on from the newest checkpoint, on any number of devices and
processes. On several machines every process runs the same command: Slurm, Open MPI, Cloud TPU,
Kubernetes and Ray Train start it without addresses (see docs/multihost.md).
"""

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.run import processes
from experiments.run.runs import OtherSettingsError, Run

EXTRA = "pip install -e '.[experiments]'"
BALLS = 6  # of each volume
CLASSES = 3  # outside, in a solid ball, in a hollow one
Tree = Any


class SettingsError(ValueError):
    """Numbers of the command line that do not fit each other or the devices."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained on what; a run goes on with these settings only."""

    size: int = 32
    batch: int = 2
    features: int = 8
    levels: int = 2
    rate: float = 1e-3
    seed: int = 0


class State(NamedTuple):
    """All that a step depends on: the data follow from the settings and `step`."""

    step: Any
    params: Tree
    model: Tree  # running statistics of batch normalisation
    optimizer: Tree


# ---- data: every process makes the part that its devices hold -----------------------------------


def slices(settings: Settings, number: int, depths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Slices `depths` of volume `number`: the volume (D, H, W, 1), and the class of each voxel.

    A hollow ball is as dark inside as the background, so that one slice does not tell the classes.
    """
    n, draw = settings.size, np.random.default_rng([settings.seed, number])
    z, y, x = np.ix_(depths, range(n), range(n))
    volume = np.zeros((len(depths), n, n), np.float32)
    labels = np.zeros((len(depths), n, n), np.int32)
    for ball in range(BALLS):
        center, radius = draw.uniform(0, n, 3), draw.uniform(n / 10, n / 4)
        squares = (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2
        inside = squares < radius**2
        hollow = ball % 2 == 1
        volume = np.where(inside, 1, volume)
        volume = np.where(squares < (0.6 * radius) ** 2, 0, volume) if hollow else volume
        labels = np.where(inside, 1 + hollow, labels)
    noise = [np.random.default_rng([settings.seed, number, d]).normal(size=(n, n)) for d in depths]
    noisy = volume + 0.3 * np.stack(noise)
    return noisy[..., None].astype(np.float32), labels.astype(np.int32)


def batch_of(settings: Settings, step: int, sharding: Any) -> tuple[Any, Any]:
    """The volumes of a step and their labels, over all devices of all processes."""
    import jax

    n = settings.size
    shape = (settings.batch, n, n, n, 1)
    held = list(sharding.addressable_devices_indices_map(shape).values())
    examples, depths = (_held((index[axis] for index in held), shape[axis]) for axis in (0, 1))
    first = step * settings.batch
    made = [slices(settings, first + example, depths) for example in examples]
    volumes, labels = (np.stack(arrays) for arrays in zip(*made, strict=True))
    split = functools.partial(jax.make_array_from_process_local_data, sharding)
    return split(volumes, shape), split(labels, shape[:-1])


def _held(parts: Iterable[slice], extent: int) -> list[int]:
    """The indices in any of the parts of an axis, in order."""
    return sorted({i for part in parts for i in range(extent)[part]})


# ---- where what lies ----------------------------------------------------------------------------


def mesh_of(settings: Settings, depth: int | None = None) -> Any:
    """All devices as ("data", "depth"): `depth` of them share a volume (None: as few as can).

    Raises:
        SettingsError: `depth` does not fit the batch, the size, the devices, or their processes.
    """
    import jax

    devices, local = jax.device_count(), jax.local_device_count()

    def wrong(depth: int) -> str:
        if devices % depth:
            return f"must divide the {devices} devices"
        if local % depth and depth % local:
            return f"must divide the {local} devices of a process, or be a multiple of them"
        if settings.batch % (devices // depth):
            return f"leaves {devices // depth} parts, which do not divide --batch {settings.batch}"
        if settings.size % depth:
            return f"does not divide --size {settings.size}"
        return ""

    if depth is None:
        found = [d for d in range(1, devices + 1) if not wrong(d)]
        if not found:
            raise SettingsError(
                f"{devices} devices share no batch of {settings.batch} volumes of "
                f"{settings.size} slices evenly: choose --batch or --size as a multiple of them."
            )
        depth = found[0]
    elif wrong(depth):
        raise SettingsError(f"--depth {depth} {wrong(depth)}.")
    kinds = (jax.sharding.AxisType.Auto,) * 2
    return jax.make_mesh((devices // depth, depth), ("data", "depth"), axis_types=kinds)


# ---- the network and its step -------------------------------------------------------------------


def programs(
    settings: Settings, mesh: Any
) -> tuple[Callable[[], State], Any]:
    """The first state, and a step ``(state, volumes, labels) -> (state, loss)``, by `jax.jit`."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    import convjax
    from convjax.models import UNet3D

    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    optimizer = optax.adam(settings.rate)

    def module() -> Any:
        network = UNet3D(
            in_features=1,
            classes=CLASSES,
            features=settings.features,
            levels=settings.levels,
            rngs=nnx.Rngs(settings.seed),
        )
        return nnx.split(network, nnx.Param, nnx.BatchStat)

    definition, *_ = nnx.eval_shape(module)

    def initial() -> State:
        _, params, model = module()
        return State(jnp.zeros((), jnp.int32), params, model, optimizer.init(params))

    def loss_of(params: Tree, model: Tree, volumes: Any, labels: Any) -> tuple[Any, Tree]:
        network = nnx.merge(definition, params, model, copy=True)
        scores = network(volumes)
        # Not by indices: their gradient is a scatter, which XLA would not split.
        losses = optax.softmax_cross_entropy(scores, jax.nn.one_hot(labels, CLASSES))
        return losses.mean(), nnx.state(network, nnx.BatchStat)

    def step(state: State, volumes: Any, labels: Any) -> tuple[State, Any]:
        (loss, model), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            state.params, state.model, volumes, labels
        )
        updates, following = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(state.step + 1, params, model, following), loss

    platform = jax.default_backend()
    # Random numbers that are drawn in milliseconds otherwise take LLVM ten seconds.
    hasty = {"xla_backend_optimization_level": 0} if platform == "cpu" else None
    best = convjax.compiler_options(platform)
    return (
        jax.jit(initial, out_shardings=everywhere, compiler_options=hasty),
        jax.jit(step, donate_argnums=0, out_shardings=everywhere, compiler_options=best),
    )


def train(
    settings: Settings,
    steps: int,
    out: Path,
    *,
    depth: int | None = None,
    save_every: int = 50,
    resume: bool = False,
) -> list[dict[str, Any]]:
    """Train up to `steps` steps, keep the run in `out`, and return a line for every step.

    Raises:
        SettingsError: extents that the devices do not divide.
        OtherSettingsError: the run in `out` was begun with other settings.
    """
    import jax

    levels = 2**settings.levels
    if settings.size % levels:
        raise SettingsError(f"--size {settings.size} must be a multiple of 2**levels (={levels}).")
    mesh = mesh_of(settings, depth)
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data", "depth"))
    initial, step_of = programs(settings, mesh)
    run = Run(out, dataclasses.asdict(settings), resume)
    first = jax.process_index() == 0
    try:
        state = run.restore(initial())
        done = int(state.step)
        if first:
            data, parts = mesh.devices.shape
            print(
                f"{jax.process_count()} processes, {data} x {parts} devices (data x depth), "
                f"from step {done}",
                flush=True,
            )
        while done < steps:
            began = time.perf_counter()
            state, loss = step_of(state, *batch_of(settings, done, sharding))
            done += 1
            line = {"step": done, "loss": float(loss), "seconds": time.perf_counter() - began}
            run.log(line)
            if first:
                print(f"step {done}: loss {line['loss']:.6f}", flush=True)
            if done == steps or done % save_every == 0:
                run.save(done, state)
    finally:
        run.close()
    return run.lines


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.volume",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument("--out", type=Path, default=Path("runs/volume"), metavar="DIR")
    parser.add_argument("--steps", **whole, default=200)
    parser.add_argument("--save-every", **whole, default=50, help="steps between checkpoints")
    parser.add_argument("--depth", **whole, help="devices that share a volume (default: few)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in DIR")
    for field in dataclasses.fields(Settings):
        kind = type(field.default)
        parser.add_argument(
            f"--{field.name}", type=kind, default=field.default, metavar="N",
            help=f"default: {field.default}",
        )  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = vars(parser().parse_args(arguments))
    settings = Settings(**{f.name: options.pop(f.name) for f in dataclasses.fields(Settings)})
    try:
        processes.start()
    except ValueError as error:
        return _stop(str(error))
    try:
        train(settings, **options)
    except (SettingsError, OtherSettingsError) as error:
        return _stop(str(error))
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in ("examples", "experiments", "convjax"):
            raise
        return _stop(f"the package {missing.name!r} is missing; install it with: {EXTRA}")
    return 0


def _stop(problem: str) -> int:
    print(f"python -m examples.volume: {problem}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
