"""Compile layers for TPUs and GPUs that need not be there, and write what the programs tell.

    scripts/devices tpu                              # the table, for v5e and v6e
    scripts/devices tpu --targets v4 7x --rows dense
    scripts/devices gpu --dtypes bfloat16 float32
    scripts/devices tpu --public                     # compile every public function
    scripts/devices tpu --scale                      # training steps on one device and on many

The results are in benchmarks/results/devices, one file for each target, those of training steps in
benchmarks/results/scale, and all in docs/devices.md.
Nothing is run.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT.parent), str(ROOT)]

from compiled import targets  # noqa: E402

_DEFAULT = {"tpu": ["v5e", "v6e"], "gpu": ["h200"]}
_OF_SCALE = {"tpu": ["v5e", "v5e-8", "v5e-64"], "gpu": ["h200", "h200-8"]}


def main() -> int:
    """Compile what the arguments ask for; 1 if something does not compile."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("platform", choices=tuple(_DEFAULT))
    parser.add_argument("--targets", nargs="+", choices=tuple(targets.TARGETS), metavar="TARGET")
    parser.add_argument(
        "--rows", nargs="+", default=[""], help="rows whose names hold one of these"
    )
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"])
    parser.add_argument(
        "--programs",
        nargs="+",
        default=["forward", "training"],
        choices=("forward", "training", "input gradient", "kernel gradient"),
    )
    parser.add_argument(
        "--public", action="store_true", help="every public function, not the table"
    )
    parser.add_argument(
        "--scale", action="store_true", help="training steps of networks, not the table"
    )
    given = parser.parse_args()
    platform = {"tpu": "tpu", "gpu": "cuda"}[given.platform]
    default = _OF_SCALE if given.scale else _DEFAULT
    names = given.targets or default[given.platform]
    for name in names:
        if targets.TARGETS[name].platform != platform:
            parser.error(f"{name} is no target of {given.platform}")
    targets.prepare(platform)

    from compiled import geometries, public, scale, summary, table

    if given.public:
        return public.run(names, given.rows)
    if given.scale:
        scale.run(names, given.rows)
        summary.update()
        return 0
    rows = [row for row in geometries.ROWS if any(word in row.name for word in given.rows)]
    status = table.run(rows, names, given.dtypes, given.programs)
    summary.update()
    return status


if __name__ == "__main__":
    sys.exit(main())
