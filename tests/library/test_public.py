"""Every public name: it can be pickled and copied, and so can what it makes."""

import copy
import dataclasses
import importlib
import inspect
import pickle
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import equal
from flax import linen as flax_linen
from flax import nnx
from layers import CASES, IDS, IN, OUT, pure

import convjax
from convjax import initializers, linen, nn
from convjax.models import NETWORKS

ROOMS = ["convjax"] + [
    f"convjax.{room}"
    for room in (
        "analysis",
        "arithmetic",
        "_lowerings.compiler",
        "cost",
        "equivalents",
        "initializers",
        "interop",
        "_modules.conventions",
        "kinds",
        "lax",
        "linen",
        "models",
        "nn",
        "selftest",
    )
]


def public_names(room):
    """What a module offers: its ``__all__``, or else what it defines."""
    module = importlib.import_module(room)
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == room
    }


PUBLIC = {
    f"{room}.{name}": value
    for room in ROOMS
    for name, value in public_names(room).items()
    if not isinstance(value, types.ModuleType)
}


def test_the_rooms_are_all_public_modules():
    modules = {f"convjax.{n}" for n in convjax.__all__ if inspect.ismodule(getattr(convjax, n))}
    assert modules <= set(ROOMS)
    assert len(PUBLIC) > 150


@pytest.mark.parametrize("name", PUBLIC)
def test_names_can_be_pickled_and_copied(name):
    value = PUBLIC[name]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        read = pickle.loads(pickle.dumps(value, protocol))
        if inspect.isroutine(value) or inspect.isclass(value):
            assert read is value
        else:
            assert type(read) is type(value) and str(read) == str(value)
    assert str(copy.deepcopy(value)) == str(value)


# ---- modules -----------------------------------------------------------------------------------


def survivors(layer):
    """`layer` after everything that it must survive."""
    yield "pickle", pickle.loads(pickle.dumps(layer))
    yield "deepcopy", copy.deepcopy(layer)
    yield "split and merge", nnx.merge(*nnx.split(layer))
    yield "clone", nnx.clone(layer)
    yield "pytree", jax.tree.map(lambda leaf: leaf, layer)


def assert_survives(layer, x):
    wanted = layer(x)
    for how, other in survivors(layer):
        assert type(other) is type(layer), how
        equal(other(x), wanted)
        jax.tree.map(equal, pure(other), pure(layer))
        assert other is not layer
    hash(nnx.graphdef(layer))
    equal(nnx.jit(lambda m, x: m(x))(layer, x), jax.jit(lambda m, x: m(x))(layer, x))


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_nnx_layers(case):
    assert_survives(case.nnx(), case.inputs())


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_linen_layers(case):
    layer, x = case.linen(kernel_init=initializers.he_normal()), case.inputs()
    variables = layer.init(jax.random.key(0), x)
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), layer.clone()):
        equal(other.apply(variables, x), layer.apply(variables, x))


X = jnp.asarray(np.random.default_rng(0).integers(-3, 4, (2, 5, 5, IN)), jnp.float32)


@pytest.mark.parametrize("cls", [nnx.Conv, nn.Conv])
@pytest.mark.parametrize("function", ["conv_general_dilated", "lax.conv_general_dilated"])
def test_the_drop_in_function_in_a_layer(cls, function):
    """The README's line; the module takes Flax's own function, too."""
    for home in (convjax, jax):
        if not hasattr(home, function.split(".")[0]):
            continue
        convolution = home
        for name in function.split("."):
            convolution = getattr(convolution, name)
        rngs = nnx.Rngs(0)
        layer = cls(IN, OUT, (3, 3), conv_general_dilated=convolution, rngs=rngs)
        assert_survives(layer, X)


def test_layers_with_everything_that_is_an_array():
    """Arrays of numpy and JAX for every argument; lists, too."""
    numbers = {
        "strides": [2, 1],
        "padding": [(1, 0), (0, 2)],
        "kernel_dilation": [1, 2],
    }
    makers = (np.array, jnp.array, list, tuple)
    wanted = None
    for maker in makers:
        options = {name: maker(value) for name, value in numbers.items()}
        options |= {"precision": ["highest", "highest"], "algorithm": [None, None, "direct"]}
        window = maker((3, 2))
        layer = nn.Conv(IN, OUT, window, **options, input_dilation=maker((1, 1)), rngs=nnx.Rngs(0))
        assert_survives(layer, X)
        wanted = layer(X) if wanted is None else wanted
        equal(layer(X), wanted)
        module = linen.Conv(OUT, window, **options)
        equal(module.apply({"params": pure(layer)}, X), wanted)
    for maker in makers:
        layer = nn.SpatiallySeparableConv(IN, OUT, maker((3, 3)), maker((4,)), rngs=nnx.Rngs(0))
        assert_survives(layer, X)
        layer = nn.ResizeConv(IN, OUT, maker((3, 3)), maker((2, 1)), rngs=nnx.Rngs(0))
        assert_survives(layer, X)


MASKS = {
    "numpy": lambda m: np.asarray(m, np.float32),
    "numpy, float64": lambda m: np.asarray(m, np.float64),
    "numpy, bool": lambda m: np.asarray(m, bool),
    "numpy, int8": lambda m: np.asarray(m, np.int8),
    "jax": lambda m: jnp.asarray(m, jnp.float32),
    "jax, bool": lambda m: jnp.asarray(m, bool),
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_masks(name, kind):
    """As in Flax, under every transform that a layer goes through, and when trained."""
    mask = MASKS[kind](np.random.default_rng(0).integers(0, 2, (3, 2, IN, OUT)))
    ours, theirs = (
        getattr(module, name)(IN, OUT, (3, 2), mask=mask, rngs=nnx.Rngs(0)) for module in (nn, nnx)
    )
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-5, atol=1e-5)
    assert ours(X).dtype == theirs(X).dtype
    assert_survives(ours, X)
    module = getattr(linen, name)(OUT, (3, 2), mask=mask)
    other = getattr(flax_linen, name)(OUT, (3, 2), mask=mask)
    made = jax.jit(module.init)(jax.random.key(0), X)
    np.testing.assert_allclose(module.apply(made, X), other.apply(made, X), rtol=1e-5, atol=1e-5)
    equal(pickle.loads(pickle.dumps(module)).apply(made, X), module.apply(made, X))

    grads = nnx.jit(nnx.grad(lambda m, x: (m(x) ** 2).sum()))(ours, X)
    assert set(nnx.to_pure_dict(grads)) == {"kernel", "bias"}
    assert not np.any(grads["kernel"][...][np.asarray(mask) == 0])
    assert nnx.state(ours, nnx.Param).keys() == nnx.state(theirs, nnx.Param).keys()


@pytest.mark.parametrize("mask", [[[1.0]], 3, "mask"])
def test_masks_that_are_no_arrays(mask):
    for call in (
        lambda: nn.Conv(IN, OUT, (1, 1), mask=mask, rngs=nnx.Rngs(0))(X),
        lambda: linen.Conv(OUT, (1, 1), mask=mask).init(jax.random.key(0), X),
    ):
        with pytest.raises(TypeError, match="^Conv: `mask` must be an array, not "):
            call()


# ---- what else makes objects -------------------------------------------------------------------


@pytest.mark.parametrize(
    "init",
    [
        initializers.lecun_normal(),
        initializers.he_normal(),
        initializers.glorot_uniform(),
        initializers.drop_in(),
        initializers.icnr(2),
        initializers.icnr((2, 1), nnx.initializers.ones),
    ],
    ids=lambda init: repr(init).partition(" at 0x")[0],  # workers have other addresses
)
def test_initializers(init):
    shape = (3, 3, 4, 8)
    for other in (pickle.loads(pickle.dumps(init)), copy.deepcopy(init)):
        assert other == init and hash(other) == hash(init)
        equal(other(jax.random.key(0), shape), init(jax.random.key(0), shape))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_networks(name):
    network = NETWORKS[name]
    model = nnx.eval_shape(lambda: network.constructor(rngs=nnx.Rngs(0)))
    graph = nnx.graphdef(model)
    hash(graph)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(other))) == jax.tree.map(
            jnp.shape, nnx.to_pure_dict(nnx.state(model))
        )


def test_tables_that_are_returned():
    x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    for made in (
        convjax.cost_of(convjax.conv, x, kernel),
        convjax.explain(convjax.conv, x, kernel),
        convjax.cost.conv(x, kernel),
    ):
        assert dataclasses.is_dataclass(made)
        assert pickle.loads(pickle.dumps(made)) == made == copy.deepcopy(made)
