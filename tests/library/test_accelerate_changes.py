"""`accelerate` on functions that change their arguments: the caller's objects get the changes."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from accelerated import K, X, conv, count
from cases import equal, near
from flax import nnx

import convjax

Y = jnp.asarray(np.random.default_rng(2).normal(size=(2, 3)), jnp.float32)


class Net(nnx.Module):
    """Convolutions with all that NNX changes in place: statistics, streams, counters."""

    def __init__(self, rngs, features=8):
        self.conv = nnx.Conv(4, features, (3, 3), feature_group_count=2, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.head = nnx.Linear(features, 3, rngs=rngs)
        self.calls = nnx.Variable(jnp.int32(0))

    def __call__(self, x):
        self.calls[...] += 1
        x = self.dropout(nnx.relu(self.norm(self.conv(x))))
        return self.head(x.mean((1, 2)))


def loss_of(model, x, y):
    return ((model(x) - y) ** 2).mean()


def optimizer_of(model):
    return nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)


def step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(loss_of)(model, x, y)
    optimizer.update(model, grads)
    return loss


def sowing(model, optimizer, x, y):
    """Variables that are new, and static attributes that change."""
    loss = step(model, optimizer, x, y)
    model.trained = True
    model.head.sow(nnx.Intermediate, "losses", loss)
    return loss


def returning(model, optimizer, x, y):
    return model, step(model, optimizer, x, y), {"optimizer": optimizer}


def nested(state, x, y, *, second):
    """Two models in containers, one of which shares its head with the other."""
    first = step(state["nets"][0], state["optimizers"]["first"], x, y)
    return first, step(second[0], second[1][0], x, y)


def metrics_of(metrics, model, optimizer, rngs, x, y):
    noise = rngs.normal(x.shape)
    loss = step(model, optimizer, x + 0.1 * noise, y)
    metrics.update(loss=loss)
    return loss


def single(model, optimizer):
    return (model, optimizer, X, Y), {}


def twice(model, optimizer):
    other = Net(nnx.Rngs(1))
    other.head = model.head
    state = {"nets": [model, None], "optimizers": {"first": optimizer}}
    return (state, X, Y), {"second": (other, [optimizer_of(other)])}


def measured(model, optimizer):
    metrics = nnx.MultiMetric(loss=nnx.metrics.Average("loss"))
    return (metrics, model, optimizer, nnx.Rngs(5), X, Y), {}


STEPS = {
    "step": (step, single),
    "sowing": (sowing, single),
    "returning": (returning, single),
    "nested": (nested, twice),
    "metrics": (metrics_of, measured),
}
SPELLINGS = {
    "nnx.jit(accelerate)": lambda f: nnx.jit(convjax.accelerate(f)),
    "accelerate(nnx.jit)": lambda f: convjax.accelerate(nnx.jit(f)),
    "accelerate": convjax.accelerate,
}


def pure(tree):
    """The arrays that NNX finds in `tree`; keys as integers."""
    return jax.tree.map(
        lambda a: jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a,
        nnx.to_pure_dict(nnx.state(tree)),
    )


def trained(wrap, function, arguments, steps=3):
    """Results of `steps` calls, and all that the arguments then hold."""
    model = Net(nnx.Rngs(0))
    args, kwargs = arguments(model, optimizer_of(model))
    wrapped = wrap(function)
    results = [pure([wrapped(*args, **kwargs)]) for _ in range(steps)]
    return results, pure([args, kwargs]), nnx.graphdef(model), model


def assert_trains_alike(found, wanted):
    jax.tree.map(near, found[:2], wanted[:2])
    assert found[2] == wanted[2]


@functools.cache
def plain(name):
    return trained(nnx.jit, *STEPS[name])


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", STEPS)
def test_nnx_steps_train(name, spelling):
    found, wanted = trained(SPELLINGS[spelling], *STEPS[name]), plain(name)
    assert_trains_alike(found, wanted)
    model = found[3]
    assert int(model.calls[...]) == 3 and float(jnp.abs(model.norm.mean[...]).max()) > 0
    assert int(model.dropout.rngs.count[...]) == 3


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: nnx.jit(convjax.accelerate(f), donate_argnums=(0, 1)),
        lambda f: convjax.accelerate(nnx.jit(f, donate_argnums=(0, 1))),
        lambda f: convjax.accelerate(convjax.accelerate(nnx.jit(f))),
        lambda f: convjax.accelerate(nnx.jit(convjax.accelerate(nnx.jit(f)))),
        lambda f: lambda m, o, x, y: convjax.accelerate(functools.partial(f, m, y=y))(o, x=x),
        lambda f: lambda m, *a: nnx.cached_partial(nnx.jit(convjax.accelerate(f)), m)(*a),
    ],
    ids=["donated inside", "donated", "twice", "thrice", "partial", "cached"],
)
def test_other_spellings(wrap):
    assert_trains_alike(trained(wrap, step, single), plain("step"))


def test_objects_stay_themselves():
    model = Net(nnx.Rngs(0))
    optimizer = optimizer_of(model)
    kernel = model.conv.kernel
    for wrap in SPELLINGS.values():
        found, _, held = wrap(returning)(model, optimizer, X, Y)
        assert found is model and held["optimizer"] is optimizer and model.conv.kernel is kernel
    assert convjax.accelerate(lambda m: m.conv)(model) is model.conv


def test_tied_layers_stay_tied():
    def make():
        model = Net(nnx.Rngs(0))
        model.again = model.conv
        return model

    made = convjax.accelerate(make)()
    assert made.again is made.conv
    made = convjax.accelerate(step)(made, optimizer_of(made), X, Y) and made
    assert made.again is made.conv


def test_a_module_that_is_called():
    """The module itself, its method, and one that trains itself."""

    class Trainer(nnx.Module):
        def __init__(self):
            self.model = Net(nnx.Rngs(0))
            self.optimizer = optimizer_of(self.model)

        def step(self, x, y):
            return step(self.model, self.optimizer, x, y)

    wanted, ours = Trainer(), Trainer()
    for _ in range(2):
        near(convjax.accelerate(ours.step)(X, y=Y), wanted.step(X, Y))
    near(convjax.accelerate(ours.model)(X), wanted.model(X))
    near(convjax.accelerate(ours.model.__call__)(X), wanted.model(X))
    assert count(convjax.accelerate(lambda m, x: m(x)), ours.model, X) == (0, 1)
    jax.tree.map(near, *(pure(t) for t in (ours, wanted)))
    assert int(ours.model.calls[...]) == 4


def test_transforms_of_nnx_outside():
    """Gradients with statistics, models in a batch, and a loop of steps."""

    def gradients(wrap):
        model = Net(nnx.Rngs(0))
        grads = nnx.grad(wrap(loss_of))(model, X, Y)
        return pure(grads), pure(model)

    def ensemble(wrap):
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def create(rngs):
            return Net(rngs)

        models = create(nnx.Rngs(0))
        loss = nnx.vmap(wrap(loss_of), in_axes=(0, None, None))(models, X, Y)
        return loss, pure(models)

    def loop(wrap):
        model = Net(nnx.Rngs(0))
        optimizer = optimizer_of(model)

        def body(_, carry):
            wrap(step)(*carry, X, Y)
            return carry

        nnx.fori_loop(0, 3, body, (model, optimizer))
        return pure(model)

    for program in (gradients, ensemble, loop):
        jax.tree.map(near, program(convjax.accelerate), program(lambda f: f))


def test_transforms_of_nnx_inside():
    """A loop over batches with the model as its carry, checkpointed layers."""

    def loop(model, optimizer, x, y):
        def body(carry, x):
            loss = step(*carry, x, y)
            return carry, loss

        return nnx.scan(body)((model, optimizer), jnp.stack([x, -x]))[1]

    def remat(model, optimizer, x, y):
        loss, grads = nnx.value_and_grad(nnx.remat(loss_of))(model, x, y)
        optimizer.update(model, grads)
        return loss

    for function in (loop, remat):
        wanted = trained(nnx.jit, function, single)
        for wrap in SPELLINGS.values():
            assert_trains_alike(trained(wrap, function, single), wanted)


def test_models_of_an_outer_trace_can_be_read():
    """A model that `jax.jit` closes over, as an argument of the accelerated function."""
    model = nnx.Conv(4, 3, (3, 3), rngs=nnx.Rngs(0))
    apply = convjax.accelerate(lambda m, x: m(x))
    near(jax.jit(lambda x: apply(model, x))(X), model(X))
    near(jax.grad(lambda x: apply(model, x).sum())(X), jax.grad(lambda x: model(x).sum())(X))
    stateful = Net(nnx.Rngs(0))
    with pytest.raises(Exception, match="from a different trace level"):
        jax.jit(lambda x: apply(stateful, x))(X)


@pytest.mark.parametrize("wrap", [convjax.accelerate, lambda f: nnx.jit(convjax.accelerate(f))])
def test_modules_that_are_closed_over(wrap):
    model = Net(nnx.Rngs(0))
    with pytest.raises(Exception, match="from a different trace level") as caught:
        wrap(lambda x: model(x))(X)
    assert any("Make the module an argument of `fn`" in note for note in caught.value.__notes__)
    near(
        convjax.accelerate(lambda x: model.head(x))(Y @ jnp.ones((3, 8))),
        model.head(Y @ jnp.ones((3, 8))),
    )


# ---- lists, dictionaries, and other objects ----------------------------------------------------


def test_lists_and_dictionaries():
    def function(batch, cache, *, log):
        image = batch.pop("image")
        cache["layers"]["first"] = conv(image, cache["kernel"])
        cache["a new one"] = {"sum": cache["layers"]["first"].sum(), "name": "sum"}
        cache["moved"] = cache["layers"]
        log.append(cache["a new one"]["sum"])
        log[0] = None
        return cache["layers"]["first"] + batch["label"]

    def called(wrap):
        cache = collections.OrderedDict(kernel=K, layers={"first": None, "zeroth": 1})
        layers, log, batch = cache["layers"], [3.0], {"label": 2.0, "image": X}
        result = wrap(function)(batch, cache, log=log)
        assert (
            cache["layers"] is layers and cache["moved"] is layers and type(batch["label"]) is float
        )
        return result, batch, list(cache), dict(cache), log

    found, wanted = called(convjax.accelerate), called(lambda f: f)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    assert found[2] == wanted[2]
    jax.tree.map(lambda a, b: equal(a, b) if hasattr(a, "shape") else None, found, wanted)
    assert not [leaf for leaf in jax.tree.leaves(found) if isinstance(leaf, jax.core.Tracer)]


def test_containers_with_models_in_them():
    def function(state):
        loss = step(state["model"], state["optimizer"], X, Y)
        state["best"] = {"loss": loss, "model": state["model"]}
        state["models"].append(state["model"])
        return loss

    model = Net(nnx.Rngs(0))
    state = {"model": model, "optimizer": optimizer_of(model), "models": []}
    loss = convjax.accelerate(function)(state)
    assert state["model"] is model and state["best"]["model"] is model
    assert state["models"] == [model]
    near(state["best"]["loss"], loss)


def test_what_is_not_changed_is_not_touched():
    class Untouched(dict):
        def clear(self):
            raise AssertionError

    jax.tree_util.register_pytree_node(
        Untouched,
        lambda d: (tuple(d.values()), tuple(d)),
        lambda k, v: Untouched(zip(k, v, strict=True)),
    )
    params = Untouched(kernel=K, rest=[1.0, {"none": None}])
    equal(convjax.accelerate(lambda p, x: conv(x, p["kernel"]))(params, X), conv(X, K))


@jax.tree_util.register_pytree_node_class
class Foreign:
    """An object of another library that is changed in place."""

    def __init__(self, kernel):
        self.kernel = kernel

    def tree_flatten(self):
        return (self.kernel,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_other_objects_are_refused():
    def change(layers, x):
        layers[0].kernel = 2 * layers[0].kernel
        return conv(x, layers[0].kernel)

    for wrap in (convjax.accelerate, lambda f: jax.jit(convjax.accelerate(f))):
        with pytest.raises(
            ValueError, match="^accelerate: `fn` changes an argument of type Foreign"
        ):
            wrap(change)([Foreign(K)], X)
    equal(convjax.accelerate(lambda m, x: conv(x, m.kernel))(Foreign(K), X), conv(X, K))
