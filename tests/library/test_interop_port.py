"""The port checker: against index maps by brute force, and against PyTorch and Flax, live."""

import itertools
import json
import pathlib
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import convjax
from convjax import interop
from convjax.interop import port as ports
from convjax.interop.port import EQUAL, OTHER_SHAPE, TRAP


def reads(n, k, s, d, lo, hi):
    """Which input element each (output, tap) of a convolution reads, None beyond the edges."""
    outputs = (n + lo + hi - (k - 1) * d - 1) // s + 1
    return [
        [i if 0 <= (i := o * s - lo + t * d) < n else None for t in range(k)]
        for o in range(outputs)
    ]


def paints(n, k, s, d, lo, extent):
    """The (input, tap) pairs that each output of a transposed convolution receives."""
    found = [set() for _ in range(extent)]
    for j, t in itertools.product(range(n), range(k)):
        if 0 <= (o := j * s + t * d - lo) < extent:
            found[o].add((j, t))
    return found


def judge(ours, theirs):
    """The verdict by comparing maps; None where neither side reads anything."""
    if len(ours) != len(theirs):
        return OTHER_SHAPE
    if ours == theirs:
        return EQUAL
    something = any(any(i is not None for i in taps) for taps in (*ours, *theirs))
    return TRAP if something else None


def test_every_small_convolution():
    met = {EQUAL: 0, TRAP: 0, OTHER_SHAPE: 0}
    for k, s, d in itertools.product((1, 2, 3, 4), (1, 2, 3, 4), (1, 2)):
        reach = (k - 1) * d + 1
        words = ["valid", "same"] if s == 1 else ["valid"]
        for padding in (*range(reach + 1), *words):
            port = interop.check_port((k,), stride=s, padding=padding, dilation=d)
            ((lo, hi),) = port.options["padding"]
            if padding == "same":
                assert lo + hi == reach - 1 and hi - lo in (0, 1)
            for n in range(max(1, reach - lo - hi), 12):
                theirs = reads(n, k, s, d, lo, hi)
                for policy in ports.POLICIES:
                    ((a, b),) = oracle.pairs(policy, (n,), (k,), (s,), 1, d)
                    if n + a + b < reach:
                        continue  # no output at all
                    wanted = judge(reads(n, k, s, d, a, b), theirs)
                    if wanted is not None:
                        assert port.verdict(policy, n) == wanted, (k, s, d, padding, n, policy)
                        met[wanted] += 1
    assert min(met.values()) > 500


def test_every_small_convolution_padded_in_pairs():
    met = {EQUAL: 0, TRAP: 0, OTHER_SHAPE: 0}
    for k, s, d in itertools.product((1, 2, 3, 4), (1, 2, 3), (1, 2)):
        reach = (k - 1) * d + 1
        for lo, hi in itertools.product((-2, 0, 1, 3), (-5, 0, 2, 4)):
            port = interop.check_port((k,), stride=s, padding=((lo, hi),), dilation=d)
            assert port.options["padding"] == ((lo, hi),)
            for n in range(max(1, reach - lo - hi, -lo, -hi), 14):
                theirs = reads(n, k, s, d, lo, hi)
                for policy in ports.POLICIES:
                    ((a, b),) = oracle.pairs(policy, (n,), (k,), (s,), 1, d)
                    if n + a + b < reach:
                        continue
                    ours, verdict = reads(n, k, s, d, a, b), port.verdict(policy, n)
                    if any(i is not None for taps in (*ours, *theirs) for i in taps):
                        assert judge(ours, theirs) == verdict, (port, n, policy)
                        met[verdict] += 1
    assert min(met.values()) > 100, met


def test_pairs_that_are_numbers():
    """Equal sides are what PyTorch writes as one number."""
    numbers = interop.check_port((3, 5), padding=(1, 2), padding_mode="circular")
    assert interop.check_port((3, 5), padding=((1, 1), (2, 2)), padding_mode="circular") == numbers
    port = interop.check_port((3,), padding=((2, 0),), padding_mode="replicate")
    assert port.layer.startswith("ReplicationPad1d((2, 0)), Conv1d(kernel_size=(3,), stride=(1,)")
    assert port.options == {"strides": (1,), "padding": ((2, 0),), "padding_mode": "edge"}


def test_every_small_transposed_convolution():
    met = {EQUAL: 0, TRAP: 0, OTHER_SHAPE: 0}
    for k, s, d, n in itertools.product((1, 2, 3, 4), (1, 2, 3, 4), (1, 2), (1, 2, 5)):
        reach = (k - 1) * d + 1
        for p, a in itertools.product(range(reach + 1), range(max(s, d))):
            extent = (n - 1) * s + reach - 2 * p + a
            if extent < 1:
                continue
            options = {"stride": s, "padding": p, "output_padding": a, "dilation": d}
            port = interop.check_port((k,), transposed=True, **options)
            theirs = paints(n, k, s, d, p, extent)
            for policy in ports.POLICIES:
                ((lo, hi),) = oracle.pairs(policy, (n * s,), (k,), (s,), 1, d)
                ours = n * s if "SAME" in policy else (n - 1) * s + reach - lo - hi
                if ours < 1:
                    continue
                wanted = judge(paints(n, k, s, d, lo, ours), theirs)
                if wanted == TRAP and not any(theirs):
                    continue
                assert port.verdict(policy, n) == wanted, (k, s, d, n, p, a, policy)
                met[wanted] += 1
    assert min(met.values()) > 100


def test_the_two_facts():
    """Conv2d(k3, s2, p1) on even sizes is SAME_LOWER, not SAME; and its transpose."""
    port = interop.check_port((3, 3), stride=2, padding=1, input_size=(6, 8))
    assert port.equal == ("SAME_LOWER",) and port.traps == ("SAME",)
    assert interop.check_port((3, 3), stride=2, padding=1, input_size=7).traps == ()
    up = interop.check_port((3, 3), stride=2, padding=1, output_padding=1, transposed=True)
    assert up.flax == {
        "kernel_size": (3, 3),
        "strides": (2, 2),
        "padding": ((1, 2), (1, 2)),
        "transpose_kernel": True,
    }
    assert up.weight == "weight.transpose(2, 3, 1, 0)"
    assert up.equal == ("SAME_LOWER",) and up.traps == ("SAME",)


def test_sizes_may_differ_by_axis():
    port = interop.check_port((3, 3), stride=(2, 1), padding=1)
    assert port.verdict("SAME", (7, 8)) == EQUAL and port.verdict("SAME", (8, 7)) == TRAP
    assert port.equal == ("SAME_LOWER",) and port.traps == ("SAME",)
    assert "padding='SAME': equal where extent 0 is odd; NOT equal otherwise" in str(port)


REPORTS = {
    "transposed in groups": (
        dict(kernel_size=(4,), stride=2, padding=1, groups=2, transposed=True),
        "ConvTranspose1d(kernel_size=(4,), stride=(2,), padding=(1,), groups=2)\n"
        "  kernel   weight.transpose(2, 1, 0)\n"
        "  convjax  conv_transpose(y, kernel, strides=(2,), padding=((1, 1),), "
        "feature_group_count=2)\n"
        "  flax     has no groups in ConvTranspose; convjax.nn.ConvTranspose with "
        "convention='adjoint' takes convjax's options\n"
        "  padding='SAME': equal, for every input size\n"
        "  padding='SAME_LOWER': equal, for every input size\n"
        "  padding='VALID': another output shape\n"
        "  padding='FULL': another output shape",
    ),
    "patches of three": (
        dict(kernel_size=3, rank=2, stride=3),
        "Conv2d(kernel_size=(3, 3), stride=(3, 3), padding=(0, 0))\n"
        "  kernel   weight.transpose(2, 3, 1, 0)\n"
        "  convjax  conv(x, kernel, strides=(3, 3), padding=((0, 0), (0, 0)))\n"
        "  flax     Conv(..., kernel_size=(3, 3), strides=(3, 3), padding=((0, 0), (0, 0)))\n"
        "  padding='SAME': equal where every extent modulo 3 is 0\n"
        "  padding='SAME_LOWER': equal where every extent modulo 3 is 0\n"
        "  padding='VALID': equal, for every input size\n"
        "  padding='FULL': another output shape",
    ),
    "at one size": (
        dict(kernel_size=(7, 7), stride=2, padding=3, input_size=224),
        "Conv2d(kernel_size=(7, 7), stride=(2, 2), padding=(3, 3))\n"
        "  kernel   weight.transpose(2, 3, 1, 0)\n"
        "  convjax  conv(x, kernel, strides=(2, 2), padding=((3, 3), (3, 3)))\n"
        "  flax     Conv(..., kernel_size=(7, 7), strides=(2, 2), padding=((3, 3), (3, 3)))\n"
        "  padding='SAME': NOT equal at 224 x 224, though the output has the same shape\n"
        "  padding='SAME_LOWER': equal at 224 x 224\n"
        "  padding='VALID': another output shape at 224 x 224\n"
        "  padding='FULL': another output shape at 224 x 224",
    ),
    "edges repeated": (
        dict(kernel_size=(3,), padding="same", dilation=2, padding_mode="replicate"),
        "Conv1d(kernel_size=(3,), stride=(1,), padding='same', dilation=(2,), "
        "padding_mode='replicate')\n"
        "  kernel   weight.transpose(2, 1, 0)\n"
        "  convjax  conv(x, kernel, strides=(1,), padding=((2, 2),), padding_mode='edge', "
        "kernel_dilation=(2,))\n"
        "  flax     no such padding; jnp.pad(x, ((0, 0), (2, 2), (0, 0)), mode='edge'), "
        "then padding='VALID'\n"
        "  padding='SAME': equal, for every input size\n"
        "  padding='SAME_LOWER': equal, for every input size\n"
        "  padding='VALID': another output shape\n"
        "  padding='FULL': another output shape",
    ),
}


REPORTS["padded on one side"] = (
    dict(kernel_size=(3, 3), stride=2, padding=((0, 1), [0, 1])),
    "ZeroPad2d((0, 1, 0, 1)), Conv2d(kernel_size=(3, 3), stride=(2, 2), padding=(0, 0))\n"
    "  kernel   weight.transpose(2, 3, 1, 0)\n"
    "  convjax  conv(x, kernel, strides=(2, 2), padding=((0, 1), (0, 1)))\n"
    "  flax     Conv(..., kernel_size=(3, 3), strides=(2, 2), padding=((0, 1), (0, 1)))\n"
    "  padding='SAME': equal where every extent is even\n"
    "  padding='SAME_LOWER': NOT equal, though the output has the same shape where every extent is "
    "even\n"
    "  padding='VALID': equal where every extent is odd\n"
    "  padding='FULL': another output shape",
)


@pytest.mark.parametrize("name", REPORTS)
def test_reports(name):
    options, text = REPORTS[name]
    assert str(interop.check_port(**options)) == text


VECTORS = np.load(pathlib.Path(__file__).parents[1] / "data" / "torch_vectors.npz")
CASES = json.loads(str(VECTORS["cases"]))["cases"]


@pytest.mark.parametrize("part", range(2))
def test_committed_vectors(part):
    """PyTorch's numbers by the kernel and the call that `interop` gives; every other case each."""
    for index, case in list(enumerate(CASES))[part::2]:
        x, weight, wanted = (VECTORS[f"{index}/{name}"] for name in ("x", "weight", "y"))
        transposed = case["kind"] == "transposed"
        options = {"kernel_size": weight.shape[2:], "transposed": transposed} | case["options"]
        port = interop.check_port(**options, input_size=x.shape[2:])
        groups = case["options"].get("groups", 1)
        kind = "transposed" if transposed else "dense"
        kernel = interop.kernel_from("torch", weight, kind, groups=groups)
        found = getattr(convjax, port.function)(np.moveaxis(x, 1, -1), kernel, **port.options)
        bound = 2e-5 * np.abs(wanted).max()
        np.testing.assert_allclose(np.moveaxis(found, -1, 1), wanted, atol=bound)


# ---- live ------------------------------------------------------------------------------------


def random_layer(rng, transposed):
    """PyTorch's arguments of any convolution, and extents of an input that it takes."""
    rank = int(rng.integers(1, 4))
    window = tuple(int(n) for n in rng.integers(1, 5 if rank < 3 else 4, rank))
    stride = tuple(int(n) for n in rng.integers(1, 4, rank))
    dilation = tuple(int(n) for n in rng.integers(1, 3, rank))
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    near = [int(np.clip((k - 1) // 2 + rng.integers(-1, 2), 0, k)) for k in reach]
    options = {
        "kernel_size": window,
        "stride": stride,
        "dilation": dilation,
        "padding": tuple(near),
        "groups": int(rng.choice([1, 1, 2])),
    }
    if transposed:
        most = np.maximum(stride, dilation)
        options["output_padding"] = tuple(int(n) for n in rng.integers(0, most))
        space = rng.integers(1, 5, rank)
        extents = (space - 1) * stride + reach - 2 * np.array(near) + options["output_padding"]
        if min(extents) < 1:
            return random_layer(rng, transposed)
    else:
        if rng.random() < 0.2:
            options |= {"stride": (1,) * rank, "padding": "same"}
        if rng.random() < 0.4:
            options["padding_mode"] = str(rng.choice(["reflect", "replicate", "circular"]))
        space = rng.integers(5, 10 if rank < 3 else 8, rank)
        space = np.maximum(space, reach)
    return options, tuple(int(n) for n in space)


def layer_of(torch, transposed, options, seed):
    rank, groups = len(options["kernel_size"]), options["groups"]
    name = f"Conv{'Transpose' if transposed else ''}{rank}d"
    torch.manual_seed(seed)
    return getattr(torch.nn, name)(2 * groups, 3 * groups, bias=False, **options)


def with_policy(torch, layer, x, policy):
    """What the layer would compute, padded by `policy`: by PyTorch's own padding and kernels."""
    space, window, stride = x.shape[2:], layer.kernel_size, layer.stride
    rank, steps = len(window), layer.dilation
    name = f"conv{'_transpose' if layer.transposed else ''}{rank}d"
    function = getattr(torch.nn.functional, name)
    given = {"stride": stride, "dilation": steps, "groups": layer.groups}
    if not layer.transposed:
        pairs = oracle.pairs(policy, space, window, stride, 1, steps)
        sides = [side for pair in reversed(pairs) for side in pair]
        mode = layer.padding_mode
        x = torch.nn.functional.pad(x, sides, "constant" if mode == "zeros" else mode)
        return function(x, layer.weight, **given)
    target = [n * s for n, s in zip(space, stride, strict=True)]
    pairs = oracle.pairs(policy, target, window, stride, 1, steps)
    y = function(x, layer.weight, **given)
    sides = []
    for n, (lo, hi), extent in zip(y.shape[2:], pairs, target, strict=True):
        kept = extent if "SAME" in policy else n - lo - hi
        sides = [-lo, kept - (n - lo), *sides]
    if min(n + a + b for n, a, b in zip(y.shape[:1:-1], sides[::2], sides[1::2], strict=True)) < 1:
        return None
    return torch.nn.functional.pad(y, sides)


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("part", range(4))
def test_verdicts_live(part):
    """250 layers per part: every verdict is what the numbers of PyTorch say."""
    torch = pytest.importorskip("torch", reason="the live comparison needs torch (extra: peers)")
    rng = np.random.default_rng(part)
    met = {EQUAL: 0, TRAP: 0, OTHER_SHAPE: 0}
    for index in range(250):
        transposed = index % 3 == 0
        options, space = random_layer(rng, transposed)
        layer = layer_of(torch, transposed, options, index)
        x = torch.randn(1, layer.in_channels, *space)
        port = interop.check_layer(layer, input_size=space)
        everywhere = interop.check_layer(layer)
        wanted = layer(x)
        for policy in ports.POLICIES:
            verdict = port.verdict(policy, space)
            assert (policy in port.equal) == (verdict == EQUAL)
            assert (policy in port.traps) == (verdict == TRAP)
            if policy in everywhere.equal:
                assert verdict == EQUAL
            if verdict == TRAP:
                assert policy in everywhere.traps
            try:
                found = with_policy(torch, layer, x, policy)
            except RuntimeError:  # more padding than the mode can fill
                assert verdict == OTHER_SHAPE
                continue
            if found is None:
                assert verdict == OTHER_SHAPE
                continue
            met[verdict] += 1
            assert (found.shape == wanted.shape) == (verdict != OTHER_SHAPE), (port, policy)
            if verdict != OTHER_SHAPE:
                agree = torch.allclose(found, wanted, atol=1e-5)
                assert agree == (verdict == EQUAL), (str(port), policy)
    assert min(met.values()) >= 20, met


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_calls_live(part):
    """The convjax call, and Flax's layer where it can, give PyTorch's numbers."""
    torch = pytest.importorskip("torch", reason="the live comparison needs torch (extra: peers)")
    nnx = pytest.importorskip("flax.nnx", reason="the live comparison needs flax")
    rng = np.random.default_rng(10 + part)
    flax = {"Conv": 0, "ConvTranspose": 0}
    for index in range(10):
        transposed = index % 2 == 0
        options, space = random_layer(rng, transposed)
        layer = layer_of(torch, transposed, options, index)
        x = torch.randn(2, layer.in_channels, *space)
        wanted = np.moveaxis(layer(x).detach().numpy(), 1, -1)
        ours_x = jnp.asarray(np.moveaxis(x.numpy(), 1, -1))
        port = interop.check_layer(layer)
        kind = "transposed" if transposed else "grouped"
        kernel = interop.kernel_from("torch", layer.weight, kind, groups=layer.groups)
        found = getattr(convjax, port.function)(ours_x, kernel, **port.options)
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=str(port))
        if port.flax is None:
            assert port.flax_note
            continue
        name = "ConvTranspose" if transposed else "Conv"
        theirs = getattr(nnx, name)(
            layer.in_channels, layer.out_channels, use_bias=False, rngs=nnx.Rngs(0), **port.flax
        )
        theirs.kernel[...] = jnp.asarray(kernel)
        np.testing.assert_allclose(theirs(ours_x), wanted, atol=1e-5, err_msg=str(port))
        flax[name] += 1
    assert min(flax.values()) >= 2, flax


def test_whole_models():
    torch = pytest.importorskip("torch", reason="the live comparison needs torch (extra: peers)")
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(4, 2, 2, 2))
    )
    found = interop.check_model(model)
    assert list(found) == ["0", "1.1"]
    assert found["0"].equal == ("SAME_LOWER",) and found["1.1"].equal == ports.POLICIES[:3]
    assert list(interop.check_model(model[0])) == [""]


# ---- errors ----------------------------------------------------------------------------------

UP = {"transposed": True}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"kernel_size": 3},
            r"`kernel_size` \(=3\) must have one entry.*Write \(3, 3\) or give `r",
        ),
        ({"padding": "SAME"}, r"`padding` \(='SAME'\) must be one of \"same\", \"valid\""),
        ({"padding": "same", "stride": 2}, r"must not be \"same\" with a stride above 1"),
        ({"padding": -1}, r"`padding` \(=-1\) must be at least 0"),
        ({"padding": (1,)}, r"`padding` \(=\(1,\)\) must have one entry per spatial axis \(2\)"),
        ({"padding": ((0, 1),)}, r"`padding` .* or 2 \(low, high\) pairs. Pairs are in the order"),
        ({"padding": (0, 1, 0, 1)}, r"must have one entry per spatial axis \(2\)"),
        (
            {"padding": ((0, 1), 1)},
            r"`padding` \(=\(\(0, 1\), 1\)\) must be an integer, 2 integers",
        ),
        ({"padding": ((0, 1), (0, 1.5))}, r"must be an integer, 2 integers, \"same\", \"valid\""),
        ({"padding": ((0, 1), (0, -1))} | UP, r"must not be negative for a transposed layer"),
        ({"padding_mode": "wrap"}, r'`padding_mode` \(=\'wrap\'\) must be one of "zeros", "refl'),
        ({"output_padding": 1}, r"`output_padding` \(=\(1, 1\)\) must be 0 where the layer is no"),
        ({"output_padding": 2, "stride": 2} | UP, r"must be less than the stride \(2, 2\) or the"),
        ({"padding": "same"} | UP, r"must be numbers for a transposed layer"),
        ({"padding_mode": "reflect"} | UP, r'must be "zeros" for a transposed layer'),
        ({"input_size": 2}, r"`input_size` \(=\(2, 2\)\) must, padded, hold the kernel.*over 3"),
        (
            {"input_size": 3, "padding": 3, "padding_mode": "reflect"},
            r"`input_size` \(=\(3, 3\)\) is too small for \(3, 3\) of padding_mode 'reflect'",
        ),
        ({"input_size": 1, "padding": 2} | UP, r"gives an empty output in PyTorch"),
    ],
)
def test_values_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=f"check_port: .*{message}"):
        interop.check_port(**({"kernel_size": (3, 3)} | arguments))


def test_wrong_arguments():
    port = interop.check_port((3, 3))
    with pytest.raises(ValueError, match="verdict: `policy` .='CAUSAL'. must be one of \"SAME\""):
        port.verdict("CAUSAL", 8)
    with pytest.raises(TypeError, match="check_layer: `layer` .='SimpleNamespace'. must be a conv"):
        interop.check_layer(SimpleNamespace())
    with pytest.raises(TypeError, match="check_model: `model` .='dict'. must be a PyTorch module"):
        interop.check_model({})
