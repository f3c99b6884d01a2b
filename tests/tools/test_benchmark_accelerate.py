"""`python -m benchmarks accelerate` on tiny models: what it compares, and when it refuses."""

import json

import jax.numpy as jnp
import pytest

from benchmarks import __main__
from benchmarks import accelerate as benchmark_accelerate
from benchmarks.harness import command

SMALL = ["--batch", "2", "--size", "8", "--width", "4", "--rounds", "3", "--limit", "1"]


def run(monkeypatch, *words):
    return benchmark_accelerate.main([*words, *SMALL])


def test_a_library_is_timed(monkeypatch, tmp_path, capsys):
    pytest.importorskip("flax")
    assert run(monkeypatch, "flax_nnx", "--out", str(tmp_path)) == 0
    (path,) = tmp_path.iterdir()
    report = json.loads(path.read_text())
    found = report["libraries"]["flax_nnx"]
    assert set(found["ms"]) == {"as it is", "accelerated"} and min(found["ms"].values()) > 0
    assert found["relative difference"] <= 1e-3 and report["shape"] == [2, 8, 8, 4]
    assert str(path) in capsys.readouterr().out


def test_what_differs_is_not_timed(monkeypatch, tmp_path, capsys):
    pytest.importorskip("flax")
    wrong = lambda apply: lambda params, x: 2 * apply(params, x)  # noqa: E731
    monkeypatch.setattr(benchmark_accelerate.convjax, "accelerate", wrong)
    assert run(monkeypatch, "flax_linen", "--out", str(tmp_path)) == 1
    assert "flax_linen: apart by 3.0e+00" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_absent_and_unknown_libraries(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark_accelerate, "there", lambda name: False)
    assert run(monkeypatch, "--out", str(tmp_path)) == 2
    assert "haiku is left out: it is not installed" in capsys.readouterr().err
    assert run(monkeypatch, "torch") == 2
    assert "torch: none of flax_linen, flax_nnx, equinox" in capsys.readouterr().err


def test_the_difference_is_relative_to_the_largest_value():
    wanted = (jnp.array([1.0, -4.0]), jnp.array(2.0))
    assert command.difference(wanted, wanted) == 0
    assert command.difference((wanted[0] + 1, wanted[1]), wanted) == 0.25


def test_the_commands(capsys):
    assert __main__.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"python -m benchmarks {name} " in said for name in __main__.COMMANDS)
    assert __main__.main(["times"]) == 2
    assert "times is none of layers, memory" in capsys.readouterr().err
