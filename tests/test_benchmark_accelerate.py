"""`scripts/benchmark_accelerate.py` on tiny models: what it compares, and when it refuses."""

import json
import sys

import benchmark_accelerate
import jax.numpy as jnp
import pytest

SMALL = ["--batch", "2", "--size", "8", "--width", "4", "--rounds", "3", "--limit", "1"]


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["benchmark_accelerate", *words, *SMALL])
    return benchmark_accelerate.main()


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


def test_apart():
    wanted = (jnp.array([1.0, -4.0]), jnp.array(2.0))
    assert benchmark_accelerate.apart(wanted, wanted) == 0
    assert benchmark_accelerate.apart((wanted[0] + 1, wanted[1]), wanted) == 0.25
