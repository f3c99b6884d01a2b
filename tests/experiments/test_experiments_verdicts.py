"""The rules by which repeated measurements become verdicts."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the `experiments` extra")

from experiments.page.verdicts import Estimate, above, below, equal, estimate  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402

STANDARD, SMOKE = Settings("standard"), Settings("smoke")


def test_the_interval_is_student_s():
    mean, half = estimate([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.302653 * 1 / np.sqrt(3), rel=1e-5)
    assert estimate([4.0]) == (4.0, None)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Estimate(0.3, 0.2), "reproduced"),
        (Estimate(0.3, 0.4), "undecided"),
        (Estimate(-0.3, 0.2), "not reproduced"),
        (Estimate(0.3, None), "undecided"),
        (Estimate(float("nan"), 0.1), "undecided"),
    ],
)
def test_above_and_its_mirror(found, verdict):
    assert above(STANDARD, found).verdict == verdict
    assert below(STANDARD, Estimate(-found.mean, found.half)).verdict == verdict
    assert above(STANDARD, found._replace(mean=found.mean + 5), 5).verdict == verdict
    assert above(SMOKE, found).verdict == "undecided"
    assert "95 % interval of N lies above 0" in above(STANDARD, found, what="N").rule


def test_within_two_bounds():
    verdicts = [
        equal(STANDARD, Estimate(mean, 0.1), -0.2, 0.2, "it").verdict for mean in (0, 0.15, 0.5)
    ]
    assert verdicts == ["reproduced", "undecided", "not reproduced"]
    assert equal(SMOKE, Estimate(0, 0.1), -1, 1, "it").verdict == "undecided"
