"""The conditions of a run: the machine, versions, the commit."""

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

import jax

ROOT = pathlib.Path(__file__).parent.parent.parent
PACKAGES = ("jax", "jaxlib", "flax", "equinox", "keras", "torch")
_VECTORS = (("amx_bf16", "amx"), ("avx512f", "avx512"), ("avx2", "avx2"), ("asimd", "neon"))


def _cpuinfo() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine()


def vectors() -> str:
    """The widest instructions of the CPU, for vectors or matrices."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    flags = found.group(1).split() if found else []
    return next((name for flag, name in _VECTORS if flag in flags), platform.machine())


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def device() -> str:
    """A word for the device: `cpu2-avx2`, or a GPU's name."""
    if jax.default_backend() == "cpu":
        return f"cpu{cores()}-{vectors()}"
    name = jax.devices()[0].device_kind.lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def versions() -> str:
    found = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} absent")
    return ", ".join(found)


def commit() -> str:
    """The commit that is checked out, with a + where files of the package differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=9", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "convjax"], capture_output=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + "+" * bool(changed)


def busy_words(cores: int) -> list[str]:
    """The part of a file's name that says how many cores other processes kept busy."""
    return [f"busy{cores}"] if cores else []


def conditions(
    dtype: str, compiler_options: dict[str, str], sizes: str, busy_cores: int = 0
) -> dict[str, str]:
    """What must be equal for results to stand in one file."""
    accelerator = "" if jax.default_backend() == "cpu" else f"{jax.devices()[0].device_kind}, "
    return {
        "machine": f"{accelerator}{cpu_model()}, {cores()} cores, {vectors()}, {sys.platform}",
        "versions": versions(),
        "dtype": dtype,
        "compiler options": ", ".join(f"{k}={v!r}" for k, v in compiler_options.items()) or "none",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") or "none",
        "sizes": sizes,
        **({"busy cores": f"{busy_cores}, by processes that compute"} if busy_cores else {}),
    }


class Others:
    """How many cores other processes kept busy since it was made; None where Linux does not say.

    Processes that this one started, and that ended, are not among the others.

    PyTorch's threads wait for each other at every step, so that one busy neighbour can make it
    many times slower, and JAX hardly: ratios of such a cell mean nothing.
    """

    def __init__(self) -> None:
        self.start = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Busy seconds of all cores, those of this process and of its children, and the clock."""
        try:
            fields = (
                pathlib.Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
            )
        except OSError:
            return None
        user, nice, system, _, _, irq, soft, steal = map(int, fields[1:9])
        busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
        children = os.times().children_user + os.times().children_system
        return busy, time.process_time() + children, time.perf_counter()

    def cores(self) -> float | None:
        now = self._now()
        if self.start is None or now is None:
            return None
        busy, own, wall = (b - a for a, b in zip(self.start, now, strict=True))
        return max(0.0, busy - own) / max(wall, 1e-9)
