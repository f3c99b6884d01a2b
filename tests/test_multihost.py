"""Several processes: convolutions on a mesh over them, the volume example, and how runs start."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import compilation
import jax
import multihost_worker as worker
import pytest

ROOT = Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def processes(commands):
    """Each (arguments, environment) as a Python process on CPUs; none outlives the block."""
    own = {name: text for name, text in os.environ.items() if name != "XLA_FLAGS"}
    own |= {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [
        subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=own | environment, **pipes)
        for arguments, environment in commands
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def outputs(commands, seconds=300):
    """What each process prints; all must succeed."""
    with processes(commands) as running:
        ended = [process.communicate(timeout=seconds) for process in running]
        for process, (_, error) in zip(running, ended, strict=True):
            assert process.returncode == 0, error
        return [_without_gloo(out) for out, _ in ended]


def _without_gloo(text):
    return "".join(line for line in text.splitlines(True) if not line.startswith("[Gloo]"))


@pytest.mark.slow
def test_two_processes_convolve_as_one_device_does():
    """Forward and both gradients, on integers: every bit, in layouts that need halos and sums."""
    port = free_port()
    commands = [
        ([worker.__file__, json.dumps({"port": port, "processes": 2, "process": process})], {})
        for process in range(2)
    ]
    found = [json.loads(out.splitlines()[-1]) for out in outputs(commands)]
    wanted = {kind: worker.digest(jax.jit(worker.program(kind))(worker.X, worker.KERNEL))
              for kind in worker.KINDS}  # fmt: skip
    assert len(set(wanted.values())) == len(worker.KINDS)
    for each in found:
        assert len(each) == len(worker.KINDS) * len(worker.LAYOUTS)
        assert each == {case: wanted[case.partition(":")[0]] for case in each}


# ---- the volume example -------------------------------------------------------------------------

VOLUME = ["-m", "examples.volume", "--size", "16", "--features", "3", "--levels", "1"]


def simulated(devices):
    count = f"--xla_force_host_platform_device_count={devices}"
    return {"XLA_FLAGS": f"{count} {compilation.flags(compilation.HASTY)}"}


def slurm(process):
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


def open_mpi(process):
    return {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(process),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(process),
    }


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [slurm, open_mpi])
def test_a_run_of_two_processes_goes_on_in_one(launcher, tmp_path):
    """Both are started without addresses, as the launcher does; the losses are of one long run."""
    pytest.importorskip("orbax.checkpoint", reason="needs the `experiments` extra")
    pytest.importorskip("optax", reason="needs the `experiments` extra")
    from examples import volume

    parts, whole = tmp_path / "parts", tmp_path / "whole"
    port = {"JAX_COORDINATOR_PORT": str(free_port())}
    first = [*VOLUME, "--out", str(parts), "--steps", "2"]
    said = outputs([(first, launcher(i) | port | simulated(2)) for i in range(2)])
    assert said[0].startswith("2 processes, 2 x 2 devices (data x depth), from step 0\nstep 1: ")
    assert said[1] == ""
    before = losses(parts)
    again = [*VOLUME, "--out", str(parts), "--steps", "4", "--depth", "4", "--batch", "2"]
    (said,) = outputs([([*again, "--resume"], simulated(4))])
    assert said.startswith("1 processes, 1 x 4 devices (data x depth), from step 2\nstep 3: ")
    after = losses(parts)
    assert after[:2] == before and len(after) == 4
    settings = volume.Settings(size=16, features=3, levels=1)
    volume.train(settings, 4, whole)  # on as many devices as pytest has
    assert after == pytest.approx(losses(whole), rel=1e-5)
    assert len(set(after)) == 4 and after[3] < after[0]
