"""Law "lax" under transforms: derivatives, `vmap` and explicit sharding of the drop-ins."""

import jax
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from test_lax import integers

import convjax.lax as ours

STRIDED = {"window_strides": (2, 3), "padding": [(1, 0), (-1, 2)]}
CALLS = {
    "plain": ((4, 3, 9, 7), (4, 3, 3, 2), {}),
    "strided": ((4, 3, 9, 7), (4, 3, 3, 2), {**STRIDED}),
    "dilated": ((4, 3, 9, 7), (4, 3, 3, 2), {**STRIDED, "lhs_dilation": (2, 1)}),
    "kernel dilated": ((4, 3, 9, 7), (4, 3, 3, 2), {"rhs_dilation": (1, 3)}),
    "feature groups": ((4, 6, 9, 7), (8, 3, 3, 2), {"feature_group_count": 2}),
    "batch groups": ((4, 3, 9, 7), (6, 3, 3, 2), {"batch_group_count": 2, **STRIDED}),
    "rank 0": ((4, 3), (5, 3), {"window_strides": (), "padding": ()}),
    "channels last": ((4, 9, 7, 3), (3, 2, 3, 5), {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_transforms(case):
    """Gradients, tangents, `vmap` of either operand and of both: the same integers as lax's."""
    x_shape, k_shape, arguments = CALLS[case]
    arguments = {"window_strides": (1, 1), "padding": "VALID"} | arguments
    x, kernel = integers(*x_shape), integers(*k_shape, seed=1)
    xs, kernels = integers(3, *x_shape, seed=2), integers(3, *k_shape, seed=3)

    def everything(module):
        def f(x, kernel):
            return module.conv_general_dilated(x, kernel, **arguments)

        y, pull = jax.vjp(f, x, kernel)
        ct = integers(*y.shape, seed=4)
        _, tangent = jax.jvp(f, (x, kernel), (xs[0], kernels[0]))
        mixed = jax.grad(
            lambda x, k: (jax.grad(lambda a: (f(a, k) * ct).sum())(x) * xs[1]).sum(), 1
        )
        return {
            "value": y,
            "gradients": pull(ct),
            "tangent": tangent,
            "second order": mixed(x, kernel),
            "vmap x": jax.vmap(f, (0, None))(xs, kernel),
            "vmap kernel": jax.vmap(f, (None, 0), 1)(x, kernels),
            "vmap both": jax.vmap(f)(xs, kernels),
            "vmap gradient": jax.vmap(lambda x, k: jax.grad(lambda k: (f(x, k) * ct).sum())(k))(
                xs, kernels
            ),
        }

    expected = jax.jit(lambda: everything(lax))()
    found = jax.jit(lambda: everything(ours))()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# ---- explicit sharding ---------------------------------------------------------------------------


SHARDED = [
    (P("a"), P(), None),
    (P(None, "a"), P(), None),
    (P("a", "b"), P(), None),
    (P("a"), P(), P("a", None, None, "b")),
    (P(), P(None, None, None, "b"), P("a", None, None, "b")),
    (P(None, None, None, "a"), P(), P(None, None, None, "b")),
    (P(), P(), P("b")),
    (P("a"), P("a"), P("a")),
    (P("a"), P(), P("a", None, None, None, None)),
    (P("a"), P(), P("c")),
]


@pytest.mark.parametrize("x_spec, k_spec, out_spec", SHARDED)
def test_out_sharding(x_spec, k_spec, out_spec):
    """The shardings that lax accepts and gives under explicit mesh axes, the gradients' included.

    The numbers are those of lax on one device: XLA's partitioner miscounts some of lax's gradients.
    """
    x, kernel = integers(4, 8, 6, 4), integers(2, 3, 4, 8, seed=1)

    def everything(module, x, kernel, out_sharding=None):
        def f(x, kernel):
            return module.conv_general_dilated(
                x, kernel, (1, 1), "SAME", None, None, ("NHWC", "HWIO", "NHWC"), 1, 1, None, None,
                out_sharding)  # fmt: skip

        gradients = jax.jit(jax.grad(lambda x, k: (f(x, k) ** 2).sum(), (0, 1)))
        return [jax.jit(f)(x, kernel), *gradients(x, kernel)]

    expected = everything(lax, x, kernel)
    mesh = jax.make_mesh(
        (2, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2, devices=jax.devices()[:4]
    )
    found = {}
    with jax.set_mesh(mesh):
        x = jax.device_put(x, NamedSharding(mesh, x_spec))
        kernel = jax.device_put(kernel, NamedSharding(mesh, k_spec))
        for module in (lax, ours):
            try:
                results = everything(module, x, kernel, out_spec)
            except Exception as error:
                found[module] = type(error)
            else:
                found[module] = [jax.typeof(y).sharding.spec for y in results]
                if module is ours:
                    jax.tree.map(np.testing.assert_array_equal, results, expected)
    assert found[ours] == found[lax]
