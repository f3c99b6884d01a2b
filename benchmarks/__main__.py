"""Times and memory of convjax beside other libraries; `COMMAND --help` says more.

python -m benchmarks layers       every row of the table: lax, Flax, Equinox, Keras and PyTorch
python -m benchmarks memory       the temporary memory of these rows, as Linux sees it
python -m benchmarks networks     a training step of a network, beside Flax's convolutions
python -m benchmarks accelerate   a small model of each library, as it is and accelerated
python -m benchmarks causal       causal convolution, beside PyTorch's
python -m benchmarks sharding     a training step that is split over several devices
python -m benchmarks models       whole models of other people, as they are and accelerated
"""

import importlib
import sys
from collections.abc import Sequence

from benchmarks.harness import environment

COMMANDS = ("layers", "memory", "networks", "accelerate", "causal", "sharding", "models")


def main(arguments: Sequence[str]) -> int:
    """Run one command; without the name of one, the command is `layers`."""
    name, *rest = arguments or ("layers",)
    if name in ("-h", "--help"):
        print(__doc__)
        return 0
    if name.startswith("-"):
        name, rest = "layers", list(arguments)
    if name not in COMMANDS:
        print(f"{name} is none of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    environment.prepare()  # before the command imports jax
    status: int = importlib.import_module(f"benchmarks.{name}").main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
