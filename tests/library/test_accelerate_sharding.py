"""`accelerate` inside and outside ``shard_map``, and under explicit mesh axes."""

import jax
import numpy as np
import oracle
import pytest
from accelerated import conv, count, loss_of, same
from cases import equal
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from sharded import mesh_of, needs_devices

import convjax

x_spec, k_spec = P("a"), P(None, None, None, "b")


@needs_devices
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(axis_type, check_vma):
    mesh = mesh_of((2, 2), ("a", "b"), axis_type)

    @jax.jit
    def function(x, kernel):
        def local(x, kernel):
            y = jax.checkpoint(conv)(x, kernel)
            return lax.psum(y.sum(), ("a", "b")) + y if check_vma else y

        return jax.shard_map(
            local, in_specs=(x_spec, k_spec), out_specs=P("a", None, None, "b"),
            check_vma=check_vma,
        )(x, kernel)  # fmt: skip

    x, kernel = oracle.integers(1, (2, 5, 6, 4), bound=1), oracle.integers(2, (3, 2, 4, 8), bound=1)
    with jax.set_mesh(mesh):
        x = jax.device_put(x, jax.NamedSharding(mesh, x_spec))
        kernel = jax.device_put(kernel, jax.NamedSharding(mesh, k_spec))
        same(convjax.accelerate(function), function, x, kernel)
        wanted = jax.jit(jax.grad(loss_of(function), (0, 1)))
        ours = jax.jit(jax.grad(loss_of(convjax.accelerate(function)), (0, 1)))
        same(ours, wanted, x, kernel)
        inside = jax.shard_map(
            convjax.accelerate(conv), in_specs=(x_spec, k_spec), out_specs=P("a", None, None, "b")
        )
        equal(jax.jit(inside)(x, kernel), conv(np.asarray(x), np.asarray(kernel)))


@needs_devices
@pytest.mark.parametrize("groups", [1, 2])
def test_explicit_mesh(groups):
    """lax's types; the numbers of one device, which lax's own gradient misses here."""
    x = oracle.integers(1, (2, 5, 6, 4), bound=1)
    kernel = oracle.integers(2, (3, 2, 4 // groups, 8), bound=1)
    mesh = mesh_of((2, 2), ("a", "b"), AxisType.Explicit)
    for function in (jax.jit(conv), scan_of_one):
        gradient = jax.grad(loss_of(function), (0, 1))
        wanted = function(x, kernel), gradient(x, kernel)
        with jax.set_mesh(mesh):
            sharded = jax.reshard(x, P("a")), jax.reshard(kernel, P())
            ours = convjax.accelerate(function)
            found = ours(*sharded), jax.jit(jax.grad(loss_of(ours), (0, 1)))(*sharded)
            types = jax.eval_shape(function, *sharded), jax.eval_shape(gradient, *sharded)
            assert jax.eval_shape(ours, *sharded) == types[0]
            assert jax.eval_shape(jax.grad(loss_of(ours), (0, 1)), *sharded) == types[1]
            assert count(ours, *sharded) == (0, 1)
        equal(found, wanted)


def scan_of_one(x, kernel):
    return lax.scan(lambda kernel, x: (kernel, conv(x, kernel)), kernel, x[None])[1]
