"""Resizing, pixel shuffling and the hold, against jax.image, numpy and PyTorch's order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convjax
from convjax.kinds import KINDS

integers = np.random.default_rng(5).integers


def image(*shape, dtype=np.float32):
    return jnp.asarray(integers(-9, 10, shape), dtype)


# ---- resize ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 3, (4, 1, 5)])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("method", "theirs"), [("nearest", "nearest"), ("bilinear", "linear")])
def test_resize_is_that_of_jax_image(method, theirs, rank, scale):
    x = image(2, *(4, 3, 1)[:rank], 5)
    scale = scale if isinstance(scale, int) else scale[:rank]
    shape = (2, *np.multiply(x.shape[1:-1], scale), 5)
    expected = jax.image.resize(x, shape, theirs)
    got = jax.jit(lambda x: convjax.resize(x, scale, method=method))(x)
    assert got.dtype == x.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_resize_of_one_row_by_hand():
    x = jnp.array([0.0, 12.0]).reshape(1, 2, 1)
    assert convjax.resize(x, 3).ravel().tolist() == [0, 0, 0, 12, 12, 12]
    assert convjax.resize(x, 2, method="bilinear").ravel().tolist() == [0, 3, 9, 12]
    assert convjax.resize(x, 3, method="bilinear").ravel().tolist() == [0, 0, 4, 8, 12, 12]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64, jnp.int8, jnp.bool_])
def test_resize_keeps_the_dtype(dtype):
    x = image(1, 3, 4, 2).astype(dtype)
    assert convjax.resize(x, 2).dtype == dtype
    if jnp.issubdtype(dtype, jnp.inexact):
        got = convjax.resize(x, 3, method="bilinear")
        assert got.dtype == dtype
        wide = x.astype(jnp.promote_types(dtype, jnp.float32))
        expected = convjax.resize(wide, 3, method="bilinear").astype(dtype)
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_resize_is_linear_and_its_gradient_the_adjoint(method):
    x, y = image(1, 3, 4, 2), image(1, 12, 16, 2)
    resize = jax.jit(lambda x: convjax.resize(x, 4, method=method))
    (back,) = jax.linear_transpose(resize, x)(y)
    assert float((resize(x) * y).sum()) == float((x * back).sum())
    np.testing.assert_array_equal(jax.vjp(resize, x)[1](y)[0], back)
    np.testing.assert_array_equal(jax.jvp(resize, (x,), (2 - x,))[1], resize(2 - x))


def test_a_nan_reaches_only_its_neighbours():
    x = jnp.zeros((1, 7, 1)).at[0, 3, 0].set(jnp.nan)
    touched = np.flatnonzero(jnp.isnan(convjax.resize(x, 3, method="bilinear")))
    np.testing.assert_array_equal(touched, range(8, 13))


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_resize_conv_is_a_resize_then_a_convolution(method):
    example = KINDS["resize"].example(2)
    options = {"padding": "VALID", "strides": 2, "padding_mode": "edge"}
    got = convjax.resize_conv(example.x, *example.kernels, (2, 4), method=method, **options)
    larger = convjax.resize(example.x, (2, 4), method=method)
    np.testing.assert_array_equal(got, convjax.conv(larger, *example.kernels, **options))


# ---- pixel shuffle ---------------------------------------------------------------------------


def test_pixel_shuffle_has_pytorchs_order():
    """``torch.pixel_shuffle(torch.arange(8).reshape(1, 8, 1, 1), 2)``, written out."""
    x = jnp.arange(8).reshape(1, 1, 1, 8)
    expected = [[[0, 4], [1, 5]], [[2, 6], [3, 7]]]
    np.testing.assert_array_equal(convjax.pixel_shuffle(x, 2)[0], expected)


@pytest.mark.parametrize("scale", [1, 2, (3, 1, 2), (2, 3, 1)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pixel_shuffle_by_definition_and_its_inverse(rank, scale):
    r = ((scale,) * 3 if isinstance(scale, int) else scale)[:rank]
    x = np.asarray(image(2, *(4, 3, 2)[:rank], 5 * int(np.prod(r))))
    y = convjax.pixel_shuffle(x, r)
    assert y.shape == (2, *np.multiply(x.shape[1:-1], r), 5)
    for p in np.ndindex(y.shape[1:-1]):
        offset = np.ravel_multi_index(np.mod(p, r), r)
        source = x[(slice(None), *np.floor_divide(p, r))]
        np.testing.assert_array_equal(y[(slice(None), *p)], source[:, offset :: int(np.prod(r))])
    np.testing.assert_array_equal(convjax.pixel_unshuffle(y, r), x)


def test_pixel_shuffle_against_torch():
    torch = pytest.importorskip("torch")
    x = np.asarray(image(2, 18, 4, 5))
    numbers = ("NCHW", "OIHW", "NCHW")
    expected = torch.nn.functional.pixel_shuffle(torch.tensor(x), 3).numpy()
    got = convjax.pixel_shuffle(x, 3, dimension_numbers=numbers)
    np.testing.assert_array_equal(got, expected)
    back = torch.nn.functional.pixel_unshuffle(torch.tensor(expected), 3).numpy()
    np.testing.assert_array_equal(
        convjax.pixel_unshuffle(expected, 3, dimension_numbers=numbers), back
    )


def test_subpixel_with_scale_per_axis():
    x, kernel = image(1, 4, 5, 3), image(3, 3, 3, 12)
    got = convjax.subpixel_conv(x, kernel, (2, 3), strides=2, padding="VALID")
    expected = convjax.pixel_shuffle(convjax.conv(x, kernel, strides=2, padding="VALID"), (2, 3))
    assert got.shape == (1, 2, 6, 2)
    np.testing.assert_array_equal(got, expected)


# ---- hold ------------------------------------------------------------------------------------


def impulse(n):
    return jnp.zeros((1, n, n, 1)).at[0, n // 2, n // 2, 0].set(1.0)


def test_hold_kernels_are_b_splines():
    """Kinoshita & Kiya's kernels for stride 2: ones, then 1 2 1 by 1 2 1, here of sum 1."""
    held = convjax.hold(impulse(7), 2)
    np.testing.assert_allclose(held[0, 2:4, 2:4, 0], np.full((2, 2), 0.25))
    held = convjax.hold(impulse(7), 2, order=1)
    np.testing.assert_allclose(held[0, 2:5, 2:5, 0], np.outer([1, 2, 1], [1, 2, 1]) / 16)


@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "VALID", "FULL", 3])
@pytest.mark.parametrize(("size", "order"), [(2, 0), (3, 0), (3, 2), ((2, 5), 1)])
def test_a_constant_stays_that_constant(size, order, padding):
    x = jnp.full((2, 12, 13, 3), 0.7)
    held = convjax.hold(x, size, order=order, padding=padding)
    np.testing.assert_allclose(held, np.full(held.shape, 0.7), rtol=1e-6)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(("taps", "stride"), [(3, 2), (4, 2), (5, 3), (3, 4)])
def test_hold_removes_the_checkerboard_of_any_transposed_convolution(taps, stride, order):
    """On a constant: exactly, in the interior, for any kernel."""
    rng = np.random.default_rng(taps)
    kernel = jnp.asarray(rng.normal(size=(taps, taps, 2, 3)), np.float32)
    y = convjax.conv_transpose(jnp.ones((1, 8, 8, 3)), kernel, strides=stride, padding="VALID")
    held = convjax.hold(y, stride, order=order)
    margin = slice(taps + 2 * stride, -taps - 2 * stride)
    inside, before = held[0, margin, margin], y[0, margin, margin]
    assert float(before.std(axis=(0, 1)).max()) > 0.1
    assert float(inside.std(axis=(0, 1)).max()) < 1e-5


def test_hold_before_a_stride_evens_its_gradient():
    """The gradient of a strided convolution is a transposed one: it has the checkerboard too."""
    x, kernel = jnp.ones((1, 16, 16, 1)), jnp.ones((3, 3, 1, 1))

    def gradient(function):
        return jax.grad(lambda x: convjax.conv(function(x), kernel, strides=2).sum())(x)[0, 5:11]

    assert float(gradient(lambda x: x)[:, 5:11].std()) > 1
    assert float(gradient(lambda x: convjax.hold(x, 2))[:, 5:11].std()) < 1e-6
