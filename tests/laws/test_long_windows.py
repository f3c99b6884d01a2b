"""Depthwise convolutions of sequences by hundreds of taps: `taps` equals `direct`, exactly.

Results of a channel lie side by side there, and a turn of the loop sums several taps.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import convjax
import convjax.lax
from convjax._lowerings import taps as lowering

CASES = {  # input, kernel, options
    "causal": ((1, 130, 3), (67, 1, 3), {"padding": "CAUSAL"}),
    "longer than the sequence": ((2, 70, 3), (100, 1, 3), {"padding": "CAUSAL"}),
    "same": ((3, 150, 2), (80, 1, 2), {"padding": "SAME"}),
    "dilated": ((1, 230, 2), (65, 1, 2), {"padding": "CAUSAL", "kernel_dilation": 2}),
    "two outputs": ((2, 140, 3), (70, 1, 6), {"padding": "SAME"}),
    "two inputs": ((2, 140, 4), (70, 2, 4), {"padding": "SAME"}),
    "no padding": ((1, 200, 2), (66, 1, 2), {"padding": "VALID"}),
    "cropped": ((1, 200, 2), (66, 1, 2), {"padding": [(-3, 70)]}),
}


def operands(shape, kernel, dtype=jnp.float32):
    return (
        jnp.asarray(oracle.integers(0, shape), dtype),
        jnp.asarray(oracle.integers(1, kernel), dtype),
    )


def conv(x, kernel, algorithm, **options):
    groups = x.shape[-1] // kernel.shape[-2]
    return convjax.conv(x, kernel, feature_group_count=groups, algorithm=algorithm, **options)


@pytest.fixture
def no_rows(monkeypatch):
    """Sums over rows, the other form of kernels' gradients, fail."""
    monkeypatch.setattr(
        lowering.row_sums, "kernel_gradient_by_rows", lambda *_: pytest.fail("by rows")
    )


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, request):
    shape, window, options = CASES[name]
    if name != "dilated":  # whose gradient would read every second element of a row
        request.getfixturevalue("no_rows")
    x, kernel = operands(shape, window)
    found, pull = jax.vjp(partial(conv, algorithm="taps", **options), x, kernel)
    wanted, right = jax.vjp(partial(conv, algorithm="direct", **options), x, kernel)
    np.testing.assert_array_equal(found, wanted)
    y = jnp.asarray(oracle.integers(2, wanted.shape), jnp.float32)
    for one, other in zip(pull(y), right(y), strict=True):
        np.testing.assert_array_equal(one, other)


def test_blocks_of_turns():
    """1300 taps: 4 before all turns, 17 turns, and 2 blocks of 32 turns."""
    x, kernel = operands((1, 80, 2), (1300, 1, 2))
    found, wanted = (conv(x, kernel, name, padding=[(1299, 30)]) for name in ("taps", "direct"))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
def test_other_dtypes(dtype, no_rows):
    x, kernel = operands((2, 130, 3), (67, 1, 3), dtype)
    found, wanted = (conv(x, kernel, name, padding="CAUSAL") for name in ("taps", "direct"))
    assert found.dtype == wanted.dtype == dtype
    np.testing.assert_array_equal(found, wanted)


def test_channels_first():
    x, kernel = operands((2, 3, 130), (3, 1, 67))
    axes = ("NCH", "OIH", "NCH")
    call = partial(
        convjax.conv_general_dilated,
        window_strides=(1,), padding=[(66, 0)], dimension_numbers=axes, feature_group_count=3,
    )  # fmt: skip
    wanted = jax.lax.conv_general_dilated(
        x, kernel, (1,), [(66, 0)], dimension_numbers=axes, feature_group_count=3
    )
    np.testing.assert_array_equal(call(x, kernel), wanted)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["input", "kernel"])
def test_what_is_not_finite_reaches_its_taps_only(bad, where):
    x, kernel = operands((2, 130, 3), (67, 1, 3))
    x, kernel = (
        (x.at[1, 40, 2].set(bad), kernel) if where == "input" else (x, kernel.at[9, 0, 2].set(bad))
    )
    found, wanted = (conv(x, kernel, name, padding="CAUSAL") for name in ("taps", "direct"))
    np.testing.assert_array_equal(found, wanted)
    assert np.isfinite(found[..., :2]).all() and not np.isfinite(found[..., 2]).all()


def turns(function, *shapes):
    """The bound of every loop of the lowered program."""
    operands = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(function).lower(*operands).as_text()
    assert "stablehlo.while" in text
    conditions = re.findall(r"cond \{(.*?)\} do", text, re.DOTALL)
    return [int(n) for each in conditions for n in re.findall(r"dense<(\d+)> : tensor<i32>", each)]


def test_a_turn_has_many_taps():
    """1030 taps: 2 blocks of 32 turns of 16 taps, and 6 before them. The gradient has 500 taps, of
    two examples: 62 turns of 8, which are less than two blocks, and 4 before them."""
    causal = partial(conv, algorithm="taps", padding="CAUSAL")
    assert turns(causal, (1, 500, 3), (1030, 1, 3)) == [2, 32]

    def gradient(x, y):
        kernel = jax.ShapeDtypeStruct((1030, 1, 3), jnp.float32)
        return jax.linear_transpose(lambda kernel: causal(x, kernel), kernel)(y)[0]

    assert turns(gradient, (2, 500, 3), (2, 500, 3)) == [62]


def test_short_rows_are_summed_otherwise():
    """Few results have nothing to put side by side, and few taps are no loop."""
    causal = partial(conv, algorithm="taps", padding="CAUSAL")
    for length, taps, is_long in ((300, 65, True), (300, 64, False), (40, 90, False)):
        text = jax.jit(causal).lower(*operands((1, length, 3), (taps, 1, 3))).as_text()
        assert (f"tensor<1x1x3x{length}xf32>" in text) == is_long


def test_sums_of_sums():
    """30,000 products for each kernel element: those of a turn, and of a block of turns, have a sum
    of their own. lax's error is 3e-7 to 4e-7 here; one sum of the sums of turns was 1.4e-6 off."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 1, 30_000, 4))
    kernel = np.zeros((66, 1, 4))

    def gradient(x, y, algorithm):
        causal = partial(conv, x, algorithm=algorithm, padding="CAUSAL")
        (found,) = jax.vjp(causal, jnp.asarray(kernel, x.dtype))[1](y)
        return np.asarray(found, np.float64)

    with jax.enable_x64(True):
        exact = gradient(jnp.asarray(x), jnp.asarray(y), "taps")
    found = gradient(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), "taps")
    assert np.abs(found - exact).max() <= 5e-7 * np.abs(exact).max()


def test_no_spatial_axes():
    """`taps` is chosen; nothing is long there, and nothing fails."""
    x, kernel = operands((2, 3), (1, 3))
    call = partial(
        convjax.conv_general_dilated,
        window_strides=(), padding=[], dimension_numbers=("NC", "IO", "NC"), feature_group_count=3,
    )  # fmt: skip
    assert convjax.explain(call, x, kernel, platform="cpu").rows[0].lowering == "taps"
    np.testing.assert_array_equal(call(x, kernel), np.asarray(x) * np.asarray(kernel))
