"""Law "lowerings": each one, forced, equals `direct`."""

import dataclasses
from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import strategies

import convjax
import convjax.lax
from convjax._lowerings import LOWERINGS, select
from convjax._operation import grouping, primitive

# test_pallas.py has the kernels, which are interpreted here.
OTHERS = [name for name in LOWERINGS if name not in ("direct", "pallas")]


@pytest.fixture(params=OTHERS)
def forced(request, monkeypatch):
    """A lowering's name, chosen wherever it accepts; and the calls of its `run`, one entry each."""
    name, calls = request.param, []
    lowering, chosen = LOWERINGS[name], select.select

    def counted(x, kernel, call):
        calls.append(call.geometry)
        return lowering.run(x, kernel, call)

    def choose(problem, target):
        if lowering.accepts(problem) is None:
            return select.Choice(name, "forced by a test")
        return chosen(problem, target)

    monkeypatch.setitem(LOWERINGS, name, dataclasses.replace(lowering, run=counted))
    monkeypatch.setattr(select, "select", choose)
    for kept in (primitive._compiled, grouping._once):  # outside jit, what was compiled is kept
        kept.cache_clear()
    yield name, calls
    for kept in (primitive._compiled, grouping._once):
        kept.cache_clear()


def assert_same(found, wanted, name):
    """Exactly, except where the lowering rounds."""
    exact = LOWERINGS[name].exact

    def compare(a, b):
        if exact:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max(initial=0)))

    jax.tree.map(compare, found, wanted)


def derivatives(function, x, kernel, y):
    """Values, both gradients, the tangent, a second-order mix, and `vmap` over each operand."""
    value, pull = jax.vjp(function, x, kernel)
    _, tangent = jax.jvp(function, (x, kernel), (x + 1, kernel - 2))
    energy = lambda x, kernel: jnp.vdot(function(x, kernel), y)  # noqa: E731
    mixed = jax.jvp(lambda kernel: jax.grad(energy)(x, kernel), (kernel,), (kernel + 1,))[1]
    both = jnp.stack([x, x - 1]), jnp.stack([kernel, 2 - kernel])
    mapped = [
        jax.vmap(function, axes)(
            *(m if a == 0 else p for m, p, a in zip(both, (x, kernel), axes, strict=True))
        )
        for axes in ((0, None), (None, 0), (0, 0))
    ]
    mapped.append(jax.vmap(function)(x[None], kernel[None]))
    per_example = jax.vmap(jax.grad(energy, 1))(*both)
    return value, pull(y), tangent, mixed, mapped, per_example


def of_transposed(function, y, kernel, u):
    """Values and both gradients."""
    return function(y, kernel), jax.vjp(function, y, kernel)[1](u)


_WANTED = {}


def by_lax(law, function, configuration, *operands):
    """`law` of `function`, executed by lax; the lowerings are all shown the same few draws."""
    key = law, repr(configuration)
    if key not in _WANTED:
        lax = partial(function, **configuration.options, algorithm="direct")
        _WANTED[key] = jax.jit(partial(law, lax))(*operands)
    return _WANTED[key]


def test_forced_equals_direct(forced):
    """Exactly, on integers, over the whole space of configurations."""
    name, calls = forced

    @hypothesis.settings(max_examples=8)
    @hypothesis.given(strategies.convolutions())
    def law(configuration):
        x, kernel, y = map(jnp.asarray, configuration.numbers())
        ours = partial(convjax.conv, **configuration.options)
        with jax.default_matmul_precision("highest"):
            found = jax.jit(partial(derivatives, ours))(x, kernel, y)
            wanted = by_lax(derivatives, convjax.conv, configuration, x, kernel, y)
        assert_same(found, wanted, name)

    law()
    # test_tiles and test_reshaped.py have what these accept.
    assert len(calls) > {"patchify": 0}.get(name, 5) or name == "reshaped"


def test_forced_transposed_equals_direct(forced):
    name, calls = forced

    @hypothesis.settings(max_examples=10)
    @hypothesis.given(strategies.transposed())
    def law(configuration):
        u, kernel, y = map(jnp.asarray, configuration.numbers())
        ours = partial(convjax.conv_transpose, **configuration.options)
        found = jax.jit(partial(of_transposed, ours))(y, kernel, u)
        wanted = by_lax(of_transposed, convjax.conv_transpose, configuration, y, kernel, u)
        assert_same(found, wanted, name)

    law()


# A convolution that each lowering accepts forward, and its gradients where they are its own.
ACCEPTED = {
    "channels_last": ((2, 7, 6, 3), (3, 2, 3, 5), {"strides": (2, 1)}),
    "batch_as_space": (
        (2, 7, 6, 4),
        (3, 2, 2, 6),
        {"feature_group_count": 2, "strides": (2, 1), "padding": ((-1, 2), (1, -1))},
    ),
    "commuted": ((2, 7, 6, 4), (3, 2, 2, 6), {"feature_group_count": 2, "strides": (2, 1)}),
    "symmetric": ((2, 7, 6, 3), (3, 2, 3, 5), {"strides": (2, 1)}),
    "reshaped": ((2, 5, 6, 3), (3, 2, 3, 5), {"strides": 2}),
    "taps": ((2, 7, 6, 4), (3, 2, 2, 6), {"feature_group_count": 2}),
    "matmul": ((2, 7, 6, 3), (3, 2, 3, 5), {"kernel_dilation": 2}),
    "patchify": ((2, 6, 8, 3), (3, 2, 3, 5), {"strides": (3, 2)}),
    "per_group": ((2, 7, 6, 6), (3, 2, 2, 6), {"feature_group_count": 3}),
    "block_diagonal": ((2, 7, 6, 4), (3, 2, 2, 6), {"feature_group_count": 2}),
    "polyphase": ((2, 5, 4, 3), (3, 4, 3, 5), {"input_dilation": (2, 3)}),
    "depth_fold": ((2, 5, 7, 6, 3), (2, 3, 2, 3, 5), {"strides": (2, 1, 1)}),
    "depth_sum": ((2, 5, 7, 6, 3), (2, 3, 2, 3, 5), {"strides": (2, 1, 1)}),
    "spread_rows": ((2, 7, 6, 3), (3, 2, 3, 5), {"strides": (2, 1)}),
    "stacked_sum": (
        (2, 7, 6, 4),
        (4, 5, 2, 6),
        {"feature_group_count": 2, "strides": (2, 1), "padding": ((-1, 2), (1, -1))},
    ),
    "fft": ((2, 7, 6, 4), (3, 2, 2, 6), {"feature_group_count": 2, "kernel_dilation": 2}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_lowering_computes_what_it_accepts(name, monkeypatch):
    shape, kernel_shape, options = ACCEPTED[name]
    x = jnp.asarray(oracle.integers(0, shape))
    kernel = jnp.asarray(oracle.integers(1, kernel_shape))
    lowering, calls = LOWERINGS[name], []

    def counted(x, kernel, call):
        calls.append(call.role)
        return lowering.run(x, kernel, call)

    monkeypatch.setitem(LOWERINGS, name, dataclasses.replace(lowering, run=counted))
    value, pull = jax.vjp(jax.jit(partial(convjax.conv, **options, algorithm=name)), x, kernel)
    wanted = oracle.conv(np.asarray(x), np.asarray(kernel), **options)
    assert_same(np.asarray(value), wanted, name)
    _, pulled = jax.vjp(jax.jit(partial(convjax.conv, **options, algorithm="direct")), x, kernel)
    y = jnp.asarray(oracle.integers(2, value.shape))
    assert_same(pull(y), pulled(y), name)
    assert "forward" in calls


@pytest.mark.parametrize(
    "dtype",
    [jnp.float16, jnp.bfloat16, jnp.complex64, jnp.int32, jnp.int16, jnp.uint16],
)
@jax.numpy_dtype_promotion("strict")
@jax.numpy_rank_promotion("raise")
def test_forced_dtypes(forced, dtype):
    name, calls = forced
    groups = 1 if name in ("depth_fold", "depth_sum", "spread_rows") else 2
    options = {"feature_group_count": groups, "strides": 2}
    if name == "polyphase":
        options["input_dilation"] = 3
    if name in ("patchify", "stacked_sum"):  # tiles; a result of few elements
        options["strides"] = (3, 2)
    x = jnp.asarray(abs(oracle.integers(0, (2, 7, 6, 4))), dtype)
    kernel = jnp.asarray(abs(oracle.integers(1, (3, 2, 4 // groups, 6))), dtype)
    y = convjax.conv(x, kernel, **options)
    wanted = oracle.conv(np.asarray(x), np.asarray(kernel), **options)
    if name == "fft" and not jnp.issubdtype(dtype, jnp.inexact):
        assert not calls
        return
    assert y.dtype == dtype and calls
    if name == "fft":
        np.testing.assert_allclose(np.asarray(y, np.complex128), wanted, atol=1e-4)
    else:
        np.testing.assert_array_equal(np.asarray(y, np.complex128), wanted)
    if dtype == jnp.int32 and name != "patchify":
        calls.clear()
        narrow = (jnp.asarray(a, jnp.int8) for a in (x, kernel))
        wide = convjax.conv(*narrow, **options, preferred_element_type=jnp.int32)
        assert wide.dtype == jnp.int32 and calls
        np.testing.assert_array_equal(np.asarray(wide, np.complex128), wanted)


@pytest.mark.parametrize("groups", [1, 2])
def test_forced_logical_values(forced, groups):
    """`lax` convolves truth values, by "and" and "or"."""
    x = oracle.integers(0, (2, 4, 7, 6)) > 1
    kernel = oracle.integers(1, (6, 4 // groups, 3, 2)) > 1
    arguments = {"window_strides": (2, 1), "padding": "SAME", "feature_group_count": groups}
    found = convjax.lax.conv_general_dilated(x, kernel, **arguments)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, jax.lax.conv_general_dilated(x, kernel, **arguments))


def test_a_16_bit_sum_keeps_float32_accuracy(forced):
    name, calls = forced
    long = 4096
    x = jnp.ones((1, 4, long), jnp.bfloat16).at[0, :, 1:].set(2**-9)
    kernel = jnp.ones((1, long, 1), jnp.bfloat16)
    options = {}
    if name == "taps":  # one channel, a long window
        x, kernel = jnp.swapaxes(x, 1, 2)[..., :1], jnp.swapaxes(kernel, 0, 1)
        options = {"padding": "VALID"}
    elif name in ("per_group", "block_diagonal"):
        x, kernel = jnp.concatenate([x, x], -1), jnp.concatenate([kernel, kernel], -1)
        options = {"feature_group_count": 2}
    elif name == "polyphase":
        options = {"input_dilation": 2}
    elif name == "reshaped":
        x, kernel = x.reshape(1, 8, long // 2), kernel.reshape(2, long // 2, 1)
        options = {"strides": 2}
    elif name in ("depth_fold", "depth_sum", "spread_rows"):
        x, kernel = x[:, None], kernel[None]
    y = convjax.conv(x, kernel, **options)
    assert calls and y.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(y.reshape(-1)[0]), 1 + (long - 1) * 2**-9, rtol=2**-8)
