"""Several processes: convolutions on a mesh over them, the volume example, and how runs start."""

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import compilation
import jax
import multihost_worker as worker
import pytest

from experiments.run import processes as start

ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def processes(commands):
    """Each (arguments, environment) as a Python process on CPUs; none outlives the block."""
    own = {name: text for name, text in os.environ.items() if name != "XLA_FLAGS"}
    own |= {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [
        subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=own | environment, **pipes)
        for arguments, environment in commands
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def outputs(commands, seconds=300):
    """What each process prints; all must succeed. Gloo's own words may stand in between."""
    with processes(commands) as running:
        ended = [process.communicate(timeout=seconds) for process in running]
        for process, (_, error) in zip(running, ended, strict=True):
            assert process.returncode == 0, error
        return [out for out, _ in ended]


@pytest.mark.slow
def test_two_processes_convolve_as_one_device_does():
    """Forward and both gradients, on integers: every bit, in layouts that need halos and sums."""
    port = free_port()
    commands = [
        ([worker.__file__, json.dumps({"port": port, "processes": 2, "process": process})], {})
        for process in range(2)
    ]
    found = [json.loads(out.splitlines()[-1]) for out in outputs(commands)]
    wanted = {kind: worker.digest(jax.jit(worker.program(kind))(worker.X, worker.KERNEL))
              for kind in worker.KINDS}  # fmt: skip
    assert len(set(wanted.values())) == len(worker.KINDS)
    for each in found:
        assert len(each) == len(worker.KINDS) * len(worker.LAYOUTS)
        assert each == {case: wanted[case.partition(":")[0]] for case in each}


# ---- the volume example -------------------------------------------------------------------------

VOLUME = ["-m", "examples.volume", "--size", "16", "--features", "3", "--levels", "1"]


def simulated(devices):
    count = f"--xla_force_host_platform_device_count={devices}"
    return {"XLA_FLAGS": f"{count} {compilation.flags(compilation.HASTY)}"}


def slurm(process):
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


def open_mpi(process):
    return {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(process),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(process),
    }


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [slurm, open_mpi])
def test_a_run_of_two_processes_goes_on_in_one(launcher, tmp_path):
    """Both are started without addresses, as the launcher does; the losses are of one long run."""
    pytest.importorskip("orbax.checkpoint", reason="needs the `experiments` extra")
    pytest.importorskip("optax", reason="needs the `experiments` extra")
    from examples import volume

    parts, whole = tmp_path / "parts", tmp_path / "whole"
    port = {"JAX_COORDINATOR_PORT": str(free_port())}
    first = [*VOLUME, "--out", str(parts), "--steps", "2"]
    said = outputs([(first, launcher(i) | port | simulated(2)) for i in range(2)])
    assert "2 processes, 2 x 2 devices (data x depth), from step 0\n" in said[0]
    assert "step 2: loss" in said[0] and "step" not in said[1]
    before = losses(parts)
    again = [*VOLUME, "--out", str(parts), "--steps", "4", "--depth", "4", "--batch", "2"]
    (said,) = outputs([([*again, "--resume"], simulated(4))])
    assert "1 processes, 1 x 4 devices (data x depth), from step 2\nstep 3: " in said
    after = losses(parts)
    assert after[:2] == before and len(after) == 4
    settings = volume.Settings(size=16, features=3, levels=1)
    volume.train(settings, 4, whole)  # on as many devices as pytest has
    assert after == pytest.approx(losses(whole), rel=1e-5)
    assert len(set(after)) == 4 and after[3] < after[0]


# ---- who is joined, and how ---------------------------------------------------------------------

KUBEFLOW = {
    "JAX_COORDINATOR_ADDRESS": "volume-node-0-0.volume:6666",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
    "JAX_COORDINATOR_PORT": "6666",
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "JOB_COMPLETION_INDEX": "1",
}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
OPEN_MPI_5 = {name: text for name, text in open_mpi(1).items() if "OMPI_COMM" in name}


@pytest.fixture
def packages(monkeypatch):
    """Which optional packages are there, and whether the machine has TPU chips: neither."""
    there = set()
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: name in there or None)
    monkeypatch.setattr(start, "_has_tpu", lambda: "libtpu" in there)
    return there


def test_addresses_that_are_named_are_not_looked_for(packages):
    """As Kubeflow sets them; without the package `kubernetes`, which JAX would ask for."""
    assert start.join_arguments(KUBEFLOW) == {
        "coordinator_address": "volume-node-0-0.volume:6666",
        "num_processes": 2,
        "process_id": 1,
        "cluster_detection_method": "deactivate",
    }


@pytest.mark.parametrize(
    "environment",
    [
        {},
        KUBEFLOW | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
        slurm(1) | {"JAX_NUM_PROCESSES": "1"},
        slurm(0) | {"SLURM_NTASKS": "1"},
        {name: text for name, text in slurm(0).items() if name != "SLURM_STEP_NODELIST"},
        open_mpi(0) | {"OMPI_COMM_WORLD_SIZE": "1"},
        POD,
    ],
    ids=["nothing", "kubeflow", "said", "one task", "not by srun", "mpirun -n 1", "a Pod"],
)
def test_one_process_is_never_joined(environment, packages, monkeypatch):
    """JAX would start a service for one process, or wait for others that do not exist."""
    assert start.join_arguments(environment) is None
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(jax.distributed, "initialize", None)
    assert start.start() is False


@pytest.mark.parametrize(
    ("hosts", "several"),
    [
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_PROCESS_ADDRESSES": "a,b,c", "TPU_WORKER_HOSTNAMES": "a"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}, False),
        ({}, True),  # a TPU VM: JAX asks the metadata server
        ({"TPU_SKIP_MDS_QUERY": "1"}, False),
    ],
)
def test_cloud_tpu(hosts, several, packages):
    assert start.join_arguments(hosts) is None  # without chips
    packages.add("libtpu")
    assert start.join_arguments(hosts) == ({} if several else None)


@pytest.mark.parametrize(
    ("environment", "package", "arguments"),
    [
        (POD | {"JOB_COMPLETION_INDEX": "0"}, "kubernetes", {}),
        (OPEN_MPI_5, "mpi4py", {"cluster_detection_method": "mpi4py"}),
    ],
)
def test_launchers_that_jax_asks_by_a_package(environment, package, arguments, packages):
    with pytest.raises(ValueError, match=f"by the package `{package}`, which is missing"):
        start.join_arguments(environment)
    packages.add(package)
    assert start.join_arguments(environment) == arguments


def test_processes_that_are_joined_already_are_left_as_they_are(monkeypatch):
    """As Ray Train's JaxTrainer does before the loop of a worker."""
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(jax.distributed, "initialize", None)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert start.start() is True


# ---- the files for engines ----------------------------------------------------------------------


def arguments_of(words):
    """What follows `python -m examples.volume` in a command."""
    at = words.index("examples.volume")
    assert words[at - 2 : at] == ["python", "-m"]
    return words[at + 1 :]


def test_the_sbatch_file_runs_the_example():
    text = (ROOT / "examples" / "slurm.sbatch").read_text(encoding="utf-8")
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    options = volume_options(arguments_of(words))
    assert options.resume and options.out.name == "volume-$SLURM_JOB_ID"
    given = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", text, re.M))
    assert given["ntasks-per-node"] == given["gpus-per-node"]  # JAX: task i has GPU i
    assert "gpus-per-task" not in given and "gpu-bind" not in given
    assert subprocess.run(["bash", "-n", ROOT / "examples" / "slurm.sbatch"]).returncode == 0


def test_the_trainjob_runs_the_example():
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((ROOT / "examples" / "trainjob.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert job["spec"]["runtimeRef"]["name"] == "jax-distributed"
    trainer = job["spec"]["trainer"]
    options = volume_options(arguments_of(trainer["args"]))
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    assert replicated["name"] == container["name"] == "node"  # of the runtime
    (mount,) = container["volumeMounts"]
    assert options.resume and options.out.is_relative_to(mount["mountPath"])


def test_kubeflow_reads_the_trainjob():
    """By the classes that Kubeflow makes from its API; none of the fields gets lost."""
    yaml = pytest.importorskip("yaml")
    models = pytest.importorskip("kubeflow_trainer_api.models")
    job = yaml.safe_load((ROOT / "examples" / "trainjob.yaml").read_text(encoding="utf-8"))
    assert without_nothing(models.TrainerV1alpha1TrainJob.from_dict(job).to_dict()) == job


def without_nothing(tree):
    if isinstance(tree, dict):
        return {key: without_nothing(value) for key, value in tree.items() if value is not None}
    return [without_nothing(value) for value in tree] if isinstance(tree, list) else tree


def volume_options(arguments):
    from examples import volume

    return volume.parser().parse_args(arguments)


@pytest.mark.slow
def test_ray_trains_on_two_workers(tmp_path):
    """By Ray's own joining; the losses are of one process."""
    pytest.importorskip("ray", reason="needs the `ray` extra")
    from examples import volume

    arguments = [*VOLUME[2:], "--steps", "2", "--out"]
    slow = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300", "RAY_TRAIN_V2_ENABLED": "1"}
    command = ["-m", "examples.ray_volume", "--workers", "2", "--", *arguments, tmp_path / "ray"]
    outputs([(map(str, command), slow | simulated(2))], seconds=500)
    settings = volume.Settings(size=16, features=3, levels=1)
    volume.train(settings, 2, tmp_path / "one")
    assert losses(tmp_path / "ray") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
