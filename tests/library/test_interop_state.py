"""State dicts from and to PyTorch: rules, names, errors, and whole networks, live."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import convjax
from convjax import interop
from convjax.interop import Layer
from convjax.interop.layers import COUNTER, ENTRIES


def operand(seed, *shape):
    return oracle.integers(seed, shape, bound=4).astype(np.float32)


STATE = {
    "stem.weight": operand(1, 8, 3, 3, 2),
    "stem.bias": operand(2, 8),
    "blocks.0.bn.weight": operand(3, 8),
    "blocks.0.bn.bias": operand(4, 8),
    "blocks.0.bn.running_mean": operand(5, 8),
    "blocks.0.bn.running_var": operand(6, 8),
    "blocks.0.bn.num_batches_tracked": np.array(17),
    "blocks.1.weight": operand(7, 12, 2, 3, 3),
    "up.weight": operand(8, 12, 5, 4, 2),
    "token.weight": operand(9, 7, 4),
    "head.weight": operand(10, 9, 24),
    "head.bias": operand(11, 9),
}
LAYERS = {
    "stem": "dense",
    "*.bn": "batch_norm",
    "blocks.*": Layer("grouped", groups=4),
    "up": Layer("transposed", groups=2, transpose_kernel=True),
    "token": "embedding",
    "head": Layer("linear", flattened=(4, 2, 3)),
}


def shapes(tree):
    return {
        key: shapes(value) if isinstance(value, dict) else value.shape
        for key, value in tree.items()
    }


def same_state(ours, theirs):
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


# ---- without PyTorch -------------------------------------------------------------------------


def test_names_layouts_and_back():
    tree = interop.from_torch(STATE, LAYERS)
    assert shapes(tree) == {
        "stem": {"kernel": (3, 2, 3, 8), "bias": (8,)},
        "blocks": {
            0: {"bn": {"scale": (8,), "bias": (8,), "mean": (8,), "var": (8,)}},
            1: {"kernel": (3, 3, 2, 12)},
        },
        "up": {"kernel": (4, 2, 5, 12)},
        "token": {"embedding": (7, 4)},
        "head": {"kernel": (24, 9), "bias": (9,)},
    }
    np.testing.assert_array_equal(tree["token"]["embedding"], STATE["token.weight"])
    np.testing.assert_array_equal(tree["blocks"][0]["bn"]["var"], STATE["blocks.0.bn.running_var"])
    same_state(interop.to_torch(tree, LAYERS, like=STATE), STATE)
    again = interop.to_torch(tree, LAYERS)
    assert set(again) == set(STATE) and again["blocks.0.bn." + COUNTER] == 0
    again["blocks.0.bn." + COUNTER] = np.array(17)
    same_state({name: again[name] for name in STATE}, STATE)


def test_a_flattened_image():
    """A linear layer after a flattening sees the same numbers in another order."""
    image = operand(12, 1, 2, 3, 4)
    tree = interop.from_torch(STATE, LAYERS)
    ours = image.reshape(1, -1) @ tree["head"]["kernel"]
    theirs = np.moveaxis(image, -1, 1).reshape(1, -1) @ STATE["head.weight"].T
    np.testing.assert_array_equal(ours, theirs)
    plain = interop.from_torch({"weight": STATE["head.weight"]}, {"": "linear"})
    assert not np.array_equal(plain["kernel"], tree["head"]["kernel"])


def test_layouts_of_a_transposed_kernel():
    """Both of Flax's, whose shapes agree where in and out do: so the layer must say which."""
    state = {"up.weight": operand(1, 6, 3, 2, 2)}
    trees = [
        interop.from_torch(state, {"up": Layer("transposed", groups=2, transpose_kernel=flag)})
        for flag in (False, True)
    ]
    assert [t["up"]["kernel"].shape for t in trees] == [(2, 2, 3, 6)] * 2
    assert not np.array_equal(*(t["up"]["kernel"] for t in trees))
    for flag, tree in zip((False, True), trees, strict=True):
        layers = {"up": Layer("transposed", groups=2, transpose_kernel=flag)}
        same_state(interop.to_torch(tree, layers), state)


def test_names():
    """Beginnings of names, a part taken away, and single entries; and all of it back."""
    state = {
        "module.features.0.weight": operand(1, 4, 4, 1, 1),
        "module.features.2.dw.weight": operand(2, 4, 1, 3, 3),
        "module.features.2.pw.weight": operand(3, 8, 4, 1, 1),
        "module.features.2.pw.bias": operand(4, 8),
    }
    layers = {"*.dw": "depthwise", "*": "pointwise"}
    names = {
        "module": "",
        "module.features": "trunk.layers",
        "module.features.2.dw.weight": "trunk.layers.2.depthwise_kernel",
        "module.features.2.pw.weight": "trunk.layers.2.pointwise_kernel",
        "module.features.2.pw": "trunk.layers.2",
    }
    tree = interop.from_torch(state, layers, names=names)
    assert shapes(tree) == {
        "trunk": {
            "layers": {
                0: {"kernel": (1, 1, 4, 4)},
                2: {
                    "depthwise_kernel": (3, 3, 1, 4),
                    "pointwise_kernel": (1, 1, 4, 8),
                    "bias": (8,),
                },
            }
        }
    }
    same_state(interop.to_torch(tree, layers, names=names), state)


def test_like_gives_the_keys():
    like = {"stem": {"kernel": np.zeros((3, 2, 3, 8)), "bias": np.zeros(8)}, "0": None}
    state = {k: v for k, v in STATE.items() if k.startswith("stem")}
    assert shapes(interop.from_torch(state, {"*": "dense"}, like=like)) == {
        "stem": {"kernel": (3, 2, 3, 8), "bias": (8,)}
    }
    like = {"layers": {"0": {"kernel": np.zeros((1, 3, 8))}}}
    tree = interop.from_torch({"layers.0.weight": operand(1, 8, 3, 1)}, {"*": "dense"}, like=like)
    assert shapes(tree) == {"layers": {"0": {"kernel": (1, 3, 8)}}}


def test_collections_of_linen():
    tree = interop.from_torch(STATE, LAYERS)
    variables = interop.split_collections(tree)
    assert list(variables) == ["params", "batch_stats"]
    assert shapes(variables["batch_stats"]) == {"blocks": {0: {"bn": {"mean": (8,), "var": (8,)}}}}
    merged = interop.merge_collections(variables)
    same_state(interop.to_torch(merged, LAYERS, like=STATE), STATE)
    with pytest.raises(ValueError, match="merge_collections: `variables` .='a.b'. is in two"):
        interop.merge_collections({"params": {"a": {"b": 1}}, "batch_stats": {"a": {"b": 1}}})


def test_the_state_dict_is_not_aliased():
    state = {"a.weight": np.ones((2, 2, 1)), "b.weight": np.ones((3, 2)), "a.bias": np.ones(2)}
    for leaf in jax.tree.leaves(interop.from_torch(state, {"a": "dense", "b": "embedding"})):
        leaf[:] = 0
    assert all(value.all() for value in state.values())


def without(*names):
    return {name: value for name, value in STATE.items() if name not in names}


def like_all():
    return interop.from_torch(STATE, LAYERS)


def like_with(shape):
    like = like_all()
    like["up"]["kernel"] = np.zeros(shape)
    return like


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: interop.from_torch(STATE | {"neck.fc.weight": np.ones((2, 2))}, LAYERS),
            r"`state_dict\['neck.fc.weight'\]` \(=\(2, 2\)\) is of none of the `layers`. Add 'neck",
        ),
        (
            lambda: interop.from_torch(STATE | {"stem.gain": np.ones(2)}, LAYERS),
            r"`state_dict\['stem.gain'\]` \(=\(2,\)\) is no entry of a layer of kind \"dense\"",
        ),
        (
            lambda: interop.from_torch(STATE | {"stem.weight_g": np.ones(2)}, LAYERS),
            r"Undo parametrizations, such as weight norm, in PyTorch first",
        ),
        (
            lambda: interop.from_torch(STATE | {"stem.weight": np.ones((8, 3))}, LAYERS),
            r"`state_dict\['stem.weight'\]` \(=\(8, 3\)\) does not convert as the weight of a "
            r"layer of kind \"dense\".*at least one spatial axis",
        ),
        (
            lambda: interop.from_torch(STATE | {"head.weight": np.ones((8, 3, 1))}, LAYERS),
            r"'head.weight'.*must have two axes, not 3",
        ),
        (
            lambda: interop.from_torch(STATE | {"head.weight": np.ones((8, 3))}, LAYERS),
            r"'head.weight'.*`flattened` \(4, 2, 3\) holds 24 numbers, not 3",
        ),
        (
            lambda: interop.from_torch(STATE | {"stem.bias": np.ones((8, 1))}, LAYERS),
            r"'stem.bias'.*must have one axis, not 2",
        ),
        (
            lambda: interop.from_torch(STATE | {"blocks.1.weight": np.ones((9, 2, 3, 3))}, LAYERS),
            r"'blocks.1.weight'.*`groups` \(=4\) must divide the channels",
        ),
        (
            lambda: interop.from_torch(STATE, LAYERS | {"steam": "dense"}),
            r"`layers` \(=\['steam'\]\) must be layers with entries in `state_dict`",
        ),
        (
            lambda: interop.from_torch(STATE, LAYERS, names={"up": "stem"}),
            r"'up.weight'.*becomes 'stem.kernel', and so does another entry. Give them different",
        ),
        (
            lambda: interop.from_torch(without("head.bias"), LAYERS, like=like_all()),
            r"`state_dict` \(=\['head.bias'\]\) must have what `like` has. Is a layer called other",
        ),
        (
            lambda: interop.from_torch(STATE, LAYERS, like=without()),
            r"must have what `like` has",
        ),
        (
            lambda: interop.from_torch(STATE, LAYERS, like={}),
            r"`state_dict` \(=\['blocks.0.bn.bias', .*'and 3 more'\]\) must have nothing that",
        ),
        (
            lambda: interop.from_torch(STATE, LAYERS, like=like_with((4, 2, 12, 5))),
            r"'up.weight'\]` \(=\(12, 5, 4, 2\)\) becomes 'up.kernel' of shape \(4, 2, 5, 12\), "
            r"but `like` has \(4, 2, 12, 5\) there. Is the layer's `transpose_kernel` False\?",
        ),
        (
            lambda: interop.from_torch(STATE, LAYERS, like=like_with((4, 2, 5, 6))),
            r"'up.weight'.* Do both models have the same channels and groups\?",
        ),
        (
            lambda: interop.to_torch({"stem": {"kernel": np.ones(2)}, "x": {"y": 1}}, LAYERS),
            r"`tree\['stem.kernel'\]` \(=\(2,\)\) does not convert",
        ),
        (
            lambda: interop.to_torch({"x": {"y": np.ones(3)}}, LAYERS),
            r"`tree\['x.y'\]` \(=\(3,\)\) is of none of the `layers`",
        ),
        (
            lambda: interop.to_torch({"stem": {"scale": np.ones(3)}}, LAYERS),
            r'`tree\[\'stem.scale\'\]` \(=\(3,\)\) is no parameter of a layer of kind "dense"',
        ),
        (
            lambda: interop.to_torch(like_all(), LAYERS, names={"up": "down"}),
            r"stands for another name as well. Give them different names in `names`",
        ),
        (
            lambda: interop.to_torch(like_all(), LAYERS, like=without("up.weight")),
            r"`tree` \(=\['up.weight'\]\) must have nothing that `like` has not",
        ),
        (
            lambda: interop.to_torch(like_all(), LAYERS, like=STATE | {"a.b": np.ones(1)}),
            r"`tree` \(=\['a.b'\]\) must have what `like` has",
        ),
        (
            lambda: interop.to_torch(like_all(), LAYERS, like=STATE | {"head.bias": np.ones(3)}),
            r"`result\['head.bias'\]` \(=\(9,\)\) is not of the shape that `like` has there",
        ),
        (
            lambda: interop.from_torch(STATE, LAYERS | {"stem": "subpixel"}),
            r"'stem.bias'.*comes before the shuffle, pixel by pixel.*`Conv` and `pixel_shuffle`",
        ),
        (
            lambda: Layer("shuffled_grouped"),
            r"`groups` \(=None\) must be given for the kind \"shuff",
        ),
        (lambda: Layer("conv"), r'Layer: `kind` \(=\'conv\'\) must be one of "dense"'),
        (
            lambda: Layer("transposed"),
            r"`transpose_kernel` \(=None\) must be given.*True where our",
        ),
        (
            lambda: Layer("dense", transpose_kernel=True),
            r"is an option of the kind \"transposed\" only",
        ),
        (lambda: Layer("dense", flattened=(3, 2, 2)), r"is an option of the kind \"linear\" only"),
        (lambda: Layer("norm", groups=2), r"`groups` \(=2\) is an option of convolutions only"),
        (lambda: Layer("dense", groups=0), r"`groups` \(=0\) must be at least 1"),
    ],
)
def test_values_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: interop.from_torch([], LAYERS),
            "`state_dict` .='list'. must be a mapping. Give `mo",
        ),
        (
            lambda: interop.from_torch(STATE, None),
            "`layers` .='NoneType'. must be a mapping. Give `c",
        ),
        (lambda: interop.from_torch(STATE, LAYERS, names=3), "`names` .='int'. must be a mapping"),
        (
            lambda: interop.to_torch([], LAYERS),
            "to_torch: `tree` .='list'. must be a mapping. For an",
        ),
        (
            lambda: interop.from_torch(STATE, {"up": 2}),
            r"`layers\['up'\]` .=2. must be a `Layer` or",
        ),
        (lambda: interop.layers_of({}), "layers_of: `model` .='dict'. must be a PyTorch module"),
    ],
)
def test_wrong_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()


# ---- whole networks, live --------------------------------------------------------------------


def torch_network(torch, rank):
    """Every layer type; both layouts of transposed kernels will be asked for."""
    nn = torch.nn
    conv, transpose = getattr(nn, f"Conv{rank}d"), getattr(nn, f"ConvTranspose{rank}d")

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = conv(3, 8, 3, padding=1, padding_mode="reflect")
            self.blocks = nn.Sequential(
                conv(8, 16, 3, stride=2, padding=1, groups=8, bias=False),  # depthwise, M = 2
                getattr(nn, f"BatchNorm{rank}d")(16),
                nn.ReLU(),
                conv(16, 8, 1, groups=4),  # pointwise, in groups
            )
            self.shuffle = nn.ChannelShuffle(4)
            self.dilated = conv(8, 6, 2, dilation=2, padding="same", padding_mode="circular")
            self.grouped = conv(6, 8, 3, groups=2, padding=1, padding_mode="replicate")
            self.up = transpose(
                8, 6, 2, stride=2, padding=1, output_padding=1, groups=2, dilation=2
            )
            self.up_flax = transpose(6, 8, 4, stride=2, padding=1, groups=2)
            self.norm = nn.GroupNorm(2, 8)
            self.subpixel = conv(8, 8, 3, padding=1, bias=False)
            self.head = nn.LazyLinear(5)

        def forward(self, x):
            x = self.blocks(self.stem(x))
            if rank == 2:
                x = self.shuffle(x)
            x = self.grouped(self.dilated(x))
            x = self.norm(torch.relu(self.up_flax(self.up(x))))
            x = self.subpixel(x)
            if rank == 2:
                x = nn.functional.pixel_shuffle(x, 2)
            return self.head(x.flatten(1))

    return Network()


def flax_network(nnx, rank, features):
    """The same network in convjax's modules."""
    from convjax import nn

    rngs, adjoint = nnx.Rngs(0), {"convention": "adjoint"}

    def of(n):
        return (n,) * rank

    class Network(nnx.Module):
        def __init__(self):
            self.stem = nn.Conv(3, 8, of(3), padding=1, padding_mode="reflect", rngs=rngs)
            self.blocks = nnx.Sequential(
                nn.DepthwiseConv(8, of(3), 2, strides=2, padding=1, use_bias=False, rngs=rngs),
                nnx.BatchNorm(16, use_running_average=True, rngs=rngs),
                nnx.relu,
                nn.PointwiseGroupedConv(16, 8, 4, rank=rank, rngs=rngs),
            )
            self.shuffle = nn.ChannelShuffle(4)
            self.dilated = nn.DilatedConv(8, 6, of(2), 2, padding_mode="wrap", rngs=rngs)
            self.grouped = nn.GroupedConv(6, 8, of(3), 2, padding_mode="edge", rngs=rngs)
            up = {"padding": 1, "output_padding": 1, "kernel_dilation": 2, **adjoint}
            self.up = nn.ConvTranspose(8, 6, of(2), 2, feature_group_count=2, rngs=rngs, **up)
            self.up_flax = nn.ConvTranspose(6, 8, of(4), 2, feature_group_count=2, rngs=rngs)
            self.norm = nnx.GroupNorm(8, num_groups=2, epsilon=1e-5, rngs=rngs)
            kind = nn.SubpixelConv if rank == 2 else nn.Conv
            out, *scale = (2, 2) if rank == 2 else (8,)
            options = {"padding": 1, "use_bias": False, "rngs": rngs}
            self.subpixel = kind(8, out, of(3), *scale, **options)
            self.head = nnx.Linear(features, 5, rngs=rngs)

        def __call__(self, x):
            x = self.blocks(self.stem(x))
            if rank == 2:
                x = self.shuffle(x)
            x = self.grouped(self.dilated(x))
            x = self.norm(nnx.relu(self.up_flax(self.up(x))))
            x = self.subpixel(x)
            return self.head(x.reshape(x.shape[0], -1))

    return Network()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_whole_networks_live(rank):
    """Converted, it gives PyTorch's output to 1e-5; and PyTorch takes the parameters back."""
    torch = pytest.importorskip("torch", reason="the live comparison needs torch (extra: peers)")
    nnx = pytest.importorskip("flax.nnx", reason="convjax.nn needs flax")
    torch.manual_seed(rank)
    theirs = torch_network(torch, rank)
    space = (6, 4, 4)[:rank]
    x = torch.randn(2, 3, *space)
    theirs.train()(x)  # so that the running averages are not those of the start
    with torch.no_grad():
        theirs.blocks[1].weight.uniform_(0.5, 2)
        theirs.blocks[1].bias.normal_()
    theirs.eval()
    held = {}
    hooks = [
        m.register_forward_hook(lambda m, given, out, n=n: held.__setitem__(n, (given[0], out)))
        for n, m in theirs.named_modules()
        if hasattr(m, "transposed")
    ]
    wanted = theirs(x).detach().numpy()
    for hook in hooks:
        hook.remove()
    assert len(held) == 8

    # torch's shape of what the head flattens
    image = (2, *(4 * n for n in space)) if rank == 2 else (8, *(2 * n for n in space))
    features = int(np.prod(image))
    assert theirs.head.in_features == features
    layers = interop.layers_of(theirs, transpose_kernel=True, flattened={"head": image})
    layers["up_flax"] = dataclasses.replace(layers["up_flax"], transpose_kernel=False)
    names = {"blocks": "blocks.layers"}

    ours = nnx.eval_shape(lambda: flax_network(nnx, rank, features))  # no values yet
    kinds = nnx.Any(nnx.Param, nnx.BatchStat)
    state = theirs.state_dict()
    tree = interop.from_torch(state, layers, names=names, like=nnx.state(ours, kinds))
    nnx.update(ours, tree)
    found = nnx.jit(lambda model, x: model(x))(ours, np.moveaxis(x.numpy(), 1, -1))
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-5)

    back = interop.to_torch(nnx.state(ours, kinds), layers, names=names, like=state)
    same_state(back, {name: value.numpy() for name, value in state.items()})
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in back.items()})

    if rank == 1:  # each layer as a function, by the call that the port checker gives
        flat = interop.from_torch(state, layers)
        for name, port in interop.check_model(theirs).items():
            node = flat
            for key in name.split("."):
                node = node[int(key) if key.isdecimal() else key]
            if name == "up_flax":  # not in the layout of convjax's functions
                continue
            given, out = (np.moveaxis(v.detach().numpy(), 1, -1) for v in held[name])
            y = getattr(convjax, port.function)(given, node["kernel"], **port.options)
            y = y + node.get("bias", 0.0)
            np.testing.assert_allclose(y, out, atol=1e-5, rtol=1e-5)


def test_kinds_with_several_kernels_live():
    """Stages that PyTorch writes as layers, in one module of ours, by the names of its kernels."""
    torch = pytest.importorskip("torch", reason="the live comparison needs torch (extra: peers)")
    nnx = pytest.importorskip("flax.nnx", reason="convjax.nn needs flax")
    from convjax import nn

    conv = torch.nn.Conv2d
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(
        conv(4, 8, 3, padding=1, groups=4, bias=False),
        conv(8, 6, 1),
        conv(6, 5, (3, 1), padding=(1, 0), bias=False),
        conv(5, 6, (1, 3), padding=(0, 1)),
        conv(6, 4, 1),
        conv(4, 4, (3, 1), padding=(1, 0), groups=4),
        conv(4, 4, (1, 3), padding=(0, 1), groups=4),
    )

    def network():
        rngs = nnx.Rngs(0)
        return nnx.List(
            [
                nn.DepthwiseSeparableConv(4, 6, (3, 3), 2, rngs=rngs),
                nn.SpatiallySeparableConv(6, 6, (3, 3), 5, rngs=rngs),
                nn.FlattenedConv(6, 4, (3, 3), stage_bias=True, rngs=rngs),
            ]
        )

    ours = nnx.eval_shape(network)
    names = {
        "0.weight": "0.depthwise_kernel",
        "1.weight": "0.pointwise_kernel",
        "1": "0",
        "2.weight": "1.kernel_0",
        "3.weight": "1.kernel_1",
        "3": "1",
        "4.weight": "2.lateral_kernel",
        "4.bias": "2.lateral_bias",
        "5.weight": "2.spatial_kernel_0",
        "5.bias": "2.spatial_bias_0",
        "6.weight": "2.spatial_kernel_1",
        "6": "2",
    }
    layers, state = interop.layers_of(theirs), theirs.state_dict()
    assert layers["0"] == Layer("depthwise", groups=4)
    tree = interop.from_torch(state, layers, names=names, like=nnx.state(ours))
    nnx.update(ours, tree)
    x = torch.randn(2, 4, 5, 6)
    found = jnp.asarray(np.moveaxis(x.numpy(), 1, -1))
    for layer in ours:
        found = layer(found)
    wanted = np.moveaxis(theirs(x).detach().numpy(), 1, -1)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    back = interop.to_torch(nnx.state(ours), layers, names=names, like=state)
    same_state(back, {name: value.numpy() for name, value in state.items()})


def test_a_bias_before_a_shuffle_live():
    """ShuffledGroupedConv adds its bias after the shuffle, PyTorch's pair of layers before."""
    torch = pytest.importorskip("torch", reason="the live comparison needs torch (extra: peers)")
    nnx = pytest.importorskip("flax.nnx", reason="convjax.nn needs flax")
    from convjax import nn

    theirs = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 1, groups=2), torch.nn.ChannelShuffle(2))
    state, layers = theirs.state_dict(), {"0": Layer("shuffled_grouped", groups=2)}
    ours = nn.ShuffledGroupedConv(4, 6, (1, 1), 2, rngs=nnx.Rngs(0))
    names = {"0": ""}
    nnx.update(ours, interop.from_torch(state, layers, names=names, like=nnx.state(ours)))
    x = torch.randn(2, 4, 3, 2)
    wanted = np.moveaxis(theirs(x).detach().numpy(), 1, -1)
    np.testing.assert_allclose(ours(np.moveaxis(x.numpy(), 1, -1)), wanted, atol=1e-6)
    back = interop.to_torch(nnx.state(ours), layers, names=names, like=state)
    same_state(back, {name: value.numpy() for name, value in state.items()})
    as_it_is = interop.from_torch(state, {"0": Layer("grouped", groups=2)}, names=names)
    assert not np.array_equal(as_it_is["bias"], ours.bias[...])


def test_layers_of_a_model():
    torch = pytest.importorskip("torch", reason="the live comparison needs torch (extra: peers)")
    nn = torch.nn
    model = nn.ModuleDict(
        {
            "a": nn.Conv1d(4, 8, 3, groups=2),
            "b": nn.ConvTranspose2d(4, 8, 3, groups=4),
            "c": nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Embedding(3, 2)),
            "d": nn.SyncBatchNorm(3),
            "e": nn.InstanceNorm2d(3, affine=True),
            "f": nn.LayerNorm(3),
            "g": nn.PReLU(),
        }
    )
    found = interop.layers_of(model, transpose_kernel=False, flattened={"c.0": (3, 1, 1)})
    assert found == {
        "a": Layer("grouped", groups=2),
        "b": Layer("transposed", groups=4, transpose_kernel=False),
        "c.0": Layer("linear", flattened=(3, 1, 1)),
        "c.2": Layer("embedding"),
        "d": Layer("batch_norm"),
        "e": Layer("norm"),
        "f": Layer("norm"),
    }
    assert {layer.kind for layer in found.values()} <= set(ENTRIES)
    with pytest.raises(ValueError, match=r"state_dict\['g.weight'\]` .=\(1,\). is of none of the"):
        interop.from_torch(model.state_dict(), found)
    with pytest.raises(ValueError, match="`transpose_kernel` .=None. must be given for the kind"):
        interop.layers_of(model)
    with pytest.raises(ValueError, match=r"`flattened` .=\['a'\]. must name linear layers"):
        interop.layers_of(model, transpose_kernel=False, flattened={"a": (1, 1)})
