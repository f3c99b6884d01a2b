"""Checkpoint with its policies, scan, while, cond and switch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import CASES, case, convs_in, equal, equations, weighed
from jax.ad_checkpoint import checkpoint_policies, print_saved_residuals

import convjax

# ---- checkpoint --------------------------------------------------------------------------------


def network(function, x, kernel):
    return jnp.sin(function(jnp.sin(x), kernel)).sum()


@pytest.mark.parametrize("name", CASES)
def test_checkpoint_with_convs_saveable(name):
    """Saved: three convolutions in value and gradient. Not saved: the forward one is done again."""
    function, x, kernel = case(name)
    loss = partial(network, function)
    plain = jax.value_and_grad(loss, (0, 1))
    forgetful = jax.value_and_grad(jax.checkpoint(loss), (0, 1))
    saving = jax.value_and_grad(jax.checkpoint(loss, policy=convjax.convs_saveable), (0, 1))
    counts = [len(convs_in(f, x, kernel)) for f in (plain, forgetful, saving)]
    assert counts == [3, 4, 3]
    for ours, wanted in zip(
        jax.tree.leaves(jax.jit(saving)(x, kernel)),
        jax.tree.leaves(jax.jit(plain)(x, kernel)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)


def test_convs_saveable_saves_convolutions_and_nothing_else(capsys):
    function, x, kernel = case("dense")

    def loss(x, kernel):
        return (jnp.sin(function(jnp.sin(x), kernel)) @ jnp.ones((4, 4))).sum()

    def residuals(policy):
        print_saved_residuals(jax.checkpoint(loss, policy=policy), x, kernel)
        lines = capsys.readouterr().out.splitlines()
        return [
            line for line in lines if "from the argument" not in line and "constant" not in line
        ]

    saved = residuals(convjax.convs_saveable)
    assert len(saved) == 1 and saved[0].startswith("f32[2,5,3,4]")
    assert residuals(checkpoint_policies.nothing_saveable) == []
    either = checkpoint_policies.save_from_both_policies(
        convjax.convs_saveable, checkpoint_policies.everything_saveable
    )
    assert len(residuals(either)) > 1


def test_convs_saveable_knows_laxs_convolutions_too():
    x, kernel = oracle.integers(1, (2, 6, 3)), oracle.integers(2, (3, 3, 4))
    direct = partial(convjax.conv, algorithm="direct")
    for policy, wanted in [
        (convjax.convs_saveable, 3),
        (checkpoint_policies.dots_saveable, 3),
        (checkpoint_policies.nothing_saveable, 4),
    ]:
        loss = jax.checkpoint(partial(network, direct), policy=policy)
        jaxpr = jax.make_jaxpr(jax.value_and_grad(loss, (0, 1)))(x, kernel).jaxpr
        assert len(equations(jaxpr, "conv_general_dilated")) == wanted


# ---- control flow ------------------------------------------------------------------------------


def chain(x, kernels):
    for kernel in kernels:
        x = convjax.conv(x, kernel, padding_mode="wrap", feature_group_count=2)
    return x


def test_scan():
    x, kernels = oracle.integers(1, (2, 5, 4), bound=1), oracle.integers(2, (3, 3, 2, 4), bound=1)

    def scanned(x, kernels):
        def step(x, kernel):
            return chain(x, [kernel]), None

        return jax.lax.scan(step, x, kernels)[0]

    equal(jax.jit(scanned)(x, kernels), chain(x, kernels))
    wanted = jax.grad(weighed(chain), (0, 1))(x, kernels)
    equal(jax.jit(jax.grad(weighed(scanned), (0, 1)))(x, kernels), wanted)
    tangents = (np.ones_like(x), np.ones_like(kernels))
    equal(jax.jvp(scanned, (x, kernels), tangents), jax.jvp(chain, (x, kernels), tangents))
    kernels = np.stack([kernels, kernels[::-1]])
    equal(jax.vmap(scanned, (None, 0))(x, kernels), [np.stack([chain(x, k) for k in kernels])])

    def remembering(x, kernels):
        step = jax.checkpoint(lambda x, k: (chain(x, [k]), None), policy=convjax.convs_saveable)
        return jax.lax.scan(step, x, kernels)[0]

    equal(jax.jit(jax.grad(weighed(remembering), (0, 1)))(x, kernels[0]), wanted)


def test_while_and_fori():
    x, kernel = oracle.integers(1, (2, 5, 4), bound=1), oracle.integers(2, (3, 2, 4), bound=1)

    def loop(x, steps):
        return jax.lax.while_loop(
            lambda state: state[0] < steps,
            lambda state: (state[0] + 1, chain(state[1], [kernel])),
            (0, x),
        )[1]

    equal(jax.jit(loop)(x, 3), chain(x, [kernel] * 3))
    u = oracle.integers(3, x.shape, bound=1)
    equal(jax.jvp(lambda x: loop(x, 3), (x,), (u,))[1], chain(u, [kernel] * 3))
    fori = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: chain(x, [kernel]), x))
    equal(fori(x), chain(x, [kernel] * 3))
    gradient = jax.grad(lambda x: (fori(x) * u).sum())(x)
    equal(gradient, jax.grad(lambda x: (chain(x, [kernel] * 3) * u).sum())(x))


def test_cond_and_switch():
    function, x, kernel = case("dense")
    branches = [function, lambda x, k: -function(x, 2 * k), lambda x, k: function(-x, k)]

    def chosen(i, x, kernel):
        return jax.lax.switch(i, branches, x, kernel)

    for i, branch in enumerate(branches):
        equal(jax.jit(chosen)(i, x, kernel), branch(x, kernel))
        ours = jax.jit(jax.grad(weighed(partial(chosen, i)), (0, 1)))(x, kernel)
        equal(ours, jax.grad(weighed(branch), (0, 1))(x, kernel))
    mapped = jax.vmap(chosen, (0, None, None))(np.arange(3), x, kernel)
    equal(mapped, np.stack([branch(x, kernel) for branch in branches]))
    either = jax.jit(lambda p: jax.lax.cond(p, function, branches[1], x, kernel))
    equal((either(True), either(False)), (branches[0](x, kernel), branches[1](x, kernel)))
