"""Which sums over devices programs compiled for TPU hold, ours and lax's. No TPU is needed.

    pip install "jax[tpu]"                  # 640 MB; in an environment of its own
    python scripts/sharding_on_tpu.py       # prints the table of docs/sharding.md

The programs are compiled for four TPU v5e chips and not run. They are the value and both gradients
of a 3x3 convolution on a mesh (2, 2) with axes a and b.
"""

import argparse
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collections.abc import Callable  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import AxisType, Mesh, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

import convjax  # noqa: E402

LAYOUTS = {
    "rows of x over a": (P(None, "a"), P()),
    "rows of x over a, outputs of the kernel over b": (P(None, "a"), P(None, None, None, "b")),
}


def lax_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def found(conv: Callable[..., jax.Array], kind: AxisType, layout: str, devices: np.ndarray) -> str:
    """The collectives of the compiled training step, and over which axes it sums."""
    mesh = Mesh(devices, ("a", "b"), axis_types=(kind,) * 2)
    x, kernel = (
        jax.ShapeDtypeStruct(shape, np.float32, sharding=NamedSharding(mesh, spec))
        for shape, spec in zip(((8, 64, 64, 128), (3, 3, 128, 128)), LAYOUTS[layout], strict=True)
    )
    step = jax.value_and_grad(lambda x, kernel: (conv(x, kernel) ** 2).sum(), (0, 1))
    try:
        with jax.set_mesh(mesh):
            text = jax.jit(step).lower(x, kernel).compile().as_text() or ""
    except Exception as error:  # lax wants an `out_sharding` here
        return str(error).splitlines()[0]
    counts = [
        f"{number} {name}"
        for name in ("collective-permute", "all-gather", "all-to-all")
        if (number := len(re.findall(rf" {name}(?:-start)?\(", text)))
    ]
    lines = [line for line in text.splitlines() if re.search(r" all-reduce(-start)?\(", line)]
    sums = []
    for line in lines:
        if line.partition("=")[2].strip().startswith("f32[]"):
            continue  # the loss
        groups = re.search(r"replica_groups=(mesh\S+ \{[^}]*\}|\S+?\}\}|\S+)", line)
        sums.append(groups.group(1).rstrip(",") if groups else "?")
    return "; ".join([*counts, *(f"sum over {group}" for group in sums)])


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    topology = topologies.get_topology_desc("v5e:2x2", platform="tpu")
    devices: np.ndarray = np.array(topology.devices).reshape(2, 2)
    print("| mesh axes | layout | library | collectives |\n|---|---|---|---|")
    for kind in (AxisType.Explicit, AxisType.Auto):
        for layout in LAYOUTS:
            for name, conv in (("convjax", convjax.conv), ("lax", lax_conv)):
                said = found(conv, kind, layout, devices)
                print(f"| {kind.name.lower()} | {layout} | {name} | {said} |", flush=True)


if __name__ == "__main__":
    main()
