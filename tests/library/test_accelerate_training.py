"""`accelerate` on training steps of each library: the parameters, statistics and streams of plain.

NNX, whose modules are changed in place, has tests of its own: ``test_accelerate_changes.py``.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from accelerated import count
from cases import near

import convjax

X = jnp.asarray(np.random.default_rng(1).normal(size=(4, 6, 6, 4)), jnp.float32)
Y = jnp.asarray(np.random.default_rng(2).normal(size=(4, 3)), jnp.float32)
OPTIMIZER = optax.sgd(0.1, momentum=0.9)


def assert_trains_alike(step, state, jit=jax.jit, steps=3):
    """``step(state, x, y) -> loss, state`` in each spelling: losses and states of plain ``jit``."""

    def trained(wrapped):
        losses, held = [], state
        for _ in range(steps):
            loss, held = wrapped(held, X, Y)
            losses.append(loss)
        return losses, [leaf for leaf in jax.tree.leaves(held) if hasattr(leaf, "shape")]

    wanted = trained(jit(step))
    assert len({float(loss) for loss in wanted[0]}) == steps
    accelerate = convjax.accelerate
    for wrapped in (jit(accelerate(step)), accelerate(jit(step)), accelerate(step)):
        jax.tree.map(near, trained(wrapped), wanted)
        theirs, ours = count(wrapped, state, X, Y)
        assert theirs == 0 and ours > 0


@pytest.mark.slow
def test_linen():
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.Conv(8, (3, 3), feature_group_count=2, use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(not train)(x))
            return nn.Dense(3)(nn.Dropout(0.3)(x, deterministic=not train).mean((1, 2)))

    model = Net()
    variables = dict(model.init(jax.random.key(0), X, False))
    params = variables.pop("params")

    def step(state, x, y):
        params, statistics, optimizer, key = state
        key, dropout = jax.random.split(key)

        def loss_of(params):
            found, changed = model.apply(
                {"params": params, **statistics}, x, True,
                rngs={"dropout": dropout}, mutable=["batch_stats"],
            )  # fmt: skip
            return ((found - y) ** 2).mean(), changed

        (loss, statistics), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, optimizer = OPTIMIZER.update(grads, optimizer, params)
        params = optax.apply_updates(params, updates)
        return loss, (params, statistics, optimizer, jax.random.key_data(key))

    def with_keys(state, x, y):
        return step((*state[:3], jax.random.wrap_key_data(state[3])), x, y)

    key = jax.random.key_data(jax.random.key(1))
    assert_trains_alike(with_keys, (params, variables, OPTIMIZER.init(params), key))


@pytest.mark.slow
def test_haiku():
    hk = pytest.importorskip("haiku")

    @hk.transform_with_state
    def model(x, train):
        x = hk.Conv2D(8, 3, feature_group_count=2, with_bias=False)(x)
        x = jax.nn.relu(hk.BatchNorm(True, True, 0.9)(x, train))
        x = hk.dropout(hk.next_rng_key(), 0.3, x) if train else x
        return hk.Linear(3)(x.mean((1, 2)))

    params, statistics = model.init(jax.random.key(0), X, True)

    def step(state, x, y):
        params, statistics, optimizer, count = state
        key = jax.random.fold_in(jax.random.key(1), count)

        def loss_of(params):
            found, changed = model.apply(params, statistics, key, x, True)
            return ((found - y) ** 2).mean(), changed

        (loss, statistics), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, optimizer = OPTIMIZER.update(grads, optimizer, params)
        return loss, (optax.apply_updates(params, updates), statistics, optimizer, count + 1)

    assert_trains_alike(step, (params, statistics, OPTIMIZER.init(params), jnp.int32(0)))


@pytest.mark.slow
def test_equinox():
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        norm: eqx.nn.BatchNorm
        dropout: eqx.nn.Dropout
        head: eqx.nn.Linear

        def __init__(self, key):
            a, b = jax.random.split(key)
            self.conv = eqx.nn.Conv2d(4, 8, 3, padding=1, groups=2, use_bias=False, key=a)
            self.norm = eqx.nn.BatchNorm(8, "batch", mode="batch")
            self.dropout = eqx.nn.Dropout(0.3)
            self.head = eqx.nn.Linear(8, 3, key=b)

        def __call__(self, x, state, key):
            x, state = self.norm(self.conv(x.transpose(2, 0, 1)), state)
            return self.head(self.dropout(jax.nn.relu(x), key=key).mean((1, 2))), state

    model, statistics = eqx.nn.make_with_state(Net)(jax.random.key(0))

    def step(state, x, y):
        model, statistics, optimizer, count = state
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), count), len(x))

        def loss_of(model):
            mapped = jax.vmap(model, axis_name="batch", in_axes=(0, None, 0), out_axes=(0, None))
            found, changed = mapped(x, statistics, keys)
            return ((found - y) ** 2).mean(), changed

        (loss, statistics), grads = eqx.filter_value_and_grad(loss_of, has_aux=True)(model)
        updates, optimizer = OPTIMIZER.update(grads, optimizer)
        return loss, (eqx.apply_updates(model, updates), statistics, optimizer, count + 1)

    optimizer = OPTIMIZER.init(eqx.filter(model, eqx.is_inexact_array))
    assert_trains_alike(step, (model, statistics, optimizer, jnp.int32(0)), eqx.filter_jit)


KERAS = """
import jax, keras, numpy as np
import pytest
import convjax
from cases import near
from convjax._programs import rebind as rebinding
from keras import layers
from test_accelerate_training import X, Y, assert_trains_alike

rebound = []
rebind = rebinding.rebind
rebinding.rebind = lambda *args, **params: rebound.append(1) or rebind(*args, **params)


def make():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        layers.Input(X.shape[1:]),
        layers.Conv2D(8, 3, groups=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.Dropout(0.3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3),
    ])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return model


def trained(change):
    rebound.clear()
    rebinding._traced.cache_clear()
    model = make()
    change(model)
    history = model.fit(X, Y, batch_size=2, epochs=2, verbose=0, shuffle=False).history["loss"]
    held = [np.asarray(v) for v in (*model.variables, *model.optimizer.variables)]
    return history, held, len(rebound)


def train_step(model):
    model.train_step = convjax.accelerate(model.train_step)


def train_function(model):
    model.make_train_function()
    model.train_function = convjax.accelerate(model.train_function)


plain, held, none = trained(lambda model: None)
assert none == 0
for change in (train_step, train_function):
    found, ours, some = trained(change)
    near(np.array(found), np.array(plain))
    assert len(held) == len(ours) and some > 0
    for a, b in zip(ours, held):
        near(a, b)

# a step written by hand, as Keras' guide to JAX has it
model = make()
model.optimizer.build(model.trainable_variables)


def step(state, x, y):
    trainable, rest, optimizer = state

    def loss_of(trainable):
        found, changed = model.stateless_call(trainable, rest, x, training=True)
        return ((found - y) ** 2).mean(), changed

    (loss, rest), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable)
    trainable, optimizer = model.optimizer.stateless_apply(optimizer, grads, trainable)
    return loss, (trainable, rest, optimizer)


values = [[v.value for v in group] for group in (
    model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)]
assert_trains_alike(step, tuple(values))

# called with state: statistics and the seed change as without `accelerate`
for call in (lambda m: m, lambda m: lambda x, **options: m(x, **options)):
    ours, wanted = make(), make()
    for _ in range(2):
        near(convjax.accelerate(call(ours))(X, training=True), wanted(X, training=True))
    for a, b in zip(ours.variables, wanted.variables, strict=True):
        near(np.asarray(a), np.asarray(b))
    near(ours.predict(X, verbose=0), wanted.predict(X, verbose=0))

# a loop of Keras is refused
for name, step in [("fit", "train"), ("evaluate", "test"), ("predict", "predict")]:
    words = rf"`fn` \\(='model.{name}'\\) must be.* `model.{step}_step = "
    with pytest.raises(TypeError, match=words):
        convjax.accelerate(getattr(model, name))(X)
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
