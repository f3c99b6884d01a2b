"""Every row for every target, by lax and by convjax: compiled, read, and written as CSV."""

import csv
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from compiled import geometries, reading, targets
from compiled.failures import Failures

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "results" / "devices"
COLUMNS = (
    *("target", "dtype", "program", "row", "kind", "fitted", "library", "lowerings"),
    *("cycles", "bytes", "floor", "passes", "large_passes", "copies", "transposes", "calls"),
    *("functions", "collectives", "temporaries", "compile_seconds", "jax", "compiler"),
)
LIBRARIES = {"lax": geometries.by_lax, "convjax": geometries.by_convjax}


def measured(row: geometries.Row, target: str, dtype: str, program: str) -> Iterator[dict]:
    """One line for lax, one for this library, and one under its `compiler_options` if there are."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    import convjax

    where = targets.TARGETS[target]
    devices = targets.devices(where)
    mesh = Mesh(devices, ("batch",))
    whole, split = (NamedSharding(mesh, PartitionSpec(*s)) for s in ((), ("batch",)))
    options: Any = convjax.compiler_options(where.platform)
    with_options = {"convjax with options": geometries.by_convjax} if options else {}
    for library, make in (LIBRARIES | with_options).items():
        forward = make(row)
        x = jax.ShapeDtypeStruct(row.x, dtype, sharding=split)
        kernel: Any = jax.ShapeDtypeStruct(row.kernel, dtype, sharding=whole)
        if row.causal:
            kernel = (kernel, jax.ShapeDtypeStruct(row.kernel[-1:], dtype, sharding=whole))
        result = jax.eval_shape(forward, x, kernel)
        cotangent = jax.ShapeDtypeStruct(result.shape, dtype, sharding=split)
        operands = [x, kernel, cotangent]
        function = geometries.program(forward, program)
        start = time.process_time()
        lowered = jax.jit(function).lower(*operands)
        compiled = lowered.compile(options if library in with_options else None)
        seconds = time.process_time() - start
        # at least half as large as x or the result, whichever is smaller
        large = min(map(geometries.floor, ([x], [result]))) // (2 * where.devices)
        found = reading.read(compiled, large)
        lowerings = ""
        if library != "lax":
            rows = convjax.explain(function, *operands, platform=where.platform)
            lowerings = " ".join(one.lowering for one in rows.rows)
        outputs = jax.tree.leaves(jax.eval_shape(function, *operands))
        unread = {"forward": cotangent, "input gradient": x, "kernel gradient": kernel}
        read_once = [one for one in operands if one is not unread.get(program)]
        yield {
            "target": target,
            "dtype": dtype,
            "program": program,
            "row": row.name,
            "kind": row.kind,
            "fitted": int(row.fitted),
            "library": library,
            "lowerings": lowerings,
            **found._asdict(),
            "floor": geometries.floor(jax.tree.leaves([*read_once, *outputs])) // where.devices,
            "compile_seconds": round(seconds, 1),
            "jax": jax.__version__,
            "compiler": _compiler(where.platform),
        }


def _compiler(platform: str) -> str:
    import importlib.metadata

    name = "libtpu" if platform == "tpu" else "jax-cuda12-plugin"
    return f"{name} {importlib.metadata.version(name)}"


def run(
    rows: Iterable[geometries.Row], names: list[str], dtypes: list[str], programs: list[str]
) -> int:
    """Measure, and replace the lines of these cells in each target's file.

    The exit status is 1 if a cell could not be measured: its lines stay as they were.
    """
    failed = Failures("cells of the table")
    for target in names:
        path = FOLDER / f"{target}.csv"
        kept = {_key(line): line for line in read(path)}
        for row in rows:
            for dtype in dtypes:
                for program in programs:
                    try:
                        lines = list(measured(row, target, dtype, program))
                    except Exception as error:  # one program less, and the others are kept
                        failed.add(f"{target} {row.name} {program} {dtype}", error)
                        continue
                    for line in lines:
                        kept[_key(line)] = line
                    print(target, dtype, program, row.name, _said(lines), flush=True)
                    write(path, list(kept.values()))
    return failed.status()


def _key(line: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(line[c]) for c in ("target", "dtype", "program", "row", "library"))


def _said(lines: list[dict[str, Any]]) -> str:
    what = "cycles" if lines[0]["cycles"] else "bytes"
    return f"{what} lax {lines[0][what]:,}, convjax {lines[1][what]:,}: {lines[1]['lowerings']}"


def read(path: Path) -> list[dict[str, str]]:
    """The lines of one file; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, lines: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    order = {row.name: at for at, row in enumerate(geometries.ROWS)}
    lines = sorted(
        lines,
        key=lambda line: (
            *(line["dtype"], line["program"]),
            *(
                order.get(line["row"], len(order)),
                line["row"],
                line["library"] != "lax",
                line["library"],
            ),
        ),
    )
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
