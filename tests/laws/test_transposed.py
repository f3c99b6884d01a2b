"""Laws "adjoint" and "sizes": the transposed convolution, and gradients by the matrix C."""

from collections import Counter
from functools import partial

import jax
import numpy as np
import oracle
import pytest
import strategies
from hypothesis import event, given, settings
from test_conv import LAYOUTS, laid_out, run

import convjax


def inner(a, b):
    """The bilinear pairing, exactly."""
    return (oracle.wide(a) * oracle.wide(b)).sum()


def test_conv_transpose_is_the_adjoint():
    """<conv(u, k), v> == <u, conv_transpose(v, k)>, and C^T v, and jax's own transpose of conv.

    The options of both are the same, but for the word CAUSAL: `conv` is given what it crops.
    """
    met = Counter()

    @settings(max_examples=150)
    @given(strategies.transposed())
    def law(case):
        for feature in case.features():
            event(feature)
        met.update(case.features())
        u, kernel, v = case.numbers()
        conv = partial(convjax.conv, **case.forward_options)
        transpose = partial(convjax.conv_transpose, **case.options)
        assert jax.eval_shape(transpose, v, kernel).shape == u.shape

        @jax.jit
        def both(u, kernel, v):
            (adjoint,) = jax.linear_transpose(lambda u: conv(u, kernel), u)(v)
            return conv(u, kernel), transpose(v, kernel), adjoint

        forward, back, adjoint = both(u, kernel, v)
        wanted = oracle.conv_transpose(v, kernel, case.space, **case.forward_options)
        np.testing.assert_array_equal(back, wanted)
        np.testing.assert_array_equal(adjoint, wanted)
        assert inner(forward, v) == inner(u, back)

    law()
    assert [name for name in strategies.TRANSPOSED_FEATURES if not met[name]] == []


def test_gradients_of_conv_are_those_of_the_matrix():
    met = Counter()

    @settings(max_examples=130)
    @given(strategies.convolutions())
    def law(case):
        met.update(case.features())
        x, kernel, cotangent = case.numbers()

        @jax.jit
        def pull(x, kernel, cotangent):
            return jax.vjp(partial(convjax.conv, **case.options), x, kernel)[1](cotangent)

        x_gradient, kernel_gradient = pull(x, kernel, cotangent)
        c = oracle.matrix(kernel, case.space, **case.options)
        wanted = (cotangent.reshape(len(x), -1) @ c).reshape(x.shape)
        np.testing.assert_array_equal(x_gradient, wanted)
        wanted = oracle.kernel_gradient(x, cotangent, kernel.shape, **case.options)
        np.testing.assert_array_equal(kernel_gradient, wanted)

    law()
    assert [name for name in strategies.FORWARD_FEATURES if not met[name]] == []


def test_gradients_of_conv_transpose_are_those_of_the_matrix():
    """With respect to y it is C again; with respect to the kernel, conv's with x, y exchanged."""

    @settings(max_examples=50)
    @given(strategies.transposed())
    def law(case):
        u, kernel, v = case.numbers()

        @jax.jit
        def pull(v, kernel, u):
            return jax.vjp(partial(convjax.conv_transpose, **case.options), v, kernel)[1](u)

        v_gradient, kernel_gradient = pull(v, kernel, u)
        options = case.forward_options
        np.testing.assert_array_equal(v_gradient, oracle.conv(u, kernel, **options))
        np.testing.assert_array_equal(
            kernel_gradient, oracle.kernel_gradient(u, v, kernel.shape, **options)
        )

    law()


def test_the_gradient_of_the_oracles_kernel_is_its_finite_difference():
    """The oracle's kernel gradient is itself checked: conv is linear in the kernel."""

    @settings(max_examples=40)
    @given(strategies.convolutions())
    def law(case):
        x, kernel, cotangent = case.numbers()
        gradient = oracle.kernel_gradient(x, cotangent, kernel.shape, **case.options)
        assert inner(gradient, kernel) == inner(oracle.conv(x, kernel, **case.options), cotangent)

    law()


# n, k, options, extents: each line computed by hand from its formula
EXTENTS = [
    (2, 3, {"padding": "VALID"}, 4),  # relation 8: n + (k - 1)
    (5, 4, {"padding": 2}, 4),  # relation 9: n + (k - 1) - 2p
    (5, 3, {"padding": 1}, 5),  # relation 10, same: n
    (7, 3, {"padding": "FULL"}, 5),  # relation 11: n - (k - 1)
    (2, 3, {"padding": "VALID", "strides": 2}, 5),  # relation 12: s(n - 1) + k
    (3, 3, {"padding": 1, "strides": 2}, 5),  # relation 13: s(n - 1) + k - 2p
    (3, 3, {"padding": 1, "strides": 2, "output_padding": 1}, 6),  # relation 14: ... + a
    (3, 3, {"padding": (1,), "strides": 3, "output_padding": 2}, 9),
    (4, 3, {"strides": 2}, 8),
    (4, 3, {"strides": 2, "padding": "SAME_LOWER"}, 8),
    (4, 2, {"strides": 3}, 12),  # stride > kernel
    (4, 3, {"strides": 2, "padding": [(2, 0)]}, 7),  # of a causal conv: the start is cropped
    (4, 3, {"strides": 2, "padding": [(2, 0)], "output_padding": 1}, 8),
    (4, 3, {"strides": 2, "padding": [(0, 1)]}, 8),  # the end is cropped: "CAUSAL"
    (4, 3, {"strides": 3, "kernel_dilation": 2, "padding": "VALID"}, 14),
    (4, 3, {"strides": 3, "kernel_dilation": 2, "padding": [(1, 2)]}, 11),
    (4, 3, {"padding": [(-1, -2)]}, 9),  # a negative pad crops the forward input: zeros here
    (4, 1, {"strides": 4, "padding": "VALID"}, 13),
    (4, 4, {"strides": 4, "padding": "VALID"}, 16),
    (4, 3, {"strides": 2, "output_shape": 7}, 7),
    (4, 3, {"strides": 2, "output_shape": (8,)}, 8),
    (4, 3, {"strides": 2, "output_shape": [10], "padding": "VALID"}, 10),
]


@pytest.mark.parametrize("n, k, options, wanted", EXTENTS)
def test_extents(n, k, options, wanted):
    y, kernel = oracle.integers(0, (2, n, 3)), oracle.integers(1, (k, 4, 3))
    options = dict(options)
    forward = {key: value for key, value in options.items() if not key.startswith("output_")}
    if "output_shape" not in options:
        assert oracle.transposed_extents((n,), (k,), **options) == (wanted,)
    assert oracle.problem((wanted,), (k,), **forward).out_space == (n,)
    result = run(convjax.conv_transpose, y, kernel, **options)
    np.testing.assert_array_equal(result, oracle.conv_transpose(y, kernel, (wanted,), **forward))


def test_relation_14_after_relation_6_is_the_identity():
    """Size of conv(conv_transpose(y)) is y's, over every small geometry, by shapes alone."""
    tried = 0
    for n in (1, 2, 5):
        for k in (1, 2, 3, 4):
            kernel = jax.ShapeDtypeStruct((k, 2, 3), np.float32)
            for s in (1, 2, 3):
                for p in ("VALID", "FULL", "SAME", "SAME_LOWER", "CAUSAL", 0, 1, [(2, -1)]):
                    for extra in range(s if p not in ("SAME", "SAME_LOWER", "CAUSAL") else 1):
                        options = {"strides": s, "padding": p}
                        sizes = options | {"output_padding": extra}
                        (wanted,) = oracle.transposed_extents((n,), (k,), **sizes)
                        if wanted < 1:
                            continue
                        y = jax.ShapeDtypeStruct((1, n, 3), np.float32)
                        u = jax.eval_shape(partial(convjax.conv_transpose, **sizes), y, kernel)
                        assert u.shape == (1, wanted, 2)
                        back = jax.eval_shape(partial(convjax.conv, **options), u, kernel)
                        assert back.shape == y.shape
                        tried += 1
    assert tried > 400


def test_every_legal_output_shape():
    """All extents whose forward size is n are accepted, and no others."""
    y, kernel = oracle.integers(0, (2, 3, 5)), oracle.integers(1, (4, 2, 5))
    for padding in (*oracle.POLICIES, 1, [(2, 0)]):
        legal = []
        for extent in range(1, 20):
            options = {"strides": 3, "padding": padding}
            function = partial(convjax.conv_transpose, output_shape=extent, **options)
            if oracle.problem((extent,), (4,), **options).out_space == (3,):
                legal.append(extent)
                options["padding"] = oracle.crops(padding, (3,), (extent,), (4,), strides=3)
                np.testing.assert_array_equal(
                    function(y, kernel), oracle.conv_transpose(y, kernel, (extent,), **options)
                )
            else:
                with pytest.raises(ValueError, match=r"^conv_transpose: `output_shape`"):
                    function(y, kernel)
        assert len(legal) == 3


@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
def test_dimension_numbers(layout):
    """(y, kernel, result); I and O of the kernel keep the meaning that they have for conv."""
    lhs, rhs, out = layout
    axes = [letter for letter in rhs if letter not in "IO"]
    rank, space = len(axes), "".join(axes)
    own_y, own_kernel = f"N{space}C", f"{space}IO"
    y = oracle.integers(0, (2, *(4, 3, 5)[:rank], 6))
    kernel = oracle.integers(1, (*(3, 2, 4)[:rank], 2, 6))
    options = {
        "strides": (1, 2, 3)[:rank],
        "padding": [(1, 2), (0, 1), (2, -1)][:rank],
        "kernel_dilation": (2, 1, 1)[:rank],
    }
    extra = (0, 1, 2)[:rank]
    extents = oracle.transposed_extents(
        y.shape[1:-1], kernel.shape[:-2], output_padding=extra, **options
    )
    options["feature_group_count"] = 2
    result = run(
        convjax.conv_transpose,
        laid_out(y, own_y, lhs),
        laid_out(kernel, own_kernel, rhs),
        dimension_numbers=layout,
        output_padding=extra,
        **options,
    )
    wanted = oracle.conv_transpose(y, kernel, extents, **options)
    np.testing.assert_array_equal(result, laid_out(wanted, own_y, out))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3), (3, 2)])
def test_lax_agrees_where_it_has_the_notion(strides, padding):
    """lax's ``transpose_kernel=True`` is the gradient of a convolution (kernel >= stride)."""
    y, kernel = oracle.integers(0, (2, 4, 3, 5)), oracle.integers(1, (4, 3, 2, 5))
    theirs = jax.lax.conv_transpose(y, kernel, strides, padding, transpose_kernel=True)
    ours = run(convjax.conv_transpose, y, kernel, strides=strides, padding=padding)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("mode", oracle.MODES)
def test_modes_fold_and_add(mode):
    """A cotangent beyond the edge goes back to the element whose copy lay there."""
    y, kernel = oracle.integers(0, (2, 5, 4, 3)), oracle.integers(1, (3, 4, 2, 3))
    options = {"padding": [(2, 1), (-1, 3)], "padding_mode": mode, "strides": (1, 2)}
    space = oracle.transposed_extents((5, 4), (3, 4), strides=(1, 2), padding=options["padding"])
    result = run(convjax.conv_transpose, y, kernel, **options)
    np.testing.assert_array_equal(result, oracle.conv_transpose(y, kernel, space, **options))
    if mode != "constant":  # at stride 1 every element of y gives its whole weight
        ones = np.ones((1, 6, 7, 3), np.float32)
        options = {"padding": [(1, 1), (2, 1)], "padding_mode": mode}
        total = run(convjax.conv_transpose, ones, kernel, **options).sum()
        assert total == ones.sum() / 3 * kernel.sum()


def test_empty_batches_transpose_too():
    y, kernel = np.ones((0, 4, 5), np.float32), np.ones((3, 2, 5), np.float32)
    assert convjax.conv_transpose(y, kernel, strides=2).shape == (0, 8, 2)
    gradient = jax.grad(lambda k: convjax.conv_transpose(y, k, strides=2).sum())(kernel)
    np.testing.assert_array_equal(gradient, np.zeros_like(kernel))


FAULTS = [
    ({"strides": 2, "output_padding": 2, "padding": 1}, r"`output_padding` \(=2\).*\(1, -1\)"),
    (
        {"strides": 2, "output_padding": 3, "padding": [(2, 1)]},
        r"`output_padding` \(=3\).*\(2, -2\)",
    ),
    ({"strides": 1, "output_padding": 1, "padding": "VALID"}, r"`output_padding` \(=1\)"),
    ({"strides": 2, "output_padding": -1, "padding": 0}, r"`output_padding` \(=-1\)"),
    ({"strides": 2, "output_padding": 1}, r"`output_padding` \(=1\).*SAME"),
    (
        {"strides": 2, "output_padding": 1, "padding": "SAME_LOWER"},
        r"`output_padding` \(=1\).*SAME",
    ),
    (
        {"strides": 2, "output_padding": 1, "output_shape": 8, "padding": 0},
        r"`output_\w+`.*output_",
    ),
    ({"strides": 2, "output_shape": 9}, r"`output_shape` \(=\(?9,?\)?\)"),
    ({"strides": 2, "output_shape": 6}, r"`output_shape` \(=\(?6,?\)?\)"),
    ({"strides": 2, "output_shape": (8, 8)}, r"`output_shape` \(=\(8, 8\)\)"),
    ({"padding": "FULL", "kernel_dilation": 3}, r"`padding`|`y`|`kernel`"),
]


@pytest.mark.parametrize("options, words", FAULTS)
def test_output_padding_and_output_shape_errors(options, words):
    y, kernel = np.ones((2, 4, 5), np.float32), np.ones((3, 2, 5), np.float32)
    function = partial(convjax.conv_transpose, **options)
    for call in (function, jax.jit(function), partial(jax.eval_shape, function)):
        with pytest.raises(ValueError, match=f"(?s)^conv_transpose: .*({words})"):
            call(y, kernel)


def test_the_suggested_padding_is_right():
    """For PyTorch's output_padding >= stride: crop less at the end, ``padding=(lo, hi - op)``."""
    y, kernel = oracle.integers(0, (2, 4, 5)), oracle.integers(1, (3, 2, 5))
    result = run(convjax.conv_transpose, y, kernel, strides=2, padding=[(1, 1 - 3)])
    assert result.shape[1] == (4 - 1) * 2 + 3 - 1 - 1 + 3
    plain = run(convjax.conv_transpose, y, kernel, strides=2, padding=1)
    np.testing.assert_array_equal(result[:, : plain.shape[1]], plain)
