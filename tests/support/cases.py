"""What the tests of the transforms share: a few calls, and how to look into jaxprs."""

from functools import partial

import jax
import numpy as np
import oracle

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
