"""Law "PyTorch": its numbers, stored vectors that it computed, and live where it is installed."""

import json
import pathlib
from functools import partial

import jax
import numpy as np
import pytest

import convjax

FILE = pathlib.Path(__file__).parents[1] / "data" / "torch_vectors.npz"
VECTORS = np.load(FILE)
CASES = json.loads(str(VECTORS["cases"]))["cases"]
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
BOUND = 2e-5  # of the largest value, in float32
SPACE = ("", "W", "HW", "DHW")


def functions_of(kind, options):
    """Our function for a PyTorch layer, from the layer's options."""
    ours = {
        "strides": options.get("stride", 1),
        "kernel_dilation": options.get("dilation", 1),
        "feature_group_count": options.get("groups", 1),
        "padding": options.get("padding", 0),
    }
    if isinstance(ours["padding"], str):
        ours["padding"] = ours["padding"].upper()
    if kind == "conv":
        ours["padding_mode"] = MODES[options.get("padding_mode", "zeros")]
        return partial(convjax.conv, **ours)
    return partial(convjax.conv_transpose, output_padding=options.get("output_padding", 0), **ours)


def channels_last(array):
    return np.moveaxis(array, 1, -1)


def kernel_of(weight):
    """One rule for both kinds: the axes (0, 1, *K) become (*K, 1, 0)."""
    return np.transpose(weight, (*range(2, weight.ndim), 1, 0))


def close(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() <= BOUND * np.abs(theirs).max()


@pytest.mark.parametrize("index", range(len(CASES)))
def test_vectors(index):
    """Value and both gradients, channels-last, and in PyTorch's own layout."""
    case = CASES[index]
    names = ("x", "weight", "cotangent", "y", "x_gradient", "weight_gradient")
    x, weight, cotangent, y, x_gradient, weight_gradient = (VECTORS[f"{index}/{n}"] for n in names)
    function = functions_of(case["kind"], case["options"])

    @jax.jit
    def pull(x, kernel, cotangent):
        value, back = jax.vjp(partial(function, precision="highest"), x, kernel)
        return value, *back(cotangent)

    ours = pull(channels_last(x), kernel_of(weight), channels_last(cotangent))
    assert close(ours[0], channels_last(y))
    assert close(ours[1], channels_last(x_gradient))
    assert close(ours[2], kernel_of(weight_gradient))
    space = SPACE[x.ndim - 2]
    layout = ("NC" + space, "OI" + space, "NC" + space)
    native = jax.jit(partial(function, dimension_numbers=layout, precision="highest"))
    assert close(native(x, weight), y)


def test_vectors_cover_what_they_must():
    def met(**wanted):
        return any(
            all(np.any(np.asarray(case["options"].get(k, 0)) == v) for k, v in wanted.items())
            for case in CASES
        )

    ranks = {(c["kind"], VECTORS[f"{i}/x"].ndim - 2) for i, c in enumerate(CASES)}
    assert ranks == {(kind, rank) for kind in ("conv", "transposed") for rank in (1, 2, 3)}
    assert all(met(padding_mode=mode) for mode in ("reflect", "replicate", "circular"))
    assert met(groups=2) and met(dilation=3) and met(stride=2) and met(output_padding=1)
    assert FILE.stat().st_size < 150_000


def random_case(rng):
    """Any configuration that PyTorch takes, in its words: kind, x shape, weight shape, options."""
    kind = rng.choice(["conv", "transposed"])
    rank = rng.integers(1, 4)
    groups, a, b = (int(n) for n in rng.integers(1, 4, 3))
    window = rng.integers(1, 5 if rank < 3 else 4, rank)
    options = {
        "stride": rng.integers(1, 4, rank).tolist(),
        "dilation": rng.integers(1, 4, rank).tolist(),
        "groups": groups,
    }
    reach = (window - 1) * options["dilation"] + 1
    padding = np.array([rng.integers(0, r + 1) for r in reach])
    if kind == "conv":
        space = np.maximum(rng.integers(2, 10 if rank < 3 else 7, rank), reach - 2 * padding)
        mode = str(rng.choice([*MODES] if rng.random() < 0.5 else ["zeros"]))
        if mode in ("reflect", "circular"):
            space = np.maximum(space, padding + 1)
        options["padding_mode"] = mode
        weight = (b * groups, a, *window)
    else:
        extra = rng.integers(0, np.maximum(options["stride"], options["dilation"]))
        space = rng.integers(1, 6 if rank < 3 else 4, rank)
        out = (space - 1) * options["stride"] + reach + extra
        padding = np.minimum(padding, (out - 1) // 2)
        options["output_padding"] = extra.tolist()
        weight = (a * groups, b, *window)
    options["padding"] = padding.tolist()
    channels = a * groups
    shape = (int(rng.integers(1, 4)), channels, *(int(n) for n in space))
    return str(kind), shape, tuple(int(n) for n in weight), options


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_random_configurations_live(part):
    torch = pytest.importorskip("torch", reason="the live comparison needs torch (extra: peers)")
    functional = torch.nn.functional
    rng = np.random.default_rng(part)
    for _ in range(20):
        kind, x_shape, weight_shape, options = random_case(rng)
        rank = len(x_shape) - 2
        x, weight = (rng.normal(size=s).astype(np.float32) for s in (x_shape, weight_shape))
        leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight)]
        theirs = dict(options)
        mode = theirs.pop("padding_mode", "zeros")
        if kind == "conv":
            source = leaves[0]
            if mode != "zeros":
                sides = [p for p in reversed(theirs.pop("padding")) for _ in range(2)]
                source = functional.pad(source, sides, mode)
            y = getattr(functional, f"conv{rank}d")(source, leaves[1], **theirs)
            function = functions_of(kind, options)
        else:
            y = getattr(functional, f"conv_transpose{rank}d")(*leaves, **theirs)
            # where PyTorch's output_padding reaches the stride, crop less instead
            sides = [
                (p, p - e) if e >= s else (p, p)
                for p, e, s in zip(
                    options["padding"], options["output_padding"], options["stride"], strict=True
                )
            ]
            extra = [
                0 if e >= s else e
                for e, s in zip(options["output_padding"], options["stride"], strict=True)
            ]
            ours = options | {"padding": sides, "output_padding": extra}
            function = functions_of(kind, ours)
        cotangent = rng.normal(size=tuple(y.shape)).astype(np.float32)
        y.backward(torch.tensor(cotangent))
        space = SPACE[rank]
        layout = ("NC" + space, "OI" + space, "NC" + space)
        call = partial(function, dimension_numbers=layout, precision="highest")

        @jax.jit
        def pull(x, kernel, cotangent, call=call):
            value, back = jax.vjp(call, x, kernel)
            return value, *back(cotangent)

        found = pull(x, weight, cotangent)
        wanted = y.detach().numpy(), leaves[0].grad.numpy(), leaves[1].grad.numpy()
        for ours, reference in zip(found, wanted, strict=True):
            assert close(ours, reference), (kind, x_shape, weight_shape, options)
