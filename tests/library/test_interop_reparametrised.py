"""Checkpoints of PyTorch whose weights are in parts: weight norm, spectral norm, pruning masks."""

import warnings

import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import convjax
from convjax import interop
from convjax.interop import Layer

NEW = "0.parametrizations.weight."


def operand(seed, *shape):
    return oracle.integers(seed, shape).astype(np.float32) + np.float32(0.5)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


# ---- without PyTorch -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("0.weight_g", "0.weight_v"), (f"{NEW}original0", f"{NEW}original1")]
)
def test_weight_norm_is_length_times_direction(names):
    g, v, bias = operand(1, 4, 1, 1), operand(2, 4, 3, 5), operand(3, 4)
    weight = v * g / np.sqrt((v**2).sum((1, 2), keepdims=True))
    state = {"0.bias": bias, names[0]: g, names[1]: v}
    found = interop.from_torch(state, {"*": "dense"})
    assert list(found[0]) == ["bias", "kernel"]
    close(found[0]["kernel"], weight.transpose(2, 1, 0))
    named = interop.from_torch(
        state, {"0": "dense"}, names={"0.weight": "conv.kernel", "0": "conv"}
    )
    np.testing.assert_array_equal(named["conv"]["kernel"], found[0]["kernel"])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_the_weight_has_the_directions_dtype(dtype):
    g, v = (operand(i, *s).astype(jnp.dtype(dtype)) for i, s in ((1, (4, 1)), (2, (4, 3))))
    kernel = interop.from_torch({"0.weight_g": g, "0.weight_v": v}, {"0": "linear"})[0]["kernel"]
    assert kernel.dtype == jnp.dtype(dtype)
    wide = v.astype(float) * g.astype(float) / np.sqrt((v.astype(float) ** 2).sum(1))[:, None]
    np.testing.assert_allclose(kernel.astype(float), wide.T, rtol=float(jnp.finfo(dtype).eps))


SPECTRAL = {"0.weight_orig": operand(1, 4, 3, 2), "0.weight_u": operand(2, 4)}
V = operand(3, 6)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"0.weight_g": operand(1, 4, 1, 1)},
            r"state_dict\['0.weight_g'\]` .* is a part of the tensor 'weight', whose other parts "
            r"are not there.*`torch.nn.utils.remove_weight_norm\(layer, 'weight'\)`",
        ),
        (
            SPECTRAL,
            r"'0.weight_orig'.* is a part of .*`torch.nn.utils.remove_spectral_norm\(layer, 'weig",
        ),
        (
            SPECTRAL | {"0.weight_v": operand(3, 5)},
            r"'0.weight_orig'.*does not make '0.weight' together with '0.weight_u', '0.weight_v'. "
            r"its singular vectors have shapes \(4,\) and \(5,\), and the weight \(4, 3, 2\)",
        ),
        (
            SPECTRAL | {"0.weight_v": V, "0.weight_mask": operand(4, 4, 3, 2)},
            r"'0.weight_mask'.* is a part of .*`from torch.nn.utils import prune; prune.rem",
        ),
        (
            {"0.weight_g": operand(1, 3, 1, 1), "0.weight_v": operand(1, 4, 3, 5)},
            r"its length has shape \(3, 1, 1\), and its direction \(4, 3, 5\): they must agree on",
        ),
        (
            {"0.weight_orig": operand(1, 3, 2), "0.weight_mask": operand(1, 3, 1)},
            r"its mask has shape \(3, 1\), and the weight \(3, 2\)",
        ),
        (
            {"0.weight": V, "0.weight_g": operand(1, 4, 1, 1), "0.weight_v": operand(1, 4, 3, 5)},
            r"'0.weight_g'.* is a part of '0.weight', which is in `state_dict` as well",
        ),
        (
            {f"{NEW}original": operand(1, 4, 3, 2), f"{NEW}0.base": operand(1, 4, 3, 2)},
            r"original'.* is a part of .*`torch.nn.utils.parametrize.remove_parametrizations\(la",
        ),
        (
            {
                f"{NEW}original0": operand(1, 4, 1, 1),
                f"{NEW}original1": operand(1, 4, 3, 2),
                f"{NEW}1._u": operand(1, 4),
                f"{NEW}1._v": operand(1, 6),
            },
            r"original0'.* is a part of .*`torch.nn.utils.parametrize.remove_parametrizations\(la",
        ),
    ],
)
def test_what_cannot_be_put_together(state, message):
    with pytest.raises(ValueError, match=f"from_torch: .*{message}"):
        interop.from_torch(state, {"*": "dense"})


def test_a_part_of_an_unknown_layer_asks_for_the_layer():
    state = {"0.weight_g": operand(1, 4, 1, 1), "0.weight_v": operand(1, 4, 3, 5)}
    with pytest.raises(ValueError, match=r"'0.weight'\]` .* Add '0' to them with its kind"):
        interop.from_torch(state, {"1": "dense"})


def test_a_model_with_parts_is_not_filled():
    tree = {"0": {"kernel": np.ones((5, 3, 4))}}
    like = {f"{NEW}original0": operand(1, 4, 1, 1), f"{NEW}original1": operand(1, 4, 3, 5)}
    with pytest.raises(ValueError, match=r"to_torch: `like\['0.*original0'\]` .*remove_parametr"):
        interop.to_torch(tree, {"0": "dense"}, like=like)


# ---- with PyTorch ------------------------------------------------------------------------------


@pytest.fixture(name="torch")
def _torch():
    return pytest.importorskip("torch", reason="the live comparison needs torch (extra: peers)")


def layers_in(nn):
    return {
        "Conv1d": nn.Conv1d(4, 6, 5, groups=2),
        "Conv2d": nn.Conv2d(4, 6, (3, 2)),
        "Conv3d": nn.Conv3d(4, 4, 2),
        "depthwise": nn.Conv2d(4, 8, 3, groups=4),
        "ConvTranspose1d": nn.ConvTranspose1d(4, 6, 5, groups=2),
        "ConvTranspose2d": nn.ConvTranspose2d(4, 4, (3, 2)),
        "ConvTranspose3d": nn.ConvTranspose3d(4, 6, 2),
        "Linear": nn.Linear(4, 6),
    }


def parametrised(torch):
    """Functions of a layer that put its weight in parts, by name."""
    from torch.nn.utils import prune

    utils, new = torch.nn.utils, torch.nn.utils.parametrizations
    return {
        "weight norm, old": utils.weight_norm,
        "weight norm, old, dim 1": lambda layer: utils.weight_norm(layer, dim=1),
        "weight norm, old, no dim": lambda layer: utils.weight_norm(layer, dim=None),
        "weight norm": new.weight_norm,
        "weight norm, last dim": lambda layer: new.weight_norm(layer, dim=layer.weight.ndim - 1),
        "spectral norm, old": utils.spectral_norm,
        "spectral norm": new.spectral_norm,
        "spectral norm, dim 1": lambda layer: new.spectral_norm(layer, dim=1),
        "pruned": lambda layer: prune.random_unstructured(layer, "weight", 0.5),
        "pruned bias": lambda layer: prune.l1_unstructured(layer, "bias", 2),
    }


NAMES = [
    "weight norm, old",
    "weight norm, old, dim 1",
    "weight norm, old, no dim",
    "weight norm",
    "weight norm, last dim",
    "spectral norm, old",
    "spectral norm",
    "spectral norm, dim 1",
    "pruned",
    "pruned bias",
]


@pytest.mark.filterwarnings("ignore")  # PyTorch's old spellings say that they are old
@pytest.mark.parametrize("name", NAMES)
def test_the_weight_is_the_models(torch, name):
    """Of every kind of layer: the weight that the module shows in evaluation."""
    torch.manual_seed(3)
    tried = 0
    for kind, layer in layers_in(torch.nn).items():
        square = layer.weight.shape[0] == layer.weight.shape[1]
        if name == "spectral norm, dim 1" and square:
            continue  # the vectors of both axes have one shape: by the kind of layer it is axis 0
        layer = parametrised(torch)[name](layer)
        x = torch.randn(2, 4, *(7,) * (layer.weight.ndim - 2))
        for _ in range(3):  # power iterations, and what training would do to the parts
            layer.train()(x) if kind != "Linear" else layer.train()(torch.randn(2, 4))
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.mul_(1.25).add_(0.1)
        model = torch.nn.Sequential(layer).eval()
        x = torch.randn(2, 4) if kind == "Linear" else x
        model(x)  # pruning sets the weight before a call
        layers = interop.layers_of(model, transpose_kernel=True)
        assert list(layers) == ["0"]
        found = interop.from_torch(model.state_dict(), layers)
        plain = {"0.weight": layer.weight, "0.bias": layer.bias}
        wanted = interop.from_torch(plain, layers)
        for part in ("kernel", "bias"):
            close(found[0][part], wanted[0][part])
        tried += 1
    assert tried >= 6


@pytest.mark.parametrize("name", ["ConvTranspose2d", "Conv3d"])
def test_square_kernels_are_read_by_the_kind_of_layer(torch, name):
    """Where in and out are as many, u and v fit two axes: PyTorch's default is that of the kind."""
    layer = torch.nn.utils.parametrizations.spectral_norm(layers_in(torch.nn)[name])
    model = torch.nn.Sequential(layer).eval()
    layers = interop.layers_of(model, transpose_kernel=True)
    found = interop.from_torch(model.state_dict(), layers)[0]["kernel"]
    close(found, interop.from_torch({"0.weight": layer.weight}, layers)[0]["kernel"])
    other = Layer("dense") if name == "ConvTranspose2d" else Layer("transposed", 1, True)
    wrong = interop.from_torch(model.state_dict(), {"0": other})[0]["kernel"]
    assert np.abs(wrong - found).max() > 1e-4


def test_the_advice_works(torch):
    """What the error says to do in PyTorch makes a state dict that is taken."""
    utils = torch.nn.utils
    model = torch.nn.Sequential(utils.parametrizations.orthogonal(torch.nn.Linear(4, 4)))
    with pytest.raises(ValueError, match="remove_parametrizations") as raised:
        interop.from_torch(model.state_dict(), {"0": "linear"})
    wanted = model[0].weight.detach().numpy().T
    exec(str(raised.value).split("`")[-2], {"torch": torch, "layer": model[0]})
    found = interop.from_torch(model.state_dict(), {"0": "linear"})
    close(found[0]["kernel"], wanted)

    from torch.nn.utils import prune

    def pruned(layer):
        return prune.l1_unstructured(layer, "weight", 5)

    parts = {utils.weight_norm: "weight_v", utils.spectral_norm: "weight_v", pruned: "weight_orig"}
    for put, part in parts.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer = put(torch.nn.Conv1d(3, 4, 2)).eval()
            layer(torch.ones(1, 3, 2))
            whole = layer.weight.detach().numpy().copy()
            state = {f"0.{k}": v for k, v in layer.state_dict().items()}
            state.pop(f"0.{part}")
            with pytest.raises(ValueError, match="remove") as raised:
                interop.from_torch(state, {"0": "dense"})
            exec(str(raised.value).split("`")[-2], {"torch": torch, "layer": layer})
        state = {f"0.{k}": v for k, v in layer.state_dict().items()}
        found = interop.from_torch(state, {"0": "dense"})[0]["kernel"]
        close(found, whole.transpose(2, 1, 0))


@pytest.mark.filterwarnings("ignore")
def test_the_numbers_of_a_small_decoder(torch):
    """A causal codec's decoder: weight-normed layers, from the checkpoint to the samples."""
    torch.manual_seed(0)
    nn, norm = torch.nn, torch.nn.utils.weight_norm
    model = nn.Sequential(
        norm(nn.Conv1d(6, 8, 3)), nn.ELU(), norm(nn.ConvTranspose1d(8, 4, 10, stride=5)), nn.ELU()
    )
    layers = interop.layers_of(model, transpose_kernel=True)
    tree = interop.from_torch(model.state_dict(), layers)
    x = torch.randn(2, 6, 9)
    with torch.no_grad():
        wanted = model(nn.functional.pad(x, (2, 0)))[..., :-5].mT.numpy()
    y = convjax.conv(x.mT.numpy(), tree[0]["kernel"], padding="CAUSAL") + tree[0]["bias"]
    y = jnp.where(y > 0, y, jnp.expm1(y))
    y = convjax.conv_transpose(y, tree[2]["kernel"], strides=5, padding="CAUSAL")
    y = y + tree[2]["bias"]
    np.testing.assert_allclose(jnp.where(y > 0, y, jnp.expm1(y)), wanted, atol=1e-5)
