"""Law "sizes": the paper's relations and receptive fields, against real results' shapes."""

import inspect
import itertools
import math
import re
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import convjax
from convjax import arithmetic
from convjax.analysis import empirical_receptive_field
from convjax.arithmetic import conv_output_size, conv_transpose_output_size, receptive_field


def shape(function, space, window, **options):
    """Spatial extents that `function` really gives, one axis at a time or several."""
    x = jax.ShapeDtypeStruct((2, *space, 3), jnp.float32)
    channels = (5, 3) if function is convjax.conv_transpose else (3, 5)
    kernel = jax.ShapeDtypeStruct((*window, *channels), jnp.float32)
    return jax.eval_shape(lambda x, k: function(x, k, **options), x, kernel).shape[1:-1]


def conv(i, k, s=1, p=0, d=1):
    return shape(convjax.conv, (i,), (k,), strides=s, padding=p, kernel_dilation=d)[0]


def transposed(i, k, s=1, p=0, a=0):
    options = {"strides": s, "padding": p, "output_padding": a}
    return shape(convjax.conv_transpose, (i,), (k,), **options)[0]


def test_relations_of_the_convolution():
    for i, k in itertools.product(range(1, 9), range(1, 5)):
        p = k % 3
        if k <= i:
            assert arithmetic.relation_1(i, k) == conv(i, k)
            for s in (1, 2, 3):
                pool = jax.eval_shape(
                    lambda x, k=k, s=s: lax.reduce_window(x, 0.0, lax.max, (k,), (s,), "VALID"),
                    jax.ShapeDtypeStruct((i,), jnp.float32),
                )
                assert arithmetic.relation_5(i, k, s) == conv(i, k, s)
                assert arithmetic.relation_7(i, k, s) == pool.shape[0]
        if k <= i + 2 * p:
            assert arithmetic.relation_2(i, k, p) == conv(i, k, p=p)
        if k % 2:
            assert arithmetic.relation_3(i, k) == conv(i, k, p=k // 2) == i
        assert arithmetic.relation_4(i, k) == conv(i, k, p=k - 1) == i + k - 1


@pytest.mark.parametrize("s", [1, 2, 3])
def test_relations_6_and_15(s):
    for i, k, p, d in itertools.product((1, 4, 5, 9), (1, 2, 3), (0, 1, 4), (1, 2, 3)):
        if (k - 1) * d + 1 <= i + 2 * p:
            expected = conv(i, k, s, p, d)
            assert arithmetic.relation_15(i, k, s, p, d) == expected
            if d == 1:
                assert arithmetic.relation_6(i, k, s, p) == expected


def test_relations_of_the_transposed_convolution():
    for i, k in itertools.product(range(1, 7), range(1, 5)):
        assert arithmetic.relation_8(i, k) == transposed(i, k)
        for p in range(k):
            if i + k - 1 - 2 * p > 0:
                assert arithmetic.relation_9(i, k, p) == transposed(i, k, p=p)
        if k % 2:
            assert arithmetic.relation_10(i, k) == transposed(i, k, p=k // 2) == i
        if i >= k:
            assert arithmetic.relation_11(i, k) == transposed(i, k, p=k - 1)
        for s in (1, 2, 3):
            assert arithmetic.relation_12(i, k, s) == transposed(i, k, s)
            for p, a in itertools.product(range(2), range(s)):
                if s * (i - 1) + k - 2 * p > 0:
                    assert arithmetic.relation_13(i, k, s, p) == transposed(i, k, s, p)
                    assert arithmetic.relation_14(i, k, s, p, a) == transposed(i, k, s, p, a)


@pytest.mark.parametrize("number", range(1, 16))
def test_each_relation_is_its_documented_formula(number):
    """Every ``o = ...`` of its documentation, computed, is what it returns."""
    relation = getattr(arithmetic, f"relation_{number}")
    (sides,) = re.findall(r"``o = (.*)``", relation.__doc__)
    # Write out the products: 2p, s(i - 1), (k - 1)(d - 1)
    written = [re.sub(r"(\d|\)|\b[a-z]\b)(?=[a-z(])", r"\1*", side) for side in sides.split(" = ")]
    letters, checked = tuple(inspect.signature(relation).parameters), 0
    for values in itertools.product(range(1, 8), range(1, 6), *[(0, 1, 2)] * (len(letters) - 2)):
        given = dict(zip(letters, values, strict=True))
        try:
            size = relation(**given)
        except ValueError:
            continue  # out of range: `test_errors` has these
        for side in written:
            assert eval(side, {"floor": math.floor}, given) == size, (side, given)
        checked += 1
    assert checked >= 15


def test_the_figures_of_the_paper():
    assert arithmetic.relation_8(2, 3) == 4
    assert arithmetic.relation_9(6, 4, 2) == 5
    assert arithmetic.relation_10(5, 3) == 5
    assert arithmetic.relation_11(7, 3) == 5
    assert arithmetic.relation_12(2, 3, 2) == 5
    assert arithmetic.relation_13(3, 3, 2, 1) == 5
    assert arithmetic.relation_14(3, 3, 2, 1, 1) == 6
    assert arithmetic.relation_15(7, 3, 1, 0, 2) == 3


def test_relation_14_undoes_relation_6():
    met = 0
    for i, k, s in itertools.product(range(1, 13), range(1, 6), range(1, 5)):
        for p in range(k):
            if k > i + 2 * p:
                continue
            o, a = arithmetic.relation_6(i, k, s, p), (i + 2 * p - k) % s
            assert arithmetic.relation_14(o, k, s, p, a) == i
            if a == 0:
                assert arithmetic.relation_13(o, k, s, p) == i
            met += 1
    assert met > 500


PADDINGS = ["SAME", "SAME_LOWER", "VALID", "FULL", "CAUSAL", 2, (0, 2), ((2, 0), (-1, 3))]


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("strides", [1, (3, 2)])
def test_output_sizes_are_those_of_the_functions(padding, strides):
    options = {"strides": strides, "padding": padding, "kernel_dilation": (1, 2)}
    for space, window in [((7, 9), (3, 2)), ((6, 5), (2, 1)), ((4, 11), (4, 3))]:
        for holes in (1, (2, 3)):
            found = conv_output_size(space, window, **options, input_dilation=holes)
            assert found == shape(convjax.conv, space, window, **options, input_dilation=holes)
        found = conv_transpose_output_size(space, window, **options)
        assert found == shape(convjax.conv_transpose, space, window, **options)
        if not isinstance(padding, str) and strides != 1:
            extra = {"output_padding": (2, 1)}
            found = conv_transpose_output_size(space, window, **options, **extra)
            assert found == shape(convjax.conv_transpose, space, window, **options, **extra)


def test_output_sizes_take_ints_and_sequences():
    assert conv_output_size(224, 7, strides=2, padding=3) == 112
    assert conv_output_size([224, 56], [7, 3], strides=np.int64(2)) == (112, 28)
    assert conv_output_size(0, 3) == 0
    assert conv_transpose_output_size((0, 4), 3, strides=2) == (0, 8)
    assert isinstance(conv_transpose_output_size(3, 3), int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arithmetic.relation_1(2, 3), r"relation_1: `k` \(=3\) spans 3 and must fit"),
        (lambda: arithmetic.relation_3(5, 4), r"relation_3: `k` \(=4\) must be odd"),
        (lambda: arithmetic.relation_6(5, 3, 0, 1), r"relation_6: `s` \(=0\) must be at least 1"),
        (lambda: arithmetic.relation_9(1, 3, 2), r"relation_9: `p` \(=2\) crops everything"),
        (lambda: arithmetic.relation_14(3, 3, 2, 1, 2), r"relation_14: `a` \(=2\) must be less"),
        (
            lambda: conv_output_size(4, 3, padding="VALID", kernel_dilation=2),
            "reaches over 5 elements",
        ),
        (lambda: conv_output_size((4, 4), (3,)), r"`kernel_size` \(=\(3,\)\) must have one entry"),
        (lambda: conv_transpose_output_size(4, 3, output_padding=1), "must be 0 under padding"),
        (
            lambda: conv_transpose_output_size(4, 3, strides=2, padding=0, output_padding=2),
            "`output_padding` .* must be less than `strides`",
        ),
        (lambda: conv_transpose_output_size(2, 3, padding=4), "`padding` .* crops everything"),
        (lambda: receptive_field([(3, 1, 1, 0, 2)]), "`layer` .* must be .kernel_size, strides"),
        (
            lambda: receptive_field(["transposed"]),
            r"`layer` \(='transposed'\) must be .kernel_size",
        ),
        (lambda: receptive_field([("deconv", 3)]), r"`layer` .* or \(\"transposed\", ...\) with"),
        (lambda: receptive_field([("resize",)]), r"or \(\"resize\", scale, method\)"),
        (lambda: receptive_field([("resize", 0)]), r"`scale` \(=0\) must be at least 1"),
        (lambda: receptive_field([("resize", 2, "cubic")]), "`method` .* must be one of"),
        (lambda: receptive_field([(3,)], output=-1), r"`output` \(=-1\) must be at least 0"),
        (lambda: receptive_field([("transposed", 3, 2, 1, "SAME")]), "`padding` .* must be"),
        (lambda: receptive_field([((3, 3),), ((3, 3, 3),)]), "must have one entry per spatial"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- receptive fields --------------------------------------------------------------------------


def test_receptive_fields_of_the_article_and_the_context_module():
    stacked = [(3, 1, 1), (3, 1, 2), (3, 1, 4)]
    assert [receptive_field(stacked[:n]).size for n in (1, 2, 3)] == [3, 7, 15]
    assert [receptive_field([layer]).size for layer in stacked] == [3, 5, 9]
    dilations = [1, 1, 2, 4, 8, 16, 1]
    context = [(3, 1, d) for d in dilations] + [(1,)]
    sizes = [receptive_field(context[:n]).size for n in range(1, 9)]
    assert sizes == [3, 5, 9, 17, 33, 65, 67, 67]
    assert receptive_field([]) == (1, 1, 0)


STACKS = [
    [(3, 2, 1, 1), (2, 3, 2, 0), (3, 1, 1, 2)],
    [(4, 1, 2, ((1, 0),)), (3, 2, 1, ((2, 3),))],
    [(2, 2), (2, 2), (3, 1, 3)],
]


@pytest.mark.parametrize("layers", STACKS)
def test_receptive_field_is_where_the_gradient_is_not_zero(layers):
    n = 60

    def stack(x):
        for layer in layers:
            k, s, d, p = (*layer, *(1, 1, 1, 0)[len(layer) :])
            x = convjax.conv(x, jnp.ones((k, 1, 1)), strides=s, kernel_dilation=d, padding=p)
        return x[0, :, 0]

    size, jump, start = (np.ravel(v)[0] for v in receptive_field(layers))
    jacobian = np.asarray(jax.jacobian(stack)(jnp.ones((1, n, 1))))[:, 0, :, 0]
    for o in (0, 1, len(jacobian) // 2):
        touched = np.nonzero(jacobian[o])[0]
        first = start + o * jump
        # Where the field begins in the padding, its first taps touch nothing.
        assert set(touched) <= set(range(first, first + size))
        if first >= 0:
            assert (touched[0], touched[-1]) == (first, first + size - 1)


def line(layers, x):
    """The stack of `layers` on a line (N, n, 1), every weight 1."""
    for layer in layers:
        kind, row = (layer[0], layer[1:]) if isinstance(layer[0], str) else ("conv", layer)
        if kind == "resize":
            x = convjax.resize(x, row[0], method=row[1] if len(row) > 1 else "nearest")
            continue
        k, s, d, p = (*row, *(1, 1, 1, 0)[len(row) :])
        function = convjax.conv_transpose if kind == "transposed" else convjax.conv
        x = function(x, jnp.ones((k, 1, 1)), strides=s, kernel_dilation=d, padding=p)
    return x


UP = [
    [("transposed", 2, 2)],
    [("transposed", 4, 2, 1, 1), (3, 1, 1, 1)],
    [(3, 2, 1, 1), (3, 1, 1, 1), ("transposed", 3, 2, 1, ((1, 0),)), (3, 1, 2, 2)],
    [("resize", 2), (3, 1, 1, 1)],
    [("resize", 3, "bilinear"), (3, 2, 1, 1)],
    [(2, 2), ("resize", 2, "bilinear"), ("transposed", 5, 3, 1, 2), (4, 1, 1, ((1, 2),))],
    [("transposed", 2, 3, 1, 0), (3, 2, 1, 1)],  # gaps between the copies
    [("transposed", 3, 4, 2, 0), ("transposed", 2, 2)],
    [(3, 1, 1, 1), (2, 2), (3, 1, 1, 1), (2, 2), (3, 1, 1, 1)]
    + [("transposed", 2, 2), (3, 1, 1, 1)] * 2,
]


@pytest.mark.parametrize("layers", UP, ids=str)
def test_receptive_fields_through_layers_that_enlarge(layers):
    """Of every output in the middle, and of the largest: where the gradient is not zero."""
    n = 48
    jacobian = np.asarray(jax.jacobian(lambda x: line(layers, x)[0, :, 0])(jnp.ones((1, n, 1))))
    jacobian = jacobian[:, 0, :, 0]
    whole, sizes = receptive_field(layers), []
    for o, row in enumerate(jacobian):
        size, jump, start = (np.ravel(v)[0] for v in receptive_field(layers, output=o))
        assert jump == np.ravel(whole.jump)[0]
        touched = np.flatnonzero(row)
        if size and (start < 0 or start + size > n):
            assert set(touched) <= set(range(start, start + size))
            continue
        assert size == (touched[-1] - touched[0] + 1 if len(touched) else 0)
        assert start == (touched[0] if len(touched) else 0)
        sizes.append(size)
    assert len(sizes) > 20 and max(sizes) == np.ravel(whole.size)[0]
    assert whole.start == receptive_field(layers, output=0).start


def test_receptive_field_of_a_small_v_net_is_what_the_gradient_sees():
    """Down twice, up twice, with a longer path than the skip: `empirical_receptive_field`'s."""
    layers = UP[-1]
    space = (52, 44)

    def net(x):
        for layer in layers:
            kind, row = (layer[0], layer[1:]) if isinstance(layer[0], str) else ("conv", layer)
            k, s, _, p = (*row, *(1, 1, 1, 0)[len(row) :])
            function = convjax.conv_transpose if kind == "transposed" else convjax.conv
            x = function(x, jnp.ones((k, k, 1, 1)), strides=s, padding=p)
        return x

    found = empirical_receptive_field(net, (1, *space, 1))
    field = receptive_field(layers, output=tuple(n // 2 for n in space))
    assert found.size.tolist() == list(field.size)
    assert found.start.tolist() == list(field.start)
    assert field.jump == (1, 1)
    deeper = receptive_field([((3, 3), 1, 1, 1), *layers[1:]])
    assert deeper.size == (receptive_field(layers).size,) * 2


def test_enlarging_per_axis():
    field = receptive_field(
        [("resize", (2, 3)), ("transposed", (4, 2), (2, 1), 1, ((1, 1), (0, 0)))]
    )
    assert field.jump == (Fraction(1, 4), Fraction(1, 3))
    rows = [receptive_field([("resize", 2), ("transposed", 4, 2, 1, 1)])]
    rows += [receptive_field([("resize", 3), ("transposed", 2)])]
    assert field == tuple(zip(*rows, strict=True))
    assert receptive_field([], output=3) == (1, 1, 3)
    assert receptive_field([(3, 2, 1, 1)], output=(2, 5)).start == (3, 9)


def test_long_stacks_are_quick():
    """A receptive field of a billion places is had from its ends."""
    stack = [(3, 2, 1, 1)] * 30 + [("transposed", 4, 2, 1, 1), (3, 1, 1, 1)]
    assert receptive_field(stack).jump == 2**29
    assert receptive_field([(2, 1, 2**n) for n in range(40)]).size == 2**40


def test_receptive_field_per_axis():
    field = receptive_field([((3, 5), 2, 1, 1), (3, (1, 2), (2, 1), ((0, 1), (2, 0)))])
    assert field == ((11, 9), (2, 4), (-1, -5))
    rows = receptive_field([(3, 2, 1, 1), (3, 1, 2, 0)])
    assert tuple(axis[0] for axis in field) == rows
