"""The port checker on whole models of PyTorch, and checkpoints of well known architectures."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import convjax
from convjax import interop

torch = pytest.importorskip("torch", reason="models of PyTorch need torch (extra: peers)")
nn = torch.nn
# PyTorch's old spelling of weight norm says that it is old, and "same" that it may copy
pytestmark = pytest.mark.filterwarnings("ignore")

NETWORKS = [
    "HiFi-GAN, weight norm",
    "HiFi-GAN, old weight norm",
    "HiFi-GAN, spectral norm",
    "diffusion U-Net",
    "nnU-Net",
    "MobileNetV2",
    "ConvNeXt",
]


def channels_last(tensor):
    return jnp.asarray(tensor.detach().movedim(1, -1).numpy())


def run(port, x, kernel, bias=None):
    y = getattr(convjax, port.function)(channels_last(x), kernel, **port.options)
    return y if bias is None else y + bias


# ---- architectures -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_every_convolution_of_a_network(name):
    """From its checkpoint, by the call of its report: what went in becomes what came out."""
    from torch_networks import networks, recorded

    model, x = networks()[name]
    seen, modules = recorded(model, x), dict(model.named_modules())
    layers = interop.layers_of(model, transpose_kernel=True)
    tree = interop.from_torch(model.state_dict(), layers)
    ports = interop.check_model(model)
    assert len(ports) >= 4
    for layer, port in ports.items():
        parameters = tree
        for part in layer.split("."):
            parameters = parameters[int(part) if part.isdecimal() else part]
        before = layer if "Pad" not in port.layer else f"{layer[:-1]}0"  # the module that pads
        for (given, _), (_, wanted) in zip(seen[before], seen[layer], strict=True):
            if port.before:
                assert layer == "downsample.conv" and "calls pad" in port.before
                given = seen["downsample"][0][0]
                conv = modules[layer]
                pairs = ((0, 1), (0, 1))
                port = interop.check_port(conv.kernel_size, stride=conv.stride, padding=pairs)
                assert port.equal == () and port.verdict("SAME", given.shape[2:]) == "equal"
            found = run(port, given, parameters["kernel"], parameters.get("bias"))
            np.testing.assert_allclose(found, channels_last(wanted), atol=2e-5, err_msg=layer)


def test_the_whole_of_a_generator():
    """HiFi-GAN, from a weight-normed checkpoint: the same wave."""
    from torch_networks import networks

    model, x = networks()["HiFi-GAN, weight norm"]
    p = interop.from_torch(model.state_dict(), interop.layers_of(model, transpose_kernel=True))

    def leaky(x, slope):
        return jnp.where(x > 0, x, slope * x)

    y = convjax.conv(channels_last(x), p["conv_pre"]["kernel"]) + p["conv_pre"]["bias"]
    for i, (s, pad) in enumerate([(8, 4), (2, 1)]):
        up = p["ups"][i]
        y = convjax.conv_transpose(leaky(y, 0.1), up["kernel"], strides=s, padding=pad) + up["bias"]
        for j, d in enumerate([(1, 3), (2, 6)][i]):
            conv = p["resblocks"][i]["convs"][j]
            z = convjax.conv(leaky(y, 0.1), conv["kernel"], kernel_dilation=d)
            y = y + z + conv["bias"]
    post = p["conv_post"]
    y = jnp.tanh(convjax.conv(leaky(y, 0.01), post["kernel"]) + post["bias"])
    np.testing.assert_allclose(y, channels_last(model(x)), atol=1e-5)


def test_what_the_report_of_a_diffusion_model_says():
    from torch_networks import networks

    model, _ = networks()["diffusion U-Net"]
    ports = interop.check_model(model)
    down, also = ports["downsample.conv"], ports["also_down.1"]
    assert down.before == (
        "Downsample.forward calls pad: what that adds is not in what follows; ask check_port with "
        "(low, high) pairs"
    )
    assert not also.before and also.options["padding"] == ((0, 1), (0, 1))
    assert also.layer == (
        "ZeroPad2d((0, 1, 0, 1)), Conv2d(kernel_size=(3, 3), stride=(2, 2), padding=(0, 0))"
    )
    assert also.verdict("SAME", 16) == "equal" and also.verdict("SAME", 15) == "other shape"
    assert also.verdict("VALID", 16) == "other shape"
    assert ports.unseen == (
        "DiffusionUNet.forward (1 module)",
        "Block.forward (3 modules)",
        "GroupNorm (6 modules)",
        "Downsample.forward (1 module), which calls pad",
        "Upsample.forward (1 module), which calls interpolate",
    )
    text = str(ports)
    assert f"\ndownsample.conv: {down.layer}\n  before   Downsample.forward calls pad" in text
    assert text.endswith("not looked at:\n  " + "\n  ".join(ports.unseen))


# ---- padding modules before a layer --------------------------------------------------------------

PADS = {
    "zeros": nn.ZeroPad2d((1, 0, 2, 1)),
    "zeros, by another name": nn.ConstantPad2d((0, 1, 0, 1), 0.0),
    "zeros that crop": nn.ZeroPad2d((-1, 2, 0, -1)),
    "reflected": nn.ReflectionPad2d((1, 2, 0, 1)),
    "repeated": nn.ReplicationPad2d((3, 0, 1, 1)),
    "periodic": nn.CircularPad2d((1, 2, 2, 0)),
}


@pytest.mark.parametrize("own", [0, 1, (0, 2), "same"], ids=str)
@pytest.mark.parametrize("name", PADS)
def test_a_padding_module_and_the_layers_own_padding(name, own):
    """Both together where one padding does what both do; else the report says what is missing."""
    torch.manual_seed(1)
    stride = 1 if own == "same" else (2, 1)
    conv = nn.Conv2d(2, 3, (3, 2), stride, own, bias=False)
    model = nn.Sequential(PADS[name], conv)
    (port,) = interop.check_model(model).values()
    x = torch.randn(2, 2, 7, 6)
    kernel = interop.kernel_from("torch", conv.weight, "dense")
    one = not port.before
    assert one == (own == 0 or name.startswith("zeros") and name != "zeros that crop")
    if not one:
        assert port.before.startswith(f"{type(PADS[name]).__name__}({PADS[name].padding})")
        x = PADS[name](x)
    found = run(port, x, kernel)
    np.testing.assert_allclose(found, channels_last(conv(PADS[name](x) if one else x)), atol=1e-5)


def test_zeros_and_crops_that_add_up():
    """Padding that is cropped again adds up; what was cropped does not come back as zeros."""
    crop, pad = nn.ZeroPad1d((-2, 0)), nn.ZeroPad1d((1, 3))
    for pads, pairs in [([pad, crop], ((-1, 3),)), ([crop, pad], None), ([pad, pad], ((2, 6),))]:
        conv = nn.Conv1d(2, 3, 3, bias=False)
        (port,) = interop.check_model(nn.Sequential(*pads, conv)).values()
        assert bool(port.before) == (pairs is None)
        if pairs:
            x = torch.randn(2, 2, 9)
            assert port.options["padding"] == pairs
            kernel = interop.kernel_from("torch", conv.weight, "dense")
            wanted = nn.Sequential(*pads, conv)(x)
            np.testing.assert_allclose(run(port, x, kernel), channels_last(wanted), atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_padding_modules_of_every_rank(rank):
    sides = (1, 0, 2, 1, 0, 3)[: 2 * rank]
    conv = getattr(nn, f"Conv{rank}d")(2, 3, 2, bias=False)
    for kind in ("Zero", "Reflection", "Replication", "Circular"):
        pad = getattr(nn, f"{kind}Pad{rank}d")(sides)
        (port,) = interop.check_model(nn.Sequential(pad, conv)).values()
        assert port.options["padding"] == ((1, 0), (2, 1), (0, 3))[:rank][::-1]
        x = torch.randn(2, 2, *(6, 5, 7)[:rank])
        kernel = interop.kernel_from("torch", conv.weight, "dense")
        np.testing.assert_allclose(run(port, x, kernel), channels_last(conv(pad(x))), atol=1e-5)


def conv(*arguments, **options):
    return nn.Conv2d(3, 3, 3, *arguments, **options)


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.pad, self.conv = nn.ZeroPad2d(1), conv()

    def forward(self, x):
        return self.conv(self.pad(x))


class Helped(nn.Module):
    """Pads in a method that `forward` calls, inside a comprehension."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList([nn.Sequential(conv()), conv()])

    def forward(self, x):
        return self.both(x)

    def both(self, x):
        return sum([branch(self.pad2d(x)) for branch in self.branches])

    def pad2d(self, x):
        return nn.functional.pad(x, (1, 1, 1, 1))


class Own(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 1


def test_where_padding_is_seen():
    """Through nested containers and the identity; not through other modules, which say so."""
    pad = nn.ZeroPad2d((0, 1, 0, 1))

    def padding(model, name):
        port = interop.check_model(model)[name]
        return port.options["padding"] if not port.before else port.before

    seen = ((0, 1), (0, 1))
    assert padding(nn.Sequential(pad, conv()), "1") == seen
    assert padding(nn.Sequential(nn.Sequential(pad), nn.Identity(), conv()), "2") == seen
    assert padding(nn.Sequential(pad, nn.Sequential(nn.Sequential(conv()))), "1.0.0") == seen
    shared = nn.Sequential(pad, conv(), pad, conv())
    assert padding(shared, "1") == padding(shared, "3") == seen
    assert padding(nn.Sequential(pad, nn.ReLU(), conv()), "2") == ((0, 0), (0, 0))
    assert (
        "ZeroPad2d((0, 1, 0, 1)) (1 module)"
        in interop.check_model(nn.Sequential(pad, nn.ReLU(), conv())).unseen
    )
    assert "Own.forward has ZeroPad2d((0, 1, 0, 1))" in padding(Own(pad, conv()), "1")
    assert "Padded.forward has ZeroPad2d((1, 1, 1, 1))" in padding(Padded(), "conv")
    helped = interop.check_model(nn.Sequential(Helped()))
    assert all("Helped.forward calls pad, pad2d: wh" in port.before for port in helped.values())
    assert helped.unseen == ("Helped.forward (1 module), which calls pad, pad2d",)
    transposed = nn.Sequential(pad, nn.ConvTranspose2d(3, 3, 2, 2))
    assert padding(transposed, "1").startswith("ZeroPad2d((0, 1, 0, 1)): not in what follows")
    other = nn.Sequential(nn.ConstantPad2d(1, 0.5), conv())
    assert padding(other, "1").startswith("ConstantPad2d((1, 1, 1, 1), value=0.5): not in")


def test_a_model_that_is_a_layer_and_one_without():
    layer = nn.utils.parametrizations.weight_norm(conv())
    ports = interop.check_model(layer)
    assert list(ports) == [""] and ports.unseen == ()
    assert str(ports).startswith("(the model): Conv2d(kernel_size=(3, 3)")
    ports = interop.check_model(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.ReLU()))
    assert ports == {} and ports.unseen == ("ReLU (2 modules)", "MaxPool2d (1 module)")
    assert str(ports) == "not looked at:\n  ReLU (2 modules)\n  MaxPool2d (1 module)"


# ---- pairs, against PyTorch ----------------------------------------------------------------------


def test_pairs_are_what_pad_does():
    for index, (lo, hi, s) in enumerate(itertools.product((-1, 0, 2), (-2, 0, 1), (1, 2, 3))):
        port = interop.check_port((3,), stride=s, padding=((lo, hi),), padding_mode="zeros")
        x, weight = torch.randn(1, 2, 9 + index % 3), torch.randn(3, 2, 3)
        padded = nn.functional.pad(x, (lo, hi))
        wanted = channels_last(nn.functional.conv1d(padded, weight, stride=s))
        kernel = interop.kernel_from("torch", weight, "dense")
        np.testing.assert_allclose(run(port, x, kernel), wanted, atol=1e-5)
        for policy in ("SAME", "SAME_LOWER", "VALID", "FULL"):
            found = convjax.conv(channels_last(x), kernel, strides=s, padding=policy)
            verdict = port.verdict(policy, x.shape[2:])
            assert (found.shape == wanted.shape) == (verdict != "other shape")
            if verdict != "other shape":
                assert np.allclose(found, wanted, atol=1e-5) == (verdict == "equal")


@pytest.mark.parametrize(("k", "s"), [(16, 8), (10, 5), (4, 2), (3, 1), (5, 2)])
def test_a_trimmed_transposed_layer(k, s):
    """What a codec cuts off the end, in pairs; the printed call is convjax's `CAUSAL`."""
    port = interop.check_port((k,), stride=s, padding=((0, k - s),), transposed=True)
    assert port.layer.endswith(f"stride=({s},), padding=(0,)), cropped by ((0, {k - s}),)")
    x, weight = torch.randn(2, 3, 7), torch.randn(3, 4, k)
    kernel = interop.kernel_from("torch", weight, "transposed")
    wanted = nn.functional.conv_transpose1d(x, weight, stride=s)[..., : 7 * s]
    np.testing.assert_allclose(run(port, x, kernel), channels_last(wanted), atol=1e-5)
    causal = convjax.conv_transpose(channels_last(x), kernel, strides=s, padding="CAUSAL")
    np.testing.assert_array_equal(run(port, x, kernel), causal)
