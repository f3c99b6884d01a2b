"""`regulariser`: its arms, its slopes, and verdicts that follow planted accuracies."""

import dataclasses

import numpy as np
import pytest

for package in ("flax", "optax", "orbax.checkpoint", "matplotlib", "skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

from flax import nnx  # noqa: E402

from convjax.models import counts_of  # noqa: E402
from experiments.findings import regulariser  # noqa: E402
from experiments.findings.filter_groups import network_in_network  # noqa: E402
from experiments.findings.regulariser import ARMS, FEW, MANY, PLANS, Arm, Measured  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402


def planted(fall_few, fall_many, cost):
    """Networks of three seeds: gaps that fall by so much per doubling, and a cost of 8 groups."""
    found = {}
    for arm in ARMS:
        few = arm.pictures == FEW
        doublings = np.log2(arm.groups or 1)
        each = []
        for seed in range(3):
            noise = 0.001 * np.random.default_rng((seed, len(found))).normal()
            gap = (0.3 - fall_few * doublings if few else 0.1 - fall_many * doublings) + noise
            test = (0.6 if few else 0.8) - (cost if arm.groups == 8 else 0) + 0.01 * seed
            each.append(Measured(seed, test + gap, test, noise, 100 // (arm.groups or 8)))
        found[arm] = each
    return found


def verdicts(found, profile="standard"):
    section = regulariser.report(Settings(profile), PLANS["standard"], found)
    assert section.figures
    return {claim.claim: claim for claim in section.claims}


def row(found, words):
    (claim,) = [claim for text, claim in found.items() if words in text]
    return claim


@pytest.fixture(autouse=True)
def no_charts(monkeypatch):
    """Drawn in the smoke run of the whole command."""
    monkeypatch.setattr(regulariser, "chart", lambda label, *rest: label)


def test_slopes_are_per_doubling():
    found = planted(0.02, 0.01, 0)
    assert regulariser.slopes(found, FEW, "gap") == pytest.approx([-0.02] * 3, abs=0.003)
    assert regulariser.slopes(found, MANY, "gap") == pytest.approx([-0.01] * 3, abs=0.003)
    del found[Arm(FEW, 8)], found[Arm(FEW, 2)]
    assert regulariser.slopes(found, FEW, "gap") == pytest.approx([-0.02] * 3, abs=0.003)


def test_a_regulariser_is_found():
    found = verdicts(planted(0.03, 0.005, cost=0.05))
    for words in (
        "falls with more groups",
        "falls more than with 4,000",
        "larger gap",
        "null: before training",
        "500 pictures: test accuracy of 2",
        "smaller gap than",
        "500 pictures: test accuracy of 8",
        "4,000 pictures: test accuracy of 8",
    ):
        assert row(found, words).verdict == "reproduced", words  # fmt: skip
    assert row(found, "higher test accuracy").verdict == "not reproduced"
    published = row(found, "4,000 pictures: test accuracy of 8")
    assert (published.paper, published.ours) == (-0.0044, pytest.approx(-0.05))
    assert row(found, "500 pictures: test accuracy of 8").paper is None


def test_groups_that_do_nothing_are_said_to_do_nothing():
    found = verdicts(planted(-0.02, 0.01, cost=-0.05))
    for words in ("falls with more groups", "falls more than", "test accuracy of 8"):
        rows = [claim for text, claim in found.items() if words in text]
        assert rows and {claim.verdict for claim in rows} == {"not reproduced"}, words
    smoke = verdicts(planted(0.03, 0.005, cost=0.05), "smoke")
    assert {claim.verdict for claim in smoke.values()} == {"undecided"}


@pytest.mark.parametrize("profile", PLANS)
def test_arms_differ_in_what_they_compare_alone(profile):
    """As many steps with few pictures; the narrow network has the parameters of most groups."""
    plan = PLANS[profile]
    few = plan.of(FEW)
    assert few.train == plan.few < plan.train and plan.of(MANY) == plan
    assert few.steps == pytest.approx(plan.steps, rel=0.02)
    changed = {"train", "epochs"}
    same = [f.name for f in dataclasses.fields(plan) if f.name not in changed]
    assert all(getattr(few, name) == getattr(plan, name) for name in same)

    def parameters(features, groups):
        model = nnx.eval_shape(lambda: network_in_network(features, groups, nnx.Rngs(0), 3, 10))
        return counts_of(model, (1, plan.size, plan.size, 3)).parameters("deep_roots")

    grouped = parameters(plan.features, max(plan.groups))
    if profile != "smoke":
        assert parameters(plan.narrow, 1) == pytest.approx(grouped, rel=0.1)
