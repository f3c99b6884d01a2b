"""`python -m benchmarks networks` on a tiny network: what it compares, and when it refuses."""

import json
from typing import Any

import pytest

for package in ("flax", "optax", "skimage"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from flax import nnx  # noqa: E402

from benchmarks import networks as benchmark_networks  # noqa: E402
from convjax import models, nn  # noqa: E402
from convjax.models.registry import Network  # noqa: E402


class Tiny(nnx.Module):
    """A convolution, a depthwise one, a normalisation and a dense layer."""

    def __init__(self, *, width: int = 4, rngs: nnx.Rngs, **options: Any) -> None:
        own: dict[str, Any] = {**options, "rngs": rngs}
        self.first = nn.Conv(3, width, (3, 3), 2, **own)
        self.second = nn.DepthwiseConv(width, (3, 3), use_bias=False, **own)
        self.norm = nnx.BatchNorm(width, **own)
        self.dense = nnx.Linear(width, 5, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.dense(nnx.relu(self.norm(self.second(self.first(x)))).mean((1, 2)))


class Odd(nnx.Module):
    """Its convolution has no counterpart."""

    def __init__(self, *, rngs: nnx.Rngs, **options: Any) -> None:
        self.only = nn.FlattenedConv(3, 2, (3, 3), rngs=rngs)


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run the command with these words; its status and the folder it writes to."""
    monkeypatch.setitem(models.NETWORKS, "tiny", Network("tiny", Tiny, 8))
    monkeypatch.setitem(models.NETWORKS, "odd", Network("odd", Odd, 8))

    def run(*words: str):
        arguments = ["--warmup", "3", "--rounds", "1", "--batch", "4", "--out", str(tmp_path)]
        return benchmark_networks.main([*words, *arguments]), tmp_path

    return run


def test_the_twin_has_flax_s_convolutions_and_the_same_numbers():
    ours = Tiny(rngs=nnx.Rngs(0))
    twin = benchmark_networks.with_flax(ours)
    assert {type(twin.first), type(twin.second)} == {nnx.Conv} and type(ours.first) is nn.Conv
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    assert np.allclose(ours(x), twin(x), atol=1e-5)
    for mine, other in zip(*(jax.tree.leaves(nnx.state(m, nnx.Param)) for m in (ours, twin)),
                           strict=True):  # fmt: skip
        assert np.array_equal(mine, other)


def test_doubled_is_the_same_network_in_64_bits():
    ours = Tiny(rngs=nnx.Rngs(0))
    with jax.enable_x64(True):
        double = benchmark_networks.doubled(ours, Tiny(rngs=nnx.Rngs(1), param_dtype=jnp.float64))
        twin = benchmark_networks.with_flax(double)
        for model in (double, twin):
            params = jax.tree.leaves(nnx.state(model, nnx.Param))
            assert {p.dtype for p in params} == {np.dtype("float64")}
        for single, each in zip(jax.tree.leaves(nnx.state(ours, nnx.Param)), params, strict=True):
            assert np.array_equal(np.asarray(single, np.float64), each)


def test_a_trainer_goes_through_the_batches_and_leaves_its_model_alone():
    model = Tiny(rngs=nnx.Rngs(0))
    before = np.asarray(model.first.kernel[...])
    drawn = benchmark_networks.data((4, 8, 8, 3), 2)
    batches = [(jnp.asarray(x, jnp.float32), jnp.asarray(y)) for x, y in drawn]
    both = benchmark_networks.trainers(model, batches, 0.05)
    found = benchmark_networks.losses(both, 20)
    assert benchmark_networks.apart(found["convjax"], found["flax"]) < 1e-4
    assert found["convjax"][18] < found["convjax"][0] and found["convjax"][19] < found["convjax"][1]
    assert np.array_equal(before, model.first.kernel[...])
    assert not np.array_equal(before, both["convjax"].model().first.kernel[...])


def test_images_are_photographs_where_they_fit():
    (images, labels), _ = benchmark_networks.data((50, 16, 16, 3), 2)
    assert images.shape == (50, 16, 16, 3) and abs(images).max() <= 1
    means = [images[labels == label].mean() for label in range(5)]
    assert np.ptp(means) > 0.3  # a bright one and a dark one
    (noise, _), *_ = benchmark_networks.data((50, 16, 16, 16, 1), 1)
    assert noise.shape == (50, 16, 16, 16, 1) and abs(noise).max() > 2


def test_what_agrees_is_timed(command, capsys):
    status, folder = command("tiny", "width=6")
    assert status == 0, capsys.readouterr().err
    (path,) = folder.iterdir()
    found = json.loads(path.read_text())
    assert found["network"] == "tiny" and found["options"] == ["width=6"]
    assert found["relative differences"]["64 bits"] < 1e-12
    assert found["ms"]["convjax"] > 0 and found["flax/convjax"] > 0
    assert "64 bits: relative difference" in capsys.readouterr().out


def test_what_differs_is_not_timed(command, monkeypatch, capsys):
    flaxs = benchmark_networks.flaxs

    def wrong(layer):
        twin = flaxs(layer)
        twin.kernel[...] = twin.kernel[...] * 1.01  # which the normalisation nearly cancels
        return twin

    monkeypatch.setattr(benchmark_networks, "flaxs", wrong)
    status, folder = command("tiny")
    assert status == 1 and not list(folder.iterdir())
    assert "not timed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing",), "nothing is none of nin, alexnet"),
        (("tiny", "width=none"), "must be an integer"),
        (("tiny", "height=3"), "must be one of width, resolution"),
        (("odd",), "odd cannot be compared: Flax has no FlattenedConv"),
    ],
)
def test_what_cannot_be_compared_is_said(command, capsys, words, said):
    status, folder = command(*words)
    assert status == 2 and said in capsys.readouterr().err
    assert not list(folder.iterdir())
