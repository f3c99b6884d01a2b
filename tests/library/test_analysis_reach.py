"""Channel reachability, empirical receptive fields and the rank of kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convjax
from convjax.analysis import channel_reachability, empirical_receptive_field, rank_energy

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def block(groups, rows, columns):
    return np.kron(np.eye(groups), np.ones((rows, columns))).astype(bool)


def test_a_grouped_layer_reaches_its_block():
    kernel = normal(3, 3, 2, 9)
    found = channel_reachability(lambda x: convjax.grouped_conv(x, kernel, 3), (1, 4, 4, 6))
    assert found.dtype == bool and np.array_equal(found, block(3, 2, 3))


@pytest.mark.parametrize("groups", [3, 6])
@pytest.mark.parametrize("shuffled", [False, True])
def test_two_grouped_layers(groups, shuffled):
    """1/g of the pairs without a shuffle; with it all, where a group has g channels, else n/g."""
    channels = 12
    n = channels // groups
    first, second = normal(1, 1, n, channels), normal(1, 1, n, channels)

    def two(x):
        y = convjax.grouped_conv(x, first, groups)
        y = convjax.channel_shuffle(y, groups) if shuffled else y
        return convjax.grouped_conv(jax.nn.relu(y), second, groups)

    found = channel_reachability(two, (2, 3, 3, channels), draws=6)
    if not shuffled:
        assert np.array_equal(found, block(groups, n, n))
    else:
        assert float(found.mean()) == pytest.approx(min(1, n / groups))


def test_a_permutation_reaches_one_to_one():
    found = channel_reachability(lambda x: convjax.channel_shuffle(x, 3), (1, 1, 1, 6))
    order = np.array([1, 3, 5, 2, 4, 6]) - 1
    assert np.array_equal(found, np.eye(6, dtype=bool)[:, order])


def test_what_only_looks_like_a_path_is_none():
    """Weights of 0, differences that cancel, and space: elsewhere counts, nowhere does not."""
    kernel = normal(3, 1, 4, 5).at[:, :, 2].set(0).at[:, :, :, 3].set(0)
    found = jax.jit(lambda: channel_reachability(lambda x: convjax.conv(x, kernel), (1, 6, 1, 4)))()
    expected = np.ones((4, 5), bool)
    expected[2], expected[:, 3] = False, False
    assert np.array_equal(found, expected)
    shifted = channel_reachability(lambda x: jnp.roll(x, 1, axis=0)[:1], (3, 2))
    assert np.array_equal(shifted, np.eye(2, dtype=bool))
    assert not channel_reachability(lambda x: jnp.ones(3), (2,)).any()


def stack(dilations, rank=2, channels=1, kernel_size=3):
    kernels = [jnp.ones((*[kernel_size] * rank, channels, channels)) for _ in dilations]

    def fn(x):
        for kernel, dilation in zip(kernels, dilations, strict=True):
            x = convjax.dilated_conv(x, kernel, dilation)
        return x

    return fn


def test_the_context_module_sees_3_5_9_17_33_65_67():
    """Along a line of 81, layer by layer, as `arithmetic.receptive_field` computes."""
    dilations = [1, 1, 2, 4, 8, 16, 1]
    sizes = []
    for depth in range(1, 8):
        seen = empirical_receptive_field(stack(dilations[:depth], rank=1), (1, 81, 1), draws=1)
        sizes.append(int(seen.size[0]))
        assert int(seen.start[0]) == 40 - sizes[-1] // 2
        layers = [(3, 1, d) for d in dilations[:depth]]
        assert sizes[-1] == convjax.arithmetic.receptive_field(layers).size
    assert sizes == [3, 5, 9, 17, 33, 65, 67]


def test_gaps_count_in_the_size_and_weigh_nothing():
    """The gridding of repeated dilations: every second place is never seen."""
    size, start, weights = empirical_receptive_field(stack([2, 2, 2]), (1, 15, 17, 1), draws=2)
    assert size.tolist() == [13, 13] and start.tolist() == [1, 2]
    assert int((weights > 0).sum()) == 7 * 7
    line = [1, 3, 6, 7, 6, 3, 1]  # paths: (1, 1, 1) three times with itself
    assert weights[1:14:2, 2:15:2].tolist() == np.multiply.outer(line, line).tolist()


def test_opposite_channels_do_not_hide_each_other():
    kernel = jnp.concatenate([jnp.ones((5, 3, 1, 1)), -jnp.ones((5, 3, 1, 1))], axis=-1)

    def fn(x):
        return jax.nn.relu(convjax.conv(x, kernel, strides=2)) @ jnp.ones((2, 2))

    found = jax.jit(lambda: empirical_receptive_field(fn, (2, 16, 12, 1)))()
    assert found.size.tolist() == [5, 3] and found.weights.shape == (16, 12)


def test_nothing_seen_has_size_0():
    found = empirical_receptive_field(lambda x: jnp.zeros_like(x), (1, 5, 5, 2))
    assert found.size.tolist() == [0, 0] and not found.weights.any()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_planted_ranks(rank):
    """The first `rank` energies come from planted singular values; then all is kept."""
    planted = np.array([3.0, 2.0, 1.0])[:rank]
    u, v = np.linalg.qr(RNG.normal(size=(5, 5)))[0], np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    filters = np.stack([1e-20 * (u[:, :rank] * planted) @ v[:, :rank].T] * 2, -1)[..., None, :]
    energy = jax.jit(rank_energy)(jnp.asarray(filters, jnp.float32))
    expected = np.ones(3)
    expected[:rank] = np.cumsum(planted**2) / (planted**2).sum()
    assert energy.shape == (3, 1, 2)
    for channel in range(2):
        assert energy[:, 0, channel] == pytest.approx(expected, abs=1e-5)


def test_known_kernels():
    sobel = jnp.asarray([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[..., None, None]
    assert rank_energy(sobel)[0].item() == pytest.approx(1)
    assert rank_energy(jnp.eye(3)[..., None, None]).ravel() == pytest.approx([1 / 3, 2 / 3, 1])
    assert rank_energy(jnp.zeros((3, 3, 2, 1))).tolist() == np.ones((3, 2, 1)).tolist()


@pytest.mark.parametrize(
    ("size", "one", "two"),
    [(3, 0.747, 0.971), (5, 0.547, 0.823), (7, 0.427, 0.688), (11, 0.296, 0.509)],
)
def test_random_kernels(size, one, two):
    """The null of every statement on the rank of learned kernels; 4,000 draws."""
    energy = rank_energy(jax.random.normal(jax.random.key(size), (size, size, 40, 100)))
    assert energy[0].mean().item() == pytest.approx(one, abs=0.006)
    assert energy[1].mean().item() == pytest.approx(two, abs=0.006)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank_energy(jnp.ones((3, 1, 1))), r"must be \(K1, K2, I, O\)"),
        (lambda: rank_energy(jnp.ones((3, 3, 3, 1, 1))), r"three spatial axes, give the planes"),
        (lambda: channel_reachability(lambda x: x, ()), r"`shape` \(=\(\)\) must be"),
        (lambda: channel_reachability(lambda x: x, (1, 0)), r"`shape` .* must be at least 1"),
        (lambda: channel_reachability(lambda x: x, (1, 2), draws=0), r"`draws` \(=0\) must be"),
        (lambda: empirical_receptive_field(lambda x: x, (4, 2)), "of at least 3 axes"),
        (lambda: empirical_receptive_field(lambda x: x[0], (1, 4, 4, 2)), "as many axes as"),
    ],
)
def test_wrong_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank_energy(jnp.ones((3, 3, 1, 1)) * 1j), "`kernel` .*complex.* must be real"),
        (lambda: channel_reachability(lambda x: x, 4), r"`shape` \(=4\) must be a sequence"),
        (lambda: channel_reachability(lambda x: (x, x), (1, 2)), "`fn` .* must return one array"),
        (lambda: empirical_receptive_field(lambda x: x, (1, 4.0, 4)), r"`shape` .* integers"),
        (lambda: empirical_receptive_field(lambda x: x, (1, 4, 4), seed="a"), "`seed` .* integer"),
    ],
)
def test_wrong_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()
