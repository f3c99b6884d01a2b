"""Law 6: every lowering, forced, equals `direct`; each rule of `select`, on both of its sides."""

from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import strategies

import convjax
from convjax.geometry import Geometry
from convjax.lowerings import LOWERINGS, select
from convjax.lowerings.call import Problem

OTHERS = [name for name in LOWERINGS if name != "direct"]


@pytest.fixture(params=OTHERS)
def forced(request, monkeypatch):
    """A lowering's name, chosen wherever it accepts; and the calls of its `run`, one entry each."""
    name, calls = request.param, []
    module, real, chosen = LOWERINGS[name], LOWERINGS[name].run, select.select

    def counted(x, kernel, call):
        calls.append(call.geometry)
        return real(x, kernel, call)

    def choose(problem, platform, mesh_axes):
        if module.accepts(problem) is None:
            return select.Choice(name, "forced by a test")
        return chosen(problem, platform, mesh_axes)

    monkeypatch.setattr(module, "run", counted)
    monkeypatch.setattr(select, "select", choose)
    return name, calls


def assert_same(found, wanted, name):
    """Exactly, except where the lowering rounds."""
    exact = getattr(LOWERINGS[name], "exact", True)

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
    per_example = jax.vmap(jax.grad(energy, 1))(*both)
    return value, pull(y), tangent, mixed, mapped, per_example


def test_forced_equals_direct(forced):
    """Exactly, on integers, over the whole space of configurations."""
    name, calls = forced

    @hypothesis.settings(max_examples=8)
    @hypothesis.given(strategies.convolutions())
    def law(configuration):
        x, kernel, y = map(jnp.asarray, configuration.numbers())
        ours = partial(convjax.conv, **configuration.options)
        lax = partial(convjax.conv, **configuration.options, algorithm="direct")
        with jax.default_matmul_precision("highest"):
            found = jax.jit(partial(derivatives, ours))(x, kernel, y)
            wanted = jax.jit(partial(derivatives, lax))(x, kernel, y)
        assert_same(found, wanted, name)

    law()
    assert len(calls) > 20


def test_forced_transposed_equals_direct(forced):
    name, calls = forced

    @hypothesis.settings(max_examples=10)
    @hypothesis.given(strategies.transposed())
    def law(configuration):
        u, kernel, y = map(jnp.asarray, configuration.numbers())
        ours = partial(convjax.conv_transpose, **configuration.options)
        lax = partial(convjax.conv_transpose, **configuration.options, algorithm="direct")
        found, wanted = (
            jax.jit(lambda y, kernel, u, f=f: (f(y, kernel), jax.vjp(f, y, kernel)[1](u)))(
                y, kernel, u
            )
            for f in (ours, lax)
        )
        assert_same(found, wanted, name)

    law()
    assert len(calls) > 4


@pytest.mark.parametrize(
    "dtype", [jnp.float16, jnp.bfloat16, jnp.complex64, jnp.int32, jnp.int16, jnp.uint16]
)
@jax.numpy_dtype_promotion("strict")
def test_forced_dtypes(forced, dtype):
    name, calls = forced
    x = jnp.asarray(abs(oracle.integers(0, (2, 7, 6, 4))), dtype)
    kernel = jnp.asarray(abs(oracle.integers(1, (3, 2, 2, 6))), dtype)
    y = convjax.conv(x, kernel, feature_group_count=2, strides=2, algorithm=name)
    wanted = oracle.conv(np.asarray(x), np.asarray(kernel), feature_group_count=2, strides=2)
    assert y.dtype == dtype and calls
    np.testing.assert_array_equal(np.asarray(y, np.complex128), wanted)
    wide = convjax.conv(
        jnp.asarray(x, jnp.int8) if dtype == jnp.int32 else x,
        jnp.asarray(kernel, jnp.int8) if dtype == jnp.int32 else kernel,
        feature_group_count=2,
        preferred_element_type=jnp.int32 if dtype == jnp.int32 else None,
        algorithm=name,
    )
    assert wide.dtype == dtype


def test_a_16_bit_sum_keeps_float32_accuracy(forced):
    name, _ = forced
    x = jnp.ones((1, 1, 4096), jnp.bfloat16).at[0, 0, 1:].set(2**-9)
    kernel = jnp.ones((1, 4096, 1), jnp.bfloat16)
    y = convjax.conv(x, kernel, algorithm=name)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(y[0, 0, 0]), 1 + 4095 * 2**-9, rtol=2**-8)


def test_many_outputs_are_looped_over():
    """More kernel elements than are unrolled: the gradient is still the same."""
    x = jnp.asarray(oracle.integers(0, (2, 14, 15, 6)))
    kernel = jnp.asarray(oracle.integers(1, (11, 9, 1, 6)))
    y = jnp.asarray(oracle.integers(2, (2, 14, 15, 6)))

    def gradient(algorithm):
        f = partial(convjax.conv, x, feature_group_count=6, algorithm=algorithm)
        return jax.vjp(f, kernel)[1](y)[0]

    found = gradient((None, None, "matmul"))
    np.testing.assert_array_equal(found, gradient("direct"))


# ---- select --------------------------------------------------------------------------------------


def problem(**changes):
    geometry = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1))
    usual = dict(
        n=8, groups=4, i=16, o=16, space=(28, 28), window=(3, 3), out_space=(28, 28),
        geometry=geometry, dtype=np.dtype("float32"), role="forward",
    )  # fmt: skip
    return Problem(**(usual | changes))


GRADIENT = {"role": "kernel_gradient", "window": (28, 28), "out_space": (3, 3)}


@pytest.mark.parametrize(
    "changes, platform, mesh_axes, wanted",
    [
        ({}, "cpu", 0, "direct"),
        ({}, "cpu", 2, "direct"),
        (GRADIENT, "cpu", 0, "matmul"),  # lax's would leak a NaN into other groups
        (GRADIENT | {"groups": 1}, "cpu", 0, "direct"),
        (GRADIENT, "cuda", 0, "direct"),
        (GRADIENT | {"groups": 1}, "cuda", 1, "direct"),
        (GRADIENT | {"groups": 1}, "cuda", 2, "matmul"),  # the partitioner would miscount
        (GRADIENT | {"groups": 1}, "tpu", 2, "matmul"),
        (GRADIENT | {"out_space": (64, 64)}, "cpu", 0, "matmul"),
        (GRADIENT | {"out_space": (64, 65)}, "cpu", 0, "direct"),
    ],
)
def test_select(changes, platform, mesh_axes, wanted):
    choice = select.select(problem(**changes), platform, mesh_axes)
    assert choice.name == wanted and choice.rule
    assert choice.runner_up == (None if wanted == "direct" else "direct")


@pytest.mark.parametrize("mesh_axes, wanted", [(0, "matmul"), (1, "direct"), (2, "direct")])
def test_only_partitionable_lowerings_over_several_devices(monkeypatch, mesh_axes, wanted):
    monkeypatch.setattr(LOWERINGS["matmul"], "partitionable", False)
    assert select.select(problem(**GRADIENT), "cpu", mesh_axes).name == wanted


def lowered(function, *operands):
    return jax.jit(function).lower(*operands).as_text()


def test_the_default_path_follows_select():
    """On either side of each rule the compiled text is that of the lowering chosen."""
    x, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 3, 4))
    grouped = lambda x, k: convjax.conv(x, k, feature_group_count=2).sum()  # noqa: E731
    dense = lambda x, k: convjax.conv(x[..., :3], k).sum()  # noqa: E731
    assert lowered(jax.grad(grouped, 1), x, kernel).count("dot_general") == 9
    assert "dot_general" not in lowered(jax.grad(dense, 1), x, kernel)
    assert "dot_general" not in lowered(grouped, x, kernel)

    for shape, wanted in (((8, 1), 0), ((4, 2), 9)):
        mesh = jax.make_mesh(shape, ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
        rows = jax.NamedSharding(mesh, jax.P(None, "a"))
        with jax.set_mesh(mesh):
            text = lowered(jax.grad(dense, 1), jax.device_put(x, rows), kernel)
        assert text.count("dot_general") == wanted


def test_triples_force_each_role():
    x, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 6, 4))

    def text(algorithm):
        function = partial(convjax.conv, algorithm=algorithm)
        return lowered(jax.grad(lambda x, k: function(x, k).sum(), (0, 1)), x, kernel)

    assert "convolution" not in text(("matmul", "matmul", "matmul"))
    assert text(("direct", "direct", "matmul")).count("stablehlo.convolution") == 1
    assert text((None, None, None)) == text(None)


def test_a_lowering_that_cannot_says_why():
    x, kernel = jnp.ones((1, 80, 80, 2)), jnp.ones((9, 9, 2, 3))
    message = (
        r"^conv: `algorithm` \(='matmul'\) cannot execute this convolution: its window \(9, 9\)"
    )
    with pytest.raises(ValueError, match=message):
        convjax.conv(x, kernel, algorithm="matmul")
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(convjax.conv, algorithm="matmul"), x, kernel)
    # derived operations use it where it can, and choose otherwise
    y, pull = jax.vjp(partial(convjax.conv, algorithm="matmul"), x, kernel[:3, :3])
    assert [g.shape for g in pull(y)] == [x.shape, (3, 3, 2, 3)]


def test_the_drop_in_may_take_laxs_place(monkeypatch):
    """Whoever puts our function where lax's stood does not send us round in circles."""
    monkeypatch.setattr(jax.lax, "conv_general_dilated", convjax.conv_general_dilated)
    x, kernel = jnp.ones((1, 3, 5, 6)), jnp.ones((2, 3, 3, 2))
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME")
    assert y.shape == (1, 2, 5, 6) and float(y[0, 0, 2, 2]) == 18
