"""The training loop: reproducible, resumable to the bit, the same on any number of devices."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

for package in ("optax", "orbax.checkpoint", "tqdm"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
import training_worker as worker  # noqa: E402

from experiments.run.training import Keeping, Schedule, Task, outputs, train  # noqa: E402

WORKER = Path(worker.__file__)


def start(**options):
    return subprocess.Popen(
        [sys.executable, str(WORKER), json.dumps(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def result(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def saved(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


def test_the_same_seed_gives_the_same_numbers():
    first, again, other = (worker.numbers(worker.run(12, seed=seed)) for seed in (3, 3, 4))
    assert first == again
    assert first["digest"] != other["digest"]
    assert [line["step"] for line in first["lines"]] == [0, 5, 10, 12]


def test_an_epoch_takes_every_row_once_and_differs_from_the_next():
    seen = []
    task = Task(
        lambda key: (jnp.zeros(()), jnp.zeros(8)),
        lambda params, model, batch, key: (params * 0 + batch.mean(), batch),
    )
    rows = np.arange(24, dtype=np.float32)
    train(
        task,
        rows,
        optax.sgd(0.0),
        Schedule(6, 8, measure_every=1),
        seed=0,
        measure=lambda params, model: seen.append(np.asarray(model)) or {},
    )
    epochs = np.concatenate(seen[1:]).reshape(2, 24)  # the first is of step 0
    assert all(sorted(epoch) == rows.tolist() for epoch in epochs)
    assert (epochs[0] != epochs[1]).any() and (epochs[0] != rows).any()


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    """Stopped after the checkpoint at 10 of 13 steps, in the middle of an epoch of 3 batches."""
    whole = worker.numbers(worker.run(13))
    calls = []

    def fails_at_the_end(params, model):
        calls.append(0)
        if len(calls) == 4:  # 0, 5, 10 and 13
            raise RuntimeError("the machine stopped")
        return worker.measure(params, model)

    with pytest.raises(RuntimeError, match="the machine stopped"):
        worker.run(13, tmp_path, measure=fails_at_the_end)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 11}\n{"step": 12, "lo')  # after the checkpoint, and cut short
    assert saved(tmp_path) == [10]
    calls.clear()
    counted = lambda *arguments: calls.append(0) or worker.measure(*arguments)  # noqa: E731
    assert worker.numbers(worker.run(13, tmp_path, resume=True, measure=counted)) == whole
    assert len(calls) == 1 and saved(tmp_path) == [13]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 5, 10, 13]


def test_a_finished_run_is_not_run_again(tmp_path):
    first = worker.numbers(worker.run(10, tmp_path))
    written = (tmp_path / "log.jsonl").stat().st_mtime_ns, (tmp_path / "log.jsonl").read_text()
    again = worker.numbers(worker.run(10, tmp_path, resume=True))
    assert first == again and (tmp_path / "log.jsonl").read_text() == written[1]
    lines = [json.loads(line) for line in written[1].splitlines()]
    assert {"step", "loss", "images_per_second", "norm"} == set(lines[-1])


def test_other_settings_are_not_resumed(tmp_path):
    worker.run(5, tmp_path)
    with pytest.raises(ValueError, match=r"begun with other settings \(steps 5, now 10\)"):
        worker.run(10, tmp_path, resume=True)
    assert len(worker.run(10, tmp_path).lines) == 3  # without resume: begun again
    with pytest.raises(ValueError, match=r"about \{'rate': None\}, now \{'rate': 0.5\}"):
        worker.run(10, tmp_path, resume=True, about=0.5)


def test_ctrl_c_leaves_a_resumable_run(tmp_path):
    whole = worker.numbers(worker.run(12))
    original, calls = worker.TASK.loss, []

    def measure(params, model):
        calls.append(0)
        if len(calls) == 2:  # at step 4
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    schedule = Schedule(12, 16, measure_every=4, save_every=100)
    options = {"seed": 0, "measure": measure}
    arguments = (Task(worker.initial, original), worker.DATA, worker.OPTIMIZER, schedule)
    with pytest.raises(KeyboardInterrupt):
        train(*arguments, **options, keeping=Keeping(tmp_path))
    assert saved(tmp_path) == [4]
    found = train(*arguments, **options, keeping=Keeping(tmp_path, resume=True))
    assert worker.numbers(found)["digest"] == whole["digest"]


def test_the_command_goes_on_with_resume(tmp_path, monkeypatch, capsys):
    """Ctrl-C in a training run of `python -m experiments`; --resume ends with the same numbers."""
    pytest.importorskip("matplotlib")
    from experiments import registry
    from experiments.__main__ import main
    from experiments.page.report import Section

    stops = []

    def measure(params, model):
        if stops and stops.pop() == "now":
            os.kill(os.getpid(), signal.SIGINT)
        return worker.measure(params, model)

    def run(settings):
        folder = settings.runs / "little" / "only"
        found = worker.run(12, folder, settings.resume, settings.seed, measure=measure)
        section = Section("little", "Little", "One run.")
        section.exact("digest", None, worker.numbers(found)["digest"])
        return section

    monkeypatch.setattr(registry, "EXPERIMENTS", {"little": SimpleNamespace(PARTS=(), run=run)})

    def digest(out, *options):
        status = main(["--out", str(tmp_path / out), "--seed", "3", *options])  # the last counts
        results = tmp_path / out / "results.json"
        return status, json.loads(results.read_text())["claims"][0]["ours"] if not status else None

    whole = digest("whole")
    stops += ["later", "now", "later"]  # the last is of step 0
    assert digest("part") == (130, None)
    assert "--resume goes on from the last checkpoint" in capsys.readouterr().err
    left = json.loads((tmp_path / "part" / "results.json").read_text())
    assert left["claims"] == []  # what ended before the interruption: nothing
    assert saved(tmp_path / "part" / "runs" / "little" / "only") == [5]
    stops.clear()
    assert digest("part", "--resume") == whole
    assert digest("part", "--resume", "--seed", "4")[0] == 2
    assert "was begun with other settings (seed 3, now 4)" in capsys.readouterr().err


def test_wrong_sizes():
    data = np.zeros((10, 2), np.float32)
    task = Task(lambda key: (jnp.zeros(()), ()), lambda *a: (a[0], a[1]))
    with pytest.raises(ValueError, match="the batch size 16 exceeds the 10 rows"):
        train(task, data, optax.sgd(0.1), Schedule(1, 16), seed=0)
    with pytest.raises(ValueError, match="equally many rows"):
        train(task, (data, data[:5]), optax.sgd(0.1), Schedule(1, 8), seed=0)
    if len(jax.devices()) == 8:
        with pytest.raises(ValueError, match="must be divisible by 8 devices"):
            train(task, data, optax.sgd(0.1), Schedule(1, 4), seed=0)


def test_outputs_in_batches_equal_the_whole():
    images = np.random.default_rng(0).normal(size=(21, 4, 4, 3)).astype(np.float32)
    found = outputs(lambda scale, x: {"mean": scale * x.mean((1, 2))}, images, 8, jnp.float32(2))
    assert found["mean"] == pytest.approx(2 * images.mean((1, 2)), abs=1e-5)


@pytest.mark.slow
def test_a_killed_and_resumed_run_is_bit_identical(tmp_path):
    """SIGKILL after a checkpoint, then --resume: every bit and every line as if never killed."""
    steps = 2000
    options = {"steps": steps, "save_every": 250, "folder": str(tmp_path / "killed")}
    killed = start(**options)
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while not (checkpoints / "500").exists() and not (checkpoints / "750").exists():
        assert killed.poll() is None and time.monotonic() < deadline, "it ended too soon"
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and saved(tmp_path / "killed")[-1] < steps
    resumed = result(start(**options, resume=True))
    assert resumed == result(start(**options | {"folder": str(tmp_path / "whole")}))


def close(ours, theirs):
    """To 1e-5 relative: every array, and the losses on the way."""
    for a, b in zip(ours["values"], theirs["values"], strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)
    for line, other in zip(ours["lines"][1:], theirs["lines"][1:], strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.slow
def test_two_processes_and_eight_devices_agree_with_one():
    """After 20 steps in float32; the batch normalisation is over the whole batch."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pair = [start(steps=20, processes=2, process=i, port=port) for i in range(2)]
    alone = result(start(steps=20))
    found = [result(process) for process in pair]
    assert found[0]["digest"] == found[1]["digest"]
    close(found[0], alone)
    here = worker.numbers(worker.run(20))  # on as many devices as pytest has
    close(here, alone)
    assert len(jax.devices()) == 1 or here["digest"] != alone["digest"]  # another order of sums
