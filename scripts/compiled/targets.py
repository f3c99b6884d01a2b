"""The devices that programs are compiled for, without the devices."""

import os
from pathlib import Path
from typing import Any, NamedTuple

_HERE = Path(__file__).parent


class Target(NamedTuple):
    """`devices` of one kind: their platform, and the name that their compiler knows them by."""

    platform: str  # "tpu" or "cuda"
    kind: str
    devices: int
    topology: str


TARGETS = {
    "v4": Target("tpu", "v4", 1, "v4:2x2x1"),
    "v5e": Target("tpu", "v5e", 1, "v5e:2x2"),
    "v6e": Target("tpu", "v6e", 1, "v6e:2x2"),
    "7x": Target("tpu", "7x", 1, "tpu7x:2x2x1"),
    "v5e-8": Target("tpu", "v5e", 8, "v5e:2x4"),
    "v5e-64": Target("tpu", "v5e", 64, "v5e:8x8"),
    "v5e-256": Target("tpu", "v5e", 256, "v5e:16x16"),
    "h200": Target("cuda", "h200", 1, "1x1x1"),
    "b200": Target("cuda", "b200", 1, "1x1x1"),
    "h200-8": Target("cuda", "h200", 8, "1x8x1"),
}


def prepare(platform: str) -> None:
    """Set what the compiler of `platform` reads from the environment. Before jax is imported."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if platform == "tpu":
        os.environ["TPU_SKIP_MDS_QUERY"] = "1"
        os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "true")
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        # Without the device no kernel can be timed: XLA takes the first that fits.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0".strip()


def devices(target: Target) -> list[Any]:
    """Its devices, as `jax.sharding` takes them."""
    from jax.experimental import topologies

    options = {}
    if target.platform == "cuda":
        config = (_HERE / f"{target.kind}.txt").read_text(encoding="utf-8")
        options = {"target_config": config, "topology": target.topology}
        found = topologies.get_topology_desc(platform="cuda", **options)
    else:
        found = topologies.get_topology_desc(target.topology, platform="tpu")
    return list(found.devices)[: target.devices]
