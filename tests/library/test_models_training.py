"""Every network learns: three steps on real data lower its loss, in float32 and in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from networks import SMALL, Small, losses, quick_step, rebuild, squares, update, volumes

from convjax.models import NETWORKS
from convjax.models.autoencoder import UPSAMPLINGS

pytest.importorskip("skimage")
pytest.importorskip("sklearn")

# Those that compile in a second or two are trained in bfloat16 too each time, the others with the
# slow tests; so is the one that takes longest.
LIGHT = ("context", "atrous_head", "autoencoder", "mobilenet_v1")
SLOW = [pytest.mark.slow]
CASES = [
    *(pytest.param(n, jnp.float32, marks=SLOW if n == "xception" else []) for n in SMALL),
    *(pytest.param(n, jnp.bfloat16, marks=[] if n in LIGHT else SLOW) for n in SMALL),
]


def test_there_is_a_small_version_of_each():
    assert SMALL.keys() == NETWORKS.keys()


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_three_steps(name, dtype):
    small = SMALL[name]
    model = small.build(dtype=dtype)
    before = nnx.state(model, nnx.Param)
    found = losses(small, model, quick_step(small))
    assert np.isfinite(found).all() and found[-1] < found[0]
    after = nnx.state(model, nnx.Param)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for leaf in jax.tree.leaves(after):  # parameters stay in float32
        assert leaf.dtype == jnp.float32 and bool(jnp.isfinite(leaf).all())
    model.eval()
    result = jax.eval_shape(lambda m, x: m(x), model, jnp.asarray(small.batch()[0]))
    assert result.dtype == dtype


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_three_steps_of_every_up_sampling(upsampling):
    options = {"features": (8,), "upsampling": upsampling}
    small = Small("autoencoder", options, rebuild, squares)
    found = losses(small, small.build(), nnx.jit(update(small)))
    assert found[-1] < found[0]


@pytest.mark.parametrize("name", ["context", "atrous_head"])
def test_steps_under_nnx_jit(name):
    """NNX's own jit, and the same in pure functions."""
    small = SMALL[name]
    steps = nnx.jit(update(small)), quick_step(small)
    found = [losses(small, small.build(), step, 2) for step in steps]
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_rematerialised_steps_are_the_same():
    """``nnx.remat`` of a forward pass with normalisation, whose statistics move on once.

    By gradient descent: Adam would make whole steps of the rounding that is the gradient of what
    the normalisation cancels.
    """
    options = {"in_features": 1, "features": 2, "levels": 0}
    small = Small("unet3d", options, volumes)
    found, statistics = [], []
    for wrap in (lambda f: f, nnx.remat):
        model = small.build()
        found.append(losses(small, model, nnx.jit(update(small, wrap)), 1, optax.sgd))
        statistics.append(jax.tree.leaves(nnx.state(model, nnx.BatchStat)))
    np.testing.assert_allclose(*found, rtol=1e-4)
    for plain, recomputed in zip(*statistics, strict=True):
        np.testing.assert_allclose(plain, recomputed, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_rematerialised(name):
    """The gradient's program recomputes, and the gradient has the parameters' shapes."""
    small = SMALL[name]
    constructor = NETWORKS[name].constructor
    model = nnx.eval_shape(lambda: constructor(**small.options, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    x, target = small.batch()

    def gradient(state, x):
        module = nnx.merge(graph, state)
        module.train()

        def loss(module):
            return small.loss(nnx.remat(lambda m, x: m(x))(module, x), target)

        return nnx.state(nnx.grad(loss)(module))

    jaxpr, shapes = jax.make_jaxpr(gradient, return_shape=True)(state, jnp.asarray(x))
    assert any(eqn.primitive.name in ("remat2", "checkpoint") for eqn in jaxpr.eqns)
    expected = [leaf.shape for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    assert [leaf.shape for leaf in jax.tree.leaves(shapes)] == expected
