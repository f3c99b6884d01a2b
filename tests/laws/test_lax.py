"""Law "lax": the drop-ins are lax's functions, for every argument that lax has, right or wrong."""

import functools
import inspect
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import convjax
import convjax.lax as ours
from convjax._operation.primitive import conv_p

NAMES = sorted(ours.__all__)


class Result(NamedTuple):
    """What a call gave: its type and numbers, or its error."""

    shape: tuple[int, ...] = ()
    dtype: Any = None
    weak: bool = False
    error: str = ""
    value: Any = None


def outcome(function: Any, *args: Any, **kwargs: Any) -> Result:
    try:
        y = function(*args, **kwargs)
    except Exception as error:
        return Result(error=f"{type(error).__name__}: {error}")
    return Result(y.shape, y.dtype, jax.typeof(y).weak_type, "", np.asarray(y))


def same(name: str, *args: Any, **kwargs: Any) -> Result:
    """Call lax's function and ours; they must agree in every respect. Returns lax's outcome.

    One difference is allowed: a clear `ValueError` where lax dies with a verifier's error.
    """
    expected = outcome(getattr(lax, name), *args, **kwargs)
    found = outcome(getattr(ours, name), *args, **kwargs)
    if "verifier" in expected.error:
        assert found.error.startswith("ValueError: ")
        assert "verifier" not in found.error
        return expected
    assert found[:-1] == expected[:-1]
    if not expected.error:
        np.testing.assert_array_equal(found.value, expected.value)
    return expected


def integers(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    values = np.random.default_rng([seed, *shape]).integers(-4, 5, size=shape)
    return np.asarray(values, dtype=dtype)


X, K = integers(2, 3, 9, 7), integers(4, 3, 3, 2, seed=1)  # NCHW, OIHW


@pytest.mark.parametrize("name", NAMES)
def test_signature(name):
    assert inspect.signature(getattr(ours, name)) == inspect.signature(getattr(lax, name))
    assert getattr(ours, name).__name__ == name
    assert inspect.getdoc(getattr(ours, name))


def test_names():
    assert set(NAMES) == {
        "conv",
        "conv_general_dilated",
        "conv_general_dilated_patches",
        "conv_transpose",
        "conv_with_general_padding",
    }
    assert convjax.conv_general_dilated is ours.conv_general_dilated


def primitives(jaxpr: Any) -> set[Any]:
    return {equation.primitive for equation in jaxpr.eqns}


@pytest.mark.parametrize(
    "name, args",
    [
        ("conv", (X, K, (1, 1), "SAME")),
        ("conv_with_general_padding", (X, K, (1, 1), [(0, 1), (2, -1)], (2, 1), (1, 2))),
        ("conv_general_dilated", (X, K, (2, 1), "SAME")),
        ("conv_transpose", (integers(2, 5, 6, 3), integers(3, 2, 3, 4), (2, 3), "SAME")),
        ("conv_general_dilated_patches", (X, (2, 3), (1, 2), "VALID")),
    ],
)
def test_it_is_our_operation(name, args):
    """Each function binds our primitive, and not lax's, called bare and under jit."""
    assert not same(name, *args).error
    call = functools.partial(getattr(ours, name), **arguments_of(name, args))
    operands = {k: call.keywords.pop(k) for k in ("lhs", "rhs") if k in call.keywords}
    found = primitives(jax.make_jaxpr(lambda o: call(**o))(operands).jaxpr)
    assert conv_p in found
    assert lax.conv_general_dilated_p not in found
    compiled = jax.jit(lambda o: call(**o))(operands)
    np.testing.assert_array_equal(compiled, getattr(lax, name)(*args))


def arguments_of(name: str, args: Any) -> dict[str, Any]:
    return inspect.signature(getattr(lax, name)).bind(*args).arguments


# ---- hypothesis: any configuration, right or wrong -----------------------------------------------


@st.composite
def spelled_dimension_numbers(draw, rank: int) -> tuple[Any, tuple[str, str, str]]:
    """`dimension_numbers` in one of the spellings that lax takes, and its three strings."""
    letters = "DHW"[3 - rank :]
    default = ("NC" + letters, "OI" + letters, "NC" + letters)
    if draw(st.booleans()):
        return None, default
    specs = tuple("".join(draw(st.permutations(spec))) for spec in default)
    match draw(st.integers(0, 1)):
        case 0:
            return specs, specs
        case _:
            n = rank + 2
            return lax.conv_dimension_numbers((1,) * n, (1,) * n, specs), specs


def shaped(spec: str, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(sizes[letter] for letter in spec)


@st.composite
def general_calls(draw) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Operands and arguments of `conv_general_dilated`: mostly right ones."""
    rank = draw(st.integers(0, 3))
    numbers, (x_spec, k_spec, _) = draw(spelled_dimension_numbers(rank))
    space = dict(zip("DHW"[3 - rank :], draw(st.permutations([3, 5, 6, 8])), strict=False))
    window = {letter: draw(st.integers(1, 4)) for letter in space}
    if space and draw(st.integers(0, 9)) == 0:
        space[draw(st.sampled_from(sorted(space)))] = draw(st.sampled_from([0, 1]))
    feature_groups, batch_groups = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 1), (1, 2)]))
    per_group, out = draw(st.sampled_from([(1, 2), (2, 3), (3, 1), (4, 0), (0, 2)]))
    batch = draw(st.sampled_from([0, 1, 2, 3])) * batch_groups
    x = shaped(x_spec, {"N": batch, "C": per_group * feature_groups, **space})
    k = shaped(k_spec, {"O": out * feature_groups * batch_groups, "I": per_group, **window})

    def per_axis(low: int, high: int, spelling: Any = tuple) -> Any:
        return spelling(draw(st.integers(low, high)) for _ in range(rank))

    pairs = [(draw(st.integers(-2, 3)), draw(st.integers(-2, 3))) for _ in range(rank)]
    dtype, preferred = draw(
        st.sampled_from(
            [
                (np.float32, None),
                (np.float32, np.float32),
                (np.int32, None),
                (np.int8, np.int32),
                (jnp.bfloat16, None),
                (jnp.bfloat16, jnp.float32),
                (np.float16, np.float32),
                (np.complex64, None),
            ]
        )
    )
    arguments = {
        "window_strides": per_axis(1, 3, draw(st.sampled_from([tuple, list, np.array]))),
        "padding": draw(st.sampled_from(["SAME", "VALID", "SAME_LOWER", "same", pairs, pairs])),
        "dimension_numbers": numbers,
        "feature_group_count": feature_groups,
        "batch_group_count": batch_groups,
        "preferred_element_type": preferred,
    }
    for name, greatest in (("lhs_dilation", 2), ("rhs_dilation", 3)):
        if draw(st.booleans()):
            arguments[name] = draw(st.sampled_from([None, per_axis(1, greatest)]))
    if draw(st.integers(0, 5)) == 0:
        arguments["precision"] = draw(
            st.sampled_from(["highest", lax.Precision.HIGH, ("default", "high"), "nonsense"])
        )
    if draw(st.integers(0, 5)) == 0:  # something wrong, perhaps
        name, value = draw(
            st.sampled_from(
                [
                    ("window_strides", (0,) * rank),
                    ("window_strides", (1,) * (rank + 1)),
                    ("padding", [(0, 0)] * (rank + 1)),
                    ("padding", "FULL"),
                    ("lhs_dilation", (0,) * rank),
                    ("rhs_dilation", (1,) * (rank + 1)),
                    ("feature_group_count", 0),
                    ("feature_group_count", 5),
                    ("batch_group_count", 5),
                    ("dimension_numbers", ("NHWC", "HWIO", "NHWC")),
                    ("preferred_element_type", np.int8),
                ]
            )
        )
        arguments[name] = value
    return integers(*x, dtype=dtype), integers(*k, seed=1, dtype=dtype), arguments


@hypothesis.given(general_calls())
@hypothesis.settings(max_examples=150)
def test_any_call(call):
    x, kernel, arguments = call
    result = same("conv_general_dilated", x, kernel, **arguments)
    kind = "raises" if result.error else "is empty" if 0 in result.shape else "has numbers"
    hypothesis.event(kind)


@hypothesis.given(
    rank=st.integers(1, 3),
    data=st.data(),
    transpose_kernel=st.booleans(),
    consistent=st.booleans(),
)
@hypothesis.settings(max_examples=50)
def test_any_transposed_call(rank, data, transpose_kernel, consistent):
    numbers, (x_spec, k_spec, _) = data.draw(spelled_dimension_numbers(rank))
    if isinstance(numbers, lax.ConvDimensionNumbers) or rank == 3 and numbers is None:
        numbers = None
    if numbers is None:
        letters = "DHW"[3 - rank :]
        x_spec, k_spec = f"N{letters}C", f"{letters}IO"
    window = {letter: data.draw(st.integers(1, 4)) for letter in "DHW"[3 - rank :]}
    x = shaped(x_spec, {"N": 2, "C": 3, "D": 2, "H": 3, "W": 5})
    k = shaped(
        k_spec, {"I": 3, "O": 4, **window} if not transpose_kernel else {"I": 4, "O": 3, **window}
    )
    pairs = [(data.draw(st.integers(-1, 3)), data.draw(st.integers(-1, 3))) for _ in range(rank)]
    same(
        "conv_transpose",
        integers(*x),
        integers(*k, seed=1),
        strides=tuple(data.draw(st.integers(1, 3)) for _ in range(rank)),
        padding=data.draw(st.sampled_from(["SAME", "VALID", pairs])),
        rhs_dilation=data.draw(st.sampled_from([None, (1,) * rank, (2,) * rank])),
        dimension_numbers=numbers,
        transpose_kernel=transpose_kernel,
        use_consistent_padding=consistent,
    )


# ---- spellings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": ((1, 0), (0, 2))},
        {"padding": [[1, 0], [0, 2]]},
        {"padding": np.array([[1, 0], [0, 2]])},
        {"padding": "same_lower"},
        {"padding": [(-1, 3), (2, -2)]},
        {"window_strides": [2, 1]},
        {"window_strides": np.array([2, 3])},
        {"window_strides": (np.int64(2), np.int32(1))},
        {"lhs_dilation": None, "rhs_dilation": [2, 1]},
        {"dimension_numbers": None},
        {"dimension_numbers": ("NCHW", "OIHW", "NHWC")},
        {"dimension_numbers": ["NCHW", "OIHW", "NHWC"]},
        {"dimension_numbers": lax.ConvDimensionNumbers((0, 1, 3, 2), (0, 1, 2, 3), (3, 1, 0, 2))},
        {"precision": "highest"},
        {"precision": lax.Precision.HIGH},
        {"precision": ("high", lax.Precision.DEFAULT)},
        {"precision": "bfloat16_3x"},
        {"preferred_element_type": "float32"},
        {"preferred_element_type": jnp.float32},
        {"preferred_element_type": np.float64},
        {"preferred_element_type": jnp.bfloat16},
        {"feature_group_count": np.int64(1)},
        {"batch_group_count": 2},
        {"batch_group_count": 2, "rhs": integers(6, 3, 3, 2)},
        {"feature_group_count": 3, "rhs": integers(6, 1, 3, 2)},
        {"feature_group_count": 3, "batch_group_count": 2, "rhs": integers(6, 1, 3, 2)},
        {"lhs": jnp.asarray(X)},
        {"lhs": X.tolist()},
        {"lhs": X.astype(np.int32)},
        {"lhs": X.astype(np.float16)},
        {"lhs": X > 0, "rhs": K > 0},
        {"lhs": X[0]},
        {"lhs": X[:, :, :2], "padding": "VALID"},
        {"lhs": X[:, :, :0], "padding": "SAME"},
        {"lhs": X[:0]},
        {"rhs": K[:0]},
        {"rhs": K[:, :, :0]},
        {"lhs": X[:, :0], "rhs": K[:, :0]},
        {"lhs": 3.0},
        {"lhs": None},
        {"lhs": "image"},
        {"lhs": X[:, :2]},
        {"window_strides": 2},
        {"window_strides": (2,)},
        {"window_strides": (0, 1)},
        {"window_strides": (1.5, 1)},
        {"window_strides": None},
        {"padding": 1},
        {"padding": "CAUSAL"},
        {"padding": None},
        {"padding": ((1, 1),)},
        {"padding": ((1, 1), (1, 1, 1))},
        {"padding": (1, 1)},
        {"padding": ((-9, -9), (0, 0))},
        {"lhs_dilation": (0, 1)},
        {"rhs_dilation": (1, -1)},
        {"lhs_dilation": (1, 1, 1)},
        {"lhs_dilation": 2},
        {"dimension_numbers": ("NCHW", "OIHW")},
        {"dimension_numbers": ("NCHW", "OIHW", "NCHWD")},
        {"dimension_numbers": ("NCHW", "OIHX", "NCHW")},
        {"dimension_numbers": "NCHW"},
        {"dimension_numbers": ("NHWC", "HWIO", "NHWC")},
        {"feature_group_count": 2},
        {"feature_group_count": 0},
        {"feature_group_count": -1},
        {"batch_group_count": 0},
        {"batch_group_count": 3},
        {"precision": "sharp"},
        {"precision": 3},
        {"preferred_element_type": np.int32},
        {"preferred_element_type": "nonsense"},
        {"out_sharding": "somewhere"},
        {"unknown": 1},
    ],
    ids=lambda a: ", ".join(f"{k}={v}" if not hasattr(v, "shape") else k for k, v in a.items())[
        :60
    ],
)
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "traced"])
@pytest.mark.filterwarnings("default")  # lax warns of a float64 that x64 mode would need
def test_spelling(arguments, jit):
    """Every spelling gives what lax gives, and so does every wrong one, message included."""
    call = {"lhs": X, "rhs": K, "window_strides": (1, 1), "padding": "SAME"} | arguments
    if not jit:
        same("conv_general_dilated", **call)
        return
    if "verifier" not in outcome(lax.conv_general_dilated, **call).error:

        def traced(function: Any) -> Any:
            try:
                return jax.eval_shape(lambda: function(**call))
            except Exception as error:
                return type(error), str(error)

        assert traced(ours.conv_general_dilated) == traced(lax.conv_general_dilated)


@pytest.mark.parametrize(
    "name, args, kwargs",
    [
        ("conv", (X, K, (1, 2), "SAME"), {}),
        ("conv", (X, K, (1, 2), "VALID", "highest", np.float32), {}),
        ("conv", (X, K), {"window_strides": [2, 2], "padding": "same", "precision": None}),
        ("conv", (X, K, (1, 2)), {}),
        ("conv", (X, K, (1, 2), "WRONG"), {}),
        ("conv", (X, K[:, :2], (1, 2), "SAME"), {}),
        ("conv_with_general_padding", (X, K, (1, 2), "SAME", None, None), {}),
        ("conv_with_general_padding", (X, K, (1, 2), [(1, 0), (-1, 2)], (2, 1), (1, 2)), {}),
        ("conv_with_general_padding", (X, K, (1, 2), [(1, 0)], (2, 1), (1, 2)), {}),
        ("conv_with_general_padding", (X, K, (1, 2), "SAME", (2, 2), None), {}),
        ("conv_general_dilated_patches", (X, (3, 2), (1, 2), "SAME"), {}),
        ("conv_general_dilated_patches", (X, [3, 2], [1, 2], [(1, 1), (0, 2)], (2, 1), (1, 2)), {}),
        ("conv_general_dilated_patches", (X,), {
            "filter_shape": (2, 2), "window_strides": (1, 1), "padding": "VALID",
            "dimension_numbers": ("NHWC", "HWIO", "NCHW"), "precision": lax.Precision.HIGHEST,
            "preferred_element_type": np.dtype("float32")}),
        ("conv_general_dilated_patches", (X.astype(np.int32), (3, 2), (1, 2), "SAME"), {}),
        ("conv_general_dilated_patches", (X, (3,), (1, 2), "SAME"), {}),
        ("conv_general_dilated_patches", (X, (3, 2), (1, 2), "WRONG"), {}),
        ("conv_transpose", (X, K, (1, 2), "SAME"), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
        ("conv_transpose", (X, K, (1, 2), "SAME"), {}),
        ("conv_transpose", (X, K, (1, 2), "WRONG"), {}),
        ("conv_transpose", (X[0], K[0], (1,), "SAME"), {}),
        ("conv_transpose", (X, K, (1,), "SAME"), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
        ("conv_transpose", (integers(2, 3), integers(3, 4), (), "VALID"), {}),
    ],
)  # fmt: skip
def test_other_functions(name, args, kwargs):
    same(name, *args, **kwargs)


def test_weak_types():
    """Operands made of Python numbers are weakly typed in lax, and here."""
    x, kernel = jnp.full((1, 1, 5), 2.0), jnp.full((1, 1, 3), 3.0)
    assert jax.typeof(x).weak_type
    for a in (x, x.astype(np.float32)):
        for k in (kernel, kernel.astype(np.float32)):
            same("conv_general_dilated", a, k, (1,), "SAME")


@pytest.mark.parametrize("precision", ["highest", "bfloat16", "tensorfloat32", None])
def test_default_precision_holds_at_the_call(precision):
    """`jax.default_matmul_precision` means the same for both, and is read when called."""

    def convolutions(module):
        with jax.default_matmul_precision(precision):
            jaxpr = jax.make_jaxpr(lambda: module.conv_general_dilated(X, K, (1, 1), "SAME"))()
        return [e.params["precision"] for e in jaxpr.eqns if "precision" in e.params]

    assert convolutions(ours) == convolutions(lax)


# ---- outside jit -------------------------------------------------------------------------------


def test_an_eager_call_is_traced_once(monkeypatch):
    """Not for every call: that took four times as long as lax's."""
    x, kernel = np.ones((1, 5, 5, 2), np.float32), np.ones((3, 3, 2, 4), np.float32)
    numbers = ("NHWC", "HWIO", "NHWC")

    def call(*options, **more):
        return ours.conv_general_dilated(x, kernel, *options, dimension_numbers=numbers, **more)

    wanted = call((1, 1), "SAME")
    monkeypatch.setattr(ours, "evaluate", None)
    np.testing.assert_array_equal(call((1, 1), "SAME"), wanted)
    np.testing.assert_array_equal(call(padding="SAME", window_strides=(1, 1)), wanted)
    for other in ([1, 1], (True, True), (1.0, 1.0)):  # equal, and not the same to lax
        with pytest.raises(TypeError):
            call(other, "SAME")
    monkeypatch.undo()
    np.testing.assert_array_equal(call([1, 1], "SAME"), wanted)
    np.testing.assert_array_equal(call(np.array([1, 1]), "SAME"), wanted)  # has no hash


def test_an_eager_call_reads_the_precision_in_force():
    """Where a jaxpr is being made, the convolution of two constants is in it, without a call."""
    x, kernel = np.ones((1, 5, 2), np.float32), np.ones((3, 2, 4), np.float32)

    def call(y):
        numbers = ("NHC", "HIO", "NHC")
        return y + ours.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=numbers)

    def precision():
        (eqn,) = [e for e in jax.make_jaxpr(call)(1.0).jaxpr.eqns if e.primitive is conv_p]
        return eqn.params["precision"]

    default = precision()
    with jax.default_matmul_precision("float32"):
        assert precision() != default
    assert precision() == default


def test_a_list_that_its_owner_changes_is_not_read_again():
    """A call for other shapes is traced with the options of its own call."""
    strides, one = [1, 1], np.ones((1, 1, 3, 3), np.float32)
    ours.conv_general_dilated(np.ones((1, 1, 8, 8), np.float32), one, strides, "SAME")
    strides[:] = [2, 2]
    y = ours.conv_general_dilated(np.ones((1, 1, 6, 6), np.float32), one, [1, 1], "SAME")
    assert y.shape == (1, 1, 6, 6)


def test_the_drop_in_may_take_laxs_place(monkeypatch):
    """Whoever puts our function where lax's stood does not send us round in circles."""
    monkeypatch.setattr(jax.lax, "conv_general_dilated", convjax.conv_general_dilated)
    x, kernel = jnp.ones((1, 3, 5, 6)), jnp.ones((2, 3, 3, 2))
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME")
    assert y.shape == (1, 2, 5, 6) and float(y[0, 0, 2, 2]) == 18
