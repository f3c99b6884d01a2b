"""Law "lowerings": what a GPU runs for short depthwise kernels, run here, equals lax."""

import dataclasses
from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import strategies as st
from jax.sharding import AxisType

import convjax
import convjax.lax
from convjax._lowerings import LOWERINGS
from convjax._lowerings.target import Target
from convjax._operation import grouping, primitive

CHOSEN = ("taps", "stacked_sum")


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """This machine chooses lowerings as for CUDA; the roles that `CHOSEN` ran for, by name."""
    ran = {name: [] for name in CHOSEN}

    def counted(name, x, kernel, call):
        ran[name].append(call.role)
        assert call.target.is_one_gpu
        return kept[name].run(x, kernel, call)

    kept = {name: LOWERINGS[name] for name in CHOSEN}
    for name in CHOSEN:
        lowering = dataclasses.replace(kept[name], run=partial(counted, name))
        monkeypatch.setitem(LOWERINGS, name, lowering)
    gpu = lambda _, split="nobody", options=None: Target.of("cuda", split=split)  # noqa: E731
    monkeypatch.setattr(Target, "here", gpu)
    caches = (primitive._compiled, grouping._once)  # outside jit, what was compiled is kept
    for cache in caches:
        cache.cache_clear()
    yield ran
    for cache in caches:
        cache.cache_clear()


@st.composite
def short(draw):
    """Shapes and options of a short depthwise kernel: whatever is padded, cropped or dilated."""
    size = partial(st.integers, 1)
    n, steps, channels, multiplier = (draw(size(most)) for most in (3, 12, 4, 2))
    channels += 1
    window = draw(size(8))
    options = {
        "feature_group_count": channels,
        "padding": (draw(st.tuples(st.integers(-2, 6), st.integers(-2, 6))),),
        **{name: draw(size(3)) for name in ("strides", "kernel_dilation", "input_dilation")},
    }
    (low, high), stride = options["padding"][0], options["strides"]
    reach = (window - 1) * options["kernel_dilation"] + 1
    outputs = ((steps - 1) * options["input_dilation"] + 1 + low + high - reach) // stride + 1
    hypothesis.assume(outputs > 0)
    x, kernel = (n, steps, channels), (window, 1, multiplier * channels)
    y = (n, outputs, multiplier * channels)
    if draw(st.booleans()):
        options["dimension_numbers"] = ("NCH", "OIH", "NHC")
        x, kernel = (n, channels, steps), (multiplier * channels, 1, window)
    return x, kernel, y, options


def derivatives(function, x, kernel, y):
    """Values, both gradients, second derivatives of both modes, and `vmap` over each operand."""
    value, pull = jax.vjp(function, x, kernel)
    energy = lambda x, kernel: jnp.vdot(function(x, kernel), y)  # noqa: E731
    gradients = jax.grad(energy, (0, 1))
    tangents = jax.jvp(gradients, (x, kernel), (x + 1, kernel - 2))[1]
    pulled = jax.vjp(gradients, x, kernel)[1]((x - 1, kernel + 2))
    both = jnp.stack([x, x - 1]), jnp.stack([kernel, 2 - kernel])
    mapped = [
        jax.vmap(gradients, axes)(
            *(m if a == 0 else p for m, p, a in zip(both, (x, kernel), axes, strict=True))
        )
        for axes in ((0, None), (None, 0), (0, 0))
    ]
    return value, pull(y), tangents, pulled, mapped


def assert_equal(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_gpu_computes_what_lax_does(as_on_a_gpu):
    """Exactly, on integers, in every derivative."""

    @hypothesis.settings(max_examples=8)
    @hypothesis.given(short())
    def law(drawn):
        *shapes, options = drawn
        x, kernel, y = (jnp.asarray(oracle.integers(i, shape)) for i, shape in enumerate(shapes))
        ours = partial(convjax.conv, **options)
        found = jax.jit(partial(derivatives, ours))(x, kernel, y)
        lax = partial(ours, algorithm="direct")
        assert_equal(found, jax.jit(partial(derivatives, lax))(x, kernel, y))

    law()
    assert {"forward", "input_gradient"} <= set(as_on_a_gpu["taps"])
    assert set(as_on_a_gpu["stacked_sum"]) == {"kernel_gradient"}


def test_grouped_batches(as_on_a_gpu):
    """`batch_group_count`: every group of the batch has channels of the result for itself."""
    x = jnp.asarray(oracle.integers(0, (6, 11, 1)))
    kernel = jnp.asarray(oracle.integers(1, (4, 1, 3)))
    options = {
        "window_strides": (2,), "padding": ((3, -1),), "rhs_dilation": (2,),
        "dimension_numbers": ("NHC", "HIO", "NHC"), "batch_group_count": 3,
    }  # fmt: skip
    y = jnp.asarray(oracle.integers(2, (2, 4, 3)))
    found, wanted = (
        jax.jit(partial(derivatives, partial(function, **options)))(x, kernel, y)
        for function in (convjax.lax.conv_general_dilated, jax.lax.conv_general_dilated)
    )
    assert_equal(found, wanted)
    assert as_on_a_gpu["taps"] and as_on_a_gpu["stacked_sum"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel_dilation": 2},
        {"strides": 3, "output_at": "last"},
        {"state": oracle.integers(5, (2, 3, 6))},
        {"segment_ids": np.arange(24).reshape(2, 12) // 5},
        {"dimension_numbers": ("NCH", "OIH", "NCH")},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_causal_training(as_on_a_gpu, options, dtype):
    """The gradients of input, kernel and bias are those that a CPU computes."""
    x, kernel, bias = (
        oracle.integers(i, shape) for i, shape in enumerate(((2, 12, 6), (4, 1, 6), (6,)))
    )
    if "dimension_numbers" in options:
        x, kernel = x.swapaxes(1, 2), kernel.transpose(2, 1, 0)
    operands = [jnp.asarray(a, dtype) for a in (x, kernel, bias)]
    if "state" in options:
        options = options | {"state": jnp.asarray(options["state"], dtype)}

    def loss(algorithm, x, kernel, bias):
        y = convjax.causal_conv(
            x, kernel, bias=bias, feature_group_count=6, algorithm=algorithm, **options
        )
        weights = jnp.asarray(oracle.integers(7, y.shape), y.dtype)
        return (jax.nn.relu(y) * weights).astype(jnp.float32).sum()

    found, wanted = (
        jax.jit(jax.value_and_grad(partial(loss, algorithm), (0, 1, 2)))(*operands)
        for algorithm in (None, "direct")
    )
    assert_equal(found, wanted)
    assert as_on_a_gpu["stacked_sum"] or "segment_ids" in options


def test_what_is_not_finite_stays_in_its_group(as_on_a_gpu):
    """A NaN or an infinity reaches the gradients of its channel, and of no other."""
    x = jnp.asarray(oracle.integers(0, (2, 9, 5))).at[1, 4, 2].set(jnp.inf)
    kernel = jnp.asarray(oracle.integers(1, (3, 1, 5)))
    y, pull = jax.vjp(partial(convjax.conv, feature_group_count=5, padding="CAUSAL"), x, kernel)
    _, found = pull(jnp.ones_like(y).at[0, 2, 0].set(jnp.nan))
    assert np.isfinite(found).all((0, 1)).tolist() == [False, True, False, True, True]
    assert np.isfinite(y).all((0, 1)).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_on_a_mesh(as_on_a_gpu, kind):
    """Every device computes its part of the batch and of time by the same lowerings."""
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(kind,) * 2)
    x, kernel, y = (
        jnp.asarray(oracle.integers(i, shape))
        for i, shape in enumerate(((4, 16, 6), (4, 1, 6), (4, 16, 6)))
    )

    def gradients(algorithm, x, kernel, y):
        function = partial(
            convjax.conv, padding="CAUSAL", feature_group_count=6, algorithm=algorithm
        )
        return jax.vjp(function, x, kernel)[1](y)

    wanted = jax.jit(partial(gradients, "direct"))(x, kernel, y)
    split = jax.NamedSharding(mesh, jax.P("a", "b"))
    x, y = jax.device_put((x, y), split)
    kernel = jax.device_put(kernel, jax.NamedSharding(mesh, jax.P()))
    with jax.set_mesh(mesh):
        assert_equal(jax.jit(partial(gradients, None))(x, kernel, y), wanted)
    assert as_on_a_gpu["taps"] and as_on_a_gpu["stacked_sum"]
