"""One recipe per convolution: integers and words, made once, read by all who compute or count."""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import strategies
from hypothesis import given, settings

import convjax
from convjax._core.layout import Layout
from convjax._core.options import DEFAULTS
from convjax._core.recipe import Recipe
from convjax._functional.prepare import Names, conv_recipe, transpose_recipe

PACKAGE = os.path.dirname(convjax.__file__)
X, K = np.ones((1, 8, 8, 4), np.float32), np.ones((3, 3, 4, 6), np.float32)
DEPTHWISE, POINTWISE = np.ones((3, 3, 1, 4), np.float32), np.ones((1, 1, 4, 6), np.float32)

WALKS = {
    "conv": lambda x: convjax.conv(x, K, strides=2),
    "conv2d": lambda x: convjax.conv2d(x, K),
    "pointwise_conv": lambda x: convjax.pointwise_conv(x, POINTWISE),
    "grouped_conv": lambda x: convjax.grouped_conv(x, K[:, :, :2], 2),
    "depthwise_conv": lambda x: convjax.depthwise_conv(x, DEPTHWISE, padding="VALID"),
    "conv_transpose": lambda x: convjax.conv_transpose(x, K.swapaxes(2, 3), strides=2),
}


def walk(function) -> list[str]:
    """The files of the package that are entered until the primitive is bound, in order.

    A file stands there as often as control came into it: calls within a file are one stay.
    """
    stays: list[str] = []

    def entered(frame, event, arg):
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PACKAGE):
            name = os.path.relpath(file, PACKAGE)
            if name == "_operation/primitive.py" and frame.f_code.co_name == "_abstract_eval":
                sys.setprofile(None)  # the primitive is bound
            elif not stays or stays[-1] != name:
                stays.append(name)

    def traced(x):
        sys.setprofile(entered)
        try:
            return function(x)
        finally:
            sys.setprofile(None)

    jax.make_jaxpr(traced)(X)
    return stays


@pytest.mark.parametrize("name", sorted(WALKS))
def test_the_walk_to_the_primitive_visits_each_file_once(name):
    walk(WALKS[name])
    stays = walk(WALKS[name])
    assert len(stays) == len(set(stays)), stays
    assert stays[0] == "_core/public.py" and stays[1].startswith("_functional/")
    assert stays.index("_functional/prepare.py") < stays.index("_operation/grouping.py")
    assert len(stays) <= 12


@pytest.mark.parametrize("name", sorted(WALKS))
def test_the_first_walk_makes_the_recipe_before_it_applies_it(name):
    """It goes through the checks, too, but comes back to no file that has done its part."""
    from convjax._core import eager

    eager._once.cache_clear()
    stays = walk(WALKS[name])
    for earlier, later in (
        (stays[1], "_functional/prepare.py"),
        ("_functional/prepare.py", "_operation/grouping.py"),
        ("_functional/numerics.py", "_operation/grouping.py"),
        ("_core/padding.py", "_operation/grouping.py"),
        ("_operation/grouping.py", "_operation/primitive.py"),
    ):
        last = len(stays) - 1 - stays[::-1].index(earlier)
        assert last < stays.index(later), stays


def plain(value) -> bool:
    """Whether `value` holds integers, words and types only."""
    if isinstance(value, (tuple, list)):
        return all(map(plain, value))
    if type(value).__name__ == "Geometry":
        return all(map(plain, vars(value).values()))
    return value is None or isinstance(value, (int, str, np.dtype, jax.lax.Precision))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding_mode": "reflect", "padding": [[1, 2], [0, 3]]},
        {"strides": [2, 1], "algorithm": ["taps", None, None], "precision": "highest"},
        {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "preferred_element_type": jnp.float32},
    ],
    ids=str,
)
def test_a_recipe_is_integers_and_words_and_can_be_hashed(options):
    recipe = conv_recipe(Names("conv"), X, K, options)
    assert plain(recipe) and isinstance(recipe.layout, Layout)
    assert hash(recipe) == hash(conv_recipe(Names("conv"), jnp.asarray(X), K, options))
    assert {recipe: 1}[recipe._replace()] == 1


def test_a_recipe_makes_no_array():
    def traced(x, kernel):
        for make in (conv_recipe, transpose_recipe):
            make(Names("conv"), x, kernel, {"padding_mode": "edge", "padding": 2})
        return x

    jaxpr = jax.make_jaxpr(traced)(X, np.ones((3, 3, 4, 4), np.float32))
    assert not jaxpr.eqns


@settings(max_examples=60)
@given(strategies.convolutions())
def test_a_recipe_knows_the_shape_of_the_result(case):
    x, kernel = (jax.ShapeDtypeStruct(s, "float32") for s in (case.x_shape, case.kernel_shape))
    recipe = conv_recipe(Names("conv"), x, kernel, case.options)
    result = jax.eval_shape(lambda x, k: convjax.conv(x, k, **case.options), x, kernel)
    assert recipe.out_shape == result.shape == case.y_shape
    assert recipe.geometry.output_space(recipe.read, recipe.window) == recipe.written


@settings(max_examples=60)
@given(strategies.transposed())
def test_a_transposed_recipe_knows_the_shape_of_the_result(case):
    y, kernel = (jax.ShapeDtypeStruct(s, "float32") for s in (case.y_shape, case.kernel_shape))
    recipe = transpose_recipe(Names("conv_transpose", x="y"), y, kernel, case.options)
    result = jax.eval_shape(lambda y, k: convjax.conv_transpose(y, k, **case.options), y, kernel)
    assert recipe.out_shape == result.shape == case.x_shape


def test_what_is_made_once_is_made_for_values_of_one_type():
    """1, 1.0 and True are equal, and only the first of them is a stride."""
    assert convjax.conv(X, K, strides=1).shape == (1, 8, 8, 6)
    for wrong in (1.0, True, (1.0, 1.0), (True, 1)):
        with pytest.raises(TypeError, match=r"^conv: `strides` "):
            convjax.conv(X, K, strides=wrong)
    with pytest.raises(TypeError, match=r"^conv: `feature_group_count` \(=True\)"):
        convjax.conv(X, K, feature_group_count=True)


def test_options_mean_what_they_mean_under_the_configuration_of_the_call():
    def precision(**options) -> Recipe:
        return conv_recipe(Names("conv"), X, K, options).precision

    default = precision()
    with jax.default_matmul_precision("highest"):
        assert precision() == precision(precision="highest") != default
    assert precision() == default
    wide = {"preferred_element_type": np.float64}
    assert conv_recipe(Names("conv"), X, K, wide).result_type == np.float32
    with jax.enable_x64(True):
        assert conv_recipe(Names("conv"), X, K, wide).result_type == np.float64


def test_an_option_without_a_hash_is_taken_all_the_same():
    padding = np.array([[1, 1], [2, 0]])
    assert convjax.conv(X, K, padding=padding, strides=np.array([2, 1])).shape == (1, 4, 8, 6)
    assert set(DEFAULTS) > {"strides", "padding"}


class Entries:
    """A sequence that is hashed by its identity, and may change."""

    def __init__(self, entries):
        self.entries = entries

    def __iter__(self):
        return iter(self.entries)


@pytest.mark.parametrize("make", [list, Entries, np.array])
def test_options_that_were_changed_are_read_anew(make):
    strides = make([1, 1])
    assert convjax.conv(X, K, strides=strides).shape == (1, 8, 8, 6)
    changed = strides.entries if make is Entries else strides
    changed[:] = [2, 4]
    assert convjax.conv(X, K, strides=strides).shape == (1, 4, 2, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: convjax.depthwise_separable_conv(
                X, DEPTHWISE, POINTWISE, kernel_dilation=0
            ),
            r"^depthwise_separable_conv: `kernel_dilation` \(=0\)",
        ),
        (
            lambda: convjax.depthwise_separable_conv(X[:, :2], DEPTHWISE, POINTWISE, padding=0),
            r"^depthwise_separable_conv: `depthwise_kernel` \(=\(3, 3\)\) is larger",
        ),
        (
            lambda: convjax.depthwise_separable_conv(X, DEPTHWISE, POINTWISE.astype(np.float16)),
            r"and `pointwise_kernel` \(float16\) .* `pointwise_kernel.astype\(x.dtype\)`",
        ),
        (
            lambda: convjax.spatially_separable_conv(X, [K[:, :1], K[:1, :, :, :4]]),
            r"^spatially_separable_conv: `kernels\[1\]` .* as many as `kernels\[0\]` gives",
        ),
        (
            lambda: convjax.conv_transpose(X, K),
            r"^conv_transpose: `kernel` .* the 4 channels of `y`",
        ),
    ],
)  # fmt: skip
def test_errors_are_in_the_words_of_the_caller(call, message):
    for run in (call, lambda: jax.eval_shape(call)):
        with pytest.raises((TypeError, ValueError), match=message):
            run()
