"""Time convjax against lax, Flax, Equinox, Keras and PyTorch, row by row; see `--help`.

Results go to `benchmarks/results/DEVICE-DTYPE-jax-VERSION[...].csv`, a line per row and cell. Exit
status: 0, or 1 where results were unequal, or 2 where nothing could be run.
"""

import argparse
import pathlib
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

import convjax
from benchmarks.harness import command, machine, ops, prepare, readme, results, session, summary
from benchmarks.harness.drawn_rows import drawn_rows
from benchmarks.harness.rows import Row
from benchmarks.harness.table import choose, table

DEVICE_SCALE = 8
QUICK_ROUNDS, ROUNDS = 3, 7
QUICK_PEERS = ("lax", "convjax", "torch_nchw", "torch_nhwc")


def parser() -> argparse.ArgumentParser:
    p = command.parser("layers", __doc__)
    p.add_argument("--quick", action="store_true", help="few rows and rounds: under two minutes")
    p.add_argument(
        "--drawn", type=int, metavar="SEED", help="rows drawn at random instead of the table's"
    )
    p.add_argument("--rows", default="", metavar="REGEX", help="only rows whose name matches")
    p.add_argument(
        "--families", default="", metavar="LIST", help="only these families or sections, by commas"
    )
    p.add_argument("--rounds", type=int, help=f"interleaved rounds (default {ROUNDS})")
    p.add_argument(
        "--limit", type=float, default=90.0, help="seconds per cell; never under 3 rounds"
    )
    p.add_argument(
        "--peers", default="", help="lax,convjax,flax,equinox,keras,torch or torch_nchw,torch_nhwc"
    )
    p.add_argument("--only", choices=prepare.CELLS, help="one kind of cell")
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    p.add_argument(
        "--device-sizes", action="store_true", help=f"{DEVICE_SCALE}x the batch, for accelerators"
    )
    p.add_argument(
        "--options", action="store_true", help="under convjax.compiler_options(platform)"
    )
    p.add_argument(
        "--onednn",
        action="store_true",
        help="convjax under convjax.jit, beside lax without options and under the same options",
    )
    p.add_argument(
        "--compiler-option", action="append", default=[], metavar="NAME=VALUE", help="another one"
    )
    command.add_busy(p)
    p.add_argument(
        "--keep-memory", action="store_true", help="convjax.keep_memory(), for all contenders"
    )
    p.add_argument(
        "--resume", action="store_true", help="skip the cells that an interrupted run has saved"
    )
    p.add_argument("--out", type=pathlib.Path, default=readme.FOLDER, metavar="DIR")
    p.add_argument("--list", action="store_true", help="print the chosen rows and stop")
    p.add_argument(
        "--summary", type=pathlib.Path, metavar="FILE.csv", help="sum up a file and stop"
    )
    p.add_argument(
        "--readme", action="store_true", help="write the tables of README.md and docs/, and stop"
    )
    return p


def compiler_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options for every JAX contender."""
    found: dict[str, Any] = {}
    if arguments.options:
        found |= convjax.compiler_options(jax.default_backend())
    for text in arguments.compiler_option:
        name, equals, value = text.partition("=")
        if not equals:
            raise SystemExit(f"--compiler-option wants NAME=VALUE, not {text!r}")
        found[name] = value
    return found


def onednn_options(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The options of convjax and of `lax_onednn` under `--onednn`, else None."""
    if not arguments.onednn:
        return None
    if arguments.options or arguments.compiler_option:
        raise SystemExit("--onednn sets the options itself: leave the other two out")
    return dict(convjax.compiler_options(jax.default_backend(), onednn=True))


def peers_of(arguments: argparse.Namespace) -> list[str]:
    """The contenders: lax always, since all is compared with it."""
    default = QUICK_PEERS if arguments.quick else ops.PEERS
    wanted: list[str] = []
    for name in arguments.peers.split(",") if arguments.peers else default:
        wanted += ops.TORCH_PEERS if name == "torch" else [name]
    unknown = [name for name in wanted if name not in ops.PEERS]
    if unknown:
        raise SystemExit(f"unknown peers {', '.join(unknown)}: choose of {', '.join(ops.PEERS)}")
    wanted = [name for name in wanted if name != "lax_onednn"]
    wanted += ["lax", "convjax", *["lax_onednn"] * arguments.onednn]
    chosen = [p for p in ops.PEERS if p in wanted]
    missing = {peer: why for peer, why in ops.available(chosen).items() if why}
    for peer, why in missing.items():
        print(f"{peer} is left out: {why}", file=sys.stderr)
    return [peer for peer in chosen if peer not in missing]


def file_name(arguments: argparse.Namespace, has_options: bool) -> str:
    """The conditions as a name."""
    parts = [machine.device(), arguments.dtype, "jax", jax.__version__]
    parts += ["options"] * has_options + ["onednn"] * arguments.onednn
    parts += [] if arguments.drawn is None else [f"drawn-{arguments.drawn}"]
    parts += ["device-sizes"] * arguments.device_sizes
    parts += machine.busy_words(arguments.busy)
    parts += ["keep-memory"] * arguments.keep_memory
    parts += ["quick"] * arguments.quick
    return "-".join(parts) + ".csv"


def progress_of(total: int) -> tuple[Any, Any]:
    """A bar, where tqdm is there, and what prints a line above it."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None, lambda line: print(line, file=sys.stderr, flush=True)
    bar = tqdm(total=total, unit="cell", file=sys.stderr)
    return bar, lambda line: bar.write(line, file=sys.stderr)


def measure(
    arguments: argparse.Namespace, words: Sequence[str], chosen: Sequence[Row], every: Sequence[str]
) -> int:
    if arguments.keep_memory and not convjax.keep_memory():
        print("error: this C library keeps no memory: leave out --keep-memory", file=sys.stderr)
        return 2
    options, onednn = compiler_options(arguments), onednn_options(arguments)
    cells = (arguments.only,) if arguments.only else prepare.CELLS
    sizes = "device" if arguments.device_sizes else "default"
    conditions = machine.conditions(arguments.dtype, onednn or options, sizes, arguments.busy)
    conditions |= {"freed memory": "kept, by convjax.keep_memory"} if arguments.keep_memory else {}
    header = {
        **conditions,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "command": shlex.join(["scripts/benchmark", *words]),
    }
    whole = not (arguments.rows or arguments.families or arguments.only or arguments.peers)
    path = arguments.out / file_name(arguments, bool(options))
    try:
        store = results.Store(path, header, tuple(conditions), every, whole=whole)
    except results.Conflict as conflict:
        print(f"error: {conflict}", file=sys.stderr)
        return 2
    peers = peers_of(arguments)
    done = {record.key for record in store.new} if arguments.resume else set()
    todo = sum((row.name, cell) not in done for row in chosen for cell in cells)
    bar, say = progress_of(todo)
    plan = session.Plan(
        peers=peers,
        rounds=arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS),
        dtype=arguments.dtype,
        compiler_options=options,
        onednn=onednn,
        limit_s=arguments.limit,
        busy_cores=arguments.busy,
        commit=machine.commit(),
        say=say,
    )
    prepare.warm_up()
    unequal = session.run(chosen, cells, plan, store.save, bar, done)
    if bar is not None:
        bar.close()
    records = store.finish()
    names = {row.name for row in chosen}
    print(report([r for r in records if r.row in names and r.cell in cells]))
    print(f"\n{path}")
    for line in unequal:
        print(f"UNEQUAL: {line}", file=sys.stderr)
    return 1 if unequal else 0


def report(records: Sequence[results.Record]) -> str:
    return f"{summary.plain_table(records)}\n\n{summary.summary(records)}"


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    words = sys.argv[1:] if words is None else words
    arguments = parser().parse_args(words)
    if arguments.summary:
        print(report(results.load(arguments.summary).records))
        return 0
    if arguments.readme:
        print("rewritten:", ", ".join(readme.rewrite()) or "nothing, all tables are up to date")
        return 0
    rows = table() if arguments.drawn is None else drawn_rows(arguments.drawn)
    families = tuple(filter(None, arguments.families.split(",")))
    chosen = choose(rows, arguments.rows, families, arguments.quick)
    if not chosen:
        print("error: no row matches", file=sys.stderr)
        return 2
    if arguments.list:
        for row in chosen:
            print(f"{row.name:40} {row.family:12} {row.section:16} {row.shape}")
        return 0
    if arguments.device_sizes:
        chosen = [row.scaled(DEVICE_SCALE) for row in chosen]
    return measure(arguments, words, chosen, [row.name for row in rows])
