"""`accelerate` on one small model of each library: no line of the model is changed.

Depthwise, grouped and transposed layers; the same outputs and gradients of all parameters.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from accelerated import count
from cases import near

import convjax

X = oracle.integers(1, (2, 8, 8, 4), bound=2)


def check(apply, params, x=X, layers=3):
    """`apply(params, x)`: outputs, and gradients of all parameters on either side."""

    def loss(function):
        return lambda params, x: (function(params, x) ** 2).sum()

    accelerated = convjax.accelerate(apply)
    assert count(apply, params, x) == (layers, 0)
    assert count(accelerated, params, x) == (0, layers)
    near(jax.jit(accelerated)(params, x), jax.jit(apply)(params, x))
    wanted = jax.jit(jax.grad(loss(apply)))(params, x)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(wanted)) > 0
    for ours in (jax.grad(loss(accelerated)), convjax.accelerate(jax.grad(loss(apply)))):
        assert count(ours, params, x)[0] == 0
        jax.tree.map(near, jax.jit(ours)(params, x), wanted)


@pytest.mark.slow
def test_flax_linen():
    nn = pytest.importorskip("flax.linen")

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(8, (3, 3), feature_group_count=4)(x))
            x = nn.remat(nn.Conv)(8, (3, 3), (2, 2), feature_group_count=2)(x)
            return nn.ConvTranspose(3, (2, 2), (2, 2))(nn.GroupNorm(2)(x))

    model = Model()
    check(model.apply, model.init(jax.random.key(0), X))


def test_flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.depthwise = nnx.Conv(4, 8, (3, 3), feature_group_count=4, rngs=rngs)
            self.grouped = nnx.Conv(8, 8, 3, strides=2, feature_group_count=2, rngs=rngs)
            self.norm = nnx.LayerNorm(8, rngs=rngs)
            self.transposed = nnx.ConvTranspose(8, 3, (2, 2), strides=2, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.depthwise(x))
            return self.transposed(self.norm(self.grouped(x)))

    model = Model(nnx.Rngs(0))
    graph, state = nnx.split(model)
    check(lambda state, x: nnx.merge(graph, state)(x), state)
    # the module itself, as an argument and closed over
    near(convjax.accelerate(lambda m, x: m(x))(model, X), model(X))
    near(convjax.accelerate(model)(X), model(X))
    ours = nnx.grad(lambda m: (convjax.accelerate(lambda m, x: m(x))(m, X) ** 2).sum())(model)
    wanted = nnx.grad(lambda m: (m(X) ** 2).sum())(model)
    jax.tree.map(near, nnx.to_pure_dict(ours), nnx.to_pure_dict(wanted))


def test_flax_nnx_batch_statistics():
    """State that a module changes is changed where nnx carries it: ``nnx.jit`` outside."""
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(4, 8, (3, 3), feature_group_count=2, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.conv(x))

    wanted, model = Model(nnx.Rngs(0)), Model(nnx.Rngs(0))

    def step(state, x):
        module = nnx.merge(graph, state)
        return module(x), nnx.state(module)

    graph, state = nnx.split(model)
    y, state = jax.jit(convjax.accelerate(step))(state, X)
    nnx.update(model, state)
    near(y, wanted(X))
    assert float(jnp.abs(model.norm.mean[...]).max()) > 0
    near(model.norm.mean[...], wanted.norm.mean[...])


@pytest.mark.slow
def test_equinox():
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 3)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(4, 8, 3, padding=1, groups=4, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2, key=keys[1]),
            eqx.nn.ConvTranspose2d(8, 3, 2, stride=2, key=keys[2]),
        ]
    )
    x = X.transpose(0, 3, 1, 2)

    def apply(model, x):  # the model is a pytree with functions and strings in it
        return jax.vmap(model)(x)

    params, static = eqx.partition(model, eqx.is_array)
    check(lambda params, x: apply(eqx.combine(params, static), x), params, x)
    near(convjax.accelerate(apply)(model, x), apply(model, x))
    near(jax.vmap(convjax.accelerate(model))(x), apply(model, x))
    near(eqx.filter_jit(convjax.accelerate(apply))(model, x), apply(model, x))
    gradient = eqx.filter_grad(lambda m, x: (convjax.accelerate(apply)(m, x) ** 2).sum())(model, x)
    wanted = eqx.filter_grad(lambda m, x: (apply(m, x) ** 2).sum())(model, x)
    jax.tree.map(near, eqx.filter(gradient, eqx.is_array), eqx.filter(wanted, eqx.is_array))
    assert isinstance(convjax.accelerate(lambda m: m)(model), eqx.nn.Sequential)


@pytest.mark.slow
def test_haiku():
    hk = pytest.importorskip("haiku")

    def forward(x):
        x = jax.nn.relu(hk.DepthwiseConv2D(2, (3, 3))(x))
        x = hk.remat(hk.Conv2D(8, 3, stride=2, feature_group_count=2))(x)
        return hk.Conv2DTranspose(3, 2, stride=2)(x)

    model = hk.without_apply_rng(hk.transform(forward))
    check(model.apply, model.init(jax.random.key(0), X))


KERAS = """
import keras
from test_accelerate_libraries import X, check
from keras import layers

keras.utils.set_random_seed(0)
model = keras.Sequential([
    layers.Input(X.shape[1:]),
    layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu"),
    layers.Conv2D(8, 3, strides=2, groups=2, padding="same"),
    layers.LayerNormalization(),
    layers.Conv2DTranspose(3, 2, strides=2, padding="same"),
])
rest = [variable.value for variable in model.non_trainable_variables]
check(lambda params, x: model.stateless_call(params, rest, x)[0],
      [variable.value for variable in model.trainable_variables])
print("checked")
"""


@pytest.mark.slow
def test_keras():
    """In a process of its own, since Keras chooses its backend when imported."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    root = Path(__file__).parents[2]
    path = os.pathsep.join(map(str, (root, root / "tests/support", Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", KERAS],
        env={**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("checked\n")
