"""Law "clear errors": wrong input gets a clear error, never a wrong or empty result.

Each starts with the function's name and names the caller's argument in backticks with its value,
the rule, and mostly the hint; the same under jit and eval_shape.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convjax


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


X, KERNEL = ones(2, 6, 7, 4), ones(3, 2, 4, 5)
Y, TRANSPOSED = ones(2, 6, 7, 5), ones(3, 2, 4, 5)

# What is wrong with an option of `conv`: options, type of error, argument and value, rule, hint
OPTIONS = [
    ({"strides": 0}, ValueError, "`strides` (=0)", "at least 1"),
    ({"strides": np.array(1.5)}, TypeError, "`strides` (=array(1.5))", "must be an integer"),
    (
        {"dimension_numbers": jax.lax.ConvDimensionNumbers(*[(0, 2, 1)] * 3)},
        ValueError,
        "`dimension_numbers` (=((0, 2, 1), (0, 2, 1), (0, 2, 1)))",
        "must be of 4 axes",
    ),
    ({"strides": -1}, ValueError, "`strides` (=-1)", "at least 1"),
    ({"strides": (1, 0)}, ValueError, "`strides` (=(1, 0))", "at least 1"),
    (
        {"strides": (1, 2, 1)},
        ValueError,
        "`strides` (=(1, 2, 1))",
        "one entry per spatial axis (2)",
    ),
    ({"strides": (2,)}, ValueError, "`strides` (=(2,))", "one entry per spatial axis (2)"),
    ({"strides": 2.0}, TypeError, "`strides` (=2.0)", "integer"),
    ({"strides": (1, 1.5)}, TypeError, "`strides` (=(1, 1.5))", "integer"),
    ({"strides": "2"}, TypeError, "`strides` (='2')", "integer"),
    ({"strides": None}, TypeError, "`strides` (=None)", "integer"),
    ({"strides": True}, TypeError, "`strides` (=True)", "integer"),
    ({"input_dilation": 0}, ValueError, "`input_dilation` (=0)", "at least 1"),
    ({"input_dilation": (1, -2)}, ValueError, "`input_dilation` (=(1, -2))", "at least 1"),
    ({"input_dilation": 1.5}, TypeError, "`input_dilation` (=1.5)", "integer"),
    ({"kernel_dilation": 0}, ValueError, "`kernel_dilation` (=0)", "at least 1"),
    ({"kernel_dilation": (-1, 1)}, ValueError, "`kernel_dilation` (=(-1, 1))", "at least 1"),
    (
        {"kernel_dilation": (1,) * 3},
        ValueError,
        "`kernel_dilation` (=(1, 1, 1))",
        "spatial axis (2)",
    ),
    ({"feature_group_count": 0}, ValueError, "`feature_group_count` (=0)", "at least 1"),
    ({"feature_group_count": -2}, ValueError, "`feature_group_count` (=-2)", "at least 1"),
    ({"feature_group_count": 2.0}, TypeError, "`feature_group_count` (=2.0)", "integer"),
    ({"feature_group_count": (2, 2)}, TypeError, "`feature_group_count` (=(2, 2))", "integer"),
    (
        {"feature_group_count": 3},
        ValueError,
        "`feature_group_count` (=3)",
        "must divide the channels of `x` (=4)",
    ),
    (
        {"padding": "same"},
        ValueError,
        "`padding` (='same')",
        'one of "SAME", "SAME_LOWER", "VALID"',
    ),
    ({"padding": "same"}, ValueError, "`padding` (='same')", 'Did you mean "SAME"?'),
    ({"padding": "REFLECT"}, ValueError, "`padding` (='REFLECT')", '"FULL", "CAUSAL"'),
    ({"padding": None}, TypeError, "`padding` (=None)", "must be a policy"),
    ({"padding": 1.5}, TypeError, "`padding` (=1.5)", "must be a policy"),
    ({"padding": (1, 1, 1)}, ValueError, "`padding` (=(1, 1, 1))", "2 integers"),
    ({"padding": [(1, 1)]}, ValueError, "`padding` (=[(1, 1)])", "2 (low, high) pairs"),
    ({"padding": [(1, 1), (1, 1, 1)]}, ValueError, "`padding` (=[(1, 1), (1, 1, 1)])", "pairs"),
    ({"padding": [1, (1, 1)]}, ValueError, "`padding` (=[1, (1, 1)])", "mix"),
    ({"padding": (1.0, 1)}, TypeError, "`padding` (=(1.0, 1))", "must be a policy"),
    ({"padding": [(1, 2.5), (1, 1)]}, (TypeError, ValueError), "`padding` (=[(1, 2.5)", "policy"),
    ({"padding": ["SAME", "VALID"]}, (TypeError, ValueError), "`padding` (=['SAME'", "policy"),
    ({"padding_mode": "zeros"}, ValueError, "`padding_mode` (='zeros')", '"constant", "reflect"'),
    ({"padding_mode": "circular"}, ValueError, "`padding_mode` (='circular')", '"edge", "wrap"'),
    ({"padding_mode": "Reflect"}, ValueError, "`padding_mode` (='Reflect')", 'mean "reflect"?'),
    ({"padding_mode": None}, TypeError, "`padding_mode` (=None)", "word"),
    (
        {"padding_mode": ("edge",)},
        ValueError,
        "`padding_mode` (=('edge',))",
        "per spatial axis (2)",
    ),
    ({"padding_mode": ("edge", "none")}, ValueError, "`padding_mode` (='none')", "one of"),
    (
        {"padding_mode": "reflect", "padding": [(0, 0), (7, 0)]},
        ValueError,
        "`padding` (=(7, 0))",
        "'reflect' can fill on spatial axis 1 of extent 7 (at most 6)",
    ),
    (
        {"padding_mode": "reflect", "padding": [(1, 6), (0, 0)]},
        ValueError,
        "`padding` (=(1, 6))",
        "'reflect' can fill on spatial axis 0 of extent 6 (at most 5)",
    ),
    (
        {"padding_mode": "symmetric", "padding": (7, 0)},
        ValueError,
        "`padding` (=(7, 7))",
        "'symmetric' can fill on spatial axis 0 of extent 6 (at most 6)",
    ),
    (
        {"padding_mode": ("edge", "wrap"), "padding": 8},
        ValueError,
        "`padding` (=(8, 8))",
        "'wrap' can fill on spatial axis 1 of extent 7 (at most 7)",
    ),
    (
        {"padding_mode": "edge", "input_dilation": 2},
        ValueError,
        "`padding_mode` (='edge')",
        "must be 'constant' where `input_dilation` (=(2, 2))",
    ),
    (
        {"dimension_numbers": "NHWC"},
        TypeError,
        "`dimension_numbers` (='NHWC')",
        '("NCHW", "OIHW", "NCHW")',
    ),
    (
        {"dimension_numbers": ("NHWC", "HWIO")},
        TypeError,
        "`dimension_numbers` (=('NHWC', 'HWIO'))",
        "three strings",
    ),
    (
        {"dimension_numbers": ("NHWC", "HWIO", "NHHC")},
        ValueError,
        "`dimension_numbers` (=",
        "distinct letters",
    ),
    (
        {"dimension_numbers": ("NHWC", "HWIO", "NDWC")},
        ValueError,
        "`dimension_numbers` (=",
        "the same letters",
    ),
    (
        {"dimension_numbers": ("NWC", "WIO", "NWC")},
        ValueError,
        "`dimension_numbers` (=",
        "three strings of 4 distinct letters",
    ),
    (
        {"dimension_numbers": ("NHWC", "HWCO", "NHWC")},
        ValueError,
        "`dimension_numbers` (=",
        "O and I for the kernel",
    ),
    ({"precision": "hihgest"}, ValueError, "`precision` (='hihgest')", "highest"),
    ({"precision": 3}, ValueError, "`precision` (=3)", "highest"),
    (
        {"preferred_element_type": "flot32"},
        TypeError,
        "`preferred_element_type` (='flot32')",
        "dtype",
    ),
    ({"preferred_element_type": np.int32}, ValueError, "`preferred_element_type` (=", "float32"),
    ({"preferred_element_type": np.float16}, ValueError, "`preferred_element_type` (=", "float32"),
    ({"algorithm": "winograd"}, ValueError, "`algorithm` (='winograd')", '"direct"'),
    ({"algorithm": ("direct", "direct")}, TypeError, "`algorithm` (=", "triple"),
    ({"algorithm": ("direct", None, "no")}, ValueError, "`algorithm` (='no')", '"direct"'),
    ({"algorithm": 1}, TypeError, "`algorithm` (=1)", "triple"),
]

# What is wrong with the operands of `conv`: x, kernel, options, type, argument and value, rule
OPERANDS = [
    (X, ones(7, 2, 4, 5), {"padding": "VALID"}, ValueError, "`kernel` (=(7, 2))",
     "is larger than the padded input on spatial axis 0: it reaches over 7"),
    (X, ones(3, 4, 4, 5), {"padding": [(0, 0), (-2, -2)]}, ValueError, "`kernel` (=(3, 4))",
     "the input has 7 with padding (-2, -2)"),
    (X, KERNEL, {"padding": 0, "kernel_dilation": (3, 1)}, ValueError, "`kernel` (=(3, 2))",
     "reaches over 7 elements (kernel_dilation 3)"),
    (X, ones(3, 0, 4, 5), {}, ValueError, "`kernel` (=(3, 0))", "at least one tap"),
    (X, ones(0, 0, 4, 5), {"padding": "VALID"}, ValueError, "`kernel` (=(0, 0))", "one tap"),
    (ones(6, 7, 4), KERNEL, {}, ValueError, "`x` (=(6, 7, 4))", "must have 4 axes"),
    (ones(6, 7, 4), KERNEL, {}, ValueError, "`x` (=(6, 7, 4))", "`jax.vmap` or `x[None]`"),
    (ones(1, 2, 6, 7, 4), KERNEL, {}, ValueError, "`x` (=(1, 2, 6, 7, 4))", "must have 4 axes"),
    (ones(7, 4), KERNEL, {}, ValueError, "`x` (=(7, 4))", "must have 4 axes"),
    (ones(7, 4), ones(4, 5), {}, ValueError, "`kernel` (=(4, 5))", "at least one spatial axis"),
    (ones(), ones(), {}, ValueError, "`kernel` (=())", "at least one spatial axis"),
    (X, ones(3, 2, 3, 5), {}, ValueError, "`kernel` (=(3, 2, 3, 5))", "must have 4 input channels"),
    (X, KERNEL, {"feature_group_count": 2}, ValueError, "`kernel` (=(3, 2, 4, 5))",
     "must have 2 input channels (the channels of `x`, 4, over 2 groups)"),
    (X, KERNEL, {"feature_group_count": 2}, ValueError, "`kernel` (=(3, 2, 4, 5))",
     "in_features / groups"),
    (X, ones(3, 2, 2, 5), {"feature_group_count": 2}, ValueError, "`feature_group_count` (=2)",
     "must divide the output channels of `kernel` (=5)"),
    (ones(2, 4, 6, 7), KERNEL, {}, ValueError, "`kernel` (=(3, 2, 4, 5))",
     "`x` looks channels-first"),
    (ones(2, 4, 6, 7), KERNEL, {}, ValueError, "`kernel` (=(3, 2, 4, 5))",
     "`dimension_numbers=('NCHW', 'OIHW', 'NCHW')`"),
    (X, ones(5, 4, 3, 2), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}, ValueError,
     "`kernel` (=(5, 4, 3, 2))", "`x` looks channels-last"),
    (X, KERNEL.astype(np.float16), {}, TypeError, "`x` (float32)", "`kernel` (float16)"),
    (X, KERNEL.astype(np.float16), {}, TypeError, "`x` (float32)", "`kernel.astype(x.dtype)`"),
    (X.astype(np.int32), KERNEL, {}, TypeError, "`x` (int32)", "`kernel` (float32)"),
    (X, KERNEL.astype(np.complex64), {}, TypeError, "`x` (float32)", "`kernel` (complex64)"),
    (X.astype(jnp.bfloat16), KERNEL, {}, TypeError, "`x` (bfloat16)", "must have one dtype"),
    (X.astype(bool), KERNEL.astype(bool), {}, TypeError, "`x` (='bool')", "numeric dtype"),
    ([[[1.0]]], ones(1, 1, 1), {}, TypeError, "`x` must be an array", "not list"),
    (X, [[[1.0]]], {}, TypeError, "`kernel` must be an array", "not list"),
    (None, KERNEL, {}, TypeError, "`x` must be an array", "not NoneType"),
    (X, None, {}, TypeError, "`kernel` must be an array", "jnp.asarray"),
    (X, (KERNEL,), {}, TypeError, "`kernel` must be an array", "not tuple"),
    (ones(2, 0, 7, 4), KERNEL, {"padding": 1, "padding_mode": "edge"}, ValueError,
     "`padding_mode` (='edge')", "cannot extend the empty spatial axis 0"),
]  # fmt: skip


def assert_fails(name, function, operands, error, argument, rule):
    """`function` raises, with one message, called plainly, under jit and under eval_shape."""
    messages = []
    for call in (function, jax.jit(function), partial(jax.eval_shape, function)):
        with pytest.raises(error, match=f"^{name}: .*{re.escape(argument)}") as caught:
            call(*operands)
        message = str(caught.value)
        assert rule in message
        assert not re.search(r"conv_general_dilated|lhs|rhs|window_strides", message), "lax's words"
        messages.append(message)
    assert len(set(messages)) == 1


@pytest.mark.parametrize("options, error, argument, rule", OPTIONS)
def test_options_of_conv(options, error, argument, rule):
    function = partial(convjax.conv, **options)
    assert_fails("conv", function, (X, KERNEL), error, argument, rule)


@pytest.mark.parametrize("x, kernel, options, error, argument, rule", OPERANDS)
def test_operands_of_conv(x, kernel, options, error, argument, rule):
    if isinstance(x, list) or isinstance(kernel, (list, tuple)) or x is None or kernel is None:
        with pytest.raises(error, match=f"^conv: .*{re.escape(argument)}") as caught:
            convjax.conv(x, kernel, **options)
        assert rule in str(caught.value)
        for name, operand in (("x", x), ("kernel", kernel)):  # as jit passes them on: containers
            if name in argument:
                other = {"x": x, "kernel": kernel} | {name: operand}
                with pytest.raises(error, match=f"^conv: .*{re.escape(argument)}"):
                    jax.jit(partial(convjax.conv, **options))(**other)
        return
    function = partial(convjax.conv, **options)
    assert_fails("conv", function, (x, kernel), error, argument, rule)


def test_one_dimensional_pads_are_told_apart():
    """One axis with two integers may mean a pair: the error shows how to write it."""
    function = partial(convjax.conv, padding=(1, 2))
    operands = ones(2, 6, 4), ones(3, 4, 5)
    assert_fails("conv", function, operands, ValueError, "`padding` (=(1, 2))", "((1, 2),)")


def test_empty_inputs_have_empty_results_and_no_others_do():
    kernel = ones(3, 2, 4, 5)
    assert convjax.conv(ones(0, 2, 7, 4), kernel, padding="VALID").shape == (0, 0, 6, 5)
    assert convjax.conv(ones(2, 0, 7, 4), kernel, padding="VALID").shape == (2, 0, 6, 5)
    with pytest.raises(ValueError, match="^conv: `kernel`"):
        convjax.conv(ones(2, 2, 7, 4), kernel, padding="VALID")


ALIASES = [
    ("correlate", convjax.correlate, X, KERNEL, {}),
    ("convolve", convjax.convolve, X, KERNEL, {}),
    ("conv2d", convjax.conv2d, X, KERNEL, {}),
    ("conv1d", convjax.conv1d, X[:, 0], KERNEL[0], {}),
    ("conv3d", convjax.conv3d, X[:, None], KERNEL[None], {}),
    ("dilated_conv", convjax.dilated_conv, X, KERNEL, {"kernel_dilation": 2}),
    ("pointwise_conv", convjax.pointwise_conv, X, KERNEL[:1, :1], {}),
    ("conv_transpose", convjax.conv_transpose, Y, TRANSPOSED, {}),
]


@pytest.mark.parametrize("name, function, x, kernel, options", ALIASES, ids=lambda a: str(a)[:14])
def test_every_function_names_itself(name, function, x, kernel, options):
    operand = "y" if name == "conv_transpose" else "x"
    cases = [
        ((x, kernel), {"strides": 0}, ValueError, "`strides` (=0)", "at least 1"),
        ((x, kernel), {"strides": 1.5}, TypeError, "`strides` (=1.5)", "integer"),
        ((x, kernel), {"algorithm": "winograd"}, ValueError, "`algorithm` (='winograd')", "one of"),
        ((x, kernel), {"precision": "low"}, ValueError, "`precision` (='low')", "must be"),
        ((x, kernel), {"dimension_numbers": "NC"}, TypeError, "`dimension_numbers` (=", "three"),
        ((x, kernel.astype(np.int32)), {}, TypeError, f"`{operand}` (float32)", "one dtype"),
        ((x[0], kernel), {}, ValueError, f"`{operand}` (=", "axes"),
        ((x[..., :3], kernel), {}, ValueError, "`kernel` (=", "channels"),
    ]
    if name != "pointwise_conv":
        cases += [
            ((x, kernel), {"padding": "same"}, ValueError, "`padding` (='same')", "one of"),
            (
                (x, kernel),
                {"padding_mode": "zero"},
                ValueError,
                "`padding_mode` (='zero')",
                "one of",
            ),
            (
                (x, kernel),
                {"kernel_dilation": 0},
                ValueError,
                "`kernel_dilation` (=0)",
                "at least 1",
            ),
            ((x, kernel[..., :0, :, :]), {}, ValueError, "`kernel` (=", "at least one tap"),
        ]
    for operands, extra, error, argument, rule in cases:
        if "kernel_dilation" in options and "kernel_dilation" not in extra:
            extra = options | extra
        assert_fails(name, partial(function, **extra), operands, error, argument, rule)
    for operands, bad in [((x.tolist(), kernel), operand), ((x, kernel.tolist()), "kernel")]:
        with pytest.raises(TypeError, match=f"^{name}: `{bad}` must be an array, not list"):
            function(*operands, **options)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_fixed_ranks(rank):
    name = f"conv{rank}d"
    function = getattr(convjax, name)
    for other in {1, 2, 3} - {rank}:
        x, kernel = ones(2, *(6,) * other, 4), ones(*(3,) * other, 4, 5)
        argument = f"`kernel` (={kernel.shape})"
        assert_fails(name, function, (x, kernel), ValueError, argument, f"{rank + 2} axes")
        assert_fails(name, function, (x, kernel), ValueError, argument, "use `conv`")


def test_pointwise():
    function = convjax.pointwise_conv
    rule = "must have extent 1 on every spatial axis"
    assert_fails(
        "pointwise_conv", function, (X, KERNEL), ValueError, "`kernel` (=(3, 2, 4, 5))", rule
    )


# What is wrong with `conv_transpose`, besides output_padding and output_shape (test_transposed.py)
TRANSPOSES = [
    (Y, TRANSPOSED, {"strides": (2, 0)}, ValueError, "`strides` (=(2, 0))", "at least 1"),
    (Y, TRANSPOSED, {"kernel_dilation": -1}, ValueError, "`kernel_dilation` (=-1)", "at least 1"),
    (Y, TRANSPOSED, {"feature_group_count": 0}, ValueError, "`feature_group_count` (=0)",
     "at least 1"),
    (Y, TRANSPOSED, {"feature_group_count": 2}, ValueError, "`feature_group_count` (=2)",
     "must divide the channels of `y` (=5)"),
    (Y, TRANSPOSED.swapaxes(2, 3), {}, ValueError, "`kernel` (=(3, 2, 5, 4))", "5 channels of `y`"),
    (Y, TRANSPOSED.swapaxes(2, 3), {}, ValueError, "`kernel` (=(3, 2, 5, 4))", "Swap its last two"),
    (Y, ones(3, 2, 4, 6), {}, ValueError, "`kernel` (=(3, 2, 4, 6))", "not 6"),
    (Y, ones(0, 2, 4, 5), {}, ValueError, "`kernel` (=(0, 2))", "at least one tap"),
    (Y[0], TRANSPOSED, {}, ValueError, "`y` (=(6, 7, 5))", "must have 4 axes"),
    (Y, TRANSPOSED[0, 0], {}, ValueError, "`kernel` (=(4, 5))", "at least one spatial axis"),
    (Y, TRANSPOSED, {"padding": "Full"}, ValueError, "`padding` (='Full')", "one of"),
    (Y, TRANSPOSED, {"padding": 4}, ValueError, "`padding` (=4)", "crops everything"),
    (Y, TRANSPOSED, {"padding_mode": "zeros"}, ValueError, "`padding_mode` (='zeros')", "one of"),
    (ones(2, 4, 3, 5), TRANSPOSED, {"padding": [(2, 3), (0, 0)], "padding_mode": "reflect"},
     ValueError, "`padding` (=(2, 3))", "'reflect' can fill on spatial axis 0 of extent 1"),
    (Y, TRANSPOSED, {"output_padding": 0.5}, TypeError, "`output_padding` (=0.5)", "integer"),
    (Y, TRANSPOSED, {"output_shape": (6.0, 7)}, TypeError, "`output_shape` (=(6.0, 7))", "integer"),
    (Y, TRANSPOSED, {"output_shape": (2, 6, 7, 4)}, ValueError, "`output_shape` (=(2, 6, 7, 4))",
     "spatial axis (2)"),
    (Y, TRANSPOSED.astype(np.float16), {}, TypeError, "`y` (float32)", "`kernel` (float16)"),
    (Y, TRANSPOSED, {"algorithm": "fast"}, ValueError, "`algorithm` (='fast')", '"direct"'),
    (Y, TRANSPOSED, {"dimension_numbers": ("NHWC", "HWIO", "NWHX")}, ValueError,
     "`dimension_numbers` (=", "N and C"),
]  # fmt: skip


@pytest.mark.parametrize("y, kernel, options, error, argument, rule", TRANSPOSES)
def test_conv_transpose(y, kernel, options, error, argument, rule):
    function = partial(convjax.conv_transpose, **options)
    assert_fails("conv_transpose", function, (y, kernel), error, argument, rule)


def test_unknown_keywords_and_positional_options_are_refused():
    """Those of every public function and module: ``test_public_errors.py``."""
    with pytest.raises(TypeError, match="^conv: too many positional arguments. Options are given"):
        convjax.conv(X, KERNEL, 2)
    with pytest.raises(TypeError, match="^conv: missing a required argument: `kernel`"):
        convjax.conv(X)
    for name in ("conv", "conv2d"):
        match = (
            rf"^{name}: there is no option `stride` \(did you mean `strides`\?\). It takes `x`, "
        )
        with pytest.raises(TypeError, match=match):
            getattr(convjax, name)(X, KERNEL, stride=2)


@pytest.mark.parametrize("platform", ["cpuu", "CPU", "cuda12", "", 3])
def test_platforms_that_do_not_exist(platform):
    match = (
        r"^explain: `platform` \(=.*\) must be one of \"cpu\", \"cuda\", \"gpu\", \"rocm\", \"tpu\""
    )
    with pytest.raises(ValueError, match=match):
        convjax.explain(convjax.conv, X, KERNEL, platform=platform)
    for word in ("cpu", "cuda", "rocm", "tpu", None):
        assert len(convjax.explain(convjax.conv, X, KERNEL, platform=word).rows) == 1


def test_readers_of_functions_want_functions():
    for reader in (convjax.explain, convjax.cost_of):
        with pytest.raises(TypeError, match=f"^{reader.__name__}: `fn` .* must be a function"):
            reader(X, KERNEL)
    with pytest.raises(ValueError, match="^explain: `partitioned` .* at least 0"):
        convjax.explain(convjax.conv, X, KERNEL, partitioned=-1)
