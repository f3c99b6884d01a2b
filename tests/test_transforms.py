"""Every transform of JAX, alone and composed, on conv and conv_transpose: exact on integers."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import oracle
import pytest
from jax.ad_checkpoint import checkpoint_policies, print_saved_residuals
from jax.experimental import checkify
from jax.experimental.jet import jet

import convjax

# name: function, shapes of both operands, options
CASES = {
    "dense": (convjax.conv, (2, 5, 6, 3), (3, 2, 3, 4), {"strides": (1, 2)}),
    "grouped": (
        convjax.conv,
        (2, 6, 5, 4),
        (2, 3, 2, 6),
        {"feature_group_count": 2, "kernel_dilation": (2, 1), "padding": [(2, 1), (-1, 3)]},
    ),
    "1d, wrapped": (
        convjax.conv,
        (3, 7, 6),
        (4, 2, 9),
        {"feature_group_count": 3, "padding_mode": "wrap", "strides": 2, "padding": [(3, 2)]},
    ),
    "channels first": (
        convjax.conv,
        (2, 3, 5, 6),
        (4, 3, 3, 2),
        {"dimension_numbers": ("NCHW", "OIHW", "NCHW"), "input_dilation": (2, 1)},
    ),
    "transposed": (
        convjax.conv_transpose,
        (2, 3, 4, 6),
        (3, 2, 2, 6),
        {"feature_group_count": 2, "strides": (2, 3), "padding": 0, "output_padding": (1, 2)},
    ),
}


def case(name, *extra, dtype=np.float32, bound=3):
    """The function of a case with its options, and integer operands with extra leading axes."""
    function, x_shape, kernel_shape, options = CASES[name]
    x_extra, kernel_extra = extra or ((), ())
    return (
        partial(function, **options),
        oracle.integers(1, (*x_extra, *x_shape), dtype, bound),
        oracle.integers(2, (*kernel_extra, *kernel_shape), dtype, bound),
    )


def equal(ours, wanted):
    """Two pytrees of arrays are equal, to the last bit."""
    ours, wanted = jax.tree.leaves(ours), jax.tree.leaves(wanted)
    assert len(ours) == len(wanted)
    for a, b in zip(ours, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def near(ours, wanted):
    """Equal up to float32's rounding at the scale of the largest value."""
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def equations(jaxpr, name="convjax_conv"):
    """The equations of primitive `name` in a jaxpr and all that it contains."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == name:
            found.append(eqn)
        for inner in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found += equations(inner, name)
    return found


def convs_in(function, *args):
    return equations(jax.make_jaxpr(function)(*args).jaxpr)


def weighed(function, seed=9, power=1):
    """A scalar loss whose gradient weighs every output differently."""

    def loss(x, kernel):
        y = function(x, kernel)
        return (y**power * oracle.integers(seed, y.shape, np.float32, 2)).sum()

    return loss


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


# ---- vmap --------------------------------------------------------------------------------------


def looped(function, x, kernel, axes, out_axis=0):
    """`vmap` by a Python loop."""
    size = next(
        a.shape[axis] for a, axis in zip((x, kernel), axes, strict=True) if axis is not None
    )

    def pick(a, axis, i):
        return a if axis is None else np.take(a, i, axis)

    results = [function(pick(x, axes[0], i), pick(kernel, axes[1], i)) for i in range(size)]
    return jax.tree.map(lambda *r: np.stack(r, out_axis), *results)


@pytest.mark.parametrize("name", CASES)
def test_vmap_equals_a_loop(name):
    """Every position of the mapped axis in x, in the kernel, and (along a diagonal) in both."""
    function, x, kernel = case(name)
    ndim = x.ndim
    axes = [(i, None) for i in range(ndim + 1)] + [(None, i) for i in range(ndim + 1)]
    axes += [(i, (2 * i + 1) % (ndim + 1)) for i in range(ndim + 1)] + [(-1, -2)]
    compiled = jax.jit(function)
    for x_axis, kernel_axis in axes:
        operands = []
        for operand, axis in ((x, x_axis), (kernel, kernel_axis)):
            if axis is not None:
                operand = np.stack([operand, operand[::-1] - 1, 2 * operand], axis)
            operands.append(operand)
        out_axis = (x_axis or 0) % (ndim + 1)
        ours = jax.jit(jax.vmap(function, (x_axis, kernel_axis), out_axis))(*operands)
        equal(ours, looped(compiled, *operands, (x_axis, kernel_axis), out_axis))


@pytest.mark.parametrize("name", CASES)
def test_nested_vmaps(name):
    """Two levels, each mapping x, the kernel, or both: nine combinations."""
    function, _, _ = case(name)
    compiled = jax.jit(function)
    sizes = (3, 2)
    for levels in itertools.product([(0, 0), (0, None), (None, 0)], repeat=2):
        extra = [
            tuple(n for n, level in zip(sizes, levels, strict=True) if level[i] == 0)
            for i in range(2)
        ]
        _, x, kernel = case(name, *extra)
        ours = jax.jit(jax.vmap(jax.vmap(function, levels[1]), levels[0]))(x, kernel)
        equal(ours, looped(partial(looped, compiled, axes=levels[1]), x, kernel, levels[0]))


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (2, 1)])
@pytest.mark.parametrize("name", CASES)
def test_vmap_of_grad_and_grad_of_vmap(name, axes):
    function, x, kernel = case(name)
    x, kernel = (
        a if axis is None else np.stack([a, a + 1, 3 - a], axis)
        for a, axis in zip((x, kernel), axes, strict=True)
    )
    gradient = jax.grad(weighed(function, power=2), (0, 1))
    ours = jax.jit(jax.vmap(gradient, axes))(x, kernel)
    wanted = looped(jax.jit(gradient), x, kernel, axes)
    equal(ours, wanted)

    def total(x, kernel):
        return jax.vmap(weighed(function, power=2), axes)(x, kernel).sum()

    summed = jax.jit(jax.grad(total, (0, 1)))(x, kernel)
    for found, each, axis in zip(summed, wanted, axes, strict=True):
        equal(found, each.sum(0) if axis is None else np.moveaxis(each, 0, axis))


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("name", ["grouped", "transposed"])
def test_vmaps_of_size_zero(name, axes):
    _, shaped_x, shaped_kernel = case(name)
    function, x, kernel = case(name, *[(0,) if axis == 0 else () for axis in axes])
    shape = function(shaped_x, shaped_kernel).shape
    y = jax.vmap(function, axes)(x, kernel)
    assert y.shape == (0, *shape)

    def total(x, kernel):
        return jax.vmap(function, axes)(x, kernel).sum()

    gradients = jax.jit(jax.grad(total, (0, 1)))(x, kernel)
    equal(gradients, (np.zeros_like(x), np.zeros_like(kernel)))


def test_vmapped_hessian_vector_products():
    function, x, kernel = case("grouped", (3,), (3,), bound=1)
    us, vs = (oracle.integers(s, a.shape, bound=1) for s, a in ((5, x), (6, kernel)))

    def product(x, kernel, u, v):
        return jax.jvp(jax.grad(weighed(function, power=2), (0, 1)), (x, kernel), (u, v))[1]

    ours = jax.jit(jax.vmap(product))(x, kernel, us, vs)
    single = jax.jit(product)
    each = [single(*operands) for operands in zip(x, kernel, us, vs, strict=True)]
    equal(ours, [np.stack(a) for a in zip(*each, strict=True)])


def test_vmap_with_a_named_axis():
    function, x, kernel = case("dense", (3,), (3,))
    summed = jax.vmap(lambda x, k: jax.lax.psum(function(x, k), "i"), axis_name="i")(x, kernel)
    equal(summed[1], sum(function(a, b) for a, b in zip(x, kernel, strict=True)))


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
    function, x, kernel = case("grouped")
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
