"""Numbers: every dtype, what accumulates in what, what gradients are made of, and locality."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from test_conv import run

import convjax

SHORT = [jnp.float32, jnp.float16, jnp.bfloat16, jnp.complex64]
INTEGERS = [jnp.int8, jnp.int16, jnp.int32, jnp.uint8, jnp.uint32]
LONG = [jnp.float64, jnp.complex128, jnp.int64]
OPTIONS = {
    "strides": (1, 2),
    "padding": [(1, 2), (2, 0)],
    "padding_mode": ("symmetric", "constant"),
    "feature_group_count": 2,
}


def small(dtype, bound=2):
    """x and kernel whose every partial sum is exact in `dtype`."""
    low = 0 if np.issubdtype(dtype, np.unsignedinteger) else None
    x, kernel = (
        oracle.integers(seed, shape, np.complex64 if jnp.issubdtype(dtype, jnp.complexfloating) else
                        np.int32, bound)
        for seed, shape in ((0, (2, 5, 6, 4)), (1, (3, 2, 2, 6)))
    )  # fmt: skip
    return (abs(x), abs(kernel)) if low == 0 else (x, kernel)


@pytest.mark.parametrize("dtype", [*SHORT, *INTEGERS, *LONG], ids=lambda d: jnp.dtype(d).name)
def test_conv_and_its_adjoint_in(dtype):
    with jax.enable_x64(dtype in LONG):
        wide_x, wide_kernel = small(dtype)
        x, kernel = jnp.asarray(wide_x, dtype), jnp.asarray(wide_kernel, dtype)
        y = jax.jit(partial(convjax.conv, **OPTIONS))(x, kernel)
        assert y.dtype == dtype
        wanted = oracle.conv(wide_x, wide_kernel, **OPTIONS)
        np.testing.assert_array_equal(np.asarray(y).astype(wanted.dtype), wanted)

        back = jax.jit(partial(convjax.conv_transpose, output_shape=(5, 6), **OPTIONS))(y, kernel)
        assert back.dtype == dtype
        exact = dtype not in (jnp.bfloat16, jnp.float16, jnp.int8, jnp.uint8)
        wanted = oracle.conv_transpose(wanted, wide_kernel, (5, 6), **OPTIONS)
        if exact:
            np.testing.assert_array_equal(back, wanted)
        elif jnp.issubdtype(dtype, jnp.floating):
            error = np.abs(np.asarray(back, np.float64) - wanted).max()
            assert error <= float(jnp.finfo(dtype).eps) * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", [*SHORT, *LONG[:2]], ids=lambda d: jnp.dtype(d).name)
def test_gradients_keep_their_operands_dtype(dtype):
    with jax.enable_x64(dtype in LONG):
        wide_x, wide_kernel = small(dtype)
        x, kernel = jnp.asarray(wide_x, dtype), jnp.asarray(wide_kernel, dtype)
        y, pull = jax.vjp(partial(convjax.conv, **OPTIONS), x, kernel)
        weights = oracle.integers(2, y.shape, np.int32, 1)
        x_gradient, kernel_gradient = pull(jnp.asarray(weights, dtype))
        assert x_gradient.dtype == kernel_gradient.dtype == dtype
        wanted = oracle.input_gradient(x.shape, weights, wide_kernel, **OPTIONS)
        np.testing.assert_array_equal(np.asarray(x_gradient).astype(wanted.dtype), wanted)
        wanted = oracle.kernel_gradient(wide_x, weights, kernel.shape, **OPTIONS)
        np.testing.assert_array_equal(np.asarray(kernel_gradient).astype(wanted.dtype), wanted)
        tangent = jax.jvp(partial(convjax.conv, **OPTIONS), (x, kernel), (x, kernel))[1]
        assert tangent.dtype == dtype
        np.testing.assert_array_equal(tangent, 2 * y)


def test_nothing_is_conjugated():
    x, kernel = (oracle.integers(s, shape, np.complex64) for s, shape in enumerate(
        [(2, 7, 3), (3, 3, 4)]))  # fmt: skip
    np.testing.assert_array_equal(run(convjax.conv, 1j * x, kernel), 1j * oracle.conv(x, kernel))
    np.testing.assert_array_equal(run(convjax.conv, x, 1j * kernel), 1j * oracle.conv(x, kernel))
    y = oracle.conv(x, kernel).astype(np.complex64)
    back = run(convjax.conv_transpose, 1j * y, 1j * kernel)
    np.testing.assert_array_equal(back, -oracle.conv_transpose(y, kernel, (7,)))


PROMOTIONS = [
    (jnp.int8, jnp.int32),
    (jnp.int8, jnp.int16),
    (jnp.uint8, jnp.uint32),
    (jnp.bfloat16, jnp.float32),
    (jnp.float16, jnp.float32),
    (jnp.float32, jnp.float32),
]


@pytest.mark.parametrize("narrow, wide", PROMOTIONS, ids=lambda d: jnp.dtype(d).name)
def test_preferred_element_type(narrow, wide):
    """Sums that overflow or round in the narrow type are exact in the wide one."""
    bound = 100 if jnp.issubdtype(narrow, jnp.integer) else 16
    x, kernel = small(narrow, bound)
    if wide == jnp.int16:
        x, kernel = x % 20, kernel % 20
    y = jax.jit(partial(convjax.conv, preferred_element_type=wide, **OPTIONS))(
        jnp.asarray(x, narrow), jnp.asarray(kernel, narrow)
    )
    assert y.dtype == wide
    np.testing.assert_array_equal(y, oracle.conv(x, kernel, **OPTIONS))
    cotangent = jnp.asarray(np.asarray(y) % 50, narrow)
    transpose = partial(convjax.conv_transpose, preferred_element_type=wide, feature_group_count=2)
    back = jax.jit(transpose)(cotangent, jnp.asarray(kernel, narrow))
    assert back.dtype == wide
    wanted = oracle.conv_transpose(
        np.asarray(cotangent).astype(int), kernel, y.shape[1:-1], feature_group_count=2
    )
    np.testing.assert_array_equal(back, wanted)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=lambda d: jnp.dtype(d).name)
def test_gradients_of_a_wide_result_of_narrow_operands(dtype):
    """bfloat16 operands, float32 result: the cotangent is float32, each gradient bfloat16."""
    wide_x, wide_kernel = small(dtype, 4)
    x, kernel = jnp.asarray(wide_x, dtype), jnp.asarray(wide_kernel, dtype)
    function = partial(convjax.conv, preferred_element_type=jnp.float32, **OPTIONS)
    y, pull = jax.vjp(function, x, kernel)
    weights = oracle.integers(2, y.shape, np.float32, 1)
    x_gradient, kernel_gradient = jax.jit(pull)(weights)
    assert y.dtype == jnp.float32 and x_gradient.dtype == kernel_gradient.dtype == dtype
    wanted = oracle.input_gradient(x.shape, weights, wide_kernel, **OPTIONS)
    np.testing.assert_array_equal(x_gradient, jnp.asarray(wanted, dtype))
    wanted = oracle.kernel_gradient(wide_x, weights, kernel.shape, **OPTIONS)
    np.testing.assert_array_equal(kernel_gradient, jnp.asarray(wanted, dtype))

    def loss(x, kernel):
        return (function(x, kernel) ** 2).sum()

    hessian = jax.jvp(jax.grad(loss, (0, 1)), (x, kernel), (x, kernel))[1]
    assert [h.dtype for h in hessian] == [dtype, dtype]
    mapped = jax.vmap(jax.grad(loss, (0, 1)))(x[:, None], jnp.stack([kernel, 2 * kernel]))
    for i, scale in enumerate((1, 2)):
        single = jax.grad(loss, (0, 1))(x[i : i + 1], scale * kernel)
        for ours, theirs in zip(mapped, single, strict=True):
            assert ours.dtype == dtype
            np.testing.assert_array_equal(ours[i], theirs)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=lambda d: jnp.dtype(d).name)
@pytest.mark.parametrize("groups", [1, 2])
def test_sixteen_bits_accumulate_in_float32(groups, dtype):
    """A sum of 4,096 terms keeps float32's accuracy until it is rounded, once, to the result's."""
    rng = np.random.default_rng(0)

    def uniform(*shape):
        return jnp.asarray(rng.uniform(0.5, 1.5, shape) / 64, dtype)

    def exact(array):
        return np.asarray(array, np.float64)

    def close(ours, wanted):
        assert ours.dtype == dtype and ours.size == groups
        return np.abs(exact(ours) / wanted - 1).max() <= 0.51 * float(jnp.finfo(dtype).eps)

    options = {"feature_group_count": groups, "padding": "VALID"}
    x, kernel = uniform(1, 128, 32 * groups), uniform(128, 32, groups)
    y = convjax.conv(x, kernel, **options)
    assert close(y, oracle.conv(exact(x), exact(kernel), **options))

    kernel = uniform(128, 1, 32 * groups)
    options["padding"] = "FULL"
    back = convjax.conv_transpose(x, kernel, **options)
    assert close(back, oracle.conv_transpose(exact(x), exact(kernel), (1,), **options))
    options["padding"] = "VALID"
    x, y = uniform(32, 128, groups), uniform(32, 128, groups)
    (gradient,) = jax.linear_transpose(
        lambda k: convjax.conv(x, k, **options), jnp.zeros((1, 1, groups), dtype)
    )(y)
    assert close(gradient, oracle.kernel_gradient(exact(x), exact(y), (1, 1, groups), **options))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "groups, algorithm", [(1, None), (2, None), (2, ("block_diagonal",) * 3)]
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda d: jnp.dtype(d).name)
def test_a_nan_stays_where_its_taps_are(dtype, groups, algorithm, bad):
    x = np.abs(oracle.integers(0, (2, 7, 8, 4))) + 1
    kernel = np.abs(oracle.integers(1, (3, 2, 4 // groups, 6))) + 1
    options = {"strides": (2, 1), "padding": [(1, 2), (1, 0)], "feature_group_count": groups}
    convolve = partial(convjax.conv, algorithm=algorithm)
    marker = np.zeros_like(x)
    marker[1, 4, 5, 3] = 1
    x[1, 4, 5, 3] = bad
    y = run(convolve, jnp.asarray(x, dtype), jnp.asarray(kernel, dtype), **options)
    touched = oracle.conv(marker, kernel, **options) != 0
    np.testing.assert_array_equal(~np.isfinite(y.astype(np.float32)), touched)
    assert 0 < touched.sum() < touched.size

    # likewise one bad cotangent, in both gradients
    cotangent, mark = np.ones(y.shape, np.float32), np.zeros(y.shape)
    cotangent[1, 2, 3, 5], mark[1, 2, 3, 5] = bad, 1
    x[1, 4, 5, 3] = 1
    pull = jax.vjp(partial(convolve, **options), jnp.asarray(x, dtype), jnp.asarray(kernel, dtype))
    gradients = jax.jit(pull[1])(jnp.asarray(cotangent, dtype))
    touched = (
        oracle.input_gradient(x.shape, mark, kernel, **options) != 0,
        oracle.kernel_gradient(x, mark, kernel.shape, **options) != 0,
    )
    for gradient, wanted in zip(gradients, touched, strict=True):
        np.testing.assert_array_equal(~np.isfinite(np.asarray(gradient, np.float32)), wanted)
        assert wanted.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("size, stride", [(3, 2), (4, 2), (5, 3), (7, 2), (2, 3)])
def test_a_nan_stays_where_a_transposed_kernel_puts_it(size, stride, bad):
    y = np.ones((1, 5, 6, 2), np.float32)
    marker = np.zeros_like(y)
    y[0, 2, 3, 1], marker[0, 2, 3, 1] = bad, 1
    kernel = np.abs(oracle.integers(1, (size, 2, 3, 2))) + 1
    found = run(convjax.conv_transpose, y, kernel, strides=(stride, 1), padding="VALID")
    touched = run(convjax.conv_transpose, marker, kernel, strides=(stride, 1), padding="VALID") != 0
    np.testing.assert_array_equal(~np.isfinite(found), touched)
    assert 0 < touched.sum() < touched.size


def test_numpy_operands_and_jax_operands_mix():
    x, kernel = oracle.integers(0, (2, 6, 4)), oracle.integers(1, (3, 4, 5))
    wanted = oracle.conv(x, kernel)
    for a, b in [(x, jnp.asarray(kernel)), (jnp.asarray(x), kernel), (x, kernel)]:
        y = convjax.conv(a, b)
        assert isinstance(y, jax.Array)
        np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("narrow", [jnp.int8, jnp.int32], ids=lambda d: jnp.dtype(d).name)
def test_integers_differentiate_as_integers_do_in_jax(narrow):
    x, kernel = small(narrow)
    x, kernel = jnp.asarray(x, narrow), jnp.asarray(kernel, narrow)
    function = partial(convjax.conv, **OPTIONS)
    tangents = tuple(np.zeros(a.shape, jax.dtypes.float0) for a in (x, kernel))
    y, tangent = jax.jvp(function, (x, kernel), tangents)
    assert y.dtype == narrow and tangent.dtype == jax.dtypes.float0


@pytest.mark.parametrize("algorithm", [None, "matmul", "per_group", "taps"])
@pytest.mark.parametrize("strides", [1, 2])
def test_groups_of_bfloat16_with_a_batch(strides, algorithm):
    """XLA's CPU compiles, and then refuses, products of bfloat16 with a batch axis."""
    wide_x = oracle.integers(0, (8, 2, 2, 32), np.int32, 2)
    wide_kernel = oracle.integers(1, (1, 1, 8, 32), np.int32, 2)
    x, kernel = jnp.asarray(wide_x, jnp.bfloat16), jnp.asarray(wide_kernel, jnp.bfloat16)
    options = {"strides": strides, "feature_group_count": 4}

    @jax.jit
    def run(x, kernel):
        y, vjp = jax.vjp(partial(convjax.conv, algorithm=algorithm, **options), x, kernel)
        return y, *vjp(y)

    y, dx, dk = run(x, kernel)
    assert {y.dtype, dx.dtype, dk.dtype} == {jnp.dtype(jnp.bfloat16)}
    wanted = oracle.conv(wide_x, wide_kernel, **options)
    np.testing.assert_array_equal(np.asarray(y, np.int32), wanted)
