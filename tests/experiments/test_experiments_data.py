"""The data of the experiments: disjoint regions, balanced classes, and files that are not right."""

from pathlib import Path

import numpy as np
import pytest

for package in ("skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

from experiments.run import data  # noqa: E402


def test_photographs_are_ten_in_colour():
    assert len(data.photographs()) == 10
    assert all(photo.ndim == 3 and photo.shape[2] == 3 for photo in data.photographs())
    assert all(photo.dtype == np.uint8 for photo in data.photographs())


@pytest.mark.parametrize("size", [16, 32])
def test_no_pixel_is_in_both_splits(size, monkeypatch):
    """Photographs whose pixels are their places: class, row and column, in three channels."""

    def places(number, height=120, width=200):
        rows, columns = np.mgrid[:height, :width]
        return np.stack([np.full_like(rows, number), rows, columns], -1).astype(np.uint8)

    monkeypatch.setattr(data, "photographs", lambda: tuple(map(places, range(10))))
    found = data.photos10(size, 400, 100, seed=0)
    columns = [
        np.unique(np.round(split.images[..., 2] * 255)) for split in (found.train, found.test)
    ]
    assert columns[0].max() < 120 and columns[1].min() >= 130
    for split, count in ((found.train, 40), (found.test, 10)):
        assert split.images.shape == (10 * count, size, size, 3)
        assert split.images.dtype == np.float32 and split.labels.dtype == np.int32
        assert np.array_equal(np.round(split.images[:, 0, 0, 0] * 255), split.labels)
        assert np.array_equal(np.bincount(split.labels), [count] * 10)


def test_columns_are_disjoint_at_every_width():
    for width in range(100, 1500):
        train, test = data.columns(width)
        assert train.stop < test.start and test.stop == width and train.start == 0


def test_patches_are_cut_from_the_photograph_and_show_something():
    found = data.photos10(32, 50, 20, seed=3)
    photo = data.photographs()[found.train.labels[0]]
    patch = np.round(found.train.images[0] * 255).astype(np.uint8)
    windows = data.sliding_window_view(photo, (32, 32, 3))[:, :, 0]
    candidates = np.argwhere((windows[:, :, 0, 0] == patch[0, 0]).all(-1))
    assert any(np.array_equal(windows[row, column], patch) for row, column in candidates)
    contrast = found.train.images.mean(-1).std((1, 2)) * 255
    assert contrast.min() >= data.LEAST_CONTRAST - 1e-3


def test_a_blank_photograph_has_no_patches():
    blank = np.full((40, 50, 3), 7, np.uint8)
    with pytest.raises(data.DataError, match="too few patches of contrast 4.0 or more"):
        data.patches(blank, range(50), 32, 3, np.random.default_rng(0))
    assert data.patches(blank, range(50), 32, 0, np.random.default_rng(0)).shape == (0, 32, 32, 3)


def test_the_seed_decides_and_classes_are_mixed():
    first, again, other = (data.photos10(16, 60, 20, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.train.images, again.train.images)
    assert not np.array_equal(first.train.images, other.train.images)
    assert len(set(first.train.labels[:20])) > 3  # not sorted


def test_digits_are_split_by_writer():
    found = data.digits(10_000, 10_000, seed=0)
    assert found.train.images.shape == (1437, 8, 8, 1) and len(found.test.labels) == 360
    assert found.train.images.max() == 1
    few = data.load("digits", size=8, train=100, test=30, seed=0)
    assert len(few.train.labels) == 100 and len(few.test.labels) == 30


def test_standardised_by_the_training_pictures():
    found = data.standardised(data.photos10(16, 100, 50, seed=0))
    assert found.train.images.mean((0, 1, 2)) == pytest.approx(0, abs=1e-4)
    assert found.train.images.std((0, 1, 2)) == pytest.approx(1, abs=1e-3)
    assert abs(found.test.images.mean()) > 1e-3  # by the same numbers, not by its own


RECORDS = 20


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """A small CIFAR-10: as many files, fewer records."""
    monkeypatch.setattr(data, "CIFAR10_RECORDS", RECORDS)
    folder = tmp_path / data.CIFAR10_FOLDER
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in sum(data.CIFAR10_FILES, ()):
        records = rng.integers(0, 256, (RECORDS, data.CIFAR10_RECORD), np.uint8)
        records[:, 0] = rng.integers(0, 10, RECORDS)
        records.tofile(folder / name)
    return tmp_path


def test_cifar10_is_read_plane_by_plane(cifar):
    found = data.cifar10(cifar)
    assert found.train.images.shape == (5 * RECORDS, 32, 32, 3)
    assert found.test.images.shape == (RECORDS, 32, 32, 3)
    raw = (cifar / data.CIFAR10_FOLDER / "data_batch_2.bin").read_bytes()
    start = 3 * data.CIFAR10_RECORD
    assert found.train.labels[RECORDS + 3] == raw[start]
    for channel, row, column in ((0, 0, 0), (1, 5, 7), (2, 31, 30)):
        byte = raw[start + 1 + channel * 1024 + row * 32 + column]
        assert found.train.images[RECORDS + 3, row, column, channel] == np.float32(byte) / 255
    inside = data.load(str(cifar / data.CIFAR10_FOLDER), size=16, train=30, test=10, seed=0)
    assert inside.train.images.shape == (30, 16, 16, 3) and inside.test.labels.shape == (10,)


LAYOUT = r"binary version: .* data_batch_1.bin, .*test_batch.bin.* label byte and 3,072 pixel bytes"


def test_files_that_are_not_right(cifar):
    folder = cifar / data.CIFAR10_FOLDER
    first, last = folder / "data_batch_1.bin", folder / "test_batch.bin"
    good = first.read_bytes()

    def fails(words):
        with pytest.raises(data.DataError, match=rf"(?s){words}.*{LAYOUT}"):
            data.cifar10(cifar)

    first.write_bytes(good[:-1])
    fails(r"data_batch_1.bin is truncated: it has 61,459 bytes")
    first.write_bytes(good + b"\0")
    fails("data_batch_1.bin is too long")
    first.write_bytes(b"\x63" + good[1:])
    fails("has the label 99, and labels are 0 to 9")
    first.write_bytes(good)
    last.unlink()
    fails("test_batch.bin is missing")
    (folder / "test_batch").write_bytes(b"never opened")
    fails(r"test_batch is of the Python version \(pickles")


def test_a_source_that_is_nothing():
    with pytest.raises(data.DataError, match=f"neither a folder nor one of photos10.*{LAYOUT}"):
        data.load("/nowhere/at/all", size=16, train=1, test=1, seed=0)
