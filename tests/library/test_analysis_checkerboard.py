"""Overlap counts, phase gains, and the two fractions of checkerboards, on known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convjax
from convjax.analysis import (
    overlap_counts,
    phase_gains,
    phase_variance_fraction,
    spectral_fraction,
)


@pytest.mark.parametrize(
    ("k", "s", "period"),
    [(2, 1, [2]), (3, 1, [3]), (2, 2, [1, 1]), (4, 2, [2, 2]), (3, 2, [2, 1]), (5, 2, [3, 2]),
     (4, 3, [2, 1, 1]), (5, 3, [2, 2, 1]), (1, 3, [1, 0, 0])],
)  # fmt: skip
def test_overlap_of_one_layer(k, s, period):
    """The interior is ceil((k - phase)/s), and the whole is counted from the definition."""
    n = 9
    counts = overlap_counts(k, s, n)
    defined = [sum(0 <= o - s * i < k for i in range(n)) for o in range(s * (n - 1) + k)]
    assert counts.tolist() == defined
    assert counts[4 * s : 5 * s].tolist() == period
    assert period == [-((phase - k) // s) if phase < k else 0 for phase in range(s)]


def test_overlap_counts_are_what_a_kernel_of_ones_paints():
    painted = convjax.conv_transpose(
        jnp.ones((1, 4, 3, 5, 1)), jnp.ones((3, 2, 5, 1, 1)), strides=(2, 1, 3), padding="VALID"
    )
    counts = overlap_counts((3, 2, 5), (2, 1, 3), (4, 3, 5))
    assert counts.dtype == np.int64
    assert counts.tolist() == np.asarray(painted)[0, ..., 0].tolist()


def test_overlap_of_stacks():
    """Distill's third figure: artifacts multiply; an even layer of stride 1 may cancel them."""
    three = overlap_counts([(3, 2)] * 3, 8)
    assert len(three) == 2 * (2 * (2 * 7 + 3 - 1) + 3 - 1) + 3
    starts = [i for i in range(8) if three[32 + i : 40 + i].tolist() == [4, 3, 5, 2, 5, 3, 4, 1]]
    assert len(starts) == 1 and np.array_equal(three[24:48], three[32:56])
    for size in (2, 4):
        assert len(set(overlap_counts([(3, 2), (size, 1)], 12)[8:-8])) == 1
    leaked = overlap_counts([(3, 2), (3, 2), (3, 1)], 12)[16:32].tolist()
    assert any(leaked[i : i + 8] == [6, 8, 6, 7] * 2 for i in range(4))
    line = overlap_counts([(3, 2), (2, 3)], 4)
    plane = overlap_counts([((3, 4), (2, 1)), ((2, 5), (3, 2))], (4, 6))
    other = overlap_counts([(4, 1), (5, 2)], 6)
    assert np.array_equal(plane, np.multiply.outer(line, other))
    assert np.array_equal(overlap_counts([(3, 2)], input_size=5), overlap_counts(3, 2, 5))


def test_overlap_counts_are_constants_under_jit():
    scaled = jax.jit(lambda x: x / overlap_counts(3, 2, 4))(jnp.ones(9))
    assert np.array_equal(1 / scaled, overlap_counts(3, 2, 4))


def test_phase_gains_are_what_a_constant_becomes():
    kernel = jnp.asarray(np.random.default_rng(0).integers(-4, 5, (3, 4, 5, 2)), jnp.float32)
    gains = phase_gains(kernel, (2, 3))
    assert gains.shape == (2, 3, 5, 2) and gains.dtype == kernel.dtype
    y = convjax.conv_transpose(jnp.ones((1, 6, 6, 2)), kernel, strides=(2, 3), padding="VALID")
    assert np.array_equal(y[0, 4:6, 6:9], gains.sum(-1))
    assert np.array_equal(gains.sum((0, 1)), kernel.sum((0, 1)))
    assert np.array_equal(phase_gains(kernel[:1], (3, 1))[1:], jnp.zeros((2, 1, 5, 2)))
    assert np.array_equal(jax.jit(phase_gains, static_argnums=1)(kernel, (2, 3)), gains)


@pytest.mark.parametrize(
    ("k", "s", "unevenness"),
    [(3, 2, 0.1900), (5, 2, 0.0754), (4, 3, 0.2099), (5, 3, 0.1427), (4, 2, 0), (6, 3, 0)],
)
def test_gains_of_a_constant_kernel(k, s, unevenness):
    gains = phase_gains(jnp.ones((k, k, 1, 1)), s)
    assert float(gains.var() / (gains**2).mean()) == pytest.approx(unevenness, abs=5e-5)


def board(heights, size, channels=1):
    """A pattern repeated over (1, size, size, channels)."""
    heights = np.asarray(heights, float)
    tiles = [-(-size // n) for n in heights.shape]
    return jnp.asarray(np.tile(heights, tiles)[None, :size, :size, None].repeat(channels, -1))


def test_planted_checkerboards_are_all_of_the_variance():
    for heights in ([[1, 0], [0, 1]], [[4, 2], [2, 1]], [[0, 0], [0, 1e-3]]):
        for offset in (0, 10):
            for size in (8, 9, 31):  # cropped to a multiple of the period
                found = phase_variance_fraction(board(heights, size) + offset, 2)
                assert found[0, 0] == pytest.approx(1, abs=1e-3 if offset else 1e-5)
    found = phase_variance_fraction(board(np.arange(12).reshape(4, 3), 24, 2), (4, 3))
    assert found.shape == (1, 2) and found == pytest.approx(1)
    assert phase_variance_fraction(board([[1, 0], [0, 1]], 32), 4) == pytest.approx(1)
    # of period 3, seen with period 2: nothing, less what chance would give
    assert phase_variance_fraction(board([[1, 0, 0]] * 3, 36), 2) == pytest.approx(
        -3 / (36 * 36 - 1) / (1 - 3 / (36 * 36 - 1)), abs=1e-6
    )


def test_a_checkerboard_on_top_of_a_pattern_has_its_share():
    """Orthogonal patterns: variances add, and the share is known before the correction."""
    rows = jnp.asarray([1.0, 1, -1, -1] * 8)[:, None] * jnp.ones(32)  # no period 2 in it
    x = (rows + 0.5 * (2 * board([[1, 0], [0, 1]], 32)[0, ..., 0] - 1))[None, ..., None]
    share, chance = 0.25 / 1.25, 3 / (32 * 32 - 1)
    assert phase_variance_fraction(x, 2)[0, 0] == pytest.approx(
        (share - chance) / (1 - chance), rel=1e-5
    )


def test_constant_images_have_none():
    x = jnp.asarray([0.1, 1e6, -3.7]) * jnp.ones((2, 13, 12, 3))
    assert np.array_equal(phase_variance_fraction(x, 2), np.zeros((2, 3)))


@pytest.mark.parametrize("period", [2, 4])
def test_noise_has_none_on_average(period):
    """Corrected by (s^2 - 1)/(HW - 1): the mean of 1,000 is within 4 standard errors of 0."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(100, 32, 32, 10)), jnp.float32)
    found = np.asarray(jax.jit(phase_variance_fraction, static_argnums=1)(x, period)).ravel()
    chance = (period**2 - 1) / (32 * 32 - 1)
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(found.size)
    assert found.mean() + chance > 0.9 * chance  # uncorrected, it is far from 0
    assert found.std() < chance


def test_any_rank_and_dtype():
    assert phase_variance_fraction(jnp.arange(12).reshape(1, 12, 1) % 3, 3) == pytest.approx(1)
    film = jnp.ones((2, 4, 6, 6, 1), jnp.bfloat16).at[:, ::2].set(0)
    found = phase_variance_fraction(film, (2, 1, 1))
    assert found == pytest.approx(1) and found.dtype == jnp.float32


def test_spectral_fraction_of_planted_checkerboards():
    """Whole boards, stripes, and other periods; a known share beside other frequencies."""
    for cell in ([[1, 0], [0, 1]], [[1, 0], [1, 0]], [[3, 1], [0, 2]]):
        assert spectral_fraction(board(cell, 32), 2) == pytest.approx(1, abs=1e-6)
    assert spectral_fraction(board(np.arange(12).reshape(4, 3), 24), (4, 3)) == pytest.approx(1)
    assert spectral_fraction(board([[1, 0], [0, 1]], 32), 4) == pytest.approx(1)
    thirds = board([[1, 0, 0]] * 3, 36)  # of frequency 1/3: not within .06 of 1/2, nor of 1/4
    assert spectral_fraction(thirds, 2) == pytest.approx(0, abs=1e-6)
    assert spectral_fraction(thirds, (1, 3)) == pytest.approx(1)
    slow = jnp.cos(2 * jnp.pi * jnp.arange(32) / 8)[:, None] * jnp.ones(32)  # variance 1/2
    both = (slow + 0.5 * (2 * board([[1, 0], [0, 1]], 32)[0, ..., 0] - 1))[None, ..., None]
    assert spectral_fraction(both, 2) == pytest.approx(0.25 / 0.75, rel=1e-5)
    assert spectral_fraction(both * 1e-30 + 0.0, 2) == pytest.approx(0.25 / 0.75, rel=1e-5)


@pytest.mark.parametrize("turns", [1, 2])
def test_a_checkerboard_of_changing_height_is_found_by_its_spectrum_alone(turns):
    """cos(2 pi turns x/32) times a board: every phase has the mean 0, so the phases see none."""
    height = jnp.cos(2 * jnp.pi * turns * jnp.arange(32) / 32)
    x = (2 * board([[1, 0], [0, 1]], 32) - 1) * height[None, :, None, None]
    assert phase_variance_fraction(x, 2) == pytest.approx(0, abs=0.005)
    # the frequencies are 1/2 -+ turns/32: the first is within .06, the second is not
    assert spectral_fraction(x, 2) == pytest.approx(1 if turns == 1 else 0, abs=1e-5)
    assert spectral_fraction(x, 2, width=0.07) == pytest.approx(1)


def test_spectral_fraction_is_the_definition():
    """By numpy's transform and distances on the circle, frequency by frequency."""
    x = np.random.default_rng(0).normal(size=(2, 18, 15, 3)) + 5
    energy = np.abs(np.fft.fft2(x, axes=(1, 2))) ** 2
    found = np.zeros((2, 3))
    for a, b in np.ndindex(18, 15):
        offsets = [(m / 3 - a / 18, n / 2 - b / 15) for m in range(3) for n in range(2) if m or n]
        circle = [[abs(d - round(d)) for d in pair] for pair in offsets]
        if any(max(pair) <= 0.07 for pair in circle):
            found += energy[:, a, b]
    total = energy.sum((1, 2)) - energy[:, 0, 0]
    ours = jax.jit(spectral_fraction, static_argnums=1, static_argnames="width")(
        jnp.asarray(x), (3, 2), width=0.07
    )
    assert ours == pytest.approx(found / total, rel=1e-4)


def test_spectral_fraction_of_noise_constants_ranks_and_gradients():
    noise = jnp.asarray(np.random.default_rng(1).normal(size=(100, 32, 32, 3)), jnp.float32)
    found = np.asarray(spectral_fraction(noise, 2)).ravel()
    assert abs(found.mean() - 27 / 1023) < 4 * found.std() / np.sqrt(found.size)
    x = jnp.asarray([0.1, 1e6, -3.7]) * jnp.ones((2, 13, 12, 3))
    assert np.array_equal(spectral_fraction(x, 2), np.zeros((2, 3)))
    assert spectral_fraction(jnp.arange(12).reshape(1, 12, 1) % 3, 3) == pytest.approx(1)
    film = jnp.ones((2, 4, 6, 6, 1), jnp.bfloat16).at[:, ::2].set(0)
    whole = spectral_fraction(film, (2, 1, 1))
    assert whole == pytest.approx(1) and whole.dtype == jnp.float32
    slope = jax.grad(lambda x: spectral_fraction(x, 2).sum())
    assert np.isfinite(slope(noise[:1])).all() and not slope(jnp.ones((1, 8, 8, 1))).any()


IMAGES, KERNEL = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 4, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: overlap_counts(0, 2, 4), r"`kernel_size` \(=0\) must be at least 1"),
        (lambda: overlap_counts(3, (2, 2, 2), (4, 4)), "must have one entry per spatial axis"),
        (lambda: overlap_counts(3, 2, 0), r"`input_size` \(=0\) must be at least 1"),
        (lambda: overlap_counts([], 4), r"`layers` \(=\[\]\) must be pairs"),
        (lambda: overlap_counts([(3, 2, 1)], 4), "must be pairs .* For a single layer"),
        (lambda: overlap_counts(3, 2), r"`layers` \(=3\) must be pairs"),
        (lambda: phase_gains(KERNEL, 0), r"phase_gains: `strides` \(=0\) must be at least 1"),
        (lambda: phase_gains(KERNEL[0, 0], 2), "must have at least one spatial axis"),
        (lambda: phase_variance_fraction(IMAGES, 9), r"`period` \(=9\) must fit the extents"),
        (lambda: phase_variance_fraction(IMAGES, 8), "twice on some axis"),
        (lambda: phase_variance_fraction(IMAGES, (2, 2, 2)), "one entry per spatial axis"),
        (lambda: phase_variance_fraction(IMAGES[0, 0], 2), r"must be \(N, \*space, C\)"),
        (lambda: spectral_fraction(IMAGES[0, 0], 2), r"must be \(N, \*space, C\)"),
        (lambda: spectral_fraction(IMAGES, 0), r"`period` \(=0\) must be at least 1"),
        (lambda: spectral_fraction(IMAGES, 1), "must be above 1 along some axis"),
        (lambda: spectral_fraction(IMAGES, 4, width=0.2), r"below half of 1/`period` \(=0.125\)"),
        (lambda: spectral_fraction(IMAGES, 2, width=-0.1), r"`width` \(=-0.1\) must be at least 0"),
        (lambda: spectral_fraction(IMAGES[:, :7, :7], 2), r"no frequency of `images` \(7, 7\)"),
    ],
)
def test_wrong_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: overlap_counts(3.0, 2, 4), r"`kernel_size` \(=3.0\) must be an integer"),
        (lambda: overlap_counts([(3, 2)]), r"`input_size` \(=None\) must be given"),
        (lambda: phase_gains([[1.0]], 2), "phase_gains: `kernel` must be an array, not list"),
        (lambda: phase_variance_fraction(IMAGES + 1j, 2), "`images` .*complex.* must be real"),
        (lambda: phase_variance_fraction(IMAGES, 2.0), r"`period` \(=2.0\) must be an integer"),
        (lambda: spectral_fraction(IMAGES + 1j, 2), "`images` .*complex.* must be real"),
    ],
)
def test_wrong_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()
