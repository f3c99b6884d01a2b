"""Law "lowerings": groups merged into blocks, whose written-out zeros meet other groups."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from problems import problem
from programs import lowered

import convjax
from convjax._lowerings import block_diagonal

BLOCKS = ("block_diagonal",) * 3


def of_block(shape, kernel_shape, groups, **options):
    """Value and both gradients by blocks, and by the oracle."""
    x, kernel = (jnp.asarray(oracle.integers(i, s)) for i, s in enumerate((shape, kernel_shape)))
    options["feature_group_count"] = groups
    function = jax.jit(partial(convjax.conv, **options, algorithm=BLOCKS))
    value, pull = jax.vjp(function, x, kernel)
    y = jnp.asarray(oracle.integers(2, value.shape))
    numbers = [np.asarray(a) for a in (x, kernel, y)]
    wanted = (
        oracle.conv(numbers[0], numbers[1], **options),
        oracle.input_gradient(shape, numbers[2], numbers[1], **options),
        oracle.kernel_gradient(numbers[0], numbers[2], kernel_shape, **options),
    )
    return (value, *pull(y)), wanted


@pytest.mark.parametrize(
    "shape, kernel_shape, groups, options",
    [
        ((2, 7, 6, 8), (3, 2, 2, 12), 4, {"strides": (2, 1)}),
        ((1, 6, 5, 320), (2, 2, 32, 320), 10, {}),  # two blocks: five groups of 32 exceed 128
        ((2, 5, 384), (3, 32, 384), 12, {"padding": "CAUSAL"}),  # three blocks of four groups
        ((2, 4, 4, 1024), (1, 1, 128, 1024), 8, {}),  # a product: two blocks of four groups
        ((1, 4, 5, 6, 6), (2, 3, 2, 2, 9), 3, {"kernel_dilation": (2, 1, 1)}),
    ],
)
def test_every_block(shape, kernel_shape, groups, options):
    found, wanted = of_block(shape, kernel_shape, groups, **options)
    for ours, right in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, right)


@pytest.mark.parametrize(
    "groups, channels, window, blocks_of",
    [
        (4, 32, (3, 3), 4),  # all of them: 128 channels
        (32, 8, (3, 3), 16),  # 128 of 256
        (4, 48, (3, 3), 4),  # no number of groups has 128: all 192
        (8, 48, (3, 3), 2),  # 384 are too many: 96
        (3, 80, (1, 1), 3),  # products: all up to 512
        (16, 64, (1, 1), 8),
        (2, 129, (3, 3), 1),
    ],
)
def test_how_many_groups_a_block_has(groups, channels, window, blocks_of):
    asked = problem(groups=groups, i=channels, o=channels, window=window)
    assert block_diagonal.together(asked) == blocks_of
    assert (block_diagonal.accepts(asked) is None) == (blocks_of > 1)


def test_what_is_written_out_is_bounded():
    asked = problem(groups=256, i=2, o=2, window=(63, 65), space=(99, 99), out_space=(99, 99))
    assert 256 * 2 * 2 * 63 * 65 * block_diagonal.together(asked) <= 1 << 23
    assert block_diagonal.together(asked) < 64


def text(dtype, algorithm=BLOCKS):
    x, kernel = jnp.ones((2, 8, 8, 8), dtype), jnp.ones((3, 3, 2, 8), dtype)
    function = partial(convjax.conv, feature_group_count=4, algorithm=algorithm)
    return lowered(function, x, kernel)


def test_only_numbers_that_may_be_infinite_are_looked_at():
    assert text(jnp.float32).count_of("case")
    assert not text(jnp.int32).count_of("case")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_computed_by_lax(bad):
    """The same bits: also where infinities of both signs meet, and where a sum overflows."""
    x = np.asarray(oracle.integers(0, (2, 6, 6, 8)), np.float32)
    kernel = jnp.asarray(oracle.integers(1, (3, 3, 2, 8)), jnp.float32)
    x[0, 2, 3, 1], x[1, 1, 1, 6] = bad, -bad
    function = partial(convjax.conv, feature_group_count=4)
    found = jax.jit(partial(function, algorithm=BLOCKS))(x, kernel)
    np.testing.assert_array_equal(found, function(x, kernel, algorithm="direct"))
    assert 0 < np.isfinite(found).sum() < found.size
    huge = np.full_like(x, 1e37)  # each result is finite, their sum is not
    found = jax.jit(partial(function, algorithm=BLOCKS))(huge, abs(kernel) / 9)
    np.testing.assert_allclose(
        found, function(huge, abs(kernel) / 9, algorithm="direct"), rtol=1e-6
    )
    assert np.isfinite(found).all()
