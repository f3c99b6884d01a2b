"""Pictures to train on: patches of ten photographs, digits, and CIFAR-10 from a local folder.

The first two ship inside scikit-image and scikit-learn: nothing is downloaded. Training and test
pictures come from disjoint regions of the photographs, or from different writers.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

PHOTOS10, DIGITS = NAMES = ("photos10", "digits")
TRAIN_SHARE, TEST_SHARE = 0.6, 0.35  # of a photograph's columns, from the left and from the right
LEAST_CONTRAST = 4.0  # of 255, the standard deviation of a patch that shows something

CIFAR10_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",)
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes
CIFAR10_RECORDS = 10_000  # in each file
CIFAR10_LAYOUT = (
    f"Expected is CIFAR-10's binary version: a folder with {', '.join(sum(CIFAR10_FILES, ()))} "
    f"(or with {CIFAR10_FOLDER}/ in it), each of {CIFAR10_RECORDS:,} records of one label byte and "
    f"3,072 pixel bytes, {CIFAR10_RECORDS * CIFAR10_RECORD:,} bytes."
)


class DataError(ValueError):
    """Data that is missing or not as it should be; the message says what was expected."""


class Split(NamedTuple):
    """Pictures (N, H, W, C), float32 from 0 to 1, and their classes (N,), int32."""

    images: np.ndarray
    labels: np.ndarray

    def rows(self, which: np.ndarray) -> "Split":
        return Split(self.images[which], self.labels[which])


class Dataset(NamedTuple):
    """A training and a test split, as they are named in the report, and how many classes."""

    name: str
    train: Split
    test: Split
    classes: int


def check(source: str, profile: str) -> None:
    """Fail early: what `load` would say of `source`, and that "full" wants CIFAR-10."""
    if source not in NAMES:
        _folder(source)
    elif profile == "full":
        raise DataError(
            f"--profile full trains on CIFAR-10: give its folder by --data. {CIFAR10_LAYOUT}"
        )


def data_name(source: str) -> str:
    """What the report calls it: a folder's place is nobody's business."""
    return source if source in NAMES else "CIFAR-10"


def load(source: str, *, size: int, train: int, test: int, seed: int) -> Dataset:
    """The data set called `source`: "photos10", "digits", or CIFAR-10's folder.

    Args:
        source: a name, or the path of a folder.
        size: height and width of the pictures: 32, or 16, which is 32 at half the size; digits are
            8 x 8 always.
        train, test: how many pictures at most.
        seed: of the choice.
    """
    if source == PHOTOS10:
        return photos10(size, train, test, seed)
    if source == DIGITS:
        return digits(train, test, seed)
    whole = cifar10(_folder(source))
    rng = np.random.default_rng(seed)
    splits = []
    for split, count in ((whole.train, train), (whole.test, test)):
        chosen = split.rows(rng.permutation(len(split.labels))[:count])
        splits.append(chosen._replace(images=halved(chosen.images)) if size == 16 else chosen)
    return Dataset(f"CIFAR-10, {size}×{size}", splits[0], splits[1], whole.classes)


def standardised(dataset: Dataset) -> Dataset:
    """The same with mean 0 and variance 1 in every channel of the training pictures."""
    mean = dataset.train.images.mean((0, 1, 2))
    deviation = dataset.train.images.std((0, 1, 2)) + 1e-6
    train, test = (
        split._replace(images=((split.images - mean) / deviation).astype(np.float32))
        for split in (dataset.train, dataset.test)
    )
    return dataset._replace(train=train, test=test)


def without_colour(dataset: Dataset) -> Dataset:
    """The same with one channel, the mean of all."""
    train, test = (
        split._replace(images=split.images.mean(-1, keepdims=True))
        for split in (dataset.train, dataset.test)
    )
    return dataset._replace(train=train, test=test)


def halved(images: np.ndarray) -> np.ndarray:
    """Half the height and width: the mean of every 2 x 2 pixels."""
    n, height, width, channels = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))


# ---- photographs -----------------------------------------------------------------------------


@functools.cache
def photographs() -> tuple[np.ndarray, ...]:
    """The ten colour photographs that ship with scikit-image and scikit-learn, (H, W, 3) uint8."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    names = "astronaut chelsea coffee hubble_deep_field immunohistochemistry retina rocket".split()
    ours = [getattr(data, name)() for name in names]
    return (*ours, data.stereo_motorcycle()[0], *load_sample_images().images)


def photos10(size: int, train: int, test: int, seed: int) -> Dataset:
    """Random patches of ten photographs; the class is the photograph.

    A patch of 16 is one of 32 at half the size. Training patches lie within the left 60 % of a
    photograph's columns and test patches within the right 35 %, so they share no pixel.
    """
    extent = 32 if size == 16 else size
    splits = []
    for part, count in enumerate((train, test)):
        rng = np.random.default_rng((seed, part))
        found = [
            patches(photo, columns(photo.shape[1])[part], extent, n, rng)
            for photo, n in zip(photographs(), _shares(count, 10), strict=True)
        ]
        images = np.concatenate(found).astype(np.float32) / 255
        labels = np.repeat(np.arange(10, dtype=np.int32), [len(each) for each in found])
        order = rng.permutation(count)
        splits.append(Split(halved(images) if size == 16 else images, labels).rows(order))
    return Dataset(f"photos10, {size}×{size}", splits[0], splits[1], 10)


def columns(width: int) -> tuple[range, range]:
    """The columns of a photograph for training and for testing."""
    return range(int(width * TRAIN_SHARE)), range(width - int(width * TEST_SHARE), width)


def patches(
    photo: np.ndarray, where: range, extent: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """`count` random squares (extent, extent, 3) of these columns that are not all but blank."""
    windows = sliding_window_view(photo[:, where.start : where.stop], (extent, extent), (0, 1))
    found = np.empty((0, 3, extent, extent), photo.dtype)
    for _ in range(100):
        if len(found) >= count:
            return found[:count].transpose(0, 2, 3, 1)
        rows, lefts = (rng.integers(0, n, 2 * count) for n in windows.shape[:2])
        drawn = windows[rows, lefts]  # (n, 3, extent, extent)
        contrast = drawn.mean(1).std((1, 2))
        found = np.concatenate([found, drawn[contrast >= LEAST_CONTRAST]])
    raise DataError(f"a photograph has too few patches of contrast {LEAST_CONTRAST} or more.")


def _shares(total: int, parts: int) -> Sequence[int]:
    """`total` as `parts` numbers that differ by one at most."""
    return [total * (i + 1) // parts - total * i // parts for i in range(parts)]


# ---- digits ----------------------------------------------------------------------------------


def digits(train: int, test: int, seed: int) -> Dataset:
    """Handwritten digits, 8 x 8; the last fifth, by other writers, is for testing."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = found.images[..., None].astype(np.float32) / 16
    labels = found.target.astype(np.int32)
    last = len(labels) * 4 // 5
    rng = np.random.default_rng(seed)
    whole = Split(images, labels)
    first = whole.rows(rng.permutation(last)[:train])
    other = whole.rows(last + rng.permutation(len(labels) - last)[:test])
    return Dataset("digits, 8×8", first, other, 10)


# ---- CIFAR-10 --------------------------------------------------------------------------------


def cifar10(folder: Path) -> Dataset:
    """CIFAR-10 from the files of its binary version, whole; its Python version is never opened."""
    inner = folder / CIFAR10_FOLDER
    folder = inner if inner.is_dir() else folder
    train, test = ([_cifar10_file(folder, name) for name in names] for names in CIFAR10_FILES)
    splits = [
        Split(*(np.concatenate(arrays) for arrays in zip(*files, strict=True)))
        for files in (train, test)
    ]
    return Dataset("CIFAR-10", splits[0], splits[1], 10)


def _folder(source: str) -> Path:
    if not Path(source).is_dir():
        choices = ", ".join(NAMES)
        raise DataError(f"--data {source}: neither a folder nor one of {choices}. {CIFAR10_LAYOUT}")
    return Path(source)


def _cifar10_file(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    path = folder / name
    if not path.is_file():
        pickled = folder / name.removesuffix(".bin")
        other = (
            f" {pickled.name} is of the Python version (pickles, which can run code when opened)."
            if pickled.exists()
            else ""
        )
        raise DataError(f"{path} is missing.{other} {CIFAR10_LAYOUT}")
    expected = CIFAR10_RECORDS * CIFAR10_RECORD
    size = path.stat().st_size
    if size != expected:
        word = "truncated" if size < expected else "too long"
        raise DataError(f"{path} is {word}: it has {size:,} bytes. {CIFAR10_LAYOUT}")
    records = np.fromfile(path, np.uint8).reshape(CIFAR10_RECORDS, CIFAR10_RECORD)
    labels = records[:, 0].astype(np.int32)
    if labels.max() > 9:
        raise DataError(
            f"{path} has the label {labels.max()}, and labels are 0 to 9. {CIFAR10_LAYOUT}"
        )
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1).astype(np.float32) / 255, labels
