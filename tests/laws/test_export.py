"""`jax.export`: several platforms at once, symbolic batch and space, gradients, a round trip."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax import export

import convjax

PLATFORMS = ("cpu", "cuda", "tpu")

# name: function, shapes of both operands, options
CASES = {
    "dense": (convjax.conv, (2, 9, 8, 3), (3, 2, 3, 5), {"strides": (2, 1)}),
    "grouped": (
        convjax.conv,
        (2, 9, 8, 4),
        (3, 2, 2, 6),
        {"feature_group_count": 2, "padding": [(1, 2), (2, -1)], "kernel_dilation": (2, 1)},
    ),
    "wrapped": (convjax.conv, (2, 9, 3), (4, 3, 5), {"padding": 2, "padding_mode": "wrap"}),
    "transposed": (
        convjax.conv_transpose,
        (2, 5, 4, 6),
        (3, 2, 2, 6),
        {"feature_group_count": 2, "strides": 2, "padding": 1, "output_padding": 1},
    ),
    "transposed, edge": (
        convjax.conv_transpose,
        (2, 5, 6),
        (3, 2, 6),
        {"strides": 2, "padding": [(2, 1)], "padding_mode": "edge"},
    ),
}


def case(name, batch=None):
    function, x_shape, kernel_shape, options = CASES[name]
    x_shape = (batch or x_shape[0], *x_shape[1:])
    x, kernel = oracle.integers(0, x_shape), oracle.integers(1, kernel_shape)
    return partial(function, **options), x, kernel


def struct(array):
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def round_trip(exported, **options):
    return export.deserialize(exported.serialize(**options))


@pytest.mark.parametrize("name", CASES)
def test_every_platform_at_once(name):
    """One artefact for three platforms; read back, it runs here, and differentiates."""
    function, x, kernel = case(name)
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(struct(x), struct(kernel))
    assert exported.platforms == PLATFORMS
    again = round_trip(exported, vjp_order=1)
    np.testing.assert_array_equal(again.call(x, kernel), function(x, kernel))

    def loss(function):
        return jax.grad(lambda x, k: (function(x, k) * 2).sum(), (0, 1))

    for ours, wanted in zip(loss(again.call)(x, kernel), loss(function)(x, kernel), strict=True):
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_gradients_lower_for(platform):
    """Value, both gradients and a vmapped hessian-vector product lower where they cannot run."""
    function, x, kernel = case("grouped")

    def loss(x, kernel):
        return (function(x, kernel) ** 2).sum()

    def everything(x, kernel):
        product = jax.jvp(jax.grad(loss, (0, 1)), (x, kernel), (x, kernel))[1]
        return function(x, kernel), product, jax.vmap(function)(x[:, None], jnp.stack([kernel] * 2))

    exported = export.export(jax.jit(everything), platforms=(platform,))(struct(x), struct(kernel))
    taps = platform == "cpu"  # the choice is made for the platform that is lowered for
    assert ("stablehlo.convolution" not in exported.mlir_module()) == taps
    if platform == "cpu":
        ours, wanted = exported.call(x, kernel), everything(x, kernel)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_symbolic_batch(name):
    """One artefact for every batch size, its gradient too, and that of a batch of batches."""
    function, x, kernel = case(name)
    (batch,) = export.symbolic_shape("b")
    symbolic = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(symbolic, struct(kernel))
    assert exported.out_avals[0].shape[0] == batch
    again = round_trip(exported, vjp_order=1)
    for size in (1, 3, 7):
        x = case(name, size)[1]
        np.testing.assert_array_equal(again.call(x, kernel), function(x, kernel))

    def gradients(function):
        return jax.grad(lambda x, k: (function(x, k) ** 2).sum(), (0, 1))

    wanted = gradients(function)(x, kernel)
    of_exported = gradients(again.call)(x, kernel)
    exported_of = export.export(jax.jit(gradients(function)))(symbolic, struct(kernel))
    for ours in (of_exported, round_trip(exported_of).call(x, kernel)):
        for a, b in zip(ours, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_symbolic_batch_under_vmap():
    """Mapping x by an unknown number extends the batch. (Of both operands: the groups, which
    neither lax's operation nor StableHLO can have symbolic.)"""
    function, x, kernel = case("grouped")
    batch, many = export.symbolic_shape("b, m")
    symbolic = jax.ShapeDtypeStruct((many, batch, *x.shape[1:]), x.dtype)
    mapped = jax.vmap(function, (0, None))
    exported = export.export(jax.jit(mapped))(symbolic, struct(kernel))
    xs = np.stack([x, -x, x + 1])
    np.testing.assert_array_equal(round_trip(exported).call(xs, kernel), mapped(xs, kernel))


def test_symbolic_channels_of_a_depthwise_convolution():
    """On a CPU, where it runs as sums: lax's operation cannot have a symbolic number of groups."""

    def gradients(x, kernel):
        return jax.grad(lambda x, k: (convjax.depthwise_conv(x, k) ** 2).sum(), (0, 1))(x, kernel)

    (channels,) = export.symbolic_shape("c")
    symbolic = (
        jax.ShapeDtypeStruct((2, 9, 8, channels), np.float32),
        jax.ShapeDtypeStruct((3, 2, 1, channels), np.float32),
    )
    exported = round_trip(export.export(jax.jit(gradients), platforms=("cpu",))(*symbolic))
    for size in (1, 5, 70):
        operands = oracle.integers(0, (2, 9, 8, size)), oracle.integers(1, (3, 2, 1, size))
        for a, b in zip(exported.call(*operands), gradients(*operands), strict=True):
            np.testing.assert_array_equal(a, b)


# Options under which the extents may be symbolic, as lax takes them
SPACES = {
    "VALID": {"padding": "VALID"},
    "SAME": {"padding": "SAME"},
    "numbers": {"padding": [(1, 2), (0, 1)]},
    "strided VALID": {"padding": "VALID", "strides": (2, 3)},
    "strided SAME": {"padding": "SAME", "strides": (2, 3)},
    "dilated": {"padding": "VALID", "kernel_dilation": 2},
    "input dilation": {"padding": [(1, 2), (0, 1)], "input_dilation": (2, 1)},
    "grouped": {"padding": [(1, 1), (1, 1)], "feature_group_count": 2},
    "cropped": {"padding": [(-1, 2), (0, -1)]},
}


@pytest.mark.parametrize("gradient", [False, True], ids=["value", "gradients"])
@pytest.mark.parametrize("name", SPACES)
def test_symbolic_space_wherever_lax_has_it(name, gradient):
    """Height and width unknown when exported: wherever lax exports it, so do we, rightly."""
    options = SPACES[name]
    groups = options.get("feature_group_count", 1)
    kernel = oracle.integers(1, (3, 2, 4 // groups, 6))
    n, h, w = export.symbolic_shape("n, h, w", constraints=["h >= 8", "w >= 8"])
    symbolic = jax.ShapeDtypeStruct((n, h, w, 4), np.float32)

    def theirs(x, kernel):
        rank = 2

        def each(value):
            return (value,) * rank if isinstance(value, int) else value

        return jax.lax.conv_general_dilated(
            x, kernel, each(options.get("strides", 1)), options["padding"],
            lhs_dilation=each(options.get("input_dilation", 1)),
            rhs_dilation=each(options.get("kernel_dilation", 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
        )  # fmt: skip

    def ask(function):
        if not gradient:
            return jax.jit(function)
        return jax.jit(jax.grad(lambda x, k: (function(x, k) ** 2).sum(), (0, 1)))

    try:
        export.export(ask(theirs))(symbolic, struct(kernel))
    except Exception as error:
        pytest.skip(f"lax does not export this: {str(error).splitlines()[0][:60]}")
    ours = partial(convjax.conv, **options)
    exported = round_trip(export.export(ask(ours), platforms=PLATFORMS)(symbolic, struct(kernel)))
    for space in ((8, 9), (11, 8), (13, 14)):
        x = oracle.integers(3, (2, *space, 4))
        found, wanted = exported.call(x, kernel), ask(ours)(x, kernel)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(a, b)
        if not gradient:
            np.testing.assert_array_equal(found, oracle.conv(x, kernel, **options))


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CAUSAL", 1])
def test_symbolic_space_of_the_transposed(padding):
    """n*s and (n - 1)*s + k - 2p are sizes too when n is a letter."""
    kernel = oracle.integers(1, (3, 2, 4, 6))
    n, h, w = export.symbolic_shape("n, h, w", constraints=["h >= 4", "w >= 4"])
    symbolic = jax.ShapeDtypeStruct((n, h, w, 6), np.float32)
    function = partial(convjax.conv_transpose, strides=2, padding=padding)
    exported = round_trip(export.export(jax.jit(function))(symbolic, struct(kernel)))
    for space in ((4, 5), (7, 4)):
        y = oracle.integers(3, (2, *space, 6))
        np.testing.assert_array_equal(exported.call(y, kernel), function(y, kernel))


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("space", ["d, 8, 8", "8, h, 8", "d, h, w"])
def test_symbolic_volumes(space, strides):
    """Forward and both gradients, of a symbolic batch too."""
    shape = export.symbolic_shape(f"n, {space}, 4")

    def all_of(x, k):
        y, pull = jax.vjp(partial(convjax.conv, strides=strides), x, k)
        return y, *pull(y)

    kernel = jax.ShapeDtypeStruct((3, 3, 3, 4, 4), np.float32)
    exported = export.export(jax.jit(all_of), platforms=["cpu"])(
        jax.ShapeDtypeStruct(shape, np.float32), kernel
    )
    x = jnp.asarray(oracle.integers(0, (2, 8, 8, 8, 4)), jnp.float32)
    k = jnp.asarray(oracle.integers(1, kernel.shape), jnp.float32)
    for found, wanted in zip(exported.call(x, k), all_of(x, k), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_symbolic_channels():
    """O, or a number of output channels that nobody knows yet."""
    x = oracle.integers(0, (2, 9, 4))
    (o,) = export.symbolic_shape("o")
    symbolic = jax.ShapeDtypeStruct((3, 4, o), np.float32)
    exported = round_trip(export.export(jax.jit(convjax.conv))(struct(x), symbolic))
    for size in (1, 5):
        kernel = oracle.integers(1, (3, 4, size))
        np.testing.assert_array_equal(exported.call(x, kernel), oracle.conv(x, kernel))


def test_direct_exports_as_lax_does():
    function, x, kernel = case("grouped")
    shapes = struct(x), struct(kernel)
    exported = export.export(jax.jit(partial(function, algorithm="direct")))(*shapes)
    again = round_trip(exported)
    np.testing.assert_array_equal(again.call(x, kernel), function(x, kernel))
