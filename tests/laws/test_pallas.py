"""The kernels for TPU, interpreted: each equals ``direct``, exactly on integers."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import mesh_of, needs_devices

import convjax
from convjax._lowerings import pallas
from convjax._lowerings.pallas_kernels import tiles

TRIPLE = ("pallas",) * 3

# x (N, *space, C), window, options
CASES = {
    "3x3": ((3, 7, 9, 5), (3, 3), {}),
    "tiny": ((4, 3, 2, 3), (3, 3), {}),
    "7x7": ((1, 9, 8, 3), (7, 7), {}),
    "5x3, stride 2": ((1, 8, 20, 130), (5, 3), {"strides": 2}),
    "even, one stride": ((2, 9, 12, 4), (4, 2), {"strides": (1, 2), "kernel_dilation": (2, 1)}),
    "dilated": ((1, 9, 11, 3), (3, 3), {"kernel_dilation": (2, 3), "padding": "VALID"}),
    "cropped": ((2, 11, 13, 4), (4, 2), {"padding": ((-1, 3), (4, -2)), "strides": (2, 1)}),
    "full": ((1, 6, 5, 2), (3, 4), {"padding": "FULL"}),
    "causal": ((2, 50, 6), (4,), {"padding": "CAUSAL"}),
    "causal, dilated": ((2, 37, 6), (8,), {"padding": "CAUSAL", "kernel_dilation": 2}),
    "line, stride 2": ((2, 41, 3), (5,), {"strides": 2}),
    "dilated input": ((2, 6, 7, 4), (3, 4), {"input_dilation": 2, "padding": ((1, 2), (2, 1))}),
}


# Cut into several tiles where a kernel may take 700 kB; the lines where it may take 140 kB.
TALL = {
    "tall": ((1, 29, 9, 3), (3, 3), {}),
    "tall, full": ((1, 29, 5, 3), (3, 3), {"padding": "FULL"}),
    "tall, stride 2": ((2, 61, 9, 3), (4, 3), {"strides": 2}),
    "tall, dilated input": ((1, 26, 5, 2), (3, 3), {"input_dilation": 2, "padding": 1}),
}
LONG = {
    "long": ((1, 77, 6), (4,), {"padding": "CAUSAL", "kernel_dilation": 2}),
    "long, stride 2": ((2, 91, 3), (5,), {"strides": 2}),
    "long, valid": ((1, 90, 3), (5,), {"padding": "VALID"}),
    "long, full": ((1, 79, 3), (8,), {"padding": "FULL", "kernel_dilation": 2}),
    "long, dilated input": ((1, 61, 2), (4,), {"input_dilation": 2, "padding": ((2, 1),)}),
}
CASES |= TALL | LONG


def numbers(case, dtype=jnp.float32):
    x, window, options = CASES[case]
    kernel = oracle.integers(1, (*window, 1, x[-1]))
    options = options | {"feature_group_count": x[-1]}
    return jnp.asarray(oracle.integers(0, x), dtype), jnp.asarray(kernel, dtype), options


def both(case, algorithm, dtype=jnp.float32):
    """The value and both gradients."""
    x, kernel, options = numbers(case, dtype)

    def run(x, kernel):
        y, pull = jax.vjp(partial(convjax.conv, algorithm=algorithm, **options), x, kernel)
        return y, *pull(jnp.round(3 * jnp.cos(y.astype(jnp.float32))).astype(dtype))

    return jax.jit(run)(x, kernel)


def forced(case):
    """Gradients, too, where the kernels compute all of them."""
    return "pallas" if "dilated input" in case else TRIPLE


@pytest.mark.parametrize("case", [name for name in CASES if name not in TALL | LONG])
def test_equals_direct(case):
    for found, wanted in zip(both(case, forced(case)), both(case, "direct"), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("case", "budget"), [*((c, 700_000) for c in TALL), *((c, 140_000) for c in LONG)]
)
def test_equals_direct_in_tiles(case, budget, monkeypatch):
    """With so little memory that an image is cut."""
    monkeypatch.setattr(tiles, "VMEM", budget)
    seen, real = [], tiles.tiles

    def noted(*arguments):
        seen.append(real(*arguments))
        return seen[-1]

    from convjax._lowerings.pallas_kernels import depthwise

    monkeypatch.setattr(depthwise, "tiles", noted)
    for found, wanted in zip(both(case, forced(case)), both(case, "direct"), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert any(made.rows.tiles * made.columns.tiles > 1 for made in seen)


@pytest.mark.parametrize(
    ("space", "window", "budget", "is_cut"),
    [
        ((1, 100), (1, 8), tiles.VMEM, (False, False)),
        ((1, 180), (1, 8), 160_000, (False, True)),
        ((9, 11), (3, 3), tiles.VMEM, (False, False)),
        ((29, 9), (3, 3), 700_000, (True, False)),
    ],
)
def test_memory_that_nobody_has_written_is_not_read(space, window, budget, is_cut, monkeypatch):
    """It holds NaNs here; on a TPU it holds what another program has left."""
    from jax.experimental.pallas import tpu as pltpu

    from convjax._lowerings.pallas_kernels import depthwise

    monkeypatch.setattr(tiles, "VMEM", budget)
    nans = pltpu.InterpretParams(uninitialized_memory="nan")
    lows = [w - 1 if n == max(space) else w // 2 for n, w in zip(space, window, strict=True)]
    lines = [tiles.line(n, w, n, low=a) for n, w, a in zip(space, window, lows, strict=True)]
    made = tiles.tiles(*lines, 2, 4, 4)
    assert (made.rows.tiles > 1, made.columns.tiles > 1) == is_cut

    def conv(x, kernel):
        padding = [(a, w - 1 - a) for a, w in zip(lows, window, strict=True)]
        return convjax.conv(x, kernel[:, :, None], padding=padding, feature_group_count=4)

    x, ct = (jnp.asarray(oracle.integers(seed, (2, *space, 4)), jnp.float32) for seed in (0, 1))
    kernel = jnp.asarray(oracle.integers(2, (*window, 4)), jnp.float32)
    wanted, pull = jax.vjp(conv, x, kernel)
    flat = kernel.reshape(-1, 4)
    found = depthwise.correlate(x, flat, *lines, jnp.float32, nans)
    np.testing.assert_array_equal(found, wanted)
    found = depthwise.kernel_gradient(x, ct, *lines, nans)
    np.testing.assert_array_equal(found, pull(ct)[1].reshape(-1, 4))


@pytest.mark.parametrize("case", ["3x3", "5x3, stride 2", "causal"])
def test_bfloat16_rounds_once(case):
    """Sums are float32: integers that bfloat16 does not hold are rounded once."""
    x, kernel, options = numbers(case, jnp.bfloat16)
    x = x * 17
    y = convjax.conv(x, kernel, algorithm="pallas", **options)
    wanted = convjax.conv(x.astype(jnp.float32), kernel.astype(jnp.float32), **options)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, wanted.astype(jnp.bfloat16))
    wide = convjax.conv(
        x, kernel, algorithm="pallas", preferred_element_type=jnp.float32, **options
    )
    np.testing.assert_array_equal(wide, wanted)


@pytest.mark.parametrize("case", ["3x3", "5x3, stride 2", "causal, dilated"])
def test_a_nan_reaches_its_taps(case):
    """In x and in the cotangent, forward and in both gradients."""
    x, kernel, options = numbers(case)
    x = x.at[(0, *(size // 2 for size in x.shape[1:]))].set(jnp.nan)

    def everything(algorithm):
        y, pull = jax.vjp(partial(convjax.conv, algorithm=algorithm, **options), x, kernel)
        ct = jnp.ones(y.shape).at[(0, *(0,) * (y.ndim - 1))].set(jnp.nan)
        return y, *pull(ct)

    for found, wanted in zip(everything(TRIPLE), everything("direct"), strict=True):
        assert np.isnan(wanted).any()
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap(axes):
    x, kernel, options = numbers("even, one stride")
    x, kernel = (
        jnp.stack([a, a - 1, 2 * a]) if axis == 0 else a
        for a, axis in zip((x, kernel), axes, strict=True)
    )

    def mapped(algorithm):
        def run(x, kernel):
            y, pull = jax.vjp(partial(convjax.conv, algorithm=algorithm, **options), x, kernel)
            return y, *pull(y)

        return jax.jit(jax.vmap(run, axes))(x, kernel)

    for found, wanted in zip(mapped("pallas"), mapped("direct"), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_second_derivatives():
    x, kernel, options = numbers("3x3")

    def mixed(algorithm):
        energy = lambda x, k: (convjax.conv(x, k, algorithm=algorithm, **options) ** 2).sum()  # noqa: E731
        return jax.jvp(lambda k: jax.grad(energy)(x, k), (kernel,), (kernel + 1,))

    for found, wanted in zip(mixed(TRIPLE), mixed("direct"), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("shape", "window", "options", "why"),
    [
        ((1, 9, 9, 4), (9, 3), {}, "more than 7 elements"),
        ((1, 9, 4), (9,), {}, "more than 8 elements"),
        ((1, 9, 9, 4), (3, 3), {"strides": 3}, "more than 2"),
        ((1, 5, 5, 5, 4), (3, 3, 3), {}, "3 spatial axes"),
    ],
)
def test_what_it_refuses(shape, window, options, why):
    x, kernel = jnp.ones(shape), jnp.ones((*window, 1, 4))
    with pytest.raises(ValueError, match=why):
        convjax.conv(x, kernel, feature_group_count=4, algorithm="pallas", **options)


def test_it_refuses_dense_kernels_and_other_types():
    x, kernel = jnp.ones((1, 5, 5, 4)), jnp.ones((3, 3, 4, 4))
    with pytest.raises(ValueError, match="not depthwise"):
        convjax.conv(x, kernel, algorithm="pallas")
    with pytest.raises(ValueError, match="bfloat16 and float32"):
        convjax.conv(x.astype(jnp.float16), jnp.ones((3, 3, 1, 4), jnp.float16),
                     feature_group_count=4, algorithm="pallas")  # fmt: skip


def exported(platform, *operands, **options):
    function = jax.jit(partial(convjax.conv, algorithm="pallas", **options))
    return jax.export.export(function, platforms=[platform])(*operands).mlir_module()


def test_a_program_for_tpu_has_the_kernel():
    """It need not be near a TPU."""
    x, kernel, options = numbers("3x3")
    assert "tpu_custom_call" in exported("tpu", x, kernel, **options)
    with pytest.raises(ValueError, match="it is for cpu, tpu, not for cuda"):
        exported("cuda", x, kernel, **options)


def test_importing_the_library_does_not_import_pallas():
    code = "import convjax, sys; sys.exit('jax.experimental.pallas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert pallas.LINE == 8 and pallas.WINDOW == 7


@needs_devices
def test_on_explicit_mesh_axes():
    """The kernel is each device's own program: batch, channels and rows sharded."""
    x, kernel = jnp.asarray(oracle.integers(0, (4, 8, 6, 4))), oracle.integers(1, (3, 3, 1, 4))
    kernel = jnp.asarray(kernel)

    def run(x, kernel, algorithm):
        f = partial(convjax.conv, feature_group_count=4, algorithm=algorithm)
        y, pull = jax.vjp(f, x, kernel)
        return y, *pull(y)

    wanted = run(x, kernel, "direct")
    mesh = mesh_of((2, 2), ("a", "b"), AxisType.Explicit)
    for spec, of_kernel in (
        (P("a"), P()),
        (P(None, "a"), P()),
        (P("a", None, None, "b"), P(None, None, None, "b")),
    ):
        with jax.set_mesh(mesh):
            put = jax.device_put(x, NamedSharding(mesh, spec))
            kernel_put = jax.device_put(kernel, NamedSharding(mesh, of_kernel))
            found = jax.jit(partial(run, algorithm=TRIPLE))(put, kernel_put)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def in_shards(run, checked):
    specs = {"in_specs": (P(), P("a")), "out_specs": P()}
    return jax.shard_map(run, mesh=mesh_of((2,), ("a",)), check_vma=checked, **specs)


@needs_devices
def test_inside_shard_map():
    """jax's interpreter of kernels does not know types that vary over a mesh; a TPU's kernel does,
    and then JAX sums the gradient of a replicated kernel over the devices."""
    x, kernel, options = numbers("3x3")
    x = jnp.concatenate([x, x[:1]])

    def energy(kernel, x):
        y = convjax.conv(x, kernel, algorithm=TRIPLE, **options)
        return jax.lax.psum((y * y).sum(), "a")

    y = convjax.conv(x, kernel, algorithm="direct", **options)
    found = jax.jit(in_shards(energy, False))(kernel, x)
    np.testing.assert_array_equal(found, (y * y).sum())
    training = jax.jit(in_shards(jax.grad(energy), True))
    text = jax.export.export(training, platforms=["tpu"])(kernel, x).mlir_module()
    assert text.count("tpu_custom_call") == 2 and "all_reduce" in text
