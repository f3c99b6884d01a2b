"""Instruction bundles of the Pallas kernels for TPU, and the least that memory would allow.

    python scripts/devices_bundles.py [--out FILE] [WORD ...]

It compiles every kernel of a table for TPUs that need not be there (``pip install "jax[tpu]"``) and
reads the schedule that the compiler writes. A bundle is what a TPU issues in a cycle, so the count
is the time of the program if no load from HBM is late. Loops count as often as they run.

The floor is the time to move every operand and result once between HBM and the chip. It needs the
clock: 1.5 GHz for v5e is what its peak rate implies, 1.75 GHz for v6e is assumed. At a
lower clock the floor is fewer cycles: the table has the column `ratio_at_0.94_ghz`, too.
"""

import argparse
import csv
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from compiled.failures import Failures

# bytes per second, hertz
CHIPS = {"v5e": (820e9, 1.5e9), "v6e": (1640e9, 1.75e9)}
_SLOW = 0.94e9


class Count(NamedTuple):
    """Of one kernel: bundles that are issued, and the slots of the vector unit that they fill."""

    bundles: int
    vector_slots: float
    load_slots: float
    store_slots: float
    spills: int


# ---- the compiler's listing ----------------------------------------------------------------------

_BUNDLE = re.compile(r"^\s*(0x[0-9a-f]+)\s+([A-Z ]*):\s*(>*)", re.M)


def trips_of(listing: str) -> list[int]:
    """How often each bundle of a final listing is issued."""
    lines = [line for line in re.split(r"\n(?=\s*0x[0-9a-f]+ )", listing) if _BUNDLE.match(line)]
    tests = dict(
        re.findall(
            r"%(p\w+) = scmp\.ge\.s32\.totalorder (?:\([^)]*\), )?[^,]+, (\d+) /\* loop exit",
            listing,
        )
    )
    opens = {
        region: at
        for at, line in enumerate(lines)
        if " LB" in line.split("{")[0]
        for region in re.findall(r"Start region (\d+)", line)
    }
    trips = [1] * len(lines)
    for at, line in enumerate(lines):
        for predicate, region in re.findall(r"sbr\.rel \(!%(p\w+)\) target = \$region(\d+)", line):
            if predicate not in tests or opens.get(region, at) >= at:
                continue
            turns = int(tests[predicate])
            if "iteration index, stage" in lines[opens[region]]:
                turns -= 2  # which fetch the first blocks, and write the last ones
            # A branch takes effect four bundles later.
            for inside in range(opens[region], min(at + 5, len(lines))):
                trips[inside] *= turns
    return trips


def count(listing: str, utilization: str) -> Count:
    """The kernel's bundles, loops as often as they run."""
    trips = trips_of(listing)
    head = re.search(r"CAPAC\w+:\n(.*)\n(.*)\n", utilization)
    names, slots = head.groups()  # type: ignore[union-attr]
    columns = [name.strip() for name in names.split(",")]
    capacity = dict(zip(columns, map(int, slots.split()), strict=True))
    rows = utilization.split("== UTILIZATION:\n")[1].split("\n")
    used = [[int(n) for n in row.split()] for row in rows if re.match(r"^[\d ]+$", row.strip())]
    total = sum(trips)

    def share(name: str) -> float:
        index = columns.index(name)
        filled = sum(t * u[index] for t, u in zip(trips, used, strict=False))
        return filled / total / capacity[name]

    spills = sum(u[columns.index("VSTORE:SPILL")] for u in used)
    return Count(total, share("VALU"), share("VLOAD"), share("VSTORE"), spills)


# ---- compiling -----------------------------------------------------------------------------------


def set_up(dump: str) -> None:
    """Before JAX is imported: a TPU compiler that has no TPU, and writes its listings to `dump`."""
    os.environ.update(
        JAX_PLATFORMS="cpu",
        TPU_SKIP_MDS_QUERY="1",
        TPU_WORKER_HOSTNAMES="localhost",
        TPU_ACCELERATOR_TYPE="v5litepod-4",
        ALLOW_MULTIPLE_LIBTPU_LOAD="true",
        LIBTPU_INIT_ARGS=f"--xla_jf_dump_to={dump} --xla_jf_dump_llo_text=true",
    )


class Row(NamedTuple):
    """One geometry, x (N, *space, C) under a depthwise window."""

    name: str
    x: tuple[int, ...]
    window: tuple[int, ...]
    options: dict[str, Any] = {}
    surrounds: tuple[str, ...] = ()  # what `causal_conv` is given, in the same kernel


TABLE = (
    Row("3x3", (32, 56, 56, 128), (3, 3)),
    Row("5x5", (32, 56, 56, 128), (5, 5)),
    Row("7x7", (32, 56, 56, 128), (7, 7)),
    Row("3x3 stride 2", (32, 56, 56, 128), (3, 3), {"strides": 2}),
    Row("3x3 dilation 2", (32, 56, 56, 128), (3, 3), {"kernel_dilation": 2}),
    Row("3x3 large image", (4, 224, 224, 128), (3, 3)),
    Row("7x7 small image", (128, 7, 7, 1024), (7, 7)),
    Row("causal k4", (8, 2048, 1024), (4,), {"padding": "CAUSAL"}),
    Row("causal k8", (8, 2048, 1024), (8,), {"padding": "CAUSAL"}),
    Row(
        "causal k4, surrounded",
        (8, 2048, 1024),
        (4,),
        {"padding": "CAUSAL"},
        ("state", "bias", "activation"),
    ),
    Row(
        "causal k4, packed",
        (8, 2048, 1024),
        (4,),
        {"padding": "CAUSAL"},
        ("state", "bias", "activation", "segment_ids"),
    ),
)
ROLES = ("forward", "input_gradient", "kernel_gradient")


def program(row: Row, role: str) -> Any:
    """The function of one role, and which operands it has: x, kernel, cotangent."""
    import jax
    import jax.numpy as jnp

    import convjax

    n, *space, groups = row.x
    if row.surrounds:

        def surrounded(x: Any, kernel: Any) -> Any:
            state = jnp.ones((n, row.window[0] - 1, groups), x.dtype)
            steps = jnp.arange(space[0], dtype=jnp.int32)
            given: dict[str, Any] = {
                "bias": jnp.ones(groups, x.dtype),
                "state": state,
                "activation": "silu",
                "segment_ids": jnp.broadcast_to(steps // 500, (n, space[0])),
            }
            given = {name: given[name] for name in row.surrounds}
            return convjax.causal_conv(
                x, kernel, feature_group_count=groups, algorithm="pallas", **given
            )

        return surrounded, ("x", "kernel")

    def forward(x: Any, kernel: Any) -> Any:
        by_kernels: Any = ("pallas", "pallas", "pallas")
        return convjax.conv(
            x, kernel, feature_group_count=groups, algorithm=by_kernels, **row.options
        )

    if role == "forward":
        return forward, ("x", "kernel")
    if role == "input_gradient":
        return lambda x, k, ct: jax.vjp(lambda x: forward(x, k), x)[1](ct)[0], "x kernel ct".split()
    return lambda x, k, ct: jax.vjp(lambda k: forward(x, k), k)[1](ct)[0], "x kernel ct".split()


def measure(chip: str, row: Row, role: str, dtype: str, dump: Path) -> dict[str, Any]:
    """One line of the table."""
    import jax
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    import convjax

    device = topologies.get_topology_desc(f"{chip}:2x2", platform="tpu").devices[0]
    where = SingleDeviceSharding(device)
    kernel = (*row.window, 1, row.x[-1])

    def struct(shape: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

    out = jax.eval_shape(
        lambda x, k: convjax.conv(x, k, feature_group_count=row.x[-1], **row.options),
        struct(row.x),
        struct(kernel),
    )
    function, parties = program(row, role)
    operands = {"x": struct(row.x), "kernel": struct(kernel), "ct": struct(out.shape)}
    for old in dump.iterdir():
        old.unlink()
    began = time.perf_counter()
    jax.jit(function).lower(*(operands[p] for p in parties)).compile()
    seconds = time.perf_counter() - began
    return {
        "chip": chip, "layer": row.name, "x": "x".join(map(str, row.x)), "dtype": dtype,
        "role": role, **read(dump, chip, operands["x"].size + out.size, out.dtype.itemsize),
        "compile_s": f"{seconds:.1f}",
    }  # fmt: skip


def read(dump: Path, chip: str, elements: int, itemsize: int) -> dict[str, Any]:
    """What the listings in `dump` say of the kernel that it holds."""
    (final,) = (p for p in dump.iterdir() if re.search(r"depthwise.*-final_bundles.txt", p.name)
                and "schedule-analysis" not in p.name)  # fmt: skip
    (used,) = (p for p in dump.iterdir()
               if re.search(r"depthwise.*-final_hlo-static-per-bundle", p.name))  # fmt: skip
    found = count(final.read_text(), used.read_text())
    bandwidth, clock = CHIPS[chip]
    seconds = elements * itemsize / bandwidth
    return {
        "bundles": found.bundles,
        "floor_cycles": round(seconds * clock),
        "ratio": f"{found.bundles / (seconds * clock):.2f}",
        "ratio_at_0.94_ghz": f"{found.bundles / (seconds * _SLOW):.2f}",
        "vector_slots": f"{found.vector_slots:.2f}",
        "load_slots": f"{found.load_slots:.2f}",
        "store_slots": f"{found.store_slots:.2f}",
        "spills": found.spills,
    }


def main() -> int:
    """Print the table, and write it if asked to; 1 if it lacks a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only rows that contain all of these")
    parser.add_argument("--out", help="the CSV to write")
    arguments = parser.parse_args()
    dump = Path(tempfile.mkdtemp())
    set_up(str(dump))
    rows: list[dict[str, Any]] = []
    failed = Failures("rows")
    try:
        for chip in CHIPS:
            for row in TABLE:
                for dtype in ("bfloat16", "float32"):
                    for role in ROLES:
                        words = f"{chip} {row.name} {dtype} {role}"
                        if row.surrounds and role != "forward":
                            continue  # of separate operations
                        if not all(word in words for word in arguments.words):
                            continue
                        try:
                            rows.append(measure(chip, row, role, dtype, dump))
                        except Exception as error:
                            failed.add(words, error)
                            continue
                        print(*rows[-1].values(), flush=True)
    finally:
        if not os.environ.get("KEEP"):
            shutil.rmtree(dump, ignore_errors=True)
        else:
            print(dump)
    if arguments.out and rows:
        with open(arguments.out, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return failed.status()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
