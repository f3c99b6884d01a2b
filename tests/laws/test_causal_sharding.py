"""Causal convolutions of sequences sharded in time: exact, by one exchange of neighbours."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import equal, mesh_of, needs_devices
from test_collectives import counts, quickly

import convjax

pytestmark = needs_devices

N, T, C = 2, 64, 8
X = oracle.integers(0, (N, T, C))
KINDS = {
    "depthwise": (oracle.integers(1, (4, 1, C)), {"feature_group_count": C}),
    "depthwise, dilated": (
        oracle.integers(1, (3, 1, 2 * C)),
        {"feature_group_count": C, "kernel_dilation": 4},
    ),
    "dense": (oracle.integers(1, (5, C, 4)), {}),
    "grouped, edge": (
        oracle.integers(1, (3, 4, 6)),
        {"feature_group_count": 2, "padding_mode": "edge"},
    ),
    "strided": (oracle.integers(1, (7, C, 4)), {"strides": 2, "output_at": "last"}),
    "of one tap": (oracle.integers(1, (1, C, 4)), {}),
}
SEQUENCE = P(None, "t")


def shards(function, *specs, out=SEQUENCE):
    mesh = mesh_of((8,), ("t",))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out))


@pytest.mark.parametrize("kind", KINDS)
def test_shards_equal_the_whole(kind):
    kernel, options = KINDS[kind]
    call = partial(convjax.causal_conv, **options)
    sharded = shards(partial(call, mesh_axis="t"), SEQUENCE, P())
    wanted, pull = jax.vjp(jax.jit(call), X, kernel)
    weights = oracle.integers(5, wanted.shape)
    y, pull_sharded = jax.vjp(sharded, X, kernel)
    equal(y, wanted)
    equal(pull_sharded(weights), pull(weights))

    held = 0 if kind == "of one tap" else 1
    forward = counts(quickly(sharded.lower(X, kernel)).as_text())
    assert forward == ({"collective-permute": 1} if held else {})

    def backward(x, kernel, weights):
        return jax.vjp(sharded, x, kernel)[1](weights)[0]

    back = counts(quickly(jax.jit(backward).lower(X, kernel, weights)).as_text())
    assert back.get("collective-permute", 0) == held and not back.keys() - {"collective-permute"}


@pytest.mark.parametrize("kind", KINDS)
def test_states(kind):
    """Every shard gives the state of the whole sequence, which goes on from a state."""
    kernel, options = KINDS[kind]
    call = partial(convjax.causal_conv, return_state=True, **options)
    _, state = call(X, kernel)
    wanted = call(-X, kernel, state=state)
    sharded = shards(
        lambda x, kernel, state: call(x, kernel, state=state, mesh_axis="t"),
        SEQUENCE,
        P(),
        P(),
        out=(SEQUENCE, P()),
    )
    equal(sharded(-X, kernel, state), wanted)


@pytest.mark.parametrize("kind", ["depthwise", "depthwise, dilated", "dense", "of one tap"])
def test_packs(kind):
    """Sequences go on over shards' edges, or end within."""
    kernel, options = KINDS[kind]
    call = partial(convjax.causal_conv, return_state=True, **options)
    ids = np.stack([
        np.repeat([3, 1, 3, 0, 2], [5, 3, 19, 21, 16]), np.repeat([0, 1, 2], [33, 30, 1])
    ])  # fmt: skip
    _, state = call(X, kernel)
    specs = (SEQUENCE, P(), SEQUENCE, P())
    sharded = shards(
        lambda x, kernel, ids, state: call(x, kernel, segment_ids=ids, state=state, mesh_axis="t"),
        *specs,
        out=(SEQUENCE, P()),
    )
    whole = jax.jit(lambda x, kernel, state: call(x, kernel, segment_ids=ids, state=state))
    (wanted, end), pull = jax.vjp(whole, X, kernel, state)
    got, pull_sharded = jax.vjp(lambda x, k, s: sharded(x, k, ids, s), X, kernel, state)
    equal(got, (wanted, end))
    weights = oracle.integers(5, wanted.shape), oracle.integers(6, end.shape)
    equal(pull_sharded(weights), pull(weights))


@pytest.mark.parametrize("kind", ["depthwise", "dense"])
@pytest.mark.parametrize("mode", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_without_shard_map(kind, mode):
    """Under automatic and explicit mesh axes XLA exchanges what is beyond the edges: no gathers."""
    kernel, options = KINDS[kind]
    mesh = mesh_of((8,), ("t",), mode)
    function = jax.jit(partial(convjax.causal_conv, **options))
    wanted = function(X, kernel)
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, SEQUENCE))
        k = jax.device_put(kernel, NamedSharding(mesh, P()))
        y = function(x, k)
        text = quickly(function.lower(x, k)).as_text()
    equal(y, wanted)
    assert y.sharding.spec[1] == "t"
    assert not counts(text).keys() - {"collective-permute"}


def test_batch_and_sequence():
    """Over two mesh axes, the batch's by the specs and the sequence's by the exchange."""
    kernel, options = KINDS["depthwise"]
    mesh = mesh_of((2, 4), ("n", "t"))
    spec = P("n", "t")
    sharded = jax.jit(
        jax.shard_map(
            partial(convjax.causal_conv, mesh_axis="t", **options),
            mesh=mesh,
            in_specs=(spec, P()),
            out_specs=spec,
        )
    )
    equal(sharded(X, kernel), convjax.causal_conv(X, kernel, **options))


@pytest.mark.parametrize(
    "extra, message",
    [
        ({"mask": np.ones((N, T), bool)}, r"`mask` .* together with `mesh_axis`"),
        (
            {"segment_ids": np.zeros((N, T), np.int32), "padding_mode": "edge"},
            r'`padding_mode` \(=\'edge\'\) must be "constant" for `segment_ids`',
        ),
        ({"kernel_dilation": 5}, r"leaves 8 steps on a shard, fewer than the 15 inputs"),
    ],
)
def test_refusals(extra, message):
    kernel, options = KINDS["depthwise"]
    arrays = {name: value for name, value in extra.items() if hasattr(value, "shape")}
    others = {name: value for name, value in extra.items() if name not in arrays}

    def call(x, *values):
        given = dict(zip(arrays, values, strict=True))
        return convjax.causal_conv(x, kernel, mesh_axis="t", **options, **others, **given)

    with pytest.raises(ValueError, match=message):
        shards(call, *[SEQUENCE] * (1 + len(arrays)))(X, *map(jnp.asarray, arrays.values()))
