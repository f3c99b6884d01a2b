"""Law "published counts": parameters and MACs of the networks, and formulas at other settings."""

import dataclasses
import functools

import jax
import pytest
from flax import nnx
from networks import built

from convjax.models import (
    CONVENTIONS,
    NETWORKS,
    PUBLISHED,
    AutoEncoder,
    Counts,
    FlattenedLayer,
    Inception,
    counts_of,
    macs_of,
    parameters_of,
)
from convjax.models.googlenet import MODULES
from convjax.models.published import Figure


@functools.cache
def cached(name, options):
    return NETWORKS[name].counts(**dict(options))


def counts(name, **options):
    return cached(name, tuple(options.items()))


def both(name, convention="convjax", **options):
    found = counts(name, **options)
    return found.parameters(convention), found.macs(convention)


@pytest.mark.parametrize(
    ("name", "options", "convention", "parameters", "macs"),
    [
        ("nin", {}, "convjax", 966_986, 222_486_528),
        ("nin", {}, "deep_roots", 966_986, 222_487_946),
        ("nin", {"groups2a": 32, "groups3a": 16}, "deep_roots", 209_546, 88_302_986),
        ("nin", {"batch_norm": True}, "weights", 965_568, 222_486_528),
        ("alexnet", {"groups": 2}, "convjax", 60_965_224, 724_406_816),
        ("alexnet", {"groups": 1}, "convjax", 62_378_344, 1_135_256_096),
        ("mobilenet_v1", {}, "mobilenet", 4_231_976, 568_740_352),
        ("mobilenet_v1", {"width": 0.5}, "mobilenet", 1_331_592, 149_497_088),
        ("mobilenet_v1", {"full_conv": True}, "convjax", 29_294_088, 4_867_293_184),
        ("shufflenet_v1", {"groups": 1}, "convjax", 1_531_936, 143_078_976),
        ("shufflenet_v1", {"groups": 3}, "convjax", 1_865_728, 137_460_672),
        ("xception", {}, "keras", 22_855_952 + 54_528, 8_357_403_496),
        ("resnet50", {}, "convjax", 25_557_032, 4_089_184_256),
        ("resnet50", {"stride_in_3x3": False}, "convjax", 25_557_032, 3_857_973_248),
        ("resnext50", {}, "convjax", 25_028_904, 4_230_479_872),
        ("googlenet", {}, "convjax", 6_998_552, 1_582_671_872),
        ("context", {}, "convjax", 28_224 + 168, 28_224 * 64**2),
        ("context", {"large": True}, "convjax", 6_803_139, 6_801_102 * 64**2),
    ],
)
def test_to_the_digit(name, options, convention, parameters, macs):
    assert both(name, convention, **options) == (parameters, macs)


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.name}-{dict(row.options)}")
def test_every_published_number(row):
    found = counts(row.name, **row.options)
    if row.parameters:
        assert Figure.read(row.parameters).difference(found.parameters(row.convention)) == 0
    if row.macs:
        assert Figure.read(row.macs).difference(found.macs(row.convention)) == 0


def test_a_difference_is_seen():
    assert Figure.read("966,986").difference(966_987) == 1
    assert Figure.read("569 M").difference(567_740_352) == -1_000_000
    assert Figure.read("0.714 G").difference(714_500_000) == 1_000_000


# ---- formulas, at other settings ---------------------------------------------------------------


@pytest.mark.parametrize(("g2", "g3"), [(3, 1), (1, 6), (6, 12), (48, 96)])
def test_nin_of_other_groups(g2, g3):
    params, macs = both("nin", "deep_roots", groups2a=g2, groups3a=g3)
    assert params == 966_986 - 460_800 * (g2 - 1) // g2 - 331_776 * (g3 - 1) // g3
    assert macs == 222_487_946 - 117_964_800 * (g2 - 1) // g2 - 21_233_664 * (g3 - 1) // g3


def test_a_small_nin():
    small = {"features": (64, 48, 32, 64, 64, 64, 64, 64), "resolution": 16}
    params, macs = both("nin", **small)
    assert params == 110_874 and round(macs, -4) == 6_880_000


@pytest.mark.parametrize("groups", [4, 8])
def test_alexnet_of_other_groups(groups):
    dense, grouped = 885_120 + 34_944 + 58_631_144, 2 * (307_456 + 663_936 + 442_624 - 896)
    params, macs = both("alexnet", groups=groups)
    assert params == dense + grouped // groups + 896
    spared = 2 * (223_948_800 + 112_140_288 + 74_760_192)
    assert macs == 724_406_816 - spared // 2 + spared // groups


def separable_layers(width):
    """(stride, in, out) of the thirteen, at a width."""
    at = [max(int(c * width), 8) for c in (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)]
    return list(zip((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), at, at[1:], strict=False))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("width", "resolution"), [(0.25, 128), (0.75, 192), (1.4, 223), (0.1, 96)])
def test_mobilenet_of_other_sizes(width, resolution, full):
    layers = separable_layers(width)
    side = -(-resolution // 2)
    first, last = layers[0][1], layers[-1][2]
    params, macs = 27 * first + 2 * first, 27 * first * side**2
    for stride, i, o in layers:
        side = -(-side // stride)
        weights = 9 * i * o if full else 9 * i + i * o
        params += weights + (2 * o if full else 2 * i + 2 * o)
        macs += weights * side**2
    params, macs = params + (last + 1) * 1000, macs + last * 1000
    options = {"width": width, "resolution": resolution, "full_conv": full}
    assert both("mobilenet_v1", **options) == (params, macs)


@pytest.mark.parametrize(
    ("groups", "width", "bias", "first"),
    [
        (2, 1, True, 24),
        (4, 1, False, 24),
        (8, 2, True, 48),
        (8, 0.5, True, 16),
        (3, 1.5, True, 36),
        (3, 0.25, False, 6),
        (1, 0.75, True, 18),
    ],
)
def test_shufflenet_of_other_sizes(groups, width, bias, first):
    stage = int({1: 144, 2: 200, 3: 240, 4: 272, 8: 384}[groups] * width)
    fan_in, side = first, 56
    params, macs = 29 * fan_in, 27 * fan_in * 112**2
    for number, depth in enumerate((4, 8, 4)):
        out = stage * 2**number
        for unit in range(depth):
            mid, branch = out // 4, out if unit else out - fan_in
            compress = fan_in * mid // (groups if number or unit else 1)
            before, side = side, side if unit else side // 2
            last = mid * branch // groups
            params += compress + 9 * mid + last + 2 * (mid + mid + branch)
            macs += compress * before**2 + (9 * mid + last) * side**2
            fan_in = out
    params, macs = params + (fan_in + bias) * 1000, macs + fan_in * 1000
    options = {"groups": groups, "width": width, "classifier_bias": bias}
    assert both("shufflenet_v1", **options) == (params, macs)


@pytest.mark.parametrize(("cardinality", "width"), [(1, 64), (2, 40), (4, 24), (8, 14), (64, 4)])
def test_resnext_of_other_widths(cardinality, width):
    side, fan_in, params, macs = 56, 64, 64 * 147 + 128, 64 * 147 * 112**2
    for stage, depth in enumerate((3, 4, 6, 3)):
        mid, out = cardinality * width * 2**stage, 256 * 2**stage
        for block in range(depth):
            before, side = side, side // (2 if stage and not block else 1)
            spatial = 9 * mid * mid // cardinality
            shortcut = 0 if block else fan_in * out
            params += fan_in * mid + spatial + mid * out + 4 * mid + 2 * out
            params += shortcut + (2 * out if shortcut else 0)
            macs += fan_in * mid * before**2 + (spatial + mid * out + shortcut) * side**2
            fan_in = out
    expected = params + 2049 * 1000, macs + 2048 * 1000
    assert both("resnext50", cardinality=cardinality, width=width) == expected
    if cardinality == 1:
        assert expected == both("resnet50")


def test_a_resnext_block_has_the_weights_of_table_1():
    def block(c, d):
        model = NETWORKS["resnext50"].abstract(cardinality=c, width=d)
        layers = parameters_of(model)
        return sum(layers[f"blocks/1/{part}/conv"]["weights"] for part in CONVS)

    CONVS = ("reduce", "spatial", "expand")
    assert block(1, 64) == 69_632 and block(32, 4) == 70_144


@pytest.mark.parametrize("channels", [1, 7, 21])
def test_context_weights(channels):
    assert counts("context", channels=channels).weights == 64 * channels**2
    assert counts("context", channels=channels, large=True).weights == 15_422 * channels**2


def test_largefov_and_pyramid():
    """Branches do not share: four cost four times one."""
    one, four = (counts("atrous_head", rates=rates) for rates in ((12,), (6, 12, 18, 24)))
    assert one.parameters() == 4_719_616 + 1_049_600 + 21_525
    assert four == dataclasses.replace(
        one, **{field: 4 * getattr(one, field) for field in ("weights", "biases", "conv_macs")}
    )


# ---- layer by layer ----------------------------------------------------------------------------


def test_layers_of_nin_and_alexnet():
    def sums(name):
        layers = parameters_of(NETWORKS[name].abstract())
        return [sum(layer.values()) for layer in layers.values()]

    nin = [14_592, 30_880, 15_456, 460_992, 37_056, 37_056, 331_968, 37_056, 1_930]
    assert sums("nin") == nin
    convs = [34_944, 307_456, 885_120, 663_936, 442_624]
    assert sums("alexnet") == [*convs, 37_752_832, 16_781_312, 4_097_000]
    network = NETWORKS["alexnet"]
    rows = macs_of(network.abstract(), network.shape({})).rows
    macs = [105_415_200, 223_948_800, 149_520_384, 112_140_288, 74_760_192]
    assert [row.macs for row in rows] == [*macs, 37_748_736, 16_777_216, 4_096_000]


def test_shares_of_mobilenet():
    """The paper's table 2, with its 1.19 % of conv1 put right."""
    network = NETWORKS["mobilenet_v1"]
    macs = {"depthwise": 0, "pointwise": 0, "first": 0, "dense": 0}
    for row in macs_of(network.abstract(), network.shape({})).rows:
        _, kernel, _ = row.shapes
        dense = row.name == "dot_general"
        name = "dense" if dense else "first" if kernel[2] == 3 else "pointwise"
        macs["depthwise" if not dense and kernel[:3] == (3, 3, 1) else name] += row.macs
    shares = {name: round(100 * value / 568_740_352, 2) for name, value in macs.items()}
    assert shares == {"depthwise": 3.06, "pointwise": 94.86, "first": 1.91, "dense": 0.18}


@pytest.mark.parametrize(
    ("name", "ratio"),
    list(zip(MODULES, (2.37, 2.81, 4.17, 4.31, 4.05, 3.64, 3.86, 5.06, 4.06), strict=True)),
)
def test_what_reductions_spare(name, ratio):
    inputs = dict(zip(MODULES, (192, 256, 480, 512, 512, 512, 528, 832, 832), strict=True))

    def weights(reductions):
        def build():
            return Inception(inputs[name], MODULES[name], reductions=reductions, rngs=nnx.Rngs(0))

        model = nnx.eval_shape(build)
        return model.out_features, counts_of(model, (1, 14, 14, inputs[name]))

    (naive_width, naive), (width, reduced) = weights(False), weights(True)
    assert round(naive.weights / reduced.weights, 2) == ratio
    if name == "3a":
        assert (naive.weights, reduced.weights) == (387_072, 163_328)
    widths = {"3a": (416, 256), "3b": (672, 480), "4a": (928, 512)}
    assert (naive_width, width) == widths.get(name, (naive_width, width))
    area = {"3a": 28**2, "4a": 14**2}.get(name)
    if area:
        millions = [round(found.weights * area / 1e6, 1) for found in (naive, reduced)]
        assert millions == {"3a": [303.5, 128.0], "4a": [307.1, 73.6]}[name]


@pytest.mark.parametrize(
    ("i", "o", "stages", "weights"),
    [
        (96, 128, 1, 13_568),
        (96, 128, 2, 31_232),
        (128, 256, 1, 35_328),
        (128, 256, 2, 103_424),
        (3, 96, 2, 11_424),
    ],
)
def test_flattened_layers(i, o, stages, weights):
    def build():
        return FlattenedLayer(i, o, (5, 5), stages=stages, rngs=nnx.Rngs(0))

    found = counts_of(nnx.eval_shape(build), (1, 8, 8, i))
    assert (found.weights, found.biases, found.macs()) == (weights, 3 * stages * o, 64 * weights)


def test_the_flattened_network_has_those_layers():
    layers = parameters_of(NETWORKS["flattened"].abstract())
    per_layer = {"layers/0": 7_200, "layers/1/": 31_232, "layers/2/": 103_424}
    for path, weights in per_layer.items():
        found = sum(s.get("weights", 0) for name, s in layers.items() if name.startswith(path))
        assert found == weights
    full = parameters_of(NETWORKS["flattened"].abstract(full_conv=True))
    assert [full[f"layers/{n}"]["weights"] for n in range(3)] == [7_200, 307_200, 819_200]


# ---- how it is counted -------------------------------------------------------------------------


def test_conventions():
    found = Counts(1_000_000, 100_000, 10_000, 1_000, 100, 10)
    expected = {
        "convjax": (1_110_000, 110),
        "torchvision": (1_110_000, 110),
        "mobilenet": (1_110_000, 110),
        "deep_roots": (1_100_000, 100_110),
        "shufflenet": (1_110_000, 100),
        "keras": (1_111_000, 110),
        "weights": (1_000_000, 110),
    }
    assert expected.keys() == CONVENTIONS.keys()
    for name, (parameters, macs) in expected.items():
        assert (found.parameters(name), found.macs(name)) == (parameters, macs)


@pytest.mark.parametrize("function", ["parameters", "macs"])
def test_an_unknown_convention(function):
    with pytest.raises(ValueError, match=rf'{function}: `convention` .*one of "convjax", "torch'):
        getattr(Counts(1, 1, 1, 1, 1, 1), function)("caffe")


def test_with_weights_or_without():
    model = built(AutoEncoder, features=(4,))
    shape = (1, 8, 8, 3)
    assert counts_of(model, shape) == counts("autoencoder", features=(4,), resolution=8)
    assert counts_of(model, (5, 8, 8, 3)).macs() == 5 * counts_of(model, shape).macs()
    leaves = jax.tree.leaves(nnx.state(NETWORKS["nin"].abstract(), nnx.Param))
    assert leaves and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)


def test_counting_changes_no_mode():
    model = NETWORKS["nin"].abstract(features=(4,) * 8)
    model.train()
    counts_of(model, (1, 8, 8, 3))
    assert model.dropout.deterministic is False


def test_flattened_baseline_spares_what_the_paper_says():
    """8 to 10 times fewer weights in the flattened layers."""
    for flat, full in ((31_232, 307_200), (103_424, 819_200)):
        assert 7.9 < full / flat < 10
