"""vmap over x, the kernel or both, along any axis, nested, and composed with derivatives."""

import itertools
from functools import partial

import jax
import numpy as np
import oracle
import pytest
from cases import CASES, case, equal, weighed

import convjax


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


@pytest.mark.parametrize("rank", [2, 3])
def test_vmaps_of_size_one(rank):
    """One group, where many are possible: chosen as for none."""
    x = oracle.integers(0, (1, 2, *(6, 5, 4)[:rank], 17))
    kernel = oracle.integers(1, (1, *(3, 2, 3)[:rank], 17, 3))
    gradient = jax.value_and_grad(weighed(convjax.conv), (0, 1))
    found = jax.jit(jax.vmap(gradient))(x, kernel)
    equal(found, jax.tree.map(lambda a: a[None], jax.jit(gradient)(x[0], kernel[0])))


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


def test_a_loop_in_which_a_boundary_mode_meets_what_is_not_mapped():
    """`vmap` of a loop tries what is mapped: the input is not, the kernel is."""
    x = oracle.integers(0, (1, 6, 2))
    kernels = oracle.integers(1, (3, 3, 2, 2))

    def twice(kernel):
        def step(_, total):
            return total + convjax.conv(x, kernel, padding_mode="wrap")

        return jax.lax.fori_loop(0, 2, step, np.zeros((1, 6, 2), np.float32))

    wanted = np.stack([2 * convjax.conv(x, k, padding_mode="wrap") for k in kernels])
    np.testing.assert_array_equal(jax.vmap(twice)(kernels), wanted)
