"""`python -m benchmarks models`: what it times, what it compares, and when it refuses."""

import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import models as benchmark_models
from benchmarks.harness import models

SMALL = ["--batch", "2", "--size", "8", "--rounds", "3", "--limit", "1"]


def tiny(x):
    """A depthwise layer and a sum over space: a whole model in two lines."""
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 1, models.CLASSES * 3))

    def apply(params, x, training):
        y = jax.lax.conv_general_dilated(
            x,
            params,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=3,
        )
        return y.reshape(*y.shape[:3], 3, models.CLASSES).sum((1, 2, 3))

    return models.Model(kernel, apply)


@pytest.fixture(autouse=True)
def only_the_tiny_one(monkeypatch):
    monkeypatch.setattr(models, "MODELS", {"tiny": tiny})


def test_every_way_and_role_is_timed(tmp_path, capsys):
    assert benchmark_models.main([*SMALL, "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_text())["models"]["tiny"]
    for role in ("forward", "training"):
        assert {"lax", "convjax", "convjax.jit"} <= set(found[role])
        assert all(cell["ms"] > 0 and cell["difference"] < 1e-5 for cell in found[role].values())
    assert str(path) in capsys.readouterr().out


def test_what_differs_is_not_timed(monkeypatch, tmp_path, capsys):
    wrong = lambda function: lambda params, x: 2 * function(params, x)  # noqa: E731
    monkeypatch.setattr(benchmark_models.convjax, "accelerate", wrong)
    assert benchmark_models.main([*SMALL, "--out", str(tmp_path)]) == 1
    assert "tiny: not the numbers of lax: convjax, forward, by 1.0e+00" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_unknown_and_absent_models(monkeypatch, tmp_path, capsys):
    assert benchmark_models.main(["huge"]) == 2
    assert "huge: none of tiny" in capsys.readouterr().err

    def absent(x):
        raise ImportError("no module named lego")

    monkeypatch.setitem(models.MODELS, "tiny", absent)
    assert benchmark_models.main([*SMALL, "--out", str(tmp_path)]) == 2
    assert "tiny is left out: no module named lego" in capsys.readouterr().err


def test_the_distance_of_results():
    wanted = (jnp.array([3.0, 0.0]), jnp.array(4.0))
    assert benchmark_models.difference(wanted, wanted) == 0
    assert benchmark_models.difference((wanted[0], wanted[1] + 1), wanted) == 0.2
