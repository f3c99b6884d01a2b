"""What moves between devices, per layout: a table of collectives counted in compiled programs.

python scripts/sharding_table.py        # prints the table of docs/sharding.md
"""

import argparse
import os
import re
import sys
from pathlib import Path

if __name__ == "__main__":  # before jax is imported
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import AxisType, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

import convjax  # noqa: E402

QUICK: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": True
}  # fmt: skip
# layout: shardings of x (N, H, W, I), of the kernel (K, K, I, O) and of the result
LAYOUTS = {
    "batch": (P("a"), P(), P("a")),
    "height": (P(None, "a"), P(), P(None, "a")),
    "height and width": (P(None, "a", "b"), P(), P(None, "a", "b")),
    "batch and height": (P("a", "b"), P(), P("a", "b")),
    "input channels": (P(None, None, None, "a"), P(None, None, "a"), P()),
    "output channels": (P(), P(None, None, None, "a"), P(None, None, None, "a")),
    "batch and output channels": (
        P("a"), P(None, None, None, "b"), P("a", None, None, "b"),
    ),
    "height and output channels": (
        P(None, "a"), P(None, None, None, "b"), P(None, "a", None, "b"),
    ),
}  # fmt: skip
KINDS = ("collective-permute", "all-reduce", "all-gather", "all-to-all")
WORDS = {"collective-permute": "permute", "all-reduce": "reduce", "all-gather": "gather",
         "all-to-all": "all-to-all"}  # fmt: skip


def counted(layout: str) -> list[str]:
    """The collectives of the forward pass, and of the forward pass with both gradients."""
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    x_spec, k_spec, y_spec = (NamedSharding(mesh, spec) for spec in LAYOUTS[layout])
    x = jax.ShapeDtypeStruct((8, 16, 16, 16), np.float32, sharding=x_spec)
    kernel = jax.ShapeDtypeStruct((3, 3, 16, 16), np.float32, sharding=k_spec)
    y = jax.ShapeDtypeStruct((8, 16, 16, 16), np.float32, sharding=y_spec)

    def training(x: jax.Array, kernel: jax.Array, ct: jax.Array) -> tuple[jax.Array, ...]:
        value, pull = jax.vjp(convjax.conv, x, kernel)
        return (value, *pull(ct))

    found = []
    forward = jax.jit(convjax.conv, out_shardings=y_spec)
    both = jax.jit(training, out_shardings=(y_spec, x_spec, k_spec))
    for lowered in (forward.lower(x, kernel), both.lower(x, kernel, y)):
        text = lowered.compile(QUICK).as_text() or ""
        counts = {kind: len(re.findall(rf" {kind}(?:-start)?\(", text)) for kind in KINDS}
        shown = [f"{number} {WORDS[kind]}" for kind, number in counts.items() if number]
        found.append(", ".join(shown) or "nothing")
    return found


def table() -> str:
    """The table, in Markdown."""
    lines = ["| sharded over the mesh (4, 2) | forward | forward and both gradients |",
             "|---|---|---|"]  # fmt: skip
    lines += [f"| {layout} | {' | '.join(counted(layout))} |" for layout in LAYOUTS]
    return "\n".join(lines)


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(table())
