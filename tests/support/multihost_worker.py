"""One of several processes, two devices each: `python multihost_worker.py '{"port": 1234, ...}'`.

Prints the results of sharded convolutions, as one line of JSON: a digest of every bit.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import compilation

if __name__ == "__main__":
    count = "--xla_force_host_platform_device_count=2"
    os.environ["XLA_FLAGS"] = f"{count} {compilation.flags(compilation.HASTY)}"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import AxisType, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

import convjax  # noqa: E402

# How x, the kernel and the result lie on a mesh of axes a (over processes) and b (within one).
LAYOUTS = {
    "batch over processes, rows within": (P("a", "b"), P()),
    "rows over processes, batch within": (P("b", "a"), P()),
    "rows over all devices": (P(None, ("a", "b")), P()),
    "rows and columns": (P(None, "a", "b"), P()),
    "batch, and channels of the kernel": (P("a"), P(None, None, None, "b")),
    "contracted channels over processes": (P(None, "b", None, "a"), P(None, None, "a")),
}


def integers(seed, shape):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def strided(x, kernel):
    return convjax.conv(x, kernel, strides=(2, 1), kernel_dilation=(1, 2))


def transposed(x, kernel):
    return convjax.conv_transpose(x, kernel.swapaxes(-1, -2), strides=2)


def wrapped(x, kernel):
    return convjax.conv(x, kernel, padding_mode="wrap")


KINDS = {"conv": convjax.conv, "strided": strided, "transposed": transposed, "wrapped": wrapped}
X, KERNEL = integers(0, (4, 16, 8, 4)), integers(1, (5, 3, 4, 6))


def program(kind):
    """The result, and both gradients of a loss with a different weight for every output."""

    def loss(x, kernel):
        y = KINDS[kind](x, kernel)
        return (y * integers(2, y.shape)).sum(), y

    def run(x, kernel):
        gradients, y = jax.grad(loss, (0, 1), has_aux=True)(x, kernel)
        return y, *gradients

    return run


def digest(arrays):
    held = [np.ascontiguousarray(array).tobytes() for array in arrays]
    return hashlib.sha256(b"".join(held)).hexdigest()


def on_mesh(kind, layout):
    kinds = (AxisType.Auto,) * 2
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=kinds)
    x_spec, kernel_spec = LAYOUTS[layout]

    def put(array, spec):
        sharding = NamedSharding(mesh, spec)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    everywhere = NamedSharding(mesh, P())
    step = jax.jit(program(kind), out_shardings=everywhere)
    found = step(put(X, x_spec), put(KERNEL, kernel_spec))
    return digest(array.addressable_data(0) for array in found)


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{options['port']}", options["processes"], options["process"]
    )
    assert (jax.device_count(), jax.local_device_count()) == (4, 2)
    found = {f"{kind}: {layout}": on_mesh(kind, layout) for kind in KINDS for layout in LAYOUTS}
    print(json.dumps(found), flush=True)
