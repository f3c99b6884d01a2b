"""Every kind equals its dense convolution, in every layout, with its errors in its own words."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import convjax
from convjax.kinds import KINDS, SPATIAL_OPTIONS, markdown_table

OPTIONS = [
    {},
    {"strides": 2},
    {"strides": (3, 1, 2)},
    {"padding": "VALID"},
    {"padding": "VALID", "strides": 2, "kernel_dilation": 2},
    {"padding": "SAME_LOWER", "strides": (2, 3, 1)},
    {"padding": "FULL", "kernel_dilation": (1, 2, 3)},
    {"padding": "CAUSAL", "kernel_dilation": 2},
    {"padding": 1, "strides": 3},
    {"padding": (2, 0, 1)},
    {"padding": [(3, -1), (0, 2), (-2, 1)]},
    {"padding_mode": "reflect"},
    {"padding": "FULL", "padding_mode": ("edge", "wrap", "symmetric"), "strides": 2},
    {"padding": [(2, -1), (1, 2), (1, 1)], "padding_mode": ("wrap", "constant", "reflect")},
]


def at_rank(options, rank):
    """`options`, whose sequences are for three axes, for the first `rank`."""
    return {
        name: value if isinstance(value, (str, int)) else value[:rank]
        for name, value in options.items()
    }


def taken(kind):
    """The entries of OPTIONS under which a kind is to equal its dense convolution."""
    return [n for n, options in enumerate(OPTIONS) if set(options) <= set(kind.exact_options)]


@functools.cache
def both_sides(name, rank):
    """Per entry of OPTIONS: the kind's result and the dense one, compiled together."""
    example = KINDS[name].example(rank)

    def sides(number):
        options = at_rank(OPTIONS[number], rank)
        return example(**options), example.equivalent(**options)

    return jax.jit(lambda: {number: sides(number) for number in taken(example.kind)})()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "number"), [(name, n) for name, kind in KINDS.items() for n in taken(kind)]
)
def test_every_kind_equals_its_dense_convolution(name, number, rank):
    got, expected = both_sides(name, rank)[number]
    assert got.shape == expected.shape and got.size > 0
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("name", ["grouped", "shuffled_grouped", "pointwise_grouped"])
def test_any_number_of_groups(name, groups):
    example = KINDS[name].example(2, groups=groups, out_features=12)
    np.testing.assert_array_equal(example(), example.equivalent())


def test_spatially_separable_stages_take_the_option_of_their_own_axis():
    """Strides given whole to one stage would give 4 x 3 here."""
    x, kernels = jnp.ones((1, 8, 8, 1)), [jnp.ones((3, 1, 1, 1)), jnp.ones((1, 3, 1, 1))]
    assert convjax.spatially_separable_conv(x, kernels, strides=2).shape == (1, 4, 4, 1)


def test_causal_is_causal_along_the_first_axis_only():
    example = KINDS["spatially_separable"].example(2, kernel_size=(3, 3))
    touched = example.x.at[:, 4, 4].add(1.0)
    changed = example(padding="CAUSAL") != convjax.spatially_separable_conv(
        touched, *example.kind.arguments(example.kernels, example.sizes), padding="CAUSAL"
    )
    rows, columns = (np.flatnonzero(changed.any(axis=axes)) for axes in ((0, 2, 3), (0, 1, 3)))
    assert rows.min() == 4 and columns.min() == 3


# ---- groups and shuffles ---------------------------------------------------------------------


def test_shuffle_of_the_paper():
    np.testing.assert_array_equal(
        convjax.channel_shuffle(jnp.array([1, 2, 3, 4, 5, 6]), 3), [1, 3, 5, 2, 4, 6]
    )


@pytest.mark.parametrize("axis", [-1, 1, 0])
@pytest.mark.parametrize("groups", [1, 2, 3, 12])
def test_unshuffle_undoes_shuffle(groups, axis):
    x = jnp.moveaxis(jnp.arange(5 * 4 * 12).reshape(5, 4, 12), -1, axis)
    shuffled = convjax.channel_shuffle(x, groups, axis=axis)
    np.testing.assert_array_equal(convjax.channel_unshuffle(shuffled, groups, axis=axis), x)
    np.testing.assert_array_equal(convjax.channel_shuffle(shuffled, 12 // groups, axis=axis), x)
    np.testing.assert_array_equal(
        jnp.moveaxis(shuffled, axis, -1), convjax.channel_shuffle(jnp.moveaxis(x, axis, -1), groups)
    )


def test_groups_are_contiguous_and_depthwise_outputs_are_i_times_m_plus_m():
    x, kernel = jnp.arange(1.0, 7).reshape(1, 1, 6), jnp.ones((1, 2, 3))
    np.testing.assert_array_equal(convjax.grouped_conv(x, kernel, 3).ravel(), [3, 7, 11])
    kernel = jnp.array([1.0, 10] * 6).reshape(1, 1, 12)
    np.testing.assert_array_equal(
        convjax.depthwise_conv(x, kernel).ravel(), [1, 10, 2, 20, 3, 30, 4, 40, 5, 50, 6, 60]
    )


@pytest.mark.parametrize("groups", [2, 3])
def test_two_grouped_convolutions_reach_everything_only_when_shuffled(groups):
    channels = groups * groups
    kernel = jnp.ones((1, groups, channels))
    x = jnp.eye(channels)[:, None, :]

    def reached(first):
        return (convjax.grouped_conv(first(x, kernel, groups), kernel, groups) != 0).mean()

    assert reached(convjax.grouped_conv) == pytest.approx(1 / groups)
    assert reached(convjax.shuffled_grouped_conv) == 1


# ---- layouts, dtypes, transforms -------------------------------------------------------------

# The space of x and of the result in another order than the kernel's, which counts.
LAYOUTS = [("NCHW", "OIHW", "NCHW"), ("CWNH", "OHIW", "WHCN"), ("NHWC", "HWIO", "NCWH")]
LAST = ("NHWC", "HWIO", "NHWC")


def kinds_with(option):
    """A parametrisation over the kinds that take `option`."""
    kinds = [kind for kind in KINDS.values() if option in kind.options]
    return pytest.mark.parametrize("kind", kinds, ids=[kind.name for kind in kinds])


def relayout(array, old, new):
    return jnp.transpose(array, [old.index(letter) for letter in new])


@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
@kinds_with("dimension_numbers")
def test_layouts(kind, layout):
    example = kind.example(2)
    options = {"strides": (2, 1)} if "strides" in kind.options else {}
    if "padding" in kind.options:
        options |= {"padding": [(2, 0), (1, 1)]}

    def in_layout():
        kernels = [relayout(kernel, LAST[1], layout[1]) for kernel in example.kernels]
        x, rest = relayout(example.x, LAST[0], layout[0]), kind.arguments(kernels, example.sizes)
        y = kind.function(x, *rest, dimension_numbers=layout, **options)
        return relayout(y, layout[2], LAST[2])

    np.testing.assert_array_equal(*jax.jit(lambda: (in_layout(), example(**options)))())


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_layouts_of_resize(method):
    x = KINDS["resize"].example(2).x

    def in_layout(layout):
        there = relayout(x, LAST[0], layout[0])
        y = convjax.resize(there, (3, 2), method=method, dimension_numbers=layout)
        return relayout(y, layout[2], LAST[2])

    expected, *got = jax.jit(lambda: [in_layout(layout) for layout in [LAST, *LAYOUTS]])()
    for y in got:
        np.testing.assert_allclose(y, expected, rtol=1e-6)


@kinds_with("preferred_element_type")
def test_int8_operands_can_accumulate_in_int32(kind):
    if kind.name == "hold":  # averages
        return
    example = kind.example(2, dtype=jnp.int8)
    rest = kind.arguments(example.kernels, example.sizes)
    got = kind.function(example.x * 30, *rest, preferred_element_type=jnp.int32)
    assert got.dtype == jnp.int32 and int(abs(got).max()) > 127
    np.testing.assert_array_equal(got, kind.example(2)() * 30)


@kinds_with("algorithm")
def test_every_algorithm_and_precision_reaches_the_stages(kind):
    example = kind.example(2)
    np.testing.assert_array_equal(example(algorithm="direct", precision="highest"), example())
    jaxpr = str(jax.make_jaxpr(lambda: example(algorithm="direct", precision="highest"))())
    assert jaxpr.count("conv_general_dilated[") == jaxpr.count("precision=(Precision.HIGHEST")
    with pytest.raises(ValueError, match=f"^{kind.function.__name__}: `algorithm` .*must be one"):
        example(algorithm="guess")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_derivatives_are_those_of_the_dense_convolution(kind):
    """Reverse, forward, and forward over reverse, exactly."""
    example = kind.example(1)
    operands = example.x, example.kernels
    tangents = jax.tree.map(lambda a: 1 - a, operands)

    def derivatives(function):
        def loss(operands):
            y = function(*operands)
            return (y * (jnp.arange(y.size) % 5 - 2.0).reshape(y.shape)).sum()

        gradient = jax.grad(loss)
        return jax.jvp(loss, (operands,), (tangents,)), jax.jvp(gradient, (operands,), (tangents,))

    got, expected = jax.jit(
        lambda: (
            derivatives(lambda x, ks: kind.function(x, *kind.arguments(ks, example.sizes))),
            derivatives(lambda x, ks: kind.dense(x, ks, example.sizes)),
        )
    )()
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_vmap_and_jit_agree_with_the_plain_call(kind):
    example = kind.example(1)
    xs = jnp.stack([example.x, 2 - example.x])

    def function(x, kernels):
        return kind.function(x, *kind.arguments(kernels, example.sizes))

    expected = jnp.stack([function(x, example.kernels) for x in xs])
    got = jax.jit(jax.vmap(function, in_axes=(0, None)))(xs, example.kernels)
    np.testing.assert_array_equal(got, expected)
    if example.kernels:
        kernels = [jnp.stack([k, 1 - k]) for k in example.kernels]
        expected = jnp.stack([function(xs[i], [k[i] for k in kernels]) for i in range(2)])
        np.testing.assert_array_equal(jax.vmap(function)(xs, kernels), expected)


@kinds_with("out_sharding")
def test_explicit_sharding(kind):
    mesh = jax.make_mesh((2,), ("b",), axis_types=(jax.sharding.AxisType.Explicit,))
    spec = jax.sharding.PartitionSpec("b", *[None] * 3)
    example = kind.example(2)
    with jax.set_mesh(mesh):
        x = jax.device_put(example.x, spec)
        rest = kind.arguments(example.kernels, example.sizes)
        got = jax.jit(lambda x: kind.function(x, *rest, out_sharding=spec))(x)
        assert jax.typeof(got).sharding.spec == spec
    np.testing.assert_array_equal(np.asarray(got), np.asarray(example()))


# ---- the table -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_rows_of_the_table(kind):
    for name in (kind.function.__name__, *kind.also):
        assert getattr(convjax, name).__name__ == name
    example = kind.example(2)
    assert [kernel.shape for kernel in example.kernels] == list(kind.shapes(example.sizes))
    cost = example.cost()
    assert cost.params == sum(kernel.size for kernel in example.kernels)
    assert (cost.macs == 0) == (kind.macs == "0")
    assert f"| {kind.name} | `{kind.function.__name__}`" in markdown_table()
    assert kind.summary and kind.source[1].startswith("https://")
    assert set(kind.exact_options) <= set(kind.options) & set(SPATIAL_OPTIONS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_options_mean_the_same_everywhere(kind):
    """Keyword-only, with the names, defaults and order that `conv` has."""
    common = inspect.signature(convjax.conv).parameters
    mine = inspect.signature(kind.function).parameters
    shared = [name for name in mine if name in common and name in kind.options]
    assert shared == [name for name in common if name in shared]
    differ = {name for name in shared if mine[name].default != common[name].default}
    assert differ == ({"padding_mode"} if kind.name == "hold" else set())
    own = {"groups", "scale", "size", "kernel_dilation"}
    required = [p for p in mine.values() if p.kind is not p.KEYWORD_ONLY]
    assert all(p.default is p.empty for p in required)
    assert {p.name for p in required if "kernel" not in p.name} <= own | {"x", "y"}


# ---- errors ----------------------------------------------------------------------------------


def a(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


X = a(1, 7, 7, 6)
PAIR = (a(3, 1, 6, 4), a(1, 3, 4, 5))
ERRORS = [
    # groups
    (
        "grouped_conv",
        (X, a(3, 3, 2, 8), 4),
        r"`groups` \(=4\) must divide the channels of `x` \(=6\)",
    ),
    ("grouped_conv", (X, a(3, 3, 2, 8), 3), r"`groups` \(=3\) must divide the output channels"),
    ("grouped_conv", (X, a(3, 3, 6, 9), 3), r"`kernel` \(=\(3, 3, 6, 9\)\) must have 2 input"),
    ("grouped_conv", (X, a(3, 3, 2, 9), 0), r"`groups` \(=0\) must be at least 1"),
    (
        "grouped_conv",
        (a(1, 6, 7, 7), a(3, 3, 2, 9), 3),
        r"`groups` \(=3\) .*`x` looks channels-first",
    ),
    (
        "pointwise_grouped_conv",
        (X, a(3, 1, 2, 9), 3),
        r"`kernel` .*extent 1 .*not \(3, 1\).*Use `gr",
    ),
    ("pointwise_grouped_conv", (X, a(1, 1, 2, 9), 4), r"`groups` \(=4\) must divide"),
    ("shuffled_grouped_conv", (X, a(3, 3, 2, 9), 4), r"`groups` \(=4\) must divide"),
    (
        "depthwise_conv",
        (X, a(3, 3, 6, 2)),
        r"`kernel` \(=\(3, 3, 6, 2\)\) must have 1 .*TensorFlow",
    ),
    (
        "depthwise_conv",
        (X, a(3, 3, 1, 8)),
        r"`kernel` .*a multiple of 6 .*as `x` has 6, not 1 and 8",
    ),
    ("depthwise_conv", (a(1, 6, 7, 7), a(3, 3, 1, 6)), "on another axis: see `dimension_numbers`"),
    ("depthwise_conv", (a(7, 7, 6), a(3, 3, 1, 6)), r"`kernel` .*must have 3 axes.*`jax.vmap`"),
    ("depthwise_conv", (a(7, 6), a(3, 1, 6)), r"`x` \(=\(7, 6\)\) must have a batch axis"),
    ("depthwise_conv", (a(1, 2, 7, 6), a(3, 3, 1, 6)), None),
    ("channel_shuffle", (X, 4), r"`groups` \(=4\) must divide the channels of `x` \(=6\)"),
    ("channel_shuffle", (X, 0), r"`groups` \(=0\) must be at least 1"),
    ("channel_unshuffle", (X, 5), r"`groups` \(=5\) must divide"),
    # stages
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 6, 1), a(1, 1, 6, 8)),
        r"`depthwise_kernel` \(=\(3, 3",
    ),
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 1, 12), a(1, 1, 6, 8)),
        r"`pointwise_kernel` .*must have 12 input channels, as many as `depthwise_kernel` gives",
    ),
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 1, 6), a(3, 3, 6, 8)),
        r"`pointwise_kernel` \(=\(3, 3, 6, 8\)\) must have extent 1",
    ),
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 1, 6), a(6, 8)),
        r"`pointwise_kernel` .*must have 4 axes",
    ),
    (
        "spatially_separable_conv",
        (X, PAIR[:1]),
        r"`kernels` .*one kernel per spatial axis of `x`, 2",
    ),
    (
        "spatially_separable_conv",
        (X, PAIR[::-1]),
        r"`kernels\[0\]` .*extent 1 .*but 0.*in the order",
    ),
    (
        "spatially_separable_conv",
        (X, (PAIR[0], a(1, 3, 3, 5))),
        r"`kernels\[1\]` .*must have 4 input channels, as many as `kernels\[0\]` gives, not 3",
    ),
    (
        "spatially_separable_conv",
        (X, (a(3, 1, 5, 4), PAIR[1])),
        r"`kernels\[0\]` .*must have 6 input",
    ),
    (
        "spatially_separable_conv",
        (X, (PAIR[0], a(1, 0, 4, 5))),
        r"`kernels\[1\]` .*at least one tap",
    ),
    (
        "flattened_conv",
        (X, a(1, 1, 6, 8), (a(3, 1, 1, 8), a(1, 3, 8, 8))),
        r"`spatial_kernels\[1\]` .*must have 1 input channel and 8 output .*as `lateral_kernel` gi",
    ),
    (
        "flattened_conv",
        (X, a(1, 1, 5, 8), (a(3, 1, 1, 8), a(1, 3, 1, 8))),
        r"`lateral_kernel` .*6 inp",
    ),
    (
        "flattened_conv",
        (X, a(3, 1, 6, 8), (a(3, 1, 1, 8), a(1, 3, 1, 8))),
        r"`lateral_kernel` .*exten",
    ),
    # up-sampling
    ("resize", (X, 0), r"`scale` \(=0\) must be at least 1"),
    ("resize", (X, (2, 2, 2)), r"`scale` .*must have one entry per spatial axis \(2\)"),
    ("resize", (a(7, 6), 2), r"`x` \(=\(7, 6\)\) must have a batch axis"),
    ("resize_conv", (X, a(3, 3, 5, 8), 2), r"`kernel` .*must have 6 input channels"),
    ("resize_conv", (X, a(3, 3, 6, 8), 0), r"`scale` \(=0\) must be at least 1"),
    (
        "pixel_shuffle",
        (X, 2),
        r"`scale` \(=2\) must divide the channels of `x` \(=6\) by its product.*4",
    ),
    ("pixel_shuffle", (X, 0), r"`scale` \(=0\) must be at least 1"),
    (
        "pixel_unshuffle",
        (X, 2),
        r"`scale` \(=2\) must divide the spatial extents of `x` \(=\(7, 7\)\)",
    ),
    (
        "subpixel_conv",
        (X, a(3, 3, 6, 6), 2),
        r"`scale` \(=2\) must divide the output channels .*=6",
    ),
    ("subpixel_conv", (X, a(3, 3, 5, 8), 2), r"`kernel` .*must have 6 input channels"),
    ("hold", (X, 0), r"`size` \(=0\) must be at least 1"),
    ("hold", (a(1, 7, 7, 0), 2), r"`x` .*must have at least one channel"),
]
ERRORS = [error for error in ERRORS if error[2] is not None]
KEYWORD_ERRORS = [
    (
        "channel_shuffle",
        (X, 2),
        {"axis": 4},
        r"`axis` \(=4\) must be an axis of `x`, which has 4 axes",
    ),
    (
        "depthwise_conv",
        (X, a(9, 1, 1, 6)),
        {"padding": "VALID"},
        r"`kernel` .*larger than the padded",
    ),
    (
        "spatially_separable_conv",
        (X, (PAIR[0], a(1, 9, 4, 5))),
        {"padding": "VALID"},
        r"`kernels\[1\]` \(=\(1, 9\)\) is larger than the padded input on spatial axis 1",
    ),
    ("spatially_separable_conv", (X, PAIR), {"strides": 0}, r"`strides` \(=0\) must be at least 1"),
    ("spatially_separable_conv", (X, PAIR), {"kernel_dilation": -1}, r"`kernel_dilation` \(=-1\)"),
    ("spatially_separable_conv", (X, PAIR), {"padding": "same"}, r"`padding` .*one of .*\"SAME\""),
    ("spatially_separable_conv", (X, PAIR), {"padding": (1, 2, 3)}, r"`padding` \(=\(1, 2, 3\)\)"),
    ("spatially_separable_conv", (X, PAIR), {"padding_mode": "mirror"}, "`padding_mode` .*one of"),
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 1, 6), a(1, 1, 6, 8)),
        {"strides": (1, 0)},
        "`strides`",
    ),
    (
        "resize",
        (X, 2),
        {"method": "cubic"},
        r"`method` \(='cubic'\) must be one of \"nearest\", \"bil",
    ),
    ("resize_conv", (X, a(3, 3, 6, 8), 2), {"method": "NEAREST"}, r"`method` .*mean \"nearest\""),
    (
        "resize_conv",
        (X, a(15, 15, 6, 8), 2),
        {"padding": "VALID"},
        "`kernel` .*larger than the padded",
    ),
    ("hold", (X, 2), {"order": -1}, r"`order` \(=-1\) must be at least 0"),
    ("hold", (X, 9), {"padding": "VALID"}, r"`size` .*larger than the padded input"),
    ("hold", (X, 2), {"dimension_numbers": ("NCHW", "OIHW", "NCHH")}, "`dimension_numbers`"),
]
TYPE_ERRORS = [
    ("grouped_conv", (X, a(3, 3, 2, 9), 3.0), {}, r"`groups` \(=3.0\) must be an integer"),
    ("grouped_conv", (X.tolist(), a(3, 3, 2, 9), 3), {}, "`x` must be an array, not list"),
    ("channel_shuffle", ([1, 2], 2), {}, "`x` must be an array, not list"),
    (
        "spatially_separable_conv",
        (X, PAIR[0]),
        {},
        "`kernels` .*must be a list or tuple of kernels",
    ),
    (
        "spatially_separable_conv",
        (X, (PAIR[0], None)),
        {},
        r"`kernels\[1\]` must be an array, not None",
    ),
    (
        "spatially_separable_conv",
        (X, (PAIR[0], PAIR[1].astype(np.float16))),
        {},
        r"`x` \(float32\) and `kernels\[1\]` \(float16\) must have one dtype",
    ),
    ("flattened_conv", (X, a(1, 1, 6, 8), a(3, 1, 1, 8)), {}, "`spatial_kernels` .*must be a list"),
    (
        "depthwise_separable_conv",
        (X, a(3, 3, 1, 6, dtype=np.int32), a(1, 1, 6, 8)),
        {},
        r"`x` \(float32\) and `depthwise_kernel` \(int32\) .*`depthwise_kernel.astype\(x.dtype\)`",
    ),
    ("resize", (X, 1.5), {}, r"`scale` \(=1.5\) must be an integer"),
    (
        "resize",
        (X.astype(np.int32), 2),
        {"method": "bilinear"},
        "`x` .*int32.* must have a floating",
    ),
    ("pixel_shuffle", (X, "2"), {}, r"`scale` \(='2'\) must be an integer"),
    ("hold", (X.astype(np.int8), 2), {}, "`x` .*int8.* must have a floating dtype: averages"),
    ("hold", (X, 2), {"order": 0.5}, r"`order` \(=0.5\) must be an integer"),
    ("depthwise_conv", (X, a(3, 3, 1, 6)), {"algorithm": 7}, "`algorithm` .*must be None"),
]


@pytest.mark.parametrize(
    ("error", "name", "arguments", "options", "words"),
    [
        *((ValueError, name, arguments, {}, words) for name, arguments, words in ERRORS),
        *((ValueError, *case) for case in KEYWORD_ERRORS),
        *((TypeError, *case) for case in TYPE_ERRORS),
    ],
)
def test_errors(error, name, arguments, options, words):
    """In the caller's words, from the function called, the same when traced."""
    function = getattr(convjax, name)
    leaves, tree = jax.tree.flatten(arguments, is_leaf=lambda leaf: leaf is None)
    where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray)]

    def call(*arrays):
        merged = [*leaves]
        for place, array in zip(where, arrays, strict=True):
            merged[place] = array
        return function(*tree.unflatten(merged), **options)

    arrays = [leaves[place] for place in where]
    for run in (call, jax.jit(call), lambda *arrays: jax.eval_shape(call, *arrays)):
        with pytest.raises(error, match=f"(?s)^{name}: {words}" if words[0] == "`" else words):
            run(*arrays)


def test_dimension_numbers_of_lax_are_understood():
    example = KINDS["depthwise_separable"].example(2)
    numbers = lax.conv_dimension_numbers(example.x.shape, example.kernels[0].shape, LAST)
    np.testing.assert_array_equal(example(dimension_numbers=numbers), example())
