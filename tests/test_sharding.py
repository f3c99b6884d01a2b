"""More than one device: shard_map, automatic sharding, explicit mesh axes; values and gradients.

Runs on 8 simulated CPU devices (conftest.py). Everything is compared with the same call on one
device, exactly, and with what lax accepts there.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import convjax

CPUS = jax.devices("cpu")
pytestmark = pytest.mark.skipif(len(CPUS) < 8, reason="needs 8 CPU devices (see conftest.py)")

N, H, W, I, O = 8, 12, 4, 16, 24  # noqa: E741 (the alphabet of the docstrings)


def operands(groups=1):
    x = oracle.integers(0, (N, H, W, I), bound=2)
    return x, oracle.integers(1, (3, 2, I // groups, O), bound=2)


def dense(x, kernel, groups=1, **options):
    return convjax.conv(x, kernel, feature_group_count=groups, **options)


def transposed(x, kernel, groups=1, **options):
    """Conv with strides, then back: both operations, x's shape again."""
    y = convjax.conv(x, kernel, strides=(3, 1), feature_group_count=groups)
    return convjax.conv_transpose(y, kernel, strides=(3, 1), feature_group_count=groups, **options)


KINDS = {"conv": dense, "transposed": transposed}


def loss_of(function):
    """A loss with a different weight for every output of one example (the same for all N)."""

    def loss(x, kernel):
        y = function(x, kernel)
        weights = oracle.integers(9, y.shape[1:], np.float32, 2)
        return (y * weights).sum()

    return loss


def both_gradients(function):
    return jax.grad(loss_of(function), (0, 1))


def equal(ours, wanted):
    ours, wanted = jax.tree.leaves(ours), jax.tree.leaves(wanted)
    for a, b in zip(ours, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def mesh_of(shape, names, kind=AxisType.Auto):
    devices = CPUS[: int(np.prod(shape))]
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(names), devices=devices)


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


# ---- explicit mesh axes (the default of jax.make_mesh) -------------------------------------------

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
