"""Sums of taps in strips: every output once, its own taps, no padding written, the same values."""

import itertools
from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import strategies
from hypothesis import strategies as st
from programs import lowered

import convjax
from convjax._core.geometry import Geometry
from convjax._lowerings import taps
from convjax._lowerings.tools.strips import strips
from convjax._operation import primitive


@pytest.fixture
def always(monkeypatch):
    """Strips for every size, as for large inputs."""
    monkeypatch.setattr(taps, "is_large", lambda x: True)
    monkeypatch.setattr(taps, "_BYTES_PER_PRODUCT", 1e-9)
    monkeypatch.setattr(taps, "_IN_STRIPS", 10**6)
    monkeypatch.setattr(taps, "_IN_STRIPS_OF_GRADIENTS", 10**6)
    primitive._compiled.cache_clear()
    yield
    primitive._compiled.cache_clear()


@hypothesis.given(
    stride=st.integers(1, 4),
    padding=st.tuples(st.integers(-3, 9), st.integers(-3, 9)),
    dilation=st.integers(1, 3),
    size=st.integers(1, 12),
    window=st.integers(1, 6),
)
def test_every_output_lies_in_the_strip_of_its_taps(stride, padding, dilation, size, window):
    geometry = Geometry((stride,), (padding,), (1,), (dilation,))
    (outputs,) = geometry.output_space((size,), (window,))
    hypothesis.assume(outputs > 0)
    (found,) = strips(geometry, (size,), (window,))
    assert [strip.begin for strip in found] == [0, *(strip.end for strip in found[:-1])]
    assert found[-1].end == outputs
    for strip in found:
        for output in range(strip.begin, strip.end):
            met = (output * stride + tap * dilation - padding[0] for tap in range(window))
            assert strip.taps == [tap for tap, element in enumerate(met) if 0 <= element < size]
    pairs = itertools.pairwise(strip.taps for strip in found)
    assert all(one != other or not one for one, other in pairs)


def everything(function, x, kernel, y):
    value, pull = jax.vjp(function, x, kernel)
    return value, pull(y)


def test_strips_equal_direct(always, monkeypatch):
    """Exactly, on integers, over the whole space of configurations."""
    made = []
    real = taps._strips_summed
    monkeypatch.setattr(taps, "_strips_summed", lambda *args: made.append(args[2]) or real(*args))

    @hypothesis.settings(max_examples=25)
    @hypothesis.given(strategies.convolutions())
    def law(configuration):
        x, kernel, y = map(jnp.asarray, configuration.numbers())
        results = [
            jax.jit(partial(everything, partial(convjax.conv, **configuration.options, **name)))(
                x, kernel, y
            )
            for name in ({"algorithm": "taps"}, {"algorithm": "direct"})
        ]
        jax.tree.map(np.testing.assert_array_equal, *results)

    law()
    assert any(geometry.reversal for geometry in made)  # as for gradients of inputs
    assert any(max(geometry.strides) > 1 for geometry in made)


@pytest.mark.parametrize("channels", [(1, 1), (1, 2), (2, 1), (2, 3)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": ((2, 0), (0, 3))},
        {"padding": ((-1, 2), (3, -2))},
        {"strides": (2, 3), "padding": ((2, 2), (1, 2))},
        {"kernel_dilation": (2, 3), "padding": ((2, 2), (3, 3))},
        {"padding": "VALID"},
        {"padding": ((0, 9), (8, 0))},  # outputs that meet nothing but padding
        {"padding": ((9, 9), (1, 1))},  # more outputs on an axis' borders than between them
    ],
)
def test_no_padding_is_written(always, channels, options):
    inputs, outputs = channels
    x = jnp.asarray(oracle.integers(0, (2, 16, 17, 4 * inputs)))
    kernel = jnp.asarray(oracle.integers(1, (3, 2, inputs, 4 * outputs)))
    options = {"feature_group_count": 4} | options
    ours = jax.jit(partial(convjax.conv, **options, algorithm="taps"))
    wanted = oracle.conv(np.asarray(x), np.asarray(kernel), **options)
    np.testing.assert_array_equal(ours(x, kernel), wanted)
    text = lowered(ours, x, kernel)
    assert not text.count_of("pad")
    assert bool(text.count_of("concatenate")) == (options.get("padding") != "VALID")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_small_inputs_are_padded(dtype):
    """Strips are code, which takes longer to compile than a small input takes to copy. An input is
    large from as many numbers on in any type of at most 32 bits."""
    x, kernel = jnp.ones((1, 16, 16, 4), dtype), jnp.ones((3, 3, 1, 4), dtype)
    ours = partial(convjax.conv, feature_group_count=4)
    assert lowered(ours, x, kernel).count_of("pad")
    large = jnp.ones((17, 64, 64, 4), dtype)
    assert not lowered(ours, large, kernel).count_of("pad")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_goes_where_laxs_goes(always, bad):
    """A weight's product with padding is a NaN; an input's reaches the outputs that meet it."""
    x = np.asarray(oracle.integers(0, (2, 7, 9, 3)))
    kernel = np.asarray(oracle.integers(1, (3, 3, 1, 6)))
    options = {"feature_group_count": 3, "padding": ((2, 1), (1, 3))}
    for at in ((0, 0, 0, 1), (1, 1, 0, 2), (2, 1, 0, 5)):
        worse = kernel.copy()
        worse[at] = bad
        results = [convjax.conv(x, worse, **options, algorithm=name) for name in ("taps", "direct")]
        np.testing.assert_array_equal(*results)
    x = x.copy()
    x[1, 0, 8, 1] = bad
    results = [convjax.conv(x, kernel, **options, algorithm=name) for name in ("taps", "direct")]
    np.testing.assert_array_equal(*results)


def test_strips_leave_no_tracer_behind(always):
    x, kernel = jnp.ones((2, 7, 8, 4)), jnp.ones((3, 3, 1, 4))
    with jax.checking_leaks():
        y = jax.jit(partial(convjax.conv, feature_group_count=4, algorithm="taps"))(x, kernel)
    assert y.shape == x.shape
