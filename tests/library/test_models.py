"""What the networks compute: shapes, equivalent forms, identities, views, pools."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import built, quick

import convjax
from convjax import models, nn
from convjax.models import NETWORKS, parts
from convjax.models.context import DILATIONS, MULTIPLIERS


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


# ---- shapes ------------------------------------------------------------------------------------


def result_shape(model, shape):
    graph, state = nnx.split(model)

    def forward(state, x):
        network = nnx.merge(graph, state)
        network.eval()
        return network(x)

    return jax.eval_shape(forward, state, jax.ShapeDtypeStruct(shape, jnp.float32)).shape


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("nin", {"classes": 100}, (100,)),
        ("alexnet", {}, (1000,)),
        ("googlenet", {}, (1000,)),
        ("resnet50", {}, (1000,)),
        ("resnext50", {"classes": 10}, (10,)),
        ("mobilenet_v1", {"width": 0.75, "resolution": 161}, (1000,)),
        ("xception", {}, (1000,)),
        ("shufflenet_v1", {"groups": 8}, (1000,)),
        ("context", {"large": True, "channels": 3}, (64, 64, 3)),
        ("context", {"dilations": (1, 1, 2, 4, 8, 16, 32, 64, 1)}, (64, 64, 21)),
        ("atrous_head", {"classes": 5}, (328, 328, 5)),
        ("flattened", {}, (10,)),
        ("unet3d", {"classes": 2, "resolution": 40}, (40, 40, 40, 2)),
        ("autoencoder", {"upsampling": "bilinear"}, (64, 64, 3)),
    ],
)
def test_result(name, options, shape):
    network = NETWORKS[name]
    _, *rest = network.shape(options)
    assert result_shape(network.abstract(**options), (2, *rest)) == (2, *shape)


def test_the_last_maps_of_the_networks_are_those_of_the_papers():
    """7 x 7 before the global average, 10 x 10 in Xception, 6 x 6 before AlexNet's dense layers."""

    def sides(name):
        network = NETWORKS[name]
        rows = models.macs_of(network.abstract(), network.shape({})).rows
        return [row.shapes[-1][1] for row in rows if row.name != "dot_general"]

    for name in ("googlenet", "resnet50", "resnext50", "mobilenet_v1", "shufflenet_v1"):
        assert sides(name)[0] == 112 and sides(name)[-1] == 7
    assert sides("xception")[:2] == [149, 147] and sides("xception")[-1] == 10
    assert sides("alexnet") == [55, 27, 13, 13, 13]
    assert sides("nin") == [32] * 3 + [16] * 3 + [8] * 3


def test_the_paper_s_volumes():
    model = NETWORKS["unet3d"].abstract(padding="VALID")
    assert result_shape(model, (1, 132, 132, 116, 3)) == (1, 44, 44, 28, 3)


# ---- ResNeXt -----------------------------------------------------------------------------------


@pytest.mark.parametrize("strides", [1, 2])
def test_the_three_forms_of_a_block_are_equivalent(strides):
    """Figure 3 a, b and c, while training (their own batch's statistics) and after."""
    sizes = (12, 8, 12 * strides)
    own = {"groups": 4, "strides": strides}
    grouped = built(models.Bottleneck, *sizes, **own)
    state = nnx.state(grouped)
    leaves, tree = jax.tree.flatten(state)  # unlike any initial value, statistics positive
    leaves = [leaf + 0.3 * jnp.abs(normal(n, leaf.shape)) for n, leaf in enumerate(leaves)]
    nnx.update(grouped, jax.tree.unflatten(tree, leaves))
    x = normal(9, (2, 6, 6, 12))
    for form in ("concatenated", "split"):
        block = built(models.PathsBottleneck, *sizes, form=form, **own)
        models.tie(block, grouped)
        sums = [models.counts_of(b, x.shape) for b in (block, grouped)]
        assert sums[0] == sums[1]
        for mode in ("eval", "train"):
            getattr(block, mode)(), getattr(grouped, mode)()
            got, expected = (quick(lambda b, x: b(x))(b, x) for b in (block, grouped))
            assert expected.shape == (2, 6 // strides, 6 // strides, 12 * strides)
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["concatenated", "split"])
def test_networks_of_the_other_forms_cost_the_same(form):
    small = {"cardinality": 4, "width": 2, "depths": (1, 1), "resolution": 32}
    counts = NETWORKS["resnext50"].counts
    assert counts(form=form, **small) == counts(**small)


def test_wrong_blocks():
    with pytest.raises(ValueError, match='PathsBottleneck: `form` .*"concatenated", "split"'):
        models.PathsBottleneck(8, 8, 8, form="grouped", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="`groups` .=3. must divide the channels of the_paths"):
        models.PathsBottleneck(8, 8, 8, form="split", groups=3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="ResNet: `groups` .=3. must divide .*stage_1 .=64"):
        models.ResNet(groups=(3, 1, 1, 1), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="ResNet: `groups` .*must have 3 entries, not 2"):
        models.ResNet(depths=(3, 4, 6), groups=(1, 1), rngs=nnx.Rngs(0))


# ---- the context module ------------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True])
def test_the_context_module_begins_as_the_identity(large):
    model = built(models.ContextModule, channels=2, large=large, stddev=0.0)
    x = jnp.round(3 * normal(0, (1, 40, 40, 2)))
    y = quick(lambda m, x: m(x))(model, x)
    np.testing.assert_array_equal(y, jnp.maximum(x, 0))  # sums of halves, quarters, ...: exact


def test_noise_is_small_beside_the_identity_and_elsewhere_only():
    init = models.identity_init(3, 0.01)
    kernel = init(jax.random.key(0), (3, 3, 6, 12))
    same = np.arange(6)[:, None] // 2 == np.arange(12) // 4
    np.testing.assert_array_equal(kernel[1, 1][same], 3 / 12)
    rest = np.asarray(kernel).copy()
    rest[1, 1][same] = np.nan
    assert abs(np.nanstd(rest) / (0.01 * 3 / 12) - 1) < 0.1


def test_receptive_fields():
    layers = [(3, 1, dilation) for dilation in DILATIONS]
    fields = [convjax.arithmetic.receptive_field(layers[: n + 1]).size for n in range(7)]
    assert fields == [3, 5, 9, 17, 33, 65, 67]
    assert len(MULTIPLIERS) == len(DILATIONS)


def test_what_an_output_sees():
    """The gradient of one output with weights of one: 67 x 67 inputs, or 259 for Cityscapes."""
    for dilations, size in ((DILATIONS, 67), ((1, 1, 2, 4, 8, 16, 32, 64, 1), 259)):
        model = built(models.ContextModule, channels=1, dilations=dilations)
        graph, state = nnx.split(model)
        ones = jax.tree.map(jnp.ones_like, state)
        middle, extent = size // 2 + 2, size + 4

        @quick
        def view(x, graph=graph, ones=ones, middle=middle):
            return jax.grad(lambda x: nnx.merge(graph, ones)(x)[0, middle, middle, 0])(x)

        seen = np.asarray(view(jnp.ones((1, extent, extent, 1))))[0, ..., 0] != 0
        expected = np.zeros((extent, extent), bool)
        expected[2:-2, 2:-2] = True
        np.testing.assert_array_equal(seen, expected)


# ---- rank-1 filters ----------------------------------------------------------------------------


def test_a_flattened_layer_is_a_rank_1_convolution():
    """With a bias on the last stage alone: kernel z*y*x of the three, values and gradients."""
    layer = built(nn.FlattenedConv, 5, 4, (3, 5), padding="VALID")
    layer.bias[...] = jnp.arange(4.0)
    z, y, x = (
        variable[...]
        for variable in (layer.lateral_kernel, layer.spatial_kernel_0, layer.spatial_kernel_1)
    )
    dense = built(nn.Conv, 5, 4, (3, 5), padding="VALID")
    dense.kernel[...] = jnp.einsum("cf,yf,xf->yxcf", z[0, 0], y[:, 0, 0], x[0, :, 0])
    dense.bias[...] = layer.bias[...]
    images, weights = normal(0, (2, 7, 8, 5)), normal(1, (2, 5, 4, 4))

    @quick
    def both(images):
        results = []
        for module in (layer, dense):
            value, vjp = jax.vjp(module, images)
            results.append((value, *vjp(weights)))
        return results

    for got, expected in zip(*both(images), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_flattened_layer_is_linear_and_has_biases_after_each_stage():
    layer = built(models.FlattenedLayer, 3, 4, (3, 3), stages=2)
    biases = [p for p in jax.tree.leaves(nnx.state(layer, nnx.Param)) if p.ndim == 1]
    assert [bias.shape for bias in biases] == [(4,)] * 6
    x = normal(0, (1, 6, 6, 3))
    apply = quick(lambda m, x: m(x))
    np.testing.assert_allclose(apply(layer, -2 * x), -2 * apply(layer, x), rtol=1e-4, atol=1e-5)


# ---- shuffles, up-sampling, pools --------------------------------------------------------------


@pytest.mark.parametrize(("shuffled", "connected"), [(True, 1.0), (False, 1 / 3)])
def test_a_shuffle_lets_every_channel_reach_every_other(shuffled, connected):
    unit = built(models.ShuffleUnit, 36, 36, groups=3)
    branch = (unit.compress.conv, unit.shuffle, unit.spatial.conv, unit.expand.conv)
    stages = [stage for stage in branch if shuffled or not isinstance(stage, nn.ChannelShuffle)]

    @quick
    def reached(x):
        return jax.jacobian(
            lambda x: functools.reduce(lambda y, f: f(y), stages, x).sum((0, 1, 2))
        )(x)

    seen = np.abs(reached(normal(0, (1, 3, 3, 36)))).sum(axis=(1, 2, 3)) != 0
    assert seen.shape == (36, 36) and seen.mean() == pytest.approx(connected)


@pytest.mark.parametrize("upsampling", models.autoencoder.UPSAMPLINGS)
def test_which_up_sampling_draws_checkerboards(upsampling):
    """From a constant code, away from the borders, before any training."""
    model = built(models.AutoEncoder, upsampling=upsampling, features=(6,))
    image = quick(lambda m, code: m.decode(code))(model, jnp.ones((1, 8, 8, 6)))
    assert image.shape == (1, 16, 16, 3)
    inner = image[0, 4:-4, 4:-4]
    phases = jnp.stack([inner[i::2, j::2].mean((0, 1)) for i in (0, 1) for j in (0, 1)])
    uneven = float(phases.var(0).sum() / jnp.square(phases).mean())
    assert uneven > 1e-2 if upsampling == "transposed" else uneven < 1e-10


@pytest.mark.parametrize(("extent", "size", "stride"), [(5, 3, 2), (6, 3, 2), (1, 3, 2), (7, 2, 3)])
@pytest.mark.parametrize("pool", [nnx.max_pool, nnx.avg_pool])
def test_ceil_pool(pool, extent, size, stride):
    x = np.random.default_rng(0).integers(-9, 9, (1, extent, extent, 2)).astype(np.float32)
    options = {"count_include_pad": False} if pool is nnx.avg_pool else {}
    got = parts.ceil_pool(pool, jnp.asarray(x), size, stride, **options)
    starts = range(0, -(-max(extent - size, 0) // stride) * stride + 1, stride)
    reduce = np.max if pool is nnx.max_pool else np.mean
    expected = [
        [reduce(x[0, i : i + size, j : j + size], axis=(0, 1)) for j in starts] for i in starts
    ]
    np.testing.assert_allclose(got[0], expected, rtol=1e-6)


def test_local_response_norm():
    x = np.asarray(normal(0, (2, 3, 3, 8))) * 50
    squares = np.pad(x.astype(np.float64) ** 2, [(0, 0)] * 3 + [(2, 2)])
    sums = sum(squares[..., n : n + 8] for n in range(5))
    expected = x / (1 + 1e-4 / 5 * sums) ** 0.75
    np.testing.assert_allclose(parts.local_response_norm(jnp.asarray(x)), expected, rtol=1e-5)


# ---- what constructors refuse ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda r: models.Inception(8, (1, 2, 3), rngs=r),
            "Inception: `features` .*must have 6 entries",
        ),
        (lambda r: models.FlattenedLayer(2, 2, (3, 3), stages=0, rngs=r), "`stages` .=0. must be"),
        (lambda r: models.AtrousHead(scale=0, rngs=r), "AtrousHead: `scale` .=0. must be at least"),
        (lambda r: models.ContextModule(channels=0, rngs=r), "ContextModule: `channels` .=0. must"),
        (lambda r: models.Xception(width=0, rngs=r), "Xception: `width` .=0. must be a number abo"),
        (
            lambda r: models.ShuffleUnit(12, 30, groups=3, strides=2, rngs=r),
            "ShuffleUnit: `first_groups` .=3. must divide the channels of bottleneck .=7",
        ),
        (
            lambda r: models.PathsBottleneck(4, 4, 4, form="split", stride_in_3x3=False, rngs=r),
            "`stride_in_3x3` .=False. must be True",
        ),
    ],
)
def test_refused(build, said):
    with pytest.raises(ValueError, match=said):
        nnx.eval_shape(lambda: build(nnx.Rngs(0)))
