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
        ((1, 6, 5, 192), (2, 2, 32, 192), 6, {}),  # two blocks of three groups
        ((1, 6, 5, 240), (2, 2, 80, 240), 3, {}),  # a block for each
        ((2, 6, 5, 12), (2, 2, 2, 192), 6, {}),  # few inputs
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
        (4, 48, (3, 3), 2),  # 96 of 192
        (5, 48, (3, 3), 1),
        (3, 80, (1, 1), 3),  # products: up to 512
        (16, 64, (1, 1), 8),
        (2, 129, (3, 3), 1),
    ],
)
def test_how_many_groups_a_block_has(groups, channels, window, blocks_of):
    asked = problem(groups=groups, i=channels, o=channels, window=window)
    assert block_diagonal.together(asked) == blocks_of
    assert block_diagonal.accepts(asked) is None


def test_blocks_are_few():
    asked = problem(groups=17, i=128, o=128)
    assert "its groups fill 17 blocks" in block_diagonal.accepts(asked)
    assert block_diagonal.accepts(asked._replace(groups=16)) is None


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
def test_what_is_not_finite_reaches_its_taps_only(bad):
    """As in lax: also where infinities of both signs meet, and where a sum overflows."""
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


@pytest.mark.parametrize(
    "problem_, probed",
    [
        # size, window, out, stride, dilation, dilation of the input, padding before it
        ((28, 3, 28, 1, 1, 1, 1), slice(0, None, 3)),
        ((15, 3, 15, 1, 1, 1, 1), slice(1, None, 3)),
        ((12, 3, 10, 1, 1, 1, 0), slice(0, None, 3)),
        ((13, 3, 11, 1, 1, 1, 0), slice(0, None, 2)),  # every third misses an end
        ((12, 2, 6, 2, 1, 1, 0), slice(None)),
        ((13, 5, 6, 2, 1, 1, 2), slice(1, None, 2)),
        ((12, 3, 8, 1, 2, 1, 0), slice(None)),
        ((8, 4, 16, 1, 1, 2, 2), slice(1, None, 4)),
        ((12, 1, 12, 1, 1, 1, 0), slice(None)),
    ],
)
def test_what_is_looked_at_reads_every_input(problem_, probed):
    size, window, out, stride, dilation, spread, low = problem_

    def read(outputs):
        places = {o * stride + t * dilation - low for o in outputs for t in range(window)}
        return {p // spread for p in places if p % spread == 0 and 0 <= p // spread < size}

    found = block_diagonal.steps(*problem_)
    assert read(range(out)[found]) == read(range(out))
    assert found == probed


@pytest.mark.parametrize("operand, places", [(0, range(0, 240, 23)), (1, range(6)), (2, range(6))])
def test_one_number_that_is_not_finite_is_noticed(operand, places):
    """In any channel of x, kernel or cotangent, under a stride: two blocks of three groups."""
    geometry = {"strides": (2, 1), "kernel_dilation": (1, 2), "padding": [(1, 2), (0, 1)]}
    numbers = [
        np.asarray(oracle.integers(i, s), np.float32)
        for i, s in enumerate([(1, 5, 6, 240), (2, 2, 40, 6), (1, 4, 5, 6)])
    ]

    def all_three(algorithm, x, kernel, y):
        function = partial(convjax.conv, feature_group_count=6, algorithm=algorithm, **geometry)
        value, pull = jax.vjp(function, x, kernel)
        return value, *pull(y)

    apart, by_blocks = (jax.jit(partial(all_three, name)) for name in ("per_group", BLOCKS))
    for at in {"x": range(0, 240, 23), "kernel": range(6), "y": range(6)}[
        ["x", "kernel", "y"][operand]
    ]:
        given = [number.copy() for number in numbers]
        given[operand][..., -1, at] = np.inf
        for found, wanted in zip(by_blocks(*given), apart(*given), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_where_a_callback_splits_it():
    """Its masks must be no constants there."""
    x = jnp.asarray(oracle.integers(0, (2, 5, 6, 240)), jnp.float32).at[0, 1, 1, 7].set(jnp.inf)
    kernel = jnp.asarray(oracle.integers(1, (2, 2, 40, 6)), jnp.float32)
    mesh = jax.make_mesh((2,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    there = jax.device_put(x, jax.NamedSharding(mesh, jax.P("a")))
    function = partial(convjax.conv, feature_group_count=6)
    found = jax.jit(partial(function, algorithm=BLOCKS))(there, kernel)
    np.testing.assert_array_equal(found, function(x, kernel, algorithm="per_group"))
