"""`padding="CAUSAL"` of transposed convolutions looks back, as decoders of sound need it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import linen as flax_linen
from flax import nnx

import convjax
from convjax import arithmetic, cost, linen, nn
from convjax._modules import conventions

# kernel and stride: decoders of SoundStream and EnCodec, odd ones, and gaps between the copies
SIZES = [(16, 8), (10, 5), (4, 2), (3, 1), (5, 2), (4, 4), (2, 3), (1, 2)]


def decode(y, kernel, stride, **options):
    return convjax.conv_transpose(y, kernel, strides=stride, padding="CAUSAL", **options)


@pytest.mark.parametrize(("k", "s"), SIZES)
def test_pytorchs_trimmed_layer(k, s):
    """``ConvTranspose1d`` without its last k - s outputs, bias and groups included."""
    torch = pytest.importorskip("torch")
    layer = torch.nn.ConvTranspose1d(6, 4, k, stride=s, groups=2)
    weight, bias = oracle.integers(1, (6, 2, k)), oracle.integers(2, (4,))
    y = oracle.integers(3, (2, 7, 6))
    with torch.no_grad():
        layer.weight[...], layer.bias[...] = torch.tensor(weight), torch.tensor(bias)
        theirs = layer(torch.tensor(y).mT).mT.numpy()
    theirs = np.pad(theirs[:, : 7 * s], [(0, 0), (0, max(0, s - k)), (0, 0)])  # k < s: no trimming
    theirs[:, (7 - 1) * s + k :] = bias
    kernel = convjax.interop.kernel_from("torch", weight, "transposed", groups=2)
    ours = decode(y, kernel, s, feature_group_count=2) + bias
    np.testing.assert_array_equal(ours, theirs)

    ours = nn.ConvTranspose(
        6,
        4,
        (k,),
        strides=s,
        padding="CAUSAL",
        feature_group_count=2,
        convention="adjoint",
        rngs=nnx.Rngs(0),
    )
    ours.kernel[...], ours.bias[...] = kernel, jnp.asarray(bias)
    np.testing.assert_array_equal(ours(y), theirs)
    ours = linen.ConvTranspose(
        4, (k,), strides=s, padding="CAUSAL", feature_group_count=2, convention="adjoint"
    )
    params = {"params": {"kernel": kernel, "bias": bias}}
    np.testing.assert_array_equal(ours.apply(params, y), theirs)


@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize(("k", "s"), SIZES)
def test_an_output_sees_no_later_input(k, s, dilation):
    """n*s outputs; of output t the taps reach the inputs up to t // s, and that one if k >= s."""
    y, kernel = jnp.ones((1, 5, 3)), jnp.ones((k, 2, 3))
    function = partial(decode, stride=s, kernel_dilation=dilation)
    assert function(y, kernel).shape == (1, 5 * s, 2)
    size = arithmetic.conv_transpose_output_size(
        5, k, strides=s, padding="CAUSAL", kernel_dilation=dilation
    )
    assert size == 5 * s
    jacobian = np.asarray(jax.jacobian(function)(y, kernel))[0, :, 0, 0, :, 0]
    for t, row in enumerate(jacobian):
        wanted = {p for p in range(5) if t - p * s in range(0, k * dilation, dilation)}
        assert set(np.flatnonzero(row)) == wanted
        assert max(wanted, default=0) <= t // s


@pytest.mark.parametrize("convention", ["flax", "flax, forward kernel", "adjoint"])
@pytest.mark.parametrize(("k", "s"), SIZES)
def test_every_convention_looks_back(k, s, convention):
    options = {"strides": s, "padding": "CAUSAL"}
    kernel, y = oracle.integers(1, (k, 4, 3)), oracle.integers(2, (2, 5, 3))
    wanted = decode(y, kernel, s)
    if convention == "adjoint":
        options["convention"] = "adjoint"
        function = wanted
    else:
        options["transpose_kernel"] = convention != "flax"
        if convention == "flax":
            kernel = conventions.forward_kernel(kernel)
        function = conventions.conv_transpose(y, kernel, **options)
    np.testing.assert_array_equal(function, wanted)
    layer = nn.ConvTranspose(3, 4, (k,), use_bias=False, rngs=nnx.Rngs(0), **options)
    layer.kernel[...] = jnp.asarray(kernel)
    np.testing.assert_array_equal(layer(y), wanted)
    layer = linen.ConvTranspose(4, (k,), use_bias=False, **options)
    assert isinstance(layer, flax_linen.Module)
    np.testing.assert_array_equal(layer.apply({"params": {"kernel": kernel}}, y), wanted)


@pytest.mark.parametrize("sizes", [(1,) * 9, (2, 2, 2, 3), (6, 3), (4, 5), (9,)], ids=str)
@pytest.mark.parametrize(("k", "s"), SIZES)
def test_chunks(k, s, sizes):
    """A stream: every chunk after as many old inputs as its first output sees; whole = chunks."""
    y, kernel = oracle.integers(1, (2, 9, 3)), oracle.integers(2, (k, 4, 3))
    whole = decode(y, kernel, s)
    context = -(-k // s) - 1
    found, start = [], 0
    for size in sizes:
        first = max(0, start - context)
        piece = decode(y[:, first : start + size], kernel, s)
        found.append(piece[:, (start - first) * s :])
        start += size
    np.testing.assert_array_equal(np.concatenate(found, 1), whole)


@pytest.mark.parametrize(("k", "s"), [(16, 8), (5, 2), (3, 1)])
def test_overlap_and_add(k, s):
    """A stream in `scan`: each step paints everything, and hands what is not finished on."""
    y, kernel = oracle.integers(1, (2, 6, 3)), oracle.integers(2, (k, 4, 3))

    def step(tail, piece):
        painted = convjax.conv_transpose(piece, kernel, strides=s, padding="VALID")
        painted = painted.at[:, : k - s].add(tail)
        return painted[:, painted.shape[1] - (k - s) :], painted[:, : 2 * s]

    pieces = jnp.moveaxis(y.reshape(2, 3, 2, 3), 1, 0)  # 3 pieces of 2 inputs each
    _, parts = jax.lax.scan(step, jnp.zeros((2, k - s, 4)), pieces)
    whole = jnp.moveaxis(parts, 0, 1).reshape(2, 6 * s, 4)
    np.testing.assert_array_equal(whole, decode(y, kernel, s))


def test_only_the_first_axis_is_the_time():
    y, kernel = oracle.integers(0, (2, 4, 3, 5)), oracle.integers(1, (3, 2, 4, 5))
    options = {"strides": (2, 3), "padding": [(0, 1), (0, 0)]}
    wanted = oracle.conv_transpose(y, kernel, (8, 9), **options)
    np.testing.assert_array_equal(decode(y, kernel, (2, 3)), wanted)
    wrapped = decode(y, kernel, (2, 3), padding_mode=("constant", "wrap"))
    options = {"strides": (2, 3), "padding": [(0, 1), (0, 0)], "padding_mode": "constant"}
    np.testing.assert_array_equal(wrapped, oracle.conv_transpose(y, kernel, (8, 9), **options))


@pytest.mark.parametrize(("k", "s", "d"), [(16, 8, 1), (5, 2, 1), (3, 1, 2), (2, 3, 1)])
def test_pairs_are_the_adjoint_of_a_causal_convolution(k, s, d):
    """The docstring's pair (k̂ - 1, 0), and what the adjoint sees: its own and later inputs."""
    kernel, reach = oracle.integers(2, (k, 2, 3)), (k - 1) * d + 1
    u = oracle.integers(1, (1, 20, 2))
    options = {"strides": s, "kernel_dilation": d}
    forward = convjax.conv(u, kernel, padding="CAUSAL", **options)
    v = oracle.integers(3, forward.shape)
    back = convjax.conv_transpose(v, kernel, padding=[(reach - 1, 0)], output_shape=20, **options)
    assert float((forward * v).sum()) == float((u * back).sum())
    looks = convjax.conv_transpose(v, kernel, padding=[(0, reach - s)], **options)
    np.testing.assert_array_equal(looks, decode(v, kernel, s, kernel_dilation=d))


def test_shorter_results():
    """`output_shape`: what a strided causal `conv` would map to y's extent; the end is cropped."""
    y, kernel = oracle.integers(1, (2, 3, 5)), oracle.integers(2, (4, 2, 5))
    whole = decode(y, kernel, 3)
    for extent in (7, 8, 9):
        u = decode(y, kernel, 3, output_shape=extent)
        np.testing.assert_array_equal(u, whole[:, :extent])
        assert convjax.conv(u, kernel, strides=3, padding="CAUSAL").shape == y.shape
    for extent in (6, 10):
        with pytest.raises(ValueError, match=r"`output_shape` \(=\d+\) must be .* 7 to 9"):
            decode(y, kernel, 3, output_shape=extent)


def test_what_it_costs():
    closed = cost.conv_transpose((1, 50, 8), (16, 4, 8), strides=8, padding="CAUSAL")
    assert (closed.macs, closed.useful_macs) == (50 * 16 * 32, (50 * 16 - 8) * 32)
    y, kernel = jnp.ones((1, 50, 8)), jnp.ones((16, 4, 8))
    counted = convjax.cost_of(decode, y, kernel, 8)
    assert (counted.macs, counted.useful_macs) == (closed.macs, closed.useful_macs)
    (row,) = convjax.explain(decode, y, kernel, 8).rows
    assert row.geometry.padding == ((15, 7),) and row.geometry.input_dilation == (8,)


@pytest.mark.parametrize("mode", ["edge", ("wrap", "constant")])
def test_boundary_modes_would_fold_the_future_back(mode):
    y, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 2, 3))
    message = "conv_transpose: `padding_mode` .* must be 'constant' on the first spatial axis"
    with pytest.raises(ValueError, match=message):
        decode(y, kernel, 2, padding_mode=mode)
    with pytest.raises(ValueError, match=message):
        cost.conv_transpose(y, kernel, strides=2, padding="CAUSAL", padding_mode=mode)
    with pytest.raises(ValueError, match=message):
        conventions.conv_transpose(
            y, kernel, transpose_kernel=True, padding="CAUSAL", padding_mode=mode
        )


@pytest.mark.parametrize(
    "function", [decode, lambda y, k, s, **o: arithmetic.conv_transpose_output_size(4, 3, **o)]
)
def test_output_padding_is_refused(function):
    options = {"output_padding": 1}
    if function is not decode:
        options |= {"strides": 2, "padding": "CAUSAL"}
    with pytest.raises(ValueError, match=r"`output_padding` \(=1\) must be 0 under .*'CAUSAL'"):
        function(jnp.ones((1, 4, 3)), jnp.ones((3, 2, 3)), 2, **options)
