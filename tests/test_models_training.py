"""Every network learns: three steps on real data lower its loss, in float32 and in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from networks import SMALL, built, step

from convjax.models import NETWORKS, AutoEncoder
from convjax.models.autoencoder import UPSAMPLINGS

pytest.importorskip("skimage")
pytest.importorskip("sklearn")


def losses(model, small, rate, steps=3):
    """The loss before each step, and after the last."""
    optimizer = nnx.Optimizer(model, optax.adam(rate), wrt=nnx.Param)
    model.train()
    run, batch = step(small.loss), small.batch()
    return [float(run(model, optimizer, *batch)) for _ in range(steps + 1)]


def test_there_is_a_small_version_of_each():
    assert SMALL.keys() == NETWORKS.keys()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", SMALL)
def test_three_steps(name, dtype):
    small = SMALL[name]
    model = small.build(dtype=dtype)
    before = nnx.state(model, nnx.Param)
    found = losses(model, small, 3e-3 if name == "context" else 1e-2)
    assert np.isfinite(found).all() and found[-1] < found[0]
    model.eval()
    shape = jax.eval_shape(lambda m, x: m(x), model, jnp.asarray(small.batch()[0]))
    assert shape.dtype == dtype
    after = nnx.state(model, nnx.Param)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for leaf in jax.tree.leaves(after):
        assert leaf.dtype == jnp.float32 and bool(jnp.isfinite(leaf).all())


@pytest.mark.parametrize("upsampling", [u for u in UPSAMPLINGS if u != "nearest"])
def test_three_steps_of_every_up_sampling(upsampling):
    small = SMALL["autoencoder"]
    found = losses(built(AutoEncoder, features=(8,), upsampling=upsampling), small, 1e-2)
    assert found[-1] < found[0]


@pytest.mark.parametrize("name", SMALL)
def test_rematerialised(name):
    """``nnx.remat`` of the forward pass: the same gradient's shapes, and a program that has it."""
    small = SMALL[name]
    constructor = NETWORKS[name].constructor
    model = nnx.eval_shape(lambda: constructor(**small.options, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    x, target = small.batch()

    def gradient(state, x):
        module = nnx.merge(graph, state)
        module.train()

        def of(module):
            return small.loss(nnx.remat(lambda m, x: m(x))(module, x), target)

        return nnx.state(nnx.grad(of)(module))

    jaxpr, shapes = jax.make_jaxpr(gradient, return_shape=True)(state, jnp.asarray(x))
    assert "remat" in str(jaxpr) or "checkpoint" in str(jaxpr)
    expected = [leaf.shape for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    assert [leaf.shape for leaf in jax.tree.leaves(shapes)] == expected


@pytest.mark.parametrize("name", ["resnext50", "unet3d"])
def test_rematerialised_steps_are_the_same(name):
    small = SMALL[name]
    found = []
    for wrap in (lambda f: f, nnx.remat):
        model = small.build()
        optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        run = step(small.loss, wrap)
        found.append([float(run(model, optimizer, *small.batch())) for _ in range(2)])
    np.testing.assert_allclose(*found, rtol=1e-5)
