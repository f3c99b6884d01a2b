"""Law "lowerings": lax's convolution with other axes, and with operands or padding changed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from problems import problem

import convjax
from convjax._lowerings import LOWERINGS, reshaped, symmetric
from convjax._lowerings.target import Target
from convjax._operation import primitive

OF_RESHAPED = [
    # tiles on the last axis
    ((2, 6, 8, 3), (3, 4, 3, 5), {"strides": (3, 4)}),
    ((2, 7, 8, 3), (3, 4, 3, 5), {"strides": (1, 4), "padding": ((2, 1), (0, 0))}),
    ((2, 12, 4), (3, 2, 6), {"strides": 3, "feature_group_count": 2}),
    ((2, 3, 4, 6, 3), (2, 2, 3, 3, 5), {"strides": (1, 2, 3), "padding": "VALID"}),
    # an only dilated axis
    ((2, 12, 4), (3, 4, 5), {"kernel_dilation": 3, "padding": "CAUSAL"}),
    ((2, 12, 4), (4, 2, 6), {"kernel_dilation": 2, "padding": ((2, 4),), "feature_group_count": 2}),
    ((2, 12, 4), (2, 1, 4), {"kernel_dilation": 4, "padding": "VALID", "feature_group_count": 4}),
    # one place of the window on some of three axes
    ((2, 3, 5, 4, 3), (1, 3, 2, 3, 5), {"strides": (1, 2, 1)}),
    ((2, 5, 3, 4, 3), (3, 1, 1, 3, 5), {"kernel_dilation": (2, 1, 1)}),
    ((2, 5, 3, 4, 4), (2, 1, 1, 2, 6), {"feature_group_count": 2}),
    ((2, 3, 2, 4, 3), (1, 1, 1, 3, 5), {}),
    ((2, 3, 2, 4, 3), (1, 1, 2, 3, 5), {"strides": (1, 1, 2)}),
]


def derivatives(function, x, kernel):
    """Value, both gradients, a second-order mix, and `vmap` over each operand and both."""
    value, pull = jax.vjp(function, x, kernel)
    y = jnp.asarray(oracle.integers(2, value.shape))
    energy = lambda x, kernel: jnp.vdot(function(x, kernel), y)  # noqa: E731
    mixed = jax.jvp(lambda kernel: jax.grad(energy)(x, kernel), (kernel,), (kernel + 1,))[1]
    mapped = [
        jax.vmap(jax.grad(energy, (0, 1)), axes)(
            jnp.stack([x, x - 1]) if axes[0] == 0 else x,
            jnp.stack([kernel, 2 - kernel]) if axes[1] == 0 else kernel,
        )
        for axes in ((0, None), (None, 0), (0, 0))
    ]
    return value, pull(y), mixed, mapped


def counted(monkeypatch, name):
    """The roles in which a lowering ran, where it is chosen wherever it accepts."""
    roles = []
    lowering = LOWERINGS[name]

    def run(x, kernel, call):
        roles.append(call.role)
        return lowering.run(x, kernel, call)

    monkeypatch.setitem(LOWERINGS, name, lowering.__class__(**{**vars(lowering), "run": run}))
    primitive._compiled.cache_clear()
    return roles


@pytest.mark.parametrize("shape, kernel_shape, options", OF_RESHAPED)
def test_other_axes(monkeypatch, shape, kernel_shape, options):
    """The convolution, its gradients and theirs, all in other axes."""
    roles = counted(monkeypatch, "reshaped")
    x = jnp.asarray(oracle.integers(0, shape))
    kernel = jnp.asarray(oracle.integers(1, kernel_shape))
    ours = partial(convjax.conv, **options, algorithm="reshaped")
    found = jax.jit(partial(derivatives, ours))(x, kernel)
    direct = partial(convjax.conv, **options, algorithm="direct")
    jax.tree.map(
        np.testing.assert_array_equal, found, jax.jit(partial(derivatives, direct))(x, kernel)
    )
    wanted = oracle.conv(np.asarray(x), np.asarray(kernel), **options)
    np.testing.assert_array_equal(found[0], wanted)
    assert set(roles) == {"forward", "input_gradient", "kernel_gradient"}


@pytest.mark.parametrize(
    "window, strides, groups",
    [
        ((2, 3), (2, 3), 1),
        ((4,), 4, 2),
        ((1, 3, 2), (1, 2, 2), 1),
        ((3, 1), (3, 1), 1),  # rows of tiles
        ((2, 3), (2, 1), 2),
        ((3, 3), (3, 2), 1),
    ],
)
def test_transposed_in_other_axes(monkeypatch, window, strides, groups):
    roles = counted(monkeypatch, "reshaped")
    u = jnp.asarray(oracle.integers(0, (2, 4, 3, 5)[: len(window) + 1] + (4,)))
    kernel = jnp.asarray(oracle.integers(1, (*window, 6 // groups, 4)))
    options = {"strides": strides, "padding": "SAME", "feature_group_count": groups}
    ours, direct = (
        partial(convjax.conv_transpose, **options, algorithm=name)
        for name in ("reshaped", "direct")
    )
    for found, wanted in zip(
        jax.tree.leaves(jax.jit(partial(derivatives, ours))(u, kernel)),
        jax.tree.leaves(jax.jit(partial(derivatives, direct))(u, kernel)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)
    assert "forward" in roles


@pytest.mark.parametrize(
    "numbers", [("HWNC", "HWIO", "NHWC"), ("NCHW", "OIHW", "CHWN"), ("WNHC", "OHWI", "HCNW")]
)
def test_rows_of_tiles_in_any_order_of_axes(monkeypatch, numbers):
    """Rows of the input join the batch: in the same order in the input and in the result."""
    roles = counted(monkeypatch, "reshaped")
    sizes, window = {"N": 2, "H": 3, "W": 4, "C": 5}, {"H": 2, "W": 3, "I": 5, "O": 6}
    x = jnp.asarray(oracle.integers(0, [sizes[axis] for axis in numbers[0]]))
    kernel = jnp.asarray(oracle.integers(1, [window[axis] for axis in numbers[1]]))
    options = {"input_dilation": (2, 1), "padding": ((1, 1), (1, 0)), "dimension_numbers": numbers}
    found, wanted = (
        jax.jit(partial(derivatives, partial(convjax.conv, **options, algorithm=algorithm)))(
            x, kernel
        )
        for algorithm in ("reshaped", "direct")
    )
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert "forward" in roles


def test_rows_of_tiles_move_nothing():
    """The rows of the input follow its examples, as they do in memory."""

    def conv(x, kernel):
        options = {"input_dilation": (2, 1), "padding": ((1, 1), (1, 0))}
        return convjax.conv(x, kernel, **options, algorithm="reshaped")

    text = jax.jit(conv).lower(jnp.ones((2, 3, 4, 5)), jnp.ones((2, 2, 5, 6))).as_text()
    assert "stablehlo.convolution" in text and "transpose" not in text


@pytest.mark.parametrize("shape, kernel_shape, options", OF_RESHAPED)
def test_channels_first(shape, kernel_shape, options):
    """Whatever lies between the axes: then something moves, and the numbers are the same."""
    space = "DHW"[5 - len(shape) :]
    numbers = (f"NC{space}", f"OI{space}", f"NC{space}")
    x = jnp.moveaxis(jnp.asarray(oracle.integers(0, shape)), -1, 1)
    kernel = jnp.moveaxis(jnp.asarray(oracle.integers(1, kernel_shape)), (-1, -2), (0, 1))
    found, wanted = (
        jax.jit(
            partial(
                derivatives,
                partial(convjax.conv, **options, dimension_numbers=numbers, algorithm=algorithm),
            )
        )(x, kernel)
        for algorithm in ("reshaped", "direct")
    )
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


TILED_ROWS = {
    **{"window": (3, 3), "input_dilation": (3, 1)},
    **{"padding": ((2, 2), (0, 0)), "out_space": (24, 6)},
}


@pytest.mark.parametrize(
    "more, accepted",
    [
        ({"window": (4, 4), "strides": (4, 4), "out_space": (2, 2)}, True),
        ({"window": (4, 4), "strides": (4, 3), "out_space": (2, 2)}, False),
        ({"window": (3, 3)}, False),
        (TILED_ROWS, True),
        (TILED_ROWS | {"strides": (2, 1), "out_space": (12, 6)}, False),
        (TILED_ROWS | {"padding": ((1, 2), (0, 0)), "out_space": (23, 6)}, False),
        (TILED_ROWS | {"out_space": (23, 6)}, False),
        (TILED_ROWS | {"window": (4, 3), "out_space": (23, 6)}, False),
    ],
)
def test_what_is_accepted(more, accepted):
    given = {"space": (8, 8), "padding": ((0, 0), (0, 0))} | more
    assert (reshaped.accepts(problem(**given)) is None) == accepted


# ---- sums over taps as GPUs compute them ---------------------------------------------------------


@pytest.mark.parametrize(
    "shape, kernel_shape, options",
    [
        ((2, 9, 4), (4, 1, 4), {"padding": "CAUSAL"}),
        ((2, 7, 6, 4), (3, 2, 1, 4), {"strides": 2}),
        ((2, 7, 6, 4), (3, 3, 2, 6), {"kernel_dilation": 2, "padding": ((-1, 3), (2, 0))}),
        ((2, 4, 3, 5, 4), (3, 2, 3, 1, 4), {"strides": (1, 2, 1)}),
    ],
)
def test_taps_without_a_padded_copy(monkeypatch, shape, kernel_shape, options):
    """The padding is in the sum: no barrier keeps it out, no strip is cut."""
    monkeypatch.setattr(Target, "is_one_gpu", property(lambda _: True))
    primitive._compiled.cache_clear()
    options = options | {"feature_group_count": shape[-1] // kernel_shape[-2]}
    x = jnp.asarray(oracle.integers(0, shape))
    kernel = jnp.asarray(oracle.integers(1, kernel_shape))
    algorithm = ("taps", "taps", None)
    ours = partial(convjax.conv, **options, algorithm=algorithm)
    found = jax.jit(partial(derivatives, ours))(x, kernel)
    assert "optimization_barrier" not in jax.jit(ours).lower(x, kernel).as_text()
    direct = partial(convjax.conv, **options, algorithm="direct")
    jax.tree.map(
        np.testing.assert_array_equal, found, jax.jit(partial(derivatives, direct))(x, kernel)
    )
    primitive._compiled.cache_clear()


# ---- padding that is equal on both sides ---------------------------------------------------------


@pytest.mark.parametrize(
    "size, window, stride, padding, wanted",
    [
        (56, 3, 2, (0, 1), (2, 1, 0)),
        (56, 3, 2, (1, 0), (1, 0, 0)),  # what is read beyond the last output does not count
        (55, 3, 2, (1, 1), (1, 0, 0)),
        (9, 4, 1, (3, 0), (3, 0, 3)),
        (9, 4, 1, (0, 3), (3, 3, 0)),
        (224, 7, 2, (2, 3), (4, 1, 0)),
    ],
)
def test_padding_of_both_sides(size, window, stride, padding, wanted):
    """(padding, outputs before, outputs after)"""
    given = problem(
        space=(size, 28),
        window=(window, 3),
        strides=(stride, 1),
        padding=(padding, (1, 1)),
        out_space=((size + sum(padding) - window) // stride + 1, 28),
    )
    assert symmetric.even(given) == [wanted, (1, 0, 0)]
