"""Eight simulated CPU devices, hasty compilation, and one reproducible hypothesis profile.

Nearly all the time of these tests is XLA's, and most of that LLVM's and the fusion emitters': what they make
runs once, on a few numbers. So they are told to hurry, which changes no HLO. Flags that XLA_FLAGS has
already win: with ``XLA_FLAGS="--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true"``
everything compiles as it does for users.
"""

import importlib.metadata
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the partitioner warns at length
_FLAGS = ["--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # XLA dies of flags it does not know
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*_FLAGS, os.environ.get("XLA_FLAGS", "")]).strip()

import hypothesis  # noqa: E402

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
