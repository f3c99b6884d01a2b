"""Law "counts": closed forms, the article's numbers, the oracle's taps, and `cost_of`."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import oracle
import pytest
import strategies
from hypothesis import given, settings

import convjax
from convjax import arithmetic, cost
from convjax._operation.counting import tap_pairs
from convjax._programs.cost_of import cost_of

GROUPS = "feature_group_count"
X, IMAGE = (1, 7, 7, 3), (1, 5, 5, 1)


def test_the_articles_spatially_separable_example():
    dense = cost.conv(IMAGE, (3, 3, 1, 1), padding="VALID")
    columns = cost.conv(IMAGE, (3, 1, 1, 1), padding="VALID")
    rows = cost.conv((1, 3, 5, 1), (1, 3, 1, 1), padding="VALID")
    split = cost.spatially_separable_conv(IMAGE, [(3, 1, 1, 1), (1, 3, 1, 1)], padding="VALID")
    assert (dense.macs, columns.macs, rows.macs, split.macs) == (81, 45, 27, 72)
    assert (dense.params, split.params) == (9, 6)
    assert split == columns + rows == sum([columns, rows], cost.Cost())


def test_the_articles_depthwise_separable_example():
    dense = cost.conv(X, (3, 3, 3, 128), padding="VALID")
    depthwise = cost.depthwise_conv(X, (3, 3, 1, 3), padding="VALID")
    pointwise = cost.pointwise_conv((1, 5, 5, 3), (1, 1, 3, 128))
    kernels = (3, 3, 1, 3), (1, 1, 3, 128)
    separable = cost.depthwise_separable_conv(X, *kernels, padding="VALID")
    found = [c.macs for c in (dense, depthwise, pointwise, separable)]
    assert found == [86_400, 675, 9_600, 10_275]
    assert (dense.params, separable.params) == (3_456, 27 + 384)
    assert Fraction(separable.macs, dense.macs) == cost.depthwise_separable_ratio(128, 3)
    assert separable == depthwise + pointwise


def test_ratios():
    for n, m in itertools.product((5, 9, 32), (1, 3, 4, 5)):
        kernels = [(m, 1, 1, 1), (1, m, 1, 1)]
        split = cost.spatially_separable_conv((1, n, n, 1), kernels, padding="VALID")
        dense = cost.conv((1, n, n, 1), (m, m, 1, 1), padding="VALID")
        assert Fraction(split.macs, dense.macs) == cost.spatially_separable_ratio(n, m)
    assert cost.spatially_separable_ratio(32, 5) == Fraction(3, 7)  # .42857
    assert round(float(cost.spatially_separable_ratio(224, 7)), 5) == 0.28965
    assert cost.spatially_separable_ratio(10**9, 7) - Fraction(2, 7) < Fraction(1, 10**8)
    assert cost.depthwise_separable_ratio(64, (3, 5)) == Fraction(1, 64) + Fraction(1, 15)
    assert cost.depthwise_separable_ratio(64, 3, rank=3) == Fraction(1, 64) + Fraction(1, 27)
    with pytest.raises(ValueError, match="`image_size` .* must be at least 3"):
        cost.spatially_separable_ratio(2, 3)


@pytest.mark.parametrize(
    ("i", "f", "full", "once", "twice"),
    [
        (96, 128, 307_200, 13_568, 31_232),
        (128, 256, 819_200, 35_328, 103_424),
        (3, 96, 7_200, None, 11_424),
    ],
)
def test_weights_of_the_flattened_network(i, f, full, once, twice):
    def flat(i):
        return cost.flattened_conv((1, 9, 9, i), (1, 1, i, f), [(5, 1, 1, f), (1, 5, 1, f)]).params

    assert cost.conv((1, 9, 9, i), (5, 5, i, f)).params == full
    assert flat(i) + flat(f) == twice
    assert once in (None, flat(i))


def test_weights_and_macs_of_network_in_network():
    layers = [(32, 5, 3, 192), (32, 1, 192, 160), (32, 1, 160, 96), (16, 5, 96, 192)]
    layers += [(16, 1, 192, 192)] * 2 + [(8, 3, 192, 192), (8, 1, 192, 192), (8, 1, 192, 10)]
    total = sum((cost.conv((1, n, n, i), (k, k, i, o)) for n, k, i, o in layers), cost.Cost())
    biases = sum(o for *_, o in layers)
    assert total.params + biases == 966_986
    assert total.macs == 222_486_528


def test_tap_pairs_of_one_axis():
    for n, k, s, low, a, d in itertools.product(
        (0, 1, 5), (1, 4), (1, 2, 6), (-2, 0, 3), (1, 2, 4), (1, 2, 3)
    ):
        for outputs in (0, 1, 7):
            reads = [o * s + t * d - low for o in range(outputs) for t in range(k)]
            elements = [p for p in reads if p % a == 0]
            real = sum(0 <= p <= (n - 1) * a for p in elements) if n else 0
            expected = real, len(elements) - real
            options = {"stride": s, "low": low, "input_dilation": a, "kernel_dilation": d}
            assert tap_pairs(n, k, outputs, **options) == expected


CONVS = [
    {},
    {"strides": (2, 3), "padding": "FULL"},
    {"padding": "CAUSAL", "kernel_dilation": (2, 3)},
    {"strides": 2, "padding": ((3, -1), (-2, 4)), "input_dilation": (3, 2)},
    {"strides": (3, 1), "padding": 2, "feature_group_count": 2},
]


@pytest.mark.parametrize("options", CONVS, ids=str)
def test_convolution_counts_the_oracles_taps(options):
    space, window, n, i, o = (6, 5), (2, 3), 2, 4, 6
    per_group = i // options.get("feature_group_count", 1)
    found = cost.conv((n, *space, i), (*window, per_group, o), **options)
    problem = oracle.problem(space, window, **options)
    real, padded = problem.count()
    size = n * per_group * o
    assert (found.useful_macs, found.macs) == (size * real, size * (real + padded))
    assert found.params == math.prod(window) * per_group * o
    elements = n * math.prod(space) * i + found.params + n * math.prod(problem.out_space) * o
    assert found.bytes == 4 * elements
    assert cost.conv((n, *space, i), (*window, per_group, o), itemsize=2, **options).bytes == (
        2 * elements
    )


@settings(max_examples=150)
@given(strategies.convolutions())
def test_any_convolution(case):
    """Closed form, counted and touched; extensions beyond the edge touch real elements."""
    problem = oracle.problem(case.space, case.kernel_shape[:-2], **case.options)
    macs = useful = case.x_shape[0] * case.kernel_shape[-2] * case.kernel_shape[-1]
    for axis in range(len(problem.space)):
        kinds = [str(source) for _, _, source in problem.axis_taps(axis)]
        macs *= len(kinds) - kinds.count("hole")
        useful *= len(kinds) - kinds.count("hole") - kinds.count("pad")
    closed = cost.conv(case.x_shape, case.kernel_shape, **case.options)
    assert (closed.macs, closed.useful_macs) == (macs, useful)
    arrays = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (case.x_shape, case.kernel_shape))
    found = cost_of(convjax.conv, *arrays, **case.options)
    assert (found.macs, found.useful_macs) == (macs, useful)
    sizes = {k: v for k, v in case.options.items() if k not in ("padding_mode", GROUPS)}
    out = arithmetic.conv_output_size(case.space, case.kernel_shape[:-2], **sizes)
    assert out == case.y_shape[1:-1]


TRANSPOSED = [
    {},
    {"strides": (2, 3)},
    {"strides": (2, 3), "padding": "VALID"},
    {"strides": 3, "padding": ((1, 0), (0, 2)), "output_padding": (2, 1), "kernel_dilation": 2},
    {"strides": (2, 3), "padding": "SAME", "output_shape": (7, 13)},
    {"strides": 2, "padding": 1, "padding_mode": ("reflect", "edge")},
]


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_has_its_convolutions_useful_macs(options, groups):
    y, kernel = (2, 4, 5, 6), (3, 4, 5, 6)
    options = {**options, "feature_group_count": groups}
    found = cost.conv_transpose(y, kernel, **options)
    result = jax.eval_shape(
        lambda y, k: convjax.conv_transpose(y, k, **options),
        *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (y, kernel)),
    )
    forward = {k: v for k, v in options.items() if k not in ("output_padding", "output_shape")}
    twin = cost.conv(result.shape, kernel, **forward)
    assert found.useful_macs == twin.useful_macs
    assert (found.params, found.bytes) == (twin.params, twin.bytes)
    assert found.macs >= found.useful_macs


@settings(max_examples=150)
@given(strategies.transposed())
def test_any_transposed_convolution(case):
    """Closed form, counted and touched: by input and tap, whose product lands on one output.

    Element p of `y` and tap t land at ``p*strides + t*kernel_dilation - lo``; elements before the
    first of `y` and after the last one are the padding of the equivalent direct convolution.
    """
    forward = case.forward_options
    problem = oracle.problem(case.space, case.kernel_shape[:-2], **forward)
    macs = useful = case.x_shape[0] * math.prod(case.kernel_shape[-2:])
    for n, k, u, s, d, (lo, hi), mode in zip(
        case.y_shape[1:-1],
        problem.window,
        case.space,
        problem.strides,
        problem.kernel_dilation,
        problem.padding,
        problem.modes,
        strict=True,
    ):
        if mode != "constant":  # the copies beyond the edges are painted, too, and folded back
            lo, u = lo - max(lo, 0), u + max(lo, 0) + max(hi, 0)
        lands = [(0 <= p < n, p * s + t * d - lo) for p in range(-99, 99) for t in range(k)]
        macs *= sum(0 <= place < u for _, place in lands)
        useful *= sum(real and 0 <= place < u for real, place in lands)
    y, kernel = case.y_shape, case.kernel_shape
    closed = cost.conv_transpose(y, kernel, **case.options)
    assert (closed.macs, closed.useful_macs) == (macs, useful)
    arrays = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (y, kernel))
    found = cost_of(convjax.conv_transpose, *arrays, **case.options)
    assert (found.macs, found.useful_macs) == (macs, useful)
    assert cost.conv(case.x_shape, kernel, **forward).useful_macs == useful


@settings(max_examples=60)
@given(strategies.convolutions())
def test_gradients_of_any_convolution_have_its_useful_macs(case):
    x, kernel = (jnp.zeros(shape) for shape in (case.x_shape, case.kernel_shape))
    closed = cost.conv(case.x_shape, case.kernel_shape, **case.options)
    y, pull = jax.vjp(lambda x, k: convjax.conv(x, k, **case.options), x, kernel)
    found = {row.name: row for row in cost_of(pull, y).rows}
    assert sorted(found) == ["conv input_gradient", "conv kernel_gradient"]
    assert {row.useful_macs for row in found.values()} == {closed.useful_macs}
    assert found["conv kernel_gradient"].macs == closed.macs  # the same pairs, by tap and output


@pytest.mark.parametrize(
    ("n", "k", "s", "padding", "macs", "useful"),
    [
        (2, 2, 2, "VALID", 48, 48),  # 4 x 4: each of its pixels meets one tap
        (2, 4, 4, "VALID", 3 * 8**2, 3 * 8**2),
        (8, 4, 2, 1, 3 * 32**2, 3 * 30**2),  # two taps land outside on either side
        (8, 3, 2, ((1, 0), (0, 1)), 3 * 24**2, 3 * 23**2),
        (4, 1, 3, "SAME", 48, 48),  # more stride than kernel
    ],
)
def test_up_sampling_meets_every_tap_once(n, k, s, padding, macs, useful):
    """Where the result is n*s: n*k pairs on every axis, as PyTorch's counter and the kinds say."""
    options = {"strides": s, "padding": padding}
    found = cost.conv_transpose((1, n, n, 3), (k, k, 1, 3), **options)
    assert (found.macs, found.useful_macs) == (macs, useful)
    arrays = jnp.zeros((1, n, n, 3)), jnp.zeros((k, k, 1, 3))
    counted = cost_of(convjax.conv_transpose, *arrays, **options)
    assert (counted.macs, counted.useful_macs) == (macs, useful)
    assert convjax.conv_transpose(*arrays, **options).shape == (1, n * s, n * s, 1)
    assert macs == 3 * (n * k) ** 2


BOX = {"strides": (2, 1), "padding": ((1, 2), (0, 3)), "kernel_dilation": (1, 2)}
KINDS = [  # name, shapes as the function takes them, further arguments, options
    ("conv", [(2, 9, 8, 4), (3, 2, 4, 5)], [], {**BOX, "padding_mode": ("wrap", "constant")}),
    ("conv", [(2, 9, 4), (3, 2, 6)], [], {"feature_group_count": 2, "input_dilation": 3}),
    ("conv", [(2, 5, 6, 7, 4), (3, 2, 3, 4, 5)], [], {"strides": (1, 2, 3)}),
    ("pointwise_conv", [(2, 9, 8, 4), (1, 1, 4, 5)], [], {"strides": 3}),
    ("dilated_conv", [(2, 9, 8, 4), (3, 2, 4, 5)], [(3, 2)], {"padding": "FULL"}),
    ("grouped_conv", [(2, 9, 8, 6), (3, 2, 2, 9)], [3], BOX),
    ("pointwise_grouped_conv", [(2, 9, 8, 6), (1, 1, 2, 9)], [3], {}),
    ("shuffled_grouped_conv", [(2, 9, 8, 6), (3, 2, 2, 9)], [3], BOX),
    ("depthwise_conv", [(2, 9, 8, 4), (3, 2, 1, 12)], [], {**BOX, "padding_mode": "edge"}),
    ("depthwise_separable_conv", [(2, 9, 8, 4), (3, 2, 1, 8), (1, 1, 8, 5)], [], BOX),
    ("spatially_separable_conv", [(2, 9, 8, 4), [(3, 1, 4, 6), (1, 2, 6, 5)]], [], BOX),
    ("spatially_separable_conv", [(2, 9, 8, 4), [(3, 1, 4, 6), (1, 2, 6, 5)]], [], {"strides": 2}),
    ("flattened_conv", [(2, 9, 8, 4), (1, 1, 4, 6), [(3, 1, 1, 6), (1, 2, 1, 6)]], [], BOX),
    ("conv_transpose", [(2, 4, 5, 6), (3, 4, 5, 6)], [], TRANSPOSED[3]),
    ("conv_transpose", [(2, 4, 5, 6), (3, 4, 5, 6)], [], TRANSPOSED[5]),
    ("resize", [(2, 4, 5, 6)], [2], {"method": "bilinear"}),
    ("resize_conv", [(2, 4, 5, 6), (3, 2, 6, 5)], [(2, 3)], {"padding_mode": "edge"}),
    ("subpixel_conv", [(2, 4, 5, 6), (3, 2, 6, 12)], [(2, 3)], {"padding": "VALID"}),
    ("pixel_shuffle", [(2, 4, 5, 12)], [(2, 3)], {}),
    ("pixel_unshuffle", [(2, 4, 6, 5)], [(2, 3)], {}),
    ("channel_shuffle", [(2, 4, 6)], [3], {}),
    ("channel_unshuffle", [(2, 4, 6)], [3], {}),
    ("hold", [(2, 9, 8, 3)], [(2, 3)], {"order": 1}),
]


@pytest.mark.parametrize(("name", "shapes", "arguments", "options"), KINDS)
def test_closed_form_is_what_the_function_does(name, shapes, arguments, options):
    arrays = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )
    found = cost_of(getattr(convjax, name), *arrays, *arguments, **options)
    closed = getattr(cost, name)(*shapes, *arguments, **options)
    assert (closed.macs, closed.useful_macs) == (found.macs, found.useful_macs)
    assert closed == getattr(cost, name)(*arrays, *arguments, **options)
    weights = [a.size for a in jax.tree.leaves(arrays)[1:]]
    assert closed.params == sum(weights)
    moved = math.prod(shapes[0])
    result = jax.eval_shape(lambda *a: getattr(convjax, name)(*a, *arguments, **options), *arrays)
    assert closed.bytes >= 4 * (moved + result.size)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: cost.conv(X, (3, 3, 2, 4)),
            r"conv: `kernel` \(=\(3, 3, 2, 4\)\) must have 3 input channels",
        ),
        (lambda: cost.grouped_conv(X, (3, 3, 1, 4), 3), "grouped_conv: `groups` .* must divide"),
        (lambda: cost.conv(X, (3, 3, 3)), "conv: `x` .* must have 3 axes"),
        (lambda: cost.channel_shuffle(X, 2), r"channel_shuffle: `groups` \(=2\) must divide"),
        (
            lambda: cost.conv_transpose(X, (3, 3, 4, 3), output_shape=(8, 7)),
            "`output_shape` .* map",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_costs_add():
    assert cost.Cost(1, 2, 3, 4) + cost.Cost(10, 20, 30, 40) == cost.Cost(11, 22, 33, 44)
    with pytest.raises(TypeError):
        cost.Cost() + 1
