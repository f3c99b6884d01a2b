"""`--busy`: other processes compute while something is timed, and none of them outlives it."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import convjax
from benchmarks import layers
from benchmarks.harness import busy, machine, results, timing
from benchmarks.harness.rows import forward

TINY = [forward("dense", "dense", 2, (6, 5), 3, 4, (3, 3))]

on_linux = pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="reads /proc")


def runs(pid):
    """Whether there is such a process, and it has not ended."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def seconds(pid):
    """Of processor time."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until(holds, limit_s=30.0):
    """Whether it comes to hold."""
    end = time.monotonic() + limit_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


@on_linux
def test_the_processes_compute_and_are_gone_afterwards():
    with busy.busy(2) as pids:
        assert len(set(pids)) == 2 and all(map(runs, pids))
        assert all(until(lambda pid=pid: seconds(pid) > 0.1) for pid in pids)
    assert not any(map(runs, pids))


@on_linux
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_they_are_gone_after_an_error(error):
    with pytest.raises(error), busy.busy(1) as pids:
        raise error
    assert not any(map(runs, pids))


@on_linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_they_are_gone_after_a_signal(number):
    """Of the process that started them, which has no time to stop them after two of these."""
    program = (
        "import signal, time\n"
        "from benchmarks.harness.busy import busy\n"
        # a shell starts what runs in its background with this signal ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with busy(1) as pids:\n"
        "    print(*pids, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=machine.ROOT,
    ) as parent:  # fmt: skip
        (pid,) = map(int, parent.stdout.readline().split())
        assert runs(pid)
        parent.send_signal(number)
        assert parent.wait(30) != 0
    assert until(lambda: not runs(pid))


def test_nothing_is_started_without_it(monkeypatch):
    monkeypatch.setattr(busy.subprocess, "Popen", lambda *_, **__: pytest.fail("it was started"))
    with busy.busy(0) as pids:
        assert pids == []
    assert len(timing.interleaved({"a": timing.Timed(int, abs)}, 3, limit_s=0.01)["a"]) == 3


@on_linux
def test_the_processes_run_while_samples_are_taken():
    started = []

    def call():
        children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        started.append({pid for pid in map(int, children) if runs(pid)})

    others = machine.Others()
    timing.interleaved({"a": timing.Timed(call, lambda _: None)}, 3, limit_s=0.1, busy_cores=1)
    assert all(started) and not any(map(runs, started[-1]))
    mine = sum(os.times()[2:4])
    assert mine > 0.05  # they count as this process's, and not as the others'
    assert others.cores() is not None


def test_the_name_and_the_head_of_a_file_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr(layers, "table", lambda: TINY)
    fixed = ["--peers", "lax,convjax", "--rounds", "3", "--limit", "0.1", "--only", "forward"]
    assert layers.main([*fixed, "--busy", "1", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    assert path.name.endswith(f"-float32-jax-{layers.jax.__version__}-busy1.csv")
    assert results.load(path).header["busy cores"] == "1, by processes that compute"
    assert layers.main([*fixed, "--out", str(tmp_path)]) == 0
    (idle,) = set(tmp_path.iterdir()) - {path}
    assert "busy" not in idle.name and "busy cores" not in results.load(idle).header


def test_the_name_and_the_head_of_a_file_say_that_memory_is_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(layers, "table", lambda: TINY)
    fixed = ["--peers", "lax,convjax", "--rounds", "3", "--limit", "0.1", "--only", "forward"]
    monkeypatch.setattr(convjax, "keep_memory", lambda: True)
    assert layers.main([*fixed, "--keep-memory", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-keep-memory.csv")
    assert results.load(path).header["freed memory"] == "kept, by convjax.keep_memory"
    monkeypatch.setattr(convjax, "keep_memory", lambda: False)
    assert layers.main([*fixed, "--keep-memory", "--out", str(tmp_path)]) == 2
    assert "leave out --keep-memory" in capsys.readouterr().err


def test_a_number_of_cores(capsys):
    with pytest.raises(SystemExit):
        layers.parser().parse_args(["--busy", "-1"])
    assert "a number of cores" in capsys.readouterr().err
