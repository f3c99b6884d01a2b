"""What `filter_groups` measures of a network, its scores, and the published ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from convjax.analysis import block_scores

GROUPS = (1, 2, 4, 8, 16)  # of conv3a; conv2a has twice as many, but for 1
SCORED = (2, 4, 8, 16)
MAPS = ("whitened", "raw", "pearson")  # of conv2c to conv3a, after ReLU
# Other maps, all whitened: the two layers, and whether they are taken after ReLU.
OTHERS = {
    "linear": ("2c", "3a", False),
    "2a": ("1c", "2a", True),
    "2b": ("2a", "2b", True),
    "3b": ("3a", "3b", True),
}


class Scores(NamedTuple):
    """R, E and N: numbers, or arrays with an entry for every network."""

    R: Any
    E: Any
    N: Any


# R, E and N of the authors' figures, read from their colours, so to about one percent.
AUTHORS = {
    2: Scores(1.77, 0.755, 0.51),
    4: Scores(2.27, 0.642, 0.52),
    8: Scores(3.11, 0.584, 0.52),
    16: Scores(4.74, 0.602, 0.58),
}
# The same of conv1c to conv2a, by the groups of conv3a; N follows from E and the blocks.
AUTHORS_2A = {
    2: Scores(2.16, 0.626, (0.626 - 1 / 4) / (1 - 1 / 4)),
    4: Scores(2.38, 0.458, (0.458 - 1 / 8) / (1 - 1 / 8)),
    16: Scores(5.23, 0.460, (0.460 - 1 / 32) / (1 - 1 / 32)),
}
AUTHORS_PLAIN = {16: Scores(1.84, 0.188, (0.188 - 1 / 16) / (1 - 1 / 16))}  # not whitened
AUTHORS_MEANS = 0.080, 0.042  # of panels whose largest entry is 1, from few groups to many
# Deep Roots' table: conv2a's and conv3a's groups, parameters, MACs with each bias once, accuracy.
TABLE = {
    1: (1, 1, 966_986, 222_487_946, 0.9211),
    2: (4, 2, 455_498, 123_397_514, 0.9202),
    4: (8, 4, 314_954, 103_343_498, 0.9215),
    8: (16, 8, 244_682, 93_316_490, 0.9167),
}
ROOT2 = (2, 1, 736_586, 163_505_546)


class Measured(NamedTuple):
    """One network: its maps before and after training, and what it can do and costs.

    The maps are called as in `MAPS` and `OTHERS`; `null` has N of random orders of the channels of
    the whitened map for every number of blocks, and `null_others` those of `OTHERS`.
    """

    groups: int
    seed: int
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    null: dict[int, np.ndarray]
    null_others: dict[str, np.ndarray]
    accuracy: float
    train_accuracy: float
    parameters: int
    macs: int

    @property
    def gap(self) -> float:
        """Of accuracy between training and test pictures."""
        return self.train_accuracy - self.accuracy


def blocks_of(kind: str, groups: int) -> int:
    """With how many blocks a map is scored, where conv3a has `groups`."""
    return 2 * groups if kind in ("2a", "2b") else groups


def n_score(matrix: np.ndarray, groups: int) -> float:
    """N of one map."""
    return float(block_scores(jnp.asarray(matrix), groups).N)


def scores(
    found: Sequence[Measured], blocks: int, when: str = "after", kind: str = "whitened"
) -> Scores:
    """R, E and N of every network's map: three arrays."""
    each = [block_scores(jnp.asarray(getattr(m, when)[kind]), blocks) for m in found]
    return Scores(*np.asarray(each, float).T)


def off_block(matrix: np.ndarray, groups: int) -> float:
    """Mean absolute value outside the blocks, of a map whose largest entry is 1."""
    size = np.abs(matrix) / np.abs(matrix).max()
    rows, columns = (np.arange(n) * groups // n for n in size.shape)
    return float(size[rows[:, None] != columns].mean())


def panel_mean(matrix: np.ndarray) -> float:
    """Mean absolute value of a map whose largest entry is 1."""
    size = np.abs(matrix)
    return float(size.mean() / size.max())
