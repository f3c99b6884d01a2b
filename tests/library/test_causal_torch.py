"""Causal layers as PyTorch models have them, written out in PyTorch, and their ports: values and
gradients."""

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.utils import parametrizations, weight_norm  # noqa: E402

import convjax  # noqa: E402
from convjax.interop import causal_from_torch  # noqa: E402


class Mamba(torch.nn.Module):
    """The short convolution of Mamba, of Mamba-2 (over x, B and C together) and of gated delta nets
    (over q, k and v): depthwise, padded on both sides, the end cut off, SiLU."""

    def __init__(self, channels=6, k=4):
        super().__init__()
        self.conv1d = torch.nn.Conv1d(channels, channels, k, groups=channels, padding=k - 1)

    def forward(self, x):
        return F.silu(self.conv1d(x)[..., : x.shape[-1]])


class Lfm(torch.nn.Module):
    """The gated short convolution of LFM2: without bias and activation, between two gates."""

    def __init__(self, channels=6, k=3):
        super().__init__()
        self.conv = torch.nn.Conv1d(
            channels, channels, k, groups=channels, padding=k - 1, bias=False
        )

    def forward(self, x):
        return self.conv(x)[..., : x.shape[-1]]


class WaveNet(torch.nn.Module):
    """A dilated causal convolution, padded by hand."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(6, 5, 2, dilation=4)

    def forward(self, x):
        return torch.tanh(self.conv(F.pad(x, (4, 0))))


class Encoder(torch.nn.Module):
    """A strided convolution of SoundStream and EnCodec: ``k - stride`` zeros on the left."""

    def __init__(self, k=8, stride=4, norm=weight_norm):
        super().__init__()
        self.pad = k - stride
        self.conv = norm(torch.nn.Conv1d(6, 5, k, stride=stride))

    def forward(self, x):
        return F.elu(self.conv(F.pad(x, (self.pad, 0))))


class Decoder(torch.nn.Module):
    """A transposed convolution of SoundStream and EnCodec: the right end is cut off."""

    def __init__(self, k=8, stride=4, norm=parametrizations.weight_norm, groups=1):
        super().__init__()
        self.cut = k - stride
        self.conv = norm(torch.nn.ConvTranspose1d(6, 4, k, stride=stride, groups=groups))

    def forward(self, x):
        y = self.conv(x)
        return y[..., : y.shape[-1] - self.cut]


class CausalConv3d(torch.nn.Module):
    """A convolution of a video VAE: time sees the past, by zeros or by the first frame again."""

    def __init__(self, mode="constant", stride=1):
        super().__init__()
        self.mode = mode
        self.conv = torch.nn.Conv3d(6, 4, 3, stride=(1, stride, stride))

    def forward(self, x):
        if self.mode == "replicate":
            x = torch.cat([x[:, :, :1]] * 2 + [x], 2)
        else:
            x = F.pad(x, (0, 0, 0, 0, 2, 0))
        return self.conv(F.pad(x, (1, 1, 1, 1, 0, 0)))


elu = jax.nn.elu
LAYERS = {
    "mamba": (Mamba, "conv1d", {"activation": "silu"}),
    "lfm": (Lfm, "conv", {}),
    "wavenet": (WaveNet, "conv", {"activation": "tanh"}),
    "encoder": (Encoder, "conv", {"activation": elu}),
    "encoder 7/3": (partial(Encoder, 7, 3, lambda layer: layer), "conv", {"activation": elu}),
    "decoder": (Decoder, "conv", {}),
    "decoder 16/8": (partial(Decoder, 16, 8, weight_norm), "conv", {}),
    "decoder 5/2, groups": (partial(Decoder, 5, 2, groups=2), "conv", {}),
    "video": (CausalConv3d, "conv", {}),
    "video, replicate": (
        partial(CausalConv3d, "replicate", 2),
        "conv",
        {"padding_mode": "replicate"},
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_parity(name):
    make, inner, options = LAYERS[name]
    torch.manual_seed(0)
    model = make()
    layer = causal_from_torch(getattr(model, inner), **options)
    space = (12, 5, 4) if "video" in name else (24,)
    x = torch.randn(2, 6, *space, requires_grad=True)
    y = model(x)
    weights = torch.randn_like(y)
    y.backward(weights)

    def ours(x, bias):
        function = getattr(convjax, layer.function)
        return function(x, layer.kernel, bias=bias, **layer.options)

    def last(tensor):
        return jnp.asarray(np.moveaxis(tensor.detach().numpy(), 1, -1))

    got, pull = jax.vjp(jax.jit(ours), last(x), layer.bias)
    np.testing.assert_allclose(got, last(y), rtol=1e-5, atol=2e-6)
    dx, db = pull(last(weights))
    np.testing.assert_allclose(dx, last(x.grad), rtol=1e-4, atol=1e-5)
    if layer.bias is not None:
        bias = getattr(model, inner).bias.grad
        np.testing.assert_allclose(db, bias.numpy(), rtol=1e-4, atol=1e-4)
    # in two chunks, as it streams
    function = partial(
        getattr(convjax, layer.function), bias=layer.bias, return_state=True, **layer.options
    )
    first, state = function(last(x)[:, :12], layer.kernel)
    if x.shape[2] > 12:
        rest, _ = function(last(x)[:, 12:], layer.kernel, state=state)
        first = np.concatenate([first, rest], 1)
    np.testing.assert_allclose(first, last(y), rtol=1e-5, atol=2e-6)


def test_the_entries_of_a_state_dict():
    """As of a checkpoint, in both spellings of weight norm, and as a module."""
    for norm in (weight_norm, parametrizations.weight_norm):
        torch.manual_seed(1)
        module = norm(torch.nn.Conv1d(6, 8, 5, stride=2, dilation=3, groups=2))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(torch.rand_like(parameter) + 1)
        module(torch.ones(1, 6, 20))  # which computes `weight`
        entries = module.state_dict()
        assert len(entries) == 3
        layer = causal_from_torch(entries, groups=2, stride=2, dilation=3)
        other = causal_from_torch(module)
        np.testing.assert_array_equal(layer.kernel, other.kernel)
        assert layer.options == other.options == {
            "output_at": "last", "strides": 2, "kernel_dilation": 3, "feature_group_count": 2,
        }  # fmt: skip
        weight = module.weight.detach().numpy().transpose(2, 1, 0)
        np.testing.assert_allclose(layer.kernel, weight, rtol=1e-6)


W = np.ones((6, 1, 4), np.float32)


@pytest.mark.parametrize(
    "layer, options, error, message",
    [
        (torch.nn.Linear(2, 2), {}, TypeError, r"`layer` \(='Linear'\) must be a convolution"),
        (torch.nn.Conv1d(2, 2, 2), {"stride": 1}, ValueError, "`stride` .* must be None for a mod"),
        ({"conv.weight": W}, {}, ValueError, "must hold `weight`.*Give the entries of one"),
        ({"weight": W}, {"groups": 4}, ValueError, "^kernel_from: "),
        ({"weight": W}, {"padding_mode": "reflect"}, ValueError, "`padding_mode` .* must be one"),
        ({"weight": W[..., 0]}, {}, ValueError, "must have a weight with at least one spatial"),
        (
            {"weight_v": W, "weight_g": W[:1]},
            {},
            ValueError,
            r"layer\['weight_g'\]` .* must be weight norm of the first axis",
        ),
        (torch.nn.ConvTranspose2d(2, 2, 2), {}, ValueError, "must be a layer with one spatial"),
    ],
)
def test_refusals(layer, options, error, message):
    with pytest.raises(error, match=message):
        causal_from_torch(layer, **options)
