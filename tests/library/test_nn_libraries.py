"""The modules inside Flax, optax and orbax: transforms, state, precision, sharding, checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as orbax
import pytest
from flax import linen as flax_linen
from flax import nnx
from layers import CASES, IDS, pure

from convjax import linen, nn

RANDOM = np.random.default_rng(0)


def images(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


class Net(nnx.Module):
    """Some of the modules in a row; `module` is where `Conv` and `ConvTranspose` come from."""

    def __init__(self, module, rngs):
        self.first = module.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.last = module.ConvTranspose(8, 3, (3, 3), strides=2, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.norm(self.first(x))))


def loss_of(model, x):
    return ((model(x) - x) ** 2).mean()


@nnx.jit
def train_step(model, optimizer, x):
    loss, grads = nnx.value_and_grad(loss_of)(model, x)
    optimizer.update(model, grads)
    return loss


def train(module, x, steps=4):
    model = nnx.jit(lambda: Net(module, nnx.Rngs(0)))()
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    return model, [float(train_step(model, optimizer, x)) for _ in range(steps)]


def test_training_is_flaxs():
    """The same losses as with Flax's modules, from the same rngs; they fall."""
    x = images(4, 8, 8, 3)
    _, theirs = train(nnx, x)
    _, ours = train(nn, x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert ours[-1] < ours[0]


def test_checkpoint_of_flaxs(tmp_path):
    """What orbax saved of a model made of Flax's modules loads into one made of ours, and back."""
    x = images(2, 8, 8, 3)
    theirs = Net(nnx, nnx.Rngs(1))
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "flax", nnx.to_pure_dict(nnx.state(theirs)))
        checkpointer.wait_until_finished()
        ours = Net(nn, nnx.Rngs(2))
        abstract = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: Net(nn, nnx.Rngs(0)))))
        restored = checkpointer.restore(tmp_path / "flax", abstract)
    state = nnx.state(ours)
    nnx.replace_by_pure_dict(state, restored)
    nnx.update(ours, state)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_split_and_merge(case):
    """Static parts are hashable and equal for equal modules; merging gives the same function."""
    layer, again = case.nnx(), case.nnx(seed=5)
    graphdef, state = nnx.split(layer)
    assert graphdef == nnx.split(again)[0]
    assert hash(graphdef) == hash(nnx.split(again)[0])
    assert graphdef != nnx.split(case.nnx(strides=2))[0]
    merged = nnx.merge(graphdef, state)
    jax.tree.map(np.testing.assert_array_equal, pure(merged), pure(layer))
    shape = jax.eval_shape(merged, case.inputs()).shape
    assert shape == jax.eval_shape(layer, case.inputs()).shape


@pytest.mark.parametrize("options", [{"padding": [1, 2]}, {"padding": [[1, 2], [0, 1]]}], ids=str)
def test_lists_are_options(options):
    layer = nn.GroupedConv(6, 9, [3, 2], 3, strides=[1, 2], **options, rngs=nnx.Rngs(0))
    assert isinstance(hash(nnx.split(layer)[0]), int)
    assert jax.eval_shape(nnx.jit(lambda m, x: m(x)), layer, jnp.ones((2, 8, 9, 6))).shape[-1] == 9


def test_ensemble_by_vmap():
    """nnx.vmap makes and applies several layers at once."""

    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=(0, None), out_axes=(0, 0))
    def ensemble(rngs, x):
        layer = nn.DepthwiseSeparableConv(4, 5, (3, 3), rngs=rngs)
        return layer, layer(x)

    x = images(2, 6, 6, 4)
    layers, ys = ensemble(nnx.Rngs(0), x)
    assert layers.pointwise_kernel.shape == (3, 1, 1, 4, 5)
    assert ys.shape == (3, 2, 6, 6, 5)
    again = nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(layers, x)
    np.testing.assert_allclose(again, ys, rtol=1e-5, atol=1e-5)
    assert np.std(ys[0] - ys[1]) > 0.1


def test_depth_by_scan_and_remat():
    """A stack of layers under nnx.scan, rematerialised, is the loop over them; gradients too."""

    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0)
    def stack(rngs):
        return nn.ShuffledGroupedConv(6, 6, (3, 3), 3, rngs=rngs)

    layers, x = stack(nnx.Rngs(0)), images(2, 5, 5, 6)

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    @nnx.remat
    def forward(x, layer):
        return jnp.tanh(layer(x))

    def looped(layers, x):
        graphdef, state = nnx.split(layers)
        for i in range(3):
            x = jnp.tanh(nnx.merge(graphdef, jax.tree.map(lambda a, i=i: a[i], state))(x))
        return x

    scanned = nnx.jit(nnx.value_and_grad(lambda layers, x: (forward(x, layers) ** 2).sum()))
    plain = nnx.jit(nnx.value_and_grad(lambda layers, x: (looped(layers, x) ** 2).sum()))
    (got, grads), (expected, others) = scanned(layers, x), plain(layers, x)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), grads, others)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_mixed_precision(case):
    """Computed in `dtype`, stored in `param_dtype`; gradients have the parameters' dtype."""
    layer = case.nnx(dtype=jnp.bfloat16)
    assert {a.dtype for a in jax.tree.leaves(pure(layer))} == {jnp.dtype("float32")}
    assert jax.eval_shape(layer, case.inputs()).dtype == jnp.bfloat16
    grads = jax.eval_shape(
        nnx.grad(lambda m, x: m(x).astype(jnp.float32).sum()), layer, case.inputs()
    )
    assert {a.dtype for a in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    half = case.nnx(param_dtype=jnp.float16)
    assert {a.dtype for a in jax.tree.leaves(pure(half))} == {jnp.dtype("float16")}
    assert jax.eval_shape(half, case.inputs().astype(jnp.float16)).dtype == jnp.float16

    other = case.linen(dtype=jnp.bfloat16)
    y, variables = jax.eval_shape(
        lambda x: other.init_with_output(jax.random.key(0), x), case.inputs()
    )
    assert y.dtype == jnp.bfloat16
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_preferred_element_type():
    for case in CASES:
        layer = case.nnx(dtype=jnp.bfloat16, preferred_element_type=jnp.float32)
        assert jax.eval_shape(layer, case.inputs()).dtype == jnp.float32


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_forced_algorithm_reaches_the_operation(case):
    """ "direct" is lax's own primitive, and ours is not in the jaxpr."""
    layer = case.nnx(algorithm="direct")
    text = str(jax.make_jaxpr(layer)(case.inputs()))
    assert "conv_general_dilated" in text
    assert "conv_general_dilated" not in str(jax.make_jaxpr(case.nnx())(case.inputs()))


# ---- sharding ----------------------------------------------------------------------------------


def mesh():
    return jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))


def test_parameters_are_sharded_by_their_metadata():
    out = {"out_sharding": (None, None, None, "model")}
    with jax.set_mesh(mesh()):
        layer = nn.GroupedConv(
            6,
            12,
            (3, 3),
            3,
            kernel_metadata=out,
            bias_metadata={"out_sharding": ("model",)},
            rngs=nnx.Rngs(0),
        )
        specs = nnx.to_pure_dict(nnx.get_partition_spec(nnx.state(layer)))
        assert specs == {"kernel": jax.P(None, None, None, "model"), "bias": jax.P("model")}
        assert layer.kernel[...].sharding.spec == jax.P(None, None, None, "model")
        x = images(2, 6, 6, 6)
        got = nnx.jit(lambda layer, x: layer(x))(layer, x)
    plain = nn.GroupedConv(6, 12, (3, 3), 3, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(got, plain(x), rtol=1e-5, atol=1e-5)


def test_each_parameter_its_own_metadata():
    kernels = {
        "depthwise_kernel": {"out_sharding": (None, None, "model"), "note": "space"},
        "pointwise_kernel": {"out_sharding": (None, "model", None)},
    }
    with jax.set_mesh(mesh()):
        layer = nn.DepthwiseSeparableConv(6, 12, (3,), kernel_metadata=kernels, rngs=nnx.Rngs(0))
    assert layer.depthwise_kernel.note == "space"
    assert layer.depthwise_kernel[...].sharding.spec == jax.P(None, None, "model")
    assert layer.pointwise_kernel[...].sharding.spec == jax.P(None, "model", None)


def test_linen_partitioning():
    init = flax_linen.with_partitioning(flax_linen.initializers.ones, (None, None, None, "model"))
    layer = linen.ConvTranspose(8, (3, 3), kernel_init=init)
    variables = layer.init(jax.random.key(0), jnp.ones((1, 4, 4, 3)))
    specs = flax_linen.get_partition_spec(variables)["params"]
    assert specs == {"kernel": jax.P(None, None, None, "model"), "bias": jax.P()}
    assert layer.apply(variables, jnp.ones((1, 4, 4, 3))).shape == (1, 4, 4, 8)


def test_explicit_axes():
    """`out_sharding` of the call, under a mesh with explicit axes."""
    explicit = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    layer = nn.GroupedConv(6, 12, (3, 3), 3, rngs=nnx.Rngs(0))
    x = images(4, 6, 6, 6)
    expected = layer(x)
    spec = jax.P("data", None, None, None)
    with jax.set_mesh(explicit):
        sharded = jax.device_put(x, spec)
        got = jax.jit(lambda x: layer(x, out_sharding=spec))(sharded)
        assert jax.typeof(got).sharding.spec == spec
    np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-5, atol=1e-5)


# ---- linen -------------------------------------------------------------------------------------


def test_linen_trains():
    class LinenNet(flax_linen.Module):
        @flax_linen.compact
        def __call__(self, x):
            x = flax_linen.relu(linen.PointwiseConv(8, strides=2)(x))
            return linen.SubpixelConv(3, (1, 1), 2)(x)

    model, x = LinenNet(), images(4, 8, 8, 3)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    names = {"PointwiseConv_0", "SubpixelConv_0"}
    assert variables["params"].keys() == names
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(variables, state):
        loss, grads = jax.value_and_grad(lambda v: ((model.apply(v, x) - x) ** 2).mean())(variables)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(variables, updates), state, loss

    losses, state = [], optimizer.init(variables)
    for _ in range(4):
        variables, state, loss = step(variables, state)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
