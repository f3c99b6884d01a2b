"""Law "lowerings": results of programs that XLA compiles with oneDNN, as the choice has them.

Forward and both gradients, on integers, to the last bit. Where XLA has no oneDNN it is left
out: jaxlib 0.10 takes the option and does nothing.
"""

import functools
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from problems import problem

import convjax
from convjax._lowerings import onednn_faults
from convjax._lowerings.target import Target

OPTIONS = convjax.compiler_options("cpu", onednn=True)
ONEDNN = "xla_cpu_experimental_onednn_custom_call"
CALL = '"__onednn$convolution"'
needed = pytest.mark.skipif(ONEDNN not in OPTIONS, reason="this XLA computes nothing by oneDNN")

DTYPES = ["float32", "bfloat16", "float16"]

# A convolution of every kind that the rules tell apart: x, kernel, options.
CASES = {
    "plane": ((3, 13, 11, 16), (3, 2, 16, 24), {}),
    "plane, large": ((2, 57, 56, 8), (3, 2, 8, 12), {}),
    "plane, strided": ((3, 13, 11, 16), (3, 4, 16, 24), {"strides": (2, 3)}),
    "plane, dilated": ((3, 13, 11, 16), (3, 2, 16, 24), {"kernel_dilation": (2, 3)}),
    "plane, cropped": ((3, 13, 11, 16), (3, 2, 16, 24), {"padding": ((-2, 3), (1, -1))}),
    "plane of eight examples": ((8, 13, 11, 16), (3, 2, 16, 24), {}),
    "plane of one example": ((1, 13, 11, 16), (3, 2, 16, 24), {}),
    "plane of three outputs": ((2, 57, 56, 24), (3, 2, 24, 3), {}),
    "plane, more outputs than inputs": ((3, 13, 11, 16), (3, 2, 16, 24), {"padding": 2}),
    "plane, large, more outputs": ((2, 57, 56, 6), (3, 2, 6, 12), {"padding": 2}),
    "line, more outputs than inputs": ((3, 40, 16), (3, 16, 24), {"padding": 2}),
    "groups, more outputs than inputs": (
        (3, 13, 11, 24), (3, 2, 12, 36), {"feature_group_count": 2, "padding": 2},
    ),
    "pointwise": ((3, 13, 11, 16), (1, 1, 16, 24), {}),
    "pointwise, strided": ((3, 13, 11, 16), (1, 1, 16, 24), {"strides": 2}),
    "tiles": ((3, 12, 12, 3), (4, 4, 3, 24), {"strides": 4, "padding": "VALID"}),
    "line": ((3, 40, 16), (5, 16, 24), {}),
    "volume": ((2, 7, 6, 5, 8), (3, 2, 3, 8, 12), {}),
    "wide line": ((3, 40, 16), (5, 16, 130), {}),
    "volume of two outputs": ((2, 7, 6, 5, 24), (3, 2, 3, 24, 2), {}),
    "depthwise volume": ((2, 7, 6, 5, 8), (3, 3, 3, 1, 8), {"feature_group_count": 8}),
    "volume, strided": ((2, 7, 6, 5, 8), (3, 2, 3, 8, 12), {"strides": (2, 1, 2)}),
    "tiled volume": ((2, 4, 6, 6, 3), (2, 3, 2, 3, 8), {"strides": (2, 3, 2), "padding": "VALID"}),
    "large groups, strided": (
        (3, 13, 11, 24), (3, 3, 12, 24), {"feature_group_count": 2, "strides": 2},
    ),
    "depthwise": ((3, 13, 11, 16), (3, 2, 1, 16), {"feature_group_count": 16}),
    "depthwise, strided": (
        (3, 13, 11, 16), (3, 2, 1, 32), {"feature_group_count": 16, "strides": 2},
    ),
    "depthwise, many taps": ((3, 13, 11, 16), (7, 8, 1, 16), {"feature_group_count": 16}),
    "depthwise, dilated": (
        (3, 23, 21, 16), (7, 7, 1, 16), {"feature_group_count": 16, "kernel_dilation": 3},
    ),
    "depthwise, dilated, short": (
        (3, 13, 11, 16), (5, 5, 1, 16), {"feature_group_count": 16, "kernel_dilation": 2},
    ),
    "depthwise, many taps, strided": (
        (3, 19, 17, 16), (7, 7, 1, 16), {"feature_group_count": 16, "strides": 2},
    ),
    "depthwise, two outputs": ((3, 13, 11, 16), (5, 5, 1, 32), {"feature_group_count": 16}),
    "depthwise line": ((3, 40, 16), (4, 1, 16), {"feature_group_count": 16, "padding": "CAUSAL"}),
    "groups": ((3, 13, 11, 24), (3, 2, 6, 32), {"feature_group_count": 4}),
    "many groups, strided": (
        (3, 13, 11, 48), (3, 2, 4, 72), {"feature_group_count": 12, "strides": 2},
    ),
    "pointwise groups": ((3, 13, 11, 24), (1, 1, 8, 36), {"feature_group_count": 3}),
    "volume in groups": ((2, 7, 6, 5, 8), (3, 2, 3, 4, 12), {"feature_group_count": 2}),
}  # fmt: skip
TRANSPOSED = {
    "k4 s2": ((3, 7, 6, 12), (4, 4, 16, 12), {"strides": 2}),
    "k3 s2": ((3, 7, 6, 12), (3, 3, 16, 12), {"strides": 2}),
    "k2 s2": ((3, 7, 6, 12), (2, 2, 16, 12), {"strides": 2}),
    "rows of tiles": ((3, 5, 9, 12), (3, 2, 16, 12), {"strides": (3, 1)}),
    "depthwise k4 s2": ((3, 7, 6, 12), (4, 4, 1, 12), {"strides": 2, "feature_group_count": 12}),
    "volume k3 s2": ((2, 4, 3, 5, 8), (3, 3, 3, 6, 8), {"strides": 2}),
}


def drawn(x, kernel, dtype):
    """Asymmetric integers, few enough that sums of their products are exact in every type."""
    bound = 2 if dtype == "float32" else 1
    return (jnp.asarray(oracle.integers(seed, s, np.float32, bound + 1), dtype)
            for seed, s in enumerate((x, kernel)))  # fmt: skip


def roles(conv, x, kernel):
    """Forward, and both gradients, each as a program of its own and all in one."""
    y = jnp.round(conv(x, kernel) % 3).astype(x.dtype)

    def input_gradient(kernel, y):
        return jax.linear_transpose(lambda x: conv(x, kernel), x)(y)[0]

    def kernel_gradient(x, y):
        return jax.linear_transpose(lambda k: conv(x, k), kernel)(y)[0]

    def training(x, kernel, y):
        out, back = jax.vjp(conv, x, kernel)
        return out, *back(y)

    return {
        "forward": (conv, (x, kernel)),
        "input_gradient": (input_gradient, (kernel, y)),
        "kernel_gradient": (kernel_gradient, (x, y)),
        "training": (training, (x, kernel, y)),
    }


@needed
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("role", ["forward", "input_gradient", "kernel_gradient", "training"])
@pytest.mark.parametrize("name", [*CASES, *TRANSPOSED])
def test_results_are_those_of_lax(name, role, dtype):
    """lax's own, compiled without oneDNN."""
    function, cases = (
        (convjax.conv, CASES) if name in CASES else (convjax.conv_transpose, TRANSPOSED)
    )
    x, kernel, options = cases[name]
    conv = functools.partial(function, **options)
    x, kernel = drawn(x, kernel, dtype)
    ours, operands = roles(conv, x, kernel)[role]
    plain, _ = roles(functools.partial(conv, algorithm="direct"), x, kernel)[role]
    wanted = jax.jit(plain)(*operands)
    found = convjax.jit(ours)(*operands)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype and np.abs(np.float32(b)).max() > 0
        np.testing.assert_array_equal(np.float32(a), np.float32(b))


# What oneDNN is called for, by the rules: forward, and the gradient of the kernel.
WIDE = Target.here("cpu").vector_bits == 512
CALLED = {
    "plane of eight examples": (True, WIDE),
    "plane, large": (True, True),
    "plane, cropped": (True, None),
    "pointwise": (True, False),
    "line": (True, True),  # nothing else is there
    "line, more outputs than inputs": (True, WIDE),
    "groups, more outputs than inputs": (True, None),
    "volume": (True, None),
    "depthwise": (False, False),
    "depthwise, many taps": (True, False),
    "depthwise, dilated": (False, False),
    "depthwise, dilated, short": (True, False),
    "depthwise, many taps, strided": (True, False),
    "depthwise, two outputs": (False, False),
    "plane of three outputs": (True, None),
    "depthwise line": (False, False),
    "groups": (True, True),
    "large groups, strided": (True, True),
}


@needed
@pytest.mark.parametrize("name", CALLED)
def test_what_onednn_is_called_for(name):
    x, kernel, options = CASES[name]
    conv = functools.partial(convjax.conv, **options)
    programs = roles(conv, *drawn(x, kernel, "float32"))
    forward, gradient = CALLED[name]
    for role, wanted in (("forward", forward), ("kernel_gradient", gradient)):
        function, operands = programs[role]
        text = convjax.jit(function).lower(*operands).compile().as_text()
        if wanted is not None:
            assert (CALL in text) == wanted, role


@needed
@pytest.mark.parametrize("name", ["k4 s2", "k3 s2", "volume k3 s2"])
def test_onednn_computes_every_phase(name):
    """Of a kernel that XLA sees reversed it computes none."""
    x, kernel, options = TRANSPOSED[name]
    conv = functools.partial(convjax.conv_transpose, **options)
    text = convjax.jit(conv).lower(*drawn(x, kernel, "float32")).compile().as_text()
    assert CALL in text and " convolution(" not in text


TRAINED = """
import functools, jax, jax.numpy as jnp, convjax
for x, kernel, options in {cases}:
    conv = functools.partial(convjax.conv, **options)
    loss = lambda x, kernel: (conv(x, kernel) ** 2).sum()
    for dtype in {dtypes}:
        operands = jnp.ones(x, dtype), jnp.ones(kernel, dtype)
        jax.block_until_ready(convjax.jit(jax.grad(loss, (0, 1)))(*operands))
"""


@needed
def test_rows_of_tiles_do_not_interleave():
    """A transposed convolution whose kernel is as large as its stride: oneDNN writes the result."""
    x, kernel = jnp.ones((2, 8, 9, 16)), jnp.ones((2, 2, 24, 16))

    def transposed(x, kernel):
        return convjax.conv_transpose(x, kernel, strides=2)

    text = convjax.jit(transposed).lower(x, kernel).compile().as_text()
    entry = text[text.index("ENTRY") :].splitlines()
    (root,) = (line for line in entry if "ROOT" in line)
    assert "fusion" not in root and text.count(CALL) == 1


@needed
def test_onednn_computes_nothing_by_its_reference_code():
    """Which is there for what oneDNN has no fast code for: it was 60 times slower than a sum over
    taps for 7x7 with a dilation."""
    dtypes = ["float32", *["bfloat16", "float16"] * Target.here("cpu").amx]
    program = TRAINED.format(cases=list(CASES.values()), dtypes=dtypes)
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"ONEDNN_VERBOSE": "1", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = {line.split(",")[6] for line in told.splitlines() if ",cpu,convolution," in line}
    assert names and not [name for name in names if "ref" in name]


@needed
@pytest.mark.parametrize("name", [*CASES, *TRANSPOSED])
def test_channels_are_last(name):
    """In a loop XLA moves no axes, and oneDNN is a thousand times slower in another order."""
    function, cases = (
        (convjax.conv, CASES) if name in CASES else (convjax.conv_transpose, TRANSPOSED)
    )
    x, kernel, options = cases[name]
    conv = functools.partial(function, **options)
    program, operands = roles(conv, *drawn(x, kernel, "float32"))["training"]
    text = convjax.jit(program).lower(*operands).as_text()
    found = re.findall(r"dim_numbers = (.*?), window", text)
    assert set(found) <= {f"[b, {d}, f]x[{d}, i, o]->[b, {d}, f]" for d in ("0", "0, 1", "0, 1, 2")}


NANS = ["plane", "volume", "groups", "many groups, strided", "depthwise, many taps"]


@needed
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*NANS, "plane of three outputs", "depthwise volume"])
def test_a_nan_reaches_its_taps_only(name, dtype):
    """Forward, and in the input's gradient."""
    x, kernel, options = CASES[name]
    conv = functools.partial(convjax.conv, **options)
    x, kernel = drawn(x, kernel, dtype)

    def gradient(y, algorithm=None):
        return jax.linear_transpose(lambda x: conv(x, kernel, algorithm=algorithm), x)(y)[0]

    def forward(x, algorithm=None):
        return conv(x, kernel, algorithm=algorithm)

    for function, given in ((forward, x), (gradient, conv(x, kernel))):
        middle = tuple(size // 2 for size in given.shape[1:-1])
        given = given.at[(0, *middle, 1)].set(jnp.nan)
        found = convjax.jit(function)(given)
        wanted = jax.jit(functools.partial(function, algorithm="direct"))(given)
        assert 0 < np.isnan(wanted).sum() < wanted.size
        np.testing.assert_array_equal(np.float32(found), np.float32(wanted))


@needed
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["groups", "large groups, strided", "pointwise groups"])
def test_a_nan_stays_in_its_group(name, dtype):
    """In the gradient of the kernel: one of the first group's input, one of the last's result."""
    x, kernel, options = CASES[name]
    conv = functools.partial(convjax.conv, **options)
    x, kernel = drawn(x, kernel, dtype)
    y = conv(x, kernel)

    def gradient(x, y, algorithm=None):
        return jax.linear_transpose(lambda k: conv(x, k, algorithm=algorithm), kernel)(y)[0]

    x, y = x.at[1, 3, 4, 0].set(jnp.nan), y.at[1, 1, 2, -1].set(jnp.nan)
    found = convjax.jit(gradient)(x, y)
    wanted = jax.jit(functools.partial(gradient, algorithm=(None, None, "per_group")))(x, y)
    assert 0 < np.isnan(wanted).sum() < wanted.size
    np.testing.assert_array_equal(np.float32(found), np.float32(wanted))


# oneDNN computes these wrongly on processors with AVX-512 or AMX (jaxlib 0.12.0.1). In float32 each
# example has one result, or there is one column of them; of 16-bit numbers there are few channels,
# which in a kernel's gradient are examples, or rare geometry, at some of which the process ends.
# x, kernel, options.
FAULTY = {
    "one number": ((4, 7, 7, 16), (7, 7, 16, 1), {"padding": "VALID"}),
    "one number of a line": ((3, 32, 5), (32, 5, 1), {"padding": "VALID"}),
    "one number of a volume": ((3, 3, 4, 5, 6), (3, 4, 5, 6, 1), {"padding": "VALID"}),
    "gradient of one number": ((4, 9, 8, 24), (1, 1, 24, 1), {}),
    "gradient of one number for an example": ((6, 1, 1, 1), (3, 3, 1, 5), {}),
    "one column of one channel": (
        (3, 9, 9, 1), (3, 9, 1, 8), {"strides": (1, 2), "padding": "VALID"},
    ),
    "one column of one channel, more behind": (
        (3, 8, 19, 1), (3, 17, 1, 8), {"strides": (1, 3), "padding": ((1, 0), (0, 0))},
    ),
    "one column of one channel, padding behind": (
        (3, 8, 17, 1), (3, 17, 1, 8), {"strides": (1, 3), "padding": ((1, 0), (0, 2))},
    ),
    "one column of a volume": (
        (2, 16, 3, 2, 1), (16, 3, 2, 1, 16), {"strides": (2, 1, 3), "padding": "VALID"},
    ),
    "gradient of one column, one example": (
        (1, 2, 17, 3), (2, 1, 3, 8),
        {"strides": (2, 1), "kernel_dilation": (1, 2), "padding": "VALID"},
    ),
    "few channels, strided": ((8, 4, 132, 24), (4, 4, 24, 12), {"strides": 4, "padding": "VALID"}),
    "gradient of 8 examples": ((8, 12, 16, 24), (3, 3, 24, 40), {}),
    "gradient of 4 examples": ((4, 12, 16, 24), (3, 3, 24, 40), {}),
    "gradient of 6 examples": ((6, 17, 32, 8), (2, 3, 8, 16), {"padding": "VALID"}),
    "gradient of a line": ((12, 40, 24), (9, 24, 40), {"padding": "VALID"}),
    "gradient of a volume": ((8, 5, 6, 8, 12), (3, 3, 3, 12, 16), {}),
    "gradient of groups": ((8, 12, 16, 48), (3, 3, 24, 48), {"feature_group_count": 2}),
    "gradient of a stride": ((8, 16, 16, 24), (3, 3, 24, 40), {"strides": 2}),
    "one column of taps": ((3, 19, 16, 12), (16, 1, 12, 64), {"padding": ((0, 1), (0, 0))}),
    "one column of taps, strided": (
        (8, 19, 64, 8), (16, 1, 8, 64), {"strides": 2, "padding": ((0, 1), (0, 0))},
    ),
    "gradient of a line, odd": ((8, 53, 24), (3, 24, 64), {}),
    "wide window": ((3, 20, 20, 8), (2, 16, 8, 24), {}),
    "long line": ((3, 60, 4), (32, 4, 24), {}),
    "two strides": (
        (3, 7, 9, 6), (2, 5, 6, 16), {"strides": (1, 2), "kernel_dilation": (1, 2)},
    ),
    "two strides, a column": (
        (1, 3, 33, 24), (1, 16, 24, 16), {"strides": (3, 1), "padding": ((-1, 1), (-1, 3))},
    ),
    "three strides": (
        (2, 8, 6, 9, 1), (3, 1, 4, 1, 4),
        {"strides": (3, 2, 1), "kernel_dilation": (2, 1, 2), "padding": ((0, 2), (0, 2), (2, 0))},
    ),
    "one column": (
        (1, 80, 82, 10), (40, 28, 10, 16),
        {"strides": 2, "kernel_dilation": (1, 3), "padding": ((0, 3), (1, 0))},
    ),
    "one plane": ((2, 1, 5, 7, 7), (3, 2, 3, 7, 18), {"padding": ((2, 2), (1, 0), (2, 2))}),
    "gradient of one plane": ((7, 2, 8, 5, 1), (2, 8, 5, 1, 3), {"padding": "VALID"}),
    "a window outside": ((1, 4, 12), (3, 12, 1), {"strides": 3, "padding": ((2, 4),)}),
    "a padded tap": ((1, 9, 3), (1, 3, 8), {"strides": 3, "padding": ((0, 4),)}),
    "a dilated tap": (
        (3, 9, 5, 24), (4, 1, 24, 16),
        {"strides": 2, "kernel_dilation": 2, "padding": ((4, 4), (4, 4))},
    ),
}  # fmt: skip
LAYERS = {
    "convjax": convjax.conv,
    "lax": functools.partial(convjax.conv, algorithm="direct"),  # lax's own equation
}


@needed
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("library", LAYERS)
@pytest.mark.parametrize("name", FAULTY)
def test_what_onednn_computes_wrongly_is_right(name, library, dtype):
    """Of lax's convolutions under `convjax.jit`, too, and in a loop."""
    x, kernel, options = FAULTY[name]
    conv = functools.partial(LAYERS[library], **options)
    program, operands = roles(conv, *drawn(x, kernel, dtype))["training"]
    wanted = jax.jit(program)(*operands)

    def repeated(*operands):
        return jax.lax.scan(lambda carry, _: (carry, program(*carry)), operands, length=2)[1]

    for function in (program, lambda *given: jax.tree.map(lambda v: v[1], repeated(*given))):
        found = convjax.jit(function)(*operands)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(np.float32(a), np.float32(b))


def any_convolution(rng):
    """Shapes and options of a small convolution with any strides, dilation and padding."""
    rank = int(rng.choice([1, 2, 2, 3]))
    most = {1: 64, 2: 32, 3: 8}[rank]
    window = rng.choice([1, 2, 3, 4, 5, 8, 12, 16, 24, 32, 64], rank).clip(max=most)
    dilation, strides = rng.choice([1, 1, 1, 2, 3], rank), rng.choice([1, 1, 2, 3, 4, 8], rank)
    if rng.random() < 0.5:
        strides[:] = strides[0]
    space = (window - 1) * dilation + 1 + rng.choice([0, 1, 2, 5, 17], rank)
    padding = rng.integers(0, 5, (rank, 2))
    if rng.random() < 0.3:  # as in the gradient of an input: a window may be longer than the input
        space = rng.choice([1, 1, 2, 5, 9], rank)
        padding[:] = ((window - 1) * dilation)[:, None]
    if rng.random() < 0.3:  # one place of the window on the last axis
        space[-1], padding[-1] = (window[-1] - 1) * dilation[-1] + 1, 0
    i, o = int(rng.choice([1, 1, 2, 3, 4, 8, 12, 14, 16, 24])), int(rng.choice([1, 4, 16, 24]))
    whole = lambda numbers: tuple(map(int, numbers))  # noqa: E731
    options = {
        "strides": whole(strides),
        "kernel_dilation": whole(dilation),
        "padding": tuple(whole(pair) for pair in padding),
    }
    return (int(rng.choice([1, 3, 8])), *whole(space), i), (*whole(window), i, o), options


@needed
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("seed", range(60))
def test_any_convolution_is_right(seed, dtype):
    """The search that found what oneDNN computes wrongly; more seeds search longer. Every other
    convolution is lax's own, under `convjax.jit`."""
    x, kernel, options = any_convolution(np.random.default_rng(seed))
    conv = functools.partial(LAYERS["lax" if seed % 2 else "convjax"], **options)
    x, kernel = drawn(x, kernel, dtype)
    wanted = jax.jit(conv)(x.astype(jnp.float32), kernel.astype(jnp.float32)).astype(dtype)
    found = convjax.jit(conv)(x, kernel)
    np.testing.assert_array_equal(np.float32(found), np.float32(wanted))


@pytest.mark.parametrize(
    "changes, devices, wanted",
    [
        ({}, 1, False),
        ({"o": 1, "window": (1, 1)}, 1, True),  # the gradient of its kernel
        ({"o": 2, "window": (1, 1)}, 1, False),
        ({"o": 2, "window": (1, 1)}, 2, True),  # of a part
        ({"o": 2, "window": (1, 2)}, 2, False),
        ({"o": 1, "window": (28, 28), "out_space": (1, 1)}, 1, True),
        ({"i": 1, "space": (1, 1)}, 1, True),  # the gradient of its input
        ({"i": 1, "strides": (1, 2), "out_space": (28, 1)}, 1, True),
        ({"i": 2, "strides": (1, 2), "out_space": (28, 1)}, 1, False),
        ({"i": 1, "strides": (1, 1), "out_space": (28, 1)}, 1, False),
        ({"n": 1, "kernel_dilation": (2, 2), "window": (3, 1)}, 1, True),  # its kernel's
        ({"n": 1, "kernel_dilation": (2, 1), "window": (3, 1)}, 1, False),
        ({"o": 1, "input_dilation": (1, 2), "space": (9, 1)}, 1, True),  # its input's
    ],
)
def test_which_convolutions_of_lax_may_be_wrong(changes, devices, wanted):
    assert onednn_faults.may_be_wrong_in_float32(problem(**changes), devices) == wanted


@needed
def test_gradients_of_a_program_of_lax_are_right():
    """``jax.grad`` from outside of `convjax.jit` makes convolutions that its program has not."""
    x, kernel, options = FAULTY["gradient of 8 examples"]
    x, kernel = drawn(x, kernel, "bfloat16")

    @jax.custom_jvp
    def scaled(y):
        return 2 * y

    scaled.defjvp(lambda primals, tangents: (2 * primals[0], 2 * tangents[0]))

    def loss(kernel):
        y = convjax.conv(x, kernel, algorithm="direct", **options)
        return scaled(y).astype(jnp.float32).sum()

    wanted = jax.jit(jax.grad(loss))(kernel)
    for accelerated in (loss, convjax.accelerate(loss)):
        found = jax.grad(convjax.jit(accelerated))(kernel)
        np.testing.assert_array_equal(np.float32(found), np.float32(wanted))


@needed
def test_other_convolutions_of_lax_stay():
    """`convjax.jit` accelerates no program: it executes what may be wrong."""
    x, kernel, options = FAULTY["gradient of groups"]

    def program(x, kernel):
        return convjax.conv(x, kernel, algorithm="direct", **options)

    def rebound(dtype):
        text = str(convjax.jit(program).trace(*drawn(x, kernel, dtype)).jaxpr)
        return "conv_general_dilated" not in text

    assert rebound("bfloat16") and rebound("float16") and not rebound("float32")


@needed
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_many_terms_are_added(dtype):
    """XLA gave oneDNN 40 terms to add to the first product, and oneDNN ended the process."""
    conv = functools.partial(convjax.conv, algorithm="matmul")
    x, kernel = drawn((2, 60, 16), (40, 16, 8), dtype)
    found, wanted = convjax.jit(conv)(x, kernel), convjax.conv(x, kernel, algorithm="direct")
    np.testing.assert_array_equal(np.float32(found), np.float32(wanted))


@needed
def test_what_follows_a_product_joins_it():
    """A large 1x1 convolution is a product of matrices. XLA gives oneDNN the bias and the
    activation with it."""
    x, kernel = jnp.ones((2, 32, 32, 64)), jnp.ones((1, 1, 64, 128))
    layer = convjax.jit(lambda x, kernel, bias: jax.nn.relu(convjax.conv(x, kernel) + bias))
    text = layer.lower(x, kernel, jnp.ones(128)).compile().as_text()
    (call,) = (line for line in text.splitlines() if "__onednn$matmul" in line)
    assert '"BIAS","RELU"' in call and " fusion(" not in text


@needed
def test_a_large_product_is_given_to_onednn_in_every_direction():
    """In bfloat16, too, if the processor has AMX; sums of many terms keep float32's accuracy."""
    for dtype in ["float32", "bfloat16"][: 1 + Target.here("cpu").amx]:
        x, kernel = drawn((8, 32, 32, 64), (1, 1, 64, 128), dtype)
        program, operands = roles(convjax.conv, x, kernel)["training"]
        text = convjax.jit(program).lower(*operands).compile().as_text()
        assert text.count('"__onednn$matmul"') == 3 and CALL not in text
        wanted = jax.jit(program)(*(v.astype(jnp.float32) for v in operands))
        for a, b in zip(convjax.jit(program)(*operands), wanted, strict=True):
            np.testing.assert_array_equal(np.float32(a), np.float32(b.astype(dtype)))


@needed
@pytest.mark.skipif(jax.device_count() < 4, reason="needs 4 devices")
def test_parts_of_a_product_are_added_before_they_are_rounded():
    """The gradient of a 1x1 kernel, of examples that XLA splits over devices."""
    numbers = [oracle.integers(seed, (64, 16, 16, 32), np.float32, 9) for seed in (0, 1)]
    x, y = (jnp.asarray(array, jnp.bfloat16) for array in numbers)
    kernel = jax.ShapeDtypeStruct((1, 1, 32, 32), jnp.bfloat16)

    def gradient(x, y):
        return jax.linear_transpose(lambda k: convjax.conv(x, k), kernel)(y)[0]

    wanted = np.einsum("nhwi,nhwo->io", *numbers)
    mesh = jax.make_mesh((4,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    split = [jax.device_put(v, jax.NamedSharding(mesh, jax.P("a"))) for v in (x, y)]
    for operands in ((x, y), split):
        found = convjax.jit(gradient)(*operands)
        np.testing.assert_array_equal(np.float32(found[0, 0]), np.float32(jnp.bfloat16(wanted)))
