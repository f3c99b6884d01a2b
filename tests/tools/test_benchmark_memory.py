"""`python -m benchmarks memory`: it counts what a call takes beside its results, no more."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import memory as benchmark_memory
from benchmarks.harness import machine
from benchmarks.harness.prepare import Contender
from benchmarks.harness.table import choose, table

MIB = 1 << 20

reads_proc = pytest.mark.skipif(
    not pathlib.Path("/proc/self/clear_refs").exists(), reason="it reads Linux's /proc"
)


def contender(temporary, returned):
    """What writes so many MiB, and drops them, before it returns others."""

    def call():
        np.ones(temporary * MIB, np.uint8)
        return [np.ones(returned * MIB, np.uint8)]

    return Contender("fake", call, lambda results: results, lambda results: results)


@reads_proc
@pytest.mark.parametrize("temporary, returned, wanted", [(0, 40, 0), (40, 20, 20), (64, 0, 64)])
def test_temporary(temporary, returned, wanted):
    """What was dropped before the results were there may have held their bytes."""
    found = benchmark_memory.temporary(contender(temporary, returned))
    assert abs(found - wanted * MIB) < 2 * MIB


def test_exceeds():
    def exceeds(ours, lax):
        return benchmark_memory.exceeds({"convjax": ours, "lax": lax})

    assert exceeds(4 * MIB, 2 * MIB) and exceeds(2 * MIB, 0)
    assert not exceeds(3 * MIB, 2 * MIB) and not exceeds(MIB, 0)
    assert not exceeds(30 * MIB, 20 * MIB) and exceeds(31 * MIB, 20 * MIB)


@reads_proc
def test_the_script_starts_itself_with_blocks_mapped(tmp_path):
    words = ["--rows", "^3D 1x1x1$", "--only", "forward", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "memory", *words],
        capture_output=True, text=True, timeout=300, cwd=machine.ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    report = json.loads(path.read_text())
    assert report["environment"] == benchmark_memory.MAPPED
    (found,) = report["cells"]
    assert (found["row"], found["cell"]) == ("3D 1x1x1", "forward")
    # One matrix product on both sides, of 2 MiB, which are no copy's.
    assert found["asked"] == {"lax": 0, "convjax": 0}
    assert found["resident"]["convjax"] < 2 * MIB
    # The input of 2 x 16 x 32 x 32 x 16 and the result of 32 channels, in float32.
    assert found["copy"] == 2 * 16 * 32 * 32 * (16 + 32) * 4
    assert "resident: 0 of 1 above 1.5 times lax's" in done.stdout
    assert "copy of input and result: 0 of 1 cells" in done.stdout


def test_the_verdict():
    def cell(name, ours, lax):
        return {
            "row": name,
            "cell": "forward",
            "copy": 10 * MIB,
            "resident": {"convjax": ours * MIB, "lax": lax * MIB},
        }

    cells = [cell("a", 12, 2), cell("b", 13, 2), cell("c", 0, 40)]
    assert [benchmark_memory.over_a_copy(each) for each in cells] == [False, True, False]
    in_all, over = benchmark_memory.verdict(cells)
    assert "convjax 25.0 MiB, lax 44.0 MiB" in in_all
    assert "1 of 3 cells (b, forward)" in over


@reads_proc
def test_every_measurement_has_a_process_of_its_own():
    """Two of one program: nothing that the first one left can serve the second."""
    (row,) = choose(table(), "^dense 3x3 batch 1$")
    cells = list(benchmark_memory.all_measured([row, row], ["forward"], ["lax", "convjax"]))
    assert [cell["row"] for cell in cells] == [row.name] * 2
    assert all(cell["resident"].keys() == {"lax", "convjax"} for cell in cells)
    first, second = (cell["resident"]["convjax"] for cell in cells)
    assert abs(first - second) < MIB


def test_16_bits_are_counted_as_such():
    (row,) = choose(table(), "^dense 1x1 bfloat16$")
    found = benchmark_memory.input_and_result(row, "bfloat16")
    assert found == 8 * 56 * 56 * (64 + 256) * 2


def test_unknown_peers(capsys):
    words = ["--rows", "^3D 1x1x1$", "--peers", "nobody"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "memory", *words],
        capture_output=True, text=True, timeout=300, cwd=machine.ROOT,
    )  # fmt: skip
    assert done.returncode == 2 and "choose of lax" in done.stderr


def test_no_such_row(monkeypatch, capsys):
    assert benchmark_memory.main(["--rows", "nothing"]) == 2
    assert "no row matches" in capsys.readouterr().err


def test_only_on_cpus(monkeypatch, capsys):
    monkeypatch.setattr(benchmark_memory.jax, "default_backend", lambda: "gpu")
    assert benchmark_memory.main([]) == 2
    assert "JAX_PLATFORMS=cpu" in capsys.readouterr().err
