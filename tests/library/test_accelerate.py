"""`accelerate`: the same function, and none of lax's convolutions left in it."""

import jax
import numpy as np
import pytest
from accelerated import PROGRAMS, K, X, conv, count, loss_of, same, scan, while_loop
from cases import equal
from jax import lax

import convjax


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    function = PROGRAMS[name]
    ours = convjax.accelerate(function)
    same([ours, jax.jit(ours)], function, X, K)


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_of_a_program(name):
    """Rules and policies included: their convolutions are ours too, and as many are saved."""
    wanted = jax.grad(loss_of(PROGRAMS[name]), (0, 1))
    inside = jax.grad(loss_of(convjax.accelerate(PROGRAMS[name])), (0, 1))
    same([inside, convjax.accelerate(wanted), convjax.accelerate(jax.jit(inside))], wanted, X, K)


def test_while():
    same(convjax.accelerate(while_loop), while_loop, X, K)

    def tangent(function):
        return lambda x, k: jax.jvp(function, (x, k), (k.sum() * x, k))

    same(tangent(convjax.accelerate(while_loop)), tangent(while_loop), X, K)


def test_custom_vmap_keeps_its_rule():
    """The function is ours; the rule, which no jaxpr holds, stays lax's."""

    @jax.custom_batching.custom_vmap
    def function(x, kernel):
        return conv(x, kernel)

    @function.def_vmap
    def _(size, batched, x, kernel):
        return 3 * jax.vmap(conv, [0 if b else None for b in batched])(x, kernel), True

    same(convjax.accelerate(function), function, X, K)
    mapped = jax.vmap(convjax.accelerate(function), (0, None))
    stack = np.stack([X, -X])
    equal(mapped(stack, K), jax.vmap(function, (0, None))(stack, K))
    assert count(mapped, stack, K) == (1, 0)
    same(convjax.accelerate(jax.vmap(function, (0, None))), jax.vmap(function, (0, None)), stack, K)


# ---- transforms on either side -----------------------------------------------------------------

STACK = np.stack([X, -X, X[::-1]])
KERNELS = np.stack([K, -K, K[::-1]])

TRANSFORMS = {
    "jit": (jax.jit, (X, K)),
    "grad": (lambda f: jax.grad(loss_of(f), (0, 1)), (X, K)),
    "jvp": (lambda f: lambda x, k: jax.jvp(f, (x, k), (x, k)), (X, K)),
    "vjp": (lambda f: lambda x, k: (lambda y, back: back(y))(*jax.vjp(f, x, k)), (X, K)),
    "linearize": (lambda f: lambda x, k: jax.linearize(f, x, k)[1](x, k), (X, K)),
    "second order": (
        lambda f: lambda x, k: jax.jvp(jax.grad(loss_of(f), (0, 1)), (x, k), (x, k)),
        (X, K),
    ),
    "vmap of x": (lambda f: jax.vmap(f, (0, None)), (STACK, K)),
    "vmap of the kernel": (lambda f: jax.vmap(f, (None, 0), 1), (X, KERNELS)),
    "vmap of both": (jax.vmap, (STACK, KERNELS)),
    "vmap of the gradient": (lambda f: jax.vmap(jax.grad(loss_of(f), (0, 1))), (STACK, KERNELS)),
    "checkpoint": (lambda f: jax.grad(loss_of(jax.checkpoint(f)), (0, 1)), (X, K)),
    "saved convolutions": (
        lambda f: jax.grad(loss_of(jax.checkpoint(f, policy=convjax.convs_saveable)), (0, 1)),
        (X, K),
    ),
    "accelerate": (convjax.accelerate, (X, K)),
}


@pytest.mark.parametrize("program", ["jit", "scan"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_on_either_side(name, program):
    transform, args = TRANSFORMS[name]
    function = PROGRAMS[program]
    wanted = transform(function) if name != "accelerate" else function
    inside, outside = (
        transform(convjax.accelerate(function)),
        convjax.accelerate(transform(function)),
    )
    same([inside, outside, convjax.accelerate(inside)], wanted, *args)


def test_named_axis():
    """A collective over an axis that only the `vmap` outside knows, in a `jit` of its own."""
    inner = jax.jit(lambda x, k: lax.psum(conv(x, k), "i") + lax.axis_index("i"))
    wanted = jax.vmap(inner, (0, None), axis_name="i")
    same(jax.vmap(convjax.accelerate(inner), (0, None), axis_name="i"), wanted, STACK, K)


def test_export():
    """Several platforms, a symbolic batch, and the bytes read back."""
    (batch,) = jax.export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((batch, *X.shape[1:]), X.dtype)
    for function in (convjax.accelerate(jax.jit(conv)), jax.jit(convjax.accelerate(scan))):
        exported = jax.export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(x, K)
        read = jax.export.deserialize(exported.serialize())
        equal(read.call(STACK[0], K), function(STACK[0], K))
    outside = convjax.accelerate(jax.export.export(jax.jit(conv))(X, K).call)
    equal(outside(X, K), conv(X, K))  # already compiled: nothing to rebind
