"""Eight simulated CPU devices, set before jax starts, and one reproducible hypothesis profile."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the partitioner warns at length
_DEVICES = "--xla_force_host_platform_device_count=8"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}".strip()

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
