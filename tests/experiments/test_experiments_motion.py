"""What `motion` and `reductions` measure: videos, counts, and what follows from numbers."""

import numpy as np
import pytest

for package in ("flax", "optax", "orbax.checkpoint", "matplotlib", "skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

from experiments.findings import motion, reductions  # noqa: E402
from experiments.page.report import Section  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402

STANDARD = Settings("standard")


def moving(view, noise=0.0):
    split = motion.moving(5, 12, noise, view, np.random.default_rng(0))
    return split.images[..., 0].reshape(5, 4, motion.FRAMES, 12, 12), split.labels


def verdicts(section):
    return [claim.verdict for claim in section.claims]


def test_shapes_move_as_their_labels_say():
    found, labels = moving("all")
    assert labels.tolist() == list(range(4)) * 5
    for n in range(5):
        speeds = set()
        for video, step in zip(found[n], ((0, -1), (0, 1), (-1, 0), (1, 0)), strict=True):
            speeds.add(next(
                speed for speed in (1, 2)
                if all(np.array_equal(np.roll(a, speed * np.array(step), (0, 1)), b)
                       for a, b in zip(video, video[1:], strict=False))
            ))  # fmt: skip
        assert len(speeds) == 1


def test_one_frame_says_nothing_and_shuffled_ones_only_the_axis():
    noisy, _ = moving("all", 0.5)
    assert (noisy[:, :1, motion.MIDDLE] == noisy[:, :, motion.MIDDLE]).all()
    middle, _ = moving("middle", 0.5)
    assert (middle == middle[:, :1, :1]).all()
    assert np.array_equal(middle[:, 0, 0], noisy[:, 0, motion.MIDDLE])
    shuffled, _ = moving("shuffled", 0.5)
    assert np.array_equal(shuffled[:, 0], shuffled[:, 1])
    assert np.array_equal(shuffled[:, 2], shuffled[:, 3])
    assert np.array_equal(np.sort(shuffled, 2), np.sort(noisy, 2))
    assert not np.array_equal(shuffled, noisy)


def test_claims_on_motion_follow_the_numbers():
    spread = np.array([0, 0.01, 0.02])
    accuracy = {arm: 0.6 + spread for arm in ("3-D", "2-D", "2-D, wide")}
    accuracy["3-D"] = 0.8 + 0.9 * spread
    accuracy |= {"2-D, middle frame": np.full(3, 0.25), "2-D, shuffled": np.full(3, 0.45)}
    untrained = {arm: np.full(3, 0.25) for arm in accuracy}
    counted = {arm: (5_774, 9) for arm in accuracy} | {"2-D": (5_780, 9)}
    section = Section("motion", "", "")
    motion.claims(section, STANDARD, accuracy, untrained, counted)
    assert verdicts(section) == ["exact", *["reproduced"] * 4, "exact", "exact"]
    accuracy["2-D"], accuracy["2-D, shuffled"] = accuracy["3-D"] + 0.1 - spread, np.full(3, 0.51)
    accuracy["2-D, middle frame"], counted["2-D"] = np.full(3, 0.26), (6_000, 9)
    section = Section("motion", "", "")
    motion.claims(section, STANDARD, accuracy, untrained, counted)
    no, yes = "not reproduced", "reproduced"
    assert verdicts(section) == [no, no, yes, yes, yes, no, no]


def test_weights_of_a_module_are_those_of_the_paper():
    """Module 3a of GoogLeNet, added up by hand."""
    row = (64, 96, 128, 16, 32, 32)
    assert [reductions.arithmetic(192, row, r) for r in (True, False)] == [163_328, 387_072]


def test_claims_on_reductions_follow_the_numbers():
    spread = np.array([0, 0.005, 0.01])
    accuracy = {"reduced": 0.71 + spread, "naive": 0.712 + 0.9 * spread,
                "naive, narrow": 0.6 + 0.9 * spread}  # fmt: skip
    macs = {"reduced": 100, "naive": 430, "naive, narrow": 105}
    times = {"reduced": np.array([1, 1.1, 1.0]), "naive": np.array([3, 3.1, 3.2])}

    def found():
        section = Section("reductions", "", "")
        reductions.trained_claims(section, STANDARD, accuracy, macs, times, np.zeros(3) + spread)
        return verdicts(section)

    yes, no = "reproduced", "not reproduced"
    assert found() == ["exact", yes, "exact", yes, yes, yes]
    accuracy["reduced"] = 0.5 + spread
    macs |= {"naive": 600, "naive, narrow": 120}
    times["naive"] = times["reduced"] / 2
    assert found() == [no, no, no, no, yes, no]
