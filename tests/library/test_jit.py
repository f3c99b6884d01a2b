"""jit and compiled_with: what is declared reaches every convolution, and nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convjax
from convjax._lowerings import probe
from convjax._lowerings.target import Target

OPTIONS = convjax.compiler_options("cpu", onednn=True)
ONEDNN = "xla_cpu_experimental_onednn_custom_call"
OFF = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}  # on every jaxlib
DECLARED = tuple(sorted(OFF.items()))
X, K = jnp.ones((2, 8, 8, 16)), jnp.ones((3, 3, 16, 16))


def conv(x, k):
    return convjax.conv(x, k)


def declared(function, *args):
    """What each convolution of the traced function was told."""
    jaxpr = jax.make_jaxpr(function)(*args)
    sites = convjax._programs.walk.walk(jaxpr)
    return [s.eqn.params["compiled_with"] for s in sites if s.eqn.primitive.name == "convjax_conv"]


def test_nothing_is_declared_by_itself():
    assert declared(conv, X, K) == [None]
    assert declared(jax.grad(lambda k: conv(X, k).sum()), K) == [None] * 2


def test_what_is_traced_in_the_context_keeps_it():
    with convjax.compiled_with(OFF):
        assert declared(conv, X, K) == [DECLARED]
    assert declared(convjax.compiled_with(OFF)(conv), X, K) == [DECLARED]
    assert declared(conv, X, K) == [None]


def test_functions_that_are_compiled_inside_are_traced_anew():
    inner = jax.jit(conv)
    assert declared(inner, X, K) == [None]
    assert declared(convjax.compiled_with(OFF)(lambda x: inner(x, K)), X) == [DECLARED]
    assert declared(inner, X, K) == [None]


def test_gradients_keep_what_the_convolution_was_told():
    """Also where they are transposed after the context was left."""
    with convjax.compiled_with(OFF):
        y, back = jax.vjp(conv, X, K)
    assert declared(back, y) == [DECLARED] * 2
    grad = jax.grad(lambda k: convjax.compiled_with(OFF)(conv)(X, k).sum())
    assert declared(jax.grad(lambda k: (grad(k) ** 2).sum()), K)[0] == DECLARED


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: jax.vmap(f, (None, 0)),
        jax.checkpoint,
        lambda f: lambda x, k: jax.lax.scan(lambda h, k: (f(h, k), None), x, k)[0],
        lambda f: lambda x, k: jax.jvp(lambda x: f(x, k[0]), (x,), (x,)),
        convjax.accelerate,
    ],
)
def test_under_transforms(transform):
    function = convjax.compiled_with(OFF)(transform(conv))
    kernels = jnp.stack([K, K])
    one = transform in (jax.checkpoint, convjax.accelerate)
    found = declared(function, X, K if one else kernels)
    assert found and set(found) == {DECLARED}


def test_accelerate_declares_of_lax():
    def model(x, k):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=numbers)

    inner = jax.jit(model)
    fast = convjax.accelerate(lambda x, k: inner(model(x, k), k))
    for _ in range(2):
        assert declared(convjax.compiled_with(OFF)(fast), X, K) == [DECLARED] * 2
        assert declared(fast, X, K) == [None] * 2


def test_the_same_jaxpr_under_two_declarations():
    """`accelerate` rewrites an inner jaxpr once for each."""
    inner = jax.jit(lambda x: jax.lax.conv(x, x, (1, 1), "SAME"))
    closed = jax.make_jaxpr(inner)(jnp.ones((4, 4, 3, 3)))
    fast = convjax.accelerate(jax.extend.core.jaxpr_as_fun(closed))
    x = jnp.ones((4, 4, 3, 3))
    assert declared(fast, x) == [None]
    assert declared(convjax.compiled_with(OFF)(fast), x) == [DECLARED]
    assert declared(fast, x) == [None]


# ---- jit -----------------------------------------------------------------------------------------


def test_jit_compiles_with_the_options_and_declares_them():
    seen = []

    @convjax.jit
    def function(x, k):
        seen.append(dict(convjax._core.declared.now()))
        return conv(x, k)

    np.testing.assert_array_equal(function(X, K), conv(X, K))
    assert seen == [OPTIONS]
    function(X, K)
    assert len(seen) == 1, "traced once"
    text = function.lower(X, K).compile().as_text()
    assert ("__onednn$convolution" in text) == (ONEDNN in OPTIONS)


def test_further_options_win():
    seen = []
    given = {"xla_backend_optimization_level": 0, "xla_cpu_prefer_vector_width": 256}

    @convjax.jit(compiler_options=given)
    def function(x):
        seen.append(dict(convjax._core.declared.now()))
        return x

    function(X)
    assert seen == [OPTIONS | given]


@pytest.mark.parametrize(
    "outer",
    [
        jax.jit,
        lambda f: lambda x, k: jax.lax.scan(lambda h, _: (f(h, k), None), x, None, length=2)[0],
        lambda f: jax.checkpoint(f),
        lambda f: lambda x, k: jax.vjp(f, x, k)[1](x),
        lambda f: jax.grad(lambda x, k: (f(x, k) ** 2).sum()),
        lambda f: jax.vmap(f, (None, 0)),
        lambda f: lambda x, k: jax.linearize(f, x, k)[1](x, k),
        lambda f: lambda x, k: jax.eval_shape(f, x, k).shape,
        convjax.accelerate,
        convjax.jit,
    ],
)
def test_jit_in_every_place(outer):
    """Alone it has options, which JAX refuses inside of other programs."""
    k = jnp.stack([K, K]) if "vmap" in repr(outer.__code__.co_names) else K
    got, wanted = outer(convjax.jit(conv))(X, k), outer(conv)(X, k)
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def test_an_error_of_the_function_stays():
    @convjax.jit
    def function(x):
        raise ValueError("its own words")

    with pytest.raises(ValueError, match="^its own words"):
        function(X)


def test_what_jax_jit_takes():
    @functools.partial(convjax.jit, static_argnames="times", donate_argnums=0)
    def function(x, times):
        return x * times

    assert function.__name__ == "function"
    x = X + 0
    np.testing.assert_array_equal(function(x, times=3), X * 3)
    assert x.is_deleted()
    assert function.eval_shape(X, times=2).shape == X.shape
    assert function.trace(X, times=2).jaxpr.out_avals[0].shape == X.shape
    function.clear_cache()

    class Model:
        @convjax.jit(static_argnums=0)
        def twice(self, x):
            return 2 * x

    np.testing.assert_array_equal(Model().twice(X), 2 * X)


def test_a_training_step_of_nnx():
    """As a function of the module's state: `nnx.jit` takes no options."""
    nnx = pytest.importorskip("flax.nnx")
    told = []

    def losses(jit):
        graph, state = nnx.split(convjax.nn.Conv(16, 16, (3, 3), rngs=nnx.Rngs(0)))

        def loss(state, x):
            told.append(convjax._core.declared.now())
            return (nnx.merge(graph, state)(x) ** 2).mean()

        @functools.partial(jit, donate_argnums=0)
        def step(state, x):
            found, gradient = jax.value_and_grad(loss)(state, x)
            return jax.tree.map(lambda p, g: p - 0.1 * g, state, gradient), found

        found = []
        for _ in range(3):
            state, value = step(state, X)
            found.append(float(value))
        return found

    found, wanted = losses(convjax.jit), losses(jax.jit)
    assert told == [tuple(sorted(OPTIONS.items())), None]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert found[2] < found[0]


def test_an_exported_program_is_lowered_as_if_nothing_was_declared():
    """Whoever calls it compiles it."""
    plain = jax.export.export(jax.jit(conv))(X, K).mlir_module()
    ours = jax.export.export(convjax.jit(conv))(X, K).mlir_module()

    def without_places(text):
        lines = (line.split(" loc(")[0] for line in text.splitlines())
        return [line for line in lines if not line.startswith("#loc")]

    assert without_places(ours) == without_places(plain)


def test_calls_outside_of_jit_are_compiled_with_what_is_declared(monkeypatch):
    seen = []
    jit = jax.jit
    monkeypatch.setattr(jax, "jit", lambda *a, **o: (seen.append(o), jit(*a, **o))[1])
    x = jnp.ones((1, 5, 7, 3))
    with convjax.compiled_with(OFF):
        y = convjax.conv(x, jnp.ones((3, 3, 3, 5)))
    assert y.shape == (1, 5, 7, 5)
    assert OFF in [options.get("compiler_options") for options in seen]


def test_several_devices(monkeypatch):
    """One device's part is lowered for what was declared."""
    from jax.sharding import NamedSharding, PartitionSpec

    if jax.device_count() < 2:
        pytest.skip("one device")
    mesh = jax.make_mesh((2,), ("batch",))
    asked = []
    here = Target.here

    def asking(platform, split="nobody", options=None):
        asked.append(options)
        return here(platform, split, options)

    monkeypatch.setattr(Target, "here", asking)
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("batch")))
    compiled = convjax.jit(lambda x: conv(x, K))
    np.testing.assert_array_equal(compiled(x), conv(X, K))
    assert tuple(sorted(OPTIONS.items())) in asked


def test_explain_reads_what_is_declared():
    found = convjax.explain(convjax.jit(conv), X, K)
    target = Target.here("cpu", options=tuple(sorted(OPTIONS.items())))
    assert found.note == target.note
    assert bool(found.note) == target.onednn


@pytest.mark.parametrize("wrong", [3, ["a"], {1: 2}, {"a": None}])
def test_wrong_options(wrong):
    with pytest.raises(TypeError, match="^compiled_with: `compiler_options`"):
        with convjax.compiled_with(wrong):
            pass
    with pytest.raises(TypeError, match="^jit: `compiler_options`"):
        convjax.jit(conv, compiler_options=wrong)


def test_what_is_no_function():
    with pytest.raises(TypeError, match="^jit: `fun`"):
        convjax.jit(3)
    with pytest.raises(TypeError, match="nonsense"):
        convjax.jit(conv, nonsense=1)


# ---- what this XLA knows -------------------------------------------------------------------------


def test_the_probe_sees_what_xla_does():
    assert not probe.calls_onednn((("xla_no_such_option", True),))
    assert not probe.calls_onednn(())
    knows = probe.calls_onednn(tuple(sorted(OPTIONS.items())))
    assert knows == (ONEDNN in OPTIONS)


def test_jaxlib_0_10_gets_no_onednn(monkeypatch):
    """It takes the option, and does nothing."""
    from convjax._lowerings import target

    if not target.installed().startswith("0.10."):
        monkeypatch.setattr(target, "installed", lambda: "0.10.2")
    assert ONEDNN not in convjax.compiler_options("cpu", onednn=True)


def test_a_jaxlib_without_onednn_gets_none(monkeypatch):
    """As on other processors, for which it is not built."""
    monkeypatch.setattr(probe, "calls_onednn", lambda options: False)
    assert ONEDNN not in convjax.compiler_options("cpu", onednn=True)


def test_onednn_is_asked_for():
    """Without lowerings for it, training steps would take longer."""
    assert ONEDNN not in convjax.compiler_options("cpu")
    with pytest.raises(TypeError, match="^compiler_options: `onednn`"):
        convjax.compiler_options("cpu", onednn="yes")


@pytest.mark.parametrize(
    "flags, on",
    [
        ("", False),
        (f"--{ONEDNN}", True),
        (f"--{ONEDNN}=true --xla_a=1", True),
        (f"--xla_a=1 --{ONEDNN}=1", True),
        (f"--{ONEDNN}=true --{ONEDNN}=false", False),
        (f"--{ONEDNN}_other=true", False),
    ],
)
def test_the_environment_is_seen(flags, on):
    from convjax._lowerings import target

    assert target.switches_onednn_on(flags) == on
    assert target.switches_onednn_on(target.spelled(((ONEDNN, on),))) == on


def test_the_target_says_what_was_assumed(monkeypatch):
    from convjax._lowerings import target

    there = Target.of("cpu", "0.12", onednn=True)
    assert there.onednn and not there.ynnpack and "oneDNN" in there.note
    for older_or_unknown in ("0.10.2", "0.99"):
        other = Target.of("cpu", older_or_unknown, onednn=True)
        assert not other.onednn and other.note
    assert Target.of("tpu", onednn=True) == Target.of("tpu")
    with pytest.raises(TypeError, match="^Target.of: `onednn`"):
        Target.of("cpu", onednn="yes")
    # YNNPACK comes first, where it is not kept away
    monkeypatch.setenv("XLA_FLAGS", "")
    target._here.cache_clear()
    assert not Target.here("cpu", options=((ONEDNN, True),)).onednn
    both = tuple(sorted((OFF | {ONEDNN: True}).items()))
    asked = Target.here("cpu", options=both)
    assert asked.onednn == (ONEDNN in OPTIONS)
    monkeypatch.setattr(probe, "calls_onednn", lambda options: False)
    target._here.cache_clear()
    assert not Target.here("cpu", options=both).onednn
    target._here.cache_clear()


def multiply_thrice(x, w):
    """Products of matrices in a loop, of several matrices, and their gradients."""
    again = jax.lax.scan(lambda y, _: (y @ w, None), x, length=2)[0]
    several = jnp.einsum("gij,gjk->gik", again.reshape(2, 4, 8), w.reshape(2, 8, 4))
    return jnp.einsum("gik,gjk->ij", several, several).sum()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_products_of_float16_are_computed_in_float32(dtype):
    """Where a processor has instructions for float16, oneDNN's reference code takes 800 times as
    long. Products of other types stay."""
    numbers = np.random.default_rng(0).integers(-2, 3, (2, 8, 8))
    x, w = jnp.asarray(numbers / 4, dtype)
    step = jax.value_and_grad(multiply_thrice, argnums=(0, 1))

    jaxpr = convjax.jit(step).trace(x, w).jaxpr
    products = [
        str(site.eqn.outvars[0].aval.dtype)
        for site in convjax._programs.walk.walk(jaxpr)
        if site.eqn.primitive is jax.lax.dot_general_p
    ]
    in_float32 = dtype == "float16" and ONEDNN in OPTIONS
    assert len(products) > 5 and set(products) == {"float32" if in_float32 else dtype}

    wanted = jax.jit(step)(x, w)
    from_outside = jax.grad(convjax.jit(multiply_thrice), argnums=(0, 1))(x, w)
    for found in (convjax.jit(step)(x, w), (wanted[0], from_outside)):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert a.dtype == b.dtype
            a, b = np.float32(a), np.float32(b)
            np.testing.assert_allclose(a, b, atol=2e-2 * np.abs(b).max())
