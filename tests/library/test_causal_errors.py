"""What the causal functions refuse: one sentence that says what is wrong and what to do."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convjax


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


X, KERNEL, STATE = ones(2, 9, 6), ones(4, 6, 5), ones(2, 3, 6)
IDS = np.zeros((2, 9), np.int32)
VIDEO = {"x": ones(1, 4, 5, 5, 2), "kernel": ones(3, 3, 3, 2, 4)}

CASES = [
    ({"state": ones(2, 4, 6)}, ValueError, "`state` (=(2, 4, 6))",
     "must have the shape (2, 3, 6), 3 inputs before `x`. `convjax.init_state` makes it"),
    ({"state": STATE, "output_at": "last", "strides": 3}, ValueError, "`state` (=(2, 3, 6))",
     "(2, 1, 6)"),
    ({"state": STATE.astype(np.float16)}, TypeError, "`state` (float16) and `x` (float32)",
     "Cast the state"),
    ({"state": [0.0]}, TypeError, "`state` must be an array", "list"),
    ({"return_state": True, "strides": 2}, ValueError, "`strides` (=2)",
     "must divide the 9 steps of `x`"),
    ({"segment_ids": IDS[:, :8]}, ValueError, "`segment_ids` (=(2, 8))", "shape (2, 9), one entry"),
    ({"segment_ids": IDS.astype(np.float32)}, TypeError, "`segment_ids` (='float32')", "integers"),
    ({"segment_ids": IDS, "strides": 3}, ValueError, "`strides` (=3)",
     "must be 1 along the causal axis where `segment_ids` is given. Sequences might begin within"),
    ({"mask": IDS}, TypeError, "`mask` (='int32')", "must be booleans. Write `mask != 0`"),
    ({"mask": IDS[0] == 0}, ValueError, "`mask` (=(9,))", "shape (2, 9)"),
    ({"mask": IDS == 0, "segment_ids": IDS}, ValueError, "`mask`",
     "and `segment_ids` must not both be given. Give the padding another id"),
    ({"mask": IDS == 0, "strides": 3}, ValueError, "`strides` (=3)", "where `mask` is given"),
    ({"segment_ids": IDS, "out_sharding": jax.sharding.PartitionSpec()}, ValueError,
     "`out_sharding`", "must be None where `segment_ids` is given. Reshard the result"),
    ({"bias": ones(6)}, ValueError, "`bias` (=(6,))", "shape (5,), one entry per output channel"),
    ({"bias": ones(5, dtype=np.int32)}, TypeError, "`bias` (int32)",
     "dtype of the result (float32)"),
    ({"bias": 1.0}, TypeError, "`bias` must be an array", "float"),
    ({"activation": "Silu"}, ValueError, "`activation` (='Silu')", 'Did you mean "silu"?'),
    ({"activation": 3}, ValueError, "`activation` (=3)", "must be one of"),
    ({"axis": 2}, ValueError, "`axis` (=2)", "must be a spatial axis of `x`, one of 1"),
    ({"axis": 1.0}, TypeError, "`axis` (=1.0)", "integer"),
    ({"output_at": "end"}, ValueError, "`output_at` (='end')", 'one of "first", "last"'),
    ({"padding_mode": "reflect"}, ValueError, "`padding_mode` (='reflect')",
     'must be "constant" or "edge" along the causal axis: others read the future'),
    ({"padding": "CAUSAL"}, ValueError, "`padding` (='CAUSAL')", 'one of "SAME"'),
    ({"padding": (1,)}, ValueError, "`padding` (=(1,))", "0 integers"),
    ({"strides": 0}, ValueError, "`strides` (=0)", "at least 1"),
    ({"kernel_dilation": 1.5}, TypeError, "`kernel_dilation` (=1.5)", "integer"),
    ({"kernel": ones(0, 6, 5)}, ValueError, "`kernel` (=(0,))", "at least one tap"),
    ({"kernel": ones(4, 1, 6)}, ValueError, "`kernel` (=(4, 1, 6))", "6 input channels"),
    ({"x": X.astype(np.float16)}, TypeError, "`x` (float16)", "one dtype"),
    ({"x": X[0]}, ValueError, "`x` (=(9, 6))", "must have 3 axes"),
    ({"x": X[:, :0], "padding_mode": "edge"}, ValueError, "`padding_mode` (='edge')", "empty"),
    ({**VIDEO, "axis": 4}, ValueError, "`axis` (=4)", "one of 1, 2, 3"),
    ({**VIDEO, "padding": (1, 1, 1)}, ValueError, "`padding` (=(1, 1, 1))", "2 integers"),
    ({**VIDEO, "padding_mode": ("wrap", "edge", "edge")}, ValueError, "`padding_mode` (='wrap')",
     "along the causal axis"),
]  # fmt: skip


def fails(name, call, error, argument, rule):
    pattern = f"^{name}: {re.escape(argument)}.*{re.escape(rule)}"
    for run in (call, lambda: jax.eval_shape(call)):
        with pytest.raises(error, match=pattern):
            run()


@pytest.mark.parametrize("given, error, argument, rule", CASES, ids=range(len(CASES)))
def test_causal_conv(given, error, argument, rule):
    given = {"x": X, "kernel": KERNEL, **given}
    fails("causal_conv", lambda: convjax.causal_conv(**given), error, argument, rule)


@pytest.mark.parametrize("given, error, argument, rule", [
    ({"x_t": X}, ValueError, "`x_t` (=(2, 9, 6))",
     "must have 2 axes: all axes of the inputs but the causal one. For several steps use"),
    ({"x_t": [1.0]}, TypeError, "`x_t` must be an array", "list"),
    ({"state": None}, TypeError, "`state` must be an array", "NoneType"),
    ({"state": X}, ValueError, "`state` (=(2, 9, 6))", "(2, 3, 6)"),
    ({"bias": ones(3)}, ValueError, "`bias` (=(3,))", "(5,)"),
    ({"axis": 0}, ValueError, "`axis` (=0)", "spatial axis"),
])  # fmt: skip
def test_causal_step(given, error, argument, rule):
    given = {"x_t": X[:, 0], "kernel": KERNEL, "state": STATE, **given}
    call = partial(convjax.causal_step, **given)
    fails("causal_step", call, error, argument, rule)


def test_init_state():
    shape = jax.ShapeDtypeStruct((2, 1, 6), jnp.float32)
    rule = 'must hold the first input for `padding_mode` "edge", which repeats it'
    for x in (shape, jnp.ones((2, 0, 6))):
        with pytest.raises(ValueError, match=re.escape(rule)):
            convjax.init_state(x, KERNEL, padding_mode="edge")
    with pytest.raises(ValueError, match=r"^init_state: `x` \(=\(2, 6\)\) must have the 3 axes of"):
        convjax.init_state(jax.ShapeDtypeStruct((2, 6), jnp.float32), KERNEL)
    with pytest.raises(ValueError, match="^init_state: `kernel_dilation`"):
        convjax.init_state(shape, KERNEL, kernel_dilation=0)
    kernel = jax.ShapeDtypeStruct((4, 6, 5), jnp.float32)
    assert convjax.init_state(shape, kernel).shape == (2, 3, 6)


@pytest.mark.parametrize("given, error, argument, rule", [
    ({"kernel": ones(3, 3, 5, 6), "y": ones(1, 4, 4, 6)}, ValueError, "`kernel` (=(3, 3, 5, 6))",
     "must have one spatial axis"),
    ({"kernel": ones(4, 6, 5)}, ValueError, "`kernel` (=(4, 6, 5))",
     "must have the 6 channels of `y` on its last channel axis, not 5."),
    ({"feature_group_count": 4}, ValueError, "`feature_group_count` (=4)", "must divide"),
    ({"strides": (2, 2)}, ValueError, "`strides` (=(2, 2))", "one entry per spatial axis (1)"),
    ({"state": ones(2, 2, 6)}, ValueError, "`state` (=(2, 2, 6))", "must have the shape (2, 1, 6)"),
    ({"y": X.astype(np.float16)}, TypeError, "`y` (float16)", "one dtype"),
    ({"bias": ones(6)}, ValueError, "`bias` (=(6,))", "shape (5,)"),
])  # fmt: skip
def test_causal_conv_transpose(given, error, argument, rule):
    given = {"y": X, "kernel": ones(4, 5, 6), "strides": 2, **given}
    call = partial(convjax.causal_conv_transpose, **given)
    fails("causal_conv_transpose", call, error, argument, rule)
