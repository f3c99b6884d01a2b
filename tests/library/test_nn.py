"""Law "modules": what the modules of both APIs compute, their parameters, Flax's drop-ins."""

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx
from layers import CASES, IDS, IN, OUT, pure

import convjax
from convjax import linen, nn

VARIANTS = [{"strides": 2}, {"padding": 1, "padding_mode": "edge", "kernel_dilation": 2}]


def close(got, expected):
    """Equal up to the rounding of sums of some hundred small integers and their thirds."""
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_law_7(case):
    """kind(module parameters) == module(x), bias and options included, in NNX and in linen."""
    for options in VARIANTS:
        options = {name: value for name, value in options.items() if name in case.spatial}
        layer, other = case.nnx(**options), case.linen(**options)
        parameters = pure(layer)
        assert parameters["bias"].any()

        @jax.jit
        def results(x, layer=layer, other=other, parameters=parameters, options=options):
            expected = case.expected(x, parameters, options) + parameters["bias"]
            return expected, layer(x), other.apply({"params": parameters}, x)

        expected, *got = results(case.inputs())
        assert expected.shape[-1] == layer.out_features == OUT
        close(got[0], expected)
        close(got[1], expected)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_both_apis_have_the_same_parameters(case):
    for options in ({}, {"use_bias": False}):
        if case.own.get("stage_bias") and options:
            continue
        layer, other = case.nnx(**options), case.linen(**options)
        x = case.inputs()
        made = jax.eval_shape(lambda x=x, m=other: m.init(jax.random.key(0), x))["params"]
        assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, pure(layer))
        assert ("bias" in made) == layer.use_bias


def test_stage_biases_without_the_last():
    layer = nn.FlattenedConv(6, 5, (3, 3), stage_bias=True, use_bias=False, rngs=nnx.Rngs(0))
    assert {k for k in pure(layer) if "bias" in k} == {"lateral_bias", "spatial_bias_0"}
    layer.spatial_bias_0[...] += 1.0
    x = jnp.zeros((1, 4, 4, 6))
    expected = convjax.depthwise_conv(x[..., :5] + 1.0, layer.spatial_kernel_1[...])
    np.testing.assert_allclose(layer(x), expected, rtol=1e-6)


@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[6], CASES[15]], ids=lambda c: c.name)
def test_leading_axes(case):
    """Any number of batch axes: as one, in order."""
    layer = case.nnx()
    x = case.inputs(2, 3)

    @jax.jit
    def results(x):
        return layer(x), layer(x.reshape(6, *x.shape[2:])), layer(x[1, 2])

    got, expected, last = results(x)
    close(got, expected.reshape(2, 3, *expected.shape[1:]))
    close(last, expected[5])


def test_channel_shuffle():
    x = jnp.arange(12.0).reshape(2, 6)
    for got in (nn.ChannelShuffle(3)(x), linen.ChannelShuffle(3).apply({}, x)):
        np.testing.assert_array_equal(got, convjax.channel_shuffle(x, 3))


# ---- drop-ins ----------------------------------------------------------------------------------

CONVS = [
    {},
    {"strides": 2, "padding": "VALID"},
    {"strides": None, "kernel_dilation": None, "input_dilation": None},
    {"strides": (2, 1), "padding": "CIRCULAR", "kernel_dilation": (1, 2)},
    {"padding": "REFLECT", "strides": 2},
    {"padding": [2, (0, 1)], "kernel_dilation": 2},
    {"padding": 1, "input_dilation": (2, 3), "strides": 3},
    {"padding": "same_lower"},
    {"feature_group_count": 3, "use_bias": False, "precision": "highest"},
]
TRANSPOSED = [
    {},
    {"strides": 2},
    {"strides": (2, 3), "padding": "VALID", "kernel_dilation": 2},
    {"strides": (3, 1), "padding": "CIRCULAR"},
    {"strides": 2, "padding": "CIRCULAR", "kernel_dilation": 3},
    {"strides": 2, "padding": [1, (2, 0)], "use_bias": False},
    {"strides": 4, "padding": "SAME"},
]


def random_bias(key, shape, dtype):
    return jax.random.normal(key, shape, dtype)


def check_drop_in(name, x, options):
    """Initial values to the bit, and with them the same results, in both APIs."""
    options = {**options, "bias_init": random_bias}
    ours, theirs = (
        getattr(module, name)(IN, OUT, (3, 2), **options, rngs=nnx.Rngs(3)) for module in (nn, nnx)
    )
    jax.tree.map(np.testing.assert_array_equal, pure(ours), pure(theirs))
    others = [getattr(module, name)(OUT, (3, 2), **options) for module in (linen, flax_linen)]

    @jax.jit
    def results(x, parameters):
        applied = [other.apply({"params": parameters}, x) for other in others]
        return [ours(x), theirs(x), *applied]

    got = results(x, pure(ours))
    for y in got:
        np.testing.assert_allclose(y, got[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", CONVS, ids=str)
def test_conv_is_flaxs(options):
    check_drop_in("Conv", jax.random.normal(jax.random.key(1), (2, 7, 8, IN)), options)


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_conv_transpose_is_flaxs(options, transpose_kernel):
    options = {**options, "transpose_kernel": transpose_kernel}
    if transpose_kernel:  # where Flax's default is wrong
        options["kernel_init"] = jax.nn.initializers.lecun_normal()
    x = jax.random.normal(jax.random.key(1), (2, 5, 4, IN))
    check_drop_in("ConvTranspose", x, options)


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_linen_drop_ins_start_where_flaxs_do(name):
    x, key = jnp.ones((1, 4, IN)), jax.random.key(3)
    ours, theirs = (
        getattr(module, name)(OUT, (3,), bias_init=random_bias).init(key, x)
        for module in (linen, flax_linen)
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_drop_ins_take_flaxs_arguments(name):
    """Flax's parameters come first, in Flax's order, with Flax's defaults but for functions."""
    for ours, theirs in (
        (getattr(nn, name).__init__, getattr(nnx, name).__init__),
        (getattr(linen, name), getattr(flax_linen, name)),
    ):
        mine = inspect.signature(ours).parameters
        flaxs = inspect.signature(theirs).parameters
        assert [key for key in mine if key in flaxs] == list(flaxs)
        for key, parameter in flaxs.items():
            assert mine[key].kind == parameter.kind, key
            if not callable(parameter.default):
                assert mine[key].default == parameter.default, key
        assert all(mine[key].kind is inspect.Parameter.KEYWORD_ONLY for key in mine.keys() - flaxs)


def test_mask():
    mask = jnp.tril(jnp.ones((3, 2, IN, OUT)))
    x = jax.random.normal(jax.random.key(1), (2, 7, 8, IN))
    for name in ("Conv", "ConvTranspose"):
        ours = getattr(nn, name)(IN, OUT, (3, 2), mask=mask, rngs=nnx.Rngs(0))
        theirs = getattr(nnx, name)(IN, OUT, (3, 2), mask=mask, rngs=nnx.Rngs(0))
        np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["CIRCULAR", "SAME", [(1, 0), (2, 2)]])
def test_another_conv_general_dilated(padding):
    """A function given by the user convolves, with the arguments that Flax gives it."""
    calls = []

    def convolve(lhs, rhs, window_strides, padding, **options):
        calls.append(options)
        return jax.lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)

    x = jax.random.normal(jax.random.key(1), (2, 7, 8, IN))
    options = {"padding": padding, "strides": 2, "conv_general_dilated": convolve}
    ours = nn.Conv(IN, OUT, (3, 2), **options, rngs=nnx.Rngs(0))
    theirs = nnx.Conv(IN, OUT, (3, 2), **options, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert len(calls) == 2
    assert calls[0].items() <= calls[1].items()
    other = linen.Conv(OUT, (3, 2), conv_general_dilated_cls=lambda: convolve, padding=padding)
    other.init(jax.random.key(0), x)
    assert len(calls) == 3


def test_padding_modes_reach_another_conv_general_dilated():
    x = jax.random.normal(jax.random.key(1), (2, 7, 8, IN))
    options = {"padding": "SAME", "padding_mode": ("edge", "wrap")}
    ours = nn.Conv(IN, OUT, (3, 2), **options, rngs=nnx.Rngs(0))
    lax = jax.lax.conv_general_dilated
    theirs = nn.Conv(IN, OUT, (3, 2), **options, conv_general_dilated=lax, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_promote_dtype_gets_what_flax_gives_it(name):
    seen = []

    def promote(arrays, *, dtype):
        seen.append(arrays)
        return nnx.nn.dtypes.promote_dtype(arrays, dtype=dtype)

    for use_bias in (True, False):
        options = {"promote_dtype": promote, "use_bias": use_bias, "rngs": nnx.Rngs(0)}
        for module in (nn, nnx):
            getattr(module, name)(IN, OUT, (3,), **options)(jnp.ones((1, 5, IN)))
        assert len({str(jax.tree.map(jnp.shape, arrays)) for arrays in seen[-2:]}) == 1


# ---- without Flax ------------------------------------------------------------------------------


@pytest.mark.parametrize("room", ["nn", "linen"])
def test_without_flax(room):
    """Everything but the modules works without Flax; these name what to install."""
    code = f"""
import sys
sys.modules["flax"] = None
import convjax, convjax.initializers, convjax._modules.conventions, convjax._modules
try:
    convjax.{room}
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert done == f"convjax.{room} needs Flax: install it with `pip install 'convjax[flax]'`.\n"
