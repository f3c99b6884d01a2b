"""What `shuffle` measures: connections, pictures that tell nothing, and claims from numbers."""

import re
from math import comb
from pathlib import Path

import numpy as np
import pytest

for package in ("flax", "optax", "orbax.checkpoint", "matplotlib", "skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

from convjax.models import counts_of  # noqa: E402
from experiments.findings import shuffle  # noqa: E402
from experiments.findings.shuffle import parity  # noqa: E402
from experiments.page.report import Section  # noqa: E402
from experiments.run.arms import Budget, folder_name, keeping  # noqa: E402
from experiments.run.networks import Network  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402

STANDARD = Settings("standard")
BUDGET = Budget(1, 8, 16, 32, 1, 8, 0.1)


def verdicts(section):
    return [claim.verdict for claim in section.claims]


def test_orders_are_those_of_the_papers():
    assert parity.order_of("shuffle", 6, 3).tolist() == [0, 2, 4, 1, 3, 5]
    assert parity.order_of("inverse", 6, 3).tolist() == [0, 3, 1, 4, 2, 5]
    within = parity.order_of("within groups", 32, 4, seed=1)
    assert (within // 8 == np.arange(32) // 8).all() and (within != np.arange(32)).any()
    assert sorted(parity.order_of("random", 32, 4)) == list(range(32))


def test_reach_is_what_the_groups_say():
    """Group a of the first layer reaches group b of the second if b receives a channel of a."""
    orders = [parity.order_of("random", 8, 4, seed) for seed in range(3)]
    for order, found in zip(orders, shuffle.reach(8, 4, orders), strict=True):
        expected = np.zeros((4, 4), bool)
        expected[order // 2, np.arange(8) // 2] = True
        assert np.array_equal(found, np.kron(expected, np.ones((2, 2), bool)))
    assert shuffle.expected_reach(8, 4) == pytest.approx(1 - comb(6, 2) / comb(8, 2))


def test_a_group_sees_the_same_with_either_parity():
    dataset = parity.parities(STANDARD, BUDGET, 0)
    images, labels = dataset.test
    assert images.shape == (32, 8, 8, 4) and labels.shape == (32, 4)
    for group in range(parity.FEATURES):
        seen = {}
        for image, label in zip(images[..., group], labels[:, group], strict=True):
            seen.setdefault(image.tobytes(), []).append(int(label))
        assert len(seen) == 4  # two pictures of each bit
        assert all(sorted(each) == [0] * 4 + [1] * 4 for each in seen.values())
    own = parity.parities(STANDARD, BUDGET, 0, own=True)
    assert np.array_equal(own.test.labels.sum(1) % 2, labels[:, 0])


@pytest.mark.parametrize("profile", ["standard", "full"])
def test_networks_of_all_groups_cost_the_same(profile):
    budget = shuffle.PLANS[profile].photos
    shape = (1, budget.size, budget.size, 3)
    macs = []
    for arm in shuffle.PHOTO_ARMS:
        build = shuffle.shuffle_net(budget, arm)
        network = Network(lambda rngs: build(rngs, 3, 10))  # noqa: B023
        macs.append(counts_of(network.abstract(), shape).macs())
    assert max(macs) < 1.08 * min(macs)


def test_stripes_lie_or_stand():
    bits = np.array([[0, 1]])
    image = parity.stripes(bits, 8, np.random.default_rng(0))[0]
    along_rows, along_columns = image.std(1).mean(0), image.std(0).mean(0)
    assert along_rows[0] < along_columns[0] and along_rows[1] > along_columns[1]


def answers(**values):
    names = {"within": "within groups"}
    found = {f"parity, {order}": np.full(3, 0.5) for order in parity.ORDERS}
    found |= {f"own, {order}": np.array([0.99, 0.98, 0.99]) for order in parity.OWN}
    spread = np.array([0, 0.001, 0.002])
    return found | {f"parity, {names.get(k, k)}": value + spread for k, value in values.items()}


def test_claims_on_parity_follow_the_numbers():
    section = Section("shuffle", "", "")
    parity.claims(section, STANDARD, answers(shuffle=0.99, inverse=0.7, random=0.99))
    yes, no = "reproduced", "not reproduced"
    assert verdicts(section) == ["exact", "exact", yes, no, yes, yes]
    section = Section("shuffle", "", "")
    parity.claims(section, STANDARD, answers(none=0.51, within=0.5))
    assert verdicts(section)[:2] == [no, no]


def test_claims_on_photographs_follow_the_numbers():
    plain = np.array([0.5, 0.51, 0.52])
    found = {"4": plain + 0.02, "8": plain + np.array([0.06, 0.061, 0.062])}
    accuracy = {f"photographs, {g}, shuffled": values for g, values in found.items()}
    accuracy |= {f"photographs, {g}, plain": plain for g in found}
    section = Section("shuffle", "", "")
    shuffle.photo_claims(section, STANDARD, accuracy)
    assert verdicts(section) == ["reproduced"] * 3
    accuracy["photographs, 8, shuffled"] = plain - np.array([0.01, 0.02, 0.015])
    section = Section("shuffle", "", "")
    shuffle.photo_claims(section, STANDARD, accuracy)
    assert verdicts(section) == ["reproduced", "not reproduced", "not reproduced"]


def test_folders_of_runs_have_plain_names():
    names = ["wide-seed0", "g=2_x.5", "a, b", "a; b", "a-b", "a b", "ä b", "own, none-seed10"]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names) and folders[:2] == names[:2]
    assert all(re.fullmatch(r"[A-Za-z0-9_=.-]+", folder) for folder in folders)
    kept = keeping(Settings("standard", runs=Path("runs")), "x", "a, b", Budget(*[1] * 7))
    assert kept.folder == Path("runs", "x", folder_name("a, b"))
