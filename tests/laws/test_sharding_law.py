"""Law "meshes": on any mesh the numbers of one device; random programs, and known faults of XLA.

`scripts/sharding_sweep.py` compares as many programs as one likes.
"""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import sharding_programs
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from programs import lowered
from sharded import both_gradients, equal, mesh_of, needs_devices

import convjax
from convjax._sharding import distributed

pytestmark = needs_devices


def check(seeds, modes=sharding_programs.MODES):
    """Compare the programs of these seeds; at least a third of them must be computable."""
    compared = 0
    for seed in seeds:
        program = sharding_programs.draw(seed, modes)
        try:
            said = sharding_programs.wrong(program)
        except TypeError as error:
            if "`out_sharding` must be given" not in str(error):
                raise
            said = "refused"
        compared += said != "refused"
        assert said in (None, "refused"), (said, program)
    assert compared >= len(seeds) // 3


@pytest.mark.parametrize("mode", sharding_programs.MODES)
def test_random_programs(mode):
    check(range(8), (mode,))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 180, 20))
def test_more_random_programs(first):
    check(range(first, first + 20))


def by_xla(monkeypatch):
    """Let XLA split, as on TPU with automatic axes and in exported programs."""
    original = distributed.splitter

    def splitter(*args):
        who = original(*args)
        return "XLA" if who == "callback" else who

    monkeypatch.setattr(distributed, "splitter", splitter)


def test_random_programs_that_xla_splits(monkeypatch):
    by_xla(monkeypatch)
    check(range(200, 216), ("automatic", "set", "drop-in", "accelerate"))


# ---- what XLA's partitioner gets wrong, and this library right -----------------------------------


def lax_conv(x, kernel, dilation=1):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


ROWS, OUT = P(None, "a"), P(None, None, None, "b")
CASES = {
    # shapes and shardings of x and kernel, and what is asked
    "rows and outputs, forward": ((4, 8, 4, 4), (3, 3, 4, 4), ROWS, OUT, lambda f: f),
    "rows and outputs, gradients": ((4, 8, 4, 4), (3, 3, 4, 4), ROWS, OUT, both_gradients),
    "rows and channels": ((4, 8, 4, 4), (3, 3, 4, 4), ROWS, P(None, None, "b"), lambda f: f),
    "rows of both": ((4, 8, 4, 4), (4, 3, 4, 4), ROWS, P("a"), both_gradients),
    "rows, kernel's gradient": ((4, 8, 4, 4), (3, 3, 4, 4), ROWS, P(), both_gradients),
}


def sharded(mesh, x, kernel, x_spec, k_spec):
    return [jax.device_put(a, NamedSharding(mesh, s)) for a, s in ((x, x_spec), (kernel, k_spec))]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (4, 2)])
def test_spatial_and_tensor_parallel(case, shape):
    """Where XLA's results are 2 or 4 times too large."""
    x_shape, k_shape, x_spec, k_spec, ask = CASES[case]
    x, kernel = oracle.integers(0, x_shape, bound=2), oracle.integers(1, k_shape, bound=2)
    operands = sharded(mesh_of(shape, ("a", "b")), x, kernel, x_spec, k_spec)
    for function in (convjax.conv, convjax.accelerate(lax_conv)):
        equal(jax.jit(ask(function))(*operands), ask(function)(x, kernel))


@pytest.mark.parametrize("case", CASES)
def test_spatial_and_tensor_parallel_split_by_xla(monkeypatch, case):
    """XLA is right where every device has space whole."""
    by_xla(monkeypatch)
    test_spatial_and_tensor_parallel(case, (2, 2))


@pytest.mark.xfail(strict=True, reason="XLA's partitioner sums over all devices: docs/upstream")
@pytest.mark.parametrize("case", ["rows and outputs, forward", "rows, kernel's gradient"])
def test_lax_is_right(case):
    """Fails when XLA is mended: then the guards and the documentation can go."""
    x_shape, k_shape, x_spec, k_spec, ask = CASES[case]
    x, kernel = oracle.integers(0, x_shape, bound=2), oracle.integers(1, k_shape, bound=2)
    operands = sharded(mesh_of((2, 2), ("a", "b")), x, kernel, x_spec, k_spec)
    equal(jax.jit(ask(lax_conv))(*operands), ask(lax_conv)(x, kernel))


def test_both_gradients_of_a_window_beyond_the_input():
    x, kernel = oracle.integers(0, (4, 4, 8, 8), bound=2), oracle.integers(1, (5, 5, 8, 8), bound=2)
    function = partial(convjax.conv, kernel_dilation=2)
    operands = sharded(mesh_of((2, 2), ("a", "b")), x, kernel, P(None, "b"), P())
    equal(jax.jit(both_gradients(function))(*operands), both_gradients(function)(x, kernel))


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("algorithm", [None, "matmul"])
def test_gradients_of_a_decoder(size, algorithm):
    """Where XLA's partitioner aborts the process if the gradient is a matrix product."""
    x = oracle.integers(0, (4, 8, 4, 4), bound=2)
    kernel = oracle.integers(1, (size, size, 4, 4), bound=2)
    function = partial(convjax.conv_transpose, strides=2, algorithm=algorithm)
    for shape, names in (((2, 2), ("a", "b")), ((4,), ("a",))):
        operands = sharded(mesh_of(shape, names), x, kernel, ROWS, P())
        equal(jax.jit(both_gradients(function))(*operands), both_gradients(function)(x, kernel))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("mode", ["wrap", "symmetric", "edge", "reflect"])
@pytest.mark.parametrize("rows", [1, 2])
def test_boundary_modes_of_few_rows_a_shard(mode, rows, kind):
    """Where XLA does not compile what copies and adds up rows: one row on each of four devices."""
    x = oracle.integers(0, (2, 4 * rows, 5, 3), bound=2)
    kernel = oracle.integers(1, (3, 3, 3, 4), bound=2)
    y = oracle.integers(2, (2, 4 * rows, 5, 4), bound=2)
    mesh = mesh_of((4,), ("a",), kind)
    options = {"padding_mode": mode}

    def everything(x, y, kernel):
        forward = partial(convjax.conv, **options)
        back = partial(convjax.conv_transpose, **options)
        value, pull = jax.vjp(forward, x, kernel)
        other, other_pull = jax.vjp(back, y, kernel)
        return value, pull(y), other, other_pull(x)

    wanted = everything(x, y, kernel)
    with jax.set_mesh(mesh):
        put = [jax.device_put(a, NamedSharding(mesh, s))
               for a, s in ((x, ROWS), (y, ROWS), (kernel, P()))]  # fmt: skip
        equal(jax.jit(everything)(*put), wanted)


def test_narrow_sums_over_devices_are_accurate():
    """Parts in bfloat16 are summed in float32: one rounding, as on one device."""
    x = np.ones((1, 8, 1, 512), np.float32) * np.float32(1.0078125)
    kernel = np.ones((1, 1, 512, 8), np.float32)
    x, kernel = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)
    operands = sharded(
        mesh_of((8,), ("a",)), x, kernel, P(None, None, None, "a"), P(None, None, "a")
    )
    equal(
        jax.jit(convjax.conv)(*operands).astype(np.float32),
        convjax.conv(x, kernel).astype(np.float32),
    )


def test_64_bits_that_a_context_manager_allows():
    """XLA asks how to split in a thread of its own, which does not see the context manager."""
    kernel = oracle.integers(1, (3, 3, 3, 4), bound=2)
    mesh = mesh_of((4,), ("a",))
    with jax.enable_x64(True):
        x = jnp.asarray(oracle.integers(0, (4, 8, 5, 3)), np.float64) + 2.0**-40
        wanted = both_gradients(convjax.conv)(x, kernel.astype(np.float64))
        operands = sharded(mesh, x, kernel.astype(np.float64), ROWS, P())
        found = jax.jit(both_gradients(convjax.conv))(*operands)
        assert all(one.dtype == np.float64 for one in jax.tree.leaves(found))
        equal(found, wanted)


def test_what_is_not_finite_stays_on_its_rows():
    """The rows that do not exist, on shards that the extent does not fill, are no one's."""
    x = np.array(oracle.integers(0, (1, 12, 4, 3)))
    x[0, 6, 2, 1] = np.nan
    kernel = oracle.integers(1, (3, 3, 3, 4), bound=2)
    mesh = mesh_of((8,), ("a",))

    def twice(x, kernel):
        x = lax.with_sharding_constraint(x, NamedSharding(mesh, ROWS))  # 12 rows on 8 devices
        return convjax.conv(x, kernel, padding="VALID")

    wanted = convjax.conv(x, kernel, padding="VALID")
    assert 0 < np.isnan(wanted).sum() < wanted.size
    equal(jax.jit(twice)(x, kernel), wanted)


def test_uneven_contractions():
    """10 rows and 6 examples on 4 devices: the blocks' ends are not summed into a gradient."""
    x = oracle.integers(0, (6, 10, 4, 3), bound=2)
    kernel = oracle.integers(1, (3, 3, 3, 4), bound=2)
    mesh = mesh_of((4,), ("a",))
    for spec in (P("a"), ROWS):

        def split(x, kernel, spec=spec):
            # What is computed before leaves something else than zeros behind the last row.
            x = lax.with_sharding_constraint(x + 1, NamedSharding(mesh, spec))
            return convjax.conv(x, kernel)

        wanted = both_gradients(lambda x, k: convjax.conv(x + 1, k))(x, kernel)
        equal(jax.jit(both_gradients(split))(x, kernel), wanted)


def test_shards_in_another_order_than_the_mesh_has():
    """Rows over the axes (b, a) of a mesh (a, b): neighbours are not neighbours on the mesh."""
    x = oracle.integers(0, (1, 12, 4, 3), bound=2)
    kernel = oracle.integers(1, (5, 3, 3, 4), bound=2)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = mesh_of((2, 3), ("a", "b"), kind)
        with jax.set_mesh(mesh):
            operands = sharded(mesh, x, kernel, P(None, ("b", "a")), P())
            equal(
                jax.jit(both_gradients(convjax.conv))(*operands),
                both_gradients(convjax.conv)(x, kernel),
            )


# ---- what the compiled program must say of itself ------------------------------------------------


def test_programs_that_differ_have_different_texts():
    """The callback's address must not be all that tells two convolutions from each other: the
    persistent compilation cache would take one for the other."""
    mesh = mesh_of((4,), ("a",))
    x = jax.ShapeDtypeStruct((1, 8, 8, 4), np.float32, sharding=NamedSharding(mesh, ROWS))
    kernel = jax.ShapeDtypeStruct((3, 3, 4, 4), np.float32, sharding=NamedSharding(mesh, P()))
    texts = set()
    options = [
        {"padding": ((1, 1), (1, 1))},
        {"padding": ((0, 2), (1, 1))},
        {"padding": ((2, 0), (1, 1))},
        {"padding": ((1, 1), (1, 1)), "algorithm": "taps"},
        {"padding": ((1, 1), (1, 1)), "precision": "highest"},
    ]
    for option in options:
        text = lowered(partial(convjax.conv, **option), x, kernel)
        lines = [line for line in text.splitlines() if "CustomSPMDPartitioning" in line]
        assert len(lines) == 1
        assert f"{convjax.__version__} " in lines[0]  # another version may compute another way
        texts.add(re.sub(r'backend_config = "\d+"', "", lines[0]))
    assert len(texts) == len(options)


def test_the_former_partitioner():
    """GSPMD, which knows no rules: shardings are inferred by the callback."""
    x, kernel = oracle.integers(0, (4, 8, 4, 4), bound=2), oracle.integers(1, (3, 3, 4, 4), bound=2)
    shardy = jax.config.jax_use_shardy_partitioner
    jax.config.update("jax_use_shardy_partitioner", False)
    try:
        operands = sharded(mesh_of((2, 2), ("a", "b")), x, kernel, ROWS, OUT)
        found = jax.jit(both_gradients(convjax.conv))(*operands)
    finally:
        jax.config.update("jax_use_shardy_partitioner", shardy)
    equal(found, both_gradients(convjax.conv)(x, kernel))


@pytest.mark.slow
def test_the_documented_table_of_collectives():
    import sharding_table

    text = (Path(__file__).parents[2] / "docs" / "sharding.md").read_text()
    shown = text.partition("<!-- collectives: begin -->\n")[2].partition("<!--")[0]
    assert shown.strip() == sharding_table.table()


@pytest.mark.slow
def test_the_report_for_upstream():
    """The program prints what the report says; if it no longer does, XLA is mended."""
    path = Path(__file__).parents[2] / "docs" / "upstream" / "convolution_partitioning.py"
    run = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert run.stdout.count("sharded / one device: 2.0") == 2


def test_the_sweep_finds_its_programs():
    path = Path(__file__).parents[2] / "scripts" / "sharding_sweep.py"
    command = [sys.executable, path, "--count", "0"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert run.stdout.startswith("0 programs compared")
