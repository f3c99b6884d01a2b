"""More than one device: shard_map and automatic sharding; values and gradients.

Runs on 8 simulated CPU devices (conftest.py). Everything is compared with the same call on one
device, exactly.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import (
    KINDS,
    both_gradients,
    dense,
    equal,
    loss_of,
    mesh_of,
    needs_devices,
    operands,
    transposed,
)

import convjax

pytestmark = needs_devices


# ---- shard_map, with the check of varying axes on ------------------------------------------------


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_shard_map_over_the_batch(kind, groups, size):
    """The gradient of a replicated kernel includes the sum over devices, inside and outside."""
    function = partial(KINDS[kind], groups=groups)
    x, kernel = operands(groups)
    mesh = mesh_of((size,), ("n",))
    mapped = partial(jax.shard_map, mesh=mesh, in_specs=(P("n"), P()), check_vma=True)
    equal(jax.jit(mapped(function, out_specs=P("n")))(x, kernel), function(x, kernel))
    wanted = both_gradients(function)(x, kernel)
    inside = mapped(both_gradients(function), out_specs=(P("n"), P()))
    equal(jax.jit(inside)(x, kernel), wanted)

    def outer(x, kernel):
        losses = mapped(lambda x, k: jax.lax.psum(loss_of(function)(x, k), "n"), out_specs=P())
        return losses(x, kernel)

    equal(jax.jit(jax.grad(outer, (0, 1)))(x, kernel), wanted)


CHANNELS = P(None, None, None, "n")


@pytest.mark.parametrize(
    "groups, spec", [(1, P()), (1, CHANNELS), (1, P(None, None, "n")), (4, CHANNELS)]
)
def test_shard_map_over_channels(groups, spec):
    """Kernels that vary where x may not: over O, over I (and a psum), over whole groups."""
    x, kernel = operands(groups)
    mesh = mesh_of((4,), ("n",))
    function = partial(dense, groups=groups)
    local, x_spec, y_spec, total = function, P(), spec, False
    if groups == 4:  # every device has one group: of x's channels, and of the kernel's outputs
        local, x_spec = partial(dense, groups=1), CHANNELS
    elif spec == P(None, None, "n"):
        x_spec, y_spec, total = CHANNELS, P(), True

    def on_device(x, kernel):
        y = local(x, kernel)
        return jax.lax.psum(y, "n") if total else y

    mapped = jax.shard_map(
        on_device, mesh=mesh, in_specs=(x_spec, spec), out_specs=y_spec, check_vma=True
    )
    equal(jax.jit(mapped)(x, kernel), function(x, kernel))
    ours = jax.jit(both_gradients(mapped))(x, kernel)
    equal(ours, both_gradients(function)(x, kernel))


def test_shard_map_over_two_axes():
    """x varies over one axis, the kernel over the other: the result over both."""
    x, kernel = operands()
    mesh = mesh_of((4, 2), ("n", "o"))
    specs = {"in_specs": (P("n"), P(None, None, None, "o")), "out_specs": P("n", None, None, "o")}
    mapped = jax.shard_map(dense, mesh=mesh, check_vma=True, **specs)
    equal(jax.jit(mapped)(x, kernel), dense(x, kernel))
    wanted = both_gradients(dense)(x, kernel)
    equal(jax.jit(both_gradients(mapped))(x, kernel), wanted)

    def types(x, kernel):
        y = dense(x, kernel)
        assert jax.typeof(y).manual_axis_type.varying == {"n", "o"}
        gradients = jax.vjp(dense, x, kernel)[1](y)
        varying = [jax.typeof(g).manual_axis_type.varying for g in gradients]
        assert varying == [{"n"}, {"o"}]
        tangent = jax.jvp(dense, (x, kernel), (x, kernel))[1]
        assert jax.typeof(tangent).manual_axis_type.varying == {"n", "o"}
        return y

    jax.jit(jax.shard_map(types, mesh=mesh, check_vma=True, **specs))(x, kernel)


def test_shard_map_leaves_unvarying_what_does_not_vary():
    """Without any sharded operand the result is replicated, and may be returned as such."""
    x, kernel = operands()
    mesh = mesh_of((8,), ("n",))
    mapped = partial(jax.shard_map, mesh=mesh, in_specs=(P(), P()), check_vma=True)
    equal(jax.jit(mapped(dense, out_specs=P()))(x, kernel), dense(x, kernel))
    ours = jax.jit(mapped(both_gradients(dense), out_specs=(P(), P())))(x, kernel)
    equal(ours, both_gradients(dense)(x, kernel))


def test_shard_map_with_a_halo():
    """H is sharded: each device fetches its neighbours' rows, and convolves with VALID."""
    x, kernel = operands()
    mesh = mesh_of((4,), ("h",))

    def on_device(x, kernel):
        size = 4
        above = jax.lax.ppermute(x[:, -1:], "h", [(i, i + 1) for i in range(size - 1)])
        below = jax.lax.ppermute(x[:, :1], "h", [(i + 1, i) for i in range(size - 1)])
        rows = jnp.concatenate([above, x, below], 1)
        return dense(rows, kernel, padding=[(0, 0), (0, 1)])

    specs = {"in_specs": (P(None, "h"), P()), "out_specs": P(None, "h")}
    mapped = jax.shard_map(on_device, mesh=mesh, check_vma=True, **specs)
    equal(jax.jit(mapped)(x, kernel), dense(x, kernel))
    equal(jax.jit(both_gradients(mapped))(x, kernel), both_gradients(dense)(x, kernel))


@pytest.mark.parametrize("groups", [1, 4])
def test_transforms_inside_shard_map(groups):
    """vmap, jvp, second order, scan and checkpoint on a device's own part."""
    x, kernel = operands(groups)
    kernels = np.stack([kernel, kernel[::-1]])
    mesh = mesh_of((4,), ("n",))
    function = partial(dense, groups=groups)

    def everything(x, kernels):
        mapped = jax.vmap(both_gradients(function), (None, 0))(x, kernels)
        both = jax.vmap(function)(jnp.stack([x, 2 * x]), kernels)
        tangent = jax.jvp(lambda k: function(x, k) ** 2, (kernels[0],), (kernels[1],))[1]
        square = jax.grad(lambda k: jnp.sum(function(x, k) ** 2))
        product = jax.jvp(square, (kernels[0],), (kernels[1],))[1]

        @partial(jax.checkpoint, policy=convjax.convs_saveable)
        def step(total, kernel):
            return total + (function(x, kernel) ** 2).sum(0), None

        start = 0 * function(x, kernels[0])[0]
        scanned = jax.grad(lambda k: jax.lax.scan(step, start, k)[0].sum())(kernels)
        return (mapped[0], both), mapped[1], tangent, product, scanned

    specs = ((P(None, "n"), P(None, "n")), P(), P("n"), P(), P())
    ours = jax.jit(
        jax.shard_map(
            everything, mesh=mesh, in_specs=(P("n"), P()), out_specs=specs, check_vma=True
        )
    )(x, kernels)
    equal(ours, everything(x, kernels))


def test_shard_map_over_some_of_the_axes():
    """One axis manual, the other automatic."""
    x, kernel = operands(4)
    function = partial(dense, groups=4)
    mesh = mesh_of((4, 2), ("n", "c"))
    x = jax.device_put(x, NamedSharding(mesh, P("n", None, None, "c")))
    kernel = jax.device_put(kernel, NamedSharding(mesh, P()))
    mapped = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(P("n"), P()),
        out_specs=P("n"),
        axis_names={"n"},
        check_vma=True,
    )
    host = operands(4)
    equal(jax.jit(mapped)(x, kernel), function(*host))
    equal(jax.jit(both_gradients(mapped))(x, kernel), both_gradients(function)(*host))


# ---- automatic sharding --------------------------------------------------------------------------

AUTOMATIC = {
    "batch": (P("a"), P()),
    "height": (P(None, "a"), P()),
    "input channels": (P(None, None, None, "a"), P()),
    "output channels": (P(), P(None, None, None, "a")),
    "batch and output": (P("a"), P(None, None, None, "b")),
    "batch and channels": (P("a", None, None, "b"), P(None, None, "b")),
}


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("name", AUTOMATIC)
def test_automatic_sharding(name, groups):
    """The compiler splits the work: the same numbers, and never more gathers than lax."""
    mesh = mesh_of((4, 2), ("a", "b"))
    shardings = [NamedSharding(mesh, spec) for spec in AUTOMATIC[name]]
    x, kernel = operands(groups)
    sharded = [jax.device_put(a, s) for a, s in zip((x, kernel), shardings, strict=True)]
    function = partial(dense, groups=groups)

    def theirs(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def everything(function):
        return jax.jit(lambda x, k: (function(x, k), both_gradients(function)(x, k)))

    compiled = everything(function).lower(*sharded).compile()
    equal(compiled(*sharded), (function(x, kernel), both_gradients(function)(x, kernel)))
    reference = everything(theirs).lower(*sharded).compile()
    gathers = [c.as_text().count("all-gather-start(") + c.as_text().count("all-gather(")
               for c in (compiled, reference)]  # fmt: skip
    assert gathers[0] <= gathers[1]


def test_automatic_sharding_of_the_transposed():
    mesh = mesh_of((4, 2), ("a", "b"))
    x, kernel = operands(2)
    function = partial(transposed, groups=2)
    sharded = jax.device_put(x, NamedSharding(mesh, P("a", None, None, "b")))
    equal(jax.jit(function)(sharded, kernel), function(x, kernel))
    wanted = both_gradients(function)(x, kernel)
    equal(jax.jit(both_gradients(function))(sharded, kernel), wanted)


def test_vmap_with_spmd_axis_name():
    mesh = mesh_of((4,), ("a",))
    x, kernel = operands(4)
    xs = np.stack([x[:2], x[2:4], x[4:6], x[6:]])
    sharded = jax.device_put(xs, NamedSharding(mesh, P("a")))
    mapped = jax.vmap(partial(dense, groups=4), (0, None), spmd_axis_name="a")
    y = jax.jit(mapped)(sharded, kernel)
    equal(y, dense(x, kernel, 4).reshape(y.shape))
