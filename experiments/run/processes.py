"""Several processes as one run, by JAX's own `jax.distributed`."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ADDRESS, COUNT, OWN = VARIABLES = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
ALONE = f"{COUNT}=1 says that this process runs by itself"
_SLURM = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)


def start() -> bool:
    """Join the other processes of this run, if there are any; whether there are.

    The environment tells: the three `VARIABLES` (Kubeflow's trainer sets them), or a launcher that
    JAX can ask for addresses: Open MPI, Slurm, Cloud TPU, an indexed Job of Kubernetes. Where
    another program has joined the processes already (Ray Train does), nothing remains to be done.
    Call it before anything else that needs a device.

    Raises:
        ValueError: some of the variables are set and others are not, or are no numbers; or JAX
            lacks a package to ask the launcher.
    """
    import jax

    if jax.distributed.is_initialized():
        return jax.process_count() > 1
    arguments = join_arguments(os.environ)
    if arguments is None:
        return False
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(**arguments)
    return True


def join_arguments(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What `jax.distributed.initialize` is to be told; None for a process that runs by itself."""
    values = {name: environment.get(name, "") for name in VARIABLES}
    if values[COUNT] == "1":
        return None
    if any(values.values()):
        if not values[ADDRESS] or not (values[COUNT].isdecimal() and values[OWN].isdecimal()):
            shown = ", ".join(f"{name}={value}" for name, value in values.items())
            raise ValueError(
                f"several processes need {', '.join(VARIABLES)}: an address host:port, and two "
                f"numbers; found {shown}. ({ALONE}.)"
            )
        return {
            "coordinator_address": values[ADDRESS],
            "num_processes": int(values[COUNT]),
            "process_id": int(values[OWN]),
            # What is named need not be found; in a Pod, JAX would ask Kubernetes all the same.
            "cluster_detection_method": "deactivate",
        }
    return _of_launcher(environment)


def _of_launcher(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The launchers in JAX's order. Each counts the processes, so that one is never joined."""
    if _number(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        if "OMPI_MCA_orte_hnp_uri" in environment:
            return {}
        _require("mpi4py", "Open MPI 5 and newer", "mpi4py")
        return {"cluster_detection_method": "mpi4py"}
    if all(name in environment for name in _SLURM):
        return {} if _number(environment, "SLURM_NTASKS") > 1 else None
    if "tpu" in (environment.get("JAX_PLATFORMS") or "tpu") and _has_tpu():
        hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
        if hosts:
            slices = max(1, _number(environment, "MEGASCALE_NUM_SLICES"))
            return {} if len(hosts.split(",")) * slices > 1 else None
        if "TPU_SKIP_MDS_QUERY" not in environment:
            return {}  # a TPU VM, whose number of workers JAX asks of its metadata server
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        _require("kubernetes", "an indexed Job of Kubernetes", "'jax[k8s]'")
        return {}
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else 0


def _has_tpu() -> bool:
    """Whether this machine has TPU chips, and the library that drives them."""
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def _require(package: str, launcher: str, install: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"JAX finds the processes of {launcher} by the package `{package}`, which is missing: "
            f"install it with pip install {install}, or set {', '.join(VARIABLES)}. ({ALONE}.)"
        )


def agreed(first: bool) -> bool:
    """What the first process says, in all of them."""
    import jax

    if jax.process_count() == 1:
        return first
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return bool(broadcast_one_to_all(np.array(first)))
