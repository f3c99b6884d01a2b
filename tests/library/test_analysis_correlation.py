"""Inter-layer covariance and block scores, on matrices with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convjax.analysis import block_scores, interlayer_covariance

RNG = np.random.default_rng(0)
SCORE = jax.jit(block_scores, static_argnums=1)


def blocks(groups, rows=3, columns=2):
    return jnp.kron(jnp.eye(groups), jnp.ones((rows, columns)))


@pytest.mark.parametrize("groups", [2, 4, 8, 16])
def test_a_block_diagonal_matrix_is_all_inside(groups):
    scores = SCORE(-2e-30 * blocks(groups), groups)
    assert jnp.isposinf(scores.R)
    assert float(scores.E) == 1 and float(scores.N) == pytest.approx(1)


@pytest.mark.parametrize("groups", [2, 4, 8, 16])
def test_a_flat_matrix_is_at_chance(groups):
    """Whatever its size and its signs."""
    sign = jnp.asarray(RNG.choice([-1.0, 1.0], (3 * groups, 2 * groups)))
    r, e, n = SCORE(1e25 * sign, groups)
    assert float(r) == pytest.approx(1, rel=1e-5) and float(e) == pytest.approx(1 / groups)
    assert float(n) == pytest.approx(0, abs=1e-5)


def test_known_scores():
    """3 inside and 1 outside, four blocks: R = 3, E = 9*1/4 / (9*1/4 + 3/4) = 3/4."""
    r, e, n = block_scores(1 + 2 * blocks(4), 4)
    assert [float(v) for v in (r, e, n)] == pytest.approx([3, 3 / 4, 2 / 3])
    assert block_scores(jnp.asarray([[1, 0], [0, -1]]), 2).E == 1  # integers too


def test_permuted_channels_are_at_chance():
    matrix = jnp.asarray(blocks(8, 8, 8))

    def permuted(key):
        rows, columns = (jax.random.permutation(k, 64) for k in jax.random.split(key))
        return block_scores(matrix[rows][:, columns], 8).N

    found = np.asarray(jax.jit(jax.vmap(permuted))(jax.random.split(jax.random.key(0), 200)))
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(200) and found.std() < 0.05
    same = jnp.arange(64) ^ 3  # within the blocks: nothing changes
    assert float(block_scores(matrix[same], 8).N) == pytest.approx(1)


def test_zeros_have_no_scores():
    assert all(jnp.isnan(score) for score in block_scores(jnp.zeros((4, 4)), 2))


def test_raw_covariance_is_numpy_s():
    a, b = RNG.normal(size=(50, 5)) + 3, RNG.normal(size=(50, 3))
    expected = np.cov(a, b, rowvar=False)[:5, 5:]
    found = interlayer_covariance(jnp.asarray(a), jnp.asarray(b), whiten=False)
    assert found.shape == (5, 3) and found == pytest.approx(expected, abs=1e-5)
    assert (found < 0).any()  # signed


def mixed(samples=4000):
    """Responses that share 4 sources in known proportion, then mixed by known matrices."""
    sources, noise = RNG.normal(size=(2, samples, 4))
    correlation = np.array([0.9, 0.6, 0.3, 0.0])
    b = sources * correlation + noise * np.sqrt(1 - correlation**2)
    return jnp.asarray(sources, jnp.float32), jnp.asarray(b, jnp.float32), correlation


def test_whitened_singular_values_are_the_canonical_correlations():
    """Unchanged by any invertible mixing of either layer, and at most 1."""
    a, b, correlation = mixed()
    m = jnp.asarray(RNG.normal(size=(4, 4)), jnp.float32)
    found = [
        jnp.linalg.svd(interlayer_covariance(x, y), compute_uv=False)
        for x, y in ((a, b), (a @ m, b), (5 * a + 7, b @ m))
    ]
    for values in found[1:]:
        assert values == pytest.approx(np.asarray(found[0]), abs=1e-3)
    assert found[0] == pytest.approx(correlation, abs=0.05) and found[0].max() <= 1


def test_a_layer_with_itself_is_the_identity_and_a_rotation_comes_out():
    """ZCA rotates nothing: W C W = 1 for equal layers, and Q for b = a' Q of whitened a'."""
    a = jnp.asarray(RNG.normal(size=(300, 6)) @ RNG.normal(size=(6, 6)), jnp.float32)
    assert interlayer_covariance(a, a) == pytest.approx(np.eye(6), abs=2e-3)
    x = np.linalg.qr(RNG.normal(size=(300, 6)) - 0.0)[0]
    x = np.linalg.qr(x - x.mean(0))[0] * np.sqrt(299)  # covariance 1
    rotation = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    found = interlayer_covariance(jnp.asarray(x), jnp.asarray(x @ rotation))
    assert found == pytest.approx(rotation, abs=1e-4)


def test_whitening_is_over_n_minus_one():
    """Two samples apart by 2: variance 2 over N - 1, so 1 after whitening, and not 1/2 or 2."""
    a = jnp.asarray([[1.0], [-1.0]])
    assert interlayer_covariance(a, a, whiten=False).item() == 2
    assert interlayer_covariance(a, a).item() == pytest.approx(1)


def test_groups_show_as_blocks():
    """Channels that share a source within their group only."""
    source = RNG.normal(size=(2000, 4))
    a, b = (np.repeat(source, 3, 1) + RNG.normal(size=(2000, 12)) for _ in range(2))
    matrix = interlayer_covariance(jnp.asarray(a), jnp.asarray(b))
    assert block_scores(matrix, 4).N > 0.9
    assert block_scores(matrix[jnp.argsort(jnp.arange(12) % 3)], 4).N < 0.2


def test_dead_and_doubled_channels_count_as_nothing():
    a, b, _ = mixed(500)
    dead = jnp.concatenate([a, jnp.full((500, 1), 3.0), a[:, :1]], axis=1)
    found = interlayer_covariance(dead, b)
    assert jnp.isfinite(found).all() and found[4] == pytest.approx(0, abs=1e-4)
    values = jnp.linalg.svd(found, compute_uv=False)
    alive = jnp.linalg.svd(interlayer_covariance(a, b), compute_uv=False)
    assert values == pytest.approx(np.asarray(alive), abs=2e-3)
    few = interlayer_covariance(a[:3], b[:3])
    assert jnp.linalg.svd(few, compute_uv=False).max() <= 1 + 1e-4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: block_scores(jnp.ones((4, 4)), 1), r"`groups` \(=1\) must be at least 2"),
        (lambda: block_scores(jnp.ones((4, 6)), 4), r"must divide the rows and columns"),
        (lambda: block_scores(jnp.ones((4, 4, 1)), 2), "must have two axes"),
        (lambda: block_scores(jnp.ones((4, 4)), 0), r"`groups` \(=0\) must be at least 1"),
        (lambda: interlayer_covariance(jnp.ones((4, 2)), jnp.ones((5, 2))), "must have the 4 rows"),
        (lambda: interlayer_covariance(jnp.ones((1, 2)), jnp.ones((1, 2))), "at least two rows"),
        (lambda: interlayer_covariance(jnp.ones((2, 3, 3, 4)), jnp.ones((5, 2))),
         r"`a` .* must be \(samples, channels\). Every pixel is a sample"),
    ],
)  # fmt: skip
def test_wrong_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: block_scores([[1]], 2), "block_scores: `matrix` must be an array"),
        (lambda: block_scores(jnp.ones((4, 4)), 2.0), r"`groups` \(=2.0\) must be an integer"),
        (lambda: interlayer_covariance(jnp.ones((4, 2)) * 1j, jnp.ones((4, 2))), "must be real"),
    ],
)
def test_wrong_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()
