"""Law "definition": `conv` is its definition, exactly, over the whole configuration space."""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import scipy.signal
import strategies
from hypothesis import event, given, settings

import convjax


def run(function, *operands, **options):
    """`function` under jit, as a numpy array."""
    return np.asarray(jax.jit(partial(function, **options))(*operands))


def test_conv_equals_the_oracle():
    met = Counter()

    @settings(max_examples=250)
    @given(strategies.convolutions())
    def law(case):
        for feature in case.features():
            event(feature)
        met.update(case.features())
        x, kernel, _ = case.numbers()
        wanted = oracle.conv(x, kernel, **case.options)
        function = partial(convjax.conv, **case.options)
        assert jax.eval_shape(function, x, kernel).shape == case.y_shape == wanted.shape
        np.testing.assert_array_equal(jax.jit(function)(x, kernel), wanted)

    law()
    assert [name for name in strategies.FORWARD_FEATURES if not met[name]] == []


def test_the_strategies_are_legal():
    """The oracle agrees with its own matrix, whose rows it counts, on what the laws draw."""

    @settings(max_examples=100)
    @given(strategies.convolutions())
    def law(case):
        x, kernel, _ = case.numbers()
        ones = np.ones_like(kernel)
        y = oracle.conv(x, kernel, **case.options)
        c = oracle.matrix(kernel, case.space, **case.options)
        assert y.shape == case.y_shape
        np.testing.assert_array_equal(y.reshape(len(x), -1), x.reshape(len(x), -1) @ c.T)
        p = oracle.problem(case.space, kernel.shape[:-2], **case.options)
        if set(p.modes) == {"constant"}:
            pairs = oracle.matrix(ones, case.space, **case.options).sum()
            assert pairs == p.count()[0] * kernel.shape[-2] * kernel.shape[-1]

    law()


GOLDEN_X = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
GOLDEN_KERNEL = [[0, 1, 2], [2, 2, 0], [0, 1, 2]]
GOLDEN_Y = [[12, 12, 17], [10, 17, 19], [9, 6, 14]]


def test_the_worked_example():
    """The 5x5 example of "A guide to convolution arithmetic for deep learning", figure 1.1."""
    x = np.array(GOLDEN_X, np.float32)[None, :, :, None]
    kernel = np.array(GOLDEN_KERNEL, np.float32)[:, :, None, None]
    y = run(convjax.conv, x, kernel, padding="VALID")
    np.testing.assert_array_equal(y[0, :, :, 0], GOLDEN_Y)
    np.testing.assert_array_equal(oracle.conv(x, kernel, padding="VALID"), y)


SPELLINGS = {
    "strides": [2, (2, 2), [2, 2], np.int64(2), (np.int32(2), 2), np.array([2, 2]), np.array(2)],
    "input_dilation": [2, (2, 2), [2, 2], np.int64(2), np.array([2, 2])],
    "kernel_dilation": [2, (2, 2), [2, 2], np.int64(2), np.array([2, 2])],
    "padding": [
        1,
        np.int64(1),
        (1, 1),
        [1, 1],
        ((1, 1), (1, 1)),
        [[1, 1], [1, 1]],
        [(1, 1), np.array([1, 1])],
        np.array([1, 1]),
        np.array([[1, 1], [1, 1]]),
    ],
    "padding_mode": ["edge", ("edge", "edge"), ["edge", "edge"]],
    "feature_group_count": [3, np.int64(3), np.array(3)],
}


@pytest.mark.parametrize("option", SPELLINGS)
def test_every_spelling_means_the_same(option):
    x, kernel = oracle.integers(0, (2, 5, 7, 3)), oracle.integers(1, (3, 2, 1, 6))
    plain = {"feature_group_count": 3, "padding": 1}
    results = []
    for value in SPELLINGS[option]:
        results.append(run(convjax.conv, x, kernel, **(plain | {option: value})))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    wanted = oracle.conv(x, kernel, **(plain | {option: SPELLINGS[option][0]}))
    np.testing.assert_array_equal(results[0], wanted)


def test_the_defaults_are_stride_one_and_same():
    x, kernel = oracle.integers(0, (2, 6, 5, 3)), oracle.integers(1, (4, 3, 3, 2))
    np.testing.assert_array_equal(run(convjax.conv, x, kernel), oracle.conv(x, kernel))
    np.testing.assert_array_equal(convjax.conv(x, kernel), oracle.conv(x, kernel))


@pytest.mark.parametrize("padding", [[(1, 2), (0, 3)], [(3, 0), (-1, 2)], [(-2, 3), (4, -1)]])
@pytest.mark.parametrize("mode", oracle.MODES)
def test_extend_first_then_crop(mode, padding):
    x, kernel = oracle.integers(0, (2, 6, 5, 3)), oracle.integers(1, (2, 3, 3, 4))
    options = {"padding": padding, "padding_mode": mode, "strides": (1, 2)}
    np.testing.assert_array_equal(
        run(convjax.conv, x, kernel, **options), oracle.conv(x, kernel, **options)
    )
    if mode != "constant":  # numpy's words, numpy's meaning
        extended = np.pad(x, [(0, 0), *[(max(a, 0), max(b, 0)) for a, b in padding], (0, 0)], mode)
        cropped = [(min(a, 0), min(b, 0)) for a, b in padding]
        np.testing.assert_array_equal(
            oracle.conv(x, kernel, **options),
            oracle.conv(extended, kernel, strides=(1, 2), padding=cropped),
        )


LAYOUTS = [
    ("NWC", "WIO", "NWC"),
    ("NCW", "OIW", "NCW"),
    ("WNC", "IOW", "CNW"),
    ("NHWC", "HWIO", "NHWC"),
    ("NCHW", "OIHW", "NCHW"),
    ("CHWN", "IHWO", "NHWC"),
    ("HWNC", "OHWI", "WHCN"),
    ("NWHC", "WHIO", "NHWC"),
    ("NDHWC", "DHWIO", "NDHWC"),
    ("NCDHW", "OIDHW", "NCDHW"),
    ("DNCHW", "IDOHW", "HWDCN"),
]


def laid_out(array, own, other):
    """`array` of layout `own` (a word) as layout `other`."""
    return np.transpose(array, [own.index(letter) for letter in other])


@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
def test_dimension_numbers(layout):
    """Options stay in the order of the kernel's letters, as lax has it."""
    lhs, rhs, out = layout
    axes = [letter for letter in rhs if letter not in "IO"]
    rank = len(axes)
    space = "".join(axes)
    own_x, own_kernel = f"N{space}C", f"{space}IO"
    x = oracle.integers(0, (2, *(7, 6, 5)[:rank], 4))
    kernel = oracle.integers(1, (*(3, 2, 4)[:rank], 2, 6))
    options = {
        "strides": (1, 2, 3)[:rank],
        "padding": [(1, 2), (0, 3), (2, -1)][:rank],
        "padding_mode": ("reflect", "constant", "wrap")[:rank],
        "kernel_dilation": (2, 1, 1)[:rank],
        "feature_group_count": 2,
    }
    y = run(
        convjax.conv,
        laid_out(x, own_x, lhs),
        laid_out(kernel, own_kernel, rhs),
        dimension_numbers=layout,
        **options,
    )
    wanted = laid_out(oracle.conv(x, kernel, **options), own_x, out)
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("layout", LAYOUTS[3:8], ids="-".join)
def test_dimension_numbers_as_lax_reads_them(layout):
    lhs, rhs, _ = layout
    x = laid_out(oracle.integers(0, (2, 7, 6, 4)), "NHWC", lhs)
    kernel = laid_out(oracle.integers(1, (3, 2, 2, 6)), "HWIO", rhs)
    strides, padding, dilation = (1, 2), [(1, 2), (0, 3)], (2, 1)
    theirs = jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=layout,
        feature_group_count=2,
    )
    ours = run(
        convjax.conv,
        x,
        kernel,
        strides=strides,
        padding=padding,
        kernel_dilation=dilation,
        dimension_numbers=layout,
        feature_group_count=2,
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("padding", [*oracle.POLICIES, 1, 3, [(2, 0), (-1, 4)]])
@pytest.mark.parametrize("space", [(0, 5), (1, 1), (1, 7)])
def test_empty_and_single_axes(space, batch, padding):
    x, kernel = oracle.integers(0, (batch, *space, 3)), oracle.integers(1, (3, 2, 3, 4))
    wanted_size = oracle.problem(space, (3, 2), padding=padding).out_space
    if 0 in wanted_size and x.size:  # silently empty only where the input is
        with pytest.raises(ValueError, match="^conv: `kernel`"):
            convjax.conv(x, kernel, padding=padding)
        return
    y = run(convjax.conv, x, kernel, padding=padding)
    np.testing.assert_array_equal(y, oracle.conv(x, kernel, padding=padding))


@pytest.mark.parametrize("shapes", [((2, 5, 0), (3, 0, 4)), ((2, 5, 3), (3, 3, 0))])
def test_no_channels_are_no_terms(shapes):
    """No input channels: every sum is empty. No output channels: no sums."""
    x, kernel = (np.ones(shape, np.float32) for shape in shapes)
    y = run(convjax.conv, x, kernel)
    np.testing.assert_array_equal(y, np.zeros((2, 5, kernel.shape[-1])))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
@pytest.mark.parametrize(
    "space, window", [((9,), (4,)), ((9,), (3,)), ((6, 8), (3, 4)), ((5, 4, 6), (2, 3, 4))]
)
def test_convolve_is_scipys(space, window, dtype):
    x, kernel = oracle.integers(0, space, dtype), oracle.integers(1, window, dtype)
    for mode, padding in [("full", "FULL"), ("valid", "VALID"), ("same", "SAME_LOWER")]:
        ours = run(convjax.convolve, x[None, ..., None], kernel[..., None, None], padding=padding)
        wanted = scipy.signal.convolve(x, kernel, mode, method="direct")
        np.testing.assert_array_equal(ours[0, ..., 0], wanted)
    full = partial(convjax.convolve, padding="FULL")
    np.testing.assert_array_equal(
        full(x[None, ..., None], kernel[..., None, None])[0, ..., 0],
        full(kernel[None, ..., None], x[..., None, None])[0, ..., 0],
        err_msg="true convolution commutes",
    )


def test_correlate_is_conv_and_convolve_is_its_flip():
    x, kernel = oracle.integers(0, (2, 6, 7, 4)), oracle.integers(1, (3, 4, 2, 6))
    options = {
        "strides": (1, 2),
        "padding": [(1, 2), (3, 0)],
        "kernel_dilation": (2, 1),
        "feature_group_count": 2,
    }
    y = run(convjax.conv, x, kernel, **options)
    np.testing.assert_array_equal(run(convjax.correlate, x, kernel, **options), y)
    flipped = kernel[::-1, ::-1]
    np.testing.assert_array_equal(run(convjax.convolve, x, flipped, **options), y)
    assert (run(convjax.convolve, x, kernel, **options) != y).any()
    one_sided = scipy.signal.correlate(x[0, :, :, 0], kernel[:, :, 0, 0], "valid", "direct")
    ours = run(convjax.conv, x[:1, :, :, :1], kernel[:, :, :1, :1], padding="VALID")
    np.testing.assert_array_equal(ours[0, :, :, 0], one_sided)


def test_convolve_pads_before_it_flips():
    """Padding, strides and dilation of `convolve` are those of `conv` with the flipped kernel."""
    x, kernel = oracle.integers(0, (2, 9, 4)), oracle.integers(1, (4, 4, 3))
    for padding in (*oracle.POLICIES, [(3, -1)]):
        for mode in oracle.MODES:
            options = {"padding": padding, "padding_mode": mode, "strides": 2}
            np.testing.assert_array_equal(
                run(convjax.convolve, x, kernel, **options),
                oracle.conv(x, kernel[::-1], **options),
            )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_fixed_ranks_pointwise_and_dilated(rank):
    x = oracle.integers(0, (2, *(7, 6, 5)[:rank], 4))
    kernel = oracle.integers(1, (*(3, 2, 4)[:rank], 4, 6))
    options = {"strides": (2, 1, 3)[:rank], "padding": [(2, 1), (0, 3), (1, 1)][:rank]}
    fixed = (convjax.conv1d, convjax.conv2d, convjax.conv3d)[rank - 1]
    wanted = oracle.conv(x, kernel, **options)
    np.testing.assert_array_equal(run(fixed, x, kernel, **options), wanted)
    dilation = (2, 3, 1)[:rank]
    wide = {"padding": "SAME", "strides": 2}
    np.testing.assert_array_equal(
        run(convjax.dilated_conv, x, kernel, kernel_dilation=dilation, **wide),
        oracle.conv(x, kernel, kernel_dilation=dilation, **wide),
    )
    np.testing.assert_array_equal(
        convjax.dilated_conv(x, kernel, dilation), oracle.conv(x, kernel, kernel_dilation=dilation)
    )
    point = kernel[(slice(1),) * rank]
    y = run(convjax.pointwise_conv, x, point)
    np.testing.assert_array_equal(y, x @ point.reshape(4, 6))
    np.testing.assert_array_equal(
        run(convjax.pointwise_conv, x, point, strides=2),
        y[(slice(None), *(slice(None, None, 2),) * rank)],
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="lax convolves 4 axes on CPUs only")
def test_rank_four_is_still_the_definition():
    """N where the maths allows: whatever rank lax runs."""
    x, kernel = oracle.integers(0, (2, 4, 3, 5, 3, 2)), oracle.integers(1, (2, 1, 3, 2, 2, 3))
    numbers = ("NABDEC", "ABDEIO", "NABDEC")
    theirs = jax.lax.conv_general_dilated(x, kernel, (1,) * 4, "VALID", dimension_numbers=numbers)
    y = run(convjax.conv, x, kernel, padding="VALID")
    np.testing.assert_array_equal(y, oracle.conv(x, kernel, padding="VALID"))
    np.testing.assert_array_equal(y, theirs)


@pytest.mark.parametrize("algorithm", ["direct", ("direct", "direct", "direct"), None])
def test_forced_algorithms(algorithm):
    x, kernel = oracle.integers(0, (2, 6, 7, 4)), oracle.integers(1, (3, 2, 2, 6))
    options = {"strides": 2, "feature_group_count": 2, "padding_mode": "wrap"}
    y = run(convjax.conv, x, kernel, algorithm=algorithm, **options)
    np.testing.assert_array_equal(y, oracle.conv(x, kernel, **options))


def test_direct_binds_laxs_own_primitive():
    """With ``algorithm="direct"`` those who read jaxprs see plain lax; by default they do not."""
    x, kernel = jnp.ones((2, 6, 4)), jnp.ones((3, 4, 5))

    def names(algorithm):
        function = partial(convjax.conv, algorithm=algorithm)
        return str(jax.make_jaxpr(jax.value_and_grad(lambda x: function(x, kernel).sum()))(x))

    assert names("direct").count("conv_general_dilated[") == 2
    assert "conv_general_dilated[" not in names(None)


def test_floats_keep_the_bound_of_a_dot_product():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 9, 8, 16)), rng.normal(size=(3, 3, 16, 8))
    wanted = oracle.conv(x, kernel)
    terms = 3 * 3 * 16
    bound = terms * np.finfo(np.float32).eps * np.abs(x).max() * np.abs(kernel).max() * terms**0.5
    y = run(convjax.conv, x.astype(np.float32), kernel.astype(np.float32), precision="highest")
    assert np.abs(y - wanted).max() < bound
