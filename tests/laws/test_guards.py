"""Law "choice": a guard of `rules.CORRECT` stands where lax computes a wrong number: see here.

Where a later jaxlib computes the right one, the test of its guard fails: then the guard may go.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax import lax

import convjax
from convjax._lowerings import rules, target

RELEASE = target.known_release(target.installed())[0]


def test_every_guard_is_shown():
    shown = "a cropped input is read beyond its end"
    counted = "the gradient of a grouped kernel is counted too often"
    mixed = "a NaN crosses from group to group"
    wrong = "oneDNN is wrong"
    by_onednn = [wrong, f"{wrong} for a part", f"{wrong} for one number of a part"]
    assert [guard.name for guard in rules.CORRECT] == [shown, counted, mixed, *by_onednn]


def test_lax_reads_a_cropped_input_beyond_its_end():
    """With a stride, on jaxlib 0.10: what lies in memory behind the input is taken for input."""
    x = jnp.asarray(oracle.integers(0, (2, 6, 8)))
    kernel = jnp.asarray(oracle.integers(1, (2, 8, 3)))
    options = {"padding": ((-1, 2),), "strides": 2}
    wanted = oracle.conv(np.asarray(x), np.asarray(kernel), **options)
    by_lax = jax.jit(partial(convjax.conv, **options, algorithm="direct"))(x, kernel)
    assert np.array_equal(by_lax, wanted) == (RELEASE != "0.10")
    np.testing.assert_array_equal(jax.jit(partial(convjax.conv, **options))(x, kernel), wanted)


@pytest.mark.parametrize("axis", ["a", "b"])
def test_xla_counts_the_gradient_of_a_grouped_kernel_too_often(axis):
    """On a mesh of two axes, of which one shards the batch."""
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    x = jnp.asarray(oracle.integers(0, (8, 9, 9, 6)))
    y = jnp.asarray(oracle.integers(1, (8, 9, 9, 6)))
    kernel = jax.ShapeDtypeStruct((3, 3, 2, 6), jnp.float32)
    axes = ("NHWC", "HWIO", "NHWC")

    def gradient(conv, x, y):
        forward = partial(
            conv,
            x,
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=axes,
            feature_group_count=3,
        )
        return jax.linear_transpose(forward, kernel)(y)[0]

    wanted = jax.jit(partial(gradient, lax.conv_general_dilated))(x, y)
    shards = (jax.device_put(v, jax.NamedSharding(mesh, jax.P(axis))) for v in (x, y))
    sharded = tuple(shards)
    by_lax = jax.jit(partial(gradient, lax.conv_general_dilated))(*sharded)
    assert not np.array_equal(by_lax, wanted)
    ours = jax.jit(partial(gradient, convjax.conv_general_dilated))(*sharded)
    np.testing.assert_array_equal(ours, wanted)


def test_lax_carries_a_nan_from_group_to_group():
    """In the gradient of a kernel."""
    x = jnp.asarray(oracle.integers(0, (2, 9, 9, 6)))
    y = jnp.ones((2, 9, 9, 6)).at[0, 0, 0, 0].set(jnp.nan)
    kernel = jax.ShapeDtypeStruct((3, 3, 2, 6), jnp.float32)

    def outputs_with_nan(algorithm):
        forward = partial(convjax.conv, x, feature_group_count=3, algorithm=algorithm)
        found = jax.jit(lambda y: jax.linear_transpose(forward, kernel)(y)[0])(y)
        return np.flatnonzero(np.isnan(found).any((0, 1, 2))).tolist()

    assert outputs_with_nan("direct") == [0, 2, 4]
    for algorithm in (None, (None, None, "per_group"), (None, None, "channels_last")):
        assert outputs_with_nan(algorithm) == [0]


HAS_AMX, HAS_AVX512 = target.has_amx(), target.vector_bits() == 512


@pytest.mark.slow
def test_the_report_for_upstream():
    """The program prints what the report says, with AVX-512 and AMX; if it no longer does, oneDNN
    is mended."""
    path = Path(__file__).parents[2] / "docs" / "upstream" / "onednn_wrong_results.py"
    run = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    errors = [float(line.rpartition(" ")[2]) for line in run.stdout.splitlines()]
    wrong = [not error < 0.01 for error in errors]
    is_wrong = [HAS_AVX512] * 2 + [HAS_AMX] * 4
    assert wrong == [part for one in is_wrong for part in (one and RELEASE == "0.12", False)]


@pytest.mark.skipif(not HAS_AMX or RELEASE != "0.12", reason="needs AMX, and oneDNN by jaxlib 0.12")
@pytest.mark.parametrize("devices", [1, 2])
def test_onednn_sums_few_channels_wrongly(devices):
    """The gradient of a kernel, of eight examples on each device; they are its channels."""
    if jax.device_count() < devices:
        pytest.skip(f"needs {devices} devices")
    x, y = (
        jnp.asarray(oracle.integers(seed, (8 * devices, 16, 16, 24), np.float32, 2), jnp.bfloat16)
        for seed in range(2)
    )
    kernel = jax.ShapeDtypeStruct((3, 3, 24, 24), jnp.bfloat16)
    mesh = jax.make_mesh((devices,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = [jax.device_put(v, jax.NamedSharding(mesh, jax.P("a"))) for v in (x, y)]

    def gradient(algorithm, x, y):
        forward = partial(convjax.conv, x, algorithm=algorithm)
        return jax.linear_transpose(forward, kernel)(y)[0]

    options = convjax.compiler_options("cpu", onednn=True)
    wanted = np.float32(jax.jit(partial(gradient, "direct"))(x, y))
    by_lax = jax.jit(partial(gradient, "direct"), compiler_options=options)(*sharded)
    assert not np.array_equal(np.float32(by_lax), wanted)
    ours = convjax.jit(partial(gradient, None))(*sharded)
    np.testing.assert_array_equal(np.float32(ours), wanted)


@pytest.mark.skipif(not HAS_AVX512 or RELEASE != "0.12", reason="needs AVX-512, and jaxlib 0.12")
@pytest.mark.parametrize("devices", [1, 2, 8])
def test_onednn_computes_one_number_wrongly(devices):
    """The gradient of a 1x1 kernel with one output channel on each device."""
    if jax.device_count() < devices:
        pytest.skip(f"needs {devices} devices")
    x = jnp.asarray(oracle.integers(0, (8, 9, 8, 24), np.float32))
    y = jnp.asarray(oracle.integers(1, (8, 9, 8, devices), np.float32))
    kernel = jax.ShapeDtypeStruct((1, 1, 24, devices), np.float32)
    mesh = jax.make_mesh((devices,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    outputs = jax.NamedSharding(mesh, jax.P(None, None, None, "a"))
    operands = jax.device_put(x, jax.NamedSharding(mesh, jax.P())), jax.device_put(y, outputs)

    def gradient(algorithm, x, y):
        forward = partial(convjax.conv, x, algorithm=algorithm)
        (found,) = jax.linear_transpose(forward, kernel)(y)
        return jax.lax.with_sharding_constraint(found, outputs)

    options = convjax.compiler_options("cpu", onednn=True)
    wanted = np.asarray(jax.jit(partial(gradient, "direct"))(*operands))
    by_lax = jax.jit(partial(gradient, "direct"), compiler_options=options)(*operands)
    assert not np.array_equal(by_lax, wanted)
    for algorithm in ("direct", None, "channels_last"):
        found = convjax.jit(partial(gradient, algorithm))(*operands)
        np.testing.assert_array_equal(found, wanted)
