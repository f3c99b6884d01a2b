"""`causal_conv` by the kernel for TPU, interpreted: state, segments, bias, activation in one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax.sharding import PartitionSpec as P
from programs import lowered
from sharded import mesh_of, needs_devices

import convjax
from convjax._lowerings.pallas_kernels import tiles

C = 6


def operands(steps=75, taps=4, dilation=1, dtype=jnp.float32):
    x = jnp.asarray(oracle.integers(0, (2, steps, C)), dtype)
    kernel = jnp.asarray(oracle.integers(1, (taps, 1, C)), dtype)
    state = jnp.asarray(oracle.integers(2, (2, (taps - 1) * dilation, C)), dtype)
    bias = jnp.asarray(oracle.integers(3, (C,)), dtype)
    ids = jnp.asarray(np.sort(abs(oracle.integers(4, (2, steps))), 1), jnp.int32)
    return x, kernel, state, bias, ids


def called(algorithm, x, kernel, **options):
    options = {"feature_group_count": C, "return_state": True} | options
    return convjax.causal_conv(x, kernel, algorithm=algorithm, **options)


def equal(found, wanted):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("budget", [12 << 20, 140_000])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize(("taps", "dilation"), [(4, 1), (8, 2), (1, 1)])
def test_equals_the_separate_operations(taps, dilation, stateful, packed, budget, monkeypatch):
    monkeypatch.setattr(tiles, "VMEM", budget)
    x, kernel, state, bias, ids = operands(taps=taps, dilation=dilation)
    options = {"kernel_dilation": dilation, "activation": "relu", "bias": bias}
    options |= {"state": state} if stateful else {}
    options |= {"segment_ids": ids} if packed else {}
    equal(called("pallas", x, kernel, **options), called(None, x, kernel, **options))


def test_a_run_may_come_back():
    """Equal ids that are not neighbours are two sequences."""
    x, kernel, state, bias, _ = operands(8)
    ids = jnp.asarray([[0, 0, 1, 0, 0, 1, 1, 0]] * 2)
    options = {"segment_ids": ids, "state": state, "bias": bias}
    equal(called("pallas", x, kernel, **options), called(None, x, kernel, **options))


def test_gradients():
    """Of all operands, through the state that is returned, too."""
    x, kernel, state, bias, ids = operands(20)
    for packed in (None, ids):

        def loss(x, kernel, state, bias, algorithm, packed=packed):
            y, new = called(
                algorithm, x, kernel, state=state, bias=bias, activation="relu", segment_ids=packed
            )
            return (y * jnp.round(3 * jnp.sin(jnp.arange(y.size)).reshape(y.shape))).sum() + (
                new * 2
            ).sum()

        gradients = jax.jit(jax.grad(loss, (0, 1, 2, 3)), static_argnums=4)
        equal(gradients(x, kernel, state, bias, "pallas"), gradients(x, kernel, state, bias, None))


def test_silu_and_functions():
    x, kernel, state, bias, _ = operands()
    for activation in ("silu", "gelu", "tanh", jnp.cos):
        options = {"bias": bias, "activation": activation}
        found, wanted = (called(a, x, kernel, **options)[0] for a in ("pallas", None))
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_bfloat16_rounds_once():
    x, kernel, state, bias, _ = operands(dtype=jnp.bfloat16)
    options = {"state": state, "bias": bias}
    y, new = called("pallas", x, kernel, **options)
    wide = [a.astype(jnp.float32) for a in (x, kernel, state, bias)]
    wanted, _ = called(None, *wide[:2], state=wide[2], bias=wide[3])
    assert y.dtype == new.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, wanted.astype(jnp.bfloat16))


def test_nan_stays_in_its_sequence():
    x, kernel, _, bias, _ = operands(12)
    ids = jnp.asarray([[0] * 5 + [1] * 7] * 2)
    x = x.at[0, 4, 2].set(jnp.nan)
    y = called("pallas", x, kernel, segment_ids=ids, bias=bias, return_state=False)
    assert np.argwhere(np.isnan(y)).tolist() == [[0, 4, 2]]


def test_transforms():
    x, kernel, state, bias, _ = operands(20)

    def run(x, state, algorithm):
        return called(algorithm, x, kernel, state=state, bias=bias, activation="relu")

    stacked = jnp.stack([x, x - 1]), jnp.stack([state, 2 * state])
    found, wanted = (jax.vmap(partial(run, algorithm=a))(*stacked) for a in ("pallas", None))
    equal(found, wanted)
    found, wanted = (
        jax.jvp(partial(run, algorithm=a), (x, state), (x + 1, state)) for a in ("pallas", None)
    )
    equal(found, wanted)


def test_other_layouts_and_errors():
    x, kernel, _, bias, _ = operands()
    layout = {"dimension_numbers": ("NCH", "OIH", "NCH")}
    moved = x.transpose(0, 2, 1), kernel.transpose(2, 1, 0)
    equal(called("pallas", *moved, bias=bias, **layout), called(None, *moved, bias=bias, **layout))
    with pytest.raises(ValueError, match="`bias`"):
        called("pallas", x, kernel, bias=bias[:3])
    with pytest.raises(ValueError, match="`activation`"):
        called("pallas", x, kernel, activation="sigmoid")


@needs_devices
def test_a_sharded_sequence():
    """The state comes from the shard before."""
    x, kernel, state, bias, ids = operands(40)
    mesh = mesh_of((4,), ("t",))

    def run(x, kernel, state, ids):
        return called("pallas", x, kernel, state=state, bias=bias, segment_ids=ids, mesh_axis="t")

    mapped = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(P(None, "t"), P(), P(), P(None, "t")),
        out_specs=(P(None, "t"), P()),
        check_vma=False,  # jax's interpreter of kernels does not know such types
    )
    found = jax.jit(mapped)(x, kernel, state, ids)
    equal(found, called(None, x, kernel, state=state, bias=bias, segment_ids=ids))


def test_a_program_for_tpu_has_one_kernel():
    x, kernel, state, bias, ids = operands()
    for packed in (None, ids):
        run = jax.jit(partial(called, "pallas", bias=bias, activation="silu", segment_ids=packed))
        text = jax.export.export(run, platforms=["tpu"])(x, kernel, state=state).mlir_module()
        assert text.count("tpu_custom_call") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bogus"},
        {"precision": {}},
        {"feature_group_count": float(C)},
        {"preferred_element_type": np.ones(2)},
        {"preferred_element_type": "nonsense"},
        {"out_sharding": 3},
        {"padding_mode": "reflect"},
    ],
    ids=str,
)
def test_wrong_options_are_refused_as_without_the_kernel(options):
    x, kernel, *_ = operands(5)
    texts = []
    for algorithm in (None, "pallas"):
        with pytest.raises((TypeError, ValueError), match="^causal_conv: ") as error:
            called(algorithm, x, kernel, **options)
        texts.append((error.type, str(error.value)))
    assert texts[0] == texts[1]


def test_options_in_lists():
    x, kernel, *_ = operands(5)
    options = {"precision": ["highest", "highest"], "kernel_dilation": [2]}
    equal(called("pallas", x, kernel, **options), called(None, x, kernel, **options))


@pytest.mark.parametrize("packed", [False, True])
def test_a_gpu_computes_the_separate_operations_and_their_gradients(packed):
    x, kernel, _, bias, ids = operands(8)

    def loss(x, kernel):
        options = {"bias": bias, "segment_ids": ids if packed else None}
        return called("pallas", x, kernel, activation="silu", **options)[0].sum()

    gradients = jax.value_and_grad(loss, (0, 1))
    assert "tpu_custom_call" not in lowered(gradients, x, kernel, platform="cuda")


@needs_devices
def test_a_shard_map_that_checks_types():
    """JAX cannot interpret kernels there: a CPU computes the separate operations, a TPU has
    kernels."""
    x, kernel, state, bias, _ = operands(8)
    mesh = mesh_of((2,), ("t",))

    def gradients(algorithm):
        def loss(x, kernel, state):
            options = {"state": state, "bias": bias, "mesh_axis": "t", "return_state": False}
            y = called(algorithm, x, kernel, **options)
            return jax.lax.psum((y * y).sum(), "t")

        specs = (P(None, "t"), P(), P())
        mapped = jax.shard_map(loss, mesh=mesh, in_specs=specs, out_specs=P())
        return jax.jit(jax.value_and_grad(mapped, (0, 1, 2)))

    equal(gradients("pallas")(x, kernel, state), gradients(None)(x, kernel, state))
    assert "tpu_custom_call" in lowered(gradients("pallas"), x, kernel, state, platform="tpu")


@needs_devices
def test_a_kernel_that_jax_cannot_interpret_is_refused_in_words():
    x, kernel, *_ = operands(8)
    mapped = jax.shard_map(
        lambda x: convjax.depthwise_conv(x, kernel, algorithm="pallas"),
        mesh=mesh_of((2,), ("n",)),
        in_specs=P("n"),
        out_specs=P("n"),
    )
    with pytest.raises(ValueError, match="'pallas' is interpreted on a CPU.*`check_vma=False`"):
        jax.jit(mapped)(x)
