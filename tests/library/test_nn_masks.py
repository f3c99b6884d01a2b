"""Masks: every module with a kernel multiplies it by one, in NNX and in linen."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from layers import CASES, IDS, IN, OUT, pure

import convjax
from convjax import linen, nn


def kernels(parameters):
    return {name: value for name, value in parameters.items() if "kernel" in name}


def masks_of(parameters, make=np.asarray):
    """A mask of zeros and ones for every kernel, unlike along every axis; alone if it is one."""
    rng = np.random.default_rng(7)
    found = {
        name: make(rng.integers(0, 2, value.shape).astype(np.float32))
        for name, value in kernels(parameters).items()
    }
    return found if len(found) > 1 else found.popitem()[1]


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, lambda m: m.astype(bool)])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_kernel_is_masked(case, make):
    """kind(masked kernels) == module(x), whatever kind of array the mask is."""
    plain = pure(case.nnx())
    mask = masks_of(plain, make)
    by_name = mask if isinstance(mask, dict) else {name: mask for name in kernels(plain)}
    masked = {name: value * by_name.get(name, 1) for name, value in plain.items()}
    layer, other = case.nnx(mask=mask), case.linen(mask=mask)
    assert jax.tree.map(jnp.shape, pure(layer)) == jax.tree.map(jnp.shape, plain)
    x = case.inputs()
    expected = case.expected(x, masked, {}) + masked["bias"]
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-3)
    theirs = other.apply({"params": plain}, x)
    np.testing.assert_allclose(theirs, expected, rtol=1e-5, atol=1e-3)


SINGLE = [case for case in CASES if len(kernels(pure(case.nnx()))) == 1]


@pytest.mark.parametrize("case", SINGLE[::3], ids=lambda case: case.name)
def test_masked_weights_have_no_gradient(case):
    mask = masks_of(pure(case.nnx()))
    layer, x = case.nnx(mask=mask), case.inputs()
    gradient = nnx.grad(lambda layer: (layer(x) ** 2).sum())(layer)["kernel"][...]
    np.testing.assert_array_equal(gradient[mask == 0], 0)
    assert (np.asarray(gradient)[mask == 1] != 0).mean() > 0.9


@pytest.mark.parametrize("name", ["DepthwiseConv", "DepthwiseSeparableConv"])
def test_a_masked_module_is_split_copied_and_compiled(name):
    case = next(case for case in CASES if case.name == name)
    layer = case.nnx(mask=masks_of(pure(case.nnx())))
    x = case.inputs()
    wanted = layer(x)
    again = nnx.merge(*nnx.split(layer))
    np.testing.assert_array_equal(again(x), wanted)
    np.testing.assert_array_equal(copy.deepcopy(layer)(x), wanted)
    np.testing.assert_allclose(nnx.jit(lambda layer, x: layer(x))(layer, x), wanted, rtol=1e-5)
    assert not [path for path in nnx.to_pure_dict(nnx.state(layer, nnx.Param)) if "mask" in path]


def test_some_of_several_kernels():
    mask = np.zeros((3, 1, 6, 4), np.float32)
    layer = nn.SpatiallySeparableConv(
        6, 5, (3, 2), 4, mask={"kernel_0": mask, "kernel_1": None}, rngs=nnx.Rngs(0)
    )
    assert not layer(jnp.ones((1, 5, 5, 6))).any()
    half = layer.mask["kernel_0"][..., :2] = 1.0
    assert half and layer(jnp.ones((1, 5, 5, 6))).any()


IMAGE = jnp.ones((2, 8, 9, IN))
SEPARABLE = (IN, OUT, (3, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda mask: nn.DepthwiseConv(IN, (3, 3), mask=mask, rngs=nnx.Rngs(0))(IMAGE),
            r"^DepthwiseConv: `mask` \(=\(3, 3\)\) must have the kernel's shape \(3, 3, 1, 6\)",
        ),
        (
            lambda mask: linen.GroupedConv(OUT, (3, 3), 2, mask=mask).init(
                jax.random.key(0), IMAGE
            ),
            r"^GroupedConv: `mask` \(=\(3, 3\)\) must have the kernel's shape \(3, 3, 3, 12\)",
        ),
        (
            lambda mask: nn.DepthwiseSeparableConv(*SEPARABLE, mask=mask, rngs=nnx.Rngs(0))(IMAGE),
            r"^DepthwiseSeparableConv: `mask` \(=\(3, 3\)\) must map the names of kernels to masks",
        ),
        (
            lambda mask: nn.DepthwiseSeparableConv(
                *SEPARABLE, mask={"pointwise_kernel": mask}, rngs=nnx.Rngs(0)
            )(IMAGE),
            r"`mask\['pointwise_kernel'\]` \(=\(3, 3\)\) must have the kernel's shape \(1, 1, 6",
        ),
        (
            lambda mask: nn.PointwiseConv(IN, OUT, mask={"bias": mask}, rngs=nnx.Rngs(0))(IMAGE),
            r"^PointwiseConv: `mask` \(=\['bias'\]\) must have no other names than those of the",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((3, 3), np.float32))


# ---- input dilation of the depthwise convolution ------------------------------------------------


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CAUSAL", [(2, 1), (0, 3)]], ids=str)
def test_depthwise_input_dilation(padding):
    """It is `conv` in as many groups as channels, in both APIs, and costs what that costs."""
    case = next(case for case in CASES if case.name == "DepthwiseConv")
    options = {"input_dilation": (2, 3), "strides": (1, 2), "padding": padding}
    layer, other, x = case.nnx(**options), case.linen(**options), case.inputs()
    kernel, bias = layer.kernel[...], layer.bias[...]
    wanted = convjax.conv(x, kernel, feature_group_count=IN, **options)
    np.testing.assert_array_equal(convjax.depthwise_conv(x, kernel, **options), wanted)
    np.testing.assert_array_equal(layer(x), wanted + bias)
    np.testing.assert_array_equal(other.apply({"params": pure(layer)}, x), wanted + bias)
    closed = convjax.cost.depthwise_conv(x, kernel, **options)
    assert closed == convjax.cost.conv(x, kernel, feature_group_count=IN, **options)
    counted = convjax.cost_of(convjax.depthwise_conv, x, kernel, **options)
    assert (counted.macs, counted.useful_macs) == (closed.macs, closed.useful_macs)


def test_depthwise_input_dilation_errors():
    x, kernel = jnp.ones((1, 5, 5, 3)), jnp.ones((3, 3, 1, 6))
    with pytest.raises(ValueError, match=r"^depthwise_conv: `input_dilation` \(=0\) must be at l"):
        convjax.depthwise_conv(x, kernel, input_dilation=0)
    message = r"^depthwise_conv: `padding_mode` \(='edge'\) must be 'constant' where `input_dilat"
    with pytest.raises(ValueError, match=message):
        convjax.depthwise_conv(x, kernel, input_dilation=2, padding_mode="edge")
