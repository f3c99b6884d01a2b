"""How XLA compiles for the tests: hastily, except where a test looks at the compiled program.

Most of the time of these tests was LLVM's and the fusion emitters', for programs that run once, on
a few numbers. Neither touches the HLO, which is what this library decides.
"""

import importlib.metadata

HASTY: dict[str, int | bool] = {"xla_backend_optimization_level": 0}
AS_USERS: dict[str, int | bool] = {"xla_backend_optimization_level": 3}
if importlib.metadata.version("jaxlib").startswith("0.10."):  # others need not know the option
    HASTY["xla_cpu_use_fusion_emitters"] = False
    AS_USERS["xla_cpu_use_fusion_emitters"] = True


def flags(options: dict[str, int | bool]) -> str:
    """`options` in the spelling of the environment variable XLA_FLAGS."""
    return " ".join(f"--{name}={str(value).lower()}" for name, value in options.items())
