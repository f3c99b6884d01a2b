"""Random sharded convolutions against the same on one device, exactly: `--help` says more.

The programs are those of ``tests/support/sharding_programs.py``, of which the test suite runs
a few.
"""

import argparse
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":  # before jax is imported
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import jax  # noqa: E402
import sharding_programs  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Compare, print what is wrong, and say how many were compared."""
    parser = argparse.ArgumentParser(
        description="Compare random sharded convolutions with the same on one device, exactly. "
        "Prints a line for each that differs or fails; the exit status is 1 if there is one.",
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--count", type=int, default=100, help="how many seeds (default 100)")
    parser.add_argument(
        "--mode", choices=sharding_programs.MODES, action="append", help="only this (repeatable)"
    )
    options = parser.parse_args(arguments)
    modes = tuple(options.mode or sharding_programs.MODES)
    compared = refused = faults = 0
    started = time.monotonic()
    for seed in range(options.seed, options.seed + options.count):
        program = sharding_programs.draw(seed, modes)
        print(f"seed {seed}", file=sys.stderr, flush=True)  # the last line, should it abort
        try:
            said = sharding_programs.wrong(program)
        except TypeError as error:  # types that leave the result's sharding open are refused
            said = "refused" if "out_sharding` must be given" in str(error) else f"{error}"
        except Exception as error:  # every failure of XLA's is a finding
            lines = [line for line in str(error).splitlines() if line.strip()]
            said = f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
        if said == "refused":
            refused += 1
            continue
        compared += 1
        if said is not None:
            faults += 1
            print(f"{program}\n    {said}", flush=True)
    seconds = time.monotonic() - started
    print(
        f"{compared} programs compared on jax {jax.__version__}, {faults} wrong, "
        f"{refused} drawn that no device computes, {seconds:.0f} s"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
