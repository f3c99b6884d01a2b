"""What `flattened` factors and counts, and that its verdicts follow the numbers."""

import numpy as np
import pytest

for package in ("flax", "optax", "orbax.checkpoint", "matplotlib", "skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

from flax import nnx  # noqa: E402

from convjax.models import counts_of  # noqa: E402
from experiments.findings import flattened  # noqa: E402
from experiments.findings.flattened import Measured  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402


def counts(arm):
    stages = flattened.ARMS[arm]
    model = nnx.eval_shape(lambda: flattened.network((8, 16), stages, nnx.Rngs(0), 3, 10))
    return counts_of(model, (1, 8, 8, 3))


def test_factoring_finds_a_planted_product():
    rng = np.random.default_rng(0)
    column, row, lateral = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), rng.normal(size=(6, 4))
    kernel = np.einsum("yf,xf,cf->yxcf", column, row, lateral).astype(np.float32)
    found, energy = flattened.factored(kernel)
    assert np.asarray(found) == pytest.approx(kernel, abs=1e-4)
    assert np.asarray(energy) == pytest.approx(np.ones(4), abs=1e-5)
    noise = rng.normal(size=kernel.shape).astype(np.float32)
    found, energy = flattened.factored(noise)
    left = ((noise - np.asarray(found)) ** 2).sum((0, 1, 2)) / (noise**2).sum((0, 1, 2))
    assert left == pytest.approx(1 - np.asarray(energy), abs=1e-4) and left.min() > 0.3


def test_random_filters_have_rank_one_and_the_norms():
    kernel = np.random.default_rng(0).normal(size=(5, 5, 3, 2)).astype(np.float32)
    made = flattened.random_rank_one(kernel, 1)
    best, _ = flattened.factored(kernel)
    norms = [(np.asarray(k) ** 2).sum((0, 1, 2)) for k in (made, best)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert np.asarray(flattened.factored(made)[1]) == pytest.approx(np.ones(2), abs=1e-4)


def test_the_first_layer_stays_full_and_the_others_shrink():
    """3x8 filters of 5x5, then 8 to 16 channels, and a dense layer of 16 x 10."""
    first, dense = 25 * 3 * 8, 160
    assert counts("full").weights == first + 25 * 8 * 16 + dense
    assert counts("lvh1").weights == first + 16 * (8 + 5 + 5) + dense
    assert counts("lvh2").weights == first + 16 * (8 + 5 + 5) + 16 * (16 + 5 + 5) + dense


def claims(monkeypatch, one, two, factored, renormalised, random, energy, profile="standard"):
    monkeypatch.setattr(flattened, "_figures", lambda *arguments: None)

    def full(seed):
        wobble = 0.002 * seed
        changed = {"space": 0.4, "factored": factored + wobble, "random": random + wobble / 2,
                   "renormalised": renormalised}  # fmt: skip
        return Measured(seed, 0.8, changed, np.full(2, energy + wobble), np.full(2, 0.2))

    found = {
        "full": [full(seed) for seed in range(3)],
        "lvh1": [Measured(s, one + 0.001 * s, {}, np.empty(0), np.empty(0)) for s in range(3)],
        "lvh2": [Measured(s, two + 0.001 * s, {}, np.empty(0), np.empty(0)) for s in range(3)],
    }
    each = {arm: counts(arm) for arm in found}
    page = flattened.section(Settings(profile), found, each, "Planted.")
    return {claim.claim: claim for claim in page.claims}


def verdict(found, words):
    (claim,) = [claim for text, claim in found.items() if words in text]
    return claim.verdict


FINDINGS = ("flattened, two stages", "flattened, one stage", "without retraining", "control: ",
            "measured anew", "than random ones", "nearer to products")  # fmt: skip


def test_verdicts_follow_planted_results(monkeypatch):
    planted = {"one": 0.79, "two": 0.8, "factored": 0.3, "renormalised": 0.5, "random": 0.2,
               "energy": 0.4}  # fmt: skip
    found = claims(monkeypatch, **planted)
    for words in (*FINDINGS, "survive the factoring"):
        assert verdict(found, words) == "reproduced", words
    for channels in ("3 to 96", "96 to 128", "128 to 256"):
        assert verdict(found, channels) == "exact"
    (sizes,) = [claim.ours for text, claim in found.items() if "96 to 128" in text]
    assert sizes == [307_200, 13_568, 31_232]
    assert verdict(claims(monkeypatch, **planted, profile="smoke"), "control: ") == "undecided"


def test_opposite_results_are_said_to_be_opposite(monkeypatch):
    found = claims(
        monkeypatch, one=0.7, two=0.7, factored=0.79, renormalised=0.795, random=0.799, energy=0.1
    )
    for words in FINDINGS:
        assert verdict(found, words) == "not reproduced", words
