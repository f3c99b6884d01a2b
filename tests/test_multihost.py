"""Several processes: convolutions on a mesh over them, the volume example, and how runs start."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

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
        return [out for out, _ in ended]


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
