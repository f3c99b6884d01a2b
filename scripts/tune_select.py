"""Measure the thresholds that choose lowerings: `convjax/_lowerings/thresholds.py`.

    python scripts/tune_select.py FEW_PAIRS ...   # these thresholds; without names, all of them
    python scripts/tune_select.py --rounds 9 --replace FEW_PAIRS

For each threshold there are convolutions whose size is about half the threshold, the threshold,
and twice and four times it. Every candidate computes them by force. Their results must be equal,
to the last bit, on integers. Then they are timed in turn, many times. A row of the threshold's file
in `benchmarks/select/` has the least time of each: what else the machine does only adds to it. A
second run keeps the lower time, too. Rows of other machines, versions and conditions stay;
`--replace` drops those of this one. `tests/library/test_thresholds.py` reads the files, and
`select_cases.py` has the convolutions.
"""

import argparse
import csv
import datetime
import functools
import json
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from select_cases import MEASURED, WITH_ONEDNN, Case

import convjax
from benchmarks.harness import machine
from benchmarks.harness.timing import Timed, interleaved
from convjax._lowerings import target, thresholds

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "benchmarks" / "select"
HEADER = (
    *("jaxlib", "vector_bits", "machine", "date", "role", "dtype"),
    *("x", "kernel", "options", "size"),
)


def function(case: Case, name: str | None) -> Any:
    """The convolution, or the gradient of its kernel, by the lowering of this name."""
    algorithm: Any = name if case.role == "forward" or name is None else (None, None, name)
    conv: Any = functools.partial(convjax.conv, **case.options, algorithm=algorithm)
    if case.role == "forward":
        return conv
    kernel = jax.ShapeDtypeStruct(case.kernel, case.dtype)

    def gradient(x: Any, y: Any) -> Any:
        (found,) = jax.linear_transpose(lambda kernel: conv(x, kernel), kernel)(y)
        return found

    return gradient


def operand_shapes(case: Case) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the operands of `function`."""
    if case.role == "forward":
        return case.x, case.kernel
    conv: Any = functools.partial(convjax.conv, **case.options)
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (case.x, case.kernel))
    return case.x, jax.eval_shape(conv, *shapes).shape


def measure(
    case: Case, candidates: tuple[str, ...], rounds: int, options: dict[str, Any]
) -> dict[str, float]:
    """The least milliseconds of every candidate that accepts the case, under compiler options; the
    results are equal."""
    rng = np.random.default_rng(0)
    operands = [
        jnp.asarray(rng.integers(-3, 4, shape), case.dtype) for shape in operand_shapes(case)
    ]
    contenders: dict[str, Timed] = {}
    expected: Any = None
    for name in candidates:
        try:
            with convjax.compiled_with(options):
                run = jax.jit(function(case, name)).lower(*operands).compile(options or None)
        except ValueError as error:
            if "cannot execute" not in str(error):
                raise
            continue
        result = np.asarray(run(*operands))
        expected = result if expected is None else expected
        np.testing.assert_array_equal(result, expected, err_msg=f"{name}: {case}")
        call = functools.partial(run, *operands)
        contenders[name] = Timed(call, jax.block_until_ready)
    samples = interleaved(contenders, rounds, limit_s=4.0)
    return {name: 1e3 * min(values) for name, values in samples.items()}


def target_of(row: dict[str, str], onednn: bool) -> target.Target:
    """The target that a measured row is of."""
    bits, *amx = row["vector_bits"].split()
    return target.Target.of(
        "cpu", row["jaxlib"], vector_bits=int(bits), amx=bool(amx), onednn=onednn
    )


def keep_lower(rows: list[dict[str, Any]], key: dict[str, str], times: dict[str, str]) -> None:
    """Put `times` into the row of `key`, where a time of an earlier run stays if it is lower."""
    today = datetime.date.today().isoformat()
    for row in rows:
        if all(row[name] == value for name, value in key.items()):
            lower = {n: min(row.get(n) or ms, ms, key=float) for n, ms in times.items()}
            row |= lower | {"date": today}
            return
    rows.append(key | {"date": today} | times)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="thresholds; by default all of them")
    parser.add_argument("--rounds", type=int, default=9, help="samples of each lowering")
    parser.add_argument("--replace", action="store_true", help="drop this machine's earlier rows")
    parser.add_argument("--conditions", default="idle", help="what else the machine does: a word")
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER, help="the folder of the files")
    arguments = parser.parse_args()
    names = arguments.names or list(MEASURED)
    unknown = set(names) - set(thresholds.THRESHOLDS)
    if unknown:
        parser.error(f"no threshold {', '.join(sorted(unknown))}: {', '.join(MEASURED)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with_onednn = convjax.compiler_options("cpu", onednn=True)
    if target.ONEDNN_FLAG not in with_onednn:
        left_out = sorted(set(names) & set(WITH_ONEDNN))
        names = [name for name in names if name not in WITH_ONEDNN]
        print(f"left out, since this XLA has no oneDNN: {', '.join(left_out) or 'none'}")
    for name in names:
        cases, candidates = MEASURED[name]
        options = dict(with_onednn) if name in WITH_ONEDNN else {}
        here = {
            "jaxlib": target.installed(),
            "vector_bits": f"{target.vector_bits()}{' amx' * target.has_amx()}",
            "machine": f"{machine.cpu_model()}, {machine.cores()} cores, {arguments.conditions}",
        }
        path = arguments.out / f"{name.lower()}.csv"
        rows: list[dict[str, Any]] = []
        if path.exists():
            rows = list(csv.DictReader(path.read_text().splitlines()))
            rows = [{"dtype": "float32"} | row for row in rows]  # which files did not name once
        if arguments.replace:
            rows = [row for row in rows if any(row[key] != here[key] for key in here)]
        print(f"{name} = {thresholds.THRESHOLDS[name].value}", flush=True)
        for case in cases():
            ms = measure(case, candidates, arguments.rounds, options)
            key = here | {
                "role": case.role,
                "dtype": case.dtype,
                "x": "x".join(map(str, case.x)),
                "kernel": "x".join(map(str, case.kernel)),
                "options": json.dumps(case.options),
                "size": f"{case.size:g}",
            }
            times = {f"{lowering} ms": f"{value:.4g}" for lowering, value in ms.items()}
            keep_lower(rows, key, times)
            print("  ", case.size, {k: round(v, 3) for k, v in ms.items()}, flush=True)
        with path.open("w", newline="") as file:
            columns = [*HEADER, *(f"{lowering} ms" for lowering in candidates)]
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
