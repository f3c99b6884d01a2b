"""Law "dense equivalent": every kind, in every layout, and errors in the kind's words."""

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


def test_dimension_numbers_of_lax_are_understood():
    example = KINDS["depthwise_separable"].example(2)
    numbers = lax.conv_dimension_numbers(example.x.shape, example.kernels[0].shape, LAST)
    np.testing.assert_array_equal(example(dimension_numbers=numbers), example())
