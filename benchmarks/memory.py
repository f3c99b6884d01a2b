"""Measure the temporary memory of the benchmark's rows, as Linux sees it; see `--help`.

    python -m benchmarks memory [--rows REGEX] [--only CELL] [--peers LIST]

What XLA asks for (`memory_analysis`, in the benchmark's files) leaves out what its convolutions
take by themselves while they run: `lax`'s programs often ask for nothing. This reads how far the
memory of a process rises during a call, beyond what was there before it and what the call returns:
the least of a few calls. Every cell of every library has a process of its own, in which nothing ran
before. Every block of 64 KiB and more is mapped anew, and given back after use, so that no call
finds memory that an earlier one left.

Two things are asked of convjax: no more than `lax` in all cells together, and in no cell more than
`lax` and one copy of the cell's input and result. The last lines say how far that holds. Results of
all rows go to `benchmarks/results/memory/DEVICE-jax-VERSION.json`. Results of some rows are written
only if `--out` names a folder. Exit status: 0, or 2 where nothing could be measured.
"""

import argparse
import concurrent.futures
import gc
import math
import multiprocessing
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.harness import command, ops, prepare
from benchmarks.harness.rows import Row
from benchmarks.harness.table import choose, table

PEERS = ("lax", "convjax")
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


def measured(name: str, cell: str, peer: str) -> dict[str, Any]:
    """What a cell of the row `name` takes: bytes `asked` of XLA (None where it is not XLA) and
    `resident`, and `copy`, those of its input and of its forward result. {} for no such cell."""
    (row,) = (row for row in table() if row.name == name)
    arrays, dtype = row.draw(), row.dtype or "float32"
    try:
        contender = prepare.prepare(peer, row, cell, arrays, dtype)
    except ops.LeftOut:
        return {}
    return {
        "resident": temporary(contender),
        "asked": contender.temp_bytes,
        "copy": input_and_result(row, dtype),
    }


def input_and_result(row: Row, dtype: str) -> int:
    """Bytes of the row's input and of its forward result."""
    lax = ops.ops_of("lax", row.layout)
    function = prepare.jax_function(lax, row, "forward")
    placed = [lax.place(array, o, dtype) for array, o in zip(row.draw(), row.operands, strict=True)]
    both = (placed[0], jax.eval_shape(function, *placed))
    return sum(math.prod(x.shape) * jnp.dtype(x.dtype).itemsize for x in both)


def all_measured(
    rows: Iterable[Row], kinds: Sequence[str], peers: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The report on every cell. Each peer's part is measured by a process that does nothing else:
    a copy of one that has imported everything, and run nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.memory"])
    fresh = concurrent.futures.ProcessPoolExecutor(1, context, max_tasks_per_child=1)
    with fresh as pool:
        for row in rows:
            for cell in kinds:
                futures = {p: pool.submit(measured, row.name, cell, p) for p in peers}
                found = {p: future.result() for p, future in futures.items()}
                report: dict[str, Any] = {"row": row.name, "cell": cell}
                for what in ("asked", "resident"):
                    report[what] = {p: f[what] for p, f in found.items() if f.get(what) is not None}
                yield report | {"copy": found["convjax"]["copy"]}


def exceeds(bytes_of: dict[str, int]) -> bool:
    ours, lax = bytes_of["convjax"], bytes_of["lax"]
    return ours > FACTOR * lax and ours - lax > SLACK


def over_a_copy(cell: dict[str, Any]) -> bool:
    """Whether convjax takes more than lax and a copy of the input and the result."""
    resident = cell["resident"]
    over: bool = resident["convjax"] - resident["lax"] > cell["copy"]
    return over


def verdict(cells: Sequence[dict[str, Any]]) -> list[str]:
    """The two things that are asked, and what was found."""
    ours, lax = (sum(c["resident"][p] for c in cells) for p in ("convjax", "lax"))
    over = [f"{c['row']}, {c['cell']}" for c in cells if over_a_copy(c)]
    return [
        f"in all: convjax {ours / 2**20:.1f} MiB, lax {lax / 2**20:.1f} MiB",
        f"more than lax and a copy of input and result: {len(over)} of {len(cells)} cells"
        + (f" ({'; '.join(over)})" if over else ""),
    ]


def in_mib(bytes_of: dict[str, int]) -> str:
    return ", ".join(f"{peer} {size / 2**20:.2f}" for peer, size in bytes_of.items())


def line(found: dict[str, Any]) -> str:
    marks = [f"more is {kind}" for kind in ("asked", "resident") if exceeds(found[kind])]
    marks += ["OVER A COPY"] * over_a_copy(found)
    text = f"{in_mib(found['resident'])} (asked: {in_mib(found['asked'])})"
    return "  ".join((f"{found['row']}, {found['cell']} [MiB]: {text}", *marks))


def parser() -> argparse.ArgumentParser:
    p = command.parser("memory", __doc__)
    p.add_argument("--rows", default="", metavar="REGEX", help="only rows whose name matches")
    p.add_argument("--only", choices=prepare.CELLS, help="one kind of cell")
    p.add_argument(
        "--peers", default="", help=f"more than lax and convjax: {', '.join(ops.TORCH_PEERS)}"
    )
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
    wanted = [peer for peer in arguments.peers.split(",") if peer and peer not in PEERS]
    missing = {peer: why for peer, why in ops.available(wanted).items() if why}
    if missing or not set(wanted) <= set(ops.PEERS):
        print(f"error: {missing or wanted}: choose of {', '.join(ops.PEERS)}", file=sys.stderr)
        return 2
    kinds = (arguments.only,) if arguments.only else prepare.CELLS
    cells = []
    for found in all_measured(chosen, kinds, (*PEERS, *wanted)):
        cells.append(found)
        print(line(found), flush=True)
    for what in ("asked", "resident"):
        number = sum(exceeds(cell[what]) for cell in cells)
        print(f"{what}: {number} of {len(cells)} above {FACTOR} times lax's and {SLACK} bytes more")
    print("\n".join(verdict(cells)))
    some = arguments.rows or arguments.only
    folder = arguments.out or (None if some else command.RESULTS / "memory")
    if folder:
        environment = {name: os.environ.get(name) for name in MAPPED}
        command.write(folder, {"cells": cells, "environment": environment}, sizes="default")
    return 0
