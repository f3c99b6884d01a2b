"""`accelerate`: the rewritten jaxpr, effects, arguments and results of any kind, and errors."""

import gc
import weakref
from functools import partial

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from accelerated import PROGRAMS, K, X, conv, count, same
from cases import equal
from jax import lax
from jax.experimental import io_callback

import convjax
from convjax._programs.rebind import rebound
from convjax._programs.walk import walk

KERNELS = np.stack([K, -K, K[::-1]])

# jax.extend.core has it since 0.11
check_jaxpr = jex.check_jaxpr if hasattr(jex, "check_jaxpr") else jax.core.check_jaxpr


# ---- the rewriting itself ----------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_jaxpr_is_well_typed_and_keeps_its_type(name):
    old = jax.make_jaxpr(PROGRAMS[name])(X, K)
    new = rebound(old)
    check_jaxpr(new.jaxpr)
    assert (new.in_avals, new.out_avals) == (old.in_avals, old.out_avals)
    assert rebound(new) is new
    assert rebound(old) is new  # so that what was compiled for it is found again


def test_without_convolutions_nothing_changes():
    jaxpr = jax.make_jaxpr(lambda x: lax.scan(lambda c, y: (c + y, c), x[0], x))(X)
    assert rebound(jaxpr) is jaxpr


def test_convolutions_already_ours_stay():
    ours = partial(convjax.conv, feature_group_count=2)
    jaxpr = jax.make_jaxpr(ours)(X, K)
    assert rebound(jaxpr) is jaxpr
    equal(convjax.accelerate(ours)(X, K), conv(X, K))


def test_nothing_is_kept_alive():
    function = jax.jit(lambda x, k: jax.nn.relu(conv(x, k)))
    jaxpr = jax.make_jaxpr(lambda x, k: function(x, k) + X)(X, K)
    new = rebound(jaxpr)
    dying = weakref.ref(jaxpr), weakref.ref(new)
    del jaxpr, new
    gc.collect()
    assert [ref() for ref in dying] == [None, None]


def test_a_jit_inside_is_compiled_once(caplog):
    function = convjax.accelerate(jax.jit(lambda x, k: conv(x, k) + 7))
    function(X, K)
    with jax.log_compiles():
        function(X, K)
    assert not [r for r in caplog.records if "Compiling" in r.getMessage()]


def test_parameters_and_name_scopes_stay():
    @partial(jax.jit, donate_argnums=0, keep_unused=True)
    def inner(x, kernel):
        with jax.named_scope("block"):
            return conv(x, kernel)

    with_jit = jax.checkpoint(lambda x, k: inner(x, k), prevent_cse=False)
    old, new = (jax.make_jaxpr(f)(X, K) for f in (with_jit, convjax.accelerate(with_jit)))

    def known(jaxpr):
        sites = [s for s in walk(jaxpr) if s.eqn.primitive.name in ("jit", "remat2", "checkpoint")]
        kept = ("name", "donated_invars", "inline", "prevent_cse", "in_shardings", "keep_unused")
        return [{k: s.eqn.params[k] for k in kept if k in s.eqn.params} for s in sites]

    assert known(old) == known(new) and any("donated_invars" in params for params in known(new))
    (site,) = [s for s in walk(new) if s.eqn.primitive.name == "convjax_conv"]
    assert site.where.endswith("block")
    assert "test_accelerate_details.py" in str(site.eqn.source_info.traceback)


# ---- effects -----------------------------------------------------------------------------------


def test_effects_happen_once_and_in_order(capfd):
    seen = []

    def function(x, kernel):
        def step(carry, i):
            carry = conv(carry, kernel)
            io_callback(lambda i, s: seen.append((int(i), float(s))), None, i, carry.sum(),
                        ordered=True)  # fmt: skip
            jax.debug.print("step {i} of {s}", i=i, s=carry[0, 0, 0, 0], ordered=True)
            return carry, None

        io_callback(lambda: seen.append("first"), None, ordered=True)
        return lax.scan(step, x, jnp.arange(3))[0]

    records = []
    for f in (function, jax.jit(convjax.accelerate(function)), convjax.accelerate(function)):
        jax.block_until_ready(f(X, K))
        jax.effects_barrier()
        records.append((list(seen), capfd.readouterr().out))
        seen.clear()
    assert records[0] == records[1] == records[2]
    assert len(records[0][0]) == 4 and records[0][1].count("step") == 3


def test_references_are_written():
    """A mutable array, as an argument and closed over."""
    reference = jax.new_ref(jnp.asarray(X))

    def write(to, scale):
        to[...] = scale * conv(to[...], K)
        return to[...].sum()

    found = convjax.accelerate(write)(reference, 2.0)
    equal(reference[...], 2 * conv(X, K))
    equal(found, (2 * conv(X, K)).sum())
    convjax.accelerate(lambda: write(reference, 1.0))()
    equal(reference[...], conv(2 * conv(X, K), K))


# ---- arguments and results ---------------------------------------------------------------------


def test_what_is_not_an_array_stays_what_it_is():
    def function(params, times, *, mode, activation=None, extra=()):
        assert type(times) is int and mode == "twice" and extra == ("a", None, 2.5)
        y = params["x"]
        for _ in range(times):
            y = activation(conv(y, params["kernel"]))
        return {"y": y, "mode": mode, "nothing": None, "activation": activation, "times": times}

    params = {"x": X, "kernel": K, "activation": jnp.tanh, "name": "layer", "none": None}
    options = {"mode": "twice", "activation": abs, "extra": ("a", None, 2.5)}
    found = convjax.accelerate(function)(params, 2, **options)
    wanted = function(params, 2, **options)
    equal(found.pop("y"), wanted.pop("y"))
    assert found == wanted and type(found["times"]) is int
    assert count(convjax.accelerate(function), params, 2, **options) == (0, 2)
    jitted = jax.jit(convjax.accelerate(lambda x, k, times: [conv(x, k)] * times),
                     static_argnames="times")  # fmt: skip
    assert len(jitted(X, K, times=3)) == 3


def test_dtypes_and_weak_types():
    x, kernel = jnp.asarray(X, jnp.bfloat16), jnp.asarray(K, jnp.bfloat16)

    def function(x, kernel, scale):
        return scale * conv(x, kernel), scale + 1

    for f in (convjax.accelerate(function), jax.jit(convjax.accelerate(function))):
        assert f(x, kernel, 2.0)[0].dtype == jnp.bfloat16
    types = [jax.eval_shape(f, x, kernel, 2.0) for f in (function, convjax.accelerate(function))]
    assert types[0] == types[1] and types[0][1].weak_type
    x, kernel = oracle.integers(1, X.shape, np.complex64), oracle.integers(2, K.shape, np.complex64)
    same(convjax.accelerate(conv), conv, x, kernel)


def test_closures():
    """What `fn` closes over is differentiated and mapped, too."""

    def loss(wrap):
        return lambda k: (wrap(jax.jit(lambda x: conv(x, 2 * k)))(X) ** 2).sum()

    same(jax.grad(loss(convjax.accelerate)), jax.grad(loss(lambda f: f)), K)
    ours, wanted = jax.vmap(loss(convjax.accelerate)), jax.vmap(loss(lambda f: f))
    same(ours, wanted, KERNELS)


def test_keys_and_empty_arguments():
    def function(key, x, kernel):
        return conv(x, kernel) * jax.random.bernoulli(key, 0.5, (4,)), key

    same(lambda *a: convjax.accelerate(function)(jax.random.key(0), *a)[0],
         lambda *a: function(jax.random.key(0), *a)[0], X, K)  # fmt: skip
    assert convjax.accelerate(lambda: None)() is None
    assert convjax.accelerate(lambda: conv(jnp.asarray(X), K))().shape == X.shape


def test_name_and_signature_stay():
    accelerated = convjax.accelerate(conv)
    assert accelerated.__name__ == "conv" and accelerated.__doc__ == conv.__doc__
    assert convjax.accelerate(partial(conv, kernel=K))(X).shape == X.shape


@pytest.mark.parametrize("wrong", [3, None, "model", X], ids=["int", "None", "str", "array"])
def test_not_a_function(wrong):
    with pytest.raises(TypeError, match=r"accelerate: `fn` \(=<class .*>\) must be a function"):
        convjax.accelerate(wrong)


def test_where_lax_dies_in_a_verifier_there_is_an_error():
    with pytest.raises(ValueError, match=r"conv_general_dilated: the extents of `rhs`"):
        convjax.accelerate(jax.jit(conv))(X, K[:0])
