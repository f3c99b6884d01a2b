"""What `kernel_rank` measures, and that its verdicts follow the numbers."""

import numpy as np
import pytest

for package in ("flax", "optax", "orbax.checkpoint", "matplotlib", "skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from flax import nnx  # noqa: E402

from experiments.findings import kernel_rank  # noqa: E402
from experiments.findings.kernel_rank import claims as rank_report  # noqa: E402
from experiments.findings.kernel_rank.claims import Fitted, Measured  # noqa: E402
from experiments.run import stacks  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Figures are drawn in the smoke run of the whole command."""
    monkeypatch.setattr(rank_report, "_figures", lambda *arguments: None)


def test_truncation_is_the_svd_s():
    kernel = np.random.default_rng(0).normal(size=(5, 5, 2, 3)).astype(np.float32)
    for rank in (1, 2):
        u, s, v = np.linalg.svd(kernel.transpose(2, 3, 0, 1))
        expected = np.einsum("iotr,ior,ioru->tuio", u[..., :rank], s[..., :rank], v[..., :rank, :])
        found = kernel_rank.truncated(jnp.asarray(kernel), rank)
        assert np.asarray(found) == pytest.approx(expected, abs=1e-4)


def test_the_null_keeps_weights_and_the_noise_keeps_size():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 2)).astype(np.float32)
    moved = kernel_rank.shuffled(kernel, 1)
    assert np.array_equal(np.sort(moved.reshape(9, -1), 0), np.sort(kernel.reshape(9, -1), 0))
    assert not np.array_equal(moved, kernel)
    noisy = kernel_rank.disturbed(kernel, 1)
    size = np.linalg.norm(noisy - kernel, axis=(0, 1))
    lost = np.linalg.norm(kernel - np.asarray(kernel_rank.truncated(kernel, 1)), axis=(0, 1))
    assert size == pytest.approx(lost, rel=1e-4)


def test_energy_of_known_filters():
    edge = np.array([[0, 1, 2], [-1, 0, 1], [-2, -1, 0]], np.float32)  # two equal singular values
    kernel = np.stack([edge, np.outer([1, 2, 1], [-1, 0, 1])], -1)[:, :, None].astype(np.float32)
    found = kernel_rank.energies({"layer": {"kernel": jnp.asarray(kernel), "bias": jnp.ones(2)}})
    assert found == pytest.approx(np.array([[0.75, 1, 1]]), abs=1e-5)


def test_drawn_gaussian_filters_agree_with_the_integral():
    exact = rank_report.gaussian_3x3()
    assert exact == pytest.approx([0.7480, 0.9702, 1], abs=1e-4)
    assert kernel_rank.gaussian(3, 20_000, 0) == pytest.approx(exact, abs=4e-3)


def test_filters_of_a_rank_one_network_are_of_rank_one():
    def build():
        return kernel_rank.network((4, 4), 5, True, nnx.Rngs(0), 3, 10)

    conv = jax.jit(lambda: nnx.state(build().stages[1].conv, nnx.Param))()
    kernel = conv["column"].get_value() * conv["row"].get_value()
    assert kernel.shape == (5, 5, 4, 4)
    assert np.linalg.matrix_rank(np.asarray(kernel).transpose(2, 3, 0, 1), tol=1e-5).max() == 1


def test_replaced_reaches_the_kernels_alone():
    params = {"a": jnp.ones((3, 3, 1, 2)), "b": jnp.ones(2), "c": jnp.ones((3, 3, 2, 2))}
    found = stacks.replaced(params, lambda layer, kernel: kernel * layer)
    assert [float(found[name].max()) for name in "abc"] == [0, 1, 1]
    assert len(stacks.kernels(params)) == 2


def test_a_separable_filter_misses_what_the_svd_leaves():
    names = ("Sobel", "diagonal edge")
    found = kernel_rank.fitted({name: kernel_rank.TARGETS[name] for name in names}, 0)
    assert found["Sobel"].error < 1e-3 and found["Sobel"].left < 1e-5
    assert found["diagonal edge"].error == pytest.approx(0.5, abs=1e-3)
    assert found["diagonal edge"].left == pytest.approx(0.5, abs=1e-5)


def measured(seed, energy, untrained, accuracy, one, two, noise):
    wobble = 0.002 * seed
    flat = {"trained": energy, "untrained": untrained, "shuffled": untrained + 0.01}
    each = {when: np.full((3, 5), value + wobble * (when == "trained"))
            for when, value in flat.items()}  # fmt: skip
    by_rank = {1: one, 2: two + wobble, 3: accuracy, 4: accuracy}
    return Measured(seed, accuracy, each, by_rank, np.full((3, 2), one), noise + wobble)


def claims(profile="standard", inside=0.79, **numbers):
    """The claims on planted networks of 5x5 filters."""
    found = {
        "5x5": [measured(seed, **numbers) for seed in range(3)],
        "separable": [Measured(s, inside + 0.001 * s, {}, {}, np.empty(0), 0.0) for s in range(3)],
    }
    random = {3: rank_report.gaussian_3x3(), 5: np.array([0.546, 0.823, 0.95, 0.99, 1])}
    fits = {
        name: Fitted(target, target, left, left)
        for (name, target), left in zip(
            kernel_rank.TARGETS.items(), (0.0, 0.0, 0.5, 0.1, 0.6), strict=True
        )
    }
    section = rank_report.section(Settings(profile), found, random, fits, "Planted.")
    return {claim.claim: claim for claim in section.claims}


def verdict(found, words):
    (claim,) = [claim for text, claim in found.items() if words in text]
    return claim.verdict


FINDINGS = (
    "nearer to separable",
    "control: than those",
    "null: than their own",
    "truncating all",
    "null: less than noise",
    "rank 2 suffices",
    "trained as columns",
    "made after training",
)


def test_verdicts_follow_planted_results():
    planted = {"energy": 0.7, "untrained": 0.55, "accuracy": 0.8, "one": 0.5, "two": 0.79,
               "noise": 0.3}  # fmt: skip
    found = claims(**planted)
    for words in (*FINDINGS, "drawn and integrated", "learns Sobel", "it misses just"):
        assert verdict(found, words) == "reproduced", words
    assert verdict(claims("smoke", **planted), "nearer to separable") == "undecided"


def test_opposite_results_are_said_to_be_opposite():
    found = claims(inside=0.6, energy=0.5, untrained=0.55, accuracy=0.8, one=0.81, two=0.6,
                   noise=0.9)  # fmt: skip
    for words in FINDINGS:
        assert verdict(found, words) == "not reproduced", words
