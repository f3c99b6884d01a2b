"""A Flax user's path, as the guide tells it: swap, train, save, load what Flax saved."""

import numpy as np
import pytest

SCRIPT = """
import tempfile
from pathlib import Path

import jax.numpy as jnp
import optax
import orbax.checkpoint as orbax
from flax import nnx

from convjax import nn


class Net(nnx.Module):
    def __init__(self, conv, rngs):
        self.down = conv.Conv(3, 16, (3, 3), strides=2, rngs=rngs)
        self.up = conv.ConvTranspose(16, 3, (3, 3), strides=2, rngs=rngs)

    def __call__(self, x):
        return self.up(nnx.relu(self.down(x)))


@nnx.jit
def train_step(model, optimizer, x):
    loss, grads = nnx.value_and_grad(lambda model: ((model(x) - x) ** 2).mean())(model)
    optimizer.update(model, grads)
    return loss


theirs = Net(nnx, nnx.Rngs(0))
model = Net(nn, nnx.Rngs(0))  # the swap: the same parameters, names and results
x = jnp.linspace(0, 1, 8 * 16 * 16 * 3).reshape(8, 16, 16, 3)
assert jnp.allclose(model(x), theirs(x), atol=1e-5)

optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
losses = [float(train_step(model, optimizer, x)) for _ in range(5)]
assert losses[-1] < losses[0]

folder = Path(tempfile.mkdtemp()) / "checkpoint"
with orbax.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder, nnx.state(model))
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(folder, nnx.state(theirs))
nnx.update(theirs, restored)  # and back into Flax's
assert jnp.allclose(model(x), theirs(x), atol=1e-5)
"""


def test_path():
    pytest.importorskip("orbax.checkpoint")
    namespace: dict = {}
    exec(compile(SCRIPT, "a Flax user's path", "exec"), namespace)
    assert np.isfinite(namespace["losses"]).all()
