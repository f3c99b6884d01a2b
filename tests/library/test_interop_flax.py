"""Flax's conventions as functions: against Flax and lax, and against the laws of our own."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx

import convjax
from convjax._modules import conventions


def integers(seed, *shape):
    return jnp.asarray(oracle.integers(seed, shape, np.float32, 3))


@pytest.mark.parametrize(
    ("padding", "input_dilation", "space"),
    [
        ("CIRCULAR", 1, (5, 4)),
        ("CIRCULAR", 1, (1, 2)),  # wound more than once
        ("REFLECT", 1, (3, 2)),  # mirrored more than once
        ("REFLECT", 1, (8, 9)),
    ],
)
def test_boundaries(padding, input_dilation, space):
    """As Flax pads them, however small the input is."""
    x, kernel = integers(1, 2, *space, 3), integers(2, 4, 5, 3, 6)
    theirs = nnx.Conv(3, 6, (4, 5), padding=padding, use_bias=False, rngs=nnx.Rngs(0))
    theirs.kernel[...] = kernel
    np.testing.assert_array_equal(conventions.conv(x, kernel, padding=padding), theirs(x))


@pytest.mark.parametrize("padding", ["CIRCULAR", "REFLECT"])
def test_boundaries_come_before_input_dilation(padding):
    """Flax raises here; the words mean what they do there without dilation."""
    x, kernel = integers(1, 1, 5, 2), integers(2, 3, 2, 4)
    mode = {"CIRCULAR": "wrap", "REFLECT": "reflect"}[padding]
    extended = jnp.pad(x, [(0, 0), (1, 1), (0, 0)], mode=mode)
    expected = convjax.conv(extended, kernel, padding="VALID", input_dilation=2)
    np.testing.assert_array_equal(
        conventions.conv(x, kernel, padding=padding, input_dilation=2), expected
    )


def test_causal():
    """Flax's for one axis; for more axes the first is causal, where Flax raises."""
    x, kernel = integers(1, 2, 9, 3), integers(2, 4, 3, 6)
    for dilations in ({}, {"kernel_dilation": 2}):
        theirs = nnx.Conv(
            3, 6, (4,), padding="CAUSAL", use_bias=False, **dilations, rngs=nnx.Rngs(0)
        )
        theirs.kernel[...] = kernel
        np.testing.assert_array_equal(
            conventions.conv(x, kernel, padding="CAUSAL", **dilations), theirs(x)
        )
    x, kernel = integers(1, 1, 5, 4, 2), integers(2, 3, 3, 2, 3)
    np.testing.assert_array_equal(
        conventions.conv(x, kernel, padding="CAUSAL"), convjax.conv(x, kernel, padding="CAUSAL")
    )


TRANSPOSED = [
    {},
    {"strides": 3},
    {"padding": "VALID", "strides": 4},
    {"padding": "CIRCULAR", "strides": 2},
    {"padding": "CIRCULAR", "strides": 1, "kernel_dilation": 3},
    {"padding": [(2, 1), (0, 3)], "strides": 2},
]


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_groups_of_transposed(options, transpose_kernel):
    """G groups are G transposed convolutions of Flax's, side by side."""
    groups, i, o = 2, 3, 2
    x = integers(1, 2, 3, 4, groups * i)
    shape = (3, 2, o, groups * i) if transpose_kernel else (3, 2, i, groups * o)
    kernel = integers(2, *shape)
    parts = jnp.split(kernel, groups, axis=-1)

    def theirs(x, part):
        layer = nnx.ConvTranspose(
            i,
            o,
            (3, 2),
            **options,
            transpose_kernel=transpose_kernel,
            use_bias=False,
            kernel_init=lambda *_: part,
            rngs=nnx.Rngs(0),
        )
        return layer(x)

    expected = [theirs(xs, k) for xs, k in zip(jnp.split(x, groups, -1), parts, strict=True)]
    got = conventions.conv_transpose(
        x, kernel, **options, feature_group_count=groups, transpose_kernel=transpose_kernel
    )
    np.testing.assert_array_equal(got, jnp.concatenate(expected, -1))


@pytest.mark.parametrize("padding", ["VALID", 1, [(2, 0), (1, 1)]])
def test_output_padding(padding):
    """What Flax's next longer padding gives: zeros after the last input, in our extents."""
    x, kernel = integers(1, 1, 3, 4, 2), integers(2, 4, 3, 2, 5)
    options = {"strides": (3, 2), "padding": padding}
    plain = conventions.conv_transpose(x, kernel, **options)
    longer = conventions.conv_transpose(x, kernel, output_padding=(2, 1), **options)
    assert longer.shape == (1, plain.shape[1] + 2, plain.shape[2] + 1, 5)
    np.testing.assert_array_equal(longer[:, : plain.shape[1], : plain.shape[2]], plain)


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "edge", "wrap"])
def test_padding_mode_is_the_adjoints(mode):
    """<conv(u, k), v> == <u, conv_transpose(v, k)> with padding in the transposed one's numbers."""
    u, kernel = integers(1, 2, 6, 3), integers(2, 4, 3, 5)
    options = {"strides": 2, "padding_mode": mode}
    forward = convjax.conv(u, kernel, padding=((2, 1),), **options)
    v = integers(3, *forward.shape)
    back = conventions.conv_transpose(
        v,
        kernel,
        padding=[(4 - 1 - 2, 4 - 1 - 1)],
        output_padding=1,
        transpose_kernel=True,
        **options,
    )
    assert back.shape == u.shape
    assert float((forward * v).sum()) == float((u * back).sum())


@pytest.mark.parametrize(("k", "s"), [(3, 1), (3, 2), (2, 3), (1, 2)])
def test_causal_transposed(k, s):
    """Extents n * strides, and no output sees a later input."""
    kernel = jnp.ones((k, 1, 1))
    for i in range(4):
        x = jnp.zeros((1, 4, 1)).at[0, i].set(1.0)
        y = conventions.conv_transpose(x, kernel, strides=s, padding="CAUSAL")[0, :, 0]
        assert y.shape == (4 * s,)
        touched = np.flatnonzero(y)
        assert touched[0] == i * s and (touched >= i * s).all()


def test_forward_kernel_is_its_own_inverse():
    kernel = integers(1, 3, 2, 4, 6)
    once = conventions.forward_kernel(kernel, 2)
    assert once.shape == (3, 2, 3, 8)
    np.testing.assert_array_equal(conventions.forward_kernel(once, 2), kernel)


X, K = jnp.ones((1, 5, 6, 4)), jnp.ones((3, 3, 4, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: conventions.conv(X, K, padding="CIRCULAR", padding_mode="edge"),
            r"conv: `padding_mode` \(='edge'\) must be 'constant' under padding 'CIRCULAR'",
        ),
        (
            lambda: conventions.conv(X, K, padding="PERIODIC"),
            r"conv: `padding` \(='PERIODIC'\) must be one of \"SAME\"",
        ),
        (
            lambda: conventions.conv(
                X, K, conv_general_dilated=jax.lax.conv_general_dilated, algorithm="taps"
            ),
            r"conv: `algorithm` \(='taps'\) speaks of this library's own convolution",
        ),
        (
            lambda: conventions.conv_transpose(X, K, padding="CIRCULAR", padding_mode="wrap"),
            r"conv_transpose: `padding_mode` \(='wrap'\) must be 'constant' under padding",
        ),
        (
            lambda: conventions.conv_transpose(X, K, padding="REFLECT"),
            r"conv_transpose: `padding` \(='REFLECT'\) must be one of .*See `padding_mode`",
        ),
        (
            lambda: conventions.conv_transpose(X, K, strides=2, output_padding=1),
            r"conv_transpose: `output_padding` \(=1\) must be 0 under padding 'SAME'",
        ),
        (
            lambda: conventions.conv_transpose(X, K, padding=[1, 2, 3]),
            r"conv_transpose: `padding` .* must be a policy name",
        ),
        (lambda: conventions.conv(X, K, strides=0), r"conv: `strides` \(=0\) must be at least 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
