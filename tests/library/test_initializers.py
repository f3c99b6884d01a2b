"""Initial values: a linear layer keeps the variance of its input, measured for every kind."""

import inspect
import pickle
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx

from convjax import _modules, initializers, linen, nn
from convjax.initializers import KernelShape, VarianceScaling, icnr, kernel_shape, lecun_normal

DRAWS = 64

# One of every kind, where fans could be taken for others: I != O, groups, strides, stages.
LAYERS = [
    ("Conv", {"kernel_size": (3,), "out_features": 32}),
    ("Conv", {"kernel_size": (3,), "out_features": 8, "strides": 2, "feature_group_count": 4}),
    ("PointwiseConv", {"out_features": 48, "strides": 2, "rank": 1}),
    ("DilatedConv", {"kernel_size": (3,), "kernel_dilation": 2, "out_features": 32}),
    ("GroupedConv", {"kernel_size": (3,), "groups": 4, "out_features": 48}),
    ("ShuffledGroupedConv", {"kernel_size": (3,), "groups": 4, "out_features": 48, "strides": 2}),
    ("PointwiseGroupedConv", {"groups": 4, "out_features": 48, "rank": 1}),
    ("DepthwiseConv", {"kernel_size": (3,), "channel_multiplier": 2, "strides": 2}),
    ("DepthwiseSeparableConv", {"kernel_size": (3,), "out_features": 48, "strides": 2}),
    ("SpatiallySeparableConv", {"kernel_size": (3, 5), "out_features": 48, "mid_features": 24}),
    ("FlattenedConv", {"kernel_size": (3, 3), "out_features": 64, "strides": (2, 1)}),
    ("ResizeConv", {"kernel_size": (3,), "scale": 2, "out_features": 48}),
    ("ResizeConv", {"kernel_size": (3,), "scale": 2, "out_features": 48, "method": "bilinear"}),
    ("ResizeConv", {"kernel_size": (3, 1), "scale": 3, "out_features": 32, "method": "bilinear"}),
    ("SubpixelConv", {"kernel_size": (3,), "scale": 2, "out_features": 24}),
    ("SubpixelConv", {"kernel_size": (3,), "scale": 2, "out_features": 24, "kernel_init": icnr(2)}),
    ("ConvTranspose", {"kernel_size": (3,), "out_features": 48}),
    ("ConvTranspose", {"kernel_size": (3,), "out_features": 48, "strides": 2}),
    ("ConvTranspose", {"kernel_size": (3,), "out_features": 4, "strides": 2, "forward": True}),
    ("ConvTranspose", {"kernel_size": (4,), "out_features": 48, "strides": 3, "groups": 4}),
    ("ConvTranspose", {"kernel_size": (3,), "out_features": 4, "strides": 2, "adjoint": True}),
    (
        "ConvTranspose",
        {"kernel_size": (3,), "out_features": 48, "groups": 2, "adjoint": True, "padding": 1},
    ),
]


def arguments(name, own):
    own = dict(own)
    if name == "ConvTranspose":
        own["transpose_kernel"] = own.pop("forward", False)
        own["convention"] = "adjoint" if own.pop("adjoint", False) else "flax"
        own["feature_group_count"] = own.pop("groups", 1)
    return own


def ids(value):
    if isinstance(value, str):
        return value
    return ",".join(f"{k}={'icnr' if callable(v) else v}" for k, v in value.items())


def interior(a, rank):
    """`a` without what lies within a third of an edge; by a multiple of every stride here."""
    for axis in range(1, 1 + rank):
        margin = a.shape[axis] // 18 * 6
        a = jax.lax.slice_in_dim(a, margin, a.shape[axis] - margin, axis=axis)
    return a


def variances(name, own, rank):
    """Mean squares, inside, of the result for a Gaussian input, and of the gradient of the input
    for a Gaussian one of the result, the parameters drawn by forward and by backward fans."""
    own = {"use_bias": False, **arguments(name, own)}
    features = 16

    def draw(key):
        keys = jax.random.split(key, 3)
        x = jax.random.normal(keys[0], (1, *(36,) * rank, features))

        def layer(mode):
            init = VarianceScaling(1.0, mode, "truncated_normal")
            options = {**own, "kernel_init": icnr(2, init) if "kernel_init" in own else init}
            return getattr(nn, name)(features, **options, rngs=nnx.Rngs(keys[1]))

        y = layer("fan_in")(x)
        _, backward = jax.vjp(layer("fan_out"), x)
        (gradient,) = backward(jax.random.normal(keys[2], y.shape))
        return (interior(y, rank) ** 2).mean(), (interior(gradient, rank) ** 2).mean()

    draws = jax.random.split(jax.random.key(0, impl="rbg"), DRAWS)  # quick to compile
    return [float(v.mean()) for v in jax.jit(lambda keys: jax.lax.map(draw, keys))(draws)]


@pytest.mark.parametrize(("name", "own"), LAYERS, ids=ids)
def test_variance_is_kept(name, own):
    rank = own.get("rank", len(own.get("kernel_size", (1, 1))))
    forward, backward = variances(name, own, rank)
    assert 0.9 < forward < 1.1
    assert 0.9 < backward < 1.1


@pytest.mark.parametrize("name", _modules.ROWS)
def test_defaults(name):
    """`lecun_normal` everywhere, but for the two drop-ins, in both APIs."""
    drop_in = name in ("Conv", "ConvTranspose")
    expected = initializers.drop_in() if drop_in else lecun_normal()
    base = getattr(nn, name) if drop_in else nn.Layer
    assert inspect.signature(base.__init__).parameters["kernel_init"].default == expected
    assert inspect.signature(getattr(linen, name)).parameters["kernel_init"].default == expected


@pytest.mark.parametrize(
    ("own", "flaxs"),
    [
        ({}, True),
        ({"strides": 2}, True),
        ({"strides": 2, "transpose_kernel": True}, False),
        ({"feature_group_count": 2}, False),
        ({"convention": "adjoint"}, False),
    ],
    ids=str,
)
def test_where_the_drop_in_is_flaxs(own, flaxs):
    """Flax's values where it reads the right axis; else those of the right fan."""
    kernels = [
        nn.ConvTranspose(16, 48, (3,), **own, rngs=nnx.Rngs(0), **init).kernel[...]
        for init in ({}, {"kernel_init": lecun_normal()})
    ]
    if not flaxs:
        np.testing.assert_array_equal(*kernels)
    else:
        theirs = nnx.ConvTranspose(16, 48, (3,), **own, rngs=nnx.Rngs(0)).kernel[...]
        np.testing.assert_array_equal(kernels[0], theirs)
        np.testing.assert_allclose(kernels[1], theirs * own.get("strides", 1) ** 0.5, rtol=1e-6)


def test_flaxs_transposed_kernels():
    """256 -> 16 channels, 3x3, strides 2: Flax's fan is 9*16, the right one 9*256/4."""
    options = {"strides": 2, "transpose_kernel": True}
    ours = nn.ConvTranspose(256, 16, (3, 3), **options, rngs=nnx.Rngs(0))
    theirs = nnx.ConvTranspose(256, 16, (3, 3), **options, rngs=nnx.Rngs(0))
    ratio = np.var(theirs.kernel[...]) / np.var(ours.kernel[...])
    np.testing.assert_allclose(ratio, (256 / 4) / 16, rtol=1e-5)
    restored = nn.ConvTranspose(
        256, 16, (3, 3), **options, kernel_init=nnx.initializers.lecun_normal(), rngs=nnx.Rngs(0)
    )
    np.testing.assert_array_equal(restored.kernel[...], theirs.kernel[...])


def test_fans_reach_wrapped_initialisers():
    """Metadata wrappers of both APIs pass the shape on, and with it the fans."""
    options = {"strides": 2, "convention": "adjoint"}
    plain = nn.ConvTranspose(64, 4, (3,), **options, rngs=nnx.Rngs(0))
    init = nnx.with_partitioning(lecun_normal(), (None, None, "model"))
    with jax.set_mesh(jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))):
        wrapped = nn.ConvTranspose(64, 4, (3,), **options, kernel_init=init, rngs=nnx.Rngs(0))
    assert wrapped.kernel[...].sharding.spec == jax.P(None, None, "model")
    np.testing.assert_array_equal(wrapped.kernel[...], plain.kernel[...])

    x, key = jnp.ones((1, 5, 64)), jax.random.key(0)
    plain = linen.ConvTranspose(4, (3,), **options).init(key, x)
    init = flax_linen.with_partitioning(lecun_normal(), (None, None, "model"))
    boxed = linen.ConvTranspose(4, (3,), **options, kernel_init=init).init(key, x)
    unboxed = flax_linen.meta.unbox(boxed)
    jax.tree.map(np.testing.assert_array_equal, unboxed, plain)


@pytest.mark.parametrize(
    ("mode", "distribution"),
    [("fan_in", "truncated_normal"), ("fan_out", "normal"), ("fan_avg", "uniform")],
)
def test_plain_shapes_are_read_as_jax_reads_them(mode, distribution):
    key, shape = jax.random.key(1), (3, 2, 4, 6)
    theirs = jax.nn.initializers.variance_scaling(1.5, mode, distribution)(key, shape)
    ours = VarianceScaling(1.5, mode, distribution)
    np.testing.assert_array_equal(ours(key, shape), theirs)
    np.testing.assert_array_equal(ours(key, kernel_shape(shape)), theirs)
    scaled = ours(key, KernelShape(shape, fan_in=1, fan_out=1))
    fan = {"fan_in": 24, "fan_out": 36, "fan_avg": 30}[mode]
    np.testing.assert_allclose(scaled, theirs * fan**0.5, rtol=1e-5)
    assert jax.eval_shape(lambda: ours(key, shape, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (initializers.lecun_normal, jax.nn.initializers.lecun_normal),
        (initializers.he_normal, jax.nn.initializers.he_normal),
        (initializers.glorot_uniform, jax.nn.initializers.glorot_uniform),
        (initializers.drop_in, jax.nn.initializers.lecun_normal),
    ],
)
def test_names_are_jaxs(ours, theirs):
    key, shape = jax.random.key(1), (3, 4, 6)
    np.testing.assert_array_equal(ours()(key, shape), theirs()(key, shape))
    assert ours() == ours() and hash(ours()) == hash(ours())


def test_fans_of_both_directions():
    strided = kernel_shape((3, 3, 2, 12), groups=3, strides=(2, 2))
    assert (strided.fan_in, strided.fan_out) == (18, Fraction(9 * 12, 3 * 4))
    back = initializers.transposed_kernel_shape((3, 3, 2, 12), groups=3, strides=(2, 2))
    assert (back.fan_in, back.fan_out) == (strided.fan_out, strided.fan_in)


def test_kernel_shape_is_a_tuple():
    shape = kernel_shape((3, 2, 6), groups=2)
    assert shape == (3, 2, 6) and isinstance(shape, tuple) and shape[-1] == 6
    again = pickle.loads(pickle.dumps(shape))
    assert again == shape and again.fan_out == shape.fan_out == 9 and again.drop_in


def test_icnr():
    """One kernel repeated over each block, in the order of pixel_shuffle: blocks of one value."""
    layer = nn.SubpixelConv(3, 5, (3, 3), (2, 3), kernel_init=icnr((2, 3)), rngs=nnx.Rngs(0))
    y = np.asarray(layer(jax.random.normal(jax.random.key(0), (1, 4, 5, 3))))
    blocks = y.reshape(1, 4, 2, 5, 3, 5)
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :, :1, :, :1], blocks.shape))
    assert np.std(blocks[:, :, 0, :, 0]) > 0.1
    kernel = icnr(2, jax.nn.initializers.ones)(jax.random.key(0), (3, 3, 8))
    assert kernel.shape == (3, 3, 8) and (kernel == 1).all()


def test_each_kernel_its_own_initialiser():
    layer = nn.DepthwiseSeparableConv(
        4,
        5,
        (3,),
        kernel_init={"pointwise_kernel": nnx.initializers.ones},
        bias_init={"bias": nnx.initializers.ones},
        rngs=nnx.Rngs(0),
    )
    default = nn.DepthwiseSeparableConv(4, 5, (3,), rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer.depthwise_kernel[...], default.depthwise_kernel[...])
    assert (layer.pointwise_kernel[...] == 1).all() and (layer.bias[...] == 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VarianceScaling(1.0, "fan", "normal"), r"`mode` \(='fan'\) must be one of"),
        (lambda: VarianceScaling(1.0, "fan_in", "beta"), r"`distribution` \(='beta'\) must be one"),
        (
            lambda: icnr(2)(jax.random.key(0), (3, 3, 4, 6)),
            r"icnr: `scale` \(=2\) must divide the output channels \(=6\).*, 4",
        ),
        (lambda: icnr(0)(jax.random.key(0), (3, 4, 6)), r"icnr: `scale` \(=0\) must be at least 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
