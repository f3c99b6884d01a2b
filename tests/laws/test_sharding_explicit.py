"""Explicit mesh axes, the default of `jax.make_mesh`: types, values and gradients.

Whatever lax accepts is accepted, with the same type, and equals the same call on one device.
"""

from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import (
    both_gradients,
    dense,
    equal,
    loss_of,
    mesh_of,
    needs_devices,
    operands,
    transposed,
)

pytestmark = needs_devices


# the shardings of x and of the kernel, and out_sharding
EXPLICIT = [
    (P(), P(), None),
    (P("a"), P(), None),
    (P(None, "a"), P(), None),
    (P(None, None, "a"), P(), None),
    (P("a", "b"), P(), None),
    (P(("a", "b")), P(), None),
    (P(), P(), P("a")),
    (P(), P(), P()),
    (P("a"), P(), P(None, None, None, "a")),
    (P("a"), P(), P("a", None, None, "b")),
    (P(None, None, None, "a"), P(), P(None, None, None, "a")),
    (P("a", None, None, "b"), P(), P("a", None, None, "b")),
    (P(), P(None, None, None, "a"), P(None, None, None, "a")),
    (P("a"), P(None, None, None, "b"), P("a", None, None, "b")),
    (P("a", None, None, "b"), P(None, None, "b"), P("a")),
    (P(None, None, None, "b"), P(None, None, "b", "a"), P(None, None, None, "a")),
    (P(None, "a"), P(None, "b"), P(None, "a")),
]


def spec_of(array):
    return jax.typeof(array).sharding.spec


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("x_spec, kernel_spec, out", EXPLICIT)
def test_explicit_axes(x_spec, kernel_spec, out, groups):
    """Whatever lax accepts: the same type, and the value and gradients of one device."""
    x, kernel = operands(groups)
    mesh = mesh_of((4, 2), ("a", "b"), AxisType.Explicit)
    sharded = [
        jax.device_put(a, NamedSharding(mesh, spec))
        for a, spec in ((x, x_spec), (kernel, kernel_spec))
    ]

    def theirs(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", feature_group_count=groups, out_sharding=out,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    ours = partial(dense, groups=groups, out_sharding=out)
    with jax.set_mesh(mesh):
        for ask in (lambda f: f, both_gradients):
            try:
                accepted = jax.eval_shape(ask(theirs), *sharded)
            except Exception:
                continue  # ours may accept it or not; the next test holds it to be clear
            found = jax.jit(ask(ours))(*sharded)
            equal(found, ask(partial(dense, groups=groups))(x, kernel))
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(accepted), strict=True):
                assert spec_of(a) == b.sharding.spec


def test_explicit_axes_that_leave_the_result_open_need_out_sharding():
    x, kernel = operands()
    mesh = mesh_of((4, 2), ("a", "b"), AxisType.Explicit)
    with jax.set_mesh(mesh):
        x = jax.reshard(x, P(None, None, None, "a"))
        kernel = jax.reshard(kernel, P(None, None, "a"))
        with pytest.raises(Exception, match="`?out_sharding`?"):
            jax.jit(dense)(x, kernel)
        y = jax.jit(partial(dense, out_sharding=P("b")))(x, kernel)
        assert spec_of(y) == P("b", None, None, None)
    equal(y, dense(*operands()))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("out", [P("b", "a"), P(None, None, None, "a"), P()])
def test_explicit_out_sharding_of_the_transposed(out, groups):
    x, kernel = operands(groups)
    function = partial(transposed, groups=groups)
    mesh = mesh_of((4, 2), ("a", "b"), AxisType.Explicit)
    with jax.set_mesh(mesh):
        sharded = jax.reshard(x, P("a")), jax.reshard(kernel, P())
        y = jax.jit(partial(function, out_sharding=out))(*sharded)
        assert spec_of(y) == P(*out, *(None,) * (4 - len(out)))
        equal(y, function(x, kernel))
        ours = jax.jit(both_gradients(partial(function, out_sharding=out)))(*sharded)
        equal(ours, both_gradients(function)(x, kernel))
        assert [spec_of(g) for g in ours] == [spec_of(a) for a in sharded]


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("mode", ["wrap", "constant"])
def test_explicit_axes_with_every_option(mode, groups):
    """N and H sharded, boundary modes, strides and dilations: explicit types get through."""
    x, kernel = operands(groups)
    options = {
        "strides": (1, 2), "padding": [(1, 1), (2, 1)], "padding_mode": mode,
        "kernel_dilation": (1, 2), "groups": groups,
    }  # fmt: skip
    function = partial(dense, **options)
    mesh = mesh_of((4, 2), ("a", "b"), AxisType.Explicit)
    with jax.set_mesh(mesh):
        for spec in (P("a"), P("b", None, None)):
            sharded = jax.reshard(x, spec), jax.reshard(kernel, P())
            equal(jax.jit(function)(*sharded), function(x, kernel))
            ours = jax.jit(both_gradients(function))(*sharded)
            equal(ours, both_gradients(function)(x, kernel))
            eager = function(*sharded)
            assert spec_of(eager)[0] == spec[0]
            equal(eager, function(x, kernel))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("axes", [(0, None), (0, 0), (None, 0), (1, None)])
def test_explicit_vmap_of_a_sharded_axis(axes, groups):
    """The mapped axis is sharded: so is the result's, and the gradients keep their sharding."""
    x, kernel = operands(groups)
    x, kernel = x[:2], kernel
    stack = [a if axis is None else np.stack([a, a + 1, 2 * a, -a], axis)
             for a, axis in zip((x, kernel), axes, strict=True)]  # fmt: skip
    function = partial(dense, groups=groups)
    mapped = jax.vmap(function, axes)
    mesh = mesh_of((4, 2), ("a", "b"), AxisType.Explicit)

    def total(x, kernel):
        return jax.vmap(loss_of(function), axes)(x, kernel).sum()

    wanted = mapped(*stack), jax.grad(total, (0, 1))(*stack)
    with jax.set_mesh(mesh):
        sharded = [
            jax.reshard(a, P() if axis is None else P(*(None,) * axis, "a"))
            for a, axis in zip(stack, axes, strict=True)
        ]
        y = jax.jit(mapped)(*sharded)
        assert spec_of(y)[0] == "a"
        gradients = jax.jit(jax.grad(total, (0, 1)))(*sharded)
        assert [spec_of(g) for g in gradients] == [spec_of(a) for a in sharded]
        each = jax.jit(jax.vmap(both_gradients(function), axes))(*sharded)
        single = both_gradients(function)
        if axes != (None, 0):
            out = jax.vmap(partial(function, out_sharding=P(None, None, None, "b")), axes)
            with_channels = jax.jit(out)(*sharded)
            assert spec_of(with_channels) == P("a", None, None, None, "b")
            equal(with_channels, wanted[0])
    equal((y, gradients), wanted)
    for i in range(4):
        pick = [a if axis is None else a.take(i, axis) for a, axis in zip(stack, axes, strict=True)]
        equal([np.asarray(g)[i] for g in each], single(*pick))


@pytest.mark.parametrize("groups", [1, 4])
def test_explicit_second_order(groups):
    """The derivative of a gradient: the transposes' own out_sharding is transposed again."""
    x, kernel = operands(groups)
    function = partial(dense, groups=groups)

    def square(x, kernel):
        return (function(x, kernel) ** 2).sum()

    def product(x, kernel):
        tangents = x, kernel
        forward = jax.jvp(jax.grad(square, (0, 1)), (x, kernel), tangents)[1]
        inner = jax.grad(lambda x, k: (jax.grad(square, 1)(x, k) * kernel).sum(), (0, 1))
        return forward, inner(x, kernel), jax.jvp(function, (x, kernel), tangents)[1]

    wanted = jax.jit(product)(x, kernel)
    mesh = mesh_of((4, 2), ("a", "b"), AxisType.Explicit)
    with jax.set_mesh(mesh):
        for spec in (P("a"), P("b", "a")):
            sharded = jax.reshard(x, spec), jax.reshard(kernel, P())
            ours = jax.jit(product)(*sharded)
            equal(ours, wanted)
            assert spec_of(ours[1][0]) == spec_of(sharded[0])
