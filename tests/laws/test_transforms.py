"""Derivatives of every order and direction, jit, jet and checkify: exact on integers."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import oracle
import pytest
from cases import CASES, case, convs_in, equal, equations, near, weighed
from jax.experimental import checkify
from jax.experimental.jet import jet

import convjax

# ---- jit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_jit_eager_and_disabled_jit_agree(name):
    function, x, kernel = case(name)
    y = function(x, kernel)
    equal(jax.jit(function)(x, kernel), y)
    with jax.disable_jit():
        equal(function(x, kernel), y)
        gradients = jax.grad(weighed(function), (0, 1))(x, kernel)
    equal(jax.jit(jax.grad(weighed(function), (0, 1)))(x, kernel), gradients)


def test_one_convolution_is_one_equation():
    """One primitive forward, two more for the gradients, the same under vmap, and none of lax's."""
    for name in CASES:
        function, x, kernel = case(name, (3,), (3,))
        gradient = jax.value_and_grad(weighed(function), (0, 1))
        for axes in [(0, 0), (0, None), (None, 0)]:
            operands = [a if axis == 0 else a[0] for a, axis in zip((x, kernel), axes, strict=True)]
            mapped = jax.vmap(gradient, axes)
            assert len(convs_in(mapped, *operands)) == 3
            jaxpr = jax.make_jaxpr(mapped)(*operands).jaxpr
            assert equations(jaxpr, "conv_general_dilated") == []
        roles = [eqn.params["role"] for eqn in convs_in(gradient, x[0], kernel[0])]
        assert len(set(roles)) == 3


# ---- derivatives -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_jvp_is_the_product_rule(name):
    function, x, kernel = case(name)
    u, v = oracle.integers(3, x.shape), oracle.integers(4, kernel.shape)
    y, tangent = jax.jit(partial(jax.jvp, function))((x, kernel), (u, v))
    equal(y, function(x, kernel))
    equal(tangent, function(u, kernel) + function(x, v))
    equal(jax.jvp(lambda x: function(x, kernel), (x,), (u,))[1], function(u, kernel))
    equal(jax.jvp(lambda k: function(x, k), (kernel,), (v,))[1], function(x, v))
    y, linear = jax.linearize(function, x, kernel)
    equal(linear(u, v), tangent)


@pytest.mark.parametrize("name", CASES)
def test_linear_transpose_on_each_operand(name):
    function, x, kernel = case(name)
    y, pull = jax.vjp(function, x, kernel)
    cotangent = oracle.integers(5, y.shape)
    wanted = pull(cotangent)
    to_x = jax.linear_transpose(lambda x: function(x, kernel), x)
    to_kernel = jax.linear_transpose(lambda k: function(x, k), kernel)
    equal((to_x(cotangent)[0], to_kernel(cotangent)[0]), wanted)
    # the transpose of the transpose is the function again
    twice = jax.linear_transpose(lambda y: to_x(y)[0], cotangent)(x)
    equal(twice[0], function(x, kernel))
    twice = jax.linear_transpose(lambda y: to_kernel(y)[0], cotangent)(kernel)
    equal(twice[0], function(x, kernel))


def test_jacobians_and_hessians_are_the_matrix():
    x, kernel = oracle.integers(1, (1, 4, 3, 2)), oracle.integers(2, (2, 3, 1, 4))
    options = {"feature_group_count": 2, "strides": (2, 1), "padding": [(1, 2), (0, 2)]}
    function = partial(convjax.conv, **options)
    c = oracle.matrix(kernel, x.shape[1:-1], **options)
    y = function(x, kernel)
    for jacobian in (jax.jacfwd, jax.jacrev):
        equal(jax.jit(jacobian(function))(x, kernel).reshape(c.shape), c)
    weights = oracle.integers(9, y.shape, np.float32, 2)

    def loss(x, kernel):
        return (function(x, kernel) ** 2 * weights).sum()

    def bilinear(x, kernel):
        return (function(x, kernel) * weights).sum()

    wanted = 2 * c.T @ np.diag(weights.ravel()) @ c
    mixed = []  # d/dkernel of the x gradient, from the matrix's linearity in the kernel
    for unit in np.eye(kernel.size).reshape(-1, *kernel.shape):
        mixed.append(weights.ravel() @ oracle.matrix(unit, x.shape[1:-1], **options))
    mixed = np.array(mixed).T
    outer_inner = itertools.product((jax.jacfwd, jax.jacrev), repeat=2)
    for outer, inner in outer_inner:
        hessian = jax.jit(outer(inner(loss)))(x, kernel)
        equal(hessian.reshape(c.shape[1], c.shape[1]), wanted)
        cross = jax.jit(outer(inner(bilinear), 1))(x, kernel)
        equal(cross.reshape(x.size, kernel.size), mixed)
    blocks = jax.hessian(bilinear, (0, 1))(x, kernel)
    assert not np.any(blocks[0][0]) and not np.any(blocks[1][1])  # bilinear
    equal(blocks[1][0].reshape(kernel.size, x.size), mixed.T)


def test_gradient_of_the_kernels_hessian():
    """Second order on the kernel: the Gauss-Newton matrix of the matrix of the kernel."""
    x, kernel = oracle.integers(1, (2, 5, 2)), oracle.integers(2, (3, 1, 4))
    options = {"feature_group_count": 2, "padding_mode": "reflect"}
    units = np.eye(kernel.size).reshape(-1, *kernel.shape)
    m = np.stack([oracle.conv(x, unit, **options).ravel() for unit in units], 1)
    hessian = jax.hessian(lambda k: (convjax.conv(x, k, **options) ** 2).sum())(kernel)
    equal(hessian.reshape(kernel.size, kernel.size), 2 * m.T @ m)


def polynomial(function, x, kernel, u, v):
    """conv(x + t*u, kernel + t*v) as coefficients of t^0, t^1, t^2, each a float64 array."""
    terms = function(x, kernel), function(u, kernel) + function(x, v), function(u, v)
    return [np.asarray(term, np.float64) for term in terms]


@pytest.mark.parametrize("name", ["dense", "grouped", "transposed"])
def test_third_order(name):
    function, x, kernel = case(name, bound=1)
    u, v = oracle.integers(3, x.shape, bound=1), oracle.integers(4, kernel.shape, bound=1)

    def along(t):
        return (function(x + t * u, kernel + t * v) ** 3).sum() / 6

    a, b, c = polynomial(function, x, kernel, u, v)
    wanted = (b**3 + 6 * a * b * c).sum()  # the coefficient of t^3, times 3!/6

    def forward(f):
        return lambda t: jax.jvp(f, (t,), (1.0,))[1]

    for first, second, third in [
        (jax.grad, jax.grad, jax.grad),
        (forward, forward, forward),
        (jax.grad, forward, jax.grad),
        (forward, jax.grad, forward),
    ]:
        found = jax.jit(third(second(first(along))))(0.0)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_jet(name):
    """Taylor coefficients of a product: Leibniz's rule, to third order."""
    function, x, kernel = case(name)
    us = [oracle.integers(10 + i, x.shape) for i in range(3)]
    vs = [oracle.integers(20 + i, kernel.shape) for i in range(3)]
    y, series = jet(function, (x, kernel), (us, vs))
    equal(y, function(x, kernel))
    xs, kernels = [x, *us], [kernel, *vs]
    for order in (1, 2, 3):
        wanted = sum(
            math.comb(order, j) * function(xs[j], kernels[order - j]) for j in range(order + 1)
        )
        near(series[order - 1], wanted)  # jet scales by factorials in floating point
    y, series = jet(lambda x: jnp.sin(function(x, kernel)), (x,), (us,))  # a constant kernel
    assert len(series) == 3
    near(series[0], np.cos(function(x, kernel)) * function(us[0], kernel))
    y, series = jet(lambda k: function(x, k), (kernel,), (vs,))
    for term, v in zip(series, vs, strict=True):
        near(term, function(x, v))


@pytest.mark.parametrize("name", ["grouped", "transposed"])
def test_check_grads(name):
    function, x, kernel = case(name)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = (rng.normal(size=a.shape) for a in (x, kernel))
        jax.test_util.check_grads(jax.jit(function), (x, kernel), order=2, modes=("fwd", "rev"))


def test_custom_rules_around():
    function, x, kernel = case("grouped")

    @jax.custom_jvp
    def doubled(x, kernel):
        return function(x, kernel)

    @doubled.defjvp
    def _(primals, tangents):
        y, tangent = jax.jvp(function, primals, tangents)
        return y, 2 * tangent

    @jax.custom_vjp
    def clipped(x, kernel):
        return function(x, kernel)

    clipped.defvjp(
        lambda x, kernel: jax.vjp(function, x, kernel),
        lambda pull, cotangent: pull(3 * cotangent),
    )
    plain = jax.grad(weighed(function), (0, 1))(x, kernel)
    for ours, factor in ((doubled, 2), (clipped, 3)):
        equal(ours(x, kernel), function(x, kernel))
        gradients = jax.jit(jax.grad(weighed(ours), (0, 1)))(x, kernel)
        equal(gradients, [factor * g for g in plain])


# ---- the rest ----------------------------------------------------------------------------------


@pytest.mark.parametrize("errors", ["user_checks", "float_checks", "all_checks"])
def test_checkify(errors):
    function, x, kernel = case("grouped")

    def checked(x, kernel):
        y = function(x, kernel)
        checkify.check(y.max() < 1e6, "too large")
        return y

    run = jax.jit(checkify.checkify(checked, errors=getattr(checkify, errors)))
    error, y = run(x, kernel)
    assert error.get() is None
    equal(y, function(x, kernel))
    if errors != "float_checks":
        assert "too large" in run(x + 1e6, kernel)[0].get()
    error, gradient = checkify.checkify(jax.grad(weighed(function)))(x, kernel)
    assert error.get() is None


def precisions(jaxpr):
    return [eqn.params["precision"] for eqn in equations(jaxpr)]


def test_precision_is_resolved_at_the_call():
    """None means what `jax.default_matmul_precision` says now; lowering may happen elsewhere."""
    function, x, kernel = case("dense")
    highest = (jax.lax.Precision.HIGHEST,) * 2
    trace = jax.jit(jax.value_and_grad(weighed(function), (0, 1))).trace
    with jax.default_matmul_precision("highest"):
        inside = trace(x, kernel)
        named = jax.make_jaxpr(partial(function, precision="default"))(x, kernel)
        y, pull = jax.vjp(function, x, kernel)
    assert precisions(inside.jaxpr.jaxpr) == [highest] * 3
    assert highest not in precisions(named.jaxpr)
    lines = [line for line in inside.lower().as_text().splitlines() if "precision" in line]
    assert len(lines) >= 3 and all(line.count("HIGHEST") == 2 for line in lines)
    assert set(precisions(jax.make_jaxpr(pull)(y).jaxpr)) == {highest}
    outside = jax.jit(function).trace(x + 1, kernel)
    assert highest not in precisions(outside.jaxpr.jaxpr)
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" not in outside.lower().as_text()
    for spelling in ("highest", jax.lax.Precision.HIGHEST, highest, ["highest", "highest"]):
        jaxpr = jax.make_jaxpr(partial(function, precision=spelling))(x, kernel).jaxpr
        assert precisions(jaxpr) == [highest]


def test_a_cache_entry_per_default_precision():
    function, x, kernel = case("dense")
    compiled = jax.jit(function)
    compiled(x, kernel)
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" in compiled.lower(x, kernel).as_text()
        assert "HIGHEST" in str(jax.make_jaxpr(compiled)(x, kernel))
    assert "HIGHEST" not in str(jax.make_jaxpr(compiled)(x, kernel))


@pytest.mark.parametrize("name", CASES)
def test_the_transforms_of_an_empty_batch(name):
    function, x, kernel = case(name)
    x = x[:0]
    y = function(x, kernel)
    assert y.size == 0
    gradients = jax.jit(jax.grad(lambda x, k: function(x, k).sum(), (0, 1)))(x, kernel)
    equal(gradients, (x, np.zeros_like(kernel)))
    mapped = jax.vmap(function, (None, 0))(x, np.stack([kernel] * 3))
    assert mapped.shape == (3, *y.shape)
    assert jax.jvp(function, (x, kernel), (x, kernel))[1].shape == y.shape
