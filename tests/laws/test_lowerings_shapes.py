"""Law "lowerings", for the shapes of which a lowering takes care: tiles, phases, blocks, crops."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from programs import lowered

import convjax
from convjax._lowerings import LOWERINGS, polyphase
from convjax._lowerings.problem import Limits


def test_many_outputs_are_looped_over():
    """More kernel elements than are unrolled: the gradient is still the same."""
    x = jnp.asarray(oracle.integers(0, (2, 14, 15, 6)))
    kernel = jnp.asarray(oracle.integers(1, (11, 9, 1, 6)))
    y = jnp.asarray(oracle.integers(2, (2, 14, 15, 6)))

    def gradient(algorithm):
        f = partial(convjax.conv, x, feature_group_count=6, algorithm=algorithm)
        return jax.vjp(f, kernel)[1](y)[0]

    found = gradient((None, None, "matmul"))
    np.testing.assert_array_equal(found, gradient("direct"))


def test_rows_that_do_not_fill_a_block(monkeypatch):
    """Rows cut into blocks that do not divide them, positions that fill no turn of the loop."""
    x = jnp.asarray(oracle.integers(0, (3, 5, 13, 4)))
    y = jnp.asarray(oracle.integers(1, (3, 5, 13, 8)))
    kernel = jnp.zeros((3, 2, 1, 8))
    options = {"feature_group_count": 4, "padding": "SAME"}
    wanted = oracle.kernel_gradient(np.asarray(x), np.asarray(y), kernel.shape, **options)
    taps = LOWERINGS["taps"]
    for cache in (1, 500, 1000, 5000, 1 << 17):
        limits = Limits(large=0, cache=cache)  # two rows in a turn, where they divide
        run = lambda x, k, call, limits=limits: taps.run(x, k, call._replace(limits=limits))  # noqa: E731
        monkeypatch.setitem(LOWERINGS, "taps", dataclasses.replace(taps, run=run))
        function = jax.jit(partial(convjax.conv, x, **options, algorithm=("taps",) * 3))
        np.testing.assert_array_equal(jax.vjp(function, kernel)[1](y)[0], wanted)


@pytest.mark.parametrize(
    "shape, kernel_shape, options",
    [
        ((2, 7, 9, 3), (3, 4, 3, 6), {"strides": (3, 4), "padding": "VALID"}),
        ((2, 7, 9, 3), (3, 4, 3, 6), {"strides": (3, 4), "padding": ((2, 1), (-1, 3))}),
        ((2, 6, 4, 6), (3, 2, 2, 6), {"strides": (3, 2), "feature_group_count": 3}),
        ((2, 6, 5, 3), (3, 1, 3, 6), {"strides": (3, 1), "padding": "VALID"}),
    ],
)
def test_tiles(shape, kernel_shape, options):
    """Windows that tile the input: forward, and both gradients, whatever is padded or cut off."""
    x = jnp.asarray(oracle.integers(0, shape))
    kernel = jnp.asarray(oracle.integers(1, kernel_shape))
    algorithm = ("patchify", "polyphase", "patchify")
    function = jax.jit(partial(convjax.conv, **options, algorithm=algorithm))
    value, pull = jax.vjp(function, x, kernel)
    np.testing.assert_array_equal(value, oracle.conv(np.asarray(x), np.asarray(kernel), **options))
    y = jnp.asarray(oracle.integers(2, value.shape))
    found_x, found_kernel = pull(y)
    y = np.asarray(y)
    np.testing.assert_array_equal(
        found_x, oracle.input_gradient(x.shape, y, np.asarray(kernel), **options)
    )
    np.testing.assert_array_equal(
        found_kernel, oracle.kernel_gradient(np.asarray(x), y, kernel.shape, **options)
    )


@pytest.mark.parametrize("shape", [(2, 6, 4), (1, 5, 7)])
@pytest.mark.parametrize(
    "window, dilation, padding",
    [
        ((4, 4), (2, 2), ((2, 2), (2, 2))),
        ((4, 4), (2, 2), ((1, 3), (-1, 2))),
        ((6, 7), (3, 1), ((-4, 5), (3, 0))),
        ((2, 8), (2, 4), ((1, 1), (0, -3))),
        ((5, 3), (1, 3), ((9, 2), (1, 7))),
    ],
)
def test_phases_are_channels_of_one_convolution(monkeypatch, window, dilation, padding, shape):
    """Whatever is padded or cut off."""
    monkeypatch.setattr(polyphase, "_WASTE", float("inf"))
    x = jnp.asarray(oracle.integers(0, (*shape, 3)))
    kernel = jnp.asarray(oracle.integers(1, (*window, 3, 5)))
    options = {"padding": padding, "input_dilation": dilation, "feature_group_count": 1}
    function = jax.jit(partial(convjax.conv, **options, algorithm=("polyphase", None, None)))
    found = function(x, kernel)
    np.testing.assert_array_equal(found, oracle.conv(np.asarray(x), np.asarray(kernel), **options))
    assert lowered(function, x, kernel).sums_of_products == 1


@pytest.mark.parametrize(
    "window, strides, groups, padding",
    [
        ((2, 2), 2, 1, "SAME"),
        ((3, 2), (3, 2), 1, "VALID"),
        ((3, 2), (3, 2), 2, "SAME"),
        ((2, 3, 2), (2, 3, 2), 1, "SAME"),
        ((4,), 4, 2, "VALID"),
    ],
)
def test_transposed_tiles(window, strides, groups, padding):
    """Kernel = stride, transposed: every direction is one product of tiles."""
    u = jnp.asarray(oracle.integers(0, (2, 4, 3, 5)[: len(window) + 1] + (4,)))
    kernel = jnp.asarray(oracle.integers(1, (*window, 6 // groups, 4)))

    def derivatives(algorithm):
        f = jax.jit(
            partial(
                convjax.conv_transpose,
                strides=strides,
                padding=padding,
                feature_group_count=groups,
                algorithm=algorithm,
            )
        )
        value, pull = jax.vjp(f, u, kernel)
        return value, *pull(jnp.asarray(oracle.integers(2, value.shape)))

    found = derivatives(("polyphase", "patchify", "patchify"))  # an error, where not accepted
    for ours, wanted in zip(found, derivatives("direct"), strict=True):
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize(
    "space, window, options",
    [
        ((6, 9), (3, 2), {"padding": ((1, 1), (0, 1))}),
        ((9, 8), (2, 3), {"strides": (2, 1), "kernel_dilation": (1, 2), "padding": "VALID"}),
        ((5, 6, 7), (3, 2, 3), {"padding": ((1, 0), (1, 1), (2, 1)), "strides": (1, 2, 1)}),
    ],
)
def test_a_single_example_has_its_columns_folded(space, window, options):
    x = jnp.asarray(oracle.integers(0, (1, *space, 5)))
    kernel = jnp.zeros((*window, 5, 4))
    forward = partial(convjax.conv, x, **options, algorithm=(None, None, "depth_fold"))
    y, pull = jax.vjp(forward, kernel)
    y = jnp.asarray(oracle.integers(1, y.shape))
    wanted = oracle.kernel_gradient(np.asarray(x), np.asarray(y), kernel.shape, **options)
    np.testing.assert_array_equal(pull(y)[0], wanted)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("window", [(3, 3, 3), (2, 3, 4), (1, 2, 3)])
@pytest.mark.parametrize("strides", [(2, 2, 2), (3, 1, 2), (1, 2, 3), (2, 1, 1)])
def test_a_volumes_planes_come_phase_by_phase(strides, window, groups):
    """The depth stays dilated for the convolutions that the phases are."""
    y = jnp.asarray(oracle.integers(0, (2, 3, 4, 5, 4)))
    kernel = jnp.asarray(oracle.integers(1, (*window, 6 // groups, 4)))
    options = {"strides": strides, "feature_group_count": groups}
    found = [
        convjax.conv_transpose(y, kernel, **options, algorithm=name)
        for name in ("polyphase", "direct")
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", ["taps", "polyphase", "per_group"])
def test_64_bit_operands_and_integers(name):
    """With 64-bit types enabled, Python's integers have 64 bits: loops keep theirs at 32."""
    with jax.enable_x64(True):
        x = jnp.asarray(oracle.integers(0, (2, 20, 15, 24)), jnp.float64)
        kernel = jnp.asarray(oracle.integers(1, (13, 7, 1, 24)), jnp.float64)
        options = {"feature_group_count": 24, "padding": "SAME"}
        if name == "polyphase":
            options["input_dilation"] = 2
        value, pull = jax.vjp(partial(convjax.conv, **options, algorithm=name), x, kernel)
        y = jnp.asarray(oracle.integers(2, value.shape), jnp.float64)
        found = (value, *pull(y))
        value, pull = jax.vjp(partial(convjax.conv, **options, algorithm="direct"), x, kernel)
        assert value.dtype == jnp.float64
        for ours, wanted in zip(found, (value, *pull(y)), strict=True):
            np.testing.assert_array_equal(ours, wanted)


def test_a_cropped_input_is_not_read_beyond_its_end():
    """Where lax itself, on jaxlib 0.10.2, returns what lies in memory after the input."""
    x = jnp.asarray(oracle.integers(0, (2, 6, 8)))
    kernel = jnp.asarray(oracle.integers(1, (2, 8, 3)))
    for strides in (1, 2):
        options = {"padding": ((-1, 2),), "strides": strides}
        wanted = oracle.conv(np.asarray(x), np.asarray(kernel), **options)
        np.testing.assert_array_equal(jax.jit(partial(convjax.conv, **options))(x, kernel), wanted)
    # as the input's gradient: padding beyond the window
    wide = partial(convjax.conv, padding=((3, 0),))
    y = jnp.asarray(oracle.integers(2, wide(x, kernel).shape))
    found = jax.jit(lambda x: jax.vjp(lambda x: wide(x, kernel), x)[1](y)[0])(x)
    options = {"padding": ((3, 0),)}
    np.testing.assert_array_equal(
        found, oracle.input_gradient(x.shape, np.asarray(y), np.asarray(kernel), **options)
    )
