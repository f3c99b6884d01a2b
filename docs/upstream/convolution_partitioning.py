"""XLA sums a sharded convolution over too many devices: prints 2.0 where 1.0 is right."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)


def conv(x, w):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)


def gradient(x, w):
    return jax.grad(lambda w: conv(x, w).sum())(w)


x, w = jnp.ones((8, 16, 8, 8)), jnp.ones((3, 3, 8, 8))
rows = jax.device_put(x, NamedSharding(mesh, P(None, "a")))
for function, spec in ((conv, P(None, None, None, "b")), (gradient, P())):
    kernel = jax.device_put(w, NamedSharding(mesh, spec))
    ratio = (jax.jit(function)(rows, kernel) / function(x, w)).mean()
    print(jax.__version__, function.__name__, "sharded / one device:", ratio)
