"""The causal layers of both APIs: the functions with parameters, and streams with a state."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx
from layers import integers, pure

import convjax
from convjax import linen, nn

KEY = jax.random.key(0)
X = jnp.asarray(oracle.integers(0, (2, 12, 6)))
LAYERS = {
    "depthwise": (
        "CausalConv",
        6,
        {"kernel_size": 4, "feature_group_count": 6, "activation": "relu"},
    ),
    "strided": ("CausalConv", 8, {"kernel_size": (7,), "strides": 2, "output_at": "last"}),
    "edge": ("CausalConv", 4, {"kernel_size": 3, "kernel_dilation": 2, "padding_mode": "edge"}),
    "transposed": (
        "CausalConvTranspose",
        4,
        {"kernel_size": 6, "strides": 3, "feature_group_count": 2},
    ),
}


def layers(name):
    """The NNX layer, its parameters random integers; the linen layer; and the function."""
    kind, out, options = LAYERS[name]
    layer = getattr(nn, kind)(6, out, **options, rngs=nnx.Rngs(0))
    nnx.update(layer, integers(nnx.state(layer, nnx.Param), 1))
    parameters = pure(layer)
    names = {"CausalConv": "causal_conv", "CausalConvTranspose": "causal_conv_transpose"}
    function = getattr(convjax, names[kind])
    options = {key: value for key, value in options.items() if key != "kernel_size"}

    def expected(x, **given):
        return function(x, parameters["kernel"], bias=parameters["bias"], **options, **given)

    other = getattr(linen, kind)(out, **LAYERS[name][2])
    return layer, other, {"params": parameters}, expected


def equal(ours, wanted):
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(wanted))


@pytest.mark.parametrize("name", LAYERS)
def test_whole_sequences(name):
    layer, other, variables, expected = layers(name)
    equal(layer(X), expected(X))
    equal(other.apply(variables, X), expected(X))
    for ours, wanted in zip(
        layer(X, return_state=True), expected(X, return_state=True), strict=True
    ):
        equal(ours, wanted)
    if name != "strided":
        ids = np.broadcast_to(np.arange(12) // 5, (2, 12))
        equal(layer(X, segment_ids=ids), expected(X, segment_ids=ids))
        equal(other.apply(variables, X, segment_ids=ids), expected(X, segment_ids=ids))
    made = other.init(KEY, X)
    assert set(made) == {"params"}
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, variables)


@pytest.mark.parametrize("name", LAYERS)
def test_streams(name):
    """Chunks and steps, under jit, equal the whole sequence; and again after a reset."""
    layer, other, variables, expected = layers(name)
    wanted = expected(X)
    per_step = wanted.shape[1] // 6 if name in ("strided", "transposed") else None

    @nnx.jit
    def stream(layer, chunk):
        return layer.stream(chunk)

    for _ in range(2):
        layer.reset(X)
        assert isinstance(layer.state, nn.CausalState)
        found = [stream(layer, X[:, a:b]) for a, b in ((0, 4), (4, 6), (6, 12))]
        equal(jnp.concatenate(found, 1), wanted)
    state = nnx.state(layer, nn.CausalState)
    assert len(jax.tree.leaves(state)) == 1
    assert len(jax.tree.leaves(nnx.state(layer, nnx.Param))) == 2

    held = {}
    found = []
    for a, b in ((0, 4), (4, 6), (6, 12)):
        y, held = other.apply(
            {**variables, **held}, X[:, a:b], stream=True, mutable=["causal_state"]
        )
        found.append(y)
    equal(jnp.concatenate(found, 1), wanted)
    equal(held["causal_state"]["state"], layer.state[...])
    made = other.init(KEY, X, stream=True)
    assert set(made) == {"params", "causal_state"}
    equal(made["causal_state"]["state"], expected_start(name))
    if name == "strided":
        return
    layer.reset(X)
    held = {}
    for t in range(3):
        y = layer.step(X[:, t])
        y_t, held = other.apply(
            {**variables, **held}, X[:, t], stream="step", mutable=["causal_state"]
        )
        equal(y, y_t)
        equal(y, wanted[:, t * 3 : t * 3 + 3] if per_step else wanted[:, t])


def expected_start(name):
    shape = {"depthwise": 3, "strided": 5, "edge": 4, "transposed": 1}[name]
    return X[:, :1] * np.ones((1, shape, 1)) if name == "edge" else np.zeros((2, shape, 6))


def test_video():
    """Time is the first spatial axis, or another one."""
    x = jnp.asarray(oracle.integers(0, (1, 5, 4, 3, 2)))
    for axis in (1, 2, -2):
        layer = nn.CausalConv(2, 3, (3, 2, 3), axis=axis, padding_mode="edge", rngs=nnx.Rngs(0))
        nnx.update(layer, integers(nnx.state(layer, nnx.Param), 1))
        kernel, bias = layer.kernel[...], layer.bias[...]
        wanted = convjax.causal_conv(x, kernel, bias=bias, axis=axis, padding_mode="edge")
        equal(layer(x), wanted)
        layer.reset(x)
        place = axis % 5
        equal(layer.step(x.take(0, place)), wanted.take(0, place))
        rest = layer.stream(jax.lax.slice_in_dim(x, 1, x.shape[place], axis=place))
        equal(rest, jax.lax.slice_in_dim(wanted, 1, wanted.shape[place], axis=place))


def test_dtypes():
    layer = nn.CausalConv(6, 6, 4, feature_group_count=6, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    layer.reset((2, 1, 6))
    assert layer.state[...].dtype == layer.step(X[:, 0]).dtype == jnp.bfloat16


def test_training_leaves_the_state():
    layer = nn.CausalConv(6, 6, 4, feature_group_count=6, rngs=nnx.Rngs(0))
    layer.reset(X)
    gradients = nnx.grad(lambda layer: (layer(X) ** 2).sum())(layer)
    assert set(nnx.to_pure_dict(gradients)) == {"kernel", "bias"}
    assert not layer.state[...].any()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: layers("depthwise")[0].stream(X), "^CausalConv: `reset` must be called before"),
        (
            lambda: layers("edge")[0].reset((2, 1, 6)),
            r"^CausalConv: `inputs` \(=\(2, 1, 6\)\) must be the first inputs",
        ),
        (
            lambda: layers("depthwise")[0](X[0]),
            r"^CausalConv: `inputs` \(=\(12, 6\)\) must have 3 axes: batch, 1 spatial ones and",
        ),
        (
            lambda: layers("depthwise")[1].apply(layers("depthwise")[2], X, stream="steps"),
            r"^CausalConv: `stream` \(='steps'\) must be False, True or \"step\"",
        ),
        (
            lambda: layers("depthwise")[1].init(KEY, X, stream=True, return_state=True),
            r"^CausalConv: `return_state` \(=True\) must not be given with `stream`",
        ),
        (
            lambda: layers("depthwise")[1].init(KEY, X, stream=True, state=X),
            r"^CausalConv: `state` \(=\(2, 12, 6\)\) must not be given with `stream`",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
