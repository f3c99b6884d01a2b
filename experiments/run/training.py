"""One training loop: any loss, any optimizer, any number of devices and processes.

The batch is split over all devices and everything else is on each of them, so a mean over the
batch (a loss, the statistics of a batch normalisation) is one over the whole batch. Which pictures
a step takes follows from the seed and the step alone: a run that goes on from a checkpoint is the
run that was never interrupted.
"""

import contextlib
import dataclasses
import functools
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

import convjax
from experiments.run.runs import Line, Run

Tree = Any
# For what runs once: random numbers that run in milliseconds otherwise take XLA ten seconds.
_HASTY: dict[str, Any] = {"xla_backend_optimization_level": 0}


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained. Runs of the same task, optimizer and sizes share one compiled program.

    Attributes:
        initial: from a key to ``(params, model)``: what is learned, and what else the model keeps
            from step to step (statistics of batch normalisation; ``()`` if nothing).
        loss: ``loss(params, model, batch, key) -> (loss, model)`` of a batch, a tree of arrays;
            the loss is a mean over the batch.
    """

    initial: Callable[[jax.Array], tuple[Tree, Tree]]
    loss: Callable[[Tree, Tree, Tree, jax.Array], tuple[jax.Array, Tree]]


class State(NamedTuple):
    """All that a step depends on, but for the data."""

    step: jax.Array  # how many are done: with `key`, the position in the data
    key: jax.Array  # the data of a random key, from which every other one is derived
    params: Tree
    model: Tree
    optimizer: Tree


class Trained(NamedTuple):
    """The end of a run, and its log: a line for every measurement."""

    params: Tree
    model: Tree
    lines: list[Line]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a run is and how often it does what.

    Attributes:
        steps: of the optimizer.
        batch_size: over all devices together.
        measure_every: steps between two lines of the log.
        save_every: steps between two checkpoints.
    """

    steps: int
    batch_size: int
    measure_every: int = 100
    save_every: int = 500


@dataclasses.dataclass(frozen=True)
class Keeping:
    """Where a run is kept, and whether it goes on from there.

    Attributes:
        folder: of the run; None keeps nothing.
        resume: go on from the newest checkpoint in it, if there is one.
        bar: show a progress bar.
        about: what else the run was begun with (widths, rates): a run that was begun with other
            values does not go on.
    """

    folder: Path | None = None
    resume: bool = False
    bar: bool = False
    about: dict[str, Any] = dataclasses.field(default_factory=dict)


def train(
    task: Task,
    data: Tree,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    *,
    seed: int,
    name: str = "training",
    measure: Callable[[Tree, Tree], dict[str, float]] | None = None,
    keeping: Keeping = Keeping(),
) -> Trained:
    """Train, and return the end of it.

    Args:
        task: see `Task`.
        data: a tree of arrays with equally many rows, the same on every process. A step takes the
            next `batch_size` of them in an order that is drawn anew for every epoch.
        optimizer: of optax.
        schedule: see `Schedule`.
        seed: of the weights, the order, and the keys that the loss receives.
        name: of the run, in the bar and in messages.
        measure: ``measure(params, model)``: what to add to a line of the log, at step 0, every
            `measure_every` steps and at the end.
        keeping: see `Keeping`.

    Raises:
        ValueError: sizes that do not fit, or a run in the folder that was begun otherwise
            (`OtherSettingsError`).
        KeyboardInterrupt: after a checkpoint of the step at which it came.
    """
    rows = _rows(data)
    batch, devices = schedule.batch_size, len(jax.devices())
    if batch > rows:
        raise ValueError(f"{name}: the batch size {batch} exceeds the {rows} rows of the data.")
    if batch % devices:
        raise ValueError(f"{name}: the batch size {batch} must be divisible by {devices} devices.")
    began = {
        "name": name,
        "seed": seed,
        "rows": rows,
        "data": _checksum(data),
        "devices": devices,
        "processes": jax.process_count(),
        **dataclasses.asdict(schedule),
        "about": keeping.about,
    }
    initial, order_of, step_of = _programs(task, optimizer, batch, rows)
    run = Run(keeping.folder, began, keeping.resume)
    try:
        state = run.restore(initial(seed, *beginning(task, seed)))
        loop = _Loop(run, schedule, measure, name, keeping.bar)
        state = loop(state, jax.tree.map(replicate, data), order_of, step_of, rows // batch)
    finally:
        run.close()
    return Trained(state.params, state.model, run.lines)


def beginning(task: Task, seed: int) -> tuple[Tree, Tree]:
    """The ``(params, model)`` with which `train` begins."""
    return _beginning(task)(seed)


@functools.cache
def _beginning(task: Task) -> Callable[..., tuple[Tree, Tree]]:
    return jax.jit(
        lambda seed: task.initial(jax.random.fold_in(jax.random.key(seed), 0)),
        out_shardings=sharding(),
        compiler_options=_HASTY if jax.default_backend() == "cpu" else None,
    )


def sharding(*axes: str | None) -> NamedSharding:
    """Over all devices: none (on each of them), or ``"batch"`` for the first axis."""
    mesh = jax.make_mesh(
        (len(jax.devices()),), ("batch",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    return NamedSharding(mesh, P(*axes))


def replicate(array: Any) -> jax.Array:
    """A host's array on every device of every process, which all have the same."""
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding(), lambda index: array[index])


def outputs(
    apply: Callable[..., Tree], images: np.ndarray, batch_size: int, *arguments: Tree
) -> Tree:
    """``apply(*arguments, images)`` in batches, as numpy arrays; `apply` is compiled once."""
    devices = len(jax.devices())
    batch_size = max(1, min(batch_size, len(images)) // devices) * devices
    program = _inference(apply)
    found = []
    for start in range(0, len(images), batch_size):
        chunk = images[start : start + batch_size]
        missing = batch_size - len(chunk)
        filled = np.concatenate([chunk, np.repeat(chunk[-1:], missing, 0)]) if missing else chunk
        found.append(jax.tree.map(np.asarray, program(*arguments, replicate(filled))))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(images)], *found)


@functools.cache
def _inference(apply: Callable[..., Tree]) -> Callable[..., Tree]:
    def split(*arguments: Tree) -> Tree:
        *others, images = arguments
        return apply(*others, jax.lax.with_sharding_constraint(images, sharding("batch")))

    return jax.jit(split, out_shardings=sharding(), compiler_options=_options())


def _options() -> dict[str, Any]:
    return convjax.compiler_options(jax.default_backend())


def _checksum(data: Tree) -> int:
    """A number that differs for other data."""
    found = 0
    for array in jax.tree.leaves(data):
        found = zlib.crc32(np.ascontiguousarray(array).data.cast("B"), found)
    return found


def _rows(data: Tree) -> int:
    lengths = {len(array) for array in jax.tree.leaves(data)}
    if len(lengths) != 1:
        raise ValueError(f"the arrays of the data must have equally many rows, not {lengths}.")
    return lengths.pop()


@functools.cache
def _programs(
    task: Task, optimizer: optax.GradientTransformation, batch_size: int, rows: int
) -> tuple[Callable[..., State], Callable[..., jax.Array], Callable[..., Any]]:
    """The compiled parts: the first state, the order of an epoch, and a step."""
    everywhere, split = sharding(), sharding("batch")

    def initial(seed: jax.Array, params: Tree, model: Tree) -> State:
        key = jax.random.key_data(jax.random.key(seed))
        return State(jnp.zeros((), jnp.int32), key, params, model, optimizer.init(params))

    def order(state: State) -> jax.Array:
        """The rows in the order of the epoch that comes next."""
        epoch = state.step // (rows // batch_size)
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), 1)
        return jax.random.permutation(jax.random.fold_in(key, epoch), rows)

    def step(state: State, data: Tree, order: jax.Array) -> tuple[State, jax.Array]:
        first = state.step % (rows // batch_size) * batch_size
        chosen = jax.lax.dynamic_slice(order, (first,), (batch_size,))
        batch = jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a[chosen], split), data)
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), 2)
        (loss, model), gradients = jax.value_and_grad(task.loss, has_aux=True)(
            state.params, state.model, batch, jax.random.fold_in(key, state.step)
        )
        updates, following = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(state.step + 1, state.key, params, model, following), loss

    return (
        jax.jit(initial, out_shardings=everywhere),
        jax.jit(order, out_shardings=everywhere),
        jax.jit(step, donate_argnums=0, out_shardings=everywhere, compiler_options=_options()),
    )


class _Loop:
    """The steps of one run."""

    def __init__(self, run: Run, schedule: Schedule, measure: Any, name: str, bar: bool) -> None:
        self.run, self.schedule, self.measure, self.name = run, schedule, measure, name
        self.bar = bar and jax.process_index() == 0

    def __call__(
        self, state: State, data: Tree, order_of: Any, step_of: Any, per_epoch: int
    ) -> State:
        schedule, done = self.schedule, int(state.step)
        if done == 0 and self.measure is not None:
            self.run.log({"step": 0, **self._measured(state)})
        order = order_of(state) if done < schedule.steps else None
        clock = _Clock(done)
        bar = tqdm(
            total=schedule.steps, initial=done, desc=self.name, unit="step", leave=False,
            dynamic_ncols=True, mininterval=0.5 if sys.stderr.isatty() else 60,
            disable=not self.bar,
        )  # fmt: skip
        with bar, _interrupt() as interrupted:
            while done < schedule.steps:
                if done % per_epoch == 0:
                    order = order_of(state)
                state, loss = step_of(state, data, order)
                done += 1
                last = done == schedule.steps
                if last or done % schedule.measure_every == 0:
                    rate = schedule.batch_size * clock.rate(done, loss)
                    line = {"step": done, "loss": float(loss), "images_per_second": rate}
                    self.run.log({**line, **self._measured(state)})
                    clock.start(done)
                if last or done % schedule.save_every == 0 or interrupted.is_set():
                    self.run.save(done, state)
                if interrupted.is_set():
                    raise KeyboardInterrupt
                if self.bar and bar.update(1):
                    bar.set_postfix(loss=f"{float(loss):.4g}", refresh=False)
        return state

    def _measured(self, state: State) -> dict[str, float]:
        found = self.measure(state.params, state.model) if self.measure else {}
        return {name: float(value) for name, value in found.items()}


class _Clock:
    """Steps per second since the last measurement."""

    def __init__(self, step: int) -> None:
        self.start(step)

    def start(self, step: int) -> None:
        self.step, self.time = step, time.perf_counter()

    def rate(self, step: int, result: jax.Array) -> float:
        jax.block_until_ready(result)
        return (step - self.step) / (time.perf_counter() - self.time)


@contextlib.contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """Set the event on the first Ctrl-C, between two steps; a second one stops at once.

    In a step the state's buffers are given away, so it could not be saved there. Over several
    processes, which need not be at the same step, Ctrl-C stops at once: the last checkpoint holds.
    """
    event = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    if not main or jax.process_count() > 1:
        yield event
        return

    def ask(*_: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
