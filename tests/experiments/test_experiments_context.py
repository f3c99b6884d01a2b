"""What `context` measures: the task's labels and distances, and what follows from numbers."""

import numpy as np
import pytest

for package in ("flax", "optax", "orbax.checkpoint", "matplotlib", "skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

from experiments.findings import context  # noqa: E402
from experiments.findings.context import pictures  # noqa: E402
from experiments.page.report import Section  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402

STANDARD = Settings("standard")
PLAN = context.PLANS["smoke"]


def test_labels_are_the_colour_of_the_nearest_flag():
    dataset = pictures.flags(STANDARD, PLAN, 0)
    for image, label in zip(*dataset.train, strict=True):
        planted = np.argwhere(image.max(-1) > 0.5)
        assert len(planted) in (1, 2)
        colour = image[tuple(planted.T)].argmax(-1)
        for pixel, said in np.ndenumerate(label):
            steps = np.abs(planted - pixel).max(1)
            assert said in colour[steps == steps.min()]


def test_near_flags_only():
    near, far = (pictures.flags(STANDARD, PLAN, 0, near=near) for near in (True, False))
    steps = pictures.to_flag(near.train.images)
    assert near.classes == 4 and far.classes == 3
    expected = np.where(steps > pictures.NEAR, 3, far.train.labels)
    assert np.array_equal(near.train.labels, expected)


def test_steps_to_a_flag_are_the_larger_of_rows_and_columns():
    images = np.zeros((1, 6, 6, 3), np.float32)
    images[0, 1, 2, 1] = 1
    rows, columns = np.indices((6, 6))
    expected = np.maximum(np.abs(rows - 1), np.abs(columns - 2))
    assert np.array_equal(pictures.to_flag(images)[0], expected)


def test_test_pictures_come_in_all_colours():
    """Away from flags the same pixels come with every label."""
    images, labels = pictures.flags(STANDARD, PLAN, 0).test
    turns = labels.reshape(3, -1, *labels.shape[1:])
    assert (np.sort(turns, 0) == np.arange(3)[:, None, None, None]).all()
    same = images.reshape(3, -1, *images.shape[1:])
    blank = pictures.to_flag(same[0]) > 0
    assert np.array_equal(same[0][blank], same[1][blank])
    assert not np.array_equal(same[0], same[1])


def test_mean_intersection_over_union():
    found, labels = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    assert pictures.mean_iou(found, labels, 2) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert pictures.mean_iou(labels, labels, 3) == pytest.approx(2 / 3)  # a class that is not there


def measured(iou, seed, blind=1 / 3):
    return context.Measured(iou + 0.001 * seed, 0.1, blind, np.zeros(3))


def claims(**ious):
    arms = {arm: 0.4 for arm in context.ARMS} | {k.replace("_", ", "): v for k, v in ious.items()}
    found = {
        arm: [measured(iou, seed, 0.8 if ", dilated" in arm else 1 / 3) for seed in range(3)]
        for arm, iou in arms.items()
    }
    section = Section("context", "", "")
    context.task_claims(section, STANDARD, found)
    return [claim.verdict for claim in section.claims]


def test_claims_follow_the_numbers():
    yes, no = "reproduced", "not reproduced"
    better = claims(far_dilated_identity=0.8, far_dilated_random=0.6)
    assert better == [yes] * 6
    worse = claims(far_dilated_identity=0.3, far_dilated_random=0.35, near_dilated_identity=0.6)
    assert worse == [no, yes, yes, yes, no, no]


@pytest.mark.parametrize("init", ["identity", "random"])
def test_stacks_differ_in_their_dilations_alone(init):
    from flax import nnx

    def build(stack):
        return context._network(8, f"far, {stack}, {init}", nnx.Rngs(0), 3, 3)

    networks = [nnx.eval_shape(lambda stack=stack: build(stack)) for stack in context.STACKS]
    dilated, undilated = ([layer.kernel.shape for layer in n.context.layers] for n in networks)
    assert dilated == undilated == [(3, 3, 8, 8)] * 7
    steps = [[layer.kernel_dilation for layer in n.context.layers] for n in networks]
    assert steps == [[1, 1, 2, 4, 8, 16, 1], [1] * 7]
