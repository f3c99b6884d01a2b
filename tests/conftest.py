"""Eight simulated CPU devices, hasty compilation, and one reproducible hypothesis profile.

What XLA_FLAGS holds already comes last and so wins: with
``XLA_FLAGS="--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true"`` everything is
compiled as it is for users.
"""

import importlib.metadata
import importlib.util
import os
import platform

import compilation

# Doctests are looked for in every file, and this one needs PyTorch.
collect_ignore = [] if importlib.util.find_spec("torch") else ["support/torch_networks.py"]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the partitioner warns at length
_FLAGS = f"--xla_force_host_platform_device_count=8 {compilation.flags(compilation.HASTY)}"
if _FLAGS not in os.environ.get("XLA_FLAGS", ""):  # a worker's parent has set them
    os.environ["XLA_FLAGS"] = f"{_FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip()

import hypothesis  # noqa: E402

from convjax._programs import memory  # noqa: E402

# Examples call `keep_memory`, which would hold for all later tests of the process.
memory._mallopt = lambda: lambda name, value: 1

_COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.differing_executors,
    ],
}
hypothesis.settings.register_profile("suite", derandomize=True, max_examples=60, **_COMMON)
hypothesis.settings.register_profile("random", derandomize=False, max_examples=1000, **_COMMON)
hypothesis.settings.register_profile(
    "no shrinking", hypothesis.settings.get_profile("suite"), phases=[hypothesis.Phase.generate]
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


def what_runs():
    """The Python and the packages that the tests run on, as one line."""
    packages = ("jax", "jaxlib", "flax", "numpy")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return f"Python {platform.python_version()}, {', '.join(versions)}"


def pytest_report_header():
    """Name what ran, above the tests."""
    return what_runs()


def pytest_terminal_summary(terminalreporter):
    """Name what ran, under the tests too: above them is far away in a long log."""
    terminalreporter.write_line(f"ran on {what_runs()}")
