"""What the tests of sharding share: operands whose every axis can be divided, meshes, losses."""

import jax
import numpy as np
import oracle
import pytest
from jax.sharding import AxisType

import convjax

CPUS = jax.devices("cpu")
needs_devices = pytest.mark.skipif(len(CPUS) < 8, reason="needs 8 CPU devices (see conftest.py)")

N, H, W, I, O = 8, 12, 4, 16, 24  # noqa: E741 (the alphabet of the docstrings)


def operands(groups=1):
    x = oracle.integers(0, (N, H, W, I), bound=2)
    return x, oracle.integers(1, (3, 2, I // groups, O), bound=2)


def dense(x, kernel, groups=1, **options):
    return convjax.conv(x, kernel, feature_group_count=groups, **options)


def transposed(x, kernel, groups=1, **options):
    """Conv with strides, then back: both operations, x's shape again."""
    y = convjax.conv(x, kernel, strides=(3, 1), feature_group_count=groups)
    return convjax.conv_transpose(y, kernel, strides=(3, 1), feature_group_count=groups, **options)


KINDS = {"conv": dense, "transposed": transposed}


def loss_of(function):
    """A loss with a different weight for every output of one example (the same for all N)."""

    def loss(x, kernel):
        y = function(x, kernel)
        weights = oracle.integers(9, y.shape[1:], np.float32, 2)
        return (y * weights).sum()

    return loss


def both_gradients(function):
    return jax.grad(loss_of(function), (0, 1))


def equal(ours, wanted):
    ours, wanted = jax.tree.leaves(ours), jax.tree.leaves(wanted)
    for a, b in zip(ours, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def mesh_of(shape, names, kind=AxisType.Auto):
    devices = CPUS[: int(np.prod(shape))]
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(names), devices=devices)
