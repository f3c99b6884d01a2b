"""What `depthwise_separable` builds and times, and that its verdicts follow the numbers."""

import numpy as np
import pytest

for package in ("flax", "optax", "orbax.checkpoint", "matplotlib", "skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

from flax import nnx  # noqa: E402

from convjax.models import counts_of  # noqa: E402
from experiments.findings import depthwise_separable  # noqa: E402
from experiments.page.report import Section  # noqa: E402
from experiments.run.measure import milliseconds  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402

FEATURES = (16, 24, 32)


def counts(arm, features=FEATURES):
    build = depthwise_separable.stack
    model = nnx.eval_shape(lambda: build(features, arm, nnx.Rngs(0), 3, 10))
    return counts_of(model, (1, 16, 16, 3))


def test_the_arms_multiply_what_their_formulas_say():
    """By layer: pixels after the stride times weights; the depthwise stage has the stride."""
    stem, dense = 27 * 16 * 256, 32 * 10
    full = stem + dense + 9 * 16 * 24 * 256 + 9 * 24 * 32 * 64
    separable = stem + dense + (9 * 16 + 16 * 24) * 256 + (9 * 24 + 24 * 32) * 64
    assert counts("full").macs() == full
    assert counts("separable").macs() == counts("relu").macs() == separable
    assert counts("pointwise").macs() == stem + dense + 16 * 24 * 256 + 24 * 32 * 64


def test_the_widened_network_has_the_full_one_s_parameters():
    features = depthwise_separable.widened(FEATURES, 3, 10)
    assert all(wide > narrow for wide, narrow in zip(features, FEATURES, strict=True))
    ratio = counts("wide", features).parameters() / counts("full").parameters()
    assert ratio == pytest.approx(1, abs=0.1)


def test_only_the_arm_with_relu_has_it_between():
    def relus(arm):
        build = depthwise_separable.stack
        model = nnx.eval_shape(lambda: build((4, 4), arm, nnx.Rngs(0), 3, 10))
        return [stage.relu for stage in model.stages]

    assert relus("separable") == [True, False, True]
    assert relus("relu") == [True, True, True]


def claims(accuracy, times, profile="standard"):
    page = Section("depthwise_separable", "", "")
    accuracy = {arm: np.array(values) for arm, values in accuracy.items()}
    each = {arm: counts(arm) for arm in accuracy}
    untrained = np.full(3, 0.1)
    depthwise_separable.claims(page, Settings(profile), accuracy, untrained, each, times)
    return {claim.claim: claim for claim in page.claims}


def verdict(found, words):
    (claim,) = [claim for text, claim in found.items() if words in text]
    return claim.verdict


PLANTED = {
    "full": [0.80, 0.81, 0.82],
    "separable": [0.79, 0.80, 0.815],
    "relu": [0.75, 0.77, 0.77],
    "wide": [0.83, 0.85, 0.85],
    "pointwise": [0.5, 0.52, 0.51],
}


def test_verdicts_follow_planted_results():
    slow = {"full": np.array([4.0, 4.1, 3.9]), "separable": np.array([2.0, 2.0, 2.0]),
            "wide": np.array([9.0, 9.1, 9.2])}  # fmt: skip
    found = claims(PLANTED, {"inference": slow})
    for words in ("same width", "widened to the parameters", "No ReLU", "1×1 convolutions only",
                  "before training", "falls by less", "takes longer"):  # fmt: skip
        assert verdict(found, words) == "reproduced", words
    (time,) = [claim for text, claim in found.items() if "falls by less" in text]
    assert time.ours == pytest.approx(2.0, abs=0.01) and 0 < time.uncertainty < 0.2
    assert "2 (2 to 2)" in time.why


def test_opposite_results_are_said_to_be_opposite():
    other = {**PLANTED, "separable": [0.70, 0.72, 0.71], "wide": [0.77, 0.77, 0.78]}
    fast = {"full": np.array([90.0, 91, 92]), "separable": np.ones(3), "wide": 40 * np.ones(3)}
    found = claims(other, {"inference": fast})
    for words in ("same width", "widened to the parameters", "No ReLU", "falls by less",
                  "takes longer"):  # fmt: skip
        assert verdict(found, words) == "not reproduced", words
    assert verdict(claims(other, {}, "smoke"), "No ReLU") == "undecided"


def test_programs_are_timed_in_milliseconds():
    calls = []
    found = milliseconds({name: lambda n=name: calls.append(n) for name in "ab"}, rounds=2)
    assert {name: len(times) for name, times in found.items()} == {"a": 2, "b": 2}
    assert {"a", "b"} == set(calls) and max(found["a"]) < 1000
