"""Kernels from and to other frameworks: round trips, and the frameworks' own layers, live."""

import importlib.util
import inspect
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax import lax

import convjax
from convjax import interop
from convjax.interop import kernels
from convjax.kinds import KINDS

FLAX_OPTIONS = {"transposed": [{"transpose_kernel": flag} for flag in (False, True)]}
KERNELLESS = {"channel_shuffle", "pixel_shuffle", "hold"}


def operand(seed, *shape):
    return oracle.integers(seed, shape, bound=4)


def options_of(framework, kind):
    if framework in ("flax", "lax"):
        return FLAX_OPTIONS.get(kind, [{}])
    if framework in ("tensorflow", "keras") and kind == "subpixel":
        return [{"scale": 2}]
    return [{}]


def has_groups(framework, kind):
    return not (kind == "transposed" and framework in ("tensorflow", "keras", "haiku"))


def same(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    np.testing.assert_array_equal(ours, theirs)


# ---- without any other framework -------------------------------------------------------------


def test_every_kind_is_there():
    assert {*kernels.SINGLE_KINDS, *kernels.STAGED_KINDS} | KERNELLESS == set(KINDS)
    assert {kind for kind in KINDS if not KINDS[kind].example().kernels} == KERNELLESS
    assert set(kernels.LAYOUTS) == {"convjax", *interop.FRAMEWORKS}


@pytest.mark.parametrize("name", interop.__all__)
def test_public_names(name):
    """Documented with every argument and an example; options by keyword, and annotated."""
    value, text = getattr(interop, name), inspect.getdoc(getattr(interop, name)) or ""
    if not inspect.isfunction(value):
        return
    assert not [s for s in ("Args:", "Returns:", "Example:", ">>> ") if s not in text]
    assert text.splitlines()[0].endswith(".")
    signature = inspect.signature(value)
    assert not set(signature.parameters) - set(re.findall(r"\w+", text))
    assert signature.return_annotation is not signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not parameter.empty
        assert parameter.default is parameter.empty or parameter.kind is parameter.KEYWORD_ONLY


@pytest.mark.parametrize("framework", interop.FRAMEWORKS)
def test_round_trips(framework):
    """Every kind with kernels, ranks 1 to 3: there and back, nothing lost, and laid out anew."""
    for kind in sorted(set(KINDS) - KERNELLESS):
        for rank in (1, 2, 3):
            example = KINDS[kind].example(rank)
            groups = {"groups": example.sizes.in_features} if "depthwise" in kind else {}
            if kind == "flattened":
                groups = {"groups": example.kernels[0].shape[-1]}
            for options in options_of(framework, kind):
                several = len(example.kernels) > 1 or kind in kernels.STAGED_KINDS
                ours = example.kernels if several else example.kernels[0]
                theirs = interop.kernel_to(framework, ours, kind, **groups, **options)
                back = interop.kernel_from(framework, theirs, kind, **groups, **options)
                for kernel, result in zip(
                    ours if several else [ours], back if several else [back], strict=True
                ):
                    same(result, kernel)
                    assert isinstance(result, np.ndarray) and result.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("framework", interop.FRAMEWORKS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_round_trips_of_grouped_kernels(framework, rank):
    window = (3, 2, 4)[:rank]
    for kind, shape in (("grouped", (*window, 3, 10)), ("transposed", (*window, 5, 6))):
        for options in options_of(framework, kind):
            kernel = operand(rank, *shape)
            if not has_groups(framework, kind):
                with pytest.raises(ValueError, match="`groups` .=2. must be 1: transposed"):
                    interop.kernel_to(framework, kernel, kind, groups=2, **options)
                continue
            theirs = interop.kernel_to(framework, kernel, kind, groups=2, **options)
            same(interop.kernel_from(framework, theirs, kind, groups=2, **options), kernel)


def test_shapes_of_grouped_kernels():
    """Six channels in, ten out, two groups: what each framework's layer holds."""
    grouped, transposed = operand(0, 7, 8, 3, 10), operand(0, 7, 8, 5, 6)
    wanted = {
        "torch": ((10, 3, 7, 8), [(6, 5, 7, 8)]),
        "tensorflow": ((7, 8, 3, 10), []),
        "keras": ((7, 8, 3, 10), []),
        "equinox": ((10, 3, 7, 8), [(10, 3, 7, 8)]),
        "haiku": ((7, 8, 3, 10), []),
        "flax": ((7, 8, 3, 10), [(7, 8, 3, 10), (7, 8, 5, 6)]),
        "lax": ((7, 8, 3, 10), [(7, 8, 3, 10), (7, 8, 5, 6)]),
    }
    assert set(wanted) == set(interop.FRAMEWORKS)
    for framework, (shape, transposed_shapes) in wanted.items():
        assert interop.kernel_to(framework, grouped, "grouped", groups=2).shape == shape
        for options, expected in zip(
            options_of(framework, "transposed"), transposed_shapes, strict=False
        ):
            found = interop.kernel_to(framework, transposed, "transposed", groups=2, **options)
            assert found.shape == expected


def test_conversions_copy():
    weight = np.ones((4, 4, 3), np.float32)
    kernel = interop.kernel_from("flax", weight, "dense")
    kernel[:] = 0
    assert weight.all()


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16", "complex64", "int8"])
def test_dtypes_stay(dtype):
    weight = operand(0, 4, 3, 2).astype(np.dtype(dtype))
    assert interop.kernel_from("torch", weight, "dense").dtype == np.dtype(dtype)
    assert interop.kernel_from("torch", jnp.asarray(weight), "dense").shape == (2, 3, 4)


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("strides", [1, 2])
def test_lax_transposed(transpose_kernel, strides):
    """lax's own transposed convolution, of both its kernel layouts; VALID where k >= s."""
    y = operand(1, 2, 4, 3, 3)
    theirs = operand(2, 3, 4, *((5, 3) if transpose_kernel else (3, 5)))
    options = {"transpose_kernel": transpose_kernel}
    kernel = interop.kernel_from("lax", theirs, "transposed", **options)
    for padding in ("SAME", "VALID"):
        wanted = lax.conv_transpose(y, theirs, (strides,) * 2, padding, **options)
        same(convjax.conv_transpose(y, kernel, strides=strides, padding=padding), wanted)


def test_transposed_by_input_dilation_in_groups():
    """Equinox's equation: a convolution of the dilated input with (O, I/G, *K) as it stands."""
    y, theirs = operand(1, 2, 6, 4, 3), operand(2, 10, 3, 2, 3)
    layout = ("NCHW", "OIHW", "NCHW")
    wanted = lax.conv_general_dilated(
        y, theirs, (1, 1), [(1, 1), (2, 2)], (3, 2), None, layout, feature_group_count=2
    )
    kernel = interop.kernel_from("equinox", theirs, "transposed", groups=2)
    assert kernel.shape == (2, 3, 5, 6)
    options = {"strides": (3, 2), "padding": "VALID", "feature_group_count": 2}
    last = convjax.conv_transpose(np.moveaxis(y, 1, -1), kernel, **options)
    same(np.moveaxis(last, -1, 1), wanted)
    # Equinox's own recipe, flip and swap, has another shape as soon as there are groups
    assert np.flip(theirs, (2, 3)).swapaxes(0, 1).shape != np.moveaxis(kernel, (3, 2), (0, 1)).shape


def test_depthwise_of_tensorflow():
    """Output channel i*M + m of (*K, I, M)."""
    theirs = operand(3, 3, 2, 4, 5)
    kernel = interop.kernel_from("tensorflow", theirs, "depthwise")
    for i in range(4):
        for m in range(5):
            same(kernel[:, :, 0, i * 5 + m], theirs[:, :, i, m])


@pytest.mark.parametrize("scale", [2, (3, 2)])
def test_depth_to_space(scale):
    """TensorFlow's definition, channel offset*C + c, by a loop."""
    rows, columns = (scale, scale) if isinstance(scale, int) else scale
    x = operand(4, 1, 2, 3, rows * columns * 5)
    wanted = np.zeros((1, 2 * rows, 3 * columns, 5), x.dtype)
    for h, w, p, q in np.ndindex(2, 3, rows, columns):
        start = (p * columns + q) * 5
        wanted[:, h * rows + p, w * columns + q] = x[:, h, w, start : start + 5]
    ours = interop.from_depth_to_space(x, scale)
    same(convjax.pixel_shuffle(jnp.asarray(ours), scale), wanted)
    same(interop.to_depth_to_space(ours, scale), x)
    assert not np.array_equal(ours, x)


def test_subpixel_of_keras_brings_its_channels_into_our_order():
    theirs = operand(5, 3, 3, 2, 12)
    kernel = interop.kernel_from("keras", theirs, "subpixel", scale=2)
    same(kernel, interop.from_depth_to_space(theirs, 2))
    same(interop.kernel_from("torch", np.transpose(theirs, (3, 2, 0, 1)), "subpixel"), theirs)


# ---- the frameworks themselves ---------------------------------------------------------------

torch_only = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="the live comparison needs torch (extra: peers)",
)


@torch_only
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_torch_live(rank):
    """Dense, grouped, depthwise and transposed layers, and the way back into PyTorch."""
    torch = pytest.importorskip("torch")
    window, space = (3, 2, 4)[:rank], (5, 6, 7)[:rank]
    x = operand(rank, 2, 6, *space).astype(np.float32)
    ours_x = np.moveaxis(x, 1, -1)
    for kind, groups, out in (
        ("dense", 1, 4),
        ("grouped", 2, 4),
        ("depthwise", 6, 12),
        ("transposed", 1, 4),
        ("transposed", 3, 9),
    ):
        name = f"ConvTranspose{rank}d" if kind == "transposed" else f"Conv{rank}d"
        layer = getattr(torch.nn, name)(6, out, window, stride=2, groups=groups, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(operand(9, *layer.weight.shape)))
            wanted = layer(torch.tensor(x)).numpy()
        kernel = interop.kernel_from("torch", layer.weight, kind, groups=groups)
        function = convjax.conv_transpose if kind == "transposed" else convjax.conv
        found = function(ours_x, kernel, strides=2, padding="VALID", feature_group_count=groups)
        same(np.moveaxis(found, -1, 1), wanted)
        same(interop.kernel_to("torch", kernel, kind, groups=groups), layer.weight.detach())


@torch_only
def test_tensors_of_sixteen_bits():
    torch = pytest.importorskip("torch")
    weight = torch.arange(24.0).reshape(4, 3, 2).to(torch.bfloat16).requires_grad_()
    kernel = interop.kernel_from("torch", weight, "dense")
    assert kernel.dtype == np.dtype("bfloat16")
    same(kernel.astype(np.float32), np.transpose(weight.detach().float().numpy(), (2, 1, 0)))


@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_flax_live(transpose_kernel):
    nnx = pytest.importorskip("flax.nnx", reason="the live comparison needs flax")
    options = {"strides": (2, 2), "padding": "SAME"}
    layer = nnx.ConvTranspose(
        3, 5, (3, 4), **options, transpose_kernel=transpose_kernel, rngs=nnx.Rngs(0)
    )
    x, theirs = operand(1, 2, 4, 3, 3), operand(2, *layer.kernel.shape)
    layer.kernel[...], layer.bias[...] = jnp.asarray(theirs), jnp.arange(5.0)
    kernel = interop.kernel_from("flax", theirs, "transposed", transpose_kernel=transpose_kernel)
    same(convjax.conv_transpose(x, kernel, **options) + np.arange(5.0), layer(x))


@pytest.mark.slow
def test_equinox_live():
    eqx = pytest.importorskip("equinox", reason="the live comparison needs equinox (extra: peers)")
    key = jax.random.key(0)
    for rank, groups in ((1, 3), (2, 2), (3, 1)):
        window, space = (3, 2, 3)[:rank], (4, 5, 3)[:rank]
        x = operand(rank, 6, *space).astype(np.float32)
        ours_x = np.moveaxis(x, 0, -1)[None]
        shared = {"stride": 2, "groups": groups, "key": key, "padding": 1}
        forward = eqx.nn.Conv(rank, 6, 12, window, **shared)
        adjoint = eqx.nn.ConvTranspose(rank, 6, 12, window, output_padding=1, **shared)
        for layer, kind in ((forward, "dense"), (adjoint, "transposed")):
            theirs = operand(7, *layer.weight.shape).astype(np.float32)
            bias = interop.bias_to("equinox", np.arange(12, dtype=np.float32), rank=rank)
            layer = eqx.tree_at(lambda m: (m.weight, m.bias), layer, (jnp.asarray(theirs), bias))
            kernel = interop.kernel_from("equinox", layer.weight, kind, groups=groups)
            options = {"strides": 2, "padding": 1, "feature_group_count": groups}
            if kind == "transposed":
                found = convjax.conv_transpose(ours_x, kernel, output_padding=1, **options)
            else:
                found = convjax.conv(ours_x, kernel, **options)
            found = found + interop.bias_from("equinox", layer.bias)
            same(np.moveaxis(found[0], -1, 0), layer(x))


@pytest.mark.slow
def test_haiku_live():
    hk = pytest.importorskip("haiku", reason="the live comparison needs dm-haiku (extra: peers)")
    x = operand(1, 2, 5, 4, 6).astype(np.float32)
    for make, kind, groups, first in (
        (lambda: hk.Conv2D(8, (3, 2), 2, feature_group_count=2), "grouped", 2, False),
        (lambda: hk.DepthwiseConv2D(2, (3, 2), 2), "depthwise", 6, False),
        (lambda: hk.Conv2DTranspose(5, (3, 2), 2), "transposed", 1, False),
        (lambda: hk.Conv2DTranspose(5, (3, 2), 2, data_format="NCHW"), "transposed", 1, True),
    ):
        model = hk.without_apply_rng(hk.transform(lambda x, make=make: make()(x)))
        theirs_x = np.moveaxis(x, -1, 1) if first else x
        params = model.init(jax.random.key(0), theirs_x)
        (name,) = params
        params = {name: {k: jnp.asarray(operand(3, *v.shape)) for k, v in params[name].items()}}
        wanted = model.apply(params, theirs_x)
        kernel = interop.kernel_from("haiku", params[name]["w"], kind, groups=groups)
        bias = interop.bias_from("haiku", params[name]["b"])
        function = convjax.conv_transpose if kind == "transposed" else convjax.conv
        found = function(x, kernel, strides=2, feature_group_count=groups) + bias
        same(np.moveaxis(found, -1, 1) if first else found, wanted)


@pytest.mark.slow
def test_keras_live():
    if importlib.util.find_spec("keras") is None:
        pytest.skip("the live comparison needs keras (extra: peers)")
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("keras runs on another backend")
    layers = keras.layers
    x = operand(1, 2, 6, 4, 6).astype(np.float32)
    options = {"strides": 2, "padding": "same"}

    def of(layer):
        layer.build(x.shape)
        layer.set_weights([operand(5, *w.shape) for w in layer.get_weights()])
        return layer, layer.weights, layer(x)

    layer, (kernel, bias), wanted = of(layers.Conv2D(8, (3, 2), groups=2, **options))
    ours = interop.kernel_from("keras", kernel, "grouped", groups=2)
    same(convjax.grouped_conv(x, ours, 2, strides=2) + interop.bias_from("keras", bias), wanted)

    layer, (kernel, bias), wanted = of(
        layers.DepthwiseConv2D((3, 2), depth_multiplier=3, **options)
    )
    ours = interop.kernel_from("keras", kernel, "depthwise")
    same(convjax.depthwise_conv(x, ours, strides=2) + interop.bias_from("keras", bias), wanted)

    layer, (*pair, bias), wanted = of(layers.SeparableConv2D(5, 3, depth_multiplier=2, **options))
    ours = interop.kernel_from("keras", pair, "depthwise_separable")
    same(
        convjax.depthwise_separable_conv(x, *ours, strides=2) + interop.bias_from("keras", bias),
        wanted,
    )

    layer, (kernel, bias), wanted = of(layers.Conv2DTranspose(5, (3, 4), **options))
    ours = interop.kernel_from("keras", kernel, "transposed")
    same(convjax.conv_transpose(x, ours, strides=2) + interop.bias_from("keras", bias), wanted)

    layer, (kernel, bias), wanted = of(layers.Conv2D(12, 3, padding="same"))
    ours = interop.kernel_from("keras", kernel, "subpixel", scale=2)
    bias = interop.from_depth_to_space(bias, 2)
    wanted = keras.ops.depth_to_space(wanted, 2, data_format="channels_last")
    y = convjax.conv(x, ours) + bias
    same(convjax.pixel_shuffle(y, 2), wanted)
    first = keras.ops.depth_to_space(np.moveaxis(y, -1, 1), 2, data_format="channels_first")
    same(np.moveaxis(first, 1, -1), wanted)  # Keras with channels first has our order


# ---- errors ----------------------------------------------------------------------------------

W = np.ones((4, 2, 3, 3))


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: interop.kernel_from("Torch", W, "dense"),
            r'must be one of "torch".*Did you mean "torch"',
        ),
        (
            lambda: interop.kernel_from("torch", W, "conv"),
            r"`kind` \(='conv'\) must be one of \"dense\"",
        ),
        (lambda: interop.kernel_from("torch", W, "hold"), r"`kind` \(='hold'\) has no kernel"),
        (
            lambda: interop.kernel_from("torch", W[0, 0], "dense"),
            r"\(3, 3\)\) must have at least one spatial.*\(O I \*K\)",
        ),
        (
            lambda: interop.kernel_from("torch", W, "grouped", groups=3),
            r"`groups` \(=3\) must divide the channels on the axis O of \(O I \*K\) \(=4\)",
        ),
        (
            lambda: interop.kernel_from("torch", W, "pointwise"),
            r"a window of one tap for the kind \"pointwise\", not \(3, 3\)",
        ),
        (
            lambda: interop.kernel_from("torch", W, "depthwise"),
            r'one input channel per group to be depthwise, not 2.*"grouped" or "dense"',
        ),
        (
            lambda: interop.kernel_from("keras", W, "depthwise", groups=4),
            r"`groups` \(=4\) must be the input channels of the depthwise kernel \(=3\)",
        ),
        (
            lambda: interop.kernel_to("keras", W[..., :1, :], "depthwise"),
            r"`groups` \(=None\) must be given, the number of input",
        ),
        (
            lambda: interop.kernel_from("flax", W, "transposed"),
            r"`transpose_kernel` \(=None\) must be True or False for a transposed.*default is",
        ),
        (
            lambda: interop.kernel_from("torch", W, "dense", transpose_kernel=True),
            r"`transpose_kernel` \(=True\) is an option of the transposed kernels of flax",
        ),
        (
            lambda: interop.kernel_from("keras", W, "subpixel"),
            r"`scale` \(=None\) must be given: keras's depth_to_space",
        ),
        (
            lambda: interop.kernel_from("torch", W, "subpixel", scale=2),
            r"`scale` \(=2\) is an option of the kind \"subpixel\" of tensorflow",
        ),
        (
            lambda: interop.kernel_from("haiku", W, "transposed", groups=3),
            r"`groups` \(=3\) must be 1.*of haiku have no groups. `convjax.equivalents.grouped`",
        ),
        (
            lambda: interop.kernel_from("torch", [W], "depthwise_separable"),
            r"`kernel` \(=1\) must be 2 kernels",
        ),
        (
            lambda: interop.kernel_from("torch", [W], "flattened"),
            r"`kernel` \(=1\) must be 2 or more kernels",
        ),
        (
            lambda: interop.kernel_from("torch", [], "spatially_separable"),
            r"`kernel` \(=0\) must be 1 or more kernels",
        ),
        (
            lambda: interop.kernel_from("torch", [W], "spatially_separable", groups=2),
            r"`groups` \(=2\) is no option of the kind",
        ),
        (
            lambda: interop.bias_from("keras", W),
            r"`bias` \(=\(4, 2, 3, 3\)\) must have one number per channel",
        ),
        (lambda: interop.bias_to("equinox", W), r"`bias` \(=\(4, 2, 3, 3\)\) must have one axis"),
        (
            lambda: interop.from_depth_to_space(W, 2),
            r"`scale` \(=2\) must divide the channels \(=3\) by its product over the spatial",
        ),
        (
            lambda: interop.from_depth_to_space(W, 2, axis=4),
            r"`axis` \(=4\) must be an axis of `array`, which has 4",
        ),
    ],
)
def test_values_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: interop.kernel_from("torch", W.tolist(), "dense"),
            "`kernel` must be an array, not list",
        ),
        (
            lambda: interop.kernel_from("torch", W, "depthwise_separable"),
            "must be a sequence of kernels for the kind",
        ),
        (
            lambda: interop.kernel_from("torch", W, "grouped", groups=2.0),
            "`groups` .=2.0. must be an integer",
        ),
    ],
)
def test_wrong_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()
