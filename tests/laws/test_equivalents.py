"""The matrix of a convolution, the dense kernels, and the factors found back in them."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import convjax
from convjax import equivalents
from convjax.kinds import KINDS

MATRICES = [
    ((5,), (3, 2, 4), {}),
    ((6,), (3, 2, 4), {"padding": "CAUSAL", "strides": 2, "kernel_dilation": 2}),
    ((4,), (2, 1, 6), {"padding": "FULL", "padding_mode": "wrap", "feature_group_count": 3}),
    ((4, 5), (3, 2, 2, 3), {"padding": "VALID"}),
    ((4, 5), (3, 2, 2, 6), {"feature_group_count": 3, "strides": (1, 2)}),
    ((4, 5), (3, 3, 1, 2), {"padding": ((2, -1), (-1, 3)), "kernel_dilation": (1, 2)}),
    ((4, 5), (3, 2, 1, 2), {"input_dilation": (2, 3), "padding": "SAME_LOWER"}),
    ((4, 5), (3, 2, 1, 2), {"padding": 2, "padding_mode": ("reflect", "symmetric")}),
    ((4, 5), (3, 2, 1, 2), {"padding": 5, "padding_mode": "edge", "strides": 3}),
    ((3, 2, 4), (2, 2, 3, 2, 2), {"padding": "FULL", "strides": (1, 2, 2)}),
    ((3, 0), (1, 1, 2, 2), {}),
]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("space", "shape", "options"), MATRICES)
def test_matrix_is_the_oracles(space, shape, options, sparse):
    kernel = oracle.integers(3, shape)
    got = equivalents.conv_matrix(kernel, space, sparse=sparse, **options)
    if sparse:
        assert got.unique_indices and got.indices_sorted
        places = np.asarray(got.indices)
        assert len(np.unique(places, axis=0)) == len(places)
        got = got.todense()
    assert got.dtype == kernel.dtype
    np.testing.assert_array_equal(got, oracle.matrix(kernel, space, **options))


def test_matrix_in_other_layouts():
    """Rows and columns follow y and x as they lie in memory, without the batch."""
    kernel, x = oracle.integers(1, (2, 3, 3, 2)), oracle.integers(2, (4, 2, 5, 1))
    options = {"dimension_numbers": ("WCHN", "HWOI", "CNHW"), "strides": (2, 1), "padding": 1}
    y = convjax.conv(x, kernel, **options)  # (O, N, H', W')
    for sparse in (False, True):
        matrix = equivalents.conv_matrix(kernel, (5, 4), sparse=sparse, **options)
        np.testing.assert_array_equal(matrix @ x.ravel(), y.ravel())


def test_matrix_is_transposed_by_conv_transpose_and_is_no_isometry():
    kernel = oracle.integers(4, (3, 3, 1, 1))
    matrix = equivalents.conv_matrix(kernel, 4, padding="VALID")
    assert matrix.shape == (4, 16) and np.count_nonzero(matrix) == 4 * np.count_nonzero(kernel)
    y = oracle.integers(5, (1, 2, 2, 1))
    got = convjax.conv_transpose(y, kernel, padding="VALID")
    np.testing.assert_array_equal(got.ravel(), matrix.T @ y.ravel())
    assert np.linalg.matrix_rank(matrix.T @ matrix) <= 4


def test_matrix_is_differentiable_and_jits():
    kernel = jnp.asarray(oracle.integers(6, (3, 2, 2, 3)))
    x = oracle.integers(7, (1, 4, 5, 2))

    def by_matrix(kernel):
        options = {"padding_mode": "wrap", "sparse": True}
        return (equivalents.conv_matrix(kernel, (4, 5), **options) @ x.ravel())[::2].sum()

    def by_conv(kernel):
        return convjax.conv(x, kernel, padding_mode="wrap").ravel()[::2].sum()

    got = jax.jit(jax.grad(by_matrix))(kernel)
    np.testing.assert_array_equal(got, jax.grad(by_conv)(kernel))


@pytest.mark.parametrize(
    ("error", "arguments", "options", "words"),
    [
        (ValueError, (np.ones((3, 2, 2)), (4, 5)), {}, "`space` .*one entry per spatial axis"),
        (ValueError, (np.ones((9, 2, 2)), 4), {"padding": "VALID"}, "`kernel` .*larger than"),
        (ValueError, (np.ones((3, 2, 5)), 4), {"feature_group_count": 2}, "`feature_group_count`"),
        (TypeError, ([1.0, 2.0], 4), {}, "`kernel` must be an array"),
        (TypeError, (np.ones((3, 2, 2)), 4.5), {}, "`space` .*must be an integer"),
    ],
)
def test_matrix_errors(error, arguments, options, words):
    with pytest.raises(error, match=f"^conv_matrix: {words}"):
        equivalents.conv_matrix(*arguments, **options)


# ---- dense kernels (that they are equal is tested for every kind in test_kinds.py) ---------------


def test_grouped_kernel_is_block_diagonal():
    dense = equivalents.grouped(jnp.arange(1.0, 9).reshape(1, 2, 4), groups=2)
    np.testing.assert_array_equal(
        dense[0], [[1, 2, 0, 0], [5, 6, 0, 0], [0, 0, 3, 4], [0, 0, 7, 8]]
    )


def test_grouped_kernel_keeps_what_is_not_finite_in_its_block():
    kernel = jnp.ones((1, 1, 2)).at[0, 0, 0].set(jnp.inf)
    np.testing.assert_array_equal(equivalents.grouped(kernel, 2)[0], [[np.inf, 0], [0, 1]])


def test_channel_shuffle_kernel_is_a_permutation():
    kernel = equivalents.channel_shuffle(6, 3, rank=1)[0]
    np.testing.assert_array_equal(jnp.arange(1, 7) @ kernel, [1, 3, 5, 2, 4, 6])


@pytest.mark.parametrize("groups", [1, 3])
def test_transposed_kernel_with_groups(groups):
    kernel = oracle.integers(8, (3, 2, 2, 6))
    y = oracle.integers(9, (2, 4, 3, 6))
    expected = convjax.conv_transpose(
        y, kernel, strides=2, padding="VALID", feature_group_count=groups
    )
    got = convjax.conv(
        y,
        equivalents.transposed(kernel, groups),
        input_dilation=2,
        padding="FULL",
        feature_group_count=groups,
    )
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("scale", [(2, 3), (1, 4)])
def test_upsampling_kernels_with_a_scale_per_axis(scale):
    x, kernel = oracle.integers(1, (1, 4, 3, 2)), oracle.integers(2, (3, 2, 2, 12))
    transposed = {"strides": scale, "padding": "VALID"}
    np.testing.assert_array_equal(
        convjax.resize(x, scale),
        convjax.conv_transpose(x, equivalents.resize(scale, 2), **transposed),
    )
    np.testing.assert_array_equal(
        convjax.resize_conv(x, kernel, scale, padding="FULL"),
        convjax.conv_transpose(x, equivalents.resize_conv(kernel, scale), **transposed),
    )
    np.testing.assert_array_equal(
        convjax.subpixel_conv(x, kernel, scale, padding="FULL"),
        convjax.conv_transpose(x, equivalents.subpixel(kernel, scale), **transposed),
    )


def test_a_subpixel_kernel_has_r_times_the_taps():
    """Shi et al.: sub-pixel convolution is a transposed one whose kernel the stride divides."""
    assert equivalents.subpixel(jnp.ones((3, 2, 4, 12)), 2).shape == (6, 4, 3, 4)
    assert equivalents.resize_conv(jnp.ones((3, 2, 4, 12)), 2).shape == (4, 3, 12, 4)


# ---- factors -------------------------------------------------------------------------------------


def product(factors):
    found = factors[0]
    for factor in factors[1:]:
        found = found * factor
    return found


def test_rank_energy_begins_with_what_the_best_factors_keep():
    kernel = np.random.default_rng(4).normal(size=(5, 3, 2, 4)).astype(np.float32)
    kept = equivalents.rank_energy(kernel)
    assert kept.shape == (3, 2, 4)
    np.testing.assert_allclose(kept[0], equivalents.separate_kernel(kernel).energy, rtol=1e-5)


def test_sobel_splits_exactly():
    sobel = np.outer([1.0, 2, 1], [-1.0, 0, 1]).reshape(3, 3, 1, 1).astype(np.float32)
    (smooth, slope), energy = equivalents.separate_kernel(sobel)
    np.testing.assert_allclose(smooth.ravel(), [1, 2, 1], rtol=1e-6)
    np.testing.assert_allclose(slope.ravel(), [-1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(energy, [[1]], rtol=1e-6)
    x = oracle.integers(0, (1, 9, 8, 1))
    np.testing.assert_allclose(
        convjax.spatially_separable_conv(x, [smooth, slope]), convjax.conv(x, sobel), atol=1e-4
    )


@pytest.mark.parametrize("window", [(5,), (4, 3), (3, 4, 2), (3, 2, 2, 3)])
def test_rank_one_kernels_are_found(window):
    rng = np.random.default_rng(len(window))
    shapes = [[k if a == axis else 1 for a in range(len(window))] for axis, k in enumerate(window)]
    kernel = product([rng.normal(size=(*shape, 3, 4)) for shape in shapes]).astype(np.float32)
    factors, energy = jax.jit(equivalents.separate_kernel)(kernel)
    assert [f.shape for f in factors] == [(*shape, 3, 4) for shape in shapes]
    np.testing.assert_allclose(product(factors), kernel, atol=1e-5)
    np.testing.assert_allclose(energy, np.ones((3, 4)), rtol=1e-5)
    for factor in factors[1:]:
        largest = np.abs(factor).max(axis=tuple(range(len(window))))
        np.testing.assert_allclose(largest, np.ones((3, 4)), rtol=1e-6)


def test_equal_singular_values_still_give_a_pair():
    """Rows and columns that belong to different ones of the equal values would keep nothing."""
    edge = np.array([[0, 1, 2], [-1, 0, 1], [-2, -1, 0]], np.float32)
    plane = np.pad(edge, 1)[..., None, None]
    assert equivalents.separate_kernel(plane).energy == pytest.approx(0.5, abs=1e-5)
    cube = np.pad(np.eye(3, dtype=np.float32)[:, :, None] * np.eye(3), 1)[..., None, None]
    assert equivalents.separate_kernel(cube).energy == pytest.approx(1 / 3, abs=1e-5)


@pytest.mark.parametrize("window", [(4, 3), (3, 4, 2)])
def test_energy_is_what_the_factors_keep_and_cannot_be_bettered(window):
    rng = np.random.default_rng(7)
    kernel = rng.normal(size=(*window, 2, 3)).astype(np.float32)
    factors, energy = equivalents.separate_kernel(kernel)
    axes = tuple(range(len(window)))
    residual = ((kernel - product(factors)) ** 2).sum(axes) / (kernel**2).sum(axes)
    np.testing.assert_allclose(energy, 1 - residual, atol=1e-5)
    if len(window) == 2:
        singular = np.linalg.svd(np.moveaxis(kernel, (0, 1), (2, 3)), compute_uv=False)
        np.testing.assert_allclose(energy, singular[..., 0] ** 2 / (singular**2).sum(-1), rtol=1e-5)
    loss = jax.grad(lambda fs: ((kernel - product(fs)) ** 2).sum())
    assert max(float(jnp.abs(g).max()) for g in loss(list(factors))) < 1e-3  # a stationary point


def test_energy_of_random_kernels():
    """The null of every separability figure: 0.747 for 3 x 3, 0.547 for 5 x 5 Gaussian kernels."""
    for taps, expected in ((3, 0.747), (5, 0.547)):
        kernel = np.random.default_rng(taps).normal(size=(taps, taps, 80, 80)).astype(np.float32)
        energy = equivalents.separate_kernel(kernel).energy
        assert float(energy.mean()) == pytest.approx(expected, abs=0.005)


def test_depthwise_factors_are_flattened_kernels():
    """Rank-1 filters zyx: the lateral and two depthwise factors equal the full convolution."""
    example = KINDS["flattened"].example(2)
    dense = equivalents.flattened(example.kernels[0], example.kernels[1:])
    assert float(equivalents.separate_kernel(dense).energy.min()) == pytest.approx(1, abs=1e-5)
    spatial = product(example.kernels[1:])
    factors, _ = equivalents.separate_kernel(spatial)
    got = convjax.flattened_conv(example.x, example.kernels[0], factors)
    np.testing.assert_allclose(got, example(), atol=1e-3)


def test_separable_chain():
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=(3, 2, 4, 5)).astype(np.float32)
    kernels, energy = equivalents.separable_chain(kernel, 12)
    assert [k.shape for k in kernels] == [(3, 1, 4, 10), (1, 2, 10, 5)]  # min(3*4, 2*5) suffices
    np.testing.assert_allclose(equivalents.spatially_separable(kernels), kernel, atol=1e-5)
    assert float(energy) == pytest.approx(1, abs=1e-6)
    kernels, energy = equivalents.separable_chain(kernel, 3)
    error = equivalents.spatially_separable(kernels) - kernel
    assert float(energy) == pytest.approx(1 - float((error**2).sum() / (kernel**2).sum()), abs=1e-5)
    matrix = np.moveaxis(kernel, 2, 0).reshape(12, 10)
    singular = np.linalg.svd(matrix, compute_uv=False)
    expected = float((singular[:3] ** 2).sum() / (singular**2).sum())
    assert float(energy) == pytest.approx(expected, abs=1e-5)


def test_separable_chain_of_three_axes_finds_chains_back():
    example = KINDS["spatially_separable"].example(3)
    dense = equivalents.spatially_separable(example.kernels)
    kernels, energy = equivalents.separable_chain(dense, (5, 6))
    assert float(energy) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(equivalents.spatially_separable(kernels), dense, atol=1e-2)


def test_a_zero_kernel_is_separable():
    factors, energy = equivalents.separate_kernel(np.zeros((3, 3, 2, 2)))
    assert not product(factors).any() and (energy == 1).all()
    assert float(equivalents.separable_chain(np.zeros((3, 3, 2, 2)), 1).energy) == 1


@pytest.mark.parametrize(
    ("error", "name", "arguments", "words"),
    [
        (ValueError, "separate_kernel", (np.ones((2, 3)),), r"`kernel` \(=\(2, 3\)\) must have at"),
        (TypeError, "separate_kernel", (np.ones((3, 1, 1), complex),), "`kernel` .*must be real"),
        (TypeError, "separate_kernel", ([[1.0]],), "`kernel` must be an array"),
        (ValueError, "separable_chain", (np.ones((3, 3, 1, 1)), 0), r"`mid_features` \(=0\) must"),
        (ValueError, "dilated", (np.ones((3, 1, 1)), 0), r"`kernel_dilation` \(=0\) must be at"),
        (ValueError, "resize_conv", (np.ones((3, 1, 1)), 0), r"`scale` \(=0\) must be at least 1"),
    ],
)
def test_errors(error, name, arguments, words):
    with pytest.raises(error, match=f"^{name}: {words}"):
        getattr(equivalents, name)(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda e: e.grouped(ones(3, 3, 2, 13), 3),
            r"grouped: `groups` \(=3\) must divide",
        ),
        (lambda e: e.shuffled_grouped(ones(3, 2, 8), 3), "shuffled_grouped: `groups` .* must div"),
        (
            lambda e: e.transposed(ones(3, 3, 4, 8), 3),
            "`feature_group_count` .* must divide the in",
        ),
        (lambda e: e.depthwise(ones(3, 3, 2, 12), 6), "depthwise: `kernel` .* must have 1 input"),
        (lambda e: e.depthwise(ones(3, 3, 1, 13), 6), r"multiple of `in_features` \(=6\) outputs"),
        (
            lambda e: e.depthwise_separable(ones(3, 1, 6), ones(3, 6, 8), 3),
            r"`pointwise_kernel` \(=\(3, 6, 8\)\) must have extent 1 on every spatial axis",
        ),
        (
            lambda e: e.depthwise_separable(ones(3, 1, 6), ones(1, 5, 8), 3),
            "`pointwise_kernel` .* must have 6 input channels",
        ),
        (
            lambda e: e.spatially_separable([ones(3, 1, 4, 2), ones(3, 1, 2, 8)]),
            r"`kernels\[1\]` .* must have extent 1 on every spatial axis but 1",
        ),
        (
            lambda e: e.spatially_separable([ones(3, 1, 4, 2), ones(1, 3, 5, 8)]),
            r"`kernels\[1\]` .* must have 2 input channels",
        ),
        (
            lambda e: e.flattened(ones(3, 3, 4, 8), [ones(3, 1, 1, 8), ones(1, 3, 1, 8)]),
            "flattened: `lateral_kernel` .* must have extent 1 on every spatial axis",
        ),
        (
            lambda e: e.flattened(ones(1, 1, 4, 8), [ones(3, 1, 1, 8), ones(1, 3, 1, 1)]),
            r"`spatial_kernels\[1\]` .* must have 1 input channel and 8 output channels",
        ),
    ],
)
def test_kernels_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(equivalents)


def ones(*shape):
    return np.ones(shape, np.float32)
