"""What the tests of `accelerate` share: programs with lax's convolutions."""

from collections import Counter

import jax
import jax.numpy as jnp
import oracle
from cases import equal
from jax import lax
from jax.ad_checkpoint import checkpoint_policies

import convjax
from convjax._programs.walk import trace, walk

X = oracle.integers(1, (2, 5, 6, 4), bound=1)
K = oracle.integers(2, (3, 2, 2, 4), bound=1)


def conv(x, kernel):
    """Grouped, of x's shape: one may follow another."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", feature_group_count=x.shape[-1] // kernel.shape[-2],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def count(function, *args, **kwargs):
    """How many of lax's convolutions and of ours are in the jaxpr of a call."""
    jaxpr = trace(function, args, kwargs).jaxpr
    names = Counter(site.eqn.primitive.name for site in walk(jaxpr))
    return names["conv_general_dilated"], names["convjax_conv"]


def same(functions, wanted, *args):
    """Equal results of each function (or the one); as many convolutions, all of them ours."""
    result, (theirs, none) = wanted(*args), count(wanted, *args)
    assert theirs > 0 and none == 0
    for ours in [functions] if callable(functions) else functions:
        equal(ours(*args), result)
        assert count(ours, *args) == (0, theirs)


# ---- what holds jaxprs -------------------------------------------------------------------------


def scan(x, kernel):
    def step(carry, scale):
        y = conv(carry, kernel)
        return y, scale * y.sum()

    return lax.scan(step, x, jnp.arange(2.0), reverse=True)


def while_loop(x, kernel):
    def condition(state):
        return (state[0] < 2) & (conv(state[1], kernel).sum() < 1e6)

    return lax.while_loop(condition, lambda s: (s[0] + 1, conv(s[1], kernel)), (0, x))[1]


def cond(x, kernel):
    return lax.cond(x.sum() > 1e6, lambda x: x, lambda x: conv(x, kernel), x)


def switch(x, kernel):
    branches = [lambda x, k: x, conv, lambda x, k: conv(conv(x, k), k)]
    return lax.switch(jnp.int32(2), branches, x, kernel)


def linear_solve(x, kernel):
    """Rules that are no solution, but as linear as one."""
    return lax.custom_linear_solve(
        lambda v: v + conv(v, kernel), x, lambda matvec, b: matvec(conv(b, kernel)), symmetric=True
    )


@jax.custom_jvp
def jvp_rule(x, kernel):
    return conv(x, kernel)


@jvp_rule.defjvp
def _(primals, tangents):
    (x, kernel), (u, v) = primals, tangents
    return jvp_rule(x, kernel), 2 * (conv(u, kernel) + conv(x, v))  # 2: that this rule is used


@jax.custom_jvp
def symbolic_jvp_rule(x, kernel):
    return conv(x, kernel)


def _tangent(primals, tangents):
    (x, kernel), (u, v) = primals, tangents
    known = [a for a in (u, v) if not isinstance(a, jax.custom_derivatives.SymbolicZero)]
    total = conv(x, kernel)
    for a in known:
        total = total + (conv(a, kernel) if a is u else conv(x, a))
    return conv(x, kernel), total


symbolic_jvp_rule.defjvp(_tangent, symbolic_zeros=True)


def _backward(residuals, cotangent):
    x, kernel = residuals
    _, back = jax.vjp(conv, x, kernel)
    du, dv = back(cotangent)
    return 2 * du, dv  # 2: that this rule is used


def vjp_rule_of(**options):
    function = jax.custom_vjp(lambda x, k: conv(x, k))
    function.defvjp(lambda x, k: (conv(x, k), (x, k)), _backward, **options)
    return function


def symbolic_vjp_rule():
    function = jax.custom_vjp(lambda x, k: conv(x, k))

    def forward(x, kernel):
        assert x.perturbed
        return conv(x.value, kernel.value), (x.value, kernel.value)

    function.defvjp(forward, _backward, symbolic_zeros=True)
    return function


@jax.custom_vjp
def counted(x, kernel, times):
    return conv(x, kernel) * times


counted.defvjp(
    lambda x, k, times: (conv(x, k) * times, (x, k, times)),
    lambda held, ct: (*jax.vjp(conv, *held[:2])[1](ct * held[2]), None),
)

REMAT = {
    "plain": None,
    "dots": checkpoint_policies.dots_saveable,
    "ours": convjax.convs_saveable,
    "either": checkpoint_policies.save_from_both_policies(
        checkpoint_policies.dots_saveable, checkpoint_policies.save_only_these_names("name")
    ),
    "offloading": checkpoint_policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
}


def squared(function, **options):
    """A checkpoint whose gradient needs the convolution's result: saved, or computed again."""
    return jax.checkpoint(lambda x, k: function(x, k) ** 2, **options)


PROGRAMS = {
    "flat": conv,
    "jit": jax.jit(conv, inline=False),
    "jit in jit": jax.jit(lambda x, k: jax.jit(conv)(jax.jit(conv)(x, k), k)),
    "scan": scan,
    "map": lambda x, k: lax.map(lambda one: conv(one[None], k)[0], x),
    "fori": lambda x, k: lax.fori_loop(0, 2, lambda i, x: conv(x, k), x),
    "cond": cond,
    "switch": switch,
    "custom_jvp": jvp_rule,
    "custom_jvp with symbolic zeros": symbolic_jvp_rule,
    "custom_vjp": vjp_rule_of(),
    "custom_vjp with symbolic zeros": symbolic_vjp_rule(),
    "custom_vjp, rematerialised": vjp_rule_of(optimize_remat=True),
    "custom_vjp with integers": lambda x, k: counted(x, k, jnp.int32(2)),
    "custom_linear_solve": linear_solve,
    "relu": lambda x, k: conv(jax.nn.relu(conv(x, k)), k),
    **{f"checkpoint, {name}": squared(conv, policy=p) for name, p in REMAT.items()},
    "custom_vjp, rematerialised in a checkpoint": squared(vjp_rule_of(optimize_remat=True)),
    "all at once": jax.checkpoint(lambda x, k: jax.jit(scan)(jvp_rule(x, k), k)[0]),
}


def loss_of(function):
    return lambda *args: sum((leaf**2).sum() for leaf in jax.tree.leaves(function(*args)))
