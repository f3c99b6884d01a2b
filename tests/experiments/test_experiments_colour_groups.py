"""What `colour_groups` measures, and that its verdicts follow the numbers."""

import numpy as np
import pytest

for package in ("flax", "optax", "orbax.checkpoint", "matplotlib", "skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

from flax import nnx  # noqa: E402

from experiments.findings import colour_groups  # noqa: E402
from experiments.findings.colour_groups import Measured  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402


def test_chroma_of_grey_coloured_and_mixed_filters():
    pattern = np.random.default_rng(0).normal(size=(7, 7))
    grey = np.repeat(pattern[:, :, None], 3, axis=2)
    opponent = pattern[:, :, None] * [1, -1, 0]
    red = pattern[:, :, None] * [1, 0, 0]
    found = colour_groups.chroma(np.stack([grey, opponent, red], axis=-1))
    assert found == pytest.approx([0, 1, 2 / 3], abs=1e-12)


def test_separation_of_known_halves():
    assert colour_groups.separation(np.array([0.1, 0.2, 0.8, 0.9])) == 1
    assert colour_groups.separation(np.array([0.8, 0.9, 0.1, 0.2])) == 1
    assert colour_groups.separation(np.array([0.1, 0.9, 0.2, 0.8])) == 0
    # of four pairs three are larger: AUC 3/4
    assert colour_groups.separation(np.array([0.1, 0.3, 0.2, 0.4])) == pytest.approx(0.5)


def test_random_halves_are_halves_of_the_same_filters():
    values = np.arange(8) / 8
    drawn = colour_groups.random_halves(values, 0)
    assert drawn.shape == (colour_groups.DRAWS,) and drawn.min() == 0 and len(set(drawn)) > 4
    # the mean of |2 AUC - 1| over all 70 halves of eight values is 0.35
    assert drawn.mean() == pytest.approx(0.35, abs=0.03)


def test_only_the_second_and_fourth_layer_have_groups():
    model = nnx.eval_shape(lambda: colour_groups.network((8, 4, 6, 4), 2, nnx.Rngs(0), 3, 10))
    shapes = [stage.conv.kernel.shape for stage in model.stages]
    assert shapes == [(7, 7, 3, 8), (5, 5, 4, 4), (3, 3, 4, 6), (3, 3, 3, 4)]


def test_the_mosaic_has_every_filter_in_its_half():
    filters = np.zeros((7, 7, 3, 8))
    filters[3, 3, 0] = np.arange(1, 9)
    sheet = colour_groups.mosaic(filters)
    red = (sheet[..., 0] == 1) & (sheet[..., 1] == 0.5)
    middle = len(sheet) // 2
    assert red.sum() == 8 and red[:middle].sum() == 4


def filters(fractions, seed):
    """Filters with these chroma fractions."""
    rng = np.random.default_rng(seed)
    pattern = rng.normal(size=(7, 7, 1, len(fractions)))
    grey, colour = np.ones((3, 1)) / np.sqrt(3), np.array([[1.0], [-1], [0]]) / np.sqrt(2)
    return pattern * (np.sqrt(1 - np.array(fractions)) * grey + np.sqrt(fractions) * colour)


def claims(monkeypatch, sorted_, profile="standard"):
    monkeypatch.setattr(colour_groups, "_figures", lambda *arguments: None)

    def network(seed, halves):
        rng = np.random.default_rng(seed)
        fractions = np.linspace(0.05, 0.95, 12) + 0.02 * rng.normal(size=12)
        fractions = np.clip(fractions, 0.01, 0.99)
        fractions = np.sort(fractions) if halves else np.sort(fractions)[_EVEN]
        before = filters(np.linspace(0.6, 0.7, 12)[_EVEN], seed)
        return Measured(seed, 0.8 + 0.001 * seed * halves, before, filters(fractions, seed))

    found = {
        "two groups": [network(seed, sorted_) for seed in range(3)],
        "one group": [network(10 + seed, not sorted_) for seed in range(3)],
    }
    page = colour_groups.section(Settings(profile), found, "Planted.")
    return {claim.claim: claim for claim in page.claims}


_EVEN = [0, 2, 4, 7, 9, 11, 1, 3, 5, 6, 8, 10]  # halves that are alike


def verdict(found, words):
    (claim,) = [claim for text, claim in found.items() if words in text]
    return claim.verdict


def test_verdicts_follow_planted_filters(monkeypatch):
    found = claims(monkeypatch, sorted_=True)
    for words in ("2/3", "differ in colour", "97.5th", "with one group", "before training",
                  "greyer or more", "accuracy of one"):  # fmt: skip
        assert verdict(found, words) == "reproduced", words
    assert verdict(claims(monkeypatch, True, "smoke"), "differ in colour") == "undecided"
    mixed = claims(monkeypatch, sorted_=False)
    for words in ("differ in colour", "97.5th", "with one group"):
        assert verdict(mixed, words) == "not reproduced", words
