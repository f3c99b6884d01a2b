"""A prefix gives the prefix: causal convolutions do not see how long the sequence goes on.

To the last bit where the library says so: depthwise and grouped causal convolutions of few channels
a group, on one CPU. Their short pieces, which have fewer outputs than the kernel has taps, are
summed in the same order as long ones.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import AS_USERS

import convjax
from convjax import nn

LONG = 70


def numbers(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def lengths(taps):
    return sorted({*range(1, taps + 3), 17, LONG - 1})


def same_bits(found, wanted):
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found.view(np.uint8), wanted.view(np.uint8))


def check(function, x, taps, outputs=lambda length: length):
    """The result of every prefix of `x`, compiled for its length, is the prefix of x's result."""
    function = jax.jit(function, compiler_options=AS_USERS)
    whole = np.asarray(function(x))
    for length in taps if isinstance(taps, list) else lengths(taps):
        prefix = function(np.ascontiguousarray(x[:, :length]))
        same_bits(prefix, np.ascontiguousarray(whole[:, : outputs(length)]))


@pytest.mark.parametrize(
    ("k", "channels", "multiplier", "dilation", "dtype"),
    [
        (2, 3, 1, 1, np.float32),
        (3, 16, 2, 1, np.float32),
        (4, 16, 1, 1, np.float32),  # the short convolution of state-space models
        (4, 5, 1, 3, np.float32),
        (7, 3, 2, 2, np.float32),
        (4, 6, 1, 1, jnp.bfloat16),
        (5, 6, 1, 1, np.float64),
    ],
)
def test_depthwise(k, channels, multiplier, dilation, dtype):
    with jax.enable_x64(dtype == np.float64):
        kernel = numbers(1, k, 1, channels * multiplier, dtype=dtype)

        def function(x):
            return convjax.depthwise_conv(x, kernel, padding="CAUSAL", kernel_dilation=dilation)

        check(function, numbers(0, 2, LONG, channels, dtype=dtype), k)


def test_long_kernels():
    kernel = numbers(1, 31, 1, 4)
    check(lambda x: convjax.depthwise_conv(x, kernel, padding="CAUSAL"), numbers(0, 1, LONG, 4), 31)


def test_a_long_sequence():
    """More than a megabyte, which is summed in strips: its prefixes are not."""
    kernel = numbers(1, 4, 1, 64)
    x = numbers(0, 1, 9000, 64)
    check(lambda x: convjax.depthwise_conv(x, kernel, padding="CAUSAL"), x, [1, 2, 3, 4, 5, 8000])


@pytest.mark.parametrize("stride", [2, 3])
def test_strided(stride):
    kernel = numbers(1, 4, 1, 6)

    def function(x):
        return convjax.depthwise_conv(x, kernel, padding="CAUSAL", strides=stride)

    check(function, numbers(0, 1, LONG, 6), 6, lambda length: -(-length // stride))


def test_groups_of_few_channels():
    kernel = numbers(1, 4, 2, 9)

    def function(x):
        return convjax.grouped_conv(x, kernel, 3, padding="CAUSAL")

    check(function, numbers(0, 2, LONG, 6), 4)


def test_other_spellings():
    """`conv` in groups, the drop-in for lax, and a module: one operation."""
    x, kernel = numbers(0, 2, LONG, 6), numbers(1, 4, 1, 6)
    pairs = {"padding": [(3, 0)], "feature_group_count": 6}
    layer = nn.DepthwiseConv(6, (4,), padding="CAUSAL", use_bias=False, rngs=nn_rngs())
    layer.kernel[...] = jnp.asarray(kernel)
    whole = np.asarray(convjax.depthwise_conv(x, kernel, padding="CAUSAL"))
    for length in (1, 2, 3, 4, 30):
        short = x[:, :length]
        lax_like = convjax.conv_general_dilated(
            short, kernel, (1,), dimension_numbers=("NWC", "WIO", "NWC"), **pairs
        )
        for found in (convjax.conv(short, kernel, **pairs), lax_like, layer(short)):
            same_bits(found, np.ascontiguousarray(whole[:, :length]))


def nn_rngs():
    from flax import nnx

    return nnx.Rngs(0)


def test_causal_planes():
    """Time along the first axis, of two."""
    kernel = numbers(1, 4, 3, 1, 6)

    def function(x):
        return convjax.depthwise_conv(x, kernel, padding="CAUSAL")

    for width in (1, 5):
        check(function, numbers(0, 1, LONG, width, 6), 4)


def test_pieces_of_a_stream():
    """Chunks with the last k - 1 inputs before them give the bits of the whole, one by one too."""
    x, kernel = numbers(0, 2, 40, 6), numbers(1, 4, 1, 6)
    whole = jax.jit(
        lambda x: convjax.depthwise_conv(x, kernel, padding="CAUSAL"), compiler_options=AS_USERS
    )(x)
    padded = np.pad(x, [(0, 0), (3, 0), (0, 0)])
    step = jax.jit(
        lambda piece: convjax.depthwise_conv(piece, kernel, padding="VALID"),
        compiler_options=AS_USERS,
    )
    for size in (1, 2, 3, 5, 20):
        pieces = [step(padded[:, at : at + 3 + size]) for at in range(0, 40, size)]
        same_bits(np.concatenate(pieces, 1), whole)


@pytest.mark.parametrize(("k", "s"), [(4, 2), (5, 2), (3, 1), (2, 3)])
def test_depthwise_transposed(k, s):
    kernel = numbers(1, k, 1, 6)

    def function(y):
        options = {"strides": s, "padding": "CAUSAL", "feature_group_count": 6}
        return convjax.conv_transpose(y, kernel, **options)

    check(function, numbers(0, 1, LONG, 6), k, lambda length: length * s)


def test_dense_prefixes_agree_to_rounding():
    """XLA sums dense convolutions in an order of its choice, which may depend on the length."""
    x, kernel = numbers(0, 2, LONG, 8), numbers(1, 4, 8, 5)
    whole = convjax.conv(x, kernel, padding="CAUSAL")
    for length in lengths(4):
        prefix = convjax.conv(x[:, :length], kernel, padding="CAUSAL")
        np.testing.assert_allclose(prefix, whole[:, :length], rtol=0, atol=1e-5)


def test_short_pieces_are_not_taken_for_gradients():
    """The same lowering whatever the length; a gradient of a kernel has its own still."""
    kernel = jnp.ones((4, 1, 6))

    def rows(length):
        x = jnp.ones((1, length, 6))
        loss = jax.grad(lambda k: convjax.depthwise_conv(x, k, padding="CAUSAL").sum())
        return [(row.role, row.lowering) for row in convjax.explain(loss, kernel).rows]

    assert rows(2) == rows(3) == rows(50)
    plane = jnp.ones((1, 7, 7, 6))  # a global pooling by learned weights stays what it was
    (row,) = convjax.explain(
        lambda x: convjax.depthwise_conv(x, jnp.ones((7, 7, 1, 6)), padding="VALID"), plane
    ).rows
    assert row.lowering == "taps"
