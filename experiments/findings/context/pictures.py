"""A dense task: every pixel gets the colour of the flag that is nearest to it."""

import numpy as np

from experiments.run.arms import Budget
from experiments.run.data import Dataset, Split
from experiments.run.settings import Settings

COLOURS = 3
NEAR = 4  # pixels: how far a flag's colour is asked for in the task of short range


def flags(settings: Settings, budget: Budget, seed: int, near: bool = False) -> Dataset:
    """Pictures with a few flags, and for every pixel the colour of the nearest one.

    A test picture comes in all colours: what a pixel sees that sees no flag comes equally often
    with every label.
    """
    rng = np.random.default_rng((seed, 7))
    train = _planted(budget.train, budget.size, near, rng, 1)
    test = _planted(-(-budget.test // COLOURS), budget.size, near, rng, COLOURS)
    return Dataset("flags", train, test, COLOURS + near)


def _planted(count: int, size: int, near: bool, rng: np.random.Generator, turns: int) -> Split:
    """Pictures, each with its colours turned so many times."""
    number = rng.integers(1, 3, count)
    places = rng.permuted(np.tile(np.arange(size * size), (count, 1)), axis=1)[:, :2]
    colours = rng.integers(0, COLOURS, (count, 2))
    noise = rng.normal(0, 0.1, (count, size, size, COLOURS)).clip(-0.3, 0.3)
    there = np.arange(2) < number[:, None]
    distances = distance(size, places, there)
    nearest = distances.argmin(1)
    images, labels = [], []
    for turn in range(turns):
        turned = (colours + turn) % COLOURS
        x = np.zeros((count, size * size, COLOURS))
        rows, flag = np.nonzero(there)
        x[rows, places[rows, flag], turned[rows, flag]] = 1
        images.append(x.reshape(noise.shape) + noise)
        label = np.take_along_axis(turned[:, :, None, None], nearest[:, None], 1)[:, 0]
        labels.append(
            np.where(np.floor(distances.min(1)) > NEAR, COLOURS, label) if near else label
        )
    return Split(np.concatenate(images).astype(np.float32), np.concatenate(labels).astype(np.int32))


def distance(size: int, places: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(N, flags, size, size): steps to each flag (the larger of rows and columns), or infinity.

    Of equally near flags the nearer as the crow flies is a hair nearer; then the first is.
    """
    rows, columns = (p[:, :, None, None] for p in np.divmod(places, size))
    down = np.abs(np.arange(size)[:, None] - rows)
    right = np.abs(np.arange(size) - columns)
    steps = np.maximum(down, right) + np.minimum(down, right) / (2 * size)
    return np.where(there[:, :, None, None], steps, np.inf)


def to_flag(images: np.ndarray) -> np.ndarray:
    """Steps from every pixel to the nearest flag, (N, size, size)."""
    size = images.shape[1]
    planted = images.max(-1) > 0.5
    reached, steps = planted, np.where(planted, 0, size)
    for step in range(1, size):
        padded = np.pad(reached, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        reached = windows.any((-2, -1))
        steps = np.where(reached, np.minimum(steps, step), steps)
    return steps


def mean_iou(found: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Intersection over union of what is said and what is true, the mean over the classes."""
    each = [
        ((found == c) & (labels == c)).sum() / max(1, ((found == c) | (labels == c)).sum())
        for c in range(classes)
    ]
    return float(np.mean(each))
