"""Measure the temporary memory of the benchmark's rows, as Linux sees it; see `--help`.

    python -m benchmarks memory [--rows REGEX] [--only CELL]

What XLA asks for (`memory_analysis`, in the benchmark's files) leaves out what its convolutions
take by themselves while they run: `lax`'s programs often ask for nothing. This reads how far the
memory of the process rises during a call, beyond what was there before it and what the call
returns: the least of a few calls. Every block of 64 KiB and more is mapped anew, and given back
after use, so that no call finds memory that an earlier one left. Results of all rows go to
`benchmarks/results/memory/DEVICE-jax-VERSION.json`. Results of some rows are written only if
`--out` names a folder. Exit status: 0, or 2 where nothing could be measured.
"""

import argparse
import gc
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks.harness import command, ops, prepare
from benchmarks.harness.rows import Row
from benchmarks.harness.table import choose, table

PEERS = ("lax", "convjax", *ops.TORCH_PEERS)
CALLS = 3
MAPPED = {"MALLOC_MMAP_THRESHOLD_": str(64 << 10)}  # read by the GNU C library at its start
FACTOR, SLACK = 1.5, 1 << 20  # more than this much of lax's, and more bytes than this, is reported
_STATUS = pathlib.Path("/proc/self/status")
_RESET = pathlib.Path("/proc/self/clear_refs")


def memory_of_process() -> tuple[int, int]:
    """Bytes that are resident now, and at most since `forget_peak`."""
    text = _STATUS.read_text(encoding="ascii")
    now, peak = (re.search(rf"^{name}:\s*(\d+) kB", text, re.M) for name in ("VmRSS", "VmHWM"))
    if now is None or peak is None:
        raise OSError(f"{_STATUS} does not tell the resident memory")
    return 1024 * int(now[1]), 1024 * int(peak[1])


def forget_peak() -> None:
    _RESET.write_text("5", encoding="ascii")


def temporary(contender: prepare.Contender) -> int:
    """Bytes beyond those of its results that a call needs at once: the least of a few calls."""
    contender.wait(contender.call())
    found = []
    for _ in range(CALLS):
        gc.collect()
        forget_peak()
        before, _ = memory_of_process()
        returned = contender.call()
        contender.wait(returned)
        _, peak = memory_of_process()
        found.append(peak - before - sum(leaf.nbytes for leaf in jax.tree.leaves(returned)))
        del returned
    return max(0, min(found))


def measured(row: Row, cell: str, peers: list[str]) -> dict[str, Any]:
    """What one cell takes: `asked` of XLA, and `resident`, in bytes by peer."""
    arrays, dtype = row.draw(), row.dtype or "float32"
    asked, resident = {}, {}
    for peer in peers:
        try:
            contender = prepare.prepare(peer, row, cell, arrays, dtype)
        except ops.LeftOut:
            continue
        resident[peer] = temporary(contender)
        if contender.temp_bytes is not None:
            asked[peer] = contender.temp_bytes
    return {"row": row.name, "cell": cell, "asked": asked, "resident": resident}


def exceeds(bytes_of: dict[str, int]) -> bool:
    ours, lax = bytes_of["convjax"], bytes_of["lax"]
    return ours > FACTOR * lax and ours - lax > SLACK


def in_mib(bytes_of: dict[str, int]) -> str:
    return ", ".join(f"{peer} {size / 2**20:.2f}" for peer, size in bytes_of.items())


def line(found: dict[str, Any]) -> str:
    marks = [f"more is {kind}" for kind in ("asked", "resident") if exceeds(found[kind])]
    text = f"{in_mib(found['resident'])} (asked: {in_mib(found['asked'])})"
    return "  ".join((f"{found['row']}, {found['cell']} [MiB]: {text}", *marks))


def parser() -> argparse.ArgumentParser:
    p = command.parser("memory", __doc__)
    p.add_argument("--rows", default="", metavar="REGEX", help="only rows whose name matches")
    p.add_argument("--only", choices=prepare.CELLS, help="one kind of cell")
    p.add_argument(
        "--out", type=pathlib.Path, metavar="DIR", help="instead of benchmarks/results/memory"
    )
    return p


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit status. It starts itself again to have blocks mapped."""
    words = sys.argv[1:] if words is None else words
    arguments = parser().parse_args(words)
    chosen = choose(table(), arguments.rows)
    if not chosen:
        print("error: no row matches", file=sys.stderr)
        return 2
    if jax.default_backend() != "cpu":
        print("error: a process' memory is that of CPUs: set JAX_PLATFORMS=cpu", file=sys.stderr)
        return 2
    try:
        forget_peak()
        memory_of_process()
    except OSError as error:
        print(f"error: this needs Linux, and /proc: {error}", file=sys.stderr)
        return 2
    if any(os.environ.get(name) != value for name, value in MAPPED.items()):
        again = [sys.executable, "-m", "benchmarks", "memory", *words]
        os.execve(sys.executable, again, {**os.environ, **MAPPED})
    there = [peer for peer, why in ops.available(PEERS).items() if not why]
    kinds = (arguments.only,) if arguments.only else prepare.CELLS
    cells = []
    for row in chosen:
        for kind in kinds:
            cells.append(measured(row, kind, there))
            print(line(cells[-1]), flush=True)
    for what in ("asked", "resident"):
        number = sum(exceeds(cell[what]) for cell in cells)
        print(f"{what}: {number} of {len(cells)} above {FACTOR} times lax's and {SLACK} bytes more")
    some = arguments.rows or arguments.only
    folder = arguments.out or (None if some else command.RESULTS / "memory")
    if folder:
        environment = {name: os.environ.get(name) for name in MAPPED}
        command.write(folder, {"cells": cells, "environment": environment}, sizes="default")
    return 0
